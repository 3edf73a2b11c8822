//! The pure Rust core of adit: numbers in, numbers out, no Python.
//!
//! Modules in order of dependency; each uses only those above it:
//!
//! 1. [`error`]: the one error type
//! 2. [`threads`]: thread pools that survive a fork
//! 3. [`cell`]: 3-vectors, cells of row vectors, Minkowski reduction
//! 4. [`pack`]: gathering and batching of variable-size systems
//! 5. [`distances`]: smallest interatomic distances
//! 6. [`neighbors`]: neighbour lists
//! 7. [`symmetry`]: Niggli reduction, space groups and standard cells through `moyo`
//! 8. [`validity`]: charge neutrality of compositions
//! 9. [`matching`]: are two crystals the same?
//! 10. [`bonds`]: bonds, orders and formal charges of molecules, SDF text, geometry checks
//! 11. [`stability`]: the EDM tables of bond lengths
//! 12. [`random`]: random numbers by seed and stream
//! 13. [`nearest`]: distances to the nearest periodic image
//! 14. [`features`]: what models are fed with
//!
//! Conventions: Angstrom; a cell is three row vectors; fractional f and Cartesian x relate by
//! x = f @ cell; system k of a pack owns atoms `offsets[k]..offsets[k + 1]`.

#![forbid(unsafe_code)]

pub mod bonds;
pub mod cell;
pub mod distances;
pub mod error;
pub mod features;
pub mod matching;
pub mod nearest;
pub mod neighbors;
pub mod pack;
pub mod random;
pub mod stability;
pub mod symmetry;
pub mod threads;
pub mod validity;

pub use error::{Error, Result};
