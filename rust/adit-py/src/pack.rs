//! Wraps `adit_core::pack`.

use adit_core::pack;
use numpy::{Element, PyArray1, PyArray2};
use pyo3::prelude::*;

use crate::arrays::{self, Input, Real, invalid};

type Packed<'py> = (Bound<'py, PyArray1<u8>>, Bound<'py, PyAny>, Bound<'py, PyArray1<i64>>);
type Padded<'py> = (Bound<'py, PyArray2<u8>>, Bound<'py, PyAny>, Bound<'py, PyArray2<bool>>);

#[pyfunction]
pub fn gather<'py>(
    py: Python<'py>,
    offsets: &Bound<'py, PyAny>,
    indices: &Bound<'py, PyAny>,
    numbers: &Bound<'py, PyAny>,
    positions: &Bound<'py, PyAny>,
) -> PyResult<Packed<'py>> {
    fn of<'py, P: Element + Send + Copy>(
        py: Python<'py>,
        (offsets, indices, numbers): (&[i64], &[i64], &[u8]),
        positions: &Input<'py, P>,
    ) -> PyResult<Packed<'py>> {
        let positions = positions.rows();
        let packed = py.detach(|| pack::gather(offsets, indices, numbers, positions)).map_err(invalid)?;
        let atoms = packed.numbers.len();
        Ok((
            arrays::vector(py, packed.numbers),
            arrays::shaped(py, packed.positions, [atoms, 3])?.into_any(),
            arrays::vector(py, packed.offsets),
        ))
    }
    let offsets: Input<i64> = Input::new("offsets", offsets, &[None])?;
    let indices: Input<i64> = Input::new("indices", indices, &[None])?;
    let numbers: Input<u8> = Input::new("numbers", numbers, &[None])?;
    let others = (offsets.flat(), indices.flat(), numbers.flat());
    match Real::new("positions", positions, &[None, Some(3)])? {
        Real::Double(positions) => of(py, others, &positions),
        Real::Single(positions) => of(py, others, &positions),
    }
}

#[pyfunction]
pub fn gather_padded<'py>(
    py: Python<'py>,
    offsets: &Bound<'py, PyAny>,
    indices: &Bound<'py, PyAny>,
    numbers: &Bound<'py, PyAny>,
    positions: &Bound<'py, PyAny>,
    width: &Bound<'py, PyAny>,
) -> PyResult<Padded<'py>> {
    fn of<'py, P: Element + Send + Copy + Default>(
        py: Python<'py>,
        (offsets, indices, numbers): (&[i64], &[i64], &[u8]),
        positions: &Input<'py, P>,
        width: usize,
    ) -> PyResult<Padded<'py>> {
        let (positions, rows) = (positions.rows(), indices.len());
        let work = || pack::gather_padded(offsets, indices, numbers, positions, width);
        let padded = py.detach(work).map_err(invalid)?;
        Ok((
            arrays::shaped(py, padded.numbers, [rows, width])?,
            arrays::shaped(py, padded.positions, [rows, width, 3])?.into_any(),
            arrays::shaped(py, padded.mask, [rows, width])?,
        ))
    }
    let offsets: Input<i64> = Input::new("offsets", offsets, &[None])?;
    let indices: Input<i64> = Input::new("indices", indices, &[None])?;
    let numbers: Input<u8> = Input::new("numbers", numbers, &[None])?;
    let width: usize = arrays::scalar("width", width, "a number of atoms, at least 0")?;
    let others = (offsets.flat(), indices.flat(), numbers.flat());
    match Real::new("positions", positions, &[None, Some(3)])? {
        Real::Double(positions) => of(py, others, &positions, width),
        Real::Single(positions) => of(py, others, &positions, width),
    }
}

#[pyfunction]
pub fn plan_batches<'py>(
    py: Python<'py>,
    sizes: &Bound<'py, PyAny>,
    order: &Bound<'py, PyAny>,
    token_budget: &Bound<'py, PyAny>,
    max_systems: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyArray1<i64>>> {
    let sizes: Input<i64> = Input::new("sizes", sizes, &[None])?;
    let order: Input<i64> = Input::new("order", order, &[None])?;
    let token_budget = arrays::scalar("token_budget", token_budget, "a positive number of atoms")?;
    let max_systems = arrays::scalar("max_systems", max_systems, "a positive number of systems")?;
    let (sizes, order) = (sizes.flat(), order.flat());
    let cuts = py.detach(|| pack::plan_batches(sizes, order, token_budget, max_systems)).map_err(invalid)?;
    Ok(arrays::vector(py, cuts))
}

#[pyfunction]
pub fn bucket_by_size<'py>(
    py: Python<'py>,
    sizes: &Bound<'py, PyAny>,
    widths: &Bound<'py, PyAny>,
) -> PyResult<Vec<Bound<'py, PyArray1<i64>>>> {
    let sizes: Input<i64> = Input::new("sizes", sizes, &[None])?;
    let widths: Input<i64> = Input::new("widths", widths, &[None])?;
    let (sizes, widths) = (sizes.flat(), widths.flat());
    let buckets = py.detach(|| pack::bucket_by_size(sizes, widths)).map_err(invalid)?;
    Ok(buckets.into_iter().map(|bucket| arrays::vector(py, bucket)).collect())
}
