//! Laying the atoms of one crystal over those of another on a common lattice.

use super::assignment::Assignment;
use super::lattice::{self, Parameters, wrapped};
use crate::cell::{self, Matrix, Vec3};

const CHUNK: usize = 12;

/// The atoms of one kind in each of the two crystals, equally many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pairing {
    pub first: std::ops::Range<usize>,
    pub second: std::ops::Range<usize>,
}

/// How well the atoms lie over each other, in units of (volume / atoms)^(1/3).
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Fit {
    pub rms: f64,
    pub max: f64,
}

/// Fits worse than this need not be found.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    pub rms: f64,
    /// Infinite where the largest distance does not matter.
    pub max: f64,
}

/// The lattice on which sites are compared, and the first crystal on it.
#[derive(Debug)]
pub struct Common<'a> {
    parameters: Parameters,
    normalization: f64,
    /// Atoms further apart than this in a fractional coordinate cannot be partners: two atoms may each
    /// be `stol` away from where the translation that fits best puts them.
    tolerance: Vec3,
    stol: f64,
    first: &'a [Vec3],
    second: &'a [Vec3],
    pairings: &'a [Pairing],
    reduced: Option<Reduced>,
}

/// The common lattice in an LLL-reduced basis.
#[derive(Debug)]
struct Reduced {
    rows: Matrix,
    inverse: [Vec3; 3],
    images: [Vec3; 27],
    tolerance: Vec3,
    /// A vector whose square is less is the shortest of its images.
    certain: f64,
}

impl<'a> Common<'a> {
    /// Of two crystals in fractional coordinates of this lattice. `None`: the mean of the angles spans no cell.
    #[must_use]
    pub fn new(
        parameters: Parameters,
        stol: f64,
        first: &'a [Vec3],
        second: &'a [Vec3],
        pairings: &'a [Pairing],
    ) -> Option<Self> {
        let [a, b, c] = parameters.lengths;
        let [ca, cb, cg] = parameters.angles.map(|angle| angle.to_radians().cos());
        let square = 1.0 - ca * ca - cb * cb - cg * cg + 2.0 * ca * cb * cg;
        let volume = a * b * c * square.max(0.0).sqrt();
        if !(volume > 0.0 && volume.is_finite()) {
            return None;
        }
        let normalization = (first.len() as f64 / volume).cbrt();
        let sine = |cosine: f64| (1.0 - cosine * cosine).max(0.0).sqrt();
        let dual = [b * c * sine(ca) / volume, a * c * sine(cb) / volume, a * b * sine(cg) / volume];
        let tolerance = dual.map(|length| 2.0 * length * stol / normalization);
        Some(Self { parameters, normalization, tolerance, stol, first, second, pairings, reduced: None })
    }

    /// Each atom of the second crystal, moved by `shift`, has one of its kind in the first close enough.
    fn is_close(&self, shift: &Vec3) -> bool {
        let [x, y, z] = self.tolerance;
        self.pairings.iter().all(|pairing| {
            self.second[pairing.second.clone()].iter().all(|place| {
                let [p, q, r] = cell::plus(place, 1.0, shift);
                // Without branches inside a chunk: where each goes is close to a toss-up.
                self.first[pairing.first.clone()].chunks(CHUNK).any(|chunk| {
                    chunk.iter().fold(false, |found, other| {
                        found
                            | ((wrapped(p - other[0]).abs() <= x)
                                & (wrapped(q - other[1]).abs() <= y)
                                & (wrapped(r - other[2]).abs() <= z))
                    })
                })
            })
        })
    }
}

impl Reduced {
    fn new(parameters: &Parameters, reach: f64) -> Option<Self> {
        let (rows, transform) = lattice::lll(&parameters.rows());
        let image = |k: i32| [k / 9, k / 3 % 3, k % 3].map(|x| f64::from(x - 1));
        let shortest = cell::minkowski_reduce(&rows)?.0.iter().map(cell::norm).fold(f64::INFINITY, f64::min);
        Some(Self {
            rows,
            inverse: lattice::inverse(&transform.map(|row| row.map(|entry| entry as i32)))?,
            images: std::array::from_fn(|k| cell::combine(&image(k as i32), &rows)),
            tolerance: cell::dual(&rows).map(|vector| cell::norm(&vector) * reach),
            certain: (shortest / 2.0 * (1.0 - 1e-9)).powi(2),
        })
    }
}

/// Work space, kept between calls.
#[derive(Debug, Default)]
pub struct Sites {
    assignment: Assignment,
    costs: Vec<f64>,
    vectors: Vec<Vec3>,
    chosen: Vec<Vec3>,
    first: Vec<Vec3>,
    second: Vec<Vec3>,
}

impl Sites {
    /// The fit after the second crystal has been moved by `shift` and then to where the partners are nearest
    /// in the mean. `None`: some atom has no partner, or the fit is beyond the limit.
    pub fn fit(&mut self, common: &mut Common, shift: &Vec3, limit: Limit) -> Option<Fit> {
        if !common.is_close(shift) {
            return None;
        }
        let inside = |f: &Vec3, inverse: &[Vec3; 3]| {
            cell::combine(f, inverse).map(wrapped).map(|f| if f < 0.0 { f + 1.0 } else { f })
        };
        let normalization = common.normalization;
        if common.reduced.is_none() {
            common.reduced = Some(Reduced::new(&common.parameters, 2.0 * common.stol / normalization)?);
            self.first.clear();
        }
        let reduced = common.reduced.as_ref()?;
        if self.first.is_empty() {
            self.first.extend(common.first.iter().map(|f| inside(f, &reduced.inverse)));
        }
        self.second.clear();
        self.second.extend(common.second.iter().map(|f| inside(&cell::plus(f, 1.0, shift), &reduced.inverse)));
        self.chosen.clear();
        let count = common.second.len() as f64;
        let most_squared = count * (limit.rms / normalization).powi(2) * (1.0 + 1e-9);
        for pairing in common.pairings {
            let start = self.chosen.len();
            self.partners(reduced, pairing)?;
            // What is left of one kind about its own mean is no more than about the mean of all.
            let (squared, _) = left_over(&self.chosen[start..]);
            if squared > most_squared || is_spread(&self.chosen, 2.0 * limit.max / normalization) {
                return None;
            }
        }
        let (sum, most) = left_over(&self.chosen);
        Some(Fit { rms: (sum / count).sqrt() * normalization, max: most.sqrt() * normalization })
    }

    /// Adds the vectors to the partners of one kind, least in the sum of their squares.
    fn partners(&mut self, reduced: &Reduced, pairing: &Pairing) -> Option<()> {
        let count = pairing.second.len();
        self.costs.clear();
        self.vectors.clear();
        let [x, y, z] = reduced.tolerance;
        for place in &self.second[pairing.second.clone()] {
            for other in &self.first[pairing.first.clone()] {
                let apart = cell::sub(other, place);
                let short = apart.map(wrapped);
                let far = (short[0].abs() > x) | (short[1].abs() > y) | (short[2].abs() > z);
                let (cost, vector) = if far { (f64::INFINITY, [0.0; 3]) } else { shortest(&apart, &short, reduced) };
                self.costs.push(cost);
                self.vectors.push(vector);
            }
        }
        let columns = self.assignment.solve(&self.costs, count)?;
        self.chosen.extend(columns.iter().enumerate().map(|(row, column)| self.vectors[row * count + column]));
        Some(())
    }
}

/// The sum and the largest of the squares of what is left without the mean.
fn left_over(vectors: &[Vec3]) -> (f64, f64) {
    let part = 1.0 / vectors.len() as f64;
    let mean = vectors.iter().fold([0.0; 3], |mean, vector| cell::plus(&mean, part, vector));
    vectors.iter().fold((0.0, 0.0), |(sum, most), vector| {
        let left = cell::sub(vector, &mean);
        let squared = cell::dot(&left, &left);
        (sum + squared, if squared > most { squared } else { most })
    })
}

/// Two of the vectors are further apart than `limit` in one coordinate alone.
fn is_spread(vectors: &[Vec3], limit: f64) -> bool {
    limit.is_finite()
        && (0..3).any(|axis| {
            let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
            for vector in vectors {
                low = if vector[axis] < low { vector[axis] } else { low };
                high = if vector[axis] > high { vector[axis] } else { high };
            }
            high - low > limit
        })
}

/// The shortest image of a vector, and its square.
fn shortest(apart: &Vec3, short: &Vec3, reduced: &Reduced) -> (f64, Vec3) {
    let direct = cell::combine(short, &reduced.rows);
    let squared = cell::dot(&direct, &direct);
    if squared < reduced.certain {
        return (squared, direct);
    }
    let start = cell::combine(apart, &reduced.rows);
    let mut best = (f64::INFINITY, direct);
    for image in &reduced.images {
        let vector = cell::plus(&start, 1.0, image);
        let squared = cell::dot(&vector, &vector);
        if squared < best.0 {
            best = (squared, vector);
        }
    }
    best
}
