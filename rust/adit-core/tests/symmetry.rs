//! Niggli reduction ends and keeps the lattice on every kind of cell, and refuses only extreme ones.
//! The search for the space group ends, whatever the crystal.

use adit_core::cell::{self, Matrix, Transform};
use adit_core::symmetry::{
    Crystals, Limits, analyse, niggli_reduce, niggli_transform, spacegroups, standardize, symmetrize,
};
use proptest::prelude::*;

fn integer_determinant(m: &Transform) -> i128 {
    let e = |r: usize, c: usize| i128::from(m[r][c]);
    e(0, 0) * (e(1, 1) * e(2, 2) - e(1, 2) * e(2, 1)) - e(0, 1) * (e(1, 0) * e(2, 2) - e(1, 2) * e(2, 0))
        + e(0, 2) * (e(1, 0) * e(2, 1) - e(1, 1) * e(2, 0))
}

fn matrix(range: std::ops::Range<f64>) -> impl Strategy<Value = Matrix> {
    prop::array::uniform3(prop::array::uniform3(range))
}

/// Symmetric cells with noise about as large as the tolerance: where reductions loop for ever.
fn nearly_symmetric() -> impl Strategy<Value = Matrix> {
    let entry =
        prop::sample::select(vec![-1.0, -0.5, 0.0, 0.5, 1.0, 0.866_025_403_784_438_6, -0.866_025_403_784_438_6]);
    let base = prop::array::uniform3(prop::array::uniform3(entry));
    (base, matrix(-1.0..1.0), -12.0..-3.0).prop_map(|(mut base, noise, exponent): (Matrix, Matrix, f64)| {
        for (row, noise) in base.iter_mut().zip(&noise) {
            *row = cell::scaled(&cell::plus(row, 10f64.powf(exponent), noise), 4.0);
        }
        base
    })
}

fn check(given: &Matrix) -> std::result::Result<(), TestCaseError> {
    let Some(transform) = niggli_transform(given) else {
        let lengths = cell::minkowski_reduce(given).map(|(rows, _)| rows.map(|row| cell::norm(&row)));
        let extreme = lengths.is_none_or(|x| x.iter().any(|p| x.iter().any(|q| p * 1e3 < *q)));
        prop_assert!(extreme, "refused");
        return Ok(());
    };
    prop_assert_eq!(integer_determinant(&transform), 1);
    let new = niggli_reduce(&[*given], Some(1)).unwrap()[0];
    let lengths = new.map(|row| cell::norm(&row));
    let slack = 1.0 + 1e-4;
    prop_assert!(lengths[0] <= lengths[1] * slack && lengths[1] <= lengths[2] * slack, "{lengths:?}");
    // All angles acute, or none.
    let products = [(1, 2), (0, 2), (0, 1)].map(|(p, q)| cell::dot(&new[p], &new[q]) / (lengths[p] * lengths[q]));
    let acute = products.iter().all(|&product| product > -1e-3);
    prop_assert!(acute || products.iter().all(|&product| product < 1e-3), "{products:?}");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn random_cells(given in matrix(-10.0..10.0)) {
        check(&given)?;
    }

    #[test]
    fn nearly_symmetric_cells(given in nearly_symmetric()) {
        check(&given)?;
    }

    #[test]
    fn needles_and_plates(given in matrix(-10.0..10.0), powers in prop::array::uniform3(-2.5..2.5f64)) {
        let mut given = given;
        for (row, power) in given.iter_mut().zip(powers) {
            *row = cell::scaled(row, 10f64.powf(power));
        }
        check(&given)?;
    }

    #[test]
    fn a_needle_whose_short_edges_nearly_agree(turn in -1e-3..1e-3f64) {
        let powers = [1.753_360_935_153_421_8, -1.943_564_066_129_322_3, -2.097_731_183_823_031];
        let mut given = [
            [-8.321_540_855_973_945, 0.0, turn],
            [3.224_719_519_048_303, -0.581_874_623_035_317_7, 2.737_248_744_878_400_2],
            [4.090_839_223_093_89, 4.179_984_386_922_104, 7.312_069_998_122_98],
        ];
        for (row, power) in given.iter_mut().zip(powers) {
            *row = cell::scaled(row, 10f64.powf(power));
        }
        check(&given)?;
    }

    #[test]
    fn any_numbers_end(given in prop::array::uniform3(prop::array::uniform3(any::<f64>()))) {
        check(&given)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn space_groups_end(
        given in prop_oneof![matrix(-6.0..6.0), nearly_symmetric()],
        points in prop::collection::vec(prop::array::uniform3(-3.0..3.0f64), 1..5),
        exponent in -6.0..0.5f64,
    ) {
        let numbers: Vec<u8> = (0..points.len()).map(|k| (k / 2) as u8 + 1).collect();
        let offsets = [0, points.len() as i64];
        let crystals = Crystals { numbers: &numbers, positions: &points, cells: &[given], offsets: &offsets };
        let found = spacegroups(&crystals, 10f64.powf(exponent), Some(1));
        let found = found.unwrap()[0];
        prop_assert!((0..=230).contains(&found));
        let analysis = &analyse(&crystals, 10f64.powf(exponent), Some(1)).unwrap()[0];
        prop_assert_eq!(analysis.as_ref().map_or(0, |analysis| analysis.number), found);
        let cells = standardize(&crystals, 10f64.powf(exponent), true, Some(1)).unwrap();
        prop_assert_eq!(cells[0].is_some(), found > 0);
    }

    #[test]
    fn snapped_crystals_stay_within_the_limits(
        given in prop_oneof![matrix(-6.0..6.0), nearly_symmetric()],
        points in prop::collection::vec(prop::array::uniform3(-3.0..3.0f64), 1..5),
        exponent in -4.0..0.0f64,
    ) {
        let numbers: Vec<u8> = (0..points.len()).map(|k| (k / 2) as u8 + 1).collect();
        let offsets = [0, points.len() as i64];
        let crystals = Crystals { numbers: &numbers, positions: &points, cells: &[given], offsets: &offsets };
        let limits = Limits { displacement: 10f64.powf(exponent), strain: 0.05 };
        let snapped = symmetrize(&crystals, limits, Some(1)).unwrap().remove(0);
        prop_assert!(snapped.displacement <= limits.displacement && snapped.strain <= limits.strain);
        let crystals = Crystals { positions: &snapped.positions, cells: &[snapped.cell], ..crystals };
        if snapped.number > 0 {
            prop_assert_eq!(spacegroups(&crystals, 1e-4, Some(1)).unwrap()[0], snapped.number);
        } else {
            prop_assert_eq!(&snapped.positions, &points);
        }
    }
}

#[test]
fn a_flat_cell_is_named() {
    let cube = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
    let error = niggli_reduce(&[cube, [[1.0, 2.0, 3.0]; 3]], None).unwrap_err();
    assert!(error.to_string().starts_with("`cells[1]` must"), "{error}");
}

#[test]
fn a_left_handed_cell_stays_left_handed() {
    let new = niggli_reduce(&[[[3.0, 0.0, 0.0], [0.0, 4.0, 0.0], [3.0, 0.0, -5.0]]], None).unwrap()[0];
    assert!(cell::determinant(&new) < 0.0);
}

/// Two operations of this cell are within the tolerance, but their product is a shear.
#[test]
fn a_needle_ends() {
    let cell = [
        [-4.000_029_25, 0.000_078_90, 3.999_861_24],
        [2.000_234_93, -2.000_161_33, -0.000_298_78],
        [3.464_327_35, -3.464_338_56, -0.000_073_81],
    ];
    let crystals = Crystals { numbers: &[1], positions: &[[0.0; 3]], cells: &[cell], offsets: &[0, 1] };
    assert_eq!(spacegroups(&crystals, 0.01, Some(1)).unwrap().len(), 1);
}
