//! Wraps `adit_core::neighbors`.

use adit_core::neighbors::{self, Algorithm, Columns, Quantities, Search};
use numpy::ndarray::{Dim, Dimension, IntoDimension};
use numpy::{Element, PyArray, PyArray1, PyArrayMethods, PyReadwriteArray1, PyReadwriteArray2};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::arrays::{self, Input, invalid};

#[pyfunction]
#[pyo3(
    signature = (quantities, positions, cell, pbc, cutoff, half=None, algorithm=None),
    text_signature = "(quantities, positions, cell, pbc, cutoff, half=False, algorithm='auto')"
)]
#[allow(clippy::too_many_arguments)]
pub fn neighbor_list<'py>(
    py: Python<'py>,
    quantities: &Bound<'py, PyAny>,
    positions: &Bound<'py, PyAny>,
    cell: Option<&Bound<'py, PyAny>>,
    pbc: &Bound<'py, PyAny>,
    cutoff: &Bound<'py, PyAny>,
    half: Option<&Bound<'py, PyAny>>,
    algorithm: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyTuple>> {
    let (letters, search) = search(quantities, cutoff, half, algorithm)?;
    let positions: Input<f64> = Input::new("positions", positions, &[None, Some(3)])?;
    let pbc: [bool; 3] = arrays::scalar("pbc", pbc, "a tuple of three bools")?;
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
    let found = py.detach(|| neighbors::find(rows, &cell, pbc, &search)).map_err(invalid)?;
    let mut arrays = Arrays::new(py, found.count(), search.quantities)?;
    let columns = arrays.columns()?;
    py.detach(|| found.write(columns));
    PyTuple::new(py, arrays.named(&letters))
}

#[pyfunction]
#[pyo3(
    signature = (quantities, positions, cells, pbc, offsets, cutoff, half=None, algorithm=None, threads=None),
    text_signature =
        "(quantities, positions, cells, pbc, offsets, cutoff, half=False, algorithm='auto', threads=None)"
)]
#[allow(clippy::too_many_arguments)]
pub fn neighbor_list_batch<'py>(
    py: Python<'py>,
    quantities: &Bound<'py, PyAny>,
    positions: &Bound<'py, PyAny>,
    cells: &Bound<'py, PyAny>,
    pbc: &Bound<'py, PyAny>,
    offsets: &Bound<'py, PyAny>,
    cutoff: &Bound<'py, PyAny>,
    half: Option<&Bound<'py, PyAny>>,
    algorithm: Option<&Bound<'py, PyAny>>,
    threads: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyTuple>> {
    let (letters, search) = search(quantities, cutoff, half, algorithm)?;
    let positions: Input<f64> = Input::new("positions", positions, &[None, Some(3)])?;
    let cells: Input<f64> = Input::new("cells", cells, &[None, Some(3), Some(3)])?;
    let pbc = arrays::bool_rows("pbc", pbc)?;
    let offsets: Input<i64> = Input::new("offsets", offsets, &[None])?;
    let (rows, cells, offsets, threads) =
        (positions.rows(), cells.matrices(), offsets.flat(), arrays::threads(threads)?);
    let found = py.detach(|| neighbors::find_batch(rows, cells, &pbc, offsets, &search, threads)).map_err(invalid)?;
    let mut arrays = Arrays::new(py, found.count(), search.quantities)?;
    let columns = arrays.columns()?;
    let pair_offsets = py.detach(|| found.write(columns, threads)).map_err(invalid)?;
    let mut named = arrays.named(&letters);
    named.push(arrays::vector(py, pair_offsets).into_any());
    PyTuple::new(py, named)
}

/// The letters asked for, and all that the search has to know.
fn search(
    quantities: &Bound<'_, PyAny>,
    cutoff: &Bound<'_, PyAny>,
    half: Option<&Bound<'_, PyAny>>,
    algorithm: Option<&Bound<'_, PyAny>>,
) -> PyResult<(String, Search)> {
    let letters: String = arrays::scalar("quantities", quantities, "letters out of 'ijSdD'")?;
    let mut wanted = Quantities::NONE;
    for letter in letters.chars() {
        wanted = wanted.and(quantity(letter).ok_or_else(|| unknown(&letters))?);
    }
    if letters.is_empty() {
        return Err(unknown(&letters));
    }
    let cutoff: f64 = arrays::scalar("cutoff", cutoff, "a length in Angstrom")?;
    let half = half.map_or(Ok(false), |half| arrays::scalar("half", half, "a bool"))?;
    let algorithm = algorithm.map_or(Ok(Algorithm::Auto), algorithm_named)?;
    Ok((letters, Search { cutoff, half, algorithm, quantities: wanted }))
}

fn quantity(letter: char) -> Option<Quantities> {
    match letter {
        'i' => Some(Quantities::I),
        'j' => Some(Quantities::J),
        'S' => Some(Quantities::SHIFTS),
        'd' => Some(Quantities::DISTANCES),
        'D' => Some(Quantities::VECTORS),
        _ => None,
    }
}

fn unknown(letters: &str) -> PyErr {
    let shown: String = letters.chars().take(80).collect();
    invalid(format!(
        "`quantities` must be letters out of 'ijSdD'; got {shown:?}. i, j: atoms, S: shift, d: distance, D: vector"
    ))
}

/// Memory for arrays. Those of a list of some size share one block: of several arrays dropped together the
/// allocator returns a part to the system each time, one block it keeps; and fresh pages cost more than the
/// search. Small arrays it keeps anyway; large ones stay apart, not to be kept alive by each other.
enum Room<'py> {
    Apart(Python<'py>),
    Block { block: Bound<'py, PyArray1<u8>>, used: usize },
}

impl<'py> Room<'py> {
    /// Bytes of one block.
    const BLOCK: std::ops::Range<usize> = 1 << 17..1 << 25;
    const ALIGN: usize = 64;

    fn padded(bytes: usize) -> usize {
        bytes.next_multiple_of(Self::ALIGN)
    }

    fn new(py: Python<'py>, bytes: usize) -> PyResult<Self> {
        if !Self::BLOCK.contains(&bytes) {
            return Ok(Self::Apart(py));
        }
        Ok(Self::Block { block: arrays::unwritten(py, [bytes])?, used: 0 })
    }

    fn take<T: Element, const D: usize>(&mut self, shape: [usize; D]) -> PyResult<Taken<'py, T, D>>
    where
        Dim<[usize; D]>: Dimension,
        [usize; D]: IntoDimension<Dim = Dim<[usize; D]>>,
    {
        match self {
            Self::Apart(py) => arrays::unwritten(*py, shape),
            Self::Block { block, used } => {
                let py = block.py();
                let array = (shape.to_vec(), numpy::dtype::<T>(py), &*block, *used);
                *used += Self::padded(size_of::<T>() * shape.iter().product::<usize>());
                Ok(py.import("numpy")?.call_method1("ndarray", array)?.cast_into()?)
            }
        }
    }

    fn rows<T: Element>(&mut self, count: usize, wanted: bool) -> PyResult<Option<PyReadwriteArray1<'py, T>>> {
        wanted.then(|| self.take([count]).map(|array| array.readwrite())).transpose()
    }

    fn triples<T: Element>(&mut self, count: usize, wanted: bool) -> PyResult<Option<PyReadwriteArray2<'py, T>>> {
        wanted.then(|| self.take([count, 3]).map(|array| array.readwrite())).transpose()
    }
}

type Taken<'py, T, const D: usize> = Bound<'py, PyArray<T, Dim<[usize; D]>>>;

/// The arrays that are asked for.
struct Arrays<'py> {
    i: Option<PyReadwriteArray1<'py, i64>>,
    j: Option<PyReadwriteArray1<'py, i64>>,
    shifts: Option<PyReadwriteArray2<'py, i32>>,
    distances: Option<PyReadwriteArray1<'py, f64>>,
    vectors: Option<PyReadwriteArray2<'py, f64>>,
}

impl<'py> Arrays<'py> {
    fn new(py: Python<'py>, count: usize, wanted: Quantities) -> PyResult<Self> {
        let mut room = Room::new(py, Self::bytes(count, wanted))?;
        Ok(Self {
            i: room.rows(count, wanted.has(Quantities::I))?,
            j: room.rows(count, wanted.has(Quantities::J))?,
            shifts: room.triples(count, wanted.has(Quantities::SHIFTS))?,
            distances: room.rows(count, wanted.has(Quantities::DISTANCES))?,
            vectors: room.triples(count, wanted.has(Quantities::VECTORS))?,
        })
    }

    /// What [`Room`] takes for them.
    fn bytes(count: usize, wanted: Quantities) -> usize {
        let columns = [
            (Quantities::I, 8),
            (Quantities::J, 8),
            (Quantities::SHIFTS, 12),
            (Quantities::DISTANCES, 8),
            (Quantities::VECTORS, 24),
        ];
        columns.iter().filter(|(column, _)| wanted.has(*column)).map(|(_, each)| Room::padded(count * each)).sum()
    }

    fn columns(&mut self) -> PyResult<Columns<'_>> {
        let Self { i, j, shifts, distances, vectors } = self;
        let shifts = shifts.as_mut().map(PyReadwriteArray2::as_slice_mut).transpose()?;
        let vectors = vectors.as_mut().map(PyReadwriteArray2::as_slice_mut).transpose()?;
        Ok(Columns {
            i: i.as_mut().map(PyReadwriteArray1::as_slice_mut).transpose()?,
            j: j.as_mut().map(PyReadwriteArray1::as_slice_mut).transpose()?,
            shifts: shifts.map(|flat| flat.as_chunks_mut().0),
            distances: distances.as_mut().map(PyReadwriteArray1::as_slice_mut).transpose()?,
            vectors: vectors.map(|flat| flat.as_chunks_mut().0),
        })
    }

    /// One array for each letter; the same again for a letter that comes twice.
    fn named(&self, letters: &str) -> Vec<Bound<'py, PyAny>> {
        let named = |letter: char| match letter {
            'i' => self.i.as_ref().map(|array| array.as_any().clone()),
            'j' => self.j.as_ref().map(|array| array.as_any().clone()),
            'S' => self.shifts.as_ref().map(|array| array.as_any().clone()),
            'd' => self.distances.as_ref().map(|array| array.as_any().clone()),
            _ => self.vectors.as_ref().map(|array| array.as_any().clone()),
        };
        letters.chars().filter_map(named).collect()
    }
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
