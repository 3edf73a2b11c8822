//! All pairs, and for each exactly the images within the cutoff.

use super::{Judge, original};
use crate::cell::{self, Frame, Vec3};
use crate::error::Result;

/// In the triangular form of the frame (row 2 along x, row 1 in the xy plane) the shifts within
/// the cutoff are three nested intervals: no image is tried in vain.
pub fn search(judge: &mut Judge, frame: &Frame, reach: f64) -> Result<()> {
    let x = cell::scaled(&frame.rows[2], 1.0 / cell::norm(&frame.rows[2]));
    let across = cell::plus(&frame.rows[1], -cell::dot(&frame.rows[1], &x), &x);
    let y = cell::scaled(&across, 1.0 / cell::norm(&across));
    let z = cell::scaled(&frame.dual[0], frame.heights[0]);
    let axes = [z, y, x];
    let rows = frame.rows.map(|row| axes.map(|axis| cell::dot(&row, &axis)));
    let inverses = [1.0 / rows[0][0], 1.0 / rows[1][1], 1.0 / rows[2][2]];
    let points: Vec<Vec3> = judge.positions.iter().map(|p| axes.map(|axis| cell::dot(p, &axis))).collect();
    let squared = reach * reach;

    let interval = |axis: usize, from: f64, reach: f64| {
        if frame.periodic[axis] {
            (ceil((-reach - from) * inverses[axis]), -ceil((from - reach) * inverses[axis]))
        } else {
            (0, if from.abs() <= reach { 0 } else { -1 })
        }
    };
    let as_given = frame.is_as_given();
    for (i, p) in points.iter().enumerate() {
        for (j, q) in points.iter().enumerate().skip(if judge.half { i } else { 0 }) {
            let d = cell::sub(q, p);
            let (from, to) = interval(0, d[0], reach);
            for s in from..=to {
                let [height, depth, width] = cell::plus(&d, s as f64, &rows[0]);
                let left = (squared - height * height).max(0.0);
                let (from, to) = interval(1, depth, left.sqrt());
                for t in from..=to {
                    let [_, depth, width] = cell::plus(&[0.0, depth, width], t as f64, &rows[1]);
                    let left = (left - depth * depth).max(0.0);
                    let (from, to) = interval(2, width, left.sqrt());
                    for u in from..=to {
                        let shift = [s, t, u];
                        judge.consider(i, j, if as_given { shift } else { original(frame, shift) });
                    }
                }
            }
            judge.check_size()?;
        }
        judge.flush(i)?;
    }
    Ok(())
}

/// `f64::ceil` calls into the C library where the processor's own instruction may not be used.
#[inline]
fn ceil(value: f64) -> i64 {
    let whole = value as i64;
    whole + i64::from((whole as f64) < value)
}
