//! Laying the atoms of one crystal over those of another on a common lattice.

use super::assignment::Assignment;
use super::lattice::{self, Parameters, wrapped};
use crate::cell::{self, Matrix, Vec3};

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

/// The lattice on which sites are compared.
#[derive(Debug)]
pub struct Common {
    parameters: Parameters,
    normalization: f64,
    /// Atoms further apart than this in a fractional coordinate cannot be partners: two atoms may each
    /// be `stol` away from where the translation that fits best puts them.
    tolerance: Vec3,
    stol: f64,
    reduced: Option<Reduced>,
}

#[derive(Debug)]
struct Reduced {
    rows: Matrix,
    inverse: [Vec3; 3],
    images: [Vec3; 27],
    tolerance: Vec3,
    /// A vector shorter than this is the shortest of its images.
    certain: f64,
}

impl Common {
    /// `None`: the mean of the angles spans no cell.
    #[must_use]
    pub fn new(parameters: Parameters, atoms: usize, stol: f64) -> Option<Self> {
        let [a, b, c] = parameters.lengths;
        let cosines = parameters.angles.map(|angle| angle.to_radians().cos());
        let [ca, cb, cg] = cosines;
        let square = 1.0 - ca * ca - cb * cb - cg * cg + 2.0 * ca * cb * cg;
        let volume = a * b * c * square.max(0.0).sqrt();
        if !(volume > 0.0 && volume.is_finite()) {
            return None;
        }
        let normalization = (atoms as f64 / volume).cbrt();
        let sine = |cosine: f64| (1.0 - cosine * cosine).max(0.0).sqrt();
        let dual = [b * c * sine(ca) / volume, a * c * sine(cb) / volume, a * b * sine(cg) / volume];
        let tolerance = dual.map(|length| 2.0 * length * stol / normalization);
        Some(Self { parameters, normalization, tolerance, stol, reduced: None })
    }

    /// Each atom of `second`, moved by `shift`, has one of its kind in `first` close enough.
    fn is_close(&self, first: &[Vec3], second: &[Vec3], pairings: &[Pairing], shift: &Vec3) -> bool {
        let [x, y, z] = self.tolerance;
        pairings.iter().all(|pairing| {
            second[pairing.second.clone()].iter().all(|place| {
                let [p, q, r] = cell::plus(place, 1.0, shift);
                first[pairing.first.clone()].iter().any(|other| {
                    wrapped(p - other[0]).abs() <= x
                        && wrapped(q - other[1]).abs() <= y
                        && wrapped(r - other[2]).abs() <= z
                })
            })
        })
    }

    fn reduced(&mut self) -> &Reduced {
        let (parameters, reach) = (self.parameters, 2.0 * self.stol / self.normalization);
        self.reduced.get_or_insert_with(|| {
            let (rows, transform) = lattice::lll(&parameters.rows());
            let whole = transform.map(|row| row.map(|entry| entry as i32));
            let image = |k: i32| [k / 9, k / 3 % 3, k % 3].map(|x| f64::from(x - 1));
            let half = rows.iter().map(cell::norm).fold(f64::INFINITY, f64::min);
            Reduced {
                rows,
                inverse: lattice::inverse(&whole).unwrap_or([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]),
                images: std::array::from_fn(|k| cell::combine(&image(k as i32), &rows)),
                tolerance: cell::dual(&rows).map(|vector| cell::norm(&vector) * reach),
                // The first vector of an LLL basis is at most twice as long as the shortest of all.
                certain: (half / 4.0).powi(2),
            }
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
    places: [Vec<Vec3>; 2],
}

impl Sites {
    /// The fit after `second` has been moved by `shift` and then to where the partners are nearest in the
    /// mean. `None`: some atom has no partner.
    pub fn fit(
        &mut self,
        common: &mut Common,
        first: &[Vec3],
        second: &[Vec3],
        pairings: &[Pairing],
        shift: &Vec3,
    ) -> Option<Fit> {
        if !common.is_close(first, second, pairings, shift) {
            return None;
        }
        let normalization = common.normalization;
        let reduced = common.reduced();
        let inside = |f: Vec3| cell::combine(&f, &reduced.inverse).map(|f| f - f.floor());
        self.places[0].clear();
        self.places[0].extend(first.iter().map(|f| inside(*f)));
        self.places[1].clear();
        self.places[1].extend(second.iter().map(|f| inside(cell::plus(f, 1.0, shift))));
        self.chosen.clear();
        for pairing in pairings {
            self.partners(reduced, pairing)?;
        }
        let count = self.chosen.len() as f64;
        let mean = self.chosen.iter().fold([0.0; 3], |mean, vector| cell::plus(&mean, 1.0 / count, vector));
        let (mut sum, mut most) = (0.0, 0.0f64);
        for vector in &self.chosen {
            let left = cell::sub(vector, &mean);
            let squared = cell::dot(&left, &left);
            sum += squared;
            most = most.max(squared);
        }
        Some(Fit { rms: (sum / count).sqrt() * normalization, max: most.sqrt() * normalization })
    }

    /// Adds the vectors to the partners of one kind, least in the sum of their squares.
    fn partners(&mut self, reduced: &Reduced, pairing: &Pairing) -> Option<()> {
        let count = pairing.second.len();
        self.costs.clear();
        self.vectors.clear();
        let [x, y, z] = reduced.tolerance;
        for place in &self.places[1][pairing.second.clone()] {
            for other in &self.places[0][pairing.first.clone()] {
                let apart = cell::sub(other, place);
                let short = apart.map(wrapped);
                let (cost, vector) = if short[0].abs() > x || short[1].abs() > y || short[2].abs() > z {
                    (f64::INFINITY, [0.0; 3])
                } else {
                    shortest(&apart, &short, reduced)
                };
                self.costs.push(cost);
                self.vectors.push(vector);
            }
        }
        let columns = self.assignment.solve(&self.costs, count)?;
        self.chosen.extend(columns.iter().enumerate().map(|(row, column)| self.vectors[row * count + column]));
        Some(())
    }
}

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
