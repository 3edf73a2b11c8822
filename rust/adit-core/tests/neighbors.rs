use adit_core::cell::{self, Matrix, Vec3};
use adit_core::error::Result;
use adit_core::neighbors::{self, Algorithm, Pairs, Quantities, Search};
use proptest::prelude::*;

fn neighbor_list(
    points: &[Vec3],
    given: &Matrix,
    periodic: [bool; 3],
    cutoff: f64,
    half: bool,
    algorithm: Algorithm,
) -> Result<Pairs> {
    neighbors::neighbor_list(points, given, periodic, &Search { cutoff, half, algorithm, quantities: Quantities::ALL })
}

fn points(most: usize) -> impl Strategy<Value = Vec<Vec3>> {
    prop::collection::vec(prop::array::uniform3(-12.0..12.0f64), 0..most)
}

fn matrix() -> impl Strategy<Value = Matrix> {
    prop::array::uniform3(prop::array::uniform3(-6.0..6.0f64))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn brute_force_and_cell_lists_agree(
        points in points(40),
        given in matrix(),
        periodic in prop::array::uniform3(any::<bool>()),
        cutoff in 0.5..6.0f64,
        half in any::<bool>(),
    ) {
        prop_assume!(periodic != [true; 3] || cell::determinant(&given).abs() > 5.0);
        let brute = neighbor_list(&points, &given, periodic, cutoff, half, Algorithm::Brute);
        let cells = neighbor_list(&points, &given, periodic, cutoff, half, Algorithm::Cells);
        if let (Ok(brute), Ok(cells)) = (&brute, &cells) {
            prop_assert!(brute == cells);
        } else {
            prop_assert_eq!(brute, cells);
        }
    }

    #[test]
    fn any_numbers_end_in_a_list_or_an_error(
        points in prop::collection::vec(prop::array::uniform3(any::<f64>()), 0..5),
        given in prop::array::uniform3(prop::array::uniform3(any::<f64>())),
        periodic in prop::array::uniform3(any::<bool>()),
        cutoff in any::<f64>(),
    ) {
        for algorithm in [Algorithm::Brute, Algorithm::Cells] {
            let _ = neighbor_list(&points, &given, periodic, cutoff, false, algorithm);
        }
    }
}

#[test]
fn simple_cubic_shells() {
    let cube = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
    for (cutoff, shell) in [(1.1, 6), (1.5, 18), (1.8, 26), (2.1, 32)] {
        let pairs = neighbor_list(&[[0.3, 0.2, 7.0]], &cube, [true; 3], cutoff, false, Algorithm::Auto).unwrap();
        assert_eq!(pairs.i.len(), shell);
        let half = neighbor_list(&[[0.3, 0.2, 7.0]], &cube, [true; 3], cutoff, true, Algorithm::Auto).unwrap();
        assert_eq!(half.i.len(), shell / 2);
    }
}

#[test]
fn messages_name_the_argument() {
    let none = [[0.0; 3]; 3];
    let at = |cutoff| neighbor_list(&[[0.0; 3]], &none, [false; 3], cutoff, false, Algorithm::Auto).unwrap_err();
    assert!(at(f64::NAN).to_string().starts_with("`cutoff` must be a positive"));
    let flat = neighbor_list(&[[0.0; 3]], &none, [true; 3], 1.0, false, Algorithm::Auto).unwrap_err();
    assert!(flat.to_string().starts_with("`cell` must"));
}
