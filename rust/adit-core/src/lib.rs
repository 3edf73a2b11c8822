//! The pure Rust core of adit: numbers in, numbers out, no Python.
//!
//! Modules in order of dependency; each uses only those above it:
//!
//! 1. [`error`]: the one error type
//! 2. [`threads`]: thread pools that survive a fork
//! 3. [`cell`]: 3-vectors, cells of row vectors, Minkowski reduction
//! 4. [`elements`]: their symbols
//! 5. [`pack`]: gathering and batching of variable-size systems
//! 6. [`distances`]: smallest interatomic distances
//! 7. [`neighbors`]: neighbour lists
//! 8. [`symmetry`]: Niggli reduction, space groups and standard cells through `moyo`
//! 9. [`validity`]: charge neutrality of compositions
//! 10. [`matching`]: are two crystals the same?
//! 11. [`types`]: the most likely elements of atoms whose composition is given
//! 12. [`bonds`]: bonds, orders and formal charges of molecules, SDF text, geometry checks
//! 13. [`stability`]: the EDM tables of bond lengths
//! 14. [`random`]: random numbers by seed and stream
//! 15. [`nearest`]: distances to the nearest periodic image
//! 16. [`features`]: what models are fed with
//! 17. [`blocks`]: Transformer blocks between their matrix products
//!
//! Conventions: Angstrom; a cell is three row vectors; fractional f and Cartesian x relate by
//! x = f @ cell; system k of a pack owns atoms `offsets[k]..offsets[k + 1]`.

#![forbid(unsafe_code)]

pub mod blocks;
pub mod bonds;
pub mod cell;
pub mod distances;
pub mod elements;
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
pub mod types;
pub mod validity;

pub use error::{Error, Result};
