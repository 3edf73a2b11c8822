//! What a Transformer block over packed tokens does between its matrix products, on a CPU: `AdaLN` (Peebles & Xie 2023,
//! arXiv 2212.09748), gated residuals, attention within each system, GELU. Forward only. Sums are kept in single
//! precision, whatever the type of the values.

mod attention;
mod lanes;
mod pieces;
mod rows;

pub use attention::{SIZES, attention};
pub use lanes::{Bf16, Value};
pub use rows::{Gated, Modulation, Normed, gate_adaln, gelu};
