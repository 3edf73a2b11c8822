//! The lists that [`super::bins`] finds, and the columns that are made of them.

use std::ops::Range;

use multiversion::multiversion;

use super::half::too_far;
use super::images::{Image, Packing};
use super::scene::Scene;
use super::{Columns, MAX_PAIRS, Search, too_large};
use crate::cell::{self, Vec3};
use crate::error::Result;

/// A sum of three of these is within 2^31.
const NARROW: u64 = 1 << 29;

/// Whole rows of pairs: for each only its key, from which the columns are computed as they are written.
#[derive(Default)]
pub struct Rows {
    /// Whether each pair is to be listed in one direction only.
    once: bool,
    systems: Vec<System>,
    points: Vec<Vec3>,
    /// By how many cells each atom was moved, in units of the cell as given, modulo 2^32.
    turns: Vec<[i32; 3]>,
    images: Vec<Step>,
    /// Second atom and image of each pair; sorted within a row.
    keys: Vec<i32>,
    /// Row i is `keys[spans[i].0..spans[i].1]`; the rows come in any order.
    spans: Vec<(usize, usize)>,
}

struct System {
    atoms: Range<usize>,
    images: Range<usize>,
    packing: Packing,
    /// Place of its first key.
    first: usize,
    /// Whether any atom was moved.
    turned: bool,
    /// Whether shifts can be beyond 32 bits.
    wide: bool,
}

/// From the cell to one of its images.
struct Step {
    vector: Vec3,
    /// In units of the cell as given, modulo 2^32.
    shift: [i32; 3],
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

    pub fn once(&self) -> bool {
        self.once
    }

    /// Bytes of memory.
    pub fn capacity(&self) -> usize {
        4 * self.keys.capacity() + 52 * self.points.capacity() + 40 * self.images.capacity()
    }

    /// How many pairs will be written.
    pub fn count(&self) -> usize {
        self.keys.len()
    }

    #[cfg(test)]
    pub fn keys(&self) -> (&[i32], &[(usize, usize)]) {
        (&self.keys, &self.spans)
    }

    /// How many pairs of system number k.
    pub fn pairs(&self, k: usize) -> usize {
        self.systems.get(k + 1).map_or(self.keys.len(), |next| next.first) - self.systems[k].first
    }

    /// Begins the next system, without any pairs.
    pub fn begin(&mut self, scene: &Scene, images: &[Image], packing: Packing) {
        let (atoms, steps) = (self.points.len(), self.images.len());
        let mut largest = 0;
        let mut narrowed = |shift: [i64; 3]| {
            largest = shift.iter().fold(largest, |largest, s| largest.max(s.unsigned_abs()));
            shift.map(|s| s as i32)
        };
        self.points.extend_from_slice(&scene.points);
        self.turns.extend(scene.turns.iter().map(|&turns| narrowed(scene.original(turns))));
        let turned = scene.turns.iter().any(|&turns| turns != [0; 3]);
        self.images.extend(images.iter().map(|image| Step { vector: image.vector, shift: narrowed(image.shift) }));
        self.spans.resize(self.points.len(), (0, 0));
        let (atoms, images) = (atoms..self.points.len(), steps..self.images.len());
        let wide = largest > NARROW;
        self.systems.push(System { atoms, images, packing, first: self.keys.len(), turned, wide });
    }

    /// Adds the row of an atom of the last system: the keys of its neighbours, in order.
    #[inline]
    pub fn push(&mut self, atom: usize, sorted: &[i32]) -> Result<()> {
        let Some(system) = self.systems.last() else { return Ok(()) };
        let start = self.keys.len();
        let count = start - system.first + sorted.len();
        if count > MAX_PAIRS || self.keys.try_reserve(sorted.len()).is_err() {
            return Err(too_large("pairs of neighbours", count as f64, MAX_PAIRS));
        }
        self.keys.extend_from_slice(sorted);
        self.spans[system.atoms.start + atom] = (start, self.keys.len());
        Ok(())
    }

    /// Refuses shifts of the last system beyond 32 bits.
    pub fn check(&self, scene: &Scene, images: &[Image]) -> Result<()> {
        let Some(system) = self.systems.last().filter(|system| system.wide) else { return Ok(()) };
        for (i, &(first, end)) in self.spans[system.atoms.clone()].iter().enumerate() {
            for &key in self.keys[first..end].iter().filter(|&&key| key > system.packing.own(i)) {
                let (j, image) = (system.packing.atom(key), &images[system.packing.image(key)]);
                let (from, to) = (scene.original(scene.turns[i]), scene.original(scene.turns[j]));
                let shift = std::array::from_fn(|k| image.shift[k].saturating_add(from[k].saturating_sub(to[k])));
                if shift.map(|s| i64::from(s as i32)) != shift {
                    return Err(too_far(i, j, shift));
                }
            }
        }
        Ok(())
    }

    /// Writes the pairs of system number k, with its atoms counted from `base`, into columns of
    /// exactly their number. Adds where each row ends, from `start`.
    pub fn write(&self, k: usize, base: usize, mut columns: Columns, start: usize, ends: &mut Vec<usize>) {
        let System { atoms, images, packing, turned, .. } = &self.systems[k];
        let view = View {
            points: &self.points[atoms.clone()],
            turns: turned.then(|| &self.turns[atoms.clone()]),
            images: &self.images[images.clone()],
            packing: *packing,
            keys: &self.keys,
            spans: &self.spans[atoms.clone()],
        };
        write_fast(&view, base, &mut columns);
        let mut end = start;
        ends.extend(view.spans.iter().map(|(first, last)| {
            end += last - first;
            end
        }));
    }
}

/// One system.
struct View<'a> {
    points: &'a [Vec3],
    /// None where all are 0.
    turns: Option<&'a [[i32; 3]]>,
    images: &'a [Step],
    packing: Packing,
    keys: &'a [i32],
    spans: &'a [(usize, usize)],
}

/// As [`View::write`], with the best instructions that the processor has.
#[multiversion(targets("x86_64+avx2+bmi1+bmi2+lzcnt+popcnt"))]
fn write_fast(view: &View, base: usize, columns: &mut Columns) {
    view.write(base, columns);
}

#[allow(clippy::inline_always)] // Into [`write_fast`], to be compiled for that processor too.
impl View<'_> {
    /// Writes all rows.
    #[inline(always)]
    fn write(&self, base: usize, columns: &mut Columns) {
        let mut place = 0;
        for (i, &(first, end)) in self.spans.iter().enumerate() {
            let keys = &self.keys[first..end];
            self.write_row(base, i, keys, columns, place..place + keys.len());
            place += keys.len();
        }
    }

    #[inline(always)]
    fn write_row(&self, base: usize, i: usize, keys: &[i32], columns: &mut Columns, row: Range<usize>) {
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
            let column = &mut column[row.clone()];
            for (place, &key) in column.iter_mut().zip(keys) {
                *place = self.images[packing.image(key)].shift;
            }
            if let Some(turns) = self.turns {
                for (place, &key) in column.iter_mut().zip(keys) {
                    let (from, to) = (turns[i], turns[packing.atom(key)]);
                    *place = std::array::from_fn(|k| place[k].wrapping_add(from[k]).wrapping_sub(to[k]));
                }
            }
        }
        if let Some(column) = &mut columns.distances {
            let column = &mut column[row.clone()];
            for (place, &key) in column.iter_mut().zip(keys) {
                let vector = self.vector(i, packing.atom(key), packing.image(key));
                *place = cell::dot(&vector, &vector);
            }
            // For themselves: several at a time.
            for place in column {
                *place = place.sqrt();
            }
        }
        if let Some(column) = &mut columns.vectors {
            for (place, &key) in column[row].iter_mut().zip(keys) {
                let (j, image) = (packing.atom(key), packing.image(key));
                *place = if key > packing.own(i) {
                    self.vector(i, j, image)
                } else {
                    // The exact opposite, down to the sign of zeros.
                    self.vector(j, i, self.images.len() - 1 - image).map(|x| -x)
                };
            }
        }
    }

    #[inline(always)]
    fn vector(&self, i: usize, j: usize, image: usize) -> Vec3 {
        cell::plus(&cell::sub(&self.points[j], &self.points[i]), 1.0, &self.images[image].vector)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn write_portable(view: &View, base: usize, columns: &mut Columns) {
        view.write(base, columns);
    }

    /// What [`write_fast`] makes is what [`View::write`] makes on any processor.
    #[test]
    fn columns_are_the_same_on_any_processor() {
        let mut source = Random::new(5, 0);
        let mut random = |below: u64| (source.uniform() * below as f64) as u64;
        let points: Vec<Vec3> = (0..50).map(|_| [0; 3].map(|_: i32| random(1 << 30) as f64 * 1e-8 - 3.0)).collect();
        let turns: Vec<[i32; 3]> = (0..50).map(|_| [0; 3].map(|_: i32| random(9) as i32 - 4)).collect();
        let images: Vec<Step> =
            (-13..=13).map(|k| Step { vector: [f64::from(k), 0.3 * f64::from(k), 0.0], shift: [k, 0, -k] }).collect();
        let packing = Packing::of(50, 27).unwrap();
        let keys: Vec<i32> = (0..900).map(|_| packing.key(random(50) as usize, random(27) as usize)).collect();
        let spans: Vec<(usize, usize)> = (0..50).rev().map(|k| (18 * k, 18 * (k + 1))).collect();
        for turns in [None, Some(&turns[..])] {
            let view = View { points: &points, turns, images: &images, packing, keys: &keys, spans: &spans };
            let written = |write: fn(&View, usize, &mut Columns)| {
                let (mut i, mut j, mut shifts) = (vec![0; 900], vec![0; 900], vec![[0; 3]; 900]);
                let (mut distances, mut vectors) = (vec![0.0; 900], vec![[0.0; 3]; 900]);
                write(
                    &view,
                    7,
                    &mut Columns {
                        i: Some(&mut i),
                        j: Some(&mut j),
                        shifts: Some(&mut shifts),
                        distances: Some(&mut distances),
                        vectors: Some(&mut vectors),
                    },
                );
                let distances: Vec<u64> = distances.into_iter().map(f64::to_bits).collect();
                (i, j, shifts, distances, vectors.concat().into_iter().map(f64::to_bits).collect::<Vec<_>>())
            };
            assert!(written(write_fast) == written(write_portable));
        }
    }
}
