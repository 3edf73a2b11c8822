//! Cell lists: neighbours sought in the bins around each atom.

use multiversion::multiversion;
use multiversion::target::match_target;

use super::bins::Bins;
use super::images::Packing;
use super::look::{self, Block, LANES, RANKS, Seen, Sight};
use super::rows::Rows;
use super::scene::Scene;
use crate::cell;
use crate::error::Result;

/// Longer rows are sorted by comparing two keys at a time.
const RANKED: usize = 192;

#[derive(Default)]
pub struct Cells {
    bins: Bins,
    row: Row,
}

impl Cells {
    /// Bytes of memory, about.
    pub fn capacity(&self) -> usize {
        self.bins.capacity()
    }

    /// Adds the pairs of the scene.
    pub fn search(&mut self, scene: &Scene, rows: &mut Rows) -> Result<()> {
        let Self { bins, row } = self;
        if scene.points.is_empty() {
            rows.begin(scene, &[], Packing::default());
            return Ok(());
        }
        bins.set(scene)?;
        rows.begin(scene, bins.images.all(), bins.packing);
        seek_fast(bins, scene, row, rows)?;
        rows.check(scene, bins.images.all())
    }
}

/// As [`seek`] with what there is in [`look`] for this processor.
#[multiversion(targets("x86_64+avx2+bmi1+bmi2+lzcnt+popcnt"))]
fn seek_fast(bins: &Bins, scene: &Scene, row: &mut Row, rows: &mut Rows) -> Result<()> {
    match_target! {
        "x86_64+avx2+bmi1+bmi2+lzcnt+popcnt" => {
            // As closures, to be compiled for that processor too.
            let look = |block: &Block, sight: &Sight| look::avx2::look(block, sight);
            let rank = |keys: &[i32], of: &[i32; RANKS]| look::avx2::rank(keys, of);
            seek(bins, scene, row, rows, look, rank)
        }
        _ => seek(bins, scene, row, rows, look::look, look::rank),
    }
}

/// Finds the pairs of all atoms, bin by bin.
#[allow(clippy::inline_always)] // As a part of whom it is to be compiled for.
#[inline(always)]
fn seek(
    bins: &Bins,
    scene: &Scene,
    row: &mut Row,
    rows: &mut Rows,
    look: impl Fn(&Block, &Sight) -> Seen,
    rank: impl Fn(&[i32], &[i32; RANKS]) -> [i32; RANKS],
) -> Result<()> {
    let [xs, ys, zs] = bins.counts;
    for bin in (0..xs).flat_map(|x| (0..ys).flat_map(move |y| (0..zs).map(move |z| [x, y, z]))) {
        let flat = bins.flat(bin);
        row.blocks.clear();
        for place in bins.starts[flat] as usize..bins.starts[flat + 1] as usize {
            let (block, lane) = (&bins.blocks[place / LANES], place % LANES);
            let own = block.keys[lane];
            if !bins.packing.is_own(own) {
                continue;
            }
            if row.blocks.is_empty() {
                bins.around(bin, &mut row.blocks);
                row.hits.resize(row.blocks.len() * LANES + RANKS, 0);
            }
            let from = block.points.map(|component| component[lane]);
            let sight = Sight { from, far: bins.far, sure: bins.sure };
            let (mut count, mut doubt) = (0, 0);
            for &k in &row.blocks {
                let seen = look(&bins.blocks[k as usize], &sight);
                row.hits[count..count + LANES].copy_from_slice(&seen.keys);
                count += seen.count;
                doubt |= seen.doubt;
            }
            let atom = bins.packing.atom(own);
            if doubt != 0 {
                count = confirm(bins, scene, atom, &mut row.hits[..count]);
            }
            rows.push(atom, row.sorted(count, own, rows.once(), &rank))?;
        }
    }
    Ok(())
}

/// What was found around one atom.
#[derive(Default)]
struct Row {
    /// Blocks to look at.
    blocks: Vec<u32>,
    /// Keys within sight, in no order; then some more, to be written over.
    hits: Vec<i32>,
    sorted: Vec<i32>,
}

impl Row {
    /// The hits up to `count` in order, without the atom's `own` key, or without all up to that.
    #[allow(clippy::inline_always)]
    #[inline(always)]
    fn sorted(
        &mut self,
        count: usize,
        own: i32,
        once: bool,
        rank: impl Fn(&[i32], &[i32; RANKS]) -> [i32; RANKS],
    ) -> &[i32] {
        let mut left_out = 0;
        for key in &mut self.hits[..count] {
            let out = *key == own || once && *key < own;
            left_out += usize::from(out);
            // They come last.
            *key = if out { Packing::NO_KEY } else { *key };
        }
        self.sorted.resize(self.sorted.len().max(count + 1), 0);
        if count > RANKED {
            self.sorted[..count].copy_from_slice(&self.hits[..count]);
            self.sorted[..count].sort_unstable();
        } else {
            self.hits[count..count + RANKS].fill(Packing::NO_KEY);
            let (chunks, _) = self.hits[..count.next_multiple_of(RANKS)].as_chunks();
            for chunk in chunks {
                for (&key, rank) in chunk.iter().zip(rank(&self.hits[..count], chunk)) {
                    self.sorted[rank as usize] = key;
                }
            }
        }
        &self.sorted[..count - left_out]
    }
}

/// Brings the hits that are within the cutoff of atom i to the front, and returns how many.
#[cold]
fn confirm(bins: &Bins, scene: &Scene, i: usize, hits: &mut [i32]) -> usize {
    let mut count = 0;
    for place in 0..hits.len() {
        let key = hits[place];
        let (j, image) = (bins.packing.atom(key), &bins.images.all()[bins.packing.image(key)]);
        let vector = cell::plus(&cell::sub(&scene.points[j], &scene.points[i]), 1.0, &image.vector);
        if cell::dot(&vector, &vector) < scene.limit {
            hits[count] = key;
            count += 1;
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::super::{Algorithm, Quantities, Search};
    use super::*;
    use crate::cell::Vec3;
    use crate::random::Random;

    fn points(count: usize, edge: f64) -> Vec<Vec3> {
        let mut source = Random::new(3, 0);
        let mut random = || edge * source.uniform();
        (0..count).map(|_| [random(), random(), random()]).collect()
    }

    /// [`seek_fast`] and [`seek`] for any processor add the same rows.
    #[test]
    fn rows_are_the_same_on_any_processor() {
        let given = [[9.0, 0.0, 0.0], [3.0, 8.0, 0.0], [-7.0, 2.0, 11.0]];
        let positions = points(60, 14.0);
        for cutoff in [1.5, 4.0, 7.5] {
            for half in [false, true] {
                for periodic in [[true; 3], [true, false, true], [false; 3]] {
                    let search = Search { cutoff, half, algorithm: Algorithm::Cells, quantities: Quantities::ALL };
                    let mut scene = Scene::default();
                    scene.set(&positions, &given, periodic, cutoff).unwrap();
                    let mut bins = Bins::default();
                    bins.set(&scene).unwrap();
                    let [fast, portable] = [true, false].map(|fast| {
                        let (mut row, mut rows) = (Row::default(), Rows::default());
                        rows.set(&search);
                        rows.begin(&scene, bins.images.all(), bins.packing);
                        let sought = if fast {
                            seek_fast(&bins, &scene, &mut row, &mut rows)
                        } else {
                            seek(&bins, &scene, &mut row, &mut rows, look::look, look::rank)
                        };
                        sought.unwrap();
                        rows
                    });
                    assert!(fast.count() > 0);
                    assert!(fast.keys() == portable.keys());
                }
            }
        }
    }
}
