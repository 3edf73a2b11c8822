//! Symmetry of crystals through the `moyo` crate, none of whose search is done again here: this
//! brings crystals into a form that it can digest, keeps its tolerances where it ends, and brings
//! what it found back into the cell that was given.
//!
//! - [`niggli_reduce`]: reduced cells of lattices
//! - [`spacegroups`]: numbers of space groups
//! - [`analyse`]: all that is found: Wyckoff letters, orbits, operations, standardised cells
//! - [`standardize`]: conventional or primitive cells
//! - [`symmetrize`]: crystals moved into the highest symmetry nearby
//!
//! K. Shinohara, A. Togo, I. Tanaka, Acta Cryst. A79, 390 (2023).

mod analyse;
mod niggli;
mod search;
mod snap;
mod standard;

pub use analyse::{Analysis, analyse};
pub use niggli::{niggli_reduce, niggli_transform};
pub use search::{Crystals, spacegroups};
pub use snap::{Limits, Symmetrized, symmetrize};
pub use standard::{Standard, standardize};

/// Beyond this ratio of the longest to the shortest edge, rounding rivals the tolerances, and moyo
/// may not end.
const MAX_ASPECT: f64 = 1e4;
