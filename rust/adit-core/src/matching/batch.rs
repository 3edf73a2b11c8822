//! Many crystals at once, in parallel. Nothing depends on the number of threads.

use std::collections::HashMap;

use rayon::prelude::*;

use super::crystal::Crystal;
use super::pair::{Question, Workspace};
use super::{Convention, Options};
use crate::cell::Vec3;
use crate::error::{Error, Result};
use crate::{pack, threads};

/// With more ways to rename the elements, an anonymous comparison would not end.
const MAX_RENAMINGS: usize = 40_320;

/// Reduces each crystal of a pack; `None` for one that cannot be compared (see [`Crystal::new`]).
///
/// # Errors
/// The arrays do not fit together, a tolerance is unusable, or the threads are refused.
pub fn crystals<P, C>(
    numbers: &[u8],
    positions: &[[P; 3]],
    cells: &[[[C; 3]; 3]],
    offsets: &[i64],
    options: &Options,
    thread_count: Option<usize>,
) -> Result<Vec<Option<Crystal>>>
where
    P: Copy + Sync + Into<f64>,
    C: Copy + Sync + Into<f64>,
{
    options.check()?;
    pack::check_atoms(numbers.len(), positions.len())?;
    pack::check_offsets(offsets, positions.len())?;
    pack::check_systems("cells", cells.len(), offsets)?;
    let one = |k: usize| {
        let atoms = offsets[k] as usize..offsets[k + 1] as usize;
        let points: Vec<Vec3> = positions[atoms.clone()].iter().map(|atom| atom.map(Into::into)).collect();
        Crystal::new(&numbers[atoms], &points, &cells[k].map(|row| row.map(Into::into)), options)
    };
    threads::run(thread_count, || (0..cells.len()).into_par_iter().map(one).collect())
}

fn chosen(crystals: &[Option<Crystal>], index: i64) -> Result<Option<&Crystal>> {
    let entry = usize::try_from(index).ok().and_then(|index| crystals.get(index)).ok_or_else(|| {
        Error::argument(
            "pairs",
            format!("hold indices from 0 to {} (exclusive), the number of systems", crystals.len()),
            index,
            "Negative indices do not count from the end",
        )
    })?;
    Ok(entry.as_ref())
}

/// A crystal that can be renamed in few enough ways.
fn check_renamings(crystals: &[Option<Crystal>]) -> Result<()> {
    for (index, crystal) in crystals.iter().enumerate() {
        let Some(crystal) = crystal else { continue };
        let counts = crystal.anonymous_composition();
        let ways = counts
            .chunk_by(|a, b| a == b)
            .fold(1, |ways: usize, equal| (1..=equal.len()).fold(ways, usize::saturating_mul));
        if ways > MAX_RENAMINGS {
            return Err(Error::entry(
                "systems",
                index,
                format!("allow at most {MAX_RENAMINGS} ways of renaming its elements"),
                ways,
                "Leave it out of the anonymous comparison",
            ));
        }
    }
    Ok(())
}

fn matching(work: &mut Workspace, a: &Crystal, b: &Crystal, anonymous: bool, options: &Options) -> bool {
    if anonymous {
        work.compare_anonymous(a, b, options)
    } else {
        work.compare(a, b, Question::Whether, options).is_some()
    }
}

/// Whether each pair `(left[i], right[j])` matches.
///
/// # Errors
/// An index is out of range, or the threads are refused; an anonymous crystal has too many kinds.
pub fn fit_pairs(
    left: &[Option<Crystal>],
    right: &[Option<Crystal>],
    pairs: &[[i64; 2]],
    anonymous: bool,
    options: &Options,
    thread_count: Option<usize>,
) -> Result<Vec<bool>> {
    if anonymous {
        check_renamings(left)?;
    }
    let one = |work: &mut Workspace, &[i, j]: &[i64; 2]| {
        let (a, b) = (chosen(left, i)?, chosen(right, j)?);
        Ok(a.zip(b).is_some_and(|(a, b)| matching(work, a, b, anonymous, options)))
    };
    threads::run(thread_count, || pairs.par_iter().map_init(Workspace::default, one).collect())?
}

/// The least rms distance of each pair and the largest distance of that fit, in units of (V / n)^(1/3);
/// NaN for a pair that does not match.
///
/// # Errors
/// As [`fit_pairs`].
pub fn rms_pairs(
    left: &[Option<Crystal>],
    right: &[Option<Crystal>],
    pairs: &[[i64; 2]],
    options: &Options,
    thread_count: Option<usize>,
) -> Result<Vec<[f64; 2]>> {
    let one = |work: &mut Workspace, &[i, j]: &[i64; 2]| {
        let (a, b) = (chosen(left, i)?, chosen(right, j)?);
        let fit = a.zip(b).and_then(|(a, b)| work.compare(a, b, Question::Best, options));
        Ok(fit.map_or([f64::NAN; 2], |fit| [fit.rms, fit.max]))
    };
    threads::run(thread_count, || pairs.par_iter().map_init(Workspace::default, one).collect())?
}

/// Indices of the crystals that may match each other at all, in ascending order.
fn candidates(crystals: &[Option<Crystal>], anonymous: bool) -> HashMap<Vec<(u8, u32)>, Vec<usize>> {
    let mut lists: HashMap<Vec<(u8, u32)>, Vec<usize>> = HashMap::new();
    for (index, crystal) in crystals.iter().enumerate() {
        if let Some(crystal) = crystal {
            lists.entry(key(crystal, anonymous)).or_default().push(index);
        }
    }
    lists
}

fn key(crystal: &Crystal, anonymous: bool) -> Vec<(u8, u32)> {
    if anonymous {
        crystal.anonymous_composition().into_iter().map(|count| (0, count)).collect()
    } else {
        crystal.composition.clone()
    }
}

/// The group of each crystal, named by the index of its first member.
///
/// Symmetric: crystals connected by a chain of matches. Pymatgen: each crystal that is in no group yet
/// begins one, with all later ones that match it and are in no group yet.
///
/// # Errors
/// As [`fit_pairs`].
pub fn groups(
    crystals: &[Option<Crystal>],
    anonymous: bool,
    options: &Options,
    thread_count: Option<usize>,
) -> Result<Vec<i64>> {
    if anonymous {
        check_renamings(crystals)?;
    }
    let mut lists: Vec<Vec<usize>> = candidates(crystals, anonymous).into_values().collect();
    // The longest first, for the sake of the other threads.
    lists.sort_by_key(|list| (std::cmp::Reverse(list.len()), list[0]));
    let grouped = |list: &Vec<usize>| grouped(list, crystals, anonymous, options);
    let labels: Vec<Vec<usize>> = threads::run(thread_count, || lists.par_iter().map(grouped).collect())?;
    let mut result: Vec<i64> = (0..crystals.len() as i64).collect();
    for (list, labels) in lists.iter().zip(labels) {
        for (&index, label) in list.iter().zip(labels) {
            result[index] = label as i64;
        }
    }
    Ok(result)
}

/// The label of each entry of the list.
fn grouped(list: &[usize], crystals: &[Option<Crystal>], anonymous: bool, options: &Options) -> Vec<usize> {
    let mut label: Vec<usize> = list.to_vec();
    for (place, &first) in list.iter().enumerate() {
        if options.convention == Convention::Pymatgen && label[place] != first {
            continue;
        }
        // What is in the same group already need not be compared.
        let open = |other: &usize| match options.convention {
            Convention::Pymatgen => label[*other] == list[*other],
            Convention::Symmetric => label[*other] != label[place],
        };
        let others: Vec<usize> = (place + 1..list.len()).filter(open).collect();
        let matches = |work: &mut Workspace, &other: &usize| {
            let (a, b) = (crystals[first].as_ref(), crystals[list[other]].as_ref());
            a.zip(b).is_some_and(|(a, b)| matching(work, a, b, anonymous, options))
        };
        let found: Vec<bool> = others.par_iter().with_min_len(16).map_init(Workspace::default, matches).collect();
        for (&other, found) in others.iter().zip(found) {
            if !found {
                continue;
            }
            if options.convention == Convention::Pymatgen {
                label[other] = first;
            } else {
                let (old, new) = (label[other].max(label[place]), label[other].min(label[place]));
                label.iter_mut().filter(|label| **label == old).for_each(|label| *label = new);
            }
        }
    }
    label
}

/// For each crystal the index of the first of `against` that it matches, -1 if there is none.
///
/// # Errors
/// As [`fit_pairs`].
pub fn first_matches(
    crystals: &[Option<Crystal>],
    against: &[Option<Crystal>],
    anonymous: bool,
    options: &Options,
    thread_count: Option<usize>,
) -> Result<Vec<i64>> {
    if anonymous {
        check_renamings(crystals)?;
    }
    let lists = candidates(against, anonymous);
    let one = |work: &mut Workspace, crystal: &Option<Crystal>| {
        let Some(crystal) = crystal else { return -1 };
        let Some(list) = lists.get(&key(crystal, anonymous)) else { return -1 };
        let found = list.iter().find(|&&index| {
            against[index].as_ref().is_some_and(|other| matching(work, crystal, other, anonymous, options))
        });
        found.map_or(-1, |&index| index as i64)
    };
    threads::run(thread_count, || crystals.par_iter().map_init(Workspace::default, one).collect())
}
