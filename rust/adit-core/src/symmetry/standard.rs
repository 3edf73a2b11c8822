//! Standardised cells.

use moyo::MoyoDataset;
use moyo::base::Cell;

use super::search::{Crystals, Search, check_symprec};
use crate::cell::{self, Matrix, Vec3};
use crate::error::Result;

/// A fractional coordinate that is nearer to 1 than rounding makes it is 0.
const ONE: f64 = 1.0 - 1e-12;

/// A crystal in another cell.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Standard {
    pub numbers: Vec<u8>,
    /// Cartesian, inside the cell.
    pub positions: Vec<Vec3>,
    pub cell: Matrix,
}

impl Standard {
    /// The conventional or primitive cell.
    pub(super) fn of(dataset: &MoyoDataset, primitive: bool) -> Self {
        let Cell { lattice, positions, numbers } = if primitive { &dataset.prim_std_cell } else { &dataset.std_cell };
        let rows = lattice.basis_as_array();
        let place = |f: &[f64; 3]| {
            let wrapped = f.map(|x| x - x.floor()).map(|x| if x < ONE { x } else { 0.0 });
            cell::combine(&wrapped, &rows)
        };
        Self {
            numbers: numbers.iter().map(|&number| number as u8).collect(),
            positions: positions.iter().map(|f| place(&[f[0], f[1], f[2]])).collect(),
            cell: rows,
        }
    }
}

/// Each crystal in the conventional cell of its space group (International Tables, choice of moyo's
/// default setting, which is spglib's), or in the primitive cell of that, made exactly symmetric.
/// `None` where [`super::spacegroups`] finds nothing.
///
/// # Errors
/// The arrays do not fit together, `symprec` is not positive and finite, or the threads are refused.
pub fn standardize(
    crystals: &Crystals,
    symprec: f64,
    primitive: bool,
    thread_count: Option<usize>,
) -> Result<Vec<Option<Standard>>> {
    check_symprec(symprec)?;
    crystals.map(thread_count, |numbers, points, given| {
        let dataset = Search::new(numbers, points, given)?.dataset(symprec, true)?;
        Some(Standard::of(&dataset, primitive))
    })
}
