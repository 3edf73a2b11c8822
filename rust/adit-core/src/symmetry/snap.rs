//! Crystals moved into the highest symmetry nearby.
//!
//! moyo makes the crystal symmetric for each of a ladder of tolerances; the highest symmetry whose
//! crystal stays within the limits is taken. From there the search starts anew, because from a more
//! symmetric crystal still higher symmetry may be seen; what counts is the way from the crystal given.

use moyo::MoyoDataset;

use super::search::{Crystals, Search, check_length};
use crate::cell::{self, Matrix, Vec3};
use crate::error::{Error, Result};

/// The result has its space group at this tolerance, in Angstrom.
pub const TIGHT: f64 = 1e-4;
/// Below, in Angstrom, and for strains as such, a crystal has its symmetry already and stays as it is.
const EXACT: f64 = 1e-8;
/// The first rung of the ladder in units of the largest displacement: an operation may miss by twice
/// the displacement of the atom it moves, and as much again through the atom that fixed its translation.
const FIRST_RUNG: f64 = 4.0;
const RUNG: f64 = 1.6;
/// Each round but the last finds a larger group, and a chain of groups is no longer.
const MAX_ROUNDS: usize = 8;

/// How far a crystal may be changed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Of any atom, in Angstrom.
    pub displacement: f64,
    /// Of any length in the crystal, as a part of it.
    pub strain: f64,
}

/// A crystal made symmetric: the same atoms in the same order.
#[derive(Debug, Clone, PartialEq)]
pub struct Symmetrized {
    /// Cartesian, each near where it was.
    pub positions: Vec<Vec3>,
    pub cell: Matrix,
    /// Of the space group, at [`TIGHT`]; 0 if none is found for the crystal as given, which then is
    /// unchanged.
    pub number: i64,
    /// The largest of any atom, relative to the cell and to the mean of all atoms.
    pub displacement: f64,
    /// The largest change of any length in the cell, as a part of it.
    pub strain: f64,
}

/// Each crystal moved into the highest symmetry (the most operations, pure translations included)
/// that displaces no atom and strains the cell by no more than `limits`; of equal symmetries into
/// the one that is seen with the largest tolerance.
///
/// Displacements are taken relative to the cell, which is strained without turning, and without the
/// shift that all atoms have in common, which is left out. The result has its space group at
/// [`TIGHT`].
///
/// # Errors
/// The arrays do not fit together, a limit is not positive and finite, or the threads are refused.
pub fn symmetrize(crystals: &Crystals, limits: Limits, thread_count: Option<usize>) -> Result<Vec<Symmetrized>> {
    check_length("max_displacement", limits.displacement, "0.1 Angstrom is usual")?;
    if !(limits.strain > 0.0 && limits.strain < 1.0) {
        let expected = "be a positive part of a length, below 1";
        return Err(Error::argument("max_strain", expected, limits.strain, "0.05 is usual"));
    }
    crystals.map(thread_count, |numbers, points, given| {
        snap(numbers, points, given, limits).unwrap_or_else(|| Symmetrized {
            positions: points.to_vec(),
            cell: *given,
            number: 0,
            displacement: 0.0,
            strain: 0.0,
        })
    })
}

fn snap(numbers: &[u8], points: &[Vec3], given: &Matrix, limits: Limits) -> Option<Symmetrized> {
    let origin = Search::new(numbers, points, given)?;
    let mut best = best_of(&origin, &origin, limits, 0)?;
    for _ in 1..MAX_ROUNDS {
        let Some(here) = best.search(&origin) else { break };
        let Some(better) = best_of(&here, &origin, limits, best.order) else { break };
        best = better;
    }
    if best.displacement < EXACT && best.strain < EXACT {
        let (positions, cell) = (points.to_vec(), *given);
        return Some(Symmetrized { positions, cell, number: best.number, displacement: 0.0, strain: 0.0 });
    }
    let back = cell::inverted(&origin.transform);
    let full = best.fractional.iter().zip(&origin.cells_away).map(|(f, away)| cell::plus(f, 1.0, away));
    Some(Symmetrized {
        positions: full.map(|f| cell::combine(&f, &best.rows)).collect(),
        cell: cell::transformed(&back, &best.rows),
        number: best.number,
        displacement: best.displacement,
        strain: best.strain,
    })
}

/// A symmetric crystal, in the reduced cell of the one it was made from.
struct Candidate {
    rows: Matrix,
    fractional: Vec<Vec3>,
    number: i64,
    /// Operations on the atoms of the cell: those of the crystal class times pure translations.
    order: usize,
    displacement: f64,
    strain: f64,
}

impl Candidate {
    fn search<'a>(&self, origin: &Search<'a>) -> Option<Search<'a>> {
        let points: Vec<Vec3> = self.fractional.iter().map(|f| cell::combine(f, &self.rows)).collect();
        Search::new(origin.numbers, &points, &self.rows).filter(|search| search.transform == cell::IDENTITY)
    }
}

/// The best with more than `order` operations that moyo sees from `here`.
///
/// All operations within one tolerance are within any larger one: so the first crystal within the
/// limits, coming from large tolerances, is the best, unless moyo had lowered the tolerance for it.
fn best_of(here: &Search, origin: &Search, limits: Limits, order: usize) -> Option<Candidate> {
    let mut best: Option<Candidate> = None;
    let mut last = f64::INFINITY;
    let mut symprec = FIRST_RUNG * limits.displacement.max(TIGHT);
    loop {
        let used = here.tolerance(symprec);
        let dataset = if used < last { here.dataset(symprec, false) } else { None };
        if let Some(dataset) = dataset {
            let within = |c: &Candidate| c.displacement <= limits.displacement && c.strain <= limits.strain;
            if let Some(candidate) = candidate(&dataset, origin).filter(within).and_then(|c| confirmed(c, origin)) {
                let least = best.as_ref().map_or(order, |best| best.order);
                if candidate.order > least {
                    best = Some(candidate);
                }
                if dataset.symprec >= used {
                    break;
                }
            }
        }
        if symprec <= TIGHT {
            break;
        }
        last = used;
        symprec = (symprec / RUNG).max(TIGHT);
    }
    best
}

/// With the space group that the crystal turns out to have, which must be no lower.
fn confirmed(candidate: Candidate, origin: &Search) -> Option<Candidate> {
    let dataset = candidate.search(origin)?.dataset(TIGHT, false)?;
    let order = order_of(&dataset);
    (order >= candidate.order).then(|| Candidate { number: i64::from(dataset.number), order, ..candidate })
}

/// moyo's symmetric primitive cell, spread over the reduced cell of the crystal again.
fn candidate(dataset: &MoyoDataset, origin: &Search) -> Option<Candidate> {
    // Columns: primitive = rows @ linear, and x = linear x_primitive + shift.
    let (linear, shift) = (dataset.prim_std_linear, dataset.prim_std_origin_shift);
    let inverse = linear.try_inverse()?;
    let basis = dataset.prim_std_cell.lattice.basis * inverse.map(f64::round);
    let rows = [0, 1, 2].map(|k| [basis[(0, k)], basis[(1, k)], basis[(2, k)]]);
    if cell::is_degenerate(&rows) {
        return None;
    }
    // Of all equivalent places the one nearest to the atom.
    let mut moves = Vec::with_capacity(origin.fractional.len());
    for (&from, &atom) in origin.fractional.iter().zip(&dataset.mapping_std_prim) {
        let gap = linear * dataset.prim_std_cell.positions[atom] + shift - nalgebra::Vector3::from(from);
        let gap = gap - linear * (inverse * gap).map(f64::round);
        moves.push([gap[0], gap[1], gap[2]]);
    }
    let mean = cell::scaled(&moves.iter().fold([0.0; 3], |sum, x| cell::plus(&sum, 1.0, x)), 1.0 / moves.len() as f64);
    for x in &mut moves {
        *x = cell::sub(x, &mean);
    }
    let lengths = moves.iter().map(|x| cell::norm(&cell::combine(x, &rows)));
    Some(Candidate {
        displacement: lengths.fold(0.0, f64::max),
        strain: strain(&origin.rows, &rows)?,
        fractional: origin.fractional.iter().zip(&moves).map(|(f, x)| cell::plus(f, 1.0, x)).collect(),
        rows,
        number: i64::from(dataset.number),
        order: order_of(dataset),
    })
}

/// The largest change of a length when `old` becomes `new`, as a part of it: the stretches are the
/// square roots of the eigenvalues of F^t F, F being the deformation.
fn strain(old: &Matrix, new: &Matrix) -> Option<f64> {
    let columns = |rows: &Matrix| nalgebra::Matrix3::from_fn(|k, l| rows[l][k]);
    let deformation = columns(new) * columns(old).try_inverse()?;
    let squared = (deformation.transpose() * deformation).symmetric_eigenvalues();
    Some(squared.iter().map(|x| (x.max(0.0).sqrt() - 1.0).abs()).fold(0.0, f64::max))
}

fn order_of(dataset: &MoyoDataset) -> usize {
    point_group_order(dataset.number) * dataset.mapping_std_prim.len() / dataset.prim_std_cell.num_atoms().max(1)
}

/// Operations of the crystal class of a space group: International Tables A, table 10.1.2.4.
fn point_group_order(number: i32) -> usize {
    match number {
        ..=1 => 1,
        2..=9 => 2,
        143..=146 => 3,
        10..=46 | 75..=82 => 4,
        147..=161 | 168..=174 => 6,
        47..=74 | 83..=122 => 8,
        162..=167 | 175..=190 | 195..=199 => 12,
        123..=142 => 16,
        191..=194 | 200..=220 => 24,
        221.. => 48,
    }
}
