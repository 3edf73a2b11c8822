//! Wraps `adit_core::types`.

use adit_core::types;
use numpy::PyArray1;
use pyo3::prelude::*;

use crate::arrays::{self, Input, invalid};

const ELEMENTS: usize = 100;

#[pyfunction]
#[pyo3(signature = (logits, counts, offsets, threads=None))]
pub fn most_likely_types<'py>(
    py: Python<'py>,
    logits: &Bound<'py, PyAny>,
    counts: &Bound<'py, PyAny>,
    offsets: &Bound<'py, PyAny>,
    threads: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyArray1<u8>>> {
    let logits: Input<f32> = Input::new("logits", logits, &[None, Some(ELEMENTS)])?;
    let counts: Input<i64> = Input::new("counts", counts, &[None, Some(ELEMENTS)])?;
    let offsets: Input<i64> = Input::new("offsets", offsets, &[None])?;
    let (logits, counts, offsets) = (logits.flat(), counts.flat(), offsets.flat());
    let threads = arrays::threads(threads)?;
    let found = py.detach(|| types::most_likely(logits, counts, ELEMENTS, offsets, threads)).map_err(invalid)?;
    Ok(arrays::vector(py, found))
}
