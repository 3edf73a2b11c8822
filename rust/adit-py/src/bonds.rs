//! Wraps `adit_core::bonds` and `adit_core::stability`.

use adit_core::bonds::{self, Bonds};
use adit_core::stability;
use numpy::{PyArray1, PyArray2};
use pyo3::prelude::*;

use crate::arrays::{self, Input, Real, invalid};

type Flat<'py> = (
    Bound<'py, PyArray2<i64>>,
    Bound<'py, PyArray1<u8>>,
    Bound<'py, PyArray1<i64>>,
    Bound<'py, PyArray1<i8>>,
    Bound<'py, PyArray1<u8>>,
    Bound<'py, PyArray1<i64>>,
    Bound<'py, PyArray1<u32>>,
);

/// Molecules, and what is asked of them.
struct Request<'py> {
    numbers: Input<'py, u8>,
    positions: Input<'py, f64>,
    offsets: Input<'py, i64>,
    charges: Option<Input<'py, i32>>,
    threads: Option<usize>,
}

impl<'py> Request<'py> {
    fn new(
        numbers: &Bound<'py, PyAny>,
        positions: &Bound<'py, PyAny>,
        offsets: &Bound<'py, PyAny>,
        charges: Option<&Bound<'py, PyAny>>,
        threads: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Self> {
        Ok(Self {
            numbers: Input::new("numbers", numbers, &[None])?,
            positions: Input::new("positions", positions, &[None, Some(3)])?,
            offsets: Input::new("offsets", offsets, &[None])?,
            charges: charges.map(|charges| Input::new("charges", charges, &[None])).transpose()?,
            threads: arrays::threads(threads)?,
        })
    }
}

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
    let request = Request::new(numbers, positions, offsets, charges, threads)?;
    let (numbers, positions, offsets) = (request.numbers.flat(), request.positions.rows(), request.offsets.flat());
    let (charges, threads) = (request.charges.as_ref().map(Input::flat), request.threads);
    let found = py.detach(|| bonds::infer_batch(numbers, positions, offsets, charges, threads)).map_err(invalid)?;
    flat(py, &found)
}

#[pyfunction]
#[pyo3(signature = (numbers, positions, offsets, charges=None, threads=None))]
pub fn check_geometry<'py>(
    py: Python<'py>,
    numbers: &Bound<'py, PyAny>,
    positions: &Bound<'py, PyAny>,
    offsets: &Bound<'py, PyAny>,
    charges: Option<&Bound<'py, PyAny>>,
    threads: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyArray1<u32>>> {
    let request = Request::new(numbers, positions, offsets, charges, threads)?;
    let (numbers, positions, offsets) = (request.numbers.flat(), request.positions.rows(), request.offsets.flat());
    let (charges, threads) = (request.charges.as_ref().map(Input::flat), request.threads);
    let failed = py.detach(|| bonds::check_batch(numbers, positions, offsets, charges, threads)).map_err(invalid)?;
    Ok(arrays::vector(py, failed))
}

#[pyfunction]
#[pyo3(signature = (numbers, positions, offsets, titles, items, charges=None, threads=None))]
#[allow(clippy::too_many_arguments)] // those of the Python function
pub fn sdf_records<'py>(
    py: Python<'py>,
    numbers: &Bound<'py, PyAny>,
    positions: &Bound<'py, PyAny>,
    offsets: &Bound<'py, PyAny>,
    titles: &Bound<'py, PyAny>,
    items: &Bound<'py, PyAny>,
    charges: Option<&Bound<'py, PyAny>>,
    threads: Option<&Bound<'py, PyAny>>,
) -> PyResult<(Vec<String>, Bound<'py, PyArray1<u32>>)> {
    let request = Request::new(numbers, positions, offsets, charges, threads)?;
    let titles: Vec<String> = arrays::scalar("titles", titles, "a list of strings, one for each system")?;
    let items: Vec<String> = arrays::scalar("items", items, "a list of strings, one for each system")?;
    let (numbers, positions, offsets) = (request.numbers.flat(), request.positions.rows(), request.offsets.flat());
    let (charges, threads) = (request.charges.as_ref().map(Input::flat), request.threads);
    let records = py
        .detach(|| bonds::sdf_batch(numbers, positions, offsets, (&titles, &items), charges, threads))
        .map_err(invalid)?;
    let (texts, flags): (Vec<_>, Vec<_>) = records.into_iter().unzip();
    Ok((texts, arrays::vector(py, flags)))
}

#[pyfunction]
#[pyo3(signature = (numbers, positions, offsets, threads=None))]
pub fn stable_atoms<'py>(
    py: Python<'py>,
    numbers: &Bound<'py, PyAny>,
    positions: &Bound<'py, PyAny>,
    offsets: &Bound<'py, PyAny>,
    threads: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyArray1<i64>>> {
    let numbers: Input<u8> = Input::new("numbers", numbers, &[None])?;
    let positions = Real::new("positions", positions, &[None, Some(3)])?;
    let offsets: Input<i64> = Input::new("offsets", offsets, &[None])?;
    let (numbers, offsets, threads) = (numbers.flat(), offsets.flat(), arrays::threads(threads)?);
    let counts = match &positions {
        Real::Double(positions) => {
            let positions = positions.rows();
            py.detach(|| stability::stable_atoms(numbers, positions, offsets, threads))
        }
        Real::Single(positions) => {
            let positions = positions.rows();
            py.detach(|| stability::stable_atoms(numbers, positions, offsets, threads))
        }
    };
    Ok(arrays::vector(py, counts.map_err(invalid)?))
}

type StabilityTables = (Vec<(u8, u8, [u16; 3])>, [u16; 3], Vec<(u8, Vec<u16>)>);

#[pyfunction]
pub fn stability_tables() -> StabilityTables {
    let valences = stability::VALENCES
        .iter()
        .map(|&(number, valences)| (number, valences.iter().map(|&valence| u16::from(valence)).collect()))
        .collect();
    (stability::LENGTHS.to_vec(), stability::MARGINS, valences)
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
