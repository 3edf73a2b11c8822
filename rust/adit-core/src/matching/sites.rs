//! Laying the atoms of one crystal over those of another on a common lattice.

use super::assignment::Assignment;
use super::lattice::{Parameters, wrapped};
use super::torus::{Points, Row, Torus};
use crate::cell::{self, Vec3};

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

/// The lattice on which sites are compared.
#[derive(Debug)]
pub struct Common {
    parameters: Parameters,
    normalization: f64,
    /// Atoms further apart than this in a fractional coordinate cannot be partners: two atoms may each
    /// be `stol` away from where the translation that fits best puts them.
    tolerance: Vec3,
    /// The same as a distance.
    reach: f64,
    /// The lattice as a torus, and `tolerance` in its basis; made when wanted.
    torus: Option<(Torus, Vec3)>,
}

impl Common {
    /// For `count` atoms. `None`: the mean of the angles spans no cell.
    #[must_use]
    pub fn new(parameters: Parameters, stol: f64, count: usize) -> Option<Self> {
        let [a, b, c] = parameters.lengths;
        let [ca, cb, cg] = parameters.angles.map(|angle| angle.to_radians().cos());
        let square = 1.0 - ca * ca - cb * cb - cg * cg + 2.0 * ca * cb * cg;
        let volume = a * b * c * square.max(0.0).sqrt();
        if !(volume > 0.0 && volume.is_finite()) {
            return None;
        }
        let normalization = (count as f64 / volume).cbrt();
        let sine = |cosine: f64| (1.0 - cosine * cosine).max(0.0).sqrt();
        let dual = [b * c * sine(ca) / volume, a * c * sine(cb) / volume, a * b * sine(cg) / volume];
        let reach = 2.0 * stol / normalization;
        let tolerance = dual.map(|length| length * reach);
        Some(Self { parameters, normalization, tolerance, reach, torus: None })
    }

    fn torus(&mut self) -> Option<(&Torus, &Vec3)> {
        if self.torus.is_none() {
            let torus = Torus::new(&self.parameters)?;
            let tolerance = torus.dual_lengths.map(|length| length * self.reach);
            self.torus = Some((torus, tolerance));
        }
        self.torus.as_ref().map(|(torus, tolerance)| (torus, tolerance))
    }
}

/// Two crystals in fractional coordinates of a common lattice.
#[derive(Debug, Clone, Copy)]
pub struct Layers<'a> {
    pub first: &'a [Vec3],
    pub second: &'a [Vec3],
    pub pairings: &'a [Pairing],
}

impl Layers<'_> {
    /// Each atom of the second crystal, moved by `shift`, has one of its kind in the first close enough.
    fn are_close(&self, shift: &Vec3, [x, y, z]: Vec3) -> bool {
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

/// Work space, kept between calls.
#[derive(Debug, Default)]
pub struct Sites {
    assignment: Assignment,
    costs: Vec<f64>,
    row: Row,
    chosen: Vec<Vec3>,
    /// In the basis of the torus.
    first: Points,
    second: Vec<Vec3>,
}

impl Sites {
    /// To be called before others than the last two crystals are fitted.
    pub fn begin(&mut self) {
        self.first.clear();
    }

    /// The fit after the second crystal has been moved by `shift` and then to where the partners are nearest
    /// in the mean. `None`: some atom has no partner, or the fit is beyond the limit.
    pub fn fit(&mut self, common: &mut Common, layers: &Layers, shift: &Vec3, limit: Limit) -> Option<Fit> {
        if !layers.are_close(shift, common.tolerance) {
            return None;
        }
        let normalization = common.normalization;
        let (torus, tolerance) = common.torus()?;
        if self.first.is_empty() {
            self.first.extend(layers.first.iter().map(|f| torus.inside(f)));
        }
        self.second.clear();
        self.second.extend(layers.second.iter().map(|f| torus.inside(&cell::plus(f, 1.0, shift))));
        self.chosen.clear();
        let count = layers.second.len() as f64;
        let most_squared = count * (limit.rms / normalization).powi(2) * (1.0 + 1e-9);
        for pairing in layers.pairings {
            let start = self.chosen.len();
            self.partners(torus, tolerance, pairing)?;
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
    fn partners(&mut self, torus: &Torus, tolerance: &Vec3, pairing: &Pairing) -> Option<()> {
        let count = pairing.second.len();
        self.costs.resize(count * count, 0.0);
        let second = &self.second[pairing.second.clone()];
        let first = self.first.slices(&pairing.first);
        for (place, costs) in second.iter().zip(self.costs.chunks_exact_mut(count)) {
            torus.squares(place, first, tolerance, &mut self.row, costs);
        }
        let columns = self.assignment.solve(&self.costs, count)?;
        let partners = columns.iter().map(|&column| first.map(|values| values[column]));
        self.chosen.extend(second.iter().zip(partners).map(|(place, partner)| torus.shortest(place, &partner)));
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
