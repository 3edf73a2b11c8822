//! `adit._rust`: thin wrappers over adit-core, one file for each of its files. They check types
//! and shapes, release the GIL, compute, and hand the arrays over without copying.

#![deny(unsafe_code)]

mod arrays;
mod blocks;
mod bonds;
mod distances;
mod features;
mod matching;
mod neighbors;
mod pack;
mod symmetry;
mod types;
mod validity;

use pyo3::prelude::*;

/// The version of the extension module.
#[pyfunction]
fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

#[pymodule]
fn _rust(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(version, module)?)?;
    module.add_function(wrap_pyfunction!(neighbors::neighbor_list, module)?)?;
    module.add_function(wrap_pyfunction!(neighbors::neighbor_list_batch, module)?)?;
    module.add_function(wrap_pyfunction!(bonds::infer_bonds, module)?)?;
    module.add_function(wrap_pyfunction!(bonds::check_geometry, module)?)?;
    module.add_function(wrap_pyfunction!(bonds::sdf_records, module)?)?;
    module.add_function(wrap_pyfunction!(bonds::stable_atoms, module)?)?;
    module.add_function(wrap_pyfunction!(bonds::stability_tables, module)?)?;
    module.add_function(wrap_pyfunction!(distances::min_distances, module)?)?;
    module.add_function(wrap_pyfunction!(pack::gather, module)?)?;
    module.add_function(wrap_pyfunction!(pack::gather_padded, module)?)?;
    module.add_function(wrap_pyfunction!(pack::plan_batches, module)?)?;
    module.add_function(wrap_pyfunction!(pack::bucket_by_size, module)?)?;
    module.add_function(wrap_pyfunction!(features::operations, module)?)?;
    module.add_function(wrap_pyfunction!(features::augment, module)?)?;
    module.add_function(wrap_pyfunction!(features::fractional, module)?)?;
    module.add_function(wrap_pyfunction!(features::image_distances, module)?)?;
    module.add_function(wrap_pyfunction!(features::fourier, module)?)?;
    module.add_function(wrap_pyfunction!(blocks::gate_adaln, module)?)?;
    module.add_function(wrap_pyfunction!(blocks::attention, module)?)?;
    module.add_function(wrap_pyfunction!(blocks::gelu, module)?)?;
    module.add_function(wrap_pyfunction!(symmetry::niggli_reduce, module)?)?;
    module.add_function(wrap_pyfunction!(symmetry::spacegroups, module)?)?;
    module.add_function(wrap_pyfunction!(symmetry::analyse, module)?)?;
    module.add_function(wrap_pyfunction!(symmetry::standardize, module)?)?;
    module.add_function(wrap_pyfunction!(symmetry::symmetrize, module)?)?;
    module.add_function(wrap_pyfunction!(types::most_likely_types, module)?)?;
    module.add_function(wrap_pyfunction!(validity::compositional, module)?)?;
    module.add_function(wrap_pyfunction!(validity::compositional_of_formulas, module)?)?;
    module.add_function(wrap_pyfunction!(validity::parse_formula, module)?)?;
    module.add_function(wrap_pyfunction!(validity::oxidation_state_tables, module)?)?;
    module.add_class::<matching::Crystals>()?;
    Ok(())
}
