//! What a list consists of, and where it is written.

use std::ops::Range;

use super::half::Entry;
use super::too_large;
use crate::cell::Vec3;
use crate::error::Result;

/// A set of the columns of [`Pairs`]; the others stay empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quantities(u8);

impl Quantities {
    pub const NONE: Self = Self(0);
    pub const I: Self = Self(1);
    pub const J: Self = Self(2);
    pub const SHIFTS: Self = Self(4);
    pub const DISTANCES: Self = Self(8);
    pub const VECTORS: Self = Self(16);
    pub const ALL: Self = Self(31);

    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    #[must_use]
    pub fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// m pairs, sorted by (i, j, shift).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Pairs {
    pub i: Vec<i64>,
    pub j: Vec<i64>,
    /// Three for each pair, in units of the row vectors of the cell.
    pub shifts: Vec<i32>,
    pub distances: Vec<f64>,
    /// Three for each pair: `positions[j] + shift @ cell - positions[i]`.
    pub vectors: Vec<f64>,
}

impl Pairs {
    pub(super) fn zeros(count: usize, wanted: Quantities) -> Self {
        let length = |quantity: Quantities, each: usize| if wanted.has(quantity) { each * count } else { 0 };
        Self {
            i: vec![0; length(Quantities::I, 1)],
            j: vec![0; length(Quantities::J, 1)],
            shifts: vec![0; length(Quantities::SHIFTS, 3)],
            distances: vec![0.0; length(Quantities::DISTANCES, 1)],
            vectors: vec![0.0; length(Quantities::VECTORS, 3)],
        }
    }
}

/// Refuses a list that the memory does not hold, without ending the process.
pub(super) fn check_room(count: usize, limit: usize) -> Result<()> {
    let bytes = 8 * 2 + 4 * 3 + 8 + 8 * 3;
    if count > limit || count > 1 << 20 && Vec::<u8>::new().try_reserve_exact(bytes * count).is_err() {
        return Err(too_large("pairs of neighbours", count as f64, limit));
    }
    Ok(())
}

/// Where to write; `None` for what is not wanted.
#[derive(Default)]
pub struct Columns<'a> {
    pub i: Option<&'a mut [i64]>,
    pub j: Option<&'a mut [i64]>,
    pub shifts: Option<&'a mut [[i32; 3]]>,
    pub distances: Option<&'a mut [f64]>,
    pub vectors: Option<&'a mut [Vec3]>,
}

impl<'a> Columns<'a> {
    pub fn of(pairs: &'a mut Pairs, wanted: Quantities) -> Self {
        Self {
            i: wanted.has(Quantities::I).then_some(&mut pairs.i),
            j: wanted.has(Quantities::J).then_some(&mut pairs.j),
            shifts: wanted.has(Quantities::SHIFTS).then(|| pairs.shifts.as_chunks_mut().0),
            distances: wanted.has(Quantities::DISTANCES).then_some(&mut pairs.distances),
            vectors: wanted.has(Quantities::VECTORS).then(|| pairs.vectors.as_chunks_mut().0),
        }
    }

    /// Writes the first atom of a whole row, and its last pairs, all but their vectors. Their second
    /// atoms are counted from `from`.
    pub(super) fn put_row(&mut self, base: usize, i: usize, from: usize, row: Range<usize>, last: &[Entry]) {
        let own = row.end - last.len()..row.end;
        if let Some(column) = &mut self.i {
            column[row].fill((base + i) as i64);
        }
        if let Some(column) = &mut self.j {
            for (place, entry) in column[own.clone()].iter_mut().zip(last) {
                *place = (base + entry.j as usize - from) as i64;
            }
        }
        if let Some(column) = &mut self.shifts {
            for (place, entry) in column[own.clone()].iter_mut().zip(last) {
                *place = entry.shift;
            }
        }
        if let Some(column) = &mut self.distances {
            for (place, entry) in column[own].iter_mut().zip(last) {
                *place = entry.distance;
            }
        }
    }

    /// Writes a pair, all but its first atom and vector.
    #[inline]
    pub(super) fn put(&mut self, place: usize, j: usize, shift: [i32; 3], distance: f64) {
        if let Some(column) = &mut self.j {
            column[place] = j as i64;
        }
        if let Some(column) = &mut self.shifts {
            column[place] = shift;
        }
        if let Some(column) = &mut self.distances {
            column[place] = distance;
        }
    }

    /// The first `count` places of each column, and the rest.
    pub(super) fn split(self, count: usize) -> (Self, Self) {
        fn cut<T>(column: Option<&mut [T]>, count: usize) -> (Option<&mut [T]>, Option<&mut [T]>) {
            column.map(|column| column.split_at_mut(count)).unzip()
        }
        let (i, i_rest) = cut(self.i, count);
        let (j, j_rest) = cut(self.j, count);
        let (shifts, shifts_rest) = cut(self.shifts, count);
        let (distances, distances_rest) = cut(self.distances, count);
        let (vectors, vectors_rest) = cut(self.vectors, count);
        let first = Self { i, j, shifts, distances, vectors };
        (first, Self { i: i_rest, j: j_rest, shifts: shifts_rest, distances: distances_rest, vectors: vectors_rest })
    }
}
