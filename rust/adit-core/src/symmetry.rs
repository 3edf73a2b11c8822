//! Symmetry through the `moyo` crate. For now: Niggli reduction.

use moyo::base::Lattice;
use rayon::prelude::*;

use crate::cell::{self, Matrix, Transform};
use crate::error::{Error, Result};
use crate::threads;

/// moyo compares squared lengths to within 1e-8. Cells are brought to this size (cube root of the
/// volume) first, so that the comparison holds to 1e-5 of the cell: wide enough for cells stored
/// in single precision.
const SIZE: f64 = 0.031_622_776_601_683_79;
/// Beyond this ratio of the longest to the shortest edge, rounding rivals that tolerance, and
/// moyo may not end.
const MAX_ASPECT: f64 = 1e4;
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
    if lengths.iter().any(|&length| length * MAX_ASPECT < longest) {
        return None;
    }
    let scale = SIZE / cell::determinant(&rows).abs().cbrt();
    let lattice = Lattice::from_basis(rows.map(|row| cell::scaled(&row, scale)));
    let (_, second) = lattice.niggli_reduce().ok()?;
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
