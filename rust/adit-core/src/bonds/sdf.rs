//! Molecules as text: records of an SDF, with V2000 connection tables, or V3000 where those have no
//! room.
//!
//! `CTfile` Formats, `BIOVIA` (2020).

use std::fmt::Write;

use super::Bonds;
use crate::cell::Vec3;
use crate::elements::SYMBOLS;

/// The counts of V2000 have three digits.
const MAX_COUNT: usize = 999;
/// Its coordinates have ten characters, four of them decimals.
const MAX_COORDINATE: f64 = 9999.0;
const PER_LINE: usize = 8;

/// One record: title line, connection table, `items` (data items, each with its empty line), `$$$$`.
///
/// Unpaired electrons are written too (one as a doublet, two or more as a triplet), and the valence of
/// such atoms, so that readers add no hydrogens.
#[must_use]
pub fn record(title: &str, numbers: &[u8], positions: &[Vec3], bonds: &Bonds, items: &str) -> String {
    let mut text = String::with_capacity(160 + 70 * positions.len() + 13 * bonds.pairs.len() + items.len());
    text.push_str(title.lines().next().unwrap_or_default());
    text.push_str("\n  adit              3D\n\n");
    let small = positions.len().max(bonds.pairs.len()) <= MAX_COUNT;
    if small && positions.iter().flatten().all(|x| x.abs() <= MAX_COORDINATE) {
        v2000(&mut text, numbers, positions, bonds);
    } else {
        v3000(&mut text, numbers, positions, bonds);
    }
    text.push_str("M  END\n");
    text.push_str(items);
    text.push_str("$$$$\n");
    text
}

fn symbol(number: u8) -> &'static str {
    SYMBOLS.get(usize::from(number)).copied().unwrap_or(SYMBOLS[0])
}

// Writing to a String cannot fail: its results are dropped.

fn v2000(text: &mut String, numbers: &[u8], positions: &[Vec3], bonds: &Bonds) {
    let valences = valences(bonds);
    let _ = writeln!(text, "{:3}{:3}  0  0  0  0  0  0  0  0999 V2000", positions.len(), bonds.pairs.len());
    for (atom, (&number, [x, y, z])) in numbers.iter().zip(positions).enumerate() {
        // 15 is no valence at all, 0 is "not said".
        let valence = match (bonds.radicals[atom], valences[atom]) {
            (0, _) => 0,
            (_, 0) => 15,
            (_, valence) => valence,
        };
        let symbol = symbol(number);
        let _ = writeln!(text, "{x:10.4}{y:10.4}{z:10.4} {symbol:<3} 0  0  0  0  0{valence:3}  0  0  0  0  0  0");
    }
    for ([first, second], order) in bonds.pairs.iter().zip(&bonds.orders) {
        let _ = writeln!(text, "{:3}{:3}{order:3}  0", first + 1, second + 1);
    }
    property(text, "CHG", bonds.charges.iter().map(|&charge| i32::from(charge)));
    property(text, "RAD", bonds.radicals.iter().map(|&count| multiplicity(count)));
}

fn v3000(text: &mut String, numbers: &[u8], positions: &[Vec3], bonds: &Bonds) {
    let valences = valences(bonds);
    text.push_str("  0  0  0     0  0            999 V3000\nM  V30 BEGIN CTAB\n");
    let _ = writeln!(text, "M  V30 COUNTS {} {} 0 0 0\nM  V30 BEGIN ATOM", positions.len(), bonds.pairs.len());
    for (atom, (&number, [x, y, z])) in numbers.iter().zip(positions).enumerate() {
        let _ = write!(text, "M  V30 {} {} {x:.4} {y:.4} {z:.4} 0", atom + 1, symbol(number));
        if bonds.charges[atom] != 0 {
            let _ = write!(text, " CHG={}", bonds.charges[atom]);
        }
        if bonds.radicals[atom] != 0 {
            let valence = if valences[atom] == 0 { -1 } else { i32::from(valences[atom]) };
            let _ = write!(text, " RAD={} VAL={valence}", multiplicity(bonds.radicals[atom]));
        }
        text.push('\n');
    }
    text.push_str("M  V30 END ATOM\nM  V30 BEGIN BOND\n");
    for (bond, ([first, second], order)) in bonds.pairs.iter().zip(&bonds.orders).enumerate() {
        let _ = writeln!(text, "M  V30 {} {order} {} {}", bond + 1, first + 1, second + 1);
    }
    text.push_str("M  V30 END BOND\nM  V30 END CTAB\n");
}

/// 2 is a doublet, 3 a triplet.
fn multiplicity(radicals: u8) -> i32 {
    if radicals == 0 { 0 } else { 1 + i32::from(radicals.min(2)) }
}

fn valences(bonds: &Bonds) -> Vec<u8> {
    let mut valences = vec![0u8; bonds.charges.len()];
    for (ends, &order) in bonds.pairs.iter().zip(&bonds.orders) {
        for &end in ends {
            valences[end as usize] += order;
        }
    }
    valences
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
