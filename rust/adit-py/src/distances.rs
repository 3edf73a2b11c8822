//! Wraps `adit_core::distances`.

use adit_core::distances;
use numpy::PyArray1;
use pyo3::prelude::*;

use crate::arrays::{self, Input, Real, detached, invalid};

#[pyfunction]
#[pyo3(signature = (positions, cells, periodic, offsets, threads=None))]
pub fn min_distances<'py>(
    py: Python<'py>,
    positions: &Bound<'py, PyAny>,
    cells: &Bound<'py, PyAny>,
    periodic: &Bound<'py, PyAny>,
    offsets: &Bound<'py, PyAny>,
    threads: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyArray1<f64>>> {
    let positions = Real::new("positions", positions, &[None, Some(3)])?;
    let cells = Real::new("cells", cells, &[None, Some(3), Some(3)])?;
    let periodic = arrays::bools("periodic", periodic)?;
    let offsets: Input<i64> = Input::new("offsets", offsets, &[None])?;
    let (offsets, threads) = (offsets.flat(), arrays::threads(threads)?);
    let result =
        detached!(py, positions, cells, distances::min_distances(positions, cells, &periodic, offsets, threads));
    Ok(arrays::vector(py, result.map_err(invalid)?))
}
