//! Typical lengths of single, double and triple bonds for every pair of elements.
//!
//! Pairs that organic chemistry measures well are listed (rounded from F. H. Allen et al., J. Chem.
//! Soc. Perkin Trans. 2, S1 (1987), and the diatomic hydrides); all others are sums of covalent
//! radii: P. Pyykko and M. Atsumi, Chem. Eur. J. 15, 186 (single) and 12770 (double) (2009);
//! P. Pyykko, S. Riedel, M. Patzschke, Chem. Eur. J. 11, 3511 (2005) (triple).

use std::sync::LazyLock;

use super::elements::{MAX_NUMBER, is_covalent, max_order};

/// Contacts longer than this many single bonds are never bonds.
pub const REACH: f32 = 1.32;
/// Bonds shorter than this (those of hydrogen) are stretched in Angstrom as much as one of this length.
const SHORTEST: f32 = 1.4;
const ELEMENTS: usize = MAX_NUMBER as usize + 1;

/// Lengths in Angstrom of orders 1 to 3.
#[derive(Debug, Clone, Copy)]
pub struct Pair {
    pub lengths: [f32; 3],
    /// The square of the longest distance at which the two may be bonded; 0 for never.
    pub reach2: f32,
}

/// Single, double and triple bonds in pm; 0 where radii will do or there is none.
const LISTED: &[(u8, u8, [u16; 3])] = &[
    (1, 1, [74, 0, 0]),
    (1, 5, [119, 0, 0]),
    (1, 6, [109, 0, 0]),
    (1, 7, [102, 0, 0]),
    (1, 8, [97, 0, 0]),
    (1, 9, [92, 0, 0]),
    (1, 14, [148, 0, 0]),
    (1, 15, [142, 0, 0]),
    (1, 16, [134, 0, 0]),
    (1, 17, [128, 0, 0]),
    (1, 34, [146, 0, 0]),
    (1, 35, [141, 0, 0]),
    (1, 53, [161, 0, 0]),
    (5, 5, [172, 156, 0]),
    (5, 6, [157, 140, 0]),
    (5, 7, [150, 138, 0]),
    (5, 8, [140, 124, 0]),
    (5, 9, [135, 0, 0]),
    (6, 6, [153, 134, 120]),
    (6, 7, [147, 128, 115]),
    (6, 8, [142, 121, 113]),
    (6, 9, [135, 0, 0]),
    (6, 14, [187, 170, 0]),
    (6, 15, [183, 167, 154]),
    (6, 16, [181, 162, 0]),
    (6, 17, [177, 0, 0]),
    (6, 34, [196, 180, 0]),
    (6, 35, [194, 0, 0]),
    (6, 53, [213, 0, 0]),
    (7, 7, [145, 124, 110]),
    (7, 8, [141, 121, 106]),
    (7, 9, [139, 0, 0]),
    (7, 15, [168, 155, 0]),
    (7, 16, [168, 153, 0]),
    (7, 17, [174, 0, 0]),
    (7, 35, [187, 0, 0]),
    (8, 8, [147, 121, 0]),
    (8, 9, [142, 0, 0]),
    (8, 14, [164, 151, 0]),
    (8, 15, [162, 148, 0]),
    (8, 16, [160, 144, 0]),
    (8, 17, [169, 146, 0]),
    (8, 35, [182, 161, 0]),
    (8, 53, [200, 178, 0]),
    (9, 9, [142, 0, 0]),
    (9, 15, [158, 0, 0]),
    (9, 16, [158, 0, 0]),
    (15, 15, [222, 204, 0]),
    (15, 16, [210, 194, 0]),
    (15, 17, [204, 0, 0]),
    (16, 16, [205, 190, 0]),
    (16, 17, [205, 0, 0]),
];

/// Covalent radii in pm of the elements that this module bonds: single, double, triple.
const RADII: &[(u8, [u16; 3])] = &[
    (1, [32, 0, 0]),
    (5, [85, 78, 73]),
    (6, [75, 67, 60]),
    (7, [71, 60, 54]),
    (8, [63, 57, 53]),
    (9, [64, 59, 53]),
    (13, [126, 113, 111]),
    (14, [116, 107, 102]),
    (15, [111, 102, 94]),
    (16, [103, 94, 95]),
    (17, [99, 95, 93]),
    (31, [124, 117, 121]),
    (32, [121, 111, 114]),
    (33, [121, 114, 106]),
    (34, [116, 107, 107]),
    (35, [114, 109, 110]),
    (36, [117, 121, 108]),
    (49, [142, 136, 146]),
    (50, [140, 130, 132]),
    (51, [140, 133, 127]),
    (52, [136, 128, 121]),
    (53, [133, 129, 125]),
    (54, [131, 135, 122]),
    (80, [133, 142, 0]),
    (81, [144, 142, 150]),
    (82, [144, 135, 137]),
    (83, [151, 141, 135]),
    (84, [145, 135, 129]),
    (85, [147, 138, 138]),
];

static PAIRS: LazyLock<Vec<Pair>> = LazyLock::new(table);

pub fn pair(first: u8, second: u8) -> &'static Pair {
    let inside = |number: u8| usize::from(if number > MAX_NUMBER { 0 } else { number });
    &PAIRS[inside(first) * ELEMENTS + inside(second)]
}

/// A distance over the length of a single bond; of bonds to hydrogen, as if they were longer.
pub fn relative(distance: f32, single: f32) -> f32 {
    1.0 + (distance - single) / single.max(SHORTEST)
}

/// All pairs of `first`, by the second element.
pub fn pairs_of(first: u8) -> &'static [Pair] {
    let row = usize::from(if first > MAX_NUMBER { 0 } else { first });
    &PAIRS[row * ELEMENTS..(row + 1) * ELEMENTS]
}

fn table() -> Vec<Pair> {
    let mut pm = vec![[0u16; 3]; ELEMENTS * ELEMENTS];
    for &(first, left) in RADII {
        for &(second, right) in RADII {
            let order = |k: usize| if left[k] == 0 || right[k] == 0 { 0 } else { left[k] + right[k] };
            pm[usize::from(first) * ELEMENTS + usize::from(second)] = [order(0), order(1), order(2)];
        }
    }
    for &(first, second, listed) in LISTED {
        for (first, second) in [(first, second), (second, first)] {
            let held = &mut pm[usize::from(first) * ELEMENTS + usize::from(second)];
            for (held, listed) in held.iter_mut().zip(listed) {
                *held = if listed == 0 { *held } else { listed };
            }
        }
    }
    let one = |place: usize| {
        let (first, second) = ((place / ELEMENTS) as u8, (place % ELEMENTS) as u8);
        finish(pm[place], first, second)
    };
    (0..pm.len()).map(one).collect()
}

/// In Angstrom, each order clearly shorter than the one before.
fn finish(pm: [u16; 3], first: u8, second: u8) -> Pair {
    let mut lengths = pm.map(|length| f32::from(length) / 100.0);
    for k in 1..3 {
        let longest = lengths[k - 1] * 0.95;
        lengths[k] = if lengths[k] == 0.0 { longest } else { lengths[k].min(longest) };
    }
    let bonded = pm[0] > 0 && is_covalent(first) && is_covalent(second) && max_order(first).min(max_order(second)) > 0;
    let reach = if bonded { lengths[0] + (REACH - 1.0) * lengths[0].max(SHORTEST) } else { 0.0 };
    Pair { lengths, reach2: reach * reach }
}
