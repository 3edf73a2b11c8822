//! All that is found about the symmetry of a crystal, in terms of the cell that was given.

use moyo::MoyoDataset;

use super::search::{Crystals, Search, check_symprec};
use super::standard::Standard;
use crate::cell::{self, IDENTITY, Transform, Vec3};
use crate::error::Result;

/// The symmetry of one crystal. Fractional coordinates are columns: the operation (W, w) takes x to
/// W x + w.
#[derive(Debug, Clone, PartialEq)]
pub struct Analysis {
    /// 1 to 230.
    pub number: i64,
    /// 1 to 530.
    pub hall_number: i64,
    /// Hermann-Mauguin, short.
    pub international: String,
    /// For the conventional cell.
    pub pearson: String,
    /// The tolerance that was used in the end.
    pub symprec: f64,
    /// For each atom the first to which it is equivalent.
    pub orbits: Vec<i64>,
    /// A letter for each atom, `A` following `z`.
    pub wyckoffs: Vec<char>,
    /// A symbol for each atom, oriented as the conventional cell.
    pub site_symmetries: Vec<String>,
    pub rotations: Vec<[[i32; 3]; 3]>,
    /// From 0 to 1.
    pub translations: Vec<Vec3>,
    /// P of (a' b' c') = (a b c) P and x' = P^-1 (x - p), to the conventional cell.
    pub transformation: [[f64; 3]; 3],
    /// p of the same.
    pub origin_shift: Vec3,
    pub conventional: Standard,
    pub primitive: Standard,
    /// For each atom its place in the primitive cell.
    pub to_primitive: Vec<i64>,
}

/// The symmetry of each crystal; `None` where [`super::spacegroups`] finds nothing, or where the
/// cell is so skewed that its operations are no 32-bit numbers.
///
/// # Errors
/// The arrays do not fit together, `symprec` is not positive and finite, or the threads are refused.
pub fn analyse(crystals: &Crystals, symprec: f64, thread_count: Option<usize>) -> Result<Vec<Option<Analysis>>> {
    check_symprec(symprec)?;
    crystals.map(thread_count, |numbers, points, given| {
        let search = Search::new(numbers, points, given)?;
        collect(&search.dataset(symprec, true)?, &search.transform)
    })
}

/// From the reduced cell into the given one.
fn collect(dataset: &MoyoDataset, transform: &Transform) -> Option<Analysis> {
    let lift = |x: Vec3| [0, 1, 2].map(|k| (0..3).map(|l| transform[l][k] as f64 * x[l]).sum::<f64>());
    let linear = dataset.std_linear_as_array();
    let columns = [0, 1, 2].map(|k| lift([linear[0][k], linear[1][k], linear[2][k]]));
    let operations = &dataset.operations;
    let rotations: Option<Vec<_>> = operations.iter().map(|op| conjugated(op.rotation_as_array(), transform)).collect();
    let translations = operations.iter().map(|op| lift(op.translation_as_array()).map(|x| x - x.floor()));
    Some(Analysis {
        number: i64::from(dataset.number),
        hall_number: i64::from(dataset.hall_number),
        international: dataset.hm_symbol.clone(),
        pearson: dataset.pearson_symbol.clone(),
        symprec: dataset.symprec,
        orbits: dataset.orbits.iter().map(|&atom| atom as i64).collect(),
        wyckoffs: dataset.wyckoffs.clone(),
        site_symmetries: dataset.site_symmetry_symbols.clone(),
        rotations: rotations?,
        translations: translations.collect(),
        transformation: [0, 1, 2].map(|k| [columns[0][k], columns[1][k], columns[2][k]]),
        origin_shift: lift(dataset.std_origin_shift_as_array()),
        conventional: Standard::of(dataset, false),
        primitive: Standard::of(dataset, true),
        to_primitive: dataset.mapping_std_prim.iter().map(|&atom| atom as i64).collect(),
    })
}

/// Rows = T given, so columns turn from x into T^t x, and W into T^t W T^-t. `None`: too large.
fn conjugated(rotation: [[i32; 3]; 3], transform: &Transform) -> Option<[[i32; 3]; 3]> {
    if *transform == IDENTITY {
        return Some(rotation);
    }
    let t = |k: usize, l: usize| i128::from(transform[k][l]);
    let inverse = cell::inverted(transform);
    let mut new = [[0i32; 3]; 3];
    for (k, row) in new.iter_mut().enumerate() {
        for (l, entry) in row.iter_mut().enumerate() {
            let mut sum = 0i128;
            for (p, line) in rotation.iter().enumerate() {
                for (q, &w) in line.iter().enumerate() {
                    sum += t(p, k) * i128::from(w) * i128::from(inverse[l][q]);
                }
            }
            *entry = i32::try_from(sum).ok()?;
        }
    }
    Some(new)
}
