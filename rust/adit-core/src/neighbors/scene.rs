//! One system made ready for the search: checked, and moved into a reduced cell.

use super::{MAX_COORDINATE, MAX_IMAGES, MAX_PAIRS, too_large};
use crate::cell::{self, Frame, Matrix, Vec3, floor};
use crate::error::{Error, Result};

/// Candidates are sought this much further out than the cutoff, to be safe from rounding.
const SLACK: f64 = 1e-9;

#[derive(Default)]
pub struct Scene {
    pub frame: Frame,
    /// Positions, moved by whole cells into the frame along its periodic directions.
    pub points: Vec<Vec3>,
    /// Whole cells of the frame by which each atom was moved: `points = positions - turns @ rows`.
    pub turns: Vec<[i64; 3]>,
    /// A squared distance below this is a pair: its square root is below the cutoff.
    pub limit: f64,
    /// The cutoff, and a little more than rounding can take away.
    pub reach: f64,
    as_given: bool,
}

impl Scene {
    pub fn set(&mut self, positions: &[Vec3], given: &Matrix, periodic: [bool; 3], cutoff: f64) -> Result<()> {
        let largest = largest(positions.iter().copied());
        // That passes over NaN.
        if !(largest <= MAX_COORDINATE) || positions.iter().flatten().any(|x| x.is_nan()) {
            return Err(out_of_bounds(positions));
        }
        self.frame = Frame::new(given, periodic)?;
        self.as_given = self.frame.is_as_given();
        self.limit = squared_limit(cutoff);
        let edges = (0..3).filter(|&k| periodic[k]).map(|k| cell::norm(&self.frame.rows[k]));
        let longest = edges.fold(0.0, f64::max);
        if longest > MAX_COORDINATE {
            return Err(Error::argument(
                "cell",
                format!("have edges within {MAX_COORDINATE:e} Angstrom when reduced"),
                longest,
                "Switch pbc off where there are no neighbours in the next cell",
            ));
        }
        self.reach = cutoff * (1.0 + SLACK) + 64.0 * f64::EPSILON * largest.max(longest);
        self.points.clear();
        self.turns.clear();
        if positions.is_empty() {
            return Ok(());
        }
        self.refuse_too_many(positions.len(), cutoff)?;
        for (atom, p) in positions.iter().enumerate() {
            let turns: Vec3 =
                std::array::from_fn(|k| if periodic[k] { floor(cell::dot(&self.frame.dual[k], p)) } else { 0.0 });
            if turns.iter().any(|turn| turn.abs() > f64::from(i32::MAX)) {
                return Err(Error::entry(
                    "positions",
                    atom,
                    "lie within 2^31 cells of the origin",
                    format!("{p:?}"),
                    "Wrap the positions into the cell",
                ));
            }
            self.points.push(cell::sub(p, &cell::combine(&turns, &self.frame.rows)));
            self.turns.push(turns.map(|turn| turn as i64));
        }
        Ok(())
    }

    fn refuse_too_many(&self, atoms: usize, cutoff: f64) -> Result<()> {
        let Frame { heights, periodic, rows, .. } = &self.frame;
        let along = |k: usize| if periodic[k] { 2.0 * (cutoff / heights[k]).ceil() + 1.0 } else { 1.0 };
        let images = along(0) * along(1) * along(2);
        if !(images <= MAX_IMAGES as f64) {
            return Err(too_large("image cells within the cutoff", images, MAX_IMAGES));
        }
        if periodic == &[true; 3] {
            // As many as evenly spread atoms have; no other arrangement has fewer by much.
            let sphere = 4.0 / 3.0 * std::f64::consts::PI * cutoff.powi(3);
            let pairs = atoms as f64 * sphere * atoms as f64 / cell::determinant(rows).abs();
            if !(pairs <= MAX_PAIRS as f64) {
                return Err(too_large("pairs of neighbours", pairs, MAX_PAIRS));
            }
        }
        Ok(())
    }

    /// A point in the midst of the others.
    pub fn origin(&self) -> Vec3 {
        self.points.first().copied().unwrap_or_default()
    }

    /// True where the order of shifts of the frame is that of the shifts of the cell as given.
    pub fn keeps_order(&self) -> bool {
        self.as_given
    }

    /// The lattice vector of an image.
    #[inline]
    pub fn lattice(&self, image: [i64; 3]) -> Vec3 {
        cell::combine(&image.map(|s| s as f64), &self.frame.rows)
    }

    /// The shift of a pair, in units of the cell as given; it saturates.
    #[inline]
    pub fn shift(&self, i: usize, j: usize, image: [i64; 3]) -> [i64; 3] {
        let (from, to) = (&self.turns[i], &self.turns[j]);
        self.original(std::array::from_fn(|k| image[k] + from[k] - to[k]))
    }

    /// Steps of the frame in units of the cell as given; they saturate.
    #[inline]
    pub fn original(&self, steps: [i64; 3]) -> [i64; 3] {
        if self.as_given { steps } else { original(&self.frame, steps) }
    }
}

#[cold]
fn original(frame: &Frame, steps: [i64; 3]) -> [i64; 3] {
    let mut sum = [0_i64; 3];
    for (s, row) in steps.iter().zip(&frame.transform) {
        for (total, entry) in sum.iter_mut().zip(row) {
            *total = total.saturating_add(s.saturating_mul(*entry));
        }
    }
    sum
}

/// The largest component there is, without its sign; it passes over NaN.
pub fn largest(vectors: impl Iterator<Item = Vec3>) -> f64 {
    // One for each component: they do not wait for each other.
    let mut largest = [0.0_f64; 3];
    for vector in vectors {
        for (largest, x) in largest.iter_mut().zip(vector) {
            *largest = if x.abs() > *largest { x.abs() } else { *largest };
        }
    }
    largest.into_iter().fold(0.0, f64::max)
}

#[cold]
fn out_of_bounds(positions: &[Vec3]) -> Error {
    let inside = |p: &Vec3| p.iter().all(|x| x.abs() <= MAX_COORDINATE);
    let atom = positions.iter().position(|p| !inside(p)).unwrap_or_default();
    Error::entry(
        "positions",
        atom,
        format!("be finite and within {MAX_COORDINATE:e} Angstrom of the origin"),
        format!("{:?}", positions[atom]),
        "Correct or wrap the positions",
    )
}

/// The smallest number whose square root reaches the cutoff: roots are monotonous.
fn squared_limit(cutoff: f64) -> f64 {
    let mut limit = cutoff * cutoff;
    while limit.sqrt() >= cutoff && limit > 0.0 {
        limit = limit.next_down();
    }
    while limit.sqrt() < cutoff {
        limit = limit.next_up();
    }
    limit
}
