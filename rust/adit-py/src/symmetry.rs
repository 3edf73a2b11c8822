//! Wraps `adit_core::symmetry`.

use adit_core::symmetry;
use numpy::PyArray3;
use pyo3::prelude::*;

use crate::arrays::{self, Input, invalid};

#[pyfunction]
#[pyo3(signature = (cells, threads=None))]
pub fn niggli_reduce<'py>(
    py: Python<'py>,
    cells: &Bound<'py, PyAny>,
    threads: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyArray3<f64>>> {
    let cells: Input<f64> = Input::new("cells", cells, &[None, Some(3), Some(3)])?;
    let (cells, threads) = (cells.matrices(), arrays::threads(threads)?);
    let reduced = py.detach(|| symmetry::niggli_reduce(cells, threads)).map_err(invalid)?;
    let count = reduced.len();
    arrays::shaped(py, reduced.as_flattened().as_flattened().to_vec(), [count, 3, 3])
}
