//! Wraps `adit_core::bonds`.

use adit_core::bonds::{self, Bonds};
use numpy::{PyArray1, PyArray2};
use pyo3::prelude::*;

use crate::arrays::{self, Input, invalid};

type Flat<'py> = (
    Bound<'py, PyArray2<i64>>,
    Bound<'py, PyArray1<u8>>,
    Bound<'py, PyArray1<i64>>,
    Bound<'py, PyArray1<i8>>,
    Bound<'py, PyArray1<u8>>,
    Bound<'py, PyArray1<i64>>,
    Bound<'py, PyArray1<u32>>,
);

#[pyfunction]
#[pyo3(signature = (numbers, positions, offsets, charges=None, threads=None))]
pub fn infer_bonds<'py>(
    py: Python<'py>,
    numbers: &Bound<'py, PyAny>,
    positions: &Bound<'py, PyAny>,
    offsets: &Bound<'py, PyAny>,
    charges: Option<&Bound<'py, PyAny>>,
    threads: Option<&Bound<'py, PyAny>>,
) -> PyResult<Flat<'py>> {
    let numbers: Input<u8> = Input::new("numbers", numbers, &[None])?;
    let positions: Input<f64> = Input::new("positions", positions, &[None, Some(3)])?;
    let offsets: Input<i64> = Input::new("offsets", offsets, &[None])?;
    let charges = charges.map(|charges| Input::<i32>::new("charges", charges, &[None])).transpose()?;
    let threads = arrays::threads(threads)?;
    let (numbers, positions, offsets) = (numbers.flat(), positions.rows(), offsets.flat());
    let charges = charges.as_ref().map(Input::flat);
    let found = py.detach(|| bonds::infer_batch(numbers, positions, offsets, charges, threads)).map_err(invalid)?;
    flat(py, &found)
}

fn flat<'py>(py: Python<'py>, found: &[Bonds]) -> PyResult<Flat<'py>> {
    let count: usize = found.iter().map(|one| one.pairs.len()).sum();
    let pairs: Vec<i64> = found.iter().flat_map(|one| one.pairs.as_flattened()).map(|&atom| i64::from(atom)).collect();
    let mut ends = vec![0];
    ends.extend(found.iter().scan(0, |sum, one| {
        *sum += one.pairs.len() as i64;
        Some(*sum)
    }));
    Ok((
        arrays::shaped(py, pairs, [count, 2])?,
        arrays::vector(py, found.iter().flat_map(|one| one.orders.iter().copied()).collect()),
        arrays::vector(py, ends),
        arrays::vector(py, found.iter().flat_map(|one| one.charges.iter().copied()).collect()),
        arrays::vector(py, found.iter().flat_map(|one| one.radicals.iter().copied()).collect()),
        arrays::vector(py, found.iter().flat_map(|one| one.fragments.iter().map(|&label| i64::from(label))).collect()),
        arrays::vector(py, found.iter().map(|one| one.flags).collect()),
    ))
}
