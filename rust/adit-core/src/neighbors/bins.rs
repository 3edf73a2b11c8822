//! Atoms and their images, sorted into bins.

use super::images::{Images, Packing};
use super::look::{Block, EMPTY, LANES};
use super::scene::{Scene, largest};
use super::too_large;
use crate::cell::{self, Vec3, ceil, floor};
use crate::error::Result;

/// More atoms and images than this: each atom has more neighbours than may be.
const MAX_POINTS: usize = 1 << 28;
/// By how much single precision may be off, relative to the coordinates.
const SINGLE: f64 = 1e-6;
/// Where coordinates are larger than this, in units of the reach, single precision is of no use.
const COARSE: f64 = 1e9;
/// Bins along the last axis are so many times narrower than the cutoff: they cost little there.
const FINE: f64 = 4.0;
/// From so many atoms in a cube of one cutoff on, bins of half a cutoff pay for their overhead.
const DENSE: f64 = 40.0;

/// A column of bins along the last axis after the other.
#[derive(Default)]
pub struct Bins {
    pub images: Images,
    pub packing: Packing,
    pub counts: [usize; 3],
    /// By how many bins neighbours can be apart, by axis.
    apart: [usize; 3],
    /// Bin b owns the places from `starts[b]` up to `starts[b + 1]`. Each column begins a block, and
    /// the places before that are empty.
    pub starts: Vec<u32>,
    /// Places, [`LANES`] in each.
    pub blocks: Vec<Block>,
    /// Squared distances beyond and up to which a first look is sure: see [`Sight`].
    pub far: f32,
    pub sure: f32,
    /// Atoms and images, not yet sorted.
    points: Vec<Point>,
}

struct Point {
    bin: u32,
    key: i32,
    /// Position, in units of the reach.
    at: [f32; 3],
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

    /// Sorts the atoms of the scene into bins.
    pub fn set(&mut self, scene: &Scene) -> Result<()> {
        let reach = scene.frame.heights.map(|height| scene.reach / height);
        self.images.set(scene, reach);
        self.packing = Packing::of(scene.points.len(), self.images.all().len())?;
        let axes = self.divide(scene, reach)?;
        let unit = self.set_sight(scene);
        self.spread(scene, &axes, unit);
        self.sort();
        Ok(())
    }

    /// Chooses the bins: over the cell and what is within reach of it, or over the atoms.
    fn divide(&mut self, scene: &Scene, reach: Vec3) -> Result<[Axis; 3]> {
        let frame = &scene.frame;
        let (mut lows, mut highs) = (reach.map(|r| -r), reach.map(|r| 1.0 + r));
        for k in (0..3).filter(|&k| !frame.periodic[k]) {
            let along = scene.points.iter().map(|p| cell::dot(&frame.dual[k], p));
            (lows[k], highs[k]) = along.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), x| (l.min(x), h.max(x)));
        }
        let images: f64 = (0..3).filter(|&k| frame.periodic[k]).map(|k| 1.0 + 2.0 * reach[k]).product();
        let points = scene.points.len() as f64 * images;
        self.points.clear();
        if points > MAX_POINTS as f64 || self.points.try_reserve(points as usize).is_err() {
            return Err(too_large("atoms and images", points, MAX_POINTS));
        }
        let extents = std::array::from_fn(|k| (highs[k] - lows[k]) / reach[k]);
        self.counts = counts(extents, points);
        self.apart = std::array::from_fn(|k| {
            let bins = ceil(self.counts[k] as f64 / extents[k].max(f64::MIN_POSITIVE)) as usize;
            bins.clamp(1, self.counts[k])
        });
        Ok(std::array::from_fn(|k| {
            let (low, high, count) = (lows[k], highs[k], self.counts[k]);
            Axis { low, high, count, scale: count as f64 / (high - low).max(f64::MIN_POSITIVE) }
        }))
    }

    /// Lists the atoms and all their images that can be neighbours of others.
    fn spread(&mut self, scene: &Scene, axes: &[Axis; 3], unit: f64) {
        let (origin, most, images) = (scene.origin(), self.images.most(), self.images.all());
        for (atom, p) in scene.points.iter().enumerate() {
            let part: Vec3 = std::array::from_fn(|k| cell::dot(&scene.frame.dual[k], p));
            let steps: [_; 3] = std::array::from_fn(|k| {
                let (from, to) = (ceil(axes[k].low - part[k]), floor(axes[k].high - part[k]) as i64);
                if scene.frame.periodic[k] { from.max(-most[k])..=to.min(most[k]) } else { 0..=0 }
            });
            let p = cell::sub(p, &origin);
            for x in steps[0].clone() {
                let bin = axes[0].bin(part[0] + x as f64) * axes[1].count;
                for y in steps[1].clone() {
                    let bin = (bin + axes[1].bin(part[1] + y as f64)) * axes[2].count;
                    for z in steps[2].clone() {
                        let bin = (bin + axes[2].bin(part[2] + z as f64)) as u32;
                        let image = self.images.number([x, y, z]);
                        let at = cell::plus(&p, 1.0, &images[image].vector).map(|x| (x * unit) as f32);
                        self.points.push(Point { bin, key: self.packing.key(atom, image), at });
                    }
                }
            }
        }
    }

    /// Sets how far the first look is sure. Returns the factor to its units.
    fn set_sight(&mut self, scene: &Scene) -> f64 {
        let unit = 1.0 / scene.reach;
        let origin = scene.origin();
        let largest = largest(scene.points.iter().map(|p| cell::sub(p, &origin)))
            + largest(self.images.all().iter().map(|image| image.vector));
        if largest * unit > COARSE {
            // All at one place, and none of it sure.
            (self.far, self.sure) = (1.0, -1.0);
            return 0.0;
        }
        let error = SINGLE * (2.0 * largest * unit + 1.0);
        self.far = ((1.0 + error).powi(2) * (1.0 + SINGLE)) as f32;
        let sure = scene.limit.sqrt() * unit - error;
        self.sure = if sure > 0.0 { (sure.powi(2) * (1.0 - SINGLE)) as f32 } else { -1.0 };
        unit
    }

    /// Counting sort.
    fn sort(&mut self) {
        let bins = self.counts.iter().product::<usize>();
        self.starts.clear();
        self.starts.resize(bins + 1, 0);
        for point in &self.points {
            self.starts[point.bin as usize] += 1;
        }
        let mut sum = 0;
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

    pub fn flat(&self, [x, y, z]: [usize; 3]) -> usize {
        (x * self.counts[1] + y) * self.counts[2] + z
    }

    /// Lists the blocks around a bin.
    #[inline]
    pub fn around(&self, bin: [usize; 3], blocks: &mut Vec<u32>) {
        let [xs, ys, zs] =
            [0, 1, 2].map(|k| bin[k].saturating_sub(self.apart[k])..(bin[k] + self.apart[k] + 1).min(self.counts[k]));
        for x in xs {
            for y in ys.clone() {
                let first = self.starts[self.flat([x, y, zs.start])] / LANES as u32;
                let end = self.starts[self.flat([x, y, zs.end])].div_ceil(LANES as u32);
                // Mostly up to four, without a loop: what is too many is cut off.
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
