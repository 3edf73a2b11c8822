use adit_core::cell::{self, Frame, Matrix, Vec3};
use adit_core::features::{self, Systems};
use adit_core::nearest::Nearest;
use proptest::prelude::*;

fn points(most: usize) -> impl Strategy<Value = Vec<Vec3>> {
    prop::collection::vec(prop::array::uniform3(-20.0..20.0f64), 0..most)
}

/// Skewed, left-handed, long and flat: whatever has a volume.
fn matrix() -> impl Strategy<Value = Matrix> {
    let rows = prop::array::uniform3(prop::array::uniform3(-6.0..6.0f64));
    (rows, prop::array::uniform3(0.3..3.0f64), -3..4i32).prop_filter_map("flat", |(rows, scales, skew)| {
        let mut rows: Matrix = std::array::from_fn(|k| cell::scaled(&rows[k], scales[k]));
        rows[1] = cell::plus(&rows[1], f64::from(skew), &rows[0]);
        let edges = rows.iter().map(cell::norm).product::<f64>();
        (cell::determinant(&rows).abs() > 0.01 * edges).then_some(rows)
    })
}

fn close(a: f64, b: f64, tolerance: f64) -> bool {
    (a - b).abs() <= tolerance
}

proptest! {
    #[test]
    fn nearest_images_are_the_nearest_of_many(given in matrix(), vector in prop::array::uniform3(-20.0..20.0f64)) {
        let frame = Frame::new(&given, [true; 3]).unwrap();
        let found = Nearest::new(&frame).distance(&vector);
        // In the reduced cell, from the nearest corner, three cells to all sides are more than enough.
        let whole = frame.dual.map(|dual| -cell::dot(&dual, &vector).round());
        let start = cell::plus(&vector, 1.0, &cell::combine(&whole, &frame.rows));
        let mut best = f64::INFINITY;
        for turns in (-3..=3).flat_map(|x| (-3..=3).flat_map(move |y| (-3..=3).map(move |z| [x, y, z]))) {
            let image = cell::plus(&start, 1.0, &cell::combine(&turns.map(f64::from), &frame.rows));
            best = best.min(cell::norm(&image));
        }
        prop_assert!(close(found, best, 1e-9), "{} {}", found, best);
    }

    #[test]
    fn operations_keep_all_distances(
        points in points(12),
        given in matrix(),
        periodic in any::<bool>(),
        turned in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let (cells, flags, offsets) = ([given], [periodic], [0, points.len() as i64]);
        let systems = Systems::new(&points, &cells, &flags, &offsets).unwrap();
        let moved = systems.augmented(seed, turned, Some(1)).unwrap();
        let after = Systems::new(&moved.positions, &moved.cells, &flags, &offsets).unwrap();
        let (before, after) = (systems.distances(Some(1)).unwrap(), after.distances(Some(1)).unwrap());
        for (a, b) in before.iter().zip(after) {
            prop_assert!(close(*a, b, 1e-9));
        }
    }

    #[test]
    fn any_numbers_end(
        points in prop::collection::vec(prop::array::uniform3(any::<f64>()), 0..5),
        given in prop::array::uniform3(prop::array::uniform3(any::<f64>())),
        periodic in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let (cells, flags, offsets) = ([given], [periodic], [0, points.len() as i64]);
        let systems = Systems::new(&points, &cells, &flags, &offsets).unwrap();
        let _ = systems.augmented(seed, true, Some(1));
        let _ = systems.fractional(Some(1));
        let _ = systems.distances(Some(1));
        let _ = features::fourier(points.as_flattened(), 3);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    #[test]
    fn threads_do_not_matter(seed in any::<u64>()) {
        let count = 900;
        let positions: Vec<Vec3> = (0..6 * count).map(|k| [f64::from(k % 7), f64::from(k % 11), f64::from(k % 5)]).collect();
        let cells = vec![[[9.0, 1.0, 0.0], [0.0, 8.0, 2.0], [1.0, 0.0, 7.0]]; count as usize];
        let periodic: Vec<bool> = (0..count).map(|k| k % 2 == 0).collect();
        let offsets: Vec<i64> = (0..=i64::from(count)).map(|k| 6 * k).collect();
        let systems = Systems::new(&positions, &cells, &periodic, &offsets).unwrap();
        prop_assert_eq!(systems.augmented(seed, true, Some(1)).unwrap(), systems.augmented(seed, true, Some(3)).unwrap());
        prop_assert_eq!(systems.distances(Some(1)).unwrap(), systems.distances(Some(3)).unwrap());
    }
}

#[test]
fn long_and_short_edges_are_quick() {
    let slab = [[2.5, 0.0, 0.0], [0.0, 2.5, 0.0], [0.0, 0.0, 1e6]];
    let nearest = Nearest::new(&Frame::new(&slab, [true; 3]).unwrap());
    assert!(close(nearest.distance(&[1.0, 2.4, 4e5]), 4e5, 1e-3));
    assert!(close(nearest.distance(&[2.0, 2.4, 9e5]), 1e5, 1e-3));
    assert!(nearest.distance(&[1e300, 0.0, 0.0]).is_nan());
    assert!(nearest.distance(&[f64::NAN, 0.0, 0.0]).is_nan());
}

#[test]
fn single_precision_stays_below_one() {
    let cells = [[[1.0_f32, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]];
    let positions = [[-1e-9_f32, 0.0, 1.0], [0.999_999_97, -0.0, 5.25]];
    let systems = Systems::new(&positions, &cells, &[true], &[0, 2]).unwrap();
    let fractional = systems.fractional(None).unwrap();
    assert!(fractional.iter().flatten().all(|f| (0.0..1.0).contains(f)), "{fractional:?}");
}

#[test]
fn messages_name_the_system() {
    let (positions, cells) = ([[0.0; 3]; 2], [[[0.0; 3]; 3]; 2]);
    let systems = Systems::new(&positions, &cells, &[false, true], &[0, 1, 2]).unwrap();
    for error in [
        systems.augmented(0, false, None).unwrap_err(),
        systems.fractional(None).unwrap_err(),
        systems.distances(None).unwrap_err(),
    ] {
        assert!(error.to_string().starts_with("`cells[1]` must have three linearly"), "{error}");
    }
    assert!(systems.fractional(Some(0)).unwrap_err().to_string().starts_with("`threads`"));
    assert!(features::fourier(&[0.0; 9], 1 << 60).is_err());
    assert!(features::fourier::<f64>(&[], 1 << 63).is_err());
    assert!(features::operations(0, 1 << 40).is_err());
}
