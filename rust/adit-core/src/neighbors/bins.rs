//! Cell lists: atoms sorted into bins, neighbours sought in the bins around.

use std::ops::Range;

use super::{Judge, MAX_PAIRS, original};
use crate::cell::{self, Frame, Vec3};
use crate::error::Result;

/// Bins of the frame, about one cutoff wide, with the atoms moved into it.
struct Bins {
    counts: [i64; 3],
    /// How many bins the cutoff reaches, to either side.
    reach: [i64; 3],
    /// Bin of each atom, by atom.
    home: Vec<[i64; 3]>,
    /// Whole cells by which each atom was moved, by atom.
    turns: Vec<[i64; 3]>,
    /// Bin b owns places `starts[b]..starts[b + 1]`; the last axis runs fastest.
    starts: Vec<usize>,
    /// Atom at each place.
    atoms: Vec<usize>,
    /// Its moved position.
    points: Vec<Vec3>,
    /// Place of each atom, by atom.
    places: Vec<usize>,
}

/// Neighbouring bins `first..=last` of one axis that lie in one periodic image.
#[derive(Clone, Copy)]
struct Run {
    first: i64,
    last: i64,
    image: i64,
}

impl Bins {
    fn new(positions: &[Vec3], frame: &Frame, reach: f64) -> Self {
        let mut fractional: Vec<Vec3> =
            positions.iter().map(|p| frame.dual.map(|vector| cell::dot(&vector, p))).collect();
        let mut turns = vec![[0; 3]; positions.len()];
        let mut extents = frame.heights;
        for k in 0..3 {
            if frame.periodic[k] {
                for (f, turn) in fractional.iter_mut().zip(&mut turns) {
                    let whole = f[k].floor();
                    (f[k], turn[k]) = (f[k] - whole, whole as i64);
                }
            } else {
                let low = fractional.iter().map(|f| f[k]).fold(f64::INFINITY, f64::min);
                let high = fractional.iter().map(|f| f[k]).fold(f64::NEG_INFINITY, f64::max);
                extents[k] = high - low;
                // To 0..1, like the periodic axes.
                for f in &mut fractional {
                    f[k] = (f[k] - low) / extents[k].max(f64::MIN_POSITIVE);
                }
            }
        }
        let counts = counts(extents, reach, positions.len());
        let reach = std::array::from_fn(|k| {
            let bins = (reach / (extents[k] / counts[k] as f64)).ceil() as i64;
            if frame.periodic[k] { bins } else { bins.min(counts[k]) }
        });
        let home = fractional
            .iter()
            .map(|f| std::array::from_fn(|k| ((f[k] * counts[k] as f64) as i64).clamp(0, counts[k] - 1)))
            .collect();
        let (starts, atoms, points, places) = (Vec::new(), Vec::new(), Vec::new(), vec![0; positions.len()]);
        let mut bins = Self { counts, reach, home, turns, starts, atoms, points, places };
        bins.sort(positions, frame);
        bins
    }

    fn flat(&self, bin: [i64; 3]) -> usize {
        ((bin[0] * self.counts[1] + bin[1]) * self.counts[2] + bin[2]) as usize
    }

    /// Counting sort.
    fn sort(&mut self, positions: &[Vec3], frame: &Frame) {
        let mut starts = vec![0; self.counts.iter().product::<i64>() as usize + 1];
        for &home in &self.home {
            starts[self.flat(home) + 1] += 1;
        }
        for bin in 1..starts.len() {
            starts[bin] += starts[bin - 1];
        }
        let mut next = starts.clone();
        self.atoms = vec![0; positions.len()];
        for atom in 0..positions.len() {
            let place = &mut next[self.flat(self.home[atom])];
            self.places[atom] = *place;
            self.atoms[*place] = atom;
            *place += 1;
        }
        let moved = |&atom: &usize| {
            let back = self.turns[atom].map(|turn| -turn as f64);
            cell::plus(&positions[atom], 1.0, &cell::combine(&back, &frame.rows))
        };
        self.points = self.atoms.iter().map(moved).collect();
        self.starts = starts;
    }

    /// For each bin of one axis, the runs of bins within reach.
    fn runs(&self, frame: &Frame, axis: usize) -> Vec<Vec<Run>> {
        let count = self.counts[axis];
        let around = |home: i64| {
            let (low, high) = (home - self.reach[axis], home + self.reach[axis]);
            if !frame.periodic[axis] {
                return vec![Run { first: low.max(0), last: high.min(count - 1), image: 0 }];
            }
            let run = |image: i64| Run {
                first: (low - image * count).max(0),
                last: (high - image * count).min(count - 1),
                image,
            };
            (low.div_euclid(count)..=high.div_euclid(count)).map(run).collect()
        };
        (0..count).map(around).collect()
    }

    /// How many distances will be computed: no list is longer.
    fn candidates(&self, runs: &[Vec<Vec<Run>>; 3]) -> u64 {
        let mut sum = 0;
        for home in &self.home {
            let [xs, ys, zs] = std::array::from_fn(|k| &runs[k][home[k] as usize]);
            for x in xs.iter().flat_map(|run| run.first..=run.last) {
                for y in ys.iter().flat_map(|run| run.first..=run.last) {
                    sum += zs.iter().map(|&run| self.column(x, y, run).len() as u64).sum::<u64>();
                }
            }
        }
        sum
    }

    /// Places of the atoms in a column of bins along the last axis.
    fn column(&self, x: i64, y: i64, run: Run) -> Range<usize> {
        self.starts[self.flat([x, y, run.first])]..self.starts[self.flat([x, y, run.last]) + 1]
    }
}

/// Bins about one cutoff wide, but not many more bins than atoms.
fn counts(extents: Vec3, reach: f64, atoms: usize) -> [i64; 3] {
    let mut counts = extents.map(|extent| (extent / reach).floor().max(1.0));
    let limit = (4 * atoms + 64) as f64;
    while counts.iter().product::<f64>() > limit {
        let largest = (1..3).fold(0, |best, k| if counts[k] > counts[best] { k } else { best });
        counts[largest] = (counts[largest] / 2.0).ceil();
    }
    counts.map(|count| count as i64)
}

pub fn search(judge: &mut Judge, frame: &Frame, reach: f64) -> Result<()> {
    let squared = reach * reach;
    let bins = Bins::new(judge.positions, frame, reach);
    let runs: [_; 3] = std::array::from_fn(|axis| bins.runs(frame, axis));
    if judge.counted.is_some() && bins.candidates(&runs) <= MAX_PAIRS as u64 {
        return Ok(());
    }
    for (i, (home, turns)) in bins.home.iter().zip(&bins.turns).enumerate() {
        let p = bins.points[bins.places[i]];
        for &xs in &runs[0][home[0] as usize] {
            for &ys in &runs[1][home[1] as usize] {
                for &zs in &runs[2][home[2] as usize] {
                    judge.check_size()?;
                    let image = [xs.image, ys.image, zs.image];
                    let away = cell::sub(&p, &cell::combine(&image.map(|s| s as f64), &frame.rows));
                    for (x, y) in (xs.first..=xs.last).flat_map(|x| (ys.first..=ys.last).map(move |y| (x, y))) {
                        let column = bins.column(x, y, zs);
                        for (q, &j) in bins.points[column.clone()].iter().zip(&bins.atoms[column]) {
                            let d = cell::sub(q, &away);
                            if cell::dot(&d, &d) < squared {
                                let moved = &bins.turns[j];
                                let total = std::array::from_fn(|k| image[k] - moved[k] + turns[k]);
                                judge.consider(i, j, original(frame, total));
                            }
                        }
                    }
                }
            }
        }
        judge.flush(i)?;
    }
    Ok(())
}
