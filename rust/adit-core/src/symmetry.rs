//! Symmetry through the `moyo` crate: Niggli reduction and space groups.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use moyo::MoyoDataset;
use moyo::base::{Cell, Lattice};
use rayon::prelude::*;

use crate::cell::{self, Matrix, Transform, Vec3};
use crate::error::{Error, Result};
use crate::{distances, pack, threads};

/// Squared lengths are compared to within this part of the cell (volume to the power 2/3). The first
/// is wide enough for cells stored in single precision. Where lengths differ by about as much as the
/// tolerance, moyo goes round in circles and gives up; then the next one decides.
const TOLERANCES: [f64; 7] = [1e-5, 1e-4, 1e-6, 1e-7, 1e-8, 1e-9, 1e-3];
/// The tolerance that is built into moyo: the cell is scaled to make it one of the above.
const MOYO_TOLERANCE: f64 = 1e-8;
/// Beyond this ratio of the longest to the shortest edge, rounding rivals those tolerances, and
/// moyo may not end.
const MAX_ASPECT: f64 = 1e4;
/// A cell that is Minkowski reduced is Niggli reduced by a few small multiples.
const MAX_ENTRY: i64 = 1000;

/// Longer edges, in Angstrom, are no crystal's.
const MAX_EDGE: f64 = 1e6;
/// The largest tolerance as a part of the shortest translation. Beyond, a lattice may look like two
/// Bravais lattices at once, whose symmetries together are endless.
const MAX_TOLERANCE: f64 = 0.1;
/// See [`largest_tolerance`].
const MAX_SHEAR: f64 = 0.2;

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
    let size = cell::determinant(&rows).abs().cbrt();
    let second = TOLERANCES.iter().find_map(|tolerance| {
        let scale = (MOYO_TOLERANCE / tolerance).sqrt() / size;
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

/// The international number (1 to 230) of the space group of each crystal, 0 where there is none to
/// be found: no atoms, two of them closer than `symprec`, coordinates that are not finite, a cell
/// that is degenerate or of extreme shape, or a failure of moyo.
///
/// Positions are Cartesian, `symprec` is in the same unit. It is lowered to a tenth of the shortest
/// translation that the structure can have (further in long cells), and by moyo where the operations
/// found form no group.
///
/// K. Shinohara, A. Togo, I. Tanaka, Acta Cryst. A79, 390 (2023), and the `moyo` crate.
///
/// # Errors
/// The arrays do not fit together, `symprec` is not positive and finite, or the threads are refused.
pub fn spacegroups<P, C>(
    numbers: &[u8],
    positions: &[[P; 3]],
    cells: &[[[C; 3]; 3]],
    offsets: &[i64],
    symprec: f64,
    thread_count: Option<usize>,
) -> Result<Vec<i64>>
where
    P: Copy + Sync + Into<f64>,
    C: Copy + Sync + Into<f64>,
{
    pack::check_atoms(numbers.len(), positions.len())?;
    pack::check_offsets(offsets, positions.len())?;
    pack::check_systems("cells", cells.len(), offsets)?;
    if !(symprec > 0.0 && symprec.is_finite()) {
        return Err(Error::argument("symprec", "be a positive length", symprec, "0.01 Angstrom is usual"));
    }
    let one = |k: usize| {
        let atoms = offsets[k] as usize..offsets[k + 1] as usize;
        let points: Vec<Vec3> = positions[atoms.clone()].iter().map(|atom| atom.map(Into::into)).collect();
        spacegroup(&numbers[atoms], &points, &cells[k].map(|row| row.map(Into::into)), symprec).unwrap_or(0)
    };
    threads::run(thread_count, || (0..cells.len()).into_par_iter().map(one).collect())
}

fn spacegroup(numbers: &[u8], points: &[Vec3], given: &Matrix, symprec: f64) -> Option<i64> {
    let (rows, _) = cell::minkowski_reduce(given)?;
    let edges = rows.map(|row| cell::norm(&row));
    let (shortest, longest) = edges.iter().fold((f64::INFINITY, 0.0f64), |(low, high), &x| (low.min(x), high.max(x)));
    if points.is_empty() || longest > MAX_EDGE || shortest * MAX_ASPECT < longest {
        return None;
    }
    if !(distances::in_crystal(points, &rows)? > symprec) {
        return None;
    }
    let tolerance = symprec.min(largest_tolerance(numbers, points, &rows, longest)?);
    let dual = cell::dual(&rows);
    let fractional = points.iter().map(|point| dual.map(|vector| cell::dot(&vector, point)).map(|f| f - f.floor()));
    let crystal = Cell::new(
        Lattice::from_basis(rows),
        fractional.map(Into::into).collect(),
        numbers.iter().map(|&number| i32::from(number)).collect(),
    );
    // moyo takes some of what it computes for granted.
    let found = catch_unwind(AssertUnwindSafe(|| MoyoDataset::with_default(&crystal, tolerance))).ok()?;
    found.ok().map(|dataset| i64::from(dataset.number))
}

/// A translation of the structure carries each atom to one of its kind, so it is as long as the
/// smallest distance between two of a kind, less twice the tolerance.
///
/// moyo multiplies the lattice's symmetries with each other until nothing new comes. That never ends
/// if a few of them make up a shear: the longest edge b moved by the shortest, a. An operation may
/// turn b by an angle e / b with (e / b)^2 a b < s^2, s the tolerance; where e stays below a / 4, the
/// few cannot add up to a. A little less, because e may be oblique.
fn largest_tolerance(numbers: &[u8], points: &[Vec3], rows: &Matrix, longest: f64) -> Option<f64> {
    let mut kinds: BTreeMap<u8, Vec<Vec3>> = BTreeMap::new();
    for (&number, &point) in numbers.iter().zip(points) {
        kinds.entry(number).or_default().push(point);
    }
    let mut translation = 0.0f64;
    for kind in kinds.values() {
        translation = translation.max(distances::in_crystal(kind, rows)?);
    }
    let least = (1.0 - 2.0 * MAX_TOLERANCE) * translation;
    Some((MAX_TOLERANCE * translation).min(MAX_SHEAR * (least.powi(3) / longest).sqrt()))
}
