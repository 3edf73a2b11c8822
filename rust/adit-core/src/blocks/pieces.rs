//! Systems dealt out to threads.

use std::ops::Range;

use crate::error::{Error, Result};

/// Below this many tokens a second thread costs more than it brings.
pub const FEW: usize = 64;

/// Checks offsets such as of a pack: 0, then never falling.
pub fn check(offsets: &[i32]) -> Result<()> {
    let falls = offsets.windows(2).position(|pair| pair[1] < pair[0]);
    if offsets.first() == Some(&0) && falls.is_none() {
        return Ok(());
    }
    let got = falls.map_or_else(|| format!("{:?} at first", offsets.first()), |k| format!("less after entry {k}"));
    Err(Error::argument("offsets", "begin with 0 and never fall", got, "Pass the offsets of a packing"))
}

/// Checks that an array has so many entries.
pub fn check_length(argument: &'static str, found: usize, expected: usize) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::argument(
        argument,
        format!("have {expected} entries"),
        found,
        "Pass arrays of one packing and one width",
    ))
}

/// Ranges of systems with about as many tokens each, at most `threads`; no tokens, no ranges.
pub fn ranges(offsets: &[i32], threads: usize) -> Vec<Range<usize>> {
    let (systems, tokens) = (offsets.len() - 1, offsets[offsets.len() - 1] as usize);
    let count = threads.min(tokens.div_ceil(FEW));
    let mut out: Vec<Range<usize>> = Vec::with_capacity(count);
    let mut start = 0;
    for k in 1..=count {
        let share = (tokens * k).div_ceil(count) as i32;
        let end =
            if k == count { systems } else { offsets.partition_point(|&offset| offset < share).clamp(start, systems) };
        if end > start {
            out.push(start..end);
        }
        start = end;
    }
    out
}

/// One slice for each range: `width` values of each of its tokens.
pub fn split<'a, T>(
    mut values: &'a mut [T],
    ranges: &[Range<usize>],
    offsets: &[i32],
    width: usize,
) -> Vec<&'a mut [T]> {
    ranges
        .iter()
        .map(|range| {
            let tokens = (offsets[range.end] - offsets[range.start]) as usize;
            values.split_off_mut(..tokens * width).unwrap_or_default()
        })
        .collect()
}
