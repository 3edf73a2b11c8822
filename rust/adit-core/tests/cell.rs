use adit_core::cell::{self, Frame, IDENTITY, Matrix};
use proptest::prelude::*;

fn matrix() -> impl Strategy<Value = Matrix> {
    prop::array::uniform3(prop::array::uniform3(-10.0..10.0f64))
}

proptest! {
    #[test]
    fn reduced_edges_cannot_be_shortened(given in matrix(), skew in prop::array::uniform3(-50i64..50)) {
        prop_assume!(!cell::is_degenerate(&given));
        let mut given = given;
        given[1] = cell::plus(&given[1], skew[0] as f64, &given[0]);
        given[2] = cell::plus(&cell::plus(&given[2], skew[1] as f64, &given[0]), skew[2] as f64, &given[1]);
        let Some((rows, transform)) = cell::minkowski_reduce(&given) else { return Ok(()) };
        prop_assert_eq!(rows, cell::transformed(&transform, &given));
        let (before, after) = (cell::determinant(&given), cell::determinant(&rows));
        prop_assert!((before - after).abs() <= 1e-6 * before.abs().max(1e-3), "{} {}", before, after);
        for k in 0..3 {
            for (x, y) in [(0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1)] {
                let new = cell::plus(&rows[k], f64::from(x), &rows[(k + 1) % 3]);
                let new = cell::plus(&new, f64::from(y), &rows[(k + 2) % 3]);
                prop_assert!(cell::norm(&new) >= cell::norm(&rows[k]) * (1.0 - 1e-6));
            }
        }
        // Reduced once is reduced.
        prop_assert_eq!(cell::minkowski_reduce(&rows).map(|pair| pair.1), Some(IDENTITY));
    }

    #[test]
    fn dual_gives_fractional_coordinates(given in matrix(), fractional in prop::array::uniform3(-3.0..3.0f64)) {
        prop_assume!(cell::determinant(&given).abs() > 1e-2);
        let point = cell::combine(&fractional, &given);
        for (vector, f) in cell::dual(&given).iter().zip(fractional) {
            prop_assert!((cell::dot(vector, &point) - f).abs() < 1e-7);
        }
    }

    #[test]
    fn frames_complete_any_periodic_directions(given in matrix(), periodic in prop::array::uniform3(any::<bool>())) {
        let Ok(frame) = Frame::new(&given, periodic) else { return Ok(()) };
        for k in (0..3).filter(|&k| !periodic[k]) {
            prop_assert!((cell::norm(&frame.rows[k]) - 1.0).abs() < 1e-9);
            prop_assert!((frame.heights[k] - 1.0).abs() < 1e-6);
            for other in (0..3).filter(|&other| other != k) {
                prop_assert!(cell::dot(&frame.rows[k], &frame.rows[other]).abs() < 1e-6);
            }
        }
    }
}

#[test]
fn flat_frames_are_refused() {
    let flat = [[1.0, 0.0, 0.0], [2.0, 0.0, 0.0], [0.0, 0.0, 0.0]];
    assert!(Frame::new(&flat, [true, false, false]).is_ok());
    assert!(Frame::new(&flat, [true, true, false]).is_err());
    assert!(Frame::new(&flat, [false, false, true]).is_err());
    assert!(Frame::new(&[[f64::NAN; 3]; 3], [true, false, false]).is_err());
    assert!(Frame::new(&[[f64::NAN; 3]; 3], [false; 3]).is_ok());
}
