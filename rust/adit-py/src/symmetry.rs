//! Wraps `adit_core::symmetry`.

use adit_core::symmetry;
use numpy::{PyArray1, PyArray3};
use pyo3::prelude::*;

use crate::arrays::{self, Input, Real, detached, invalid};

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

#[pyfunction]
#[pyo3(
    signature = (numbers, positions, cells, offsets, symprec=None, threads=None),
    text_signature = "(numbers, positions, cells, offsets, symprec=0.01, threads=None)"
)]
pub fn spacegroups<'py>(
    py: Python<'py>,
    numbers: &Bound<'py, PyAny>,
    positions: &Bound<'py, PyAny>,
    cells: &Bound<'py, PyAny>,
    offsets: &Bound<'py, PyAny>,
    symprec: Option<&Bound<'py, PyAny>>,
    threads: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyArray1<i64>>> {
    let numbers: Input<u8> = Input::new("numbers", numbers, &[None])?;
    let positions = Real::new("positions", positions, &[None, Some(3)])?;
    let cells = Real::new("cells", cells, &[None, Some(3), Some(3)])?;
    let offsets: Input<i64> = Input::new("offsets", offsets, &[None])?;
    let symprec = symprec.map_or(Ok(0.01), |symprec| arrays::scalar("symprec", symprec, "a length in Angstrom"))?;
    let (numbers, offsets, threads) = (numbers.flat(), offsets.flat(), arrays::threads(threads)?);
    let result =
        detached!(py, positions, cells, symmetry::spacegroups(numbers, positions, cells, offsets, symprec, threads));
    Ok(arrays::vector(py, result.map_err(invalid)?))
}
