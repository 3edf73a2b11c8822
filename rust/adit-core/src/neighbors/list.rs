//! What both algorithms found, system by system.

use super::half::Half;
use super::rows::Rows;
use super::{Columns, Search};

/// Pairs of systems one after the other.
#[derive(Default)]
pub struct List {
    parts: Vec<Part>,
    pub half: Half,
    pub rows: Rows,
}

/// Consecutive systems of one algorithm.
enum Part {
    /// By brute force: so many atoms.
    Half(usize),
    /// By bins: one system.
    Rows,
}

impl List {
    /// Makes an empty list of it.
    pub fn set(&mut self, search: &Search) {
        self.parts.clear();
        self.half.set(search);
        self.rows.set(search);
    }

    /// Notes that the next system comes by brute force.
    pub fn begin_half(&mut self, atoms: usize) {
        if let Some(Part::Half(count)) = self.parts.last_mut() {
            *count += atoms;
        } else {
            self.parts.push(Part::Half(atoms));
        }
    }

    /// Notes that the next system comes by bins.
    pub fn begin_rows(&mut self) {
        self.parts.push(Part::Rows);
    }

    /// Bytes of memory.
    pub fn capacity(&self) -> usize {
        self.half.capacity() + self.rows.capacity()
    }

    /// How many pairs will be written.
    pub fn count(&self) -> usize {
        self.half.count() + self.rows.count()
    }

    /// Writes all pairs, with the atoms counted from `base`, into columns of exactly their number.
    /// Returns where each row starts, and where the last ends.
    pub fn write(&self, base: usize, columns: Columns) -> Vec<usize> {
        let mut starts = vec![0];
        let (mut rest, mut half_rows, mut systems) = (columns, 0, 0);
        for part in &self.parts {
            let start = starts.last().copied().unwrap_or_default();
            let atoms = base + starts.len() - 1;
            match *part {
                Part::Half(count) => {
                    let rows = half_rows..half_rows + count;
                    let (mine, others) = rest.split(self.half.pairs(rows.clone()));
                    self.half.write(rows, atoms, mine, start, &mut starts);
                    (rest, half_rows) = (others, half_rows + count);
                }
                Part::Rows => {
                    let (mine, others) = rest.split(self.rows.pairs(systems));
                    self.rows.write(systems, atoms, mine, start, &mut starts);
                    (rest, systems) = (others, systems + 1);
                }
            }
        }
        starts
    }
}
