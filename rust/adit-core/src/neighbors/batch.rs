//! Neighbour lists of many systems.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

use super::{Columns, Pairs, Search, Work, check_cutoff, columns};
use crate::cell::{Matrix, Vec3};
use crate::error::{Error, Result};
use crate::{pack, threads};

/// More pairs in one batch than this are refused: 9 GB of output and more.
pub const MAX_BATCH: usize = 1 << 28;
/// Systems are handed to a thread in portions of about this many atoms.
const PORTION: usize = 1024;

/// The pairs of system k are `pair_offsets[k]..pair_offsets[k + 1]`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    /// Sorted by (system, i, j, shift); atoms are counted through the pack.
    pub pairs: Pairs,
    pub pair_offsets: Vec<i64>,
}

/// As [`super::neighbor_list`], for every system of a pack.
///
/// # Errors
/// As there (the system is named); the arrays do not fit together; more than [`MAX_BATCH`] pairs;
/// the threads are refused.
pub fn neighbor_list_batch(
    positions: &[Vec3],
    cells: &[Matrix],
    periodic: &[[bool; 3]],
    offsets: &[i64],
    search: &Search,
    thread_count: Option<usize>,
) -> Result<Batch> {
    let found = find_batch(positions, cells, periodic, offsets, search, thread_count)?;
    let mut pairs = Pairs::zeros(found.count(), search.quantities);
    let pair_offsets = found.write(Columns::of(&mut pairs, search.quantities), thread_count)?;
    Ok(Batch { pairs, pair_offsets })
}

/// What [`neighbor_list_batch`] found, not yet written down.
pub struct FoundBatch<'a> {
    offsets: &'a [i64],
    /// Consecutive systems.
    portions: Vec<(Range<usize>, Work)>,
}

/// The first half of [`neighbor_list_batch`], for callers who bring the memory for its columns.
///
/// # Errors
/// As there.
pub fn find_batch<'a>(
    positions: &[Vec3],
    cells: &[Matrix],
    periodic: &[[bool; 3]],
    offsets: &'a [i64],
    search: &Search,
    thread_count: Option<usize>,
) -> Result<FoundBatch<'a>> {
    check_cutoff(search.cutoff)?;
    pack::check_offsets(offsets, positions.len())?;
    pack::check_systems("cells", cells.len(), offsets)?;
    pack::check_systems("pbc", periodic.len(), offsets)?;
    let total = AtomicUsize::new(0);
    let seek = |systems: Range<usize>| {
        let (mut seeker, mut list) = spare();
        list.set(search);
        for k in systems.clone() {
            if total.load(Ordering::Relaxed) > MAX_BATCH {
                break;
            }
            let before = list.count();
            let atoms = &positions[offsets[k] as usize..offsets[k + 1] as usize];
            let added = seeker.append(atoms, &cells[k], periodic[k], search, &mut list);
            added.map_err(|error| Error::System { index: k, error: Box::new(error) })?;
            total.fetch_add(list.count() - before, Ordering::Relaxed);
        }
        Ok((systems, (seeker, list)))
    };
    let found = each(portions(offsets), thread_count, seek)?;
    // First, because it does not depend on which portion came how far.
    let count = total.into_inner();
    columns::check_room(count, MAX_BATCH)?;
    Ok(FoundBatch { offsets, portions: found.into_iter().collect::<Result<_>>()? })
}

/// Memory for the next call: fresh pages cost more than what is computed in them. At most
/// [`SPARES`] of it, 50 MB; who finds the door locked makes a new one.
static SPARE: Mutex<Vec<Work>> = Mutex::new(Vec::new());
const SPARES: usize = 16;
const KEPT: usize = 3 << 20;

fn spare() -> Work {
    SPARE.try_lock().ok().and_then(|mut spares| spares.pop()).unwrap_or_default()
}

fn keep(work: Work) {
    if let Ok(mut spares) = SPARE.try_lock()
        && spares.len() < SPARES
        && work.0.capacity() + work.1.capacity() <= KEPT
    {
        spares.push(work);
    }
}

/// One portion is not worth waking a thread for.
fn each<T: Send, U: Send>(
    parts: Vec<T>,
    thread_count: Option<usize>,
    one: impl Fn(T) -> U + Sync + Send,
) -> Result<Vec<U>> {
    if parts.len() < 2 {
        threads::check(thread_count)?;
        return Ok(parts.into_iter().map(one).collect());
    }
    threads::run(thread_count, || parts.into_par_iter().map(one).collect())
}

/// Consecutive systems of about [`PORTION`] atoms.
fn portions(offsets: &[i64]) -> Vec<Range<usize>> {
    let mut portions = Vec::new();
    let mut start = 0;
    for k in 1..offsets.len() {
        let full = offsets[k] - offsets[start] >= PORTION as i64 || k - start >= PORTION;
        if full || k + 1 == offsets.len() {
            portions.push(start..k);
            start = k;
        }
    }
    portions
}

impl FoundBatch<'_> {
    #[must_use]
    pub fn count(&self) -> usize {
        self.portions.iter().map(|(_, (_, list))| list.count()).sum()
    }

    /// Fills the columns, which have [`FoundBatch::count`] places each. Returns the offsets of the
    /// systems in them.
    ///
    /// # Errors
    /// The threads are refused.
    pub fn write(self, columns: Columns, thread_count: Option<usize>) -> Result<Vec<i64>> {
        let (mut rest, mut place) = (columns, 0);
        let mut parts = Vec::with_capacity(self.portions.len());
        for (systems, work) in self.portions {
            let (start, count) = (place, work.1.count());
            let (mine, others) = rest.split(count);
            place += count;
            parts.push((systems, work, start, mine));
            rest = others;
        }
        let offsets = self.offsets;
        let write = |(systems, work, start, columns): (Range<usize>, Work, usize, Columns)| {
            let base = offsets[systems.start];
            let rows = work.1.write(base as usize, columns);
            keep(work);
            let end = |k: usize| (start + rows[(offsets[k + 1] - base) as usize]) as i64;
            systems.map(end).collect::<Vec<_>>()
        };
        let ends = each(parts, thread_count, write)?;
        Ok(std::iter::once(0).chain(ends.into_iter().flatten()).collect())
    }
}
