//! The smallest interatomic distance of each system, periodic images included.

use rayon::prelude::*;

use crate::cell::{self, Matrix, Vec3};
use crate::error::Result;
use crate::{pack, threads};

/// Coordinates and fractional coordinates beyond this are meaningless in f64.
const MAX_COORDINATE: f64 = 1e100;
const MAX_FRACTIONAL: f64 = 1e12;
/// Search radii are this much larger than the best distance, to be safe from rounding.
const SLACK: f64 = 1.0 + 1e-9;

/// For each system the smallest distance between two atoms, or between an atom and its own image.
///
/// Infinity where there is none; NaN for a system with a coordinate that is NaN, infinite or
/// beyond 1e100, or (if periodic) with a degenerate cell. The cell of a system that is not periodic
/// is not looked at.
///
/// # Errors
/// The arrays do not fit together, or the threads are refused.
pub fn min_distances<P, C>(
    positions: &[[P; 3]],
    cells: &[[[C; 3]; 3]],
    periodic: &[bool],
    offsets: &[i64],
    thread_count: Option<usize>,
) -> Result<Vec<f64>>
where
    P: Copy + Sync + Into<f64>,
    C: Copy + Sync + Into<f64>,
{
    pack::check_offsets(offsets, positions.len())?;
    pack::check_systems("cells", cells.len(), offsets)?;
    pack::check_systems("periodic", periodic.len(), offsets)?;
    let one = |k: usize| {
        let atoms = &positions[offsets[k] as usize..offsets[k + 1] as usize];
        let points: Vec<Vec3> = atoms.iter().map(|atom| atom.map(Into::into)).collect();
        if points.iter().flatten().any(|x| !(x.abs() <= MAX_COORDINATE)) {
            f64::NAN
        } else if periodic[k] {
            in_crystal(&points, &cells[k].map(|row| row.map(Into::into))).unwrap_or(f64::NAN)
        } else {
            in_molecule(points)
        }
    };
    threads::run(thread_count, || (0..cells.len()).into_par_iter().with_min_len(64).map(one).collect())
}

/// Sweep along the longest extent: stop as soon as the gap alone exceeds the best distance.
fn in_molecule(mut points: Vec<Vec3>) -> f64 {
    let extent = |k: usize| {
        let (low, high) =
            points.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), p| (low.min(p[k]), high.max(p[k])));
        high - low
    };
    let axis = (1..3).fold(0, |best, k| if extent(k) > extent(best) { k } else { best });
    points.sort_unstable_by(|a, b| a[axis].total_cmp(&b[axis]));
    let mut best = f64::INFINITY;
    for (i, p) in points.iter().enumerate() {
        for q in &points[i + 1..] {
            if q[axis] - p[axis] > best {
                break;
            }
            best = best.min(cell::norm(&cell::sub(q, p)));
        }
    }
    best
}

/// As in a molecule, with the sweep going round the cell, and the images of the other two axes
/// taken from the distances of their faces. `None`: the cell is degenerate.
pub(crate) fn in_crystal(points: &[Vec3], given: &Matrix) -> Option<f64> {
    let (rows, _) = cell::minkowski_reduce(given)?;
    if points.is_empty() {
        return Some(f64::INFINITY);
    }
    let dual = cell::dual(&rows);
    let heights = dual.map(|vector| 1.0 / cell::norm(&vector));
    let sweep = (1..3).fold(0, |best, k| if heights[k] > heights[best] { k } else { best });
    let (p, q) = ((sweep + 1) % 3, (sweep + 2) % 3);

    let mut atoms = Vec::with_capacity(points.len());
    for point in points {
        let fractional = dual.map(|vector| cell::dot(&vector, point));
        if fractional.iter().any(|f| !(f.abs() <= MAX_FRACTIONAL)) {
            return None;
        }
        let wrapped = fractional.map(|f| f - f.floor());
        atoms.push((wrapped, cell::combine(&wrapped, &rows)));
    }
    atoms.sort_unstable_by(|a, b| a.0[sweep].total_cmp(&b.0[sweep]));

    let mut best = rows.iter().map(cell::norm).fold(f64::INFINITY, f64::min);
    let count = atoms.len();
    for i in 0..count {
        let (fi, xi) = atoms[i];
        for step in 1.. {
            let (j, turns) = ((i + step) % count, ((i + step) / count) as f64);
            let (fj, xj) = atoms[j];
            let reach = best * SLACK;
            if (fj[sweep] + turns - fi[sweep]) * heights[sweep] > reach {
                break;
            }
            let start = cell::plus(&cell::sub(&xj, &xi), turns, &rows[sweep]);
            let range = |axis: usize| {
                let (gap, width) = (fj[axis] - fi[axis], reach / heights[axis]);
                ((-width - gap).ceil() as i64, (width - gap).floor() as i64)
            };
            let (range_p, range_q) = (range(p), range(q));
            for s in range_p.0..=range_p.1 {
                let partial = cell::plus(&start, s as f64, &rows[p]);
                for t in range_q.0..=range_q.1 {
                    let image = cell::plus(&partial, t as f64, &rows[q]);
                    // An atom meets itself here only `turns` cells away.
                    best = best.min(cell::norm(&image));
                }
            }
        }
    }
    Some(best)
}
