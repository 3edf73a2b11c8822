//! Gathering and batching of variable-size systems that lie one after the other in flat arrays.

use std::ops::Range;

use crate::error::{Error, Result};

/// More atoms (or padded places) than this in one batch are refused: 3.5 GB in single precision.
pub const MAX_ATOMS: usize = 1 << 28;

const OFFSETS_RISE: &str = "Offsets start at 0, never decrease, and end at the number of atoms";

/// The atoms of system `index`, checked against the total.
///
/// # Errors
/// The index is not a system, or its offsets decrease or leave the atoms.
pub fn atoms_of(offsets: &[i64], index: i64, atoms: usize) -> Result<Range<usize>> {
    let systems = offsets.len().saturating_sub(1);
    if index < 0 || index as usize >= systems {
        return Err(Error::argument(
            "indices",
            format!("lie in 0 to {systems} (exclusive), the number of systems"),
            index,
            "Negative indices do not count from the end",
        ));
    }
    let index = index as usize;
    let (start, stop) = (offsets[index], offsets[index + 1]);
    if start < 0 || stop < start || stop as usize > atoms {
        return Err(Error::entry(
            "offsets",
            index,
            format!("bound atoms within 0 to {atoms}"),
            format!("{start} to {stop}"),
            OFFSETS_RISE,
        ));
    }
    Ok(start as usize..stop as usize)
}

/// # Errors
/// The offsets do not start at 0, decrease, or do not end at the number of atoms.
pub fn check_offsets(offsets: &[i64], atoms: usize) -> Result<()> {
    let (Some(&first), Some(&last)) = (offsets.first(), offsets.last()) else {
        return Err(Error::argument("offsets", "have N + 1 entries", "none", OFFSETS_RISE));
    };
    if first != 0 || last != atoms as i64 {
        return Err(Error::argument(
            "offsets",
            format!("run from 0 to {atoms}, the number of atoms"),
            format!("{first} to {last}"),
            OFFSETS_RISE,
        ));
    }
    match offsets.windows(2).position(|pair| pair[1] < pair[0]) {
        None => Ok(()),
        Some(k) => {
            Err(Error::entry("offsets", k + 1, format!("be at least {}", offsets[k]), offsets[k + 1], OFFSETS_RISE))
        }
    }
}

/// # Errors
/// The two arrays are not equally long.
pub fn check_atoms(numbers: usize, positions: usize) -> Result<()> {
    if numbers == positions {
        return Ok(());
    }
    Err(Error::argument(
        "positions",
        format!("have one row for each of the {numbers} `numbers`"),
        positions,
        "Pass both arrays of the same pack",
    ))
}

/// # Errors
/// There is not one entry for each system.
pub fn check_systems(name: &'static str, length: usize, offsets: &[i64]) -> Result<()> {
    let systems = offsets.len().saturating_sub(1);
    if length == systems {
        return Ok(());
    }
    Err(Error::argument(
        name,
        format!("have one entry for each of the {systems} systems that `offsets` bounds"),
        length,
        "Pass all arrays of the same pack",
    ))
}

/// An empty vector with room for `each` entries for every one of `count` atoms.
fn reserved<T>(count: usize, each: usize) -> Result<Vec<T>> {
    let mut vector = Vec::new();
    if count > MAX_ATOMS || vector.try_reserve_exact(each * count).is_err() {
        return Err(Error::TooLarge {
            what: "atoms in one batch",
            got: count.to_string(),
            limit: MAX_ATOMS,
            remedy: "Gather fewer systems at a time",
        });
    }
    Ok(vector)
}

/// Chosen systems, packed.
#[derive(Debug, Clone, PartialEq)]
pub struct Packed<P> {
    pub numbers: Vec<u8>,
    /// Three for each atom.
    pub positions: Vec<P>,
    pub offsets: Vec<i64>,
}

/// The systems `indices`, in that order, packed anew.
///
/// # Errors
/// An index is not a system, offsets leave the atoms, or the batch exceeds [`MAX_ATOMS`].
pub fn gather<P: Copy>(offsets: &[i64], indices: &[i64], numbers: &[u8], positions: &[[P; 3]]) -> Result<Packed<P>> {
    check_atoms(numbers.len(), positions.len())?;
    let mut new_offsets = Vec::with_capacity(indices.len() + 1);
    let mut total = 0usize;
    new_offsets.push(0);
    for &index in indices {
        total = total.saturating_add(atoms_of(offsets, index, numbers.len())?.len());
        new_offsets.push(total as i64);
    }
    let mut new_numbers = reserved(total, 1)?;
    let mut new_positions = reserved(total, 3)?;
    for &index in indices {
        let atoms = atoms_of(offsets, index, numbers.len())?;
        new_numbers.extend_from_slice(&numbers[atoms.clone()]);
        new_positions.extend_from_slice(positions[atoms].as_flattened());
    }
    Ok(Packed { numbers: new_numbers, positions: new_positions, offsets: new_offsets })
}

/// Chosen systems, each padded with zeros to one width.
#[derive(Debug, Clone, PartialEq)]
pub struct Padded<P> {
    pub numbers: Vec<u8>,
    /// Three for each place.
    pub positions: Vec<P>,
    /// True where there is an atom.
    pub mask: Vec<bool>,
}

/// The systems `indices`, in that order, one row of `width` places each.
///
/// # Errors
/// As [`gather`]; a system is larger than the width.
pub fn gather_padded<P: Copy + Default>(
    offsets: &[i64],
    indices: &[i64],
    numbers: &[u8],
    positions: &[[P; 3]],
    width: usize,
) -> Result<Padded<P>> {
    check_atoms(numbers.len(), positions.len())?;
    let places = indices.len().saturating_mul(width);
    let mut new_numbers: Vec<u8> = reserved(places, 1)?;
    let mut mask: Vec<bool> = reserved(places, 1)?;
    let mut new_positions: Vec<P> = reserved(places, 3)?;
    for (row, &index) in indices.iter().enumerate() {
        let atoms = atoms_of(offsets, index, numbers.len())?;
        if atoms.len() > width {
            return Err(Error::argument(
                "width",
                format!("be at least {}, the size of system {index}", atoms.len()),
                width,
                "Use bucket_by_size to choose widths",
            ));
        }
        let (here, next) = (row * width + atoms.len(), (row + 1) * width);
        new_numbers.extend_from_slice(&numbers[atoms.clone()]);
        new_numbers.resize(next, 0);
        new_positions.extend_from_slice(positions[atoms].as_flattened());
        new_positions.resize(3 * next, P::default());
        mask.resize(here, true);
        mask.resize(next, false);
    }
    Ok(Padded { numbers: new_numbers, positions: new_positions, mask })
}

/// Cuts `order` into consecutive batches of at most `token_budget` atoms and `max_systems`
/// systems: batch k is `order[cuts[k]..cuts[k + 1]]`. Every system but an oversized one fits.
///
/// # Errors
/// A limit is not positive, a size is negative, an index is not a system, or one system alone
/// exceeds the budget.
pub fn plan_batches(sizes: &[i64], order: &[i64], token_budget: i64, max_systems: i64) -> Result<Vec<i64>> {
    for (name, limit) in [("token_budget", token_budget), ("max_systems", max_systems)] {
        if limit <= 0 {
            return Err(Error::argument(name, "be positive", limit, "Pass at least 1"));
        }
    }
    let mut cuts = vec![0];
    let (mut atoms, mut systems) = (0i64, 0i64);
    for (place, &index) in order.iter().enumerate() {
        let size = usize::try_from(index).ok().and_then(|k| sizes.get(k)).copied().ok_or_else(|| {
            Error::entry(
                "order",
                place,
                format!("lie in 0 to {} (exclusive), the number of `sizes`", sizes.len()),
                index,
                "Negative indices do not count from the end",
            )
        })?;
        if size < 0 || size > token_budget {
            return Err(Error::entry(
                "sizes",
                index as usize,
                format!("lie in 0 to the token budget of {token_budget} atoms"),
                size,
                "Raise token_budget or leave the system out",
            ));
        }
        // Both are at most token_budget here, so their sum is compared without overflow.
        if systems == max_systems || size > token_budget - atoms {
            cuts.push(place as i64);
            (atoms, systems) = (0, 0);
        }
        atoms += size;
        systems += 1;
    }
    if !order.is_empty() {
        cuts.push(order.len() as i64);
    }
    Ok(cuts)
}

/// For each width, in the order given, the indices of the systems whose smallest sufficient width
/// it is. Of equal widths the first takes all.
///
/// # Errors
/// A width or size is negative, or a system fits no width.
pub fn bucket_by_size(sizes: &[i64], widths: &[i64]) -> Result<Vec<Vec<i64>>> {
    if let Some(k) = widths.iter().position(|&width| width < 0) {
        return Err(Error::entry("widths", k, "be at least 0", widths[k], "Pass the widths in atoms"));
    }
    let mut ascending: Vec<usize> = (0..widths.len()).collect();
    ascending.sort_by_key(|&k| widths[k]);
    let mut buckets = vec![Vec::new(); widths.len()];
    for (index, &size) in sizes.iter().enumerate() {
        let fitting = ascending.partition_point(|&k| widths[k] < size);
        match ascending.get(fitting) {
            Some(&k) if size >= 0 => buckets[k].push(index as i64),
            _ => {
                let largest = ascending.last().map_or(-1, |&k| widths[k]);
                return Err(Error::entry(
                    "sizes",
                    index,
                    format!("lie in 0 to the largest of `widths`, {largest}"),
                    size,
                    "Add a width that is large enough or leave the system out",
                ));
            }
        }
    }
    Ok(buckets)
}
