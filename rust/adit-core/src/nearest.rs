//! Distances to the nearest periodic image, in any cell.

use crate::cell::{self, Frame, Matrix, Vec3};

/// Vectors of more cells than this have no digits left.
const MAX_CELLS: f64 = 1e12;
/// Images are tried this much further out than the best one, to be safe from rounding.
const SLACK: f64 = 1.0 + 1e-12;

/// A lattice in triangular form: the shortest edge along x, the next in the xy plane; vectors are
/// (z, y, x) here, and the rows in that order.
#[derive(Debug, Clone)]
pub struct Nearest {
    axes: Matrix,
    rows: Matrix,
    periodic: [bool; 3],
}

impl Nearest {
    #[must_use]
    pub fn new(frame: &Frame) -> Self {
        let mut order = [0, 1, 2];
        order.sort_by(|&p, &q| cell::norm(&frame.rows[q]).total_cmp(&cell::norm(&frame.rows[p])));
        let sorted = order.map(|k| frame.rows[k]);
        let x = cell::scaled(&sorted[2], 1.0 / cell::norm(&sorted[2]));
        let across = cell::plus(&sorted[1], -cell::dot(&sorted[1], &x), &x);
        let y = cell::scaled(&across, 1.0 / cell::norm(&across));
        let z = cell::scaled(&frame.dual[order[0]], frame.heights[order[0]]);
        let axes = [z, y, x];
        let rows = sorted.map(|row| axes.map(|axis| cell::dot(&row, &axis)));
        Self { axes, rows, periodic: order.map(|k| frame.periodic[k]) }
    }

    /// The length of the shortest image of a vector; NaN if it is not finite or beyond 1e12 cells.
    ///
    /// Images are tried as far out as the best one so far is long, plane by plane, line by line, so
    /// that none can be missed (U. Fincke, M. Pohst, Math. Comp. 44, 463 (1985)); the start is
    /// rounded in the same order (L. Babai, Combinatorica 6, 1 (1986)).
    #[must_use]
    pub fn distance(&self, vector: &Vec3) -> f64 {
        let mut start = self.axes.map(|axis| cell::dot(&axis, vector));
        for k in 0..3 {
            let whole = self.nearest(k, start[k]);
            if !(whole.abs() <= MAX_CELLS) {
                return f64::NAN;
            }
            start = cell::plus(&start, whole, &self.rows[k]);
        }
        let mut best = cell::dot(&start, &start);
        let (from, to) = self.range(0, start[0], best);
        for s in from..=to {
            let plane = cell::plus(&start, s as f64, &self.rows[0]);
            let left = best - plane[0] * plane[0];
            let (from, to) = self.range(1, plane[1], left.max(0.0));
            for t in from..=to {
                let line = cell::plus(&plane, t as f64, &self.rows[1]);
                let point = cell::plus(&line, self.nearest(2, line[2]), &self.rows[2]);
                best = best.min(cell::dot(&point, &point));
            }
        }
        best.sqrt()
    }

    /// How many steps of row k bring `from` nearest to 0.
    fn nearest(&self, k: usize, from: f64) -> f64 {
        if self.periodic[k] { -(from / self.rows[k][k]).round() } else { 0.0 }
    }

    /// How many steps of row k bring `from` to within a squared distance of 0.
    fn range(&self, k: usize, from: f64, squared: f64) -> (i64, i64) {
        if !self.periodic[k] {
            return (0, 0);
        }
        let (reach, edge) = (squared.sqrt() * SLACK, self.rows[k][k]);
        (((-reach - from) / edge).ceil() as i64, ((reach - from) / edge).floor() as i64)
    }
}
