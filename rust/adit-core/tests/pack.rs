use adit_core::pack::{bucket_by_size, gather, gather_padded, plan_batches};
use proptest::prelude::*;

proptest! {
    #[test]
    fn any_numbers_end_in_a_batch_or_an_error(
        offsets in prop::collection::vec(-3i64..12, 0..6),
        indices in prop::collection::vec(-2i64..6, 0..6),
        atoms in 0usize..10,
        width in 0usize..12,
    ) {
        let numbers: Vec<u8> = (0..atoms).map(|atom| atom as u8 + 1).collect();
        let positions: Vec<[f32; 3]> = numbers.iter().map(|&z| [f32::from(z); 3]).collect();
        let padded = gather_padded(&offsets, &indices, &numbers, &positions, width);
        match gather(&offsets, &indices, &numbers, &positions) {
            Ok(packed) => {
                prop_assert_eq!(packed.offsets.len(), indices.len() + 1);
                prop_assert_eq!(packed.positions.len(), 3 * packed.numbers.len());
                if let Ok(padded) = padded {
                    let kept: Vec<u8> = padded.numbers.iter().copied().filter(|&z| z > 0).collect();
                    prop_assert_eq!(kept, packed.numbers);
                    prop_assert_eq!(padded.positions.len(), 3 * padded.mask.len());
                }
            }
            Err(_) => prop_assert!(padded.is_err()),
        }
    }

    #[test]
    fn extreme_numbers_end(
        sizes in prop::collection::vec(any::<i64>(), 0..6),
        order in prop::collection::vec(any::<i64>(), 0..6),
        budget in any::<i64>(),
        most in any::<i64>(),
    ) {
        let _ = plan_batches(&sizes, &order, budget, most);
        let indices: Vec<i64> = (0..sizes.len() as i64).collect();
        let _ = plan_batches(&sizes, &indices, budget, most);
        let _ = bucket_by_size(&sizes, &order);
        let _ = gather::<f32>(&sizes, &order, &[], &[]);
        let _ = gather_padded::<f64>(&sizes, &indices, &[], &[], usize::MAX);
    }
}

#[test]
fn limits_are_inclusive() {
    assert_eq!(plan_batches(&[4, 4, 1, 8], &[0, 1, 2, 3], 8, 2).unwrap(), [0, 2, 3, 4]);
    assert_eq!(plan_batches(&[0, 0, 0], &[0, 1, 2], 1, 2).unwrap(), [0, 2, 3]);
    assert_eq!(plan_batches(&[i64::MAX, i64::MAX], &[0, 1], i64::MAX, 9).unwrap(), [0, 1, 2]);
    assert_eq!(plan_batches(&[1], &[], 1, 1).unwrap(), [0]);
    assert_eq!(bucket_by_size(&[3, 8, 9], &[9, 8]).unwrap(), [vec![2], vec![0, 1]]);
}
