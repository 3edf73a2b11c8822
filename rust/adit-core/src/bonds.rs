//! Bonds, bond orders and formal charges from elements and positions.
//!
//! 1. `contacts`: pairs of atoms within 1.32 typical single bonds (`lengths`)
//! 2. `model`: which orders each may have and what they cost (`elements`, `surroundings`); what is
//!    short enough is a bond, unless an atom has more of those than its highest valence
//! 3. `assign`: the cheapest orders, charges and unpaired electrons, each set of connected undecided
//!    contacts by itself (`plan`, `solve`), all together where a total charge is to be met
//!
//! Costs are integers, and atoms are numbered anew by what surrounds them, so that neither the order
//! of the atoms nor the number of threads has an influence.

mod assign;
pub mod checks;
mod contacts;
mod elements;
mod lengths;
mod model;
mod plan;
pub mod sdf;
mod solve;
mod surroundings;

use rayon::prelude::*;

use crate::cell::Vec3;
use crate::error::{Error, Result};
use crate::{pack, threads};
use assign::Assigner;
use model::Model;

/// What is remarkable about a molecule, as bits.
pub mod flags {
    /// Some atom has unpaired electrons: a valence is not satisfied.
    pub const RADICAL: u32 = 1;
    /// Two atoms are within the length of a bond that their valences do not allow.
    pub const CROWDED: u32 = 2;
    /// The bonds leave more than one piece.
    pub const FRAGMENTS: u32 = 4;
    /// The total charge that was asked for cannot be reached.
    pub const CHARGE: u32 = 8;
    /// There is a metal; metals get no bonds.
    pub const METAL: u32 = 16;
    /// The search was cut short: there may be a better assignment.
    pub const CUT: u32 = 32;
    /// Two atoms lie on top of each other.
    pub const OVERLAP: u32 = 64;
}

/// The bonds of one molecule.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bonds {
    /// Pairs of atoms, ascending within and among them.
    pub pairs: Vec<[u32; 2]>,
    /// 1 to 3, one for each pair.
    pub orders: Vec<u8>,
    /// Formal charges, one for each atom.
    pub charges: Vec<i8>,
    /// Unpaired electrons, one for each atom.
    pub radicals: Vec<u8>,
    /// The piece each atom belongs to, counted from 0 in the order of their first atoms.
    pub fragments: Vec<u32>,
    pub flags: u32,
}

/// Memory that is used again and again.
#[derive(Debug, Default)]
pub struct Workspace {
    model: Model,
    assigner: Assigner,
}

/// # Errors
/// An atomic number is not 1 to 118, a position is not finite, the arrays do not fit together, or
/// too many atoms are within reach of each other.
pub fn infer(numbers: &[u8], positions: &[Vec3], charge: Option<i32>, work: &mut Workspace) -> Result<Bonds> {
    pack::check_atoms(numbers.len(), positions.len())?;
    check(numbers, positions)?;
    infer_checked(numbers, positions, charge, work)
}

fn infer_checked(numbers: &[u8], positions: &[Vec3], charge: Option<i32>, work: &mut Workspace) -> Result<Bonds> {
    work.model.build(numbers, positions)?;
    work.assigner.assign(&work.model, charge);
    Ok(collect(&work.model, &work.assigner, charge))
}

fn check(numbers: &[u8], positions: &[Vec3]) -> Result<()> {
    if let Some(atom) = numbers.iter().position(|&number| !(1..=elements::MAX_NUMBER).contains(&number)) {
        return Err(Error::entry(
            "numbers",
            atom,
            format!("be an atomic number, 1 to {}", elements::MAX_NUMBER),
            numbers[atom],
            "Leave dummy atoms out",
        ));
    }
    if let Some(atom) = positions.iter().position(|p| p.iter().any(|x| !x.is_finite())) {
        return Err(Error::entry(
            "positions",
            atom,
            "be finite",
            format!("{:?}", positions[atom]),
            "Correct the positions, or leave the molecule out",
        ));
    }
    Ok(())
}

/// Back to the numbering of the atoms as they came.
fn collect(model: &Model, found: &Assigner, charge: Option<i32>) -> Bonds {
    let atoms = model.numbers.len();
    let mut bonds = Bonds { charges: vec![0; atoms], radicals: vec![0; atoms], ..Bonds::default() };
    let mut rows: Vec<([u32; 2], u8)> = Vec::with_capacity(atoms + 4);
    for ((edge, &order), &ratio) in model.edges.iter().zip(&found.orders).zip(&model.ratios) {
        if order == 0 {
            bonds.flags |= if ratio < model::CROWDED { flags::CROWDED } else { 0 };
            continue;
        }
        let mut ends = edge.ends.map(|end| model.order[end as usize]);
        ends.sort_unstable();
        rows.push((ends, order));
    }
    rows.sort_unstable();
    for (atom, state) in found.states.iter().enumerate() {
        let old = model.order[atom] as usize;
        bonds.charges[old] = state.charge;
        bonds.radicals[old] = state.radicals;
    }
    bonds.pairs = rows.iter().map(|row| row.0).collect();
    bonds.orders = rows.iter().map(|row| row.1).collect();
    bonds.fragments = components(atoms, bonds.pairs.iter().copied());
    let total: i32 = bonds.charges.iter().map(|&charge| i32::from(charge)).sum();
    for (flag, set) in [
        (flags::RADICAL, bonds.radicals.iter().any(|&count| count > 0)),
        (flags::FRAGMENTS, bonds.fragments.iter().any(|&label| label > 0)),
        (flags::CHARGE, charge.is_some_and(|charge| charge != total)),
        (
            flags::METAL,
            model
                .numbers
                .iter()
                .zip(&model.certain)
                .any(|(&number, &degree)| elements::is_metal(number, degree as usize)),
        ),
        (flags::CUT, found.cut),
        (flags::OVERLAP, model.overlap),
    ] {
        bonds.flags |= if set { flag } else { 0 };
    }
    bonds
}

/// Labels of connected atoms, from 0 in the order of first atoms.
fn components(atoms: usize, pairs: impl Iterator<Item = [u32; 2]>) -> Vec<u32> {
    let mut parent: Vec<u32> = (0..atoms as u32).collect();
    for ends in pairs {
        let [a, b] = ends.map(|end| root(&mut parent, end));
        parent[a.max(b) as usize] = a.min(b);
    }
    let mut labels = vec![0; atoms];
    let mut count = 0;
    for atom in 0..atoms as u32 {
        // The root of a component is its first atom.
        let first = root(&mut parent, atom);
        if first == atom {
            labels[atom as usize] = count;
            count += 1;
        } else {
            labels[atom as usize] = labels[first as usize];
        }
    }
    labels
}

fn root(parent: &mut [u32], mut atom: u32) -> u32 {
    while parent[atom as usize] != atom {
        parent[atom as usize] = parent[parent[atom as usize] as usize];
        atom = parent[atom as usize];
    }
    atom
}

/// # Errors
/// As [`infer`] (an entry is named by its place in the flat arrays), and if offsets or charges do not
/// fit.
pub fn infer_batch(
    numbers: &[u8],
    positions: &[Vec3],
    offsets: &[i64],
    charges: Option<&[i32]>,
    thread_count: Option<usize>,
) -> Result<Vec<Bonds>> {
    for_each(numbers, positions, offsets, charges, thread_count, |_, _, _, bonds| Ok(bonds))
}

/// The failed [`checks::failures`] of each molecule.
///
/// # Errors
/// As [`infer_batch`].
pub fn check_batch(
    numbers: &[u8],
    positions: &[Vec3],
    offsets: &[i64],
    charges: Option<&[i32]>,
    thread_count: Option<usize>,
) -> Result<Vec<u32>> {
    for_each(numbers, positions, offsets, charges, thread_count, |_, numbers, positions, bonds| {
        Ok(checks::check(numbers, positions, &bonds))
    })
}

/// An SDF record of each molecule, with its title and data items, and its [`flags`].
///
/// # Errors
/// As [`infer_batch`], and if titles or items do not fit.
pub fn sdf_batch(
    numbers: &[u8],
    positions: &[Vec3],
    offsets: &[i64],
    (titles, items): (&[String], &[String]),
    charges: Option<&[i32]>,
    thread_count: Option<usize>,
) -> Result<Vec<(String, u32)>> {
    pack::check_systems("titles", titles.len(), offsets)?;
    pack::check_systems("items", items.len(), offsets)?;
    for_each(numbers, positions, offsets, charges, thread_count, |k, numbers, positions, bonds| {
        Ok((sdf::record(&titles[k], numbers, positions, &bonds, &items[k]), bonds.flags))
    })
}

/// In parallel, with the place of the molecule, its atoms and its bonds.
fn for_each<T: Send>(
    numbers: &[u8],
    positions: &[Vec3],
    offsets: &[i64],
    charges: Option<&[i32]>,
    thread_count: Option<usize>,
    then: impl Fn(usize, &[u8], &[Vec3], Bonds) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    pack::check_atoms(numbers.len(), positions.len())?;
    pack::check_offsets(offsets, positions.len())?;
    if let Some(charges) = charges {
        pack::check_systems("charges", charges.len(), offsets)?;
    }
    check(numbers, positions)?;
    let one = |work: &mut Workspace, k: usize| {
        let atoms = offsets[k] as usize..offsets[k + 1] as usize;
        let (numbers, positions) = (&numbers[atoms.clone()], &positions[atoms]);
        let bonds = infer_checked(numbers, positions, charges.map(|charges| charges[k]), work)?;
        then(k, numbers, positions, bonds)
    };
    let count = offsets.len() - 1;
    threads::run(thread_count, || {
        (0..count).into_par_iter().with_min_len(64).map_init(Workspace::default, one).collect()
    })?
}
