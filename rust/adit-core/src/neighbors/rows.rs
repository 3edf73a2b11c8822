//! The lists that [`super::bins`] finds, and the columns that are made of them.

use std::ops::Range;

use super::half::too_far;
use super::images::{Image, Images};
use super::scene::Scene;
use super::{Columns, MAX_PAIRS, Search, too_large};
use crate::cell::{self, Vec3};
use crate::error::Result;

/// A sum of four of these is within 2^31.
const NARROW: u64 = 1 << 29;

/// Whole rows of pairs: of each system the keys, and what it takes to make pairs of them.
#[derive(Default)]
pub struct Rows {
    /// Whether each pair is to be listed in one direction only.
    once: bool,
    systems: Vec<System>,
    points: Vec<Vec3>,
    /// By how many cells each atom was moved, in units of the cell as given, modulo 2^32.
    turns: Vec<[i32; 3]>,
    images: Vec<Place>,
    /// Second atom and image of each pair; sorted within a row.
    keys: Vec<i32>,
    /// Row i is `keys[spans[i].0..spans[i].1]`.
    spans: Vec<(usize, usize)>,
}

struct Place {
    vector: Vec3,
    /// In units of the cell as given, modulo 2^32.
    shift: [i32; 3],
}

struct System {
    atoms: Range<usize>,
    images: Range<usize>,
    packing: Packing,
    /// Place of its first key.
    first: usize,
    /// Whether no shift can be beyond 32 bits.
    narrow: bool,
}

/// Atom and image in one number.
#[derive(Clone, Copy, Default)]
pub struct Packing {
    bits: u32,
    home: i32,
}

impl Packing {
    /// # Errors
    /// There are too many atoms and images for 31 bits.
    pub fn new(atoms: usize, images: &Images) -> Result<Self> {
        let count = images.all().len();
        let bits = count.next_power_of_two().trailing_zeros();
        // More than 2^26 atoms or images: each atom would have about as many neighbours as images.
        if atoms > i32::MAX as usize >> bits {
            return Err(too_large("atoms and images", atoms as f64 * count as f64, i32::MAX as usize));
        }
        Ok(Self { bits, home: images.home() as i32 })
    }

    #[inline]
    pub fn key(self, atom: usize, image: usize) -> i32 {
        (atom << self.bits | image) as i32
    }

    /// The key of an atom in the cell itself.
    #[inline]
    pub fn own(self, atom: usize) -> i32 {
        self.key(atom, self.home as usize)
    }

    #[inline]
    pub fn is_own(self, key: i32) -> bool {
        key >= 0 && self.image(key) == self.home as usize
    }

    #[inline]
    pub fn atom(self, key: i32) -> usize {
        (key >> self.bits) as usize
    }

    #[inline]
    pub fn image(self, key: i32) -> usize {
        key as usize & !(usize::MAX << self.bits)
    }
}

impl Rows {
    /// Makes an empty list of it.
    pub fn set(&mut self, search: &Search) {
        self.once = search.half;
        self.systems.clear();
        self.points.clear();
        self.turns.clear();
        self.images.clear();
        self.keys.clear();
        self.spans.clear();
    }

    /// Bytes kept for the next list.
    pub fn capacity(&self) -> usize {
        4 * self.keys.capacity() + 52 * self.points.capacity() + 40 * self.images.capacity()
    }

    pub fn count(&self) -> usize {
        self.keys.len()
    }

    /// Begins the next system, without any pairs.
    pub fn begin(&mut self, scene: &Scene, images: &[Image], packing: Packing) -> Result<()> {
        let atoms = self.points.len()..self.points.len() + scene.points.len();
        if self.points.try_reserve(atoms.len()).is_err() || self.images.try_reserve(images.len()).is_err() {
            return Err(too_large("atoms and images", (atoms.len() + images.len()) as f64, i32::MAX as usize));
        }
        self.points.extend_from_slice(&scene.points);
        let turns = scene.turns.iter().map(|&turns| scene.original(turns));
        let mut largest = 0;
        for turn in turns {
            largest = turn.iter().fold(largest, |largest, t| largest.max(t.unsigned_abs()));
            self.turns.push(turn.map(|t| t as i32));
        }
        let from = self.images.len();
        for image in images {
            largest = image.shift.iter().fold(largest, |largest, s| largest.max(s.unsigned_abs()));
            self.images.push(Place { vector: image.vector, shift: image.shift.map(|s| s as i32) });
        }
        self.spans.resize(atoms.end, (0, 0));
        self.systems.push(System {
            atoms,
            images: from..self.images.len(),
            packing,
            first: self.keys.len(),
            narrow: largest <= NARROW,
        });
        Ok(())
    }

    /// Adds the row of an atom of the last system: its own key, and those of its neighbours, in order.
    #[inline]
    pub fn push(&mut self, atom: usize, sorted: &[i32]) -> Result<()> {
        let Some(system) = self.systems.last() else { return Ok(()) };
        let start = self.keys.len();
        let own = sorted.partition_point(|&key| key < system.packing.own(atom));
        if sorted.len() + start - system.first > MAX_PAIRS || self.keys.try_reserve(sorted.len()).is_err() {
            return Err(too_large("pairs of neighbours", (sorted.len() + start - system.first) as f64, MAX_PAIRS));
        }
        if !self.once {
            self.keys.extend_from_slice(&sorted[..own]);
        }
        self.keys.extend_from_slice(&sorted[own + 1..]);
        self.spans[system.atoms.start + atom] = (start, self.keys.len());
        Ok(())
    }

    /// Refuses shifts of the last system beyond 32 bits.
    pub fn check(&self, scene: &Scene, images: &[Image]) -> Result<()> {
        let Some(system) = self.systems.last().filter(|system| !system.narrow) else { return Ok(()) };
        for (i, &(start, end)) in self.spans[system.atoms.clone()].iter().enumerate() {
            let row = self.keys[start..end].iter().filter(|&&key| key > system.packing.own(i));
            for &key in row {
                let (j, image) = (system.packing.atom(key), &images[system.packing.image(key)]);
                let (from, to) = (scene.original(scene.turns[i]), scene.original(scene.turns[j]));
                let shift: [i64; 3] =
                    std::array::from_fn(|k| image.shift[k].saturating_add(from[k].saturating_sub(to[k])));
                if shift.iter().any(|&s| i32::try_from(s).is_err()) {
                    return Err(too_far(i, j, shift));
                }
            }
        }
        Ok(())
    }

    /// Writes the pairs of system number k, with its atoms counted from `base`, into columns of
    /// exactly their number. Adds where each row ends, from `start`.
    pub fn write(&self, k: usize, base: usize, mut columns: Columns, start: usize, ends: &mut Vec<usize>) {
        let system = &self.systems[k];
        let sight = Sight {
            points: &self.points[system.atoms.clone()],
            turns: &self.turns[system.atoms.clone()],
            images: &self.images[system.images.clone()],
            packing: system.packing,
        };
        let mut place = 0;
        for (i, &(first, end)) in self.spans[system.atoms.clone()].iter().enumerate() {
            let keys = &self.keys[first..end];
            sight.write(base, i, keys, &mut columns, place);
            place += keys.len();
            ends.push(start + place);
        }
    }

    pub fn pairs(&self, k: usize) -> usize {
        let end = self.systems.get(k + 1).map_or(self.keys.len(), |next| next.first);
        end - self.systems[k].first
    }
}

/// One system.
struct Sight<'a> {
    points: &'a [Vec3],
    turns: &'a [[i32; 3]],
    images: &'a [Place],
    packing: Packing,
}

impl Sight<'_> {
    /// Writes the row of atom i.
    #[inline]
    fn write(&self, base: usize, i: usize, keys: &[i32], columns: &mut Columns, place: usize) {
        let row = place..place + keys.len();
        let packing = self.packing;
        if let Some(column) = &mut columns.i {
            column[row.clone()].fill((base + i) as i64);
        }
        if let Some(column) = &mut columns.j {
            for (place, &key) in column[row.clone()].iter_mut().zip(keys) {
                *place = (base + packing.atom(key)) as i64;
            }
        }
        if let Some(column) = &mut columns.shifts {
            let from = self.turns[i];
            for (place, &key) in column[row.clone()].iter_mut().zip(keys) {
                let (image, to) = (self.images[packing.image(key)].shift, self.turns[packing.atom(key)]);
                *place = std::array::from_fn(|k| image[k].wrapping_add(from[k]).wrapping_sub(to[k]));
            }
        }
        if let Some(column) = &mut columns.distances {
            let column = &mut column[row.clone()];
            for (place, &key) in column.iter_mut().zip(keys) {
                let vector = self.vector(i, key);
                *place = cell::dot(&vector, &vector);
            }
            for place in column {
                *place = place.sqrt();
            }
        }
        if let Some(column) = &mut columns.vectors {
            for (place, &key) in column[row].iter_mut().zip(keys) {
                *place = self.directed(i, key);
            }
        }
    }

    #[inline]
    fn vector(&self, i: usize, key: i32) -> Vec3 {
        let (j, image) = (self.packing.atom(key), &self.images[self.packing.image(key)]);
        cell::plus(&cell::sub(&self.points[j], &self.points[i]), 1.0, &image.vector)
    }

    /// As [`Sight::vector`]; the mirror images exact opposites, down to the sign of zeros.
    #[inline]
    fn directed(&self, i: usize, key: i32) -> Vec3 {
        if key > self.packing.own(i) {
            return self.vector(i, key);
        }
        let opposite = self.images.len() - 1 - self.packing.image(key);
        self.vector_from(self.packing.atom(key), i, opposite).map(|x| -x)
    }

    #[inline]
    fn vector_from(&self, i: usize, j: usize, image: usize) -> Vec3 {
        cell::plus(&cell::sub(&self.points[j], &self.points[i]), 1.0, &self.images[image].vector)
    }
}
