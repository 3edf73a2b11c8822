//! Neighbour lists in any mixture of periodic directions.
//!
//! Two algorithms, one result, bit for bit: both only propose candidates; `Judge` alone decides,
//! from the positions and cell as given.

mod bins;
mod brute;

use crate::cell::{self, Frame, Matrix, Vec3};
use crate::error::{Error, Result};

/// More pairs than this are refused: 4 GB of output.
pub const MAX_PAIRS: usize = 1 << 26;
/// More image cells than this within the cutoff are refused.
pub const MAX_IMAGES: usize = 1 << 26;
/// Positions further out than this are refused: f64 no longer resolves bonds there.
pub const MAX_COORDINATE: f64 = 1e9;
/// Up to this many atoms "auto" takes brute force.
const BRUTE_LIMIT: usize = 16;
/// Candidates are sought this much further out than the cutoff, to be safe from rounding.
const SLACK: f64 = 1e-9;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// Brute force up to 16 atoms, cell lists beyond.
    Auto,
    /// All pairs, and for each exactly the images within the cutoff.
    Brute,
    /// Atoms sorted into bins.
    Cells,
}

/// m pairs, sorted by (i, j, shift).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Pairs {
    pub i: Vec<i64>,
    pub j: Vec<i64>,
    /// Three for each pair, in units of the row vectors of the cell.
    pub shifts: Vec<i32>,
    pub distances: Vec<f64>,
    /// Three for each pair: `positions[j] + shift @ cell - positions[i]`.
    pub vectors: Vec<f64>,
}

/// All pairs of atoms (and images) closer than the cutoff. A full list has each pair in both
/// directions; a half list has it once: i < j, or i = j and the first nonzero shift positive.
///
/// # Errors
/// The cutoff is not positive and finite; a position is not finite, beyond [`MAX_COORDINATE`] or
/// beyond 2^31 cells; the cell is flat in its periodic directions; the list would be too large.
pub fn neighbor_list(
    positions: &[Vec3],
    given: &Matrix,
    periodic: [bool; 3],
    cutoff: f64,
    half: bool,
    algorithm: Algorithm,
) -> Result<Pairs> {
    if !(cutoff > 0.0 && cutoff.is_finite()) {
        return Err(Error::argument("cutoff", "be a positive, finite length in Angstrom", cutoff, "Pass e.g. 5.0"));
    }
    if let Some(atom) = positions.iter().position(|p| p.iter().any(|x| !(x.abs() <= MAX_COORDINATE))) {
        return Err(Error::entry(
            "positions",
            atom,
            format!("be finite and within {MAX_COORDINATE:e} Angstrom of the origin"),
            format!("{:?}", positions[atom]),
            "Correct or wrap the positions",
        ));
    }
    let frame = Frame::new(given, periodic)?;
    if positions.is_empty() {
        return Ok(Pairs::default());
    }
    let images = image_cells(&frame, cutoff)?;
    let expected = expected_pairs(positions.len(), &frame, cutoff)?;
    refuse_too_far(positions, &frame)?;
    let brute = match algorithm {
        Algorithm::Auto => positions.len() <= BRUTE_LIMIT,
        Algorithm::Brute => true,
        Algorithm::Cells => false,
    };
    let mut cell = *given;
    for (row, _) in cell.iter_mut().zip(periodic).filter(|(_, periodic)| !periodic) {
        *row = [0.0; 3];
    }
    let largest = positions.iter().flatten().fold(0.0_f64, |largest, x| largest.max(x.abs()));
    let reach = cutoff * (1.0 + SLACK) + 64.0 * f64::EPSILON * largest;
    let search = if brute { brute::search } else { bins::search };
    let mut judge = Judge::new(positions, cell, cutoff, half);
    if images * (positions.len() as f64).powi(2) > MAX_PAIRS as f64 {
        judge.counted = Some(0);
        search(&mut judge, &frame, reach)?;
        judge.counted = None;
    }
    judge.reserve(if half { expected / 2 } else { expected })?;
    search(&mut judge, &frame, reach)?;
    Ok(judge.pairs)
}

fn too_large(what: &'static str, got: f64, limit: usize) -> Error {
    Error::TooLarge { what, got: format!("about {got:.1e}"), limit, remedy: "Use a smaller cutoff or split the system" }
}

/// How many image cells hold all that is within the cutoff of the cell.
fn image_cells(frame: &Frame, cutoff: f64) -> Result<f64> {
    let along = |k: usize| if frame.periodic[k] { 2.0 * (cutoff / frame.heights[k]).ceil() + 1.0 } else { 1.0 };
    let images = along(0) * along(1) * along(2);
    if images <= MAX_IMAGES as f64 {
        Ok(images)
    } else {
        Err(too_large("image cells within the cutoff", images, MAX_IMAGES))
    }
}

/// How many pairs evenly spread atoms have; 0 where that is unknown.
fn expected_pairs(atoms: usize, frame: &Frame, cutoff: f64) -> Result<usize> {
    if frame.periodic != [true; 3] {
        return Ok(0);
    }
    let sphere = 4.0 / 3.0 * std::f64::consts::PI * cutoff.powi(3);
    let pairs = atoms as f64 * sphere * atoms as f64 / cell::determinant(&frame.rows).abs();
    if pairs <= MAX_PAIRS as f64 { Ok(pairs as usize) } else { Err(too_large("pairs of neighbours", pairs, MAX_PAIRS)) }
}

/// Keeps all shifts small enough for i64 arithmetic.
fn refuse_too_far(positions: &[Vec3], frame: &Frame) -> Result<()> {
    let far = |p: &Vec3| (0..3).any(|k| frame.periodic[k] && cell::dot(&frame.dual[k], p).abs() > f64::from(i32::MAX));
    match positions.iter().position(far) {
        None => Ok(()),
        Some(atom) => Err(Error::entry(
            "positions",
            atom,
            "lie within 2^31 cells of the origin",
            format!("{:?}", positions[atom]),
            "Wrap the positions into the cell",
        )),
    }
}

#[derive(Clone, Copy)]
struct Found {
    j: u32,
    shift: [i64; 3],
    distance: f64,
    vector: Vec3,
}

/// Decides what is a pair, and writes it down.
struct Judge<'a> {
    positions: &'a [Vec3],
    /// With zeros in place of vectors that are not periodic.
    cell: Matrix,
    cutoff: f64,
    half: bool,
    /// Pairs so far in a first pass that only counts; `None` when they are written down.
    counted: Option<usize>,
    /// Neighbours of one atom, as they were found.
    found: Vec<Found>,
    /// j and place in `found`, to sort by.
    order: Vec<u64>,
    pairs: Pairs,
}

impl<'a> Judge<'a> {
    fn new(positions: &'a [Vec3], cell: Matrix, cutoff: f64, half: bool) -> Self {
        let (found, order, pairs) = (Vec::new(), Vec::new(), Pairs::default());
        Self { positions, cell, cutoff, half, counted: None, found, order, pairs }
    }

    fn reserve(&mut self, expected: usize) -> Result<()> {
        let room = expected + expected / 16;
        let pairs = &mut self.pairs;
        (pairs.i.try_reserve(room))
            .and_then(|()| pairs.j.try_reserve(room))
            .and_then(|()| pairs.shifts.try_reserve(3 * room))
            .and_then(|()| pairs.distances.try_reserve(room))
            .and_then(|()| pairs.vectors.try_reserve(3 * room))
            .map_err(|_| too_large("pairs of neighbours", expected as f64, MAX_PAIRS))
    }

    /// The shift is in units of the cell as given. The difference comes first, so that (i, j, S)
    /// and (j, i, -S) are exact mirror images.
    #[inline]
    fn consider(&mut self, i: usize, j: usize, shift: [i64; 3]) {
        if i == j && shift == [0; 3] || self.half && (j < i || j == i && shift < [0; 3]) {
            return;
        }
        let difference = cell::sub(&self.positions[j], &self.positions[i]);
        let moved = cell::combine(&shift.map(|s| s as f64), &self.cell);
        let vector = cell::plus(&difference, 1.0, &moved);
        let distance = cell::norm(&vector);
        if distance < self.cutoff {
            self.found.push(Found { j: j as u32, shift, distance, vector });
        }
    }

    /// Writes the neighbours that were found of atom i, sorted by (j, shift).
    fn flush(&mut self, i: usize) -> Result<()> {
        self.check_size()?;
        if let Some(count) = &mut self.counted {
            *count += self.found.len();
            self.found.clear();
            return Ok(());
        }
        for pair in &self.found {
            if let Some(s) = pair.shift.iter().find(|&&s| i32::try_from(s).is_err()) {
                return Err(Error::entry(
                    "positions",
                    pair.j as usize,
                    "lie within 2^31 cells of their neighbours",
                    format!("a shift of {s} cells from atom {i}"),
                    "Wrap the positions into the cell, or reduce the cell",
                ));
            }
        }
        let found = &self.found;
        self.order.clear();
        self.order.extend(found.iter().enumerate().map(|(place, pair)| u64::from(pair.j) << 32 | place as u64));
        let at = |key: &u64| &found[(key & u64::from(u32::MAX)) as usize];
        if !found.is_sorted_by_key(|pair| (pair.j, pair.shift)) {
            self.order.sort_unstable();
            for images in self.order.chunk_by_mut(|a, b| a >> 32 == b >> 32) {
                images.sort_unstable_by_key(|key| at(key).shift);
            }
        }
        let (pairs, order) = (&mut self.pairs, &self.order);
        pairs.i.extend(std::iter::repeat_n(i as i64, order.len()));
        pairs.j.extend(order.iter().map(|key| (key >> 32) as i64));
        pairs.distances.extend(order.iter().map(|key| at(key).distance));
        for key in order {
            pairs.shifts.extend_from_slice(&at(key).shift.map(|s| s as i32));
        }
        for key in order {
            pairs.vectors.extend_from_slice(&at(key).vector);
        }
        self.found.clear();
        Ok(())
    }

    fn check_size(&self) -> Result<()> {
        let count = self.counted.unwrap_or(self.pairs.i.len()) + self.found.len();
        if count <= MAX_PAIRS { Ok(()) } else { Err(too_large("pairs of neighbours", count as f64, MAX_PAIRS)) }
    }
}

/// Shift in units of the cell as given, from one in units of the frame.
#[inline]
fn original(frame: &Frame, shift: [i64; 3]) -> [i64; 3] {
    let mut sum = [0; 3];
    for (s, row) in shift.iter().zip(&frame.transform) {
        for (total, entry) in sum.iter_mut().zip(row) {
            *total += s * entry;
        }
    }
    sum
}
