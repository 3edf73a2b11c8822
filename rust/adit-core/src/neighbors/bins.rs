//! Cell lists: atoms sorted into bins, neighbours sought in the bins around.

use std::ops::Range;

use super::half::Half;
use super::scene::{self, Scene};
use crate::cell::{self, Vec3};
use crate::error::Result;

/// Distances are computed for so many atoms at a time.
const BLOCK: usize = 64;
/// Bins along the last axis are so many times narrower than the cutoff: it costs nothing there.
const FINE: f64 = 4.0;
/// From so many atoms in a cube of one cutoff on, bins of half a cutoff pay for their overhead.
const DENSE: f64 = 12.0;

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
    atoms: Vec<u32>,
    /// Its position, by component.
    points: [Vec<f64>; 3],
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
    /// Atoms within reach; those before `count` are valid.
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
            self.atoms[self.starts[bin] as usize] = atom as u32;
        }
        for (k, component) in self.points.iter_mut().enumerate() {
            component.clear();
            component.extend(self.atoms.iter().map(|&atom| points[atom as usize][k]));
        }
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
                let shift = scene.shift(i, j, *image);
                if i != j || shift > [0; 3] {
                    half.push(i, j, shift, cell::dot(&vector, &vector), &vector)?;
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

    /// Finds all images of atoms j >= i within the cutoff of atom i.
    fn seek(&self, scene: &Scene, i: usize, row: &mut Row) {
        let home = self.home[i];
        row.keys.clear();
        row.images.clear();
        for &xs in self.runs[0].of(home[0]) {
            for &ys in self.runs[1].of(home[1]) {
                for &zs in self.runs[2].of(home[2]) {
                    let image = [xs.image, ys.image, zs.image];
                    let lattice = scene.lattice(image);
                    row.count = 0;
                    for x in xs.first..=xs.last {
                        for y in ys.first..=ys.last {
                            self.scan(self.column(x, y, zs), &scene.points[i], &lattice, scene.limit, i as u32, row);
                        }
                    }
                    let place = row.images.len() as u64;
                    row.keys.extend(row.hits[..row.count].iter().map(|&j| u64::from(j) << 32 | place));
                    row.images.push((image, lattice));
                }
            }
        }
    }

    /// Notes the atoms j >= i among these places whose image is within the limit of p. Without a
    /// branch: what is no hit will be written over.
    #[inline]
    fn scan(&self, places: Range<usize>, p: &Vec3, lattice: &Vec3, limit: f64, i: u32, row: &mut Row) {
        if row.hits.len() < row.count + places.len() {
            row.hits.resize(2 * (row.count + places.len()), 0);
        }
        let [xs, ys, zs] = self.points.each_ref().map(|component| &component[places.clone()]);
        let atoms = &self.atoms[places];
        let mut squared = [0.0; BLOCK];
        let blocks = xs.chunks(BLOCK).zip(ys.chunks(BLOCK)).zip(zs.chunks(BLOCK)).zip(atoms.chunks(BLOCK));
        for (((xs, ys), zs), atoms) in blocks {
            for (((squared, x), y), z) in squared.iter_mut().zip(xs).zip(ys).zip(zs) {
                let d = [x - p[0] + lattice[0], y - p[1] + lattice[1], z - p[2] + lattice[2]];
                *squared = cell::dot(&d, &d);
            }
            for (&squared, &j) in squared.iter().zip(atoms) {
                row.hits[row.count] = j;
                row.count += usize::from(squared < limit) & usize::from(j >= i);
            }
        }
    }
}

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
