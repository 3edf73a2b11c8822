//! The primitive cell of the symmetric convention: from the translations that nearly map a crystal onto
//! itself, whichever atom comes first and however the cell is cut.
//!
//! A translation is one that brings every atom to within [`TOLERANCE`] of one of its kind, once its mean
//! miss has been taken out. The atoms it carries into each other form rings, all of one length k, and k
//! times the translation is a vector of the lattice: that makes it exact. Of all translations the one
//! that misses least is divided out, by averaging each ring; and so on until there is none.

use super::lattice::{nearest, wrapped};
use super::primitive::Cell;
use crate::cell::{self, Matrix, Vec3};
use crate::symmetry;

/// Angstrom, as far as an atom may be from where the translation puts it.
pub const TOLERANCE: f64 = 0.25;
const MAX_LEVELS: usize = 64;

struct Translation {
    /// Of the atoms.
    rings: Vec<Vec<usize>>,
    /// Of the lattice: `steps / rings[0].len()`, in fractional coordinates.
    steps: [i64; 3],
    miss: f64,
}

/// Niggli-reduced, in the same Cartesian frame.
#[must_use]
pub fn niggli(cell: &Cell) -> Option<Cell> {
    let transform = symmetry::niggli_transform(&cell.rows)?;
    Some(cell.in_basis(cell::transformed(&transform, &cell.rows)))
}

/// The primitive cell, Niggli-reduced. `None`: the cell cannot be reduced.
#[must_use]
pub fn reduce(given: &Cell) -> Option<Cell> {
    let mut cell = niggli(given)?;
    for _ in 0..MAX_LEVELS {
        let Some(translation) = best(&cell) else { break };
        cell = niggli(&divided(&cell, &translation)?)?;
    }
    Some(cell)
}

fn kinds_of(cell: &Cell) -> Vec<Vec<usize>> {
    let mut kinds: Vec<Vec<usize>> = vec![Vec::new(); 256];
    for (atom, &number) in cell.numbers.iter().enumerate() {
        kinds[usize::from(number)].push(atom);
    }
    kinds.retain(|kind| !kind.is_empty());
    kinds.sort_by_key(Vec::len);
    kinds
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn best(cell: &Cell) -> Option<Translation> {
    let kinds = kinds_of(cell);
    let units = kinds.iter().fold(0, |units, kind| gcd(units, kind.len()));
    if units < 2 {
        return None;
    }
    let base = cell.fractional[kinds[0][0]];
    let mut found: Option<Translation> = None;
    for &atom in &kinds[0][1..] {
        let vector = cell::sub(&cell.fractional[atom], &base);
        if let Some(translation) = translation(cell, &kinds, &vector, units)
            && found.as_ref().is_none_or(|best| translation.miss < best.miss)
        {
            found = Some(translation);
        }
    }
    found
}

/// The shortest way from 0 to a vector modulo a reduced lattice, or close to it: exact for what is
/// shorter than half the shortest edge.
fn short(vector: &Vec3, rows: &Matrix) -> Vec3 {
    cell::combine(&vector.map(wrapped), rows)
}

fn translation(cell: &Cell, kinds: &[Vec<usize>], vector: &Vec3, units: usize) -> Option<Translation> {
    let count = cell.numbers.len();
    let reach = (2.0 * TOLERANCE).powi(2);
    let mut image_of = vec![usize::MAX; count];
    let mut taken = vec![false; count];
    let mut misses = vec![[0.0; 3]; count];
    let mut mean = [0.0; 3];
    for kind in kinds {
        for &atom in kind {
            let image = cell::plus(&cell.fractional[atom], 1.0, vector);
            let mut least = reach;
            for &other in kind {
                let miss = short(&cell::sub(&cell.fractional[other], &image), &cell.rows);
                let squared = cell::dot(&miss, &miss);
                if squared < least {
                    (least, image_of[atom], misses[atom]) = (squared, other, miss);
                }
            }
            let other = image_of[atom];
            if other == usize::MAX || taken[other] {
                return None;
            }
            taken[other] = true;
            mean = cell::plus(&mean, 1.0 / count as f64, &misses[atom]);
        }
    }
    let miss = misses.iter().map(|miss| cell::norm(&cell::sub(miss, &mean))).fold(0.0, f64::max);
    if !(miss <= TOLERANCE) {
        return None;
    }
    let rings = rings(&image_of);
    let length = rings[0].len();
    if length < 2 || !units.is_multiple_of(length) || rings.iter().any(|ring| ring.len() != length) {
        return None;
    }
    let refined = cell::plus(vector, 1.0, &cell::dual(&cell.rows).map(|dual| cell::dot(&dual, &mean)));
    let steps = refined.map(|f| nearest(f * length as f64));
    let off: Vec3 = std::array::from_fn(|k| refined[k] - steps[k] / length as f64);
    let whole = steps.map(|step| step as i64);
    let common = whole.iter().fold(length, |common, step| gcd(common, step.unsigned_abs() as usize));
    let exact = cell::norm(&cell::combine(&off, &cell.rows)) <= TOLERANCE;
    (exact && common == 1).then_some(Translation { rings, steps: whole, miss })
}

fn rings(image_of: &[usize]) -> Vec<Vec<usize>> {
    let mut seen = vec![false; image_of.len()];
    let mut rings = Vec::new();
    for start in 0..image_of.len() {
        let mut ring = Vec::new();
        let mut atom = start;
        while !seen[atom] {
            seen[atom] = true;
            ring.push(atom);
            atom = image_of[atom];
        }
        if !ring.is_empty() {
            rings.push(ring);
        }
    }
    rings
}

/// One atom for each ring, in the lattice with the translation added.
fn divided(cell: &Cell, translation: &Translation) -> Option<Cell> {
    let length = translation.rings[0].len();
    let step = translation.steps.map(|step| step as f64 / length as f64);
    let (mut fractional, mut numbers) = (Vec::new(), Vec::new());
    for ring in &translation.rings {
        let first = cell.fractional[ring[0]];
        let mut mean = [0.0; 3];
        for (turns, &atom) in ring.iter().enumerate() {
            let back = cell::plus(&cell.fractional[atom], -(turns as f64), &step);
            let offset = cell::sub(&back, &first).map(wrapped);
            mean = cell::plus(&mean, 1.0 / length as f64, &offset);
        }
        fractional.push(cell::plus(&first, 1.0, &mean));
        numbers.push(cell.numbers[ring[0]]);
    }
    let coefficients = generated(length as i64, translation.steps);
    let rows = coefficients.map(|row| cell::combine(&row.map(|entry| entry as f64 / length as f64), &cell.rows));
    let (rows, _) = cell::minkowski_reduce(&rows)?;
    let whole = Cell { rows: cell.rows, fractional, numbers };
    Some(whole.in_basis(rows))
}

/// A basis of the whole vectors that `length` times the unit vectors and `steps` span.
fn generated(length: i64, steps: [i64; 3]) -> [[i64; 3]; 3] {
    let mut rows = vec![[length, 0, 0], [0, length, 0], [0, 0, length], steps.map(|step| step.rem_euclid(length))];
    let mut basis = [[0; 3]; 3];
    for (k, chosen) in basis.iter_mut().enumerate() {
        // Euclid's algorithm on column k leaves one row that is not zero there.
        loop {
            rows.sort_by_key(|row| if row[k] == 0 { i64::MAX } else { row[k].abs() });
            let first = rows[0];
            let mut done = true;
            for row in &mut rows[1..] {
                let factor = row[k].div_euclid(first[k]);
                for (entry, subtrahend) in row.iter_mut().zip(first) {
                    *entry -= factor * subtrahend;
                }
                done &= row[k] == 0;
            }
            if done {
                break;
            }
        }
        *chosen = rows.remove(0);
    }
    basis
}
