//! Atom and molecule stability from tables of typical bond lengths: the protocol of EDM.
//!
//! E. Hoogeboom, V. G. Satorras, C. Vignac, M. Welling, "Equivariant Diffusion for Molecule
//! Generation in 3D", ICML 2022, arXiv 2203.17003, appendix C: lengths in pm, margins, valences.

use std::sync::LazyLock;

use rayon::prelude::*;

use crate::cell::Vec3;
use crate::error::Result;
use crate::{pack, threads};

/// Atomic numbers, the lengths of a single, double and triple bond in pm; 0 where there is none.
pub const LENGTHS: &[(u8, u8, [u16; 3])] = &[
    (1, 1, [74, 0, 0]),
    (1, 5, [119, 0, 0]),
    (1, 6, [109, 0, 0]),
    (1, 7, [101, 0, 0]),
    (1, 8, [96, 0, 0]),
    (1, 9, [92, 0, 0]),
    (1, 14, [148, 0, 0]),
    (1, 15, [144, 0, 0]),
    (1, 16, [134, 0, 0]),
    (1, 17, [127, 0, 0]),
    (1, 33, [152, 0, 0]),
    (1, 35, [141, 0, 0]),
    (1, 53, [161, 0, 0]),
    (5, 17, [175, 0, 0]),
    (6, 6, [154, 134, 120]),
    (6, 7, [147, 129, 116]),
    (6, 8, [143, 120, 113]),
    (6, 9, [135, 0, 0]),
    (6, 14, [185, 0, 0]),
    (6, 15, [184, 0, 0]),
    (6, 16, [182, 160, 0]),
    (6, 17, [177, 0, 0]),
    (6, 35, [194, 0, 0]),
    (6, 53, [214, 0, 0]),
    (7, 7, [145, 125, 110]),
    (7, 8, [140, 121, 0]),
    (7, 9, [136, 0, 0]),
    (7, 15, [177, 0, 0]),
    (7, 16, [168, 0, 0]),
    (7, 17, [175, 0, 0]),
    (7, 35, [214, 0, 0]),
    (7, 53, [222, 0, 0]),
    (8, 8, [148, 121, 0]),
    (8, 9, [142, 0, 0]),
    (8, 14, [163, 0, 0]),
    (8, 15, [163, 150, 0]),
    (8, 16, [151, 0, 0]),
    (8, 17, [164, 0, 0]),
    (8, 35, [172, 0, 0]),
    (8, 53, [194, 0, 0]),
    (9, 9, [142, 0, 0]),
    (9, 14, [160, 0, 0]),
    (9, 15, [156, 0, 0]),
    (9, 16, [158, 0, 0]),
    (9, 17, [166, 0, 0]),
    (9, 35, [178, 0, 0]),
    (9, 53, [187, 0, 0]),
    (14, 14, [233, 0, 0]),
    (14, 16, [200, 0, 0]),
    (14, 17, [202, 0, 0]),
    (14, 35, [215, 0, 0]),
    (14, 53, [243, 0, 0]),
    (15, 15, [221, 0, 0]),
    (15, 16, [210, 186, 0]),
    (15, 17, [203, 0, 0]),
    (15, 35, [222, 0, 0]),
    (16, 16, [204, 0, 0]),
    (16, 17, [207, 0, 0]),
    (16, 35, [225, 0, 0]),
    (16, 53, [234, 0, 0]),
    (17, 17, [199, 0, 0]),
    (17, 35, [214, 0, 0]),
    (35, 35, [228, 0, 0]),
    (53, 53, [266, 0, 0]),
];

/// In pm, added to the lengths before comparing.
pub const MARGINS: [u16; 3] = [10, 5, 3];

/// Atomic numbers and the sums of bond orders with which such an atom is stable.
pub const VALENCES: &[(u8, &[u8])] = &[
    (1, &[1]),
    (5, &[3]),
    (6, &[4]),
    (7, &[3]),
    (8, &[2]),
    (9, &[1]),
    (13, &[3]),
    (14, &[4]),
    (15, &[3, 5]),
    (16, &[4]),
    (17, &[1]),
    (33, &[3]),
    (35, &[1]),
    (53, &[1]),
    (80, &[1, 2]),
    (83, &[3, 5]),
];

const ELEMENTS: usize = 84;
/// Distances are multiplied by this before they are compared with pm.
const PM: f64 = 100.0;

struct Tables {
    /// Limits in pm for orders 1 to 3, by both elements; 0 where there is no such bond.
    limits: Vec<[f64; 3]>,
    /// A little more than the square of the first limit.
    reach2: Vec<f64>,
    /// Bit v is set if valence v is stable.
    allowed: [u32; ELEMENTS],
}

static TABLES: LazyLock<Tables> = LazyLock::new(|| {
    let mut limits = vec![[0.0; 3]; ELEMENTS * ELEMENTS];
    for &(first, second, lengths) in LENGTHS {
        let row: [f64; 3] =
            std::array::from_fn(|k| if lengths[k] == 0 { 0.0 } else { f64::from(lengths[k] + MARGINS[k]) });
        limits[usize::from(first) * ELEMENTS + usize::from(second)] = row;
        limits[usize::from(second) * ELEMENTS + usize::from(first)] = row;
    }
    let reach2 = limits.iter().map(|row| row[0] * row[0] * (1.0 + 1e-12)).collect();
    let mut allowed = [0; ELEMENTS];
    for &(number, valences) in VALENCES {
        allowed[usize::from(number)] = valences.iter().map(|valence| 1 << valence).sum();
    }
    Tables { limits, reach2, allowed }
});

/// The number of stable atoms of each molecule.
///
/// Two atoms are bonded once if closer than the single-bond length plus 10 pm, twice if also closer
/// than the double-bond length plus 5 pm, three times if also closer than the triple-bond length
/// plus 3 pm. An atom is stable if its bonds add up to a valence allowed for its element; elements
/// outside the tables never are. Distances that are not finite bond nothing.
///
/// # Errors
/// The arrays do not fit together, or the threads are refused.
pub fn stable_atoms<P: Copy + Sync + Into<f64>>(
    numbers: &[u8],
    positions: &[[P; 3]],
    offsets: &[i64],
    thread_count: Option<usize>,
) -> Result<Vec<i64>> {
    pack::check_atoms(numbers.len(), positions.len())?;
    pack::check_offsets(offsets, positions.len())?;
    let one = |work: &mut Work, k: usize| {
        let atoms = offsets[k] as usize..offsets[k + 1] as usize;
        let given = &positions[atoms.clone()];
        count_stable(&numbers[atoms], given.iter().map(|atom| atom.map(|x| x.into() * PM)), work)
    };
    threads::run(thread_count, || {
        (0..offsets.len() - 1).into_par_iter().with_min_len(256).map_init(Work::default, one).collect()
    })
}

#[derive(Default)]
struct Work {
    points: Vec<Vec3>,
    valences: Vec<u32>,
}

fn count_stable(numbers: &[u8], points: impl Iterator<Item = Vec3>, work: &mut Work) -> i64 {
    let tables = &*TABLES;
    work.points.clear();
    work.points.extend(points);
    work.valences.clear();
    work.valences.resize(numbers.len(), 0);
    for (i, (&number, from)) in numbers.iter().zip(&work.points).enumerate() {
        let row = usize::from(number) * ELEMENTS;
        if usize::from(number) >= ELEMENTS {
            continue;
        }
        let reach2 = &tables.reach2[row..row + ELEMENTS];
        for (j, (&other, to)) in numbers.iter().zip(&work.points).enumerate().skip(i + 1) {
            let squared = (from[0] - to[0]).powi(2) + (from[1] - to[1]).powi(2) + (from[2] - to[2]).powi(2);
            // No limit of the tables is beyond 276 pm.
            if !(squared < 8e4) || usize::from(other) >= ELEMENTS || squared > reach2[usize::from(other)] {
                continue;
            }
            let distance = squared.sqrt();
            let limits = &tables.limits[row + usize::from(other)];
            let order = limits.iter().filter(|&&limit| distance < limit).count() as u32;
            work.valences[i] += order;
            work.valences[j] += order;
        }
    }
    let allowed = |number: u8| tables.allowed.get(usize::from(number)).copied().unwrap_or(0);
    let atoms = numbers.iter().zip(&work.valences);
    atoms.filter(|&(&number, &valence)| allowed(number).checked_shr(valence).unwrap_or(0) & 1 == 1).count() as i64
}
