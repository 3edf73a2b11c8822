//! Cell lists: atoms and their images sorted into bins, neighbours sought in the bins around.

use multiversion::multiversion;
use multiversion::target::match_target;

use super::images::Images;
use super::look::{self, Block, EMPTY, LANES, RANKS, Seen, Sight};
use super::rows::{Packing, Rows};
use super::scene::Scene;
use crate::cell::{self, Vec3, ceil, floor};
use crate::error::Result;

/// By how much single precision may be off, relative to the coordinates.
const SINGLE: f64 = 1e-6;
/// Where coordinates are larger than this, in units of the reach, single precision is of no use.
const COARSE: f64 = 1e9;
/// Bins along the last axis are so many times narrower than the cutoff: they cost little there.
const FINE: f64 = 6.0;
/// From so many atoms in a cube of one cutoff on, bins of half a cutoff pay for their overhead.
const DENSE: f64 = 40.0;
/// Longer rows are sorted by comparing two keys at a time.
const RANKED: usize = 96;

/// Atoms and images in bins, a column of bins along the last axis after the other.
#[derive(Default)]
pub struct Bins {
    images: Images,
    packing: Packing,
    counts: [usize; 3],
    /// By how many bins neighbours can be apart, by axis.
    apart: [usize; 3],
    /// Bin b owns the places from `starts[b]` up to `starts[b + 1]`. Each column begins a block, and
    /// the places before that are empty.
    starts: Vec<u32>,
    /// Places, [`LANES`] in each.
    blocks: Vec<Block>,
    far: f32,
    sure: f32,
    /// Atoms and images in the order of the atoms.
    points: Vec<Point>,
    row: Row,
}

struct Point {
    bin: u32,
    key: i32,
    at: [f32; 3],
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

/// The bins along one axis, of fractional coordinates.
struct Axis {
    low: f64,
    high: f64,
    count: usize,
    scale: f64,
}

impl Axis {
    #[inline]
    fn bin(&self, x: f64) -> usize {
        (((x - self.low) * self.scale) as usize).min(self.count - 1)
    }
}

impl Bins {
    /// Bytes of memory, about.
    pub fn capacity(&self) -> usize {
        4 * self.starts.capacity() + 128 * self.blocks.capacity() + 20 * self.points.capacity()
    }

    /// Adds the pairs of the scene.
    pub fn search(&mut self, scene: &Scene, rows: &mut Rows) -> Result<()> {
        let reach = scene.frame.heights.map(|height| scene.reach / height);
        self.images.set(scene, reach);
        self.packing = Packing::new(scene.points.len(), &self.images)?;
        rows.begin(scene, self.images.all(), self.packing)?;
        if scene.points.is_empty() {
            return Ok(());
        }
        self.set(scene, reach);
        let mut row = std::mem::take(&mut self.row);
        let found = seek_fast(self, scene, &mut row, rows);
        self.row = row;
        found?;
        rows.check(scene, self.images.all())
    }

    fn set(&mut self, scene: &Scene, reach: Vec3) {
        let frame = &scene.frame;
        let (mut lows, mut highs) = (reach.map(|r| -r), reach.map(|r| 1.0 + r));
        for k in (0..3).filter(|&k| !frame.periodic[k]) {
            let along = scene.points.iter().map(|p| cell::dot(&frame.dual[k], p));
            (lows[k], highs[k]) = along.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), x| (l.min(x), h.max(x)));
        }
        let extents = std::array::from_fn(|k| (highs[k] - lows[k]) / reach[k]);
        let images: f64 = (0..3).filter(|&k| frame.periodic[k]).map(|k| 1.0 + 2.0 * reach[k]).product();
        self.counts = counts(extents, scene.points.len() as f64 * images);
        self.apart = std::array::from_fn(|k| {
            let bins = ceil(self.counts[k] as f64 / extents[k].max(f64::MIN_POSITIVE)) as usize;
            bins.clamp(1, self.counts[k])
        });
        let axes = std::array::from_fn(|k| {
            let (low, high, count) = (lows[k], highs[k], self.counts[k]);
            Axis { low, high, count, scale: count as f64 / (high - low).max(f64::MIN_POSITIVE) }
        });
        self.spread(scene, &axes);
        self.sort();
    }

    /// Lists the atoms and all their images that can be neighbours of others.
    fn spread(&mut self, scene: &Scene, axes: &[Axis; 3]) {
        let (frame, images) = (&scene.frame, self.images.all());
        let origin = scene.points[0];
        let largest = |vectors: &mut dyn Iterator<Item = Vec3>| {
            vectors.fold(0.0_f64, |largest, v| v.iter().fold(largest, |largest, x| largest.max(x.abs())))
        };
        let largest = largest(&mut scene.points.iter().map(|p| cell::sub(p, &origin)))
            + largest(&mut images.iter().map(|image| image.vector));
        let mut unit = 1.0 / scene.reach;
        let error = SINGLE * (2.0 * largest * unit + 1.0);
        self.far = ((1.0 + error).powi(2) * (1.0 + SINGLE)) as f32;
        let sure = scene.limit.sqrt() * unit - error;
        self.sure = if sure > 0.0 { (sure.powi(2) * (1.0 - SINGLE)) as f32 } else { -1.0 };
        if largest * unit > COARSE {
            (unit, self.far, self.sure) = (0.0, 1.0, -1.0);
        }
        self.points.clear();
        let most = self.images.most();
        for (atom, p) in scene.points.iter().enumerate() {
            let part: Vec3 = std::array::from_fn(|k| cell::dot(&frame.dual[k], p));
            let steps: [_; 3] = std::array::from_fn(|k| {
                let (from, to) = (ceil(axes[k].low - part[k]), floor(axes[k].high - part[k]) as i64);
                if frame.periodic[k] { from.max(-most[k])..=to.min(most[k]) } else { 0..=0 }
            });
            for x in steps[0].clone() {
                let bin = axes[0].bin(part[0] + x as f64) * axes[1].count;
                for y in steps[1].clone() {
                    let bin = (bin + axes[1].bin(part[1] + y as f64)) * axes[2].count;
                    for z in steps[2].clone() {
                        let bin = (bin + axes[2].bin(part[2] + z as f64)) as u32;
                        let image = self.images.number([x, y, z]);
                        let at = cell::plus(&cell::sub(p, &origin), 1.0, &images[image].vector);
                        let at = at.map(|x| (x * unit) as f32);
                        self.points.push(Point { bin, key: self.packing.key(atom, image), at });
                    }
                }
            }
        }
    }

    /// Counting sort.
    fn sort(&mut self) {
        let bins = self.counts.iter().product::<usize>();
        self.starts.clear();
        self.starts.resize(bins + 1, 0);
        for point in &self.points {
            self.starts[point.bin as usize] += 1;
        }
        let mut sum = 0_u32;
        for column in self.starts[..bins].chunks_mut(self.counts[2]) {
            for start in column {
                sum += *start;
                *start = sum;
            }
            sum = sum.next_multiple_of(LANES as u32);
        }
        self.starts[bins] = sum;
        self.blocks.clear();
        self.blocks.resize(sum as usize / LANES, EMPTY);
        // From the back: each start moves down to where its bin begins.
        for point in self.points.iter().rev() {
            let start = &mut self.starts[point.bin as usize];
            *start -= 1;
            let (block, lane) = (&mut self.blocks[*start as usize / LANES], *start as usize % LANES);
            block.keys[lane] = point.key;
            for (component, x) in block.points.iter_mut().zip(point.at) {
                component[lane] = x;
            }
        }
    }

    fn flat(&self, x: usize, y: usize, z: usize) -> usize {
        (x * self.counts[1] + y) * self.counts[2] + z
    }

    /// Lists the blocks around a bin.
    #[inline(always)]
    fn around(&self, bin: [usize; 3], blocks: &mut Vec<u32>) {
        let [xs, ys, zs] =
            [0, 1, 2].map(|k| bin[k].saturating_sub(self.apart[k])..(bin[k] + self.apart[k] + 1).min(self.counts[k]));
        blocks.clear();
        for x in xs {
            for y in ys.clone() {
                let first = self.starts[self.flat(x, y, zs.start)] / LANES as u32;
                let end = self.starts[self.flat(x, y, zs.end)].div_ceil(LANES as u32);
                // Mostly fewer than four, without a branch: what is too many is cut off.
                blocks.extend_from_slice(&[first, first + 1, first + 2, first + 3]);
                if end - first <= 4 {
                    blocks.truncate(blocks.len() - 4 + (end - first) as usize);
                } else {
                    blocks.extend(first + 4..end);
                }
            }
        }
    }
}

/// As [`seek`], with the best instructions that the processor has.
#[multiversion(targets("x86_64+avx2+bmi1+bmi2+lzcnt+popcnt"))]
fn seek_fast(bins: &Bins, scene: &Scene, row: &mut Row, rows: &mut Rows) -> Result<()> {
    match_target! {
        "x86_64+avx2+bmi1+bmi2+lzcnt+popcnt" => seek(
            bins, scene, row, rows,
            |block, sight| look::avx2::look(block, sight),
            |keys, of| look::avx2::rank(keys, of),
        ),
        _ => seek(bins, scene, row, rows, look::look, look::rank),
    }
}

/// Finds the pairs of all atoms, bin by bin.
#[inline(always)]
fn seek(
    bins: &Bins,
    scene: &Scene,
    row: &mut Row,
    rows: &mut Rows,
    look: impl Fn(&Block, &Sight) -> Seen,
    rank: impl Fn(&[i32], &[i32; RANKS]) -> [i32; RANKS],
) -> Result<()> {
    for x in 0..bins.counts[0] {
        for y in 0..bins.counts[1] {
            for z in 0..bins.counts[2] {
                let bin = bins.flat(x, y, z);
                let places = bins.starts[bin] as usize..bins.starts[bin + 1] as usize;
                row.blocks.clear();
                for place in places {
                    let (block, lane) = (&bins.blocks[place / LANES], place % LANES);
                    let own = block.keys[lane];
                    if !bins.packing.is_own(own) {
                        continue;
                    }
                    if row.blocks.is_empty() {
                        bins.around([x, y, z], &mut row.blocks);
                        row.hits.resize((row.blocks.len() + 3) * LANES, 0);
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
                        count = bins.confirm(scene, atom, &mut row.hits[..count]);
                    }
                    row.sort(count, &rank);
                    rows.push(atom, &row.sorted[..count])?;
                }
            }
        }
    }
    Ok(())
}

impl Bins {
    /// Brings those that are within the cutoff to the front, and returns how many.
    #[cold]
    fn confirm(&self, scene: &Scene, i: usize, hits: &mut [i32]) -> usize {
        let mut count = 0;
        for place in 0..hits.len() {
            let key = hits[place];
            let (j, image) = (self.packing.atom(key), &self.images.all()[self.packing.image(key)]);
            let vector = cell::plus(&cell::sub(&scene.points[j], &scene.points[i]), 1.0, &image.vector);
            if cell::dot(&vector, &vector) < scene.limit {
                hits[count] = key;
                count += 1;
            }
        }
        count
    }
}

impl Row {
    /// Sorts the hits up to `count`; there is room for a block more.
    #[inline(always)]
    fn sort(&mut self, count: usize, rank: impl Fn(&[i32], &[i32; RANKS]) -> [i32; RANKS]) {
        if count > RANKED {
            self.sorted.clear();
            self.sorted.extend_from_slice(&self.hits[..count]);
            self.sorted.sort_unstable();
            return;
        }
        self.hits[count..count + RANKS].fill(i32::MAX);
        // The last place is for those.
        self.sorted.resize(RANKED.max(count) + 1, 0);
        let (keys, _) = self.hits[..count.next_multiple_of(RANKS)].as_chunks::<RANKS>();
        for chunk in keys {
            let ranks = rank(&self.hits[..count], chunk);
            for (&key, rank) in chunk.iter().zip(ranks) {
                self.sorted[rank as usize] = key;
            }
        }
    }
}

/// Bins about as wide as the reach or less, but not many more bins than points. Extents are in units
/// of the reach.
fn counts(extents: Vec3, points: f64) -> [usize; 3] {
    let volume = extents.iter().map(|&extent| extent.max(1.0)).product::<f64>();
    let across = if points / volume < DENSE { 1.0 } else { 2.0 };
    let divisors = [across, across, FINE];
    // Not quite: so that rounding makes none narrower.
    let mut counts: Vec3 = std::array::from_fn(|k| floor(extents[k] * divisors[k] * (1.0 - 1e-12)).max(1.0));
    let limit = 4.0 * points + 64.0;
    while counts.iter().product::<f64>() > limit {
        let largest = (1..3).fold(0, |best, k| if counts[k] > counts[best] { k } else { best });
        counts[largest] = floor(0.5 * counts[largest] + 0.5);
    }
    counts.map(|count| count as usize)
}
