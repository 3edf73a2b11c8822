//! Structure matching: are two crystals the same, but for tolerances?
//!
//! The method is that of pymatgen's `StructureMatcher` (S. P. Ong et al., Comput. Mater. Sci. 68, 314,
//! 2013): reduce both cells; scale both to the same volume per atom; lay the lattice of the one (the
//! source) over that of the other (the target) in each way whose lengths agree within `ltol` and whose
//! angles agree within `angle_tol`; lay an atom of the target's rarest kind (the anchor) over each of its
//! kind in the source; on the lattice half-way between, find partners with the least sum of squared
//! distances, move one crystal by their mean, and compare the distances that are left, in units of
//! (V / n)^(1/3), with `stol`.
//!
//! [`Convention::Pymatgen`] gives pymatgen's verdicts. They depend on which crystal comes first, on the
//! order of atoms, and on whether noise hides a smaller cell; whether two crystals match is judged by the
//! largest distance but the distance is refused by its rms; and groups depend on the order of the list.
//!
//! [`Convention::Symmetric`] is the same search with six points settled otherwise:
//! 1. Both crystals are the source in turn; either way will do, and the better of the two counts.
//! 2. The primitive cell is found by Cartesian distances, whatever the cell and the order of atoms
//!    ([`translations`]).
//! 3. With `primitive_cell`, cells of which one holds k times as many atoms are compared, too: the smaller
//!    one is repeated. And if two crystals do not match so, the cells as given are compared.
//! 4. The anchor is the most crowded atom of the rarest kind, not the first.
//! 5. There is one criterion, the largest distance. The fit with the least rms among those that meet it
//!    is reported; there is none exactly if the crystals do not match.
//! 6. A group is whatever is connected by matches.
//!
//! Modules in order of dependency: [`lattice`], [`niggli`], [`primitive`], [`translations`], [`crystal`],
//! [`mappings`], [`assignment`], [`torus`], [`bounds`], [`sites`],
//! [`hunt`], [`pair`], [`batch`].

pub mod assignment;
pub mod batch;
pub mod bounds;
pub mod crystal;
pub mod hunt;
pub mod lattice;
pub mod mappings;
pub mod niggli;
pub mod pair;
pub mod primitive;
pub mod sites;
pub mod torus;
pub mod translations;

pub use batch::{crystals, first_matches, fit_pairs, groups, rms_pairs};
pub use crystal::Crystal;
pub use pair::{Question, Workspace};
pub use sites::Fit;

use crate::error::{Error, Result};

/// Whose answer is wanted where definitions differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Convention {
    Symmetric,
    Pymatgen,
}

#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::struct_excessive_bools)] // pymatgen's switches
pub struct Options {
    /// Lengths may differ by this factor less one.
    pub ltol: f64,
    /// Sites may differ by this times (V / n)^(1/3).
    pub stol: f64,
    /// Angles may differ by this, in degrees.
    pub angle_tol: f64,
    pub primitive_cell: bool,
    /// Scale to the same volume.
    pub scale: bool,
    /// Repeat the smaller cell if it divides the larger.
    pub attempt_supercell: bool,
    pub convention: Convention,
    /// Skip searches that cannot find anything. The answers are the same; off only to prove it.
    pub prefilter: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            ltol: 0.2,
            stol: 0.3,
            angle_tol: 5.0,
            primitive_cell: true,
            scale: true,
            attempt_supercell: false,
            convention: Convention::Symmetric,
            prefilter: true,
        }
    }
}

impl Options {
    /// The largest tolerances: beyond, everything matches and the search does not end.
    pub const MAX_LTOL: f64 = 1.0;
    pub const MAX_ANGLE_TOL: f64 = 45.0;
    pub const MAX_STOL: f64 = 10.0;

    /// # Errors
    /// A tolerance is not positive, or beyond its limit.
    pub fn check(&self) -> Result<()> {
        let limits = [
            ("ltol", self.ltol, Self::MAX_LTOL),
            ("stol", self.stol, Self::MAX_STOL),
            ("angle_tol", self.angle_tol, Self::MAX_ANGLE_TOL),
        ];
        for (name, value, limit) in limits {
            if !(value > 0.0 && value <= limit) {
                return Err(Error::argument(
                    name,
                    format!("be positive and at most {limit}"),
                    value,
                    "0.2, 0.3 and 5 degrees are usual",
                ));
            }
        }
        Ok(())
    }
}
