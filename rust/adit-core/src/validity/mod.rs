//! Compositional validity of crystals: SMACT's test of charge neutrality and electronegativity.
//!
//! D. W. Davies et al., J. Open Source Softw. 4, 1361 (2019), as used for generated crystals since CDVAE
//! (T. Xie et al., arXiv 2110.06197, section 5.2).

mod formula;
mod tables;

use rayon::prelude::*;

pub use formula::{Composition, parse};

use crate::error::{Error, Result};
use crate::{pack, threads};

/// Compositions of more atoms than this, once reduced, are refused: the reachable charges of one
/// side would fill more than 16 MB.
pub const MAX_ATOMS: u64 = 1 << 24;

/// Which states each element may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OxidationStates {
    Smact14,
    Icsd16,
    Icsd24,
}

impl OxidationStates {
    pub const NAMES: [&str; 3] = ["smact14", "icsd16", "icsd24"];

    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Smact14, Self::Icsd16, Self::Icsd24].into_iter().zip(Self::NAMES).find(|it| it.1 == name).map(|it| it.0)
    }

    /// Ascending; none for an element that has none or is unknown.
    #[must_use]
    pub fn of(self, number: u8) -> &'static [i8] {
        let table = match self {
            Self::Smact14 => &tables::SMACT14,
            Self::Icsd16 => &tables::ICSD16,
            Self::Icsd24 => &tables::ICSD24,
        };
        table.get(usize::from(number)).copied().unwrap_or(&[])
    }
}

/// On the Pauling scale; NaN where there is none.
#[must_use]
pub fn electronegativity(number: u8) -> f64 {
    tables::ELECTRONEGATIVITY.get(usize::from(number)).copied().unwrap_or(f64::NAN)
}

/// Whether each system has a composition of which [`is_valid`] is true.
///
/// # Errors
/// The arrays do not fit together, a composition is too large, or the threads are refused.
pub fn compositional(
    numbers: &[u8],
    offsets: &[i64],
    states: OxidationStates,
    thread_count: Option<usize>,
) -> Result<Vec<bool>> {
    pack::check_offsets(offsets, numbers.len())?;
    let one = |bounds: &[i64]| {
        let mut counts = [0u64; 256];
        for &number in &numbers[bounds[0] as usize..bounds[1] as usize] {
            counts[usize::from(number)] += 1;
        }
        let present = (0..=u8::MAX).filter(|&number| counts[usize::from(number)] > 0);
        let composition: Composition = present.map(|number| (number, counts[usize::from(number)])).collect();
        is_valid(&composition, states)
    };
    threads::run(thread_count, || offsets.par_windows(2).with_min_len(256).map(one).collect())?
}

/// As [`compositional`], of formulas such as `Ca3(PO4)2`.
///
/// # Errors
/// A formula is none (it is named), a composition is too large, or the threads are refused.
pub fn compositional_of_formulas<S: AsRef<str> + Sync>(
    formulas: &[S],
    states: OxidationStates,
    thread_count: Option<usize>,
) -> Result<Vec<bool>> {
    let one = |(index, formula): (usize, &S)| {
        let formula = formula.as_ref();
        let composition = parse(formula).map_err(|expected| {
            let shown: String = formula.chars().take(80).collect();
            Error::entry("formulas", index, expected, format!("{shown:?}"), "Write it like NaCl or Ca3(PO4)2")
        })?;
        is_valid(&composition, states)
    };
    threads::run(thread_count, || formulas.par_iter().enumerate().with_min_len(256).map(one).collect())?
}

/// Some choice of one oxidation state for each element is neutral, and every cation in it is less
/// electronegative than every anion. Elements and alloys of metals pass; nothing at all does not.
///
/// The most electronegative cation splits the elements into those that may give and those that may
/// take electrons. The charges that each side can reach are the set bits of a number, so that adding
/// an element is a few shifts; neutral means a bit in common. Exact, and linear in the elements.
///
/// # Errors
/// More than [`MAX_ATOMS`] in the reduced composition.
pub fn is_valid(composition: &[(u8, u64)], states: OxidationStates) -> Result<bool> {
    if composition.len() < 2 {
        return Ok(composition.len() == 1);
    }
    let is_metal = |number: u8| tables::METAL.get(usize::from(number)).is_some_and(|&metal| metal);
    if composition.iter().all(|&(number, _)| is_metal(number)) {
        return Ok(true);
    }
    let divisor = composition.iter().fold(0, |divisor, &(_, count)| greatest_common_divisor(divisor, count));
    let atoms = composition.iter().fold(0u64, |sum, &(_, count)| sum.saturating_add(count / divisor.max(1)));
    if atoms > MAX_ATOMS {
        return Err(Error::TooLarge {
            what: "atoms in one reduced composition",
            got: atoms.to_string(),
            limit: MAX_ATOMS as usize,
            remedy: "Round the composition",
        });
    }
    let mut elements = Vec::with_capacity(composition.len());
    for &(number, count) in composition {
        let electronegativity = electronegativity(number);
        let allowed = states.of(number);
        if electronegativity.is_nan() || allowed.is_empty() {
            return Ok(false);
        }
        elements.push(Element { electronegativity, allowed, count: (count / divisor) as usize });
    }
    Ok(is_neutral(elements))
}

struct Element {
    electronegativity: f64,
    allowed: &'static [i8],
    /// In the reduced composition.
    count: usize,
}

/// See [`is_valid`].
fn is_neutral(mut elements: Vec<Element>) -> bool {
    elements.sort_unstable_by(|a, b| a.electronegativity.total_cmp(&b.electronegativity));
    // taken[k]: what elements k, k + 1, ... can take together.
    let mut taken = vec![Charges::zero()];
    for element in elements.iter().rev() {
        let last = &taken[taken.len() - 1];
        let next = last.plus(element.count, element.allowed.iter().filter(|&&q| q <= 0).map(|q| q.unsigned_abs()));
        taken.push(next);
    }
    taken.reverse();
    let mut given = Charges::zero();
    for (k, element) in elements.iter().enumerate() {
        given = given.plus(element.count, element.allowed.iter().filter(|&&q| q >= 0).map(|q| q.unsigned_abs()));
        // Of equal electronegativity, all are on one side.
        let border = elements.get(k + 1).is_none_or(|next| next.electronegativity > element.electronegativity);
        if border && given.meets(&taken[k + 1]) {
            return true;
        }
    }
    false
}

/// A set of charges, as bits.
struct Charges(Vec<u64>);

impl Charges {
    fn zero() -> Self {
        Self(vec![1])
    }

    /// All sums of a member and `count` times one of `charges`.
    fn plus(&self, count: usize, charges: impl Iterator<Item = u8> + Clone) -> Self {
        let Some(largest) = charges.clone().max() else { return Self(Vec::new()) };
        let mut sums = vec![0; self.0.len() + count * usize::from(largest) / 64 + 1];
        for charge in charges {
            let (words, bits) = (count * usize::from(charge) / 64, count * usize::from(charge) % 64);
            for (k, &word) in self.0.iter().enumerate() {
                sums[k + words] |= word << bits;
                if bits > 0 {
                    sums[k + words + 1] |= word >> (64 - bits);
                }
            }
        }
        Self(sums)
    }

    fn meets(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).any(|(mine, theirs)| mine & theirs != 0)
    }
}

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}
