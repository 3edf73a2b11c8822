//! Wraps `adit_core::neighbors`.

use adit_core::neighbors::{self, Algorithm};
use numpy::{PyArray1, PyArray2};
use pyo3::prelude::*;

use crate::arrays::{self, Input, invalid};

type Columns<'py> = (
    Bound<'py, PyArray1<i64>>,
    Bound<'py, PyArray1<i64>>,
    Bound<'py, PyArray2<i32>>,
    Bound<'py, PyArray1<f64>>,
    Bound<'py, PyArray2<f64>>,
);

#[pyfunction]
#[pyo3(
    signature = (positions, cell, pbc, cutoff, half=None, algorithm=None),
    text_signature = "(positions, cell, pbc, cutoff, half=False, algorithm='auto')"
)]
pub fn neighbor_list<'py>(
    py: Python<'py>,
    positions: &Bound<'py, PyAny>,
    cell: Option<&Bound<'py, PyAny>>,
    pbc: &Bound<'py, PyAny>,
    cutoff: &Bound<'py, PyAny>,
    half: Option<&Bound<'py, PyAny>>,
    algorithm: Option<&Bound<'py, PyAny>>,
) -> PyResult<Columns<'py>> {
    let positions: Input<f64> = Input::new("positions", positions, &[None, Some(3)])?;
    let pbc: [bool; 3] = arrays::scalar("pbc", pbc, "a tuple of three bools")?;
    let cutoff: f64 = arrays::scalar("cutoff", cutoff, "a length in Angstrom")?;
    let half = half.map_or(Ok(false), |half| arrays::scalar("half", half, "a bool"))?;
    let algorithm = algorithm.map_or(Ok(Algorithm::Auto), algorithm_named)?;
    let cell = match cell {
        Some(cell) => Input::<f64>::new("cell", cell, &[Some(3), Some(3)])?.matrices()[0],
        None if pbc == [false; 3] => [[0.0; 3]; 3],
        None => {
            return Err(invalid(format!(
                "`cell` must be a (3, 3) array of row vectors where pbc is set; got None with pbc {pbc:?}. \
                 Pass the cell, or pbc=(False, False, False)"
            )));
        }
    };
    let rows = positions.rows();
    let pairs = py.detach(|| neighbors::neighbor_list(rows, &cell, pbc, cutoff, half, algorithm)).map_err(invalid)?;
    let count = pairs.i.len();
    Ok((
        arrays::vector(py, pairs.i),
        arrays::vector(py, pairs.j),
        arrays::shaped(py, pairs.shifts, [count, 3])?,
        arrays::vector(py, pairs.distances),
        arrays::shaped(py, pairs.vectors, [count, 3])?,
    ))
}

fn algorithm_named(name: &Bound<'_, PyAny>) -> PyResult<Algorithm> {
    const NAMES: &str = "one of 'auto', 'brute', 'cells'";
    let name: String = arrays::scalar("algorithm", name, NAMES)?;
    match name.as_str() {
        "auto" => Ok(Algorithm::Auto),
        "brute" => Ok(Algorithm::Brute),
        "cells" => Ok(Algorithm::Cells),
        other => Err(invalid(format!("`algorithm` must be {NAMES}; got {other:?}"))),
    }
}
