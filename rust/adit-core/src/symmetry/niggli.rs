//! Niggli reduction.

use moyo::base::Lattice;
use rayon::prelude::*;

use super::MAX_ASPECT;
use crate::cell::{self, Matrix, Transform};
use crate::error::{Error, Result};
use crate::threads;

/// Squared lengths are compared to within this part of the shortest one's square. The first
/// is wide enough for cells stored in single precision. Where lengths differ by about as much as the
/// tolerance, moyo goes round in circles and gives up; then the next one decides.
const TOLERANCES: [f64; 7] = [1e-5, 1e-4, 1e-6, 1e-7, 1e-8, 1e-9, 1e-3];
/// The tolerance that is built into moyo: the cell is scaled to make it one of the above.
const MOYO_TOLERANCE: f64 = 1e-8;
/// A cell that is Minkowski reduced is Niggli reduced by a few small multiples.
const MAX_ENTRY: i64 = 1000;

/// The Niggli-reduced cell of each lattice, in the same Cartesian frame: `new = M @ old` with whole
/// numbers M of determinant +1, so that atoms stay where they are and handedness is kept.
///
/// I. Krivy, B. Gruber, Acta Cryst. A32, 297 (1976), with the tolerances of R. Grosse-Kunstleve et
/// al., Acta Cryst. A60, 1 (2004), as implemented in moyo.
///
/// # Errors
/// A cell is not finite, has no volume, has edges of which one is 1e4 times another even when
/// reduced, or is not reduced by moyo.
pub fn niggli_reduce(cells: &[Matrix], thread_count: Option<usize>) -> Result<Vec<Matrix>> {
    let one = |(index, given): (usize, &Matrix)| {
        niggli_transform(given).map(|transform| cell::transformed(&transform, given)).ok_or_else(|| {
            Error::entry(
                "cells",
                index,
                "be three finite row vectors that span a volume and can be reduced in double precision",
                format!("{given:?}"),
                "Leave this system out, or correct its cell",
            )
        })
    };
    threads::run(thread_count, || cells.par_iter().enumerate().with_min_len(16).map(one).collect())?
}

/// M of determinant +1 such that M @ cell is Niggli reduced; `None` if there is none to be found.
///
/// The Minkowski reduction before it makes the number of moyo's steps independent of the skew.
#[must_use]
pub fn niggli_transform(given: &Matrix) -> Option<Transform> {
    let (rows, first) = cell::minkowski_reduce(given)?;
    let lengths = rows.map(|row| cell::norm(&row));
    let longest = lengths.iter().copied().fold(0.0, f64::max);
    let shortest = lengths.iter().copied().fold(longest, f64::min);
    if shortest * MAX_ASPECT < longest {
        return None;
    }
    let second = TOLERANCES.iter().find_map(|tolerance| {
        let scale = (MOYO_TOLERANCE / tolerance).sqrt() / shortest;
        let lattice = Lattice::from_basis(rows.map(|row| cell::scaled(&row, scale)));
        lattice.niggli_reduce().ok()
    });
    let (_, second) = second?;
    let second = second.map(i64::from);
    if second.iter().any(|entry| entry.abs() > MAX_ENTRY) {
        return None;
    }
    // moyo: new columns = old columns @ second; and right-handed, whatever came.
    let sign = if cell::determinant(&rows) < 0.0 { -1 } else { 1 };
    let mut transform = [[0i64; 3]; 3];
    for (k, row) in transform.iter_mut().enumerate() {
        for (axis, entry) in row.iter_mut().enumerate() {
            *entry = (0..3).map(|l| sign * second[(l, k)] * first[l][axis]).sum();
        }
    }
    Some(transform)
}
