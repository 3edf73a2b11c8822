use adit_core::cell::{self, Matrix, Vec3};
use adit_core::distances::min_distances;
use adit_core::neighbors::{Algorithm, Quantities, Search, neighbor_list};
use proptest::prelude::*;

fn one(points: &[Vec3], given: Matrix, periodic: bool) -> f64 {
    min_distances(points, &[given], &[periodic], &[0, points.len() as i64], Some(1)).unwrap()[0]
}

proptest! {
    #[test]
    fn equals_the_smallest_of_the_neighbour_list(
        points in prop::collection::vec(prop::array::uniform3(-12.0..12.0f64), 1..12),
        given in prop::array::uniform3(prop::array::uniform3(-6.0..6.0f64)),
        periodic in any::<bool>(),
    ) {
        prop_assume!(cell::determinant(&given).abs() > 1.0);
        let found = one(&points, given, periodic);
        prop_assume!(found.is_finite());
        let cutoff = found * (1.0 + 1e-6) + 1e-9;
        let search = Search { cutoff, half: false, algorithm: Algorithm::Brute, quantities: Quantities::DISTANCES };
        let pairs = neighbor_list(&points, &given, [periodic; 3], &search).unwrap();
        let smallest = pairs.distances.iter().copied().fold(f64::INFINITY, f64::min);
        prop_assert!((smallest - found).abs() <= 1e-9 * (1.0 + found), "{} {}", smallest, found);
    }

    #[test]
    fn any_numbers_end(
        points in prop::collection::vec(prop::array::uniform3(any::<f64>()), 0..6),
        given in prop::array::uniform3(prop::array::uniform3(any::<f64>())),
        periodic in any::<bool>(),
    ) {
        let found = one(&points, given, periodic);
        prop_assert!(found.is_nan() || found >= 0.0);
    }
}
