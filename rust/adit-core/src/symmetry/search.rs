//! Crystals on their way into moyo, guarded; and space group numbers.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use moyo::MoyoDataset;
use moyo::base::{AngleTolerance, Cell, Lattice};
use moyo::data::Setting;
use rayon::prelude::*;

use super::MAX_ASPECT;
use crate::cell::{self, Matrix, Transform, Vec3};
use crate::error::{Error, Result};
use crate::{distances, pack, threads};

/// Longer edges, in Angstrom, are no crystal's.
const MAX_EDGE: f64 = 1e6;
/// The largest tolerance as a part of the shortest translation. Beyond, a lattice may look like two
/// Bravais lattices at once, whose symmetries together are endless.
const MAX_TOLERANCE: f64 = 0.1;
/// A cell is not too skewed if it reduces by multiples up to this.
const MILD: i64 = 4;
/// See [`largest_tolerance`].
const MAX_SHEAR: f64 = 0.2;

/// Crystals one after the other: positions are Cartesian.
#[derive(Debug, Clone, Copy)]
pub struct Crystals<'a, P = f64, C = f64> {
    pub numbers: &'a [u8],
    pub positions: &'a [[P; 3]],
    pub cells: &'a [[[C; 3]; 3]],
    pub offsets: &'a [i64],
}

impl<P, C> Crystals<'_, P, C>
where
    P: Copy + Sync + Into<f64>,
    C: Copy + Sync + Into<f64>,
{
    /// What `work` makes of the numbers, positions and cell of each.
    pub(super) fn map<T: Send>(
        &self,
        thread_count: Option<usize>,
        work: impl Fn(&[u8], &[Vec3], &Matrix) -> T + Sync,
    ) -> Result<Vec<T>> {
        pack::check_atoms(self.numbers.len(), self.positions.len())?;
        pack::check_offsets(self.offsets, self.positions.len())?;
        pack::check_systems("cells", self.cells.len(), self.offsets)?;
        let one = |k: usize| {
            let atoms = self.offsets[k] as usize..self.offsets[k + 1] as usize;
            let points: Vec<Vec3> = self.positions[atoms.clone()].iter().map(|atom| atom.map(Into::into)).collect();
            work(&self.numbers[atoms], &points, &self.cells[k].map(|row| row.map(Into::into)))
        };
        threads::run(thread_count, || (0..self.cells.len()).into_par_iter().map(one).collect())
    }
}

/// # Errors
/// The length is not positive and finite.
pub(super) fn check_length(name: &'static str, length: f64, remedy: &'static str) -> Result<()> {
    if length > 0.0 && length.is_finite() {
        return Ok(());
    }
    Err(Error::argument(name, "be a positive length", length, remedy))
}

pub(super) fn check_symprec(symprec: f64) -> Result<()> {
    check_length("symprec", symprec, "0.01 Angstrom is usual")
}

/// The international number (1 to 230) of the space group of each crystal, 0 where there is none to
/// be found: no atoms, two of them closer than `symprec`, coordinates that are not finite, a cell
/// that is degenerate or of extreme shape, or a failure of moyo.
///
/// `symprec` is in the unit of the positions. It is lowered to a tenth of the shortest translation
/// that the structure can have (further in long cells), and by moyo where the operations found form
/// no group.
///
/// # Errors
/// The arrays do not fit together, `symprec` is not positive and finite, or the threads are refused.
pub fn spacegroups<P, C>(crystals: &Crystals<P, C>, symprec: f64, thread_count: Option<usize>) -> Result<Vec<i64>>
where
    P: Copy + Sync + Into<f64>,
    C: Copy + Sync + Into<f64>,
{
    check_symprec(symprec)?;
    crystals.map(thread_count, |numbers, points, given| {
        let found = Search::new(numbers, points, given).and_then(|search| search.dataset(symprec, true));
        found.map_or(0, |dataset| i64::from(dataset.number))
    })
}

/// A crystal as moyo gets it.
pub(super) struct Search<'a> {
    pub numbers: &'a [u8],
    /// The cell as given if it is not too skewed, so that moyo chooses among equal axes as it would
    /// have done alone; else Minkowski reduced, so that moyo's own reduction ends.
    pub rows: Matrix,
    /// `rows = transform @ given`.
    pub transform: Transform,
    /// In `rows`, within 0 to 1.
    pub fractional: Vec<Vec3>,
    /// What was taken off for that.
    pub cells_away: Vec<Vec3>,
    nearest: f64,
    largest: f64,
}

impl<'a> Search<'a> {
    /// `None`: there is nothing to be found for any tolerance.
    pub fn new(numbers: &'a [u8], points: &[Vec3], given: &Matrix) -> Option<Self> {
        let (reduced, transform) = cell::minkowski_reduce(given)?;
        let edges = reduced.map(|row| cell::norm(&row));
        let (shortest, longest) =
            edges.iter().fold((f64::INFINITY, 0.0f64), |(low, high), &x| (low.min(x), high.max(x)));
        if points.is_empty() || longest > MAX_EDGE || shortest * MAX_ASPECT < longest {
            return None;
        }
        let mild = transform.iter().flatten().all(|entry| entry.abs() <= MILD);
        let (rows, transform) = if mild { (*given, cell::IDENTITY) } else { (reduced, transform) };
        let dual = cell::dual(&rows);
        let fractional: Vec<Vec3> = points.iter().map(|point| dual.map(|vector| cell::dot(&vector, point))).collect();
        let cells_away: Vec<Vec3> = fractional.iter().map(|f| f.map(f64::floor)).collect();
        let fractional = fractional.iter().zip(&cells_away).map(|(f, away)| cell::sub(f, away)).collect();
        Some(Self {
            numbers,
            rows,
            transform,
            fractional,
            cells_away,
            nearest: distances::in_crystal(points, &reduced)?,
            largest: largest_tolerance(numbers, points, &reduced, longest)?,
        })
    }

    /// What moyo finds, in terms of `rows`. `None`: atoms closer than `symprec`, or a failure.
    ///
    /// With `turned`, standardised cells have moyo's orientation, else that of the crystal.
    pub fn dataset(&self, symprec: f64, turned: bool) -> Option<MoyoDataset> {
        if !(self.nearest > symprec) {
            return None;
        }
        let crystal = Cell::new(
            Lattice::from_basis(self.rows),
            self.fractional.iter().map(|&f| f.into()).collect(),
            self.numbers.iter().map(|&number| i32::from(number)).collect(),
        );
        let tolerance = self.tolerance(symprec);
        // moyo takes some of what it computes for granted.
        let search = || MoyoDataset::new(&crystal, tolerance, AngleTolerance::Default, Setting::default(), turned);
        catch_unwind(AssertUnwindSafe(search)).ok()?.ok()
    }

    /// What `symprec` is lowered to.
    pub fn tolerance(&self, symprec: f64) -> f64 {
        symprec.min(self.largest)
    }
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
