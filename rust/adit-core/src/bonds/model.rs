//! From atoms to an optimisation problem: contacts, the orders each may have, and what they cost.

use super::contacts::{self, Contact};
use super::elements::{Kind, kind, max_order};
use super::lengths::Pair;
use super::solve::Edge;
use super::surroundings;
use crate::cell::Vec3;
use crate::error::Result;

/// A contact shorter than this many single bonds is a bond, if the valences of both atoms allow.
pub const CERTAIN: f32 = 1.14;
/// A contact shorter than this that is no bond is remarkable.
pub const CROWDED: f32 = 1.08;
/// An atom keeps so many contacts more than its highest valence.
const SPARE: usize = 3;
/// What it costs when an order differs from the one that the length suggests by one.
const LENGTH_WEIGHT: f32 = 2500.0;
const OUTLIER: f32 = 0.7;
/// Lengths in between those of orders 1 and 2, in which a bond is too long or too short to be
/// typical.
const STRETCH: f32 = 0.05;

/// Atoms and candidate bonds of one molecule. Atoms are numbered anew, by what surrounds them, so
/// that the order in which they came has no influence.
#[derive(Debug, Default)]
pub struct Model {
    /// The atom as it came, by new number.
    pub order: Vec<u32>,
    pub kinds: Vec<&'static Kind>,
    /// What a positive and a negative charge cost more than elsewhere.
    pub extra: Vec<[i32; 2]>,
    pub numbers: Vec<u8>,
    /// Candidate bonds, sorted by their ends.
    pub edges: Vec<Edge>,
    /// Lengths over those of single bonds, one for each edge.
    pub ratios: Vec<f32>,
    pub overlap: bool,
    contacts: Vec<Contact>,
    keys: Vec<u64>,
    rank: Vec<u32>,
    /// Certain contacts of each atom.
    pub certain: Vec<u32>,
    /// Those of them that are oxygen, sulfur or selenium without another.
    pub oxo: Vec<u8>,
    sums: Vec<u8>,
}

impl Model {
    /// # Errors
    /// There are too many pairs of atoms within reach.
    pub fn build(&mut self, numbers: &[u8], positions: &[Vec3]) -> Result<()> {
        self.overlap = contacts::find(numbers, positions, &mut self.contacts)?;
        self.number_anew(numbers);
        self.trim();
        self.count_certain();
        self.bound_orders();
        self.price();
        surroundings::price(self, positions);
        Ok(())
    }

    fn number_anew(&mut self, numbers: &[u8]) {
        self.keys.clear();
        self.keys.resize(numbers.len(), 0);
        for contact in &self.contacts {
            let [a, b] = contact.ends.map(|end| end as usize);
            let length = (contact.distance * 1e6) as u64;
            self.keys[a] += length * (u64::from(numbers[b]) + 7);
            self.keys[b] += length * (u64::from(numbers[a]) + 7);
        }
        self.order.clear();
        self.order.extend(0..numbers.len() as u32);
        self.order.sort_unstable_by_key(|&atom| (numbers[atom as usize], self.keys[atom as usize], atom));
        self.rank.clear();
        self.rank.resize(numbers.len(), 0);
        for (new, &old) in self.order.iter().enumerate() {
            self.rank[old as usize] = new as u32;
        }
        self.numbers.clear();
        self.numbers.extend(self.order.iter().map(|&atom| numbers[atom as usize]));
        for contact in &mut self.contacts {
            contact.ends = contact.ends.map(|end| self.rank[end as usize]);
            contact.ends.sort_unstable();
        }
        self.contacts.sort_unstable_by_key(|contact| contact.ends);
    }

    /// In dense clumps: an atom keeps only its shortest contacts.
    fn trim(&mut self) {
        let limits: Vec<usize> =
            self.numbers.iter().map(|&number| usize::from(kind(number, 8).max_valence) + SPARE).collect();
        let mut held = vec![0usize; limits.len()];
        for end in self.contacts.iter().flat_map(|contact| contact.ends) {
            held[end as usize] += 1;
        }
        if held.iter().zip(&limits).all(|(held, limit)| held <= limit) {
            return;
        }
        self.contacts.sort_by(|a, b| a.ratio.total_cmp(&b.ratio).then(a.ends.cmp(&b.ends)));
        held.fill(0);
        self.contacts.retain(|contact| {
            let ends = contact.ends.map(|end| end as usize);
            let kept = ends.iter().all(|&end| held[end] < limits[end]);
            for &end in &ends {
                held[end] += usize::from(kept);
            }
            kept
        });
        self.contacts.sort_unstable_by_key(|contact| contact.ends);
    }

    fn count_certain(&mut self) {
        self.certain.clear();
        self.certain.resize(self.numbers.len(), 0);
        let certain = || self.contacts.iter().filter(|contact| contact.ratio < CERTAIN).map(|contact| contact.ends);
        for end in certain().flatten() {
            self.certain[end as usize] += 1;
        }
        self.oxo.clear();
        self.oxo.resize(self.numbers.len(), 0);
        for [a, b] in certain().map(|ends| ends.map(|end| end as usize)) {
            for (outer, inner) in [(a, b), (b, a)] {
                let terminal = matches!(self.numbers[outer], 8 | 16 | 34) && self.certain[outer] == 1;
                self.oxo[inner] += u8::from(terminal);
            }
        }
        self.kinds.clear();
        let kinds = self.numbers.iter().zip(&self.certain).zip(&self.oxo);
        self.kinds.extend(kinds.map(|((&number, &degree), &oxo)| {
            // Two terminal oxygens make sulfur hypervalent as a third neighbour would; and ozone.
            let other = if number == 8 { 1 } else { 3 };
            kind(number, if degree == 2 && oxo == 2 { other } else { degree as usize })
        }));
    }

    /// From valences alone: an atom with more certain contacts than its valence may lose any.
    fn bound_orders(&mut self) {
        self.sums.clear();
        self.sums.resize(self.numbers.len(), 0);
        self.edges.clear();
        self.ratios.clear();
        for contact in &self.contacts {
            let full = contact
                .ends
                .iter()
                .any(|&end| self.certain[end as usize] > u32::from(self.kinds[end as usize].max_valence));
            let low = u8::from(contact.ratio < CERTAIN && !full);
            for &end in &contact.ends {
                self.sums[end as usize] += low;
            }
            self.edges.push(Edge { ends: contact.ends, low, high: low, costs: [0; 4] });
            self.ratios.push(contact.ratio);
        }
        for k in 0..self.edges.len() {
            let Edge { ends, low, .. } = self.edges[k];
            let room =
                ends.map(|end| self.kinds[end as usize].max_valence.saturating_sub(self.sums[end as usize]) + low);
            let most = ends.map(|end| max_order(self.numbers[end as usize]));
            self.edges[k].high = room[0].min(room[1]).min(most[0]).min(most[1]).max(low);
        }
    }

    fn price(&mut self) {
        for (edge, contact) in self.edges.iter_mut().zip(&self.contacts) {
            if edge.low == edge.high {
                continue;
            }
            edge.costs[0] = unbonded(contact.ratio);
            let suggested = suggested_order(contact.pair, contact.distance);
            let long = stretched(contact.ratio);
            for order in 1..=3u8 {
                edge.costs[usize::from(order)] = long + mismatch(f32::from(order) - suggested);
            }
        }
    }
}

/// The order that a length suggests, by interpolation; 1 for all that is longer than a single bond.
fn suggested_order(pair: &Pair, distance: f32) -> f32 {
    let [single, double, triple] = pair.lengths;
    if distance >= single {
        1.0
    } else if distance >= double {
        1.0 + (single - distance) / (single - double)
    } else {
        (2.0 + (double - distance) / (double - triple)).min(3.3)
    }
}

/// The cost of an order that differs by `off` from the one that the length suggests: quadratic, and
/// linear for the outliers of poor geometries (P. J. Huber, Ann. Math. Stat. 35, 73 (1964)).
fn mismatch(off: f32) -> i32 {
    let off = off.abs();
    let cost = if off < OUTLIER { off * off } else { OUTLIER * (2.0 * off - OUTLIER) };
    (LENGTH_WEIGHT * cost) as i32
}

/// The cost of no bond at a distance at which there would be one.
fn unbonded(ratio: f32) -> i32 {
    let close = (1.25 - ratio).max(0.0) / STRETCH;
    (300.0 * close * close) as i32
}

/// The cost of a bond at a distance at which there would be none.
fn stretched(ratio: f32) -> i32 {
    let long = (ratio - 1.05).max(0.0) / STRETCH;
    (300.0 * long * long) as i32
}
