//! All ways to lay one lattice over another within tolerance.

use super::Options;
use super::crystal::{Form, Vector};
use super::lattice::{self, Parameters};
use crate::cell::{self, Vec3};

/// Beyond any cosine; finite, as it is multiplied.
const OPEN: f64 = 2.0;
/// More lattice points than this are not looked through; forms are checked to need fewer.
const MAX_POINTS: f64 = 1e7;

/// A basis of one lattice (the source) that is like the basis of another (the target), and the lattice
/// half-way between the two, on which sites are compared.
#[derive(Debug, Clone)]
pub struct Mapping {
    /// Fractional coordinates in the new basis are `f @ inverse`.
    pub inverse: [Vec3; 3],
    /// The new basis in terms of the source's.
    pub whole: [[i32; 3]; 3],
    /// The mean of the parameters of the two bases, scaled to the same volume if so asked.
    pub average: Parameters,
    /// How much the two differ: the squares of relative lengths and of angles in radians.
    pub strain: f64,
}

impl Mapping {
    /// The same with all vectors of the new basis turned round.
    #[must_use]
    pub fn inverted(&self) -> Self {
        let (inverse, whole) = (self.inverse.map(|row| row.map(|x| -x)), self.whole.map(|row| row.map(|x| -x)));
        Self { inverse, whole, average: self.average, strain: self.strain }
    }
}

/// Work space, kept between calls.
#[derive(Debug, Default)]
pub struct Lists {
    vectors: Vec<Vector>,
    thirds: Vec<Vector>,
}

/// By how much the source grows, and the target shrinks, to the same volume per atom.
#[must_use]
pub fn scaling(source: &Form, target: &Form, copies: usize, options: &Options) -> f64 {
    if options.scale { (target.volume / (source.volume * copies as f64)).powf(1.0 / 6.0) } else { 1.0 }
}

/// Some mapping is not ruled out by the lengths of the shortest lattice vectors.
///
/// A basis of a sublattice of the source with lengths below `(1 + ltol)` times those of the target's
/// basis holds, for each k, k independent vectors that are no longer than `(1 + ltol)` times the k-th
/// length of the target's basis in ascending order: so the source's k-th minimum is no longer either.
#[must_use]
pub fn possible(source: &Form, target: &Form, copies: usize, options: &Options) -> bool {
    let squared = scaling(source, target, copies, options).powi(2);
    let mut lengths = target.parameters.lengths;
    lengths.sort_unstable_by(f64::total_cmp);
    let limit = (1.0 + options.ltol) * (1.0 + 1e-9) / squared;
    (0..3).all(|k| source.minima[k] <= limit * lengths[k])
}

/// Calls `visit` with one of each pair of opposite mappings of the source's lattice on the target's, `copies`
/// source cells in a target cell, until it returns true; whether it has.
pub fn each(
    source: &Form,
    target: &Form,
    copies: usize,
    options: &Options,
    lists: &mut Lists,
    mut visit: impl FnMut(&Mapping) -> bool,
) -> bool {
    let scale = scaling(source, target, copies, options);
    let wanted = target.parameters.lengths.map(|length| length / (scale * scale));
    let (above, below) = (1.0 + options.ltol, 1.0 / (1.0 + options.ltol));
    let radius = wanted.iter().copied().fold(0.0, f64::max) * above;
    let Some(vectors) = vectors_within(source, radius, &mut lists.vectors) else { return false };
    let like = wanted.map(|wanted| {
        let first = vectors.partition_point(|vector| vector.length <= wanted * below);
        let last = vectors.partition_point(|vector| vector.length < wanted * above);
        &vectors[first..last]
    });
    let windows = target.parameters.angles.map(|angle| cosines(angle, options.angle_tol));
    let fits = |p: &Vector, q: &Vector, window: &(f64, f64)| {
        let product = cell::dot(&p.place, &q.place);
        let lengths = p.length * q.length;
        window.0 * lengths <= product && product <= window.1 * lengths
    };
    for a in like[0].iter().filter(|a| a.whole > [0, 0, 0]) {
        lists.thirds.clear();
        lists.thirds.extend(like[2].iter().filter(|c| fits(a, c, &windows[1])));
        if lists.thirds.is_empty() {
            continue;
        }
        for b in like[1].iter().filter(|b| fits(a, b, &windows[2])) {
            for c in &lists.thirds {
                let whole = [a.whole, b.whole, c.whole];
                if determinant(&whole).unsigned_abs() != copies as u64 || !fits(b, c, &windows[0]) {
                    continue;
                }
                let other = Parameters::of(&[a.place, b.place, c.place]);
                let (lengths, angles) = (other.lengths.map(|length| length * scale), other.angles);
                let (scaled, own) = (target.parameters.lengths.map(|length| length / scale), target.parameters.angles);
                let average = Parameters {
                    lengths: std::array::from_fn(|k| f64::midpoint(lengths[k], scaled[k])),
                    angles: std::array::from_fn(|k| f64::midpoint(angles[k], own[k])),
                };
                let strain =
                    |k: usize| (lengths[k] / scaled[k] - 1.0).powi(2) + (angles[k] - own[k]).to_radians().powi(2);
                let strain = strain(0) + strain(1) + strain(2);
                let Some(inverse) = lattice::inverse(&whole) else { continue };
                if visit(&Mapping { inverse, whole, average, strain }) {
                    return true;
                }
            }
        }
    }
    false
}

/// The source's lattice vectors up to at least `radius`, shortest first.
fn vectors_within<'a>(source: &'a Form, radius: f64, space: &'a mut Vec<Vector>) -> Option<&'a [Vector]> {
    if radius <= source.reach {
        return Some(&source.vectors);
    }
    space.clear();
    let collect = |whole, place, squared: f64| {
        if squared > 0.0 {
            space.push(Vector { whole, place, length: squared.sqrt() });
        }
    };
    lattice::points_within(&source.cell.rows, &source.dual_lengths, radius, MAX_POINTS, collect)?;
    space.sort_unstable_by(|p, q| p.length.total_cmp(&q.length));
    Some(space)
}

/// The range of cosines of the angles within `tolerance` degrees of `angle`.
fn cosines(angle: f64, tolerance: f64) -> (f64, f64) {
    let bound = |angle: f64, open: f64| if (0.0..=180.0).contains(&angle) { angle.to_radians().cos() } else { open };
    (bound(angle + tolerance, -OPEN), bound(angle - tolerance, OPEN))
}

fn determinant(whole: &[[i32; 3]; 3]) -> i64 {
    let [a, b, c] = whole.map(|row| row.map(i64::from));
    a[0] * (b[1] * c[2] - b[2] * c[1]) - a[1] * (b[0] * c[2] - b[2] * c[0]) + a[2] * (b[0] * c[1] - b[1] * c[0])
}
