//! The most likely elements of atoms whose composition is given.

use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::matching::assignment::Assignment;
use crate::{pack, threads};

/// Stands for a logit that is not finite: worse than any other, but not forbidden.
const WORST: f64 = 1e30;

/// Atomic numbers with the largest sum of logits among all that have the composition of their system.
///
/// `logits` holds a row for each atom and `counts` one for each system, of the elements from hydrogen on.
///
/// # Errors
/// The arrays do not fit together, a composition is negative or has other than the system's number of atoms, or the
/// threads are refused.
pub fn most_likely(
    logits: &[f32],
    counts: &[i64],
    elements: usize,
    offsets: &[i64],
    thread_count: Option<usize>,
) -> Result<Vec<u8>> {
    pack::check_offsets(offsets, logits.len().checked_div(elements).unwrap_or(0))?;
    pack::check_systems("counts", counts.len().checked_div(elements).unwrap_or(0), offsets)?;
    for (k, row) in counts.chunks_exact(elements.max(1)).enumerate() {
        let size = offsets[k + 1] - offsets[k];
        if row.iter().any(|&count| count < 0) || row.iter().try_fold(0_i64, |sum, &c| sum.checked_add(c)) != Some(size)
        {
            return Err(Error::argument(
                "counts",
                format!("add up to the {size} atoms of system {k}, none of them negative"),
                format!("{row:?}").chars().take(80).collect::<String>(),
                "Give each system the composition of all its atoms",
            ));
        }
    }
    let one = |k: usize| {
        let (begin, end) = (offsets[k] as usize, offsets[k + 1] as usize);
        let slots: Vec<usize> = (0..elements)
            .flat_map(|element| std::iter::repeat_n(element, counts[k * elements + element] as usize))
            .collect();
        let costs: Vec<f64> = logits[begin * elements..end * elements]
            .chunks_exact(elements.max(1))
            .flat_map(|row| slots.iter().map(|&element| f64::from(row[element])))
            .map(|logit| if logit.is_finite() { -logit } else { WORST })
            .collect();
        let mut solver = Assignment::default();
        // All costs are finite: there is an assignment.
        let columns = solver.solve(&costs, slots.len()).unwrap_or_default();
        columns.iter().map(|&column| (slots[column] + 1) as u8).collect::<Vec<u8>>()
    };
    let systems = offsets.len().saturating_sub(1);
    let found: Vec<Vec<u8>> = threads::run(thread_count, || (0..systems).into_par_iter().map(one).collect())?;
    Ok(found.concat())
}

#[cfg(test)]
mod tests {
    use super::most_likely;

    #[test]
    fn the_best_of_all_permutations() {
        // three atoms, elements 1 to 3, of composition 1 1 1: the greedy choice for the first is not the best
        let logits = [9.0, 8.0, 0.0, 9.0, 0.0, 0.0, 5.0, 5.0, 5.0];
        assert_eq!(most_likely(&logits, &[1, 1, 1], 3, &[0, 3], Some(1)).unwrap(), [2, 1, 3]);
        assert_eq!(most_likely(&logits, &[2, 0, 1], 3, &[0, 3], Some(1)).unwrap(), [1, 1, 3]);
        assert_eq!(most_likely(&logits, &[1, 0, 0, 0, 2, 0], 3, &[0, 1, 3], Some(1)).unwrap(), [1, 2, 2]);
    }

    #[test]
    fn logits_that_are_not_finite_come_last() {
        let logits = [f32::NAN, 1.0, f32::NEG_INFINITY, -5.0];
        assert_eq!(most_likely(&logits, &[1, 1], 2, &[0, 2], Some(1)).unwrap().len(), 2);
        let logits = [f32::NAN, -1e9, 3.0, 4.0];
        assert_eq!(most_likely(&logits, &[1, 1], 2, &[0, 2], Some(1)).unwrap(), [2, 1]);
    }

    #[test]
    fn empty_and_wrong() {
        assert!(most_likely(&[], &[], 3, &[0], None).unwrap().is_empty());
        assert!(most_likely(&[], &[0, 0], 2, &[0, 0], None).unwrap().is_empty());
        assert!(most_likely(&[0.0, 0.0], &[2, 0], 2, &[0, 1], None).is_err());
        assert!(most_likely(&[0.0, 0.0], &[2, -1], 2, &[0, 1], None).is_err());
        assert!(most_likely(&[0.0, 0.0], &[i64::MAX, i64::MAX], 2, &[0, 1], None).is_err());
    }
}
