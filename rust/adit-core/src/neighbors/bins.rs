//! Cell lists: atoms sorted into bins, neighbours sought in the bins around.

use std::ops::Range;

use wide::{f32x8, i32x8};

use super::half::Half;
use super::scene::{self, Scene};
use crate::cell::{self, Vec3};
use crate::error::Result;

/// Distances are computed for so many atoms at a time.
const LANES: usize = 8;
/// By how much single precision may be off, relative to the coordinates.
const SINGLE: f64 = 1e-6;
/// Bins along the last axis are so many times narrower than the cutoff: they cost little there.
const FINE: f64 = 6.0;
/// From so many atoms in a cube of one cutoff on, bins of half a cutoff pay for their overhead.
const DENSE: f64 = 40.0;

/// Bins of the frame, with the atoms moved into it.
#[derive(Default)]
pub struct Bins {
    counts: [i64; 3],
    /// Neighbouring bins of each bin, by axis.
    runs: [Runs; 3],
    /// Bin of each atom, by atom.
    home: Vec<[u32; 3]>,
    /// Bin b owns places `starts[b]..starts[b + 1]`; the last axis runs fastest.
    starts: Vec<u32>,
    /// Atom at each place.
    atoms: Vec<i32>,
    /// Its position, by component, from `origin`; then [`LANES`] more, to be read and not used.
    points: [Vec<f32>; 3],
    origin: Vec3,
    /// A squared distance beyond this, in single precision, is surely beyond the cutoff.
    limit: f32,
    row: Row,
}

/// Neighbouring bins `first..=last` of one axis that lie in one periodic image.
#[derive(Clone, Copy)]
struct Run {
    first: i64,
    last: i64,
    image: i64,
}

/// The runs of bin b are `runs[starts[b]..starts[b + 1]]`, images in order.
#[derive(Default)]
struct Runs {
    starts: Vec<usize>,
    runs: Vec<Run>,
}

/// What was found around one atom.
#[derive(Default)]
struct Row {
    /// Places about within reach; those before `count` are valid.
    hits: Vec<u32>,
    count: usize,
    /// Images, each with its lattice vector.
    images: Vec<([i64; 3], Vec3)>,
    /// Atom and place in `images`, to sort by.
    keys: Vec<u64>,
}

impl Runs {
    fn set(&mut self, count: i64, reach: i64, periodic: bool) {
        self.starts.clear();
        self.runs.clear();
        self.starts.push(0);
        for home in 0..count {
            let (low, high) = (home - reach, home + reach);
            if periodic {
                self.runs.extend((low.div_euclid(count)..=high.div_euclid(count)).map(|image| Run {
                    first: (low - image * count).max(0),
                    last: (high - image * count).min(count - 1),
                    image,
                }));
            } else {
                self.runs.push(Run { first: low.max(0), last: high.min(count - 1), image: 0 });
            }
            self.starts.push(self.runs.len());
        }
    }

    fn of(&self, home: u32) -> &[Run] {
        &self.runs[self.starts[home as usize]..self.starts[home as usize + 1]]
    }
}

impl Bins {
    fn set(&mut self, scene: &Scene) {
        let frame = &scene.frame;
        let (mut lows, mut extents) = ([0.0; 3], frame.heights);
        for k in (0..3).filter(|&k| !frame.periodic[k]) {
            let along = scene.points.iter().map(|p| cell::dot(&frame.dual[k], p));
            let (low, high) =
                along.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)));
            (lows[k], extents[k]) = (low, high - low);
        }
        self.counts = counts(extents, scene.reach, scene.points.len());
        for (k, &extent) in extents.iter().enumerate() {
            let bins = (scene.reach / (extent / self.counts[k] as f64)).ceil();
            let reach = if frame.periodic[k] { bins } else { bins.min(self.counts[k] as f64) };
            self.runs[k].set(self.counts[k], reach as i64, frame.periodic[k]);
        }
        let scales: Vec3 = std::array::from_fn(|k| {
            let part = if frame.periodic[k] { 1.0 } else { extents[k].max(f64::MIN_POSITIVE) };
            self.counts[k] as f64 / part
        });
        self.home.clear();
        self.home.extend(scene.points.iter().map(|p| {
            std::array::from_fn(|k| {
                let bin = ((cell::dot(&frame.dual[k], p) - lows[k]) * scales[k]) as i64;
                bin.clamp(0, self.counts[k] - 1) as u32
            })
        }));
        self.sort(&scene.points);
        self.copy(scene);
    }

    fn flat(&self, bin: [i64; 3]) -> usize {
        ((bin[0] * self.counts[1] + bin[1]) * self.counts[2] + bin[2]) as usize
    }

    /// Counting sort.
    fn sort(&mut self, points: &[Vec3]) {
        let bins = self.counts.iter().product::<i64>() as usize;
        self.starts.clear();
        self.starts.resize(bins + 1, 0);
        for home in &self.home {
            let bin = self.flat(home.map(i64::from));
            self.starts[bin] += 1;
        }
        let mut sum = 0;
        for start in &mut self.starts {
            sum += *start;
            *start = sum;
        }
        self.atoms.clear();
        self.atoms.resize(points.len(), 0);
        // From the back: each start moves down to where its bin begins.
        for atom in (0..points.len()).rev() {
            let bin = self.flat(self.home[atom].map(i64::from));
            self.starts[bin] -= 1;
            self.atoms[self.starts[bin] as usize] = atom as i32;
        }
    }

    /// The coordinates in single precision, for a first look.
    fn copy(&mut self, scene: &Scene) {
        self.origin = scene.points[0];
        let mut largest = 0.0_f64;
        for component in &mut self.points {
            component.clear();
        }
        for &atom in &self.atoms {
            let p = cell::sub(&scene.points[atom as usize], &self.origin);
            for (component, x) in self.points.iter_mut().zip(p) {
                component.push(x as f32);
                largest = largest.max(x.abs());
            }
        }
        for component in &mut self.points {
            component.resize(self.atoms.len() + LANES, 0.0);
        }
        self.atoms.resize(self.atoms.len() + LANES, 0);
        let reach = scene.reach + SINGLE * (2.0 * largest + scene.reach);
        self.limit = (reach * reach * (1.0 + SINGLE)) as f32;
    }

    /// Places of the atoms in a column of bins along the last axis.
    #[inline]
    fn column(&self, x: i64, y: i64, run: Run) -> Range<usize> {
        self.starts[self.flat([x, y, run.first])] as usize..self.starts[self.flat([x, y, run.last]) + 1] as usize
    }

    pub fn search(&mut self, scene: &Scene, half: &mut Half) -> Result<()> {
        if scene.points.is_empty() {
            return Ok(());
        }
        self.set(scene);
        let mut row = std::mem::take(&mut self.row);
        for i in 0..scene.points.len() {
            self.seek(scene, i, &mut row);
            half.reserve(row.keys.len())?;
            row.keys.sort_unstable();
            let start = half.entries.len();
            for &key in &row.keys {
                let (j, (image, lattice)) = ((key >> 32) as usize, &row.images[(key & u64::from(u32::MAX)) as usize]);
                let vector = cell::plus(&cell::sub(&scene.points[j], &scene.points[i]), 1.0, lattice);
                let (squared, shift) = (cell::dot(&vector, &vector), scene.shift(i, j, *image));
                if squared < scene.limit && (i != j || shift > [0; 3]) {
                    half.push(i, j, shift, squared, &vector)?;
                }
            }
            if !scene.keeps_order() {
                half.sort_images(start);
            }
            half.end_row();
        }
        self.row = row;
        Ok(())
    }

    /// Finds all images of atoms j >= i within the cutoff of atom i, and few others.
    fn seek(&self, scene: &Scene, i: usize, row: &mut Row) {
        let home = self.home[i];
        let p = cell::sub(&scene.points[i], &self.origin);
        row.keys.clear();
        row.images.clear();
        for &xs in self.runs[0].of(home[0]) {
            for &ys in self.runs[1].of(home[1]) {
                for &zs in self.runs[2].of(home[2]) {
                    let image = [xs.image, ys.image, zs.image];
                    let lattice = scene.lattice(image);
                    let away = cell::sub(&p, &lattice).map(|x| f32x8::splat(x as f32));
                    row.count = 0;
                    for x in xs.first..=xs.last {
                        for y in ys.first..=ys.last {
                            self.scan(self.column(x, y, zs), away, i32x8::splat(i as i32), row);
                        }
                    }
                    let place = row.images.len() as u64;
                    let key = |&hit: &u32| (self.atoms[hit as usize] as u64) << 32 | place;
                    row.keys.extend(row.hits[..row.count].iter().map(key));
                    row.images.push((image, lattice));
                }
            }
        }
    }

    /// Notes the places among these that are near `away` and hold an atom j >= i.
    #[inline]
    fn scan(&self, places: Range<usize>, away: [f32x8; 3], i: i32x8, row: &mut Row) {
        let room = row.count + places.len() + LANES;
        if row.hits.len() < room {
            row.hits.resize(2 * room, 0);
        }
        let limit = f32x8::splat(self.limit);
        for first in places.clone().step_by(LANES) {
            let [x, y, z] = self.points.each_ref().map(|component| f32x8::new(lanes(component, first)));
            let d = [x - away[0], y - away[1], z - away[2]];
            // What overflows is near: the exact distance will tell.
            let far = (d[0] * d[0] + d[1] * d[1] + d[2] * d[2]).simd_gt(limit).to_bitmask();
            let others = i32x8::new(lanes(&self.atoms, first)).simd_lt(i).to_bitmask();
            let mine = u32::MAX >> 24 >> LANES.saturating_sub(places.end - first);
            let hits = (mine & !(far | others)) as usize;
            // All lanes, without a branch: what is no hit will be written over.
            for (noted, lane) in row.hits[row.count..row.count + LANES].iter_mut().zip(&HIT_LANES[hits]) {
                *noted = first as u32 + lane;
            }
            row.count += hits.count_ones() as usize;
        }
    }
}

#[inline]
fn lanes<T: Copy + Default>(values: &[T], first: usize) -> [T; LANES] {
    values[first..].first_chunk().copied().unwrap_or_default()
}

/// The bits that are set in each number, in front.
static HIT_LANES: [[u32; LANES]; 256] = {
    let mut table = [[0; LANES]; 256];
    let mut bits = 0;
    while bits < 256 {
        let (mut lane, mut count) = (0, 0);
        while lane < LANES {
            if bits >> lane & 1 == 1 {
                table[bits][count] = lane as u32;
                count += 1;
            }
            lane += 1;
        }
        bits += 1;
    }
    table
};

/// Bins about as wide as the cutoff or less, but not many more bins than atoms.
fn counts(extents: Vec3, reach: f64, atoms: usize) -> [i64; 3] {
    let volume = extents.iter().map(|&extent| extent.max(reach)).product::<f64>();
    let across = if atoms as f64 * reach.powi(3) / volume < DENSE { 1.0 } else { 2.0 };
    let divisors = [across, across, FINE];
    let mut counts: Vec3 = std::array::from_fn(|k| scene::floor(extents[k] * divisors[k] / reach).max(1.0));
    let limit = (4 * atoms + 64) as f64;
    while counts.iter().product::<f64>() > limit {
        let largest = (1..3).fold(0, |best, k| if counts[k] > counts[best] { k } else { best });
        counts[largest] = scene::floor(0.5 * counts[largest] + 0.5);
    }
    counts.map(|count| count as i64)
}
