//! What models are fed with: random symmetry operations, fractional coordinates, Fourier features,
//! minimum-image distances.

use std::f64::consts::TAU;

use rayon::prelude::*;
use wide::f64x4;

use crate::cell::{self, Frame, Matrix, Vec3};
use crate::error::{Error, Result};
use crate::nearest::Nearest;
use crate::pack::{self, MAX_ATOMS};
use crate::random::Random;
use crate::threads;

/// Below this many atoms a second thread costs more than it brings.
const FEW: usize = 4096;
/// So many angles are looked at together.
const LANES: usize = 4;
/// More entries in one answer than this are refused: 2 GB.
pub const MAX_ENTRIES: usize = 1 << 28;

/// Single or double precision. All arithmetic is done in double.
pub trait Real: Copy + Send + Sync + Default + Into<f64> {
    fn rounded(value: f64) -> Self;
}

impl Real for f64 {
    fn rounded(value: f64) -> Self {
        value
    }
}

impl Real for f32 {
    fn rounded(value: f64) -> Self {
        value as Self
    }
}

/// A rotation, uniform on SO(3): a uniform unit quaternion, from three uniform numbers.
/// K. Shoemake, "Uniform random rotations", Graphics Gems III (1992).
#[must_use]
pub fn rotation(random: &mut Random) -> Matrix {
    let u = random.uniform();
    let (inner, outer) = ((1.0 - u).sqrt(), u.sqrt());
    let (sin, cos) = (TAU * random.uniform()).sin_cos();
    let (x, y) = (inner * sin, inner * cos);
    let (sin, cos) = (TAU * random.uniform()).sin_cos();
    let (z, w) = (outer * sin, outer * cos);
    [
        [1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y - z * w), 2.0 * (x * z + y * w)],
        [2.0 * (x * y + z * w), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z - x * w)],
        [2.0 * (x * z - y * w), 2.0 * (y * z + x * w), 1.0 - 2.0 * (x * x + y * y)],
    ]
}

/// The rotation and the shift (in cells, within [0, 1)) of system `index`.
#[must_use]
pub fn operation(seed: u64, index: usize) -> (Matrix, Vec3) {
    let mut random = Random::new(seed, index as u64);
    let rotation = rotation(&mut random);
    (rotation, std::array::from_fn(|_| random.uniform()))
}

/// The operations of systems 0 to `count`: rotations and shifts.
///
/// # Errors
/// `count` exceeds [`MAX_ATOMS`].
pub fn operations(seed: u64, count: usize) -> Result<(Vec<Matrix>, Vec<Vec3>)> {
    if count > MAX_ATOMS {
        return Err(too_large("operations", count, MAX_ATOMS));
    }
    Ok((0..count).map(|index| operation(seed, index)).unzip())
}

/// The same systems in other places.
#[derive(Debug, Clone, PartialEq)]
pub struct Augmented<P, C> {
    pub positions: Vec<[P; 3]>,
    pub cells: Vec<[[C; 3]; 3]>,
}

/// A pack of systems that are periodic in all directions or in none.
#[derive(Debug, Clone, Copy)]
pub struct Systems<'a, P, C> {
    positions: &'a [[P; 3]],
    cells: &'a [[[C; 3]; 3]],
    periodic: &'a [bool],
    offsets: &'a [i64],
}

impl<'a, P: Real, C: Real> Systems<'a, P, C> {
    /// # Errors
    /// The arrays do not fit together.
    pub fn new(
        positions: &'a [[P; 3]],
        cells: &'a [[[C; 3]; 3]],
        periodic: &'a [bool],
        offsets: &'a [i64],
    ) -> Result<Self> {
        pack::check_offsets(offsets, positions.len())?;
        pack::check_systems("cells", cells.len(), offsets)?;
        pack::check_systems("periodic", periodic.len(), offsets)?;
        Ok(Self { positions, cells, periodic, offsets })
    }

    fn atoms(&self, k: usize) -> &'a [[P; 3]] {
        &self.positions[self.offsets[k] as usize..self.offsets[k + 1] as usize]
    }

    /// The cell of a crystal and its dual; `None` for a molecule.
    fn lattice(&self, k: usize) -> Result<Option<(Matrix, Matrix)>> {
        if !self.periodic[k] {
            return Ok(None);
        }
        let rows = self.cells[k].map(|row| row.map(Into::into));
        if cell::is_degenerate(&rows) {
            return Err(flat(k, &rows));
        }
        Ok(Some((rows, cell::dual(&rows))))
    }

    /// Fills `lengths[k]` places for system k, on several threads if there is much to do.
    fn fill<T: Send>(
        &self,
        places: &mut [T],
        length: impl Fn(usize) -> usize,
        thread_count: Option<usize>,
        one: impl Fn(usize, &mut [T]) -> Result<()> + Sync,
    ) -> Result<()> {
        let mut parts = Vec::with_capacity(self.periodic.len());
        let (count, mut rest) = (places.len(), places);
        for k in 0..self.periodic.len() {
            let (mine, others) = rest.split_at_mut(length(k));
            parts.push((k, mine));
            rest = others;
        }
        if count < FEW {
            threads::check(thread_count)?;
            return parts.into_iter().try_for_each(|(k, places)| one(k, places));
        }
        let work = || parts.into_par_iter().with_min_len(64).map(|(k, places)| one(k, places)).collect::<Vec<_>>();
        // The first of all errors, whichever came first.
        threads::run(thread_count, work)?.into_iter().collect()
    }

    fn size(&self, k: usize) -> usize {
        (self.offsets[k + 1] - self.offsets[k]) as usize
    }

    /// Each molecule turned about its centroid, each crystal shifted as a whole and wrapped into its
    /// cell; with `turned` crystals are turned as well, cell and all. The operations are those of
    /// [`operation`], row vectors times rotation.
    ///
    /// # Errors
    /// The cell of a crystal is degenerate; the threads are refused.
    pub fn augmented(&self, seed: u64, turned: bool, thread_count: Option<usize>) -> Result<Augmented<P, C>> {
        let mut positions = vec![[P::default(); 3]; self.positions.len()];
        self.fill(
            &mut positions,
            |k| self.size(k),
            thread_count,
            |k, places| {
                let (rotation, shift) = operation(seed, k);
                let atoms = self.atoms(k);
                let Some((rows, dual)) = self.lattice(k)? else {
                    turn(atoms, &rotation, places);
                    return Ok(());
                };
                let rows = if turned { rows.map(|row| cell::combine(&row, &rotation)) } else { rows };
                for (place, atom) in places.iter_mut().zip(atoms) {
                    let fractional = fractional(atom, &dual);
                    let wrapped = std::array::from_fn(|axis| wrap(fractional[axis] + shift[axis]));
                    *place = cell::combine(&wrapped, &rows).map(P::rounded);
                }
                Ok(())
            },
        )?;
        let mut cells = self.cells.to_vec();
        for (k, rows) in cells.iter_mut().enumerate().filter(|&(k, _)| turned && self.periodic[k]) {
            let rotation = operation(seed, k).0;
            *rows = rows.map(|row| cell::combine(&row.map(Into::into), &rotation).map(C::rounded));
        }
        Ok(Augmented { positions, cells })
    }

    /// Fractional coordinates, moved into [0, 1); zero for molecules.
    ///
    /// # Errors
    /// The cell of a crystal is degenerate; the threads are refused.
    pub fn fractional(&self, thread_count: Option<usize>) -> Result<Vec<[P; 3]>> {
        let mut positions = vec![[P::default(); 3]; self.positions.len()];
        self.fill(
            &mut positions,
            |k| self.size(k),
            thread_count,
            |k, places| {
                if let Some((_, dual)) = self.lattice(k)? {
                    for (place, atom) in places.iter_mut().zip(self.atoms(k)) {
                        *place = fractional(atom, &dual).map(|f| below_one(P::rounded(wrap(f))));
                    }
                }
                Ok(())
            },
        )?;
        Ok(positions)
    }

    /// For each system, all distances to the nearest image: a symmetric matrix with zeros on the
    /// diagonal, row after row. NaN for a coordinate that is not finite or beyond 1e12 cells.
    ///
    /// # Errors
    /// The cell of a crystal is degenerate; more than [`MAX_ENTRIES`]; the threads are refused.
    pub fn distances(&self, thread_count: Option<usize>) -> Result<Vec<f64>> {
        let total = (0..self.periodic.len()).fold(0_usize, |sum, k| sum.saturating_add(self.size(k).saturating_pow(2)));
        if total > MAX_ENTRIES {
            return Err(too_large("distances", total, MAX_ENTRIES));
        }
        let mut distances = vec![0.0; total];
        self.fill(
            &mut distances,
            |k| self.size(k).pow(2),
            thread_count,
            |k, places| {
                let points: Vec<Vec3> = self.atoms(k).iter().map(|atom| atom.map(Into::into)).collect();
                let given = self.cells[k].map(|row| row.map(Into::into));
                let lattice = Nearest::new(&Frame::new(&given, [self.periodic[k]; 3]).map_err(|_| flat(k, &given))?);
                for i in 1..points.len() {
                    for j in 0..i {
                        let distance = lattice.distance(&cell::sub(&points[j], &points[i]));
                        (places[i * points.len() + j], places[j * points.len() + i]) = (distance, distance);
                    }
                }
                Ok(())
            },
        )?;
        Ok(distances)
    }
}

fn too_large(what: &'static str, count: usize, limit: usize) -> Error {
    Error::TooLarge { what, got: count.to_string(), limit, remedy: "Take fewer systems at a time" }
}

fn flat(index: usize, rows: &Matrix) -> Error {
    let (expected, remedy) =
        ("have three linearly independent, finite row vectors", "Mend the cell, or clear `periodic`");
    Error::entry("cells", index, expected, format!("{rows:?}"), remedy)
}

/// About the centroid.
fn turn<P: Real>(atoms: &[[P; 3]], rotation: &Matrix, places: &mut [[P; 3]]) {
    let sum = atoms.iter().fold([0.0; 3], |sum, atom| cell::plus(&sum, 1.0, &atom.map(Into::into)));
    let centre = cell::scaled(&sum, 1.0 / atoms.len() as f64);
    for (place, atom) in places.iter_mut().zip(atoms) {
        let from_centre = cell::sub(&atom.map(Into::into), &centre);
        *place = cell::plus(&centre, 1.0, &cell::combine(&from_centre, rotation)).map(P::rounded);
    }
}

fn fractional<P: Real>(atom: &[P; 3], dual: &Matrix) -> Vec3 {
    let point = atom.map(Into::into);
    dual.map(|vector| cell::dot(&vector, &point))
}

/// Into [0, 1): 0, where rounding makes 1 of it.
fn wrap(value: f64) -> f64 {
    let wrapped = value - value.floor();
    if wrapped >= 1.0 { 0.0 } else { wrapped }
}

/// The same where single precision makes 1 of it.
fn below_one<P: Real>(value: P) -> P {
    if value.into() >= 1.0 { P::default() } else { value }
}

/// sin(2 pi k x) for k = 1 to `frequencies`, then cos(2 pi k x), for each value x.
///
/// # Errors
/// More than [`MAX_ENTRIES`].
pub fn fourier<P: Real>(values: &[P], frequencies: usize) -> Result<Vec<P>> {
    // Of one value, if there is none: twice the frequencies must be a number, too.
    let total = values.len().max(1).saturating_mul(2).saturating_mul(frequencies);
    if total > MAX_ENTRIES {
        return Err(too_large("Fourier features", total, MAX_ENTRIES));
    }
    let mut features = vec![P::default(); values.len() * 2 * frequencies];
    if frequencies == 0 {
        return Ok(features);
    }
    for (rows, values) in features.chunks_mut(LANES * 2 * frequencies).zip(values.chunks(LANES)) {
        let mut turns = [0.0; LANES];
        for (turn, &value) in turns.iter_mut().zip(values) {
            // Whole turns leave without a rounding error.
            let x = value.into();
            *turn = TAU * (x - cell::round(x));
        }
        let (sines, cosines) = f64x4::new(turns).sin_cos();
        let angles = sines.to_array().into_iter().zip(cosines.to_array());
        for (row, (sin, cos)) in rows.chunks_exact_mut(2 * frequencies).zip(angles) {
            let (sines, cosines) = row.split_at_mut(frequencies);
            multiples(sin, cos, sines, cosines);
        }
    }
    Ok(features)
}

/// Sines and cosines of the multiples of an angle by the addition theorems, several at a time.
fn multiples<P: Real>(sin: f64, cos: f64, sines: &mut [P], cosines: &mut [P]) {
    let add = |(s, c): (f64, f64), (t, d): (f64, f64)| (s * d + c * t, c * d - s * t);
    let one = (sin, cos);
    let two = add(one, one);
    let (three, four) = (add(two, one), add(two, two));
    let mut angles = [one, two, three, four];
    for (sines, cosines) in sines.chunks_mut(LANES).zip(cosines.chunks_mut(LANES)) {
        for ((sine, cosine), angle) in sines.iter_mut().zip(cosines).zip(&angles) {
            (*sine, *cosine) = (P::rounded(angle.0), P::rounded(angle.1));
        }
        angles = angles.map(|angle| add(angle, four));
    }
}
