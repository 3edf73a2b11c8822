//! What a fit must leave, known before partners are assigned.
//!
//! Let v(i) be the vectors between the n pairs of partners, m their mean, and R = sum |v(i) - m|^2. For any
//! one atom a, sum |v(i) - v(a)|^2 = R + n |v(a) - m|^2, and |v(a) - m|^2 <= R (n - 1) / n, as the others must
//! make up for v(a) - m. So the sum is n R at most. But v(i) - v(a) are the vectors between partners after
//! the translation that lays a upon its own: their squares add up to no less than those of the distances
//! from each atom to the nearest of its kind. Where that is more than n R for each possible partner
//! of a, no fit leaves R or less. Of p such atoms, the sums come to (n + p) R at most, all together.
//! And no single |v(i) - v(a)|^2 is more than 2 R.

use wide::f32x8;

use super::sites::{Anchor, Pairing};
use super::torus::{Points, Step, Torus};
use crate::cell::{self, Vec3};

const LANES: usize = 8;
/// Rounding in single precision: in parts of the edges, of a sum, and of the square of the edges.
const SINGLE: f64 = 1e-5;
const SQUARE: f64 = 1e-6;
/// More anchors than this cost more than the fits that they may save.
const MAX_ANCHORS: usize = 6;

/// Two crystals on a torus, in fractional coordinates of its basis.
pub struct Bounds<'a> {
    single: Single,
    first: &'a Points,
    second: &'a [Vec3],
    pairings: &'a [Pairing],
    /// A fit is to leave this or less.
    most: f64,
    /// No two partners' vectors differ by a square of more.
    furthest: f32,
}

/// A torus in single precision and triangular form.
struct Single {
    rows: [[f32x8; 3]; 3],
    steps: [([f32x8; 3], f32x8); 13],
    count: usize,
    /// The sum of the edges.
    extent: f64,
}

impl Single {
    /// For vectors of squares up to `furthest`.
    fn new(torus: &Torus, furthest: f64) -> Self {
        let rows = &torus.rows;
        let x = cell::scaled(&rows[0], 1.0 / cell::norm(&rows[0]));
        let across = cell::plus(&rows[1], -cell::dot(&rows[1], &x), &x);
        let y = cell::scaled(&across, 1.0 / cell::norm(&across));
        let axes = [x, y, cell::cross(&x, &y)];
        let splat = |value: f64| f32x8::splat(value as f32);
        let mut steps = [([f32x8::ZERO; 3], f32x8::ZERO); 13];
        let mut count = 0;
        for (whole, Step { twice, square }) in torus.all_steps() {
            // With this step a coordinate becomes a half or more, which may be too far in itself.
            let is_near = |k: usize| whole[k] == 0.0 || (0.5 / torus.dual_lengths[k]).powi(2) <= furthest;
            if (0..3).all(is_near) && twice.iter().map(|x| 0.5 * x.abs()).sum::<f64>() > square {
                steps[count] = (twice.map(splat), splat(square));
                count += 1;
            }
        }
        Self {
            rows: rows.map(|row| axes.map(|axis| splat(cell::dot(&row, &axis)))),
            steps,
            count,
            extent: extent(torus),
        }
    }

    /// The squares of the shortest vectors between points that lie apart by so much in fractional coordinates.
    #[inline]
    fn squares(&self, apart: [f32x8; 3]) -> f32x8 {
        let shift = f32x8::splat(12_582_912.0); // 1.5 * 2^23: see `lattice::nearest`
        let [x, y, z] = apart.map(|x| x - ((x + shift) - shift));
        let [a, b, c] = &self.rows;
        let vector = [x * a[0] + y * b[0] + z * c[0], y * b[1] + z * c[1], z * c[2]];
        let mut gain = f32x8::ZERO;
        for ([p, q, r], square) in &self.steps[..self.count] {
            gain = gain.fast_max((*p * x + *q * y + *r * z).abs() - *square);
        }
        vector[0] * vector[0] + vector[1] * vector[1] + vector[2] * vector[2] - gain
    }
}

fn extent(torus: &Torus) -> f64 {
    torus.rows.iter().map(cell::norm).sum()
}

/// What a sum of `count` squares may come to in single precision.
fn at_most(sum: f64, count: f64, extent: f64) -> f64 {
    (sum.sqrt() + count.sqrt() * SINGLE * extent).powi(2) * (1.0 + SINGLE) + count * SQUARE * extent.powi(2)
}

/// What a sum of `count` squares in single precision must come to.
fn at_least(sum: f64, count: f64, extent: f64) -> f64 {
    let exact = (sum - count * SQUARE * extent.powi(2)).max(0.0).sqrt() * (1.0 - SINGLE);
    (exact - count.sqrt() * SINGLE * extent).max(0.0).powi(2)
}

impl<'a> Bounds<'a> {
    #[must_use]
    pub fn new(torus: &Torus, first: &'a Points, second: &'a [Vec3], pairings: &'a [Pairing], most: f64) -> Self {
        let furthest = at_most(2.0 * most, 1.0, extent(torus));
        Self { single: Single::new(torus, furthest), first, second, pairings, most, furthest: furthest as f32 }
    }

    /// The number of atoms.
    #[must_use]
    pub fn count(&self) -> f64 {
        self.second.len() as f64
    }

    /// For each place of the anchor, what its sum must come to at least; found up to `enough` only.
    pub fn sums(&self, anchor: &Anchor, enough: f64, sums: &mut Vec<f64>) {
        let (count, extent) = (self.count(), self.single.extent);
        let enough = at_most(enough, count, extent) as f32;
        sums.clear();
        let mut places = anchor.places();
        while places.len() > 0 {
            let mut shifts = [f32x8::ZERO; 3];
            let used = places.len().min(LANES);
            for lane in 0..LANES {
                // Lanes for which there is no place repeat the last one.
                let Some(place) = places.next() else { break };
                let shift = cell::sub(&self.first.get(place), &self.second[anchor.atom]);
                for (lanes, x) in shifts.iter_mut().zip(shift) {
                    lanes.as_mut_array()[lane..].fill(x as f32);
                }
            }
            let sum = self.nearest(&shifts, enough);
            sums.extend(sum.as_array()[..used].iter().map(|&sum| at_least(f64::from(sum), count, extent)));
        }
    }

    /// No fit leaves `most` or less, given the sums of one anchor.
    #[must_use]
    pub fn rule_out(&self, anchor: &Anchor, sums: &[f64]) -> bool {
        let least = |sums: &[f64]| sums.iter().copied().fold(f64::INFINITY, f64::min);
        let (all, most) = (self.count(), self.most);
        let mut total = least(sums);
        if total > all * most {
            return true;
        }
        let own = self.pairings.iter().find(|pairing| pairing.second.contains(&anchor.atom));
        let others = own.into_iter().flat_map(|pairing| pairing.second.clone()).filter(|&atom| atom != anchor.atom);
        let mut sums = Vec::new();
        for (count, atom) in (2..=MAX_ANCHORS).zip(others) {
            let hoped_for = total / (count - 1) as f64 * MAX_ANCHORS as f64;
            if hoped_for <= (all + MAX_ANCHORS as f64) * most {
                return false;
            }
            let enough = (all + count as f64) * most;
            self.sums(&Anchor { atom, ..anchor.clone() }, enough - total, &mut sums);
            total += least(&sums);
            if total > enough {
                return true;
            }
        }
        false
    }

    /// For eight translations at once.
    fn nearest(&self, shifts: &[f32x8; 3], enough: f32) -> f32x8 {
        let mut sum = f32x8::ZERO;
        let furthest = f32x8::splat(self.furthest);
        for pairing in self.pairings {
            for from in &self.second[pairing.second.clone()] {
                let mut least = f32x8::splat(f32::INFINITY);
                let [x, y, z] = self.first.slices(&pairing.first);
                for ((x, y), z) in x.iter().zip(y).zip(z) {
                    let apart = [x - from[0], y - from[1], z - from[2]];
                    let apart = std::array::from_fn(|k| f32x8::splat(apart[k] as f32) - shifts[k]);
                    least = least.fast_min(self.single.squares(apart));
                }
                sum += least.simd_gt(furthest).select(f32x8::splat(f32::INFINITY), least);
                if sum.simd_lt(f32x8::splat(enough)).none() {
                    return sum;
                }
            }
        }
        sum
    }
}
