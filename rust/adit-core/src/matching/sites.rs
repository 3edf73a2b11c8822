//! Laying the atoms of one crystal over those of another on a common lattice.

use super::assignment::Assignment;
use super::bounds::Bounds;
use super::lattice::{Parameters, wrapped};
use super::torus::{Points, Row, Torus};
use crate::cell::{self, Vec3};

const CHUNK: usize = 12;
/// Fewer places of the anchor than this are tried at once.
const FEW: usize = 5;

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
    /// The lattice as a torus, made when wanted.
    torus: Option<Torus>,
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

    /// The sum of squares that a fit may leave.
    fn most(&self, limit: Limit, layers: &Layers) -> f64 {
        layers.second.len() as f64 * (limit.rms / self.normalization).powi(2) * (1.0 + 1e-9)
    }

    fn torus(&mut self) -> Option<&Torus> {
        if self.torus.is_none() {
            self.torus = Some(Torus::new(&self.parameters, self.reach)?);
        }
        self.torus.as_ref()
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
    /// The translation that lays the anchor on a place.
    fn shift(&self, anchor: &Anchor, place: usize) -> Vec3 {
        cell::sub(&self.first[place], &self.second[anchor.atom])
    }

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

/// The atom of the second crystal that is laid over one of its kind in the first after the other: every
/// `step`-th of `block`, as the rest are translations of these.
#[derive(Debug, Clone)]
pub struct Anchor {
    pub atom: usize,
    pub block: std::ops::Range<usize>,
    pub step: usize,
}

impl Anchor {
    pub fn places(&self) -> std::iter::StepBy<std::ops::Range<usize>> {
        self.block.clone().step_by(self.step)
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
    /// For each place of the anchor, what the squares about its vector must add up to; empty if not surveyed.
    sums: Vec<f64>,
    /// Places of the anchor that are worth trying.
    pub order: Vec<usize>,
}

impl Sites {
    /// Lists the places of the anchor that are worth trying, and with a limit, most promising first.
    pub fn survey(&mut self, common: &mut Common, layers: &Layers, anchor: &Anchor, limit: Option<Limit>) {
        self.first.clear();
        self.sums.clear();
        self.order.clear();
        self.order.extend(anchor.places());
        let Some(limit) = limit.filter(|_| self.order.len() >= FEW) else { return };
        if !self.order.iter().any(|&place| layers.are_close(&layers.shift(anchor, place), common.tolerance)) {
            self.order.clear();
            return;
        }
        let most = common.most(limit, layers);
        let Some(torus) = common.torus() else { return };
        self.first.extend(layers.first.iter().map(|f| torus.inside(f)));
        self.second.clear();
        self.second.extend(layers.second.iter().map(|f| torus.inside(f)));
        let bounds = Bounds::new(torus, &self.first, &self.second, layers.pairings, most);
        bounds.sums(anchor, bounds.count() * most, &mut self.sums);
        if bounds.rule_out(anchor, &self.sums) {
            self.order.clear();
        }
        let sum = |place: usize| self.sums[(place - anchor.block.start) / anchor.step];
        self.order.sort_by(|&p, &q| sum(p).total_cmp(&sum(q)));
    }

    /// After a survey: some atom on which the anchor's partner may be, if the anchor is laid on `place`, is not
    /// ruled out.
    fn is_open(&self, torus: &Torus, anchor: &Anchor, place: usize, most: f64) -> bool {
        let most = self.second.len() as f64 * most;
        let here = self.first.get(place);
        anchor.block.clone().any(|other| {
            let apart = cell::sub(&self.first.get(other), &here).map(wrapped);
            self.sums[(other - anchor.block.start) / anchor.step] <= most
                && (0..3).all(|k| apart[k].abs() <= torus.tolerance[k])
        })
    }

    /// The fit after the second crystal has been moved so that the anchor lies on `place`, and then to where the
    /// partners are nearest in the mean. `None`: some atom has no partner, or the fit is beyond the limit.
    pub fn fit(
        &mut self,
        common: &mut Common,
        layers: &Layers,
        anchor: &Anchor,
        place: usize,
        limit: Limit,
    ) -> Option<Fit> {
        let (normalization, most) = (common.normalization, common.most(limit, layers));
        let shift = layers.shift(anchor, place);
        if !self.sums.is_empty() && !self.is_open(common.torus()?, anchor, place, most) {
            return None;
        }
        if !layers.are_close(&shift, common.tolerance) {
            return None;
        }
        let torus = common.torus()?;
        if self.first.is_empty() {
            self.first.extend(layers.first.iter().map(|f| torus.inside(f)));
        }
        self.second.clear();
        self.second.extend(layers.second.iter().map(|f| torus.inside(&cell::plus(f, 1.0, &shift))));
        self.chosen.clear();
        let count = layers.second.len() as f64;
        // With one place to be laid on, the anchor's vector is zero: see `bounds`.
        let mut rest = if anchor.block.len() == 1 { count * most } else { f64::INFINITY };
        for pairing in layers.pairings {
            let start = self.chosen.len();
            self.partners(torus, pairing, &mut rest)?;
            // What is left of one kind about its own mean is no more than about the mean of all.
            let (squared, _) = left_over(&self.chosen[start..]);
            if squared > most || is_spread(&self.chosen, 2.0 * limit.max / normalization) {
                return None;
            }
        }
        let (sum, largest) = left_over(&self.chosen);
        Some(Fit { rms: (sum / count).sqrt() * normalization, max: largest.sqrt() * normalization })
    }

    /// Adds the vectors to the partners of one kind, least in the sum of their squares. `None`: there are none, or
    /// the atoms are so far from their nearest that the `rest` of what is allowed is used up.
    fn partners(&mut self, torus: &Torus, pairing: &Pairing, rest: &mut f64) -> Option<()> {
        let count = pairing.second.len();
        self.costs.resize(count * count, 0.0);
        let second = &self.second[pairing.second.clone()];
        let first = self.first.slices(&pairing.first);
        for (place, costs) in second.iter().zip(self.costs.chunks_exact_mut(count)) {
            torus.squares(place, first, &mut self.row, costs);
            *rest -= costs.iter().fold(f64::INFINITY, |least, &cost| if cost < least { cost } else { least });
            if *rest < 0.0 {
                return None;
            }
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
