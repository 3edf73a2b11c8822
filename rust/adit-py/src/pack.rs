//! Wraps `adit_core::pack`.

use adit_core::pack;
use numpy::{PyArray1, PyArray2, PyArray3};
use pyo3::prelude::*;

use crate::arrays::{self, Input, invalid};

type Packed<'py> = (Bound<'py, PyArray1<u8>>, Bound<'py, PyArray2<f32>>, Bound<'py, PyArray1<i64>>);
type Padded<'py> = (Bound<'py, PyArray2<u8>>, Bound<'py, PyArray3<f32>>, Bound<'py, PyArray2<bool>>);

#[pyfunction]
pub fn gather<'py>(
    py: Python<'py>,
    offsets: &Bound<'py, PyAny>,
    indices: &Bound<'py, PyAny>,
    numbers: &Bound<'py, PyAny>,
    positions: &Bound<'py, PyAny>,
) -> PyResult<Packed<'py>> {
    let offsets: Input<i64> = Input::new("offsets", offsets, &[None])?;
    let indices: Input<i64> = Input::new("indices", indices, &[None])?;
    let numbers: Input<u8> = Input::new("numbers", numbers, &[None])?;
    let positions: Input<f32> = Input::new("positions", positions, &[None, Some(3)])?;
    let (offsets, indices, numbers, positions) = (offsets.flat(), indices.flat(), numbers.flat(), positions.rows());
    let packed = py.detach(|| pack::gather(offsets, indices, numbers, positions)).map_err(invalid)?;
    let atoms = packed.numbers.len();
    Ok((
        arrays::vector(py, packed.numbers),
        arrays::shaped(py, packed.positions, [atoms, 3])?,
        arrays::vector(py, packed.offsets),
    ))
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
    let offsets: Input<i64> = Input::new("offsets", offsets, &[None])?;
    let indices: Input<i64> = Input::new("indices", indices, &[None])?;
    let numbers: Input<u8> = Input::new("numbers", numbers, &[None])?;
    let positions: Input<f32> = Input::new("positions", positions, &[None, Some(3)])?;
    let width: usize = arrays::scalar("width", width, "a number of atoms, at least 0")?;
    let (offsets, indices, numbers, positions) = (offsets.flat(), indices.flat(), numbers.flat(), positions.rows());
    let padded = py.detach(|| pack::gather_padded(offsets, indices, numbers, positions, width)).map_err(invalid)?;
    let rows = indices.len();
    Ok((
        arrays::shaped(py, padded.numbers, [rows, width])?,
        arrays::shaped(py, padded.positions, [rows, width, 3])?,
        arrays::shaped(py, padded.mask, [rows, width])?,
    ))
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
