//! Molecules as text: records of an SDF with V2000 connection tables.
//!
//! CTfile Formats, `BIOVIA` (2020): counts line, atom block, bond block, `M  CHG` and `M  RAD`.

use std::fmt::Write;

use super::Bonds;
use crate::cell::Vec3;
use crate::error::{Error, Result};

/// The counts of the format have three digits.
pub const MAX_ATOMS: usize = 999;
/// Its coordinates have ten characters, four of them decimals.
const MAX_COORDINATE: f64 = 9999.0;
const PER_LINE: usize = 8;

const SYMBOLS: [&str; 119] = [
    "*", "H", "He", "Li", "Be", "B", "C", "N", "O", "F", "Ne", "Na", "Mg", "Al", "Si", "P", "S", "Cl", "Ar", "K", "Ca",
    "Sc", "Ti", "V", "Cr", "Mn", "Fe", "Co", "Ni", "Cu", "Zn", "Ga", "Ge", "As", "Se", "Br", "Kr", "Rb", "Sr", "Y",
    "Zr", "Nb", "Mo", "Tc", "Ru", "Rh", "Pd", "Ag", "Cd", "In", "Sn", "Sb", "Te", "I", "Xe", "Cs", "Ba", "La", "Ce",
    "Pr", "Nd", "Pm", "Sm", "Eu", "Gd", "Tb", "Dy", "Ho", "Er", "Tm", "Yb", "Lu", "Hf", "Ta", "W", "Re", "Os", "Ir",
    "Pt", "Au", "Hg", "Tl", "Pb", "Bi", "Po", "At", "Rn", "Fr", "Ra", "Ac", "Th", "Pa", "U", "Np", "Pu", "Am", "Cm",
    "Bk", "Cf", "Es", "Fm", "Md", "No", "Lr", "Rf", "Db", "Sg", "Bh", "Hs", "Mt", "Ds", "Rg", "Cn", "Nh", "Fl", "Mc",
    "Lv", "Ts", "Og",
];

/// One record: title line, connection table, `items` (data items, each with its empty line), `$$$$`.
///
/// Unpaired electrons are written as M RAD (one as a doublet, two or more as a triplet), and the
/// valence of such atoms as well, so that readers add no hydrogens.
///
/// # Errors
/// There are more than [`MAX_ATOMS`] atoms or bonds, or a coordinate is beyond 9999 Angstrom.
pub fn record(title: &str, numbers: &[u8], positions: &[Vec3], bonds: &Bonds, items: &str) -> Result<String> {
    check(positions, bonds)?;
    let mut text = String::with_capacity(160 + 70 * positions.len() + 13 * bonds.pairs.len() + items.len());
    text.push_str(title.lines().next().unwrap_or_default());
    text.push_str("\n  adit              3D\n\n");
    let valences = valences(bonds);
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{:3}{:3}  0  0  0  0  0  0  0  0999 V2000", positions.len(), bonds.pairs.len());
    for (atom, (&number, [x, y, z])) in numbers.iter().zip(positions).enumerate() {
        let symbol = SYMBOLS.get(usize::from(number)).copied().unwrap_or("*");
        let valence = if bonds.radicals[atom] == 0 { 0 } else { valence_code(valences[atom]) };
        let _ = writeln!(text, "{x:10.4}{y:10.4}{z:10.4} {symbol:<3} 0  0  0  0  0{valence:3}  0  0  0  0  0  0");
    }
    for ([first, second], order) in bonds.pairs.iter().zip(&bonds.orders) {
        let _ = writeln!(text, "{:3}{:3}{order:3}  0", first + 1, second + 1);
    }
    property(&mut text, "CHG", bonds.charges.iter().map(|&charge| i32::from(charge)));
    property(&mut text, "RAD", bonds.radicals.iter().map(|&count| if count == 0 { 0 } else { 1 + i32::from(count.min(2)) }));
    text.push_str("M  END\n");
    text.push_str(items);
    text.push_str("$$$$\n");
    Ok(text)
}

fn check(positions: &[Vec3], bonds: &Bonds) -> Result<()> {
    let count = positions.len().max(bonds.pairs.len());
    if count > MAX_ATOMS {
        return Err(Error::TooLarge {
            what: "atoms or bonds in an SDF record (V2000)",
            got: count.to_string(),
            limit: MAX_ATOMS,
            remedy: "Write extended XYZ",
        });
    }
    match positions.iter().position(|p| p.iter().any(|x| !(x.abs() <= MAX_COORDINATE))) {
        None => Ok(()),
        Some(atom) => Err(Error::entry(
            "positions",
            atom,
            format!("lie within {MAX_COORDINATE} Angstrom of the origin to fit into an SDF"),
            format!("{:?}", positions[atom]),
            "Centre the molecule, or write extended XYZ",
        )),
    }
}

fn valences(bonds: &Bonds) -> Vec<u8> {
    let mut valences = vec![0u8; bonds.charges.len()];
    for (ends, &order) in bonds.pairs.iter().zip(&bonds.orders) {
        ends.iter().for_each(|&end| valences[end as usize] += order);
    }
    valences
}

/// The format writes no valence as 15, and 0 for "not said".
fn valence_code(valence: u8) -> u8 {
    if valence == 0 { 15 } else { valence.min(14) }
}

fn property(text: &mut String, name: &str, values: impl Iterator<Item = i32>) {
    let held: Vec<(usize, i32)> = values.enumerate().filter(|&(_, value)| value != 0).collect();
    for line in held.chunks(PER_LINE) {
        let _ = write!(text, "M  {name}{:3}", line.len());
        for (atom, value) in line {
            let _ = write!(text, "{:4}{value:4}", atom + 1);
        }
        text.push('\n');
    }
}
