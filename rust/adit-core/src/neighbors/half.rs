//! The half list that both algorithms write, and the columns that are made of it.
//!
//! A full list needs no sorting: while the rows of the half list are gone through in order, the
//! mirror image of (i, j, S) joins row j behind those of all smaller i, as a counting sort would
//! put it; and when row i itself is reached, all its smaller partners are there.

use std::ops::Range;

use super::{Columns, MAX_PAIRS, Quantities, Search, too_large};
use crate::cell::Vec3;
use crate::error::{Error, Result};

#[derive(Clone, Copy)]
pub struct Entry {
    /// Second atom, counted from the start of the list.
    pub j: u32,
    pub shift: [i32; 3],
    pub distance: f64,
}

/// Pairs with i < j, or i = j and the first nonzero shift positive, sorted by (i, j, shift).
#[derive(Default)]
pub struct Half {
    /// Whether each pair will be written in one direction only.
    once: bool,
    with_vectors: bool,
    /// First atom of the system that is being added.
    base: usize,
    /// Its first entry.
    first: usize,
    /// Row i ends before `entries[ends[i]]`.
    ends: Vec<usize>,
    pub entries: Vec<Entry>,
    vectors: Vec<Vec3>,
    /// How many mirror images each row will have.
    mirrored: Vec<u32>,
}

impl Half {
    /// Makes an empty list of it.
    pub fn set(&mut self, search: &Search) {
        self.once = search.half;
        self.with_vectors = search.quantities.has(Quantities::VECTORS);
        self.ends.clear();
        self.entries.clear();
        self.vectors.clear();
        self.mirrored.clear();
    }

    /// Bytes of memory.
    pub fn capacity(&self) -> usize {
        12 * self.ends.capacity() + 24 * (self.entries.capacity() + self.vectors.capacity())
    }

    /// Begins the next system. No atom of another is within 2^31 of its own.
    pub fn begin(&mut self, atoms: usize) -> Result<()> {
        (self.base, self.first) = (self.ends.len(), self.entries.len());
        let room = self.ends.try_reserve(atoms).and_then(|()| self.mirrored.try_reserve(atoms));
        if self.base + atoms > i32::MAX as usize || room.is_err() {
            return Err(too_large("atoms", (self.base + atoms) as f64, i32::MAX as usize));
        }
        self.mirrored.resize(self.base + atoms, 0);
        Ok(())
    }

    /// Makes room for more pairs, and refuses a list that is too long.
    pub fn reserve(&mut self, more: usize) -> Result<()> {
        let count = (self.entries.len() - self.first + more) * if self.once { 1 } else { 2 };
        let room = self.entries.try_reserve(more);
        let room = room.and_then(|()| if self.with_vectors { self.vectors.try_reserve(more) } else { Ok(()) });
        if count > MAX_PAIRS || room.is_err() {
            return Err(too_large("pairs of neighbours", count as f64, MAX_PAIRS));
        }
        Ok(())
    }

    /// Adds a pair of the system to its row. There is room.
    #[inline]
    pub fn push(&mut self, i: usize, j: usize, shift: [i64; 3], squared: f64, vector: &Vec3) -> Result<()> {
        let narrow = shift.map(|s| s as i32);
        if narrow.map(i64::from) != shift {
            return Err(too_far(i, j, shift));
        }
        self.mirrored[self.base + j] += 1;
        self.entries.push(Entry { j: (self.base + j) as u32, shift: narrow, distance: squared.sqrt() });
        if self.with_vectors {
            self.vectors.push(*vector);
        }
        Ok(())
    }

    /// Sorts the images of equal pairs among the entries from `start`.
    pub fn sort_images(&mut self, start: usize) {
        let entries = &self.entries[start..];
        if entries.is_sorted_by_key(|entry| (entry.j, entry.shift)) {
            return;
        }
        let mut order: Vec<usize> = (0..entries.len()).collect();
        order.sort_unstable_by_key(|&k| (entries[k].j, entries[k].shift));
        let sorted: Vec<Entry> = order.iter().map(|&k| entries[k]).collect();
        self.entries[start..].copy_from_slice(&sorted);
        if self.with_vectors {
            let sorted: Vec<Vec3> = order.iter().map(|&k| self.vectors[start + k]).collect();
            self.vectors[start..].copy_from_slice(&sorted);
        }
    }

    pub fn end_row(&mut self) {
        self.ends.push(self.entries.len());
    }

    /// How many pairs will be written.
    pub fn count(&self) -> usize {
        self.entries.len() * if self.once { 1 } else { 2 }
    }

    /// Writes the pairs of some rows, with the first of them counted as atom `base`, into columns of
    /// exactly their number. Adds where each row ends, from `start`.
    pub fn write(&self, rows: Range<usize>, base: usize, mut columns: Columns, start: usize, ends: &mut Vec<usize>) {
        let part = Part { half: self, from: self.end_before(rows.start), rows };
        let starts = part.row_starts();
        // Where the next mirror image in each row goes.
        let mut next = if self.once { Vec::new() } else { starts.clone() };
        for (i, row) in part.rows().enumerate() {
            let entries = &self.entries[row];
            columns.put_row(base, i, part.rows.start, starts[i]..starts[i + 1], entries);
            if !self.once {
                // Backwards: so the mirror images of one atom's images are in the order of their shifts.
                for entry in entries.iter().rev() {
                    let place = &mut next[entry.j as usize - part.rows.start];
                    columns.put(*place, base + i, entry.shift.map(i32::wrapping_neg), entry.distance);
                    *place += 1;
                }
            }
        }
        if let Some(column) = columns.vectors {
            part.write_vectors(&starts, column);
        }
        ends.extend(starts[1..].iter().map(|end| start + end));
    }

    /// How many pairs of some rows will be written.
    pub fn pairs(&self, rows: Range<usize>) -> usize {
        (self.end_before(rows.end) - self.end_before(rows.start)) * if self.once { 1 } else { 2 }
    }

    fn end_before(&self, row: usize) -> usize {
        if row == 0 { 0 } else { self.ends[row - 1] }
    }
}

/// Whole systems, one after the other.
struct Part<'a> {
    half: &'a Half,
    rows: Range<usize>,
    /// First entry.
    from: usize,
}

impl Part<'_> {
    /// The entries of each row.
    fn rows(&self) -> impl Iterator<Item = Range<usize>> {
        let mut first = self.from;
        self.half.ends[self.rows.clone()].iter().map(move |&end| std::mem::replace(&mut first, end)..end)
    }

    fn write_vectors(&self, starts: &[usize], column: &mut [Vec3]) {
        let mut next = if self.half.once { Vec::new() } else { starts.to_vec() };
        for (i, row) in self.rows().enumerate() {
            let (entries, vectors) = (&self.half.entries[row.clone()], &self.half.vectors[row]);
            column[starts[i + 1] - vectors.len()..starts[i + 1]].copy_from_slice(vectors);
            if !self.half.once {
                for (entry, vector) in entries.iter().zip(vectors).rev() {
                    let place = &mut next[entry.j as usize - self.rows.start];
                    column[*place] = vector.map(|x| -x);
                    *place += 1;
                }
            }
        }
    }

    /// Where each row that will be written starts, and where the last ends.
    fn row_starts(&self) -> Vec<usize> {
        let mirrored = &self.half.mirrored[self.rows.clone()];
        let counts = self
            .rows()
            .zip(mirrored)
            .map(|(row, &mirrored)| row.len() + if self.half.once { 0 } else { mirrored as usize });
        let mut starts = Vec::with_capacity(self.rows.len() + 1);
        starts.push(0);
        let mut sum = 0;
        starts.extend(counts.map(|count| {
            sum += count;
            sum
        }));
        starts
    }
}

#[cold]
pub fn too_far(i: usize, j: usize, shift: [i64; 3]) -> Error {
    let s = shift.iter().find(|&&s| i32::try_from(s).is_err()).copied().unwrap_or_default();
    Error::entry(
        "positions",
        j,
        "lie within 2^31 cells of their neighbours",
        format!("a shift of {s} cells from atom {i}"),
        "Wrap the positions into the cell, or reduce the cell",
    )
}
