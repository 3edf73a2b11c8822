//! Wraps `adit_core::symmetry`.

use adit_core::symmetry::{self, Analysis, Crystals, Limits, Standard};
use numpy::{PyArray1, PyArray2, PyArray3};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

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
    let symprec = length("symprec", symprec, 0.01)?;
    let (numbers, offsets, threads) = (numbers.flat(), offsets.flat(), arrays::threads(threads)?);
    let result = detached!(
        py,
        positions,
        cells,
        symmetry::spacegroups(&Crystals { numbers, positions, cells, offsets }, symprec, threads)
    );
    Ok(arrays::vector(py, result.map_err(invalid)?))
}

/// An argument that is a length.
fn length(name: &str, object: Option<&Bound<'_, PyAny>>, default: f64) -> PyResult<f64> {
    object.map_or(Ok(default), |value| arrays::scalar(name, value, "a length in Angstrom"))
}

/// The four arrays that every function of crystals takes, borrowed.
struct Borrowed<'py> {
    numbers: Input<'py, u8>,
    positions: Input<'py, f64>,
    cells: Input<'py, f64>,
    offsets: Input<'py, i64>,
}

impl<'py> Borrowed<'py> {
    fn new(
        numbers: &Bound<'py, PyAny>,
        positions: &Bound<'py, PyAny>,
        cells: &Bound<'py, PyAny>,
        offsets: &Bound<'py, PyAny>,
    ) -> PyResult<Self> {
        Ok(Self {
            numbers: Input::new("numbers", numbers, &[None])?,
            positions: Input::new("positions", positions, &[None, Some(3)])?,
            cells: Input::new("cells", cells, &[None, Some(3), Some(3)])?,
            offsets: Input::new("offsets", offsets, &[None])?,
        })
    }

    fn crystals(&self) -> Crystals<'_> {
        Crystals {
            numbers: self.numbers.flat(),
            positions: self.positions.rows(),
            cells: self.cells.matrices(),
            offsets: self.offsets.flat(),
        }
    }
}

type Packed<'py> =
    (Bound<'py, PyArray1<u8>>, Bound<'py, PyArray2<f64>>, Bound<'py, PyArray3<f64>>, Bound<'py, PyArray1<i64>>);

#[pyfunction]
#[pyo3(
    signature = (numbers, positions, cells, offsets, symprec=None, primitive=None, threads=None),
    text_signature = "(numbers, positions, cells, offsets, symprec=0.01, primitive=False, threads=None)"
)]
#[allow(clippy::too_many_arguments, reason = "as Python calls it")]
pub fn standardize<'py>(
    py: Python<'py>,
    numbers: &Bound<'py, PyAny>,
    positions: &Bound<'py, PyAny>,
    cells: &Bound<'py, PyAny>,
    offsets: &Bound<'py, PyAny>,
    symprec: Option<&Bound<'py, PyAny>>,
    primitive: Option<&Bound<'py, PyAny>>,
    threads: Option<&Bound<'py, PyAny>>,
) -> PyResult<Packed<'py>> {
    let borrowed = Borrowed::new(numbers, positions, cells, offsets)?;
    let symprec = length("symprec", symprec, 0.01)?;
    let primitive = primitive.map_or(Ok(false), |value| arrays::scalar("primitive", value, "a bool"))?;
    let (crystals, threads) = (borrowed.crystals(), arrays::threads(threads)?);
    let found = py.detach(|| symmetry::standardize(&crystals, symprec, primitive, threads)).map_err(invalid)?;
    let (mut numbers, mut positions, mut cells, mut offsets) = (Vec::new(), Vec::new(), Vec::new(), vec![0]);
    for one in found.into_iter().map(Option::unwrap_or_default) {
        numbers.extend_from_slice(&one.numbers);
        positions.extend_from_slice(one.positions.as_flattened());
        cells.extend_from_slice(one.cell.as_flattened());
        offsets.push(numbers.len() as i64);
    }
    let (atoms, systems) = (numbers.len(), offsets.len() - 1);
    Ok((
        arrays::vector(py, numbers),
        arrays::shaped(py, positions, [atoms, 3])?,
        arrays::shaped(py, cells, [systems, 3, 3])?,
        arrays::vector(py, offsets),
    ))
}

type Snapped<'py> = (
    Bound<'py, PyArray2<f64>>,
    Bound<'py, PyArray3<f64>>,
    Bound<'py, PyArray1<i64>>,
    Bound<'py, PyArray1<f64>>,
    Bound<'py, PyArray1<f64>>,
);

#[pyfunction]
#[pyo3(
    signature = (numbers, positions, cells, offsets, max_displacement=None, max_strain=None, threads=None),
    text_signature = "(numbers, positions, cells, offsets, max_displacement=0.1, max_strain=0.05, threads=None)"
)]
#[allow(clippy::too_many_arguments, reason = "as Python calls it")]
pub fn symmetrize<'py>(
    py: Python<'py>,
    numbers: &Bound<'py, PyAny>,
    positions: &Bound<'py, PyAny>,
    cells: &Bound<'py, PyAny>,
    offsets: &Bound<'py, PyAny>,
    max_displacement: Option<&Bound<'py, PyAny>>,
    max_strain: Option<&Bound<'py, PyAny>>,
    threads: Option<&Bound<'py, PyAny>>,
) -> PyResult<Snapped<'py>> {
    let borrowed = Borrowed::new(numbers, positions, cells, offsets)?;
    let limits = Limits {
        displacement: length("max_displacement", max_displacement, 0.1)?,
        strain: max_strain.map_or(Ok(0.05), |value| arrays::scalar("max_strain", value, "a part of a length"))?,
    };
    let (crystals, threads) = (borrowed.crystals(), arrays::threads(threads)?);
    let found = py.detach(|| symmetry::symmetrize(&crystals, limits, threads)).map_err(invalid)?;
    let (atoms, systems) = (crystals.positions.len(), found.len());
    let positions: Vec<f64> = found.iter().flat_map(|one| one.positions.as_flattened()).copied().collect();
    let cells: Vec<f64> = found.iter().flat_map(|one| one.cell.as_flattened()).copied().collect();
    Ok((
        arrays::shaped(py, positions, [atoms, 3])?,
        arrays::shaped(py, cells, [systems, 3, 3])?,
        arrays::vector(py, found.iter().map(|one| one.number).collect()),
        arrays::vector(py, found.iter().map(|one| one.displacement).collect()),
        arrays::vector(py, found.iter().map(|one| one.strain).collect()),
    ))
}

#[pyfunction]
#[pyo3(
    signature = (numbers, positions, cells, offsets, symprec=None, threads=None),
    text_signature = "(numbers, positions, cells, offsets, symprec=0.01, threads=None)"
)]
pub fn analyse<'py>(
    py: Python<'py>,
    numbers: &Bound<'py, PyAny>,
    positions: &Bound<'py, PyAny>,
    cells: &Bound<'py, PyAny>,
    offsets: &Bound<'py, PyAny>,
    symprec: Option<&Bound<'py, PyAny>>,
    threads: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyList>> {
    let borrowed = Borrowed::new(numbers, positions, cells, offsets)?;
    let symprec = length("symprec", symprec, 0.01)?;
    let (crystals, threads) = (borrowed.crystals(), arrays::threads(threads)?);
    let found = py.detach(|| symmetry::analyse(&crystals, symprec, threads)).map_err(invalid)?;
    let entries: PyResult<Vec<_>> = found.into_iter().map(|one| one.map(|one| fields(py, one)).transpose()).collect();
    PyList::new(py, entries?)
}

/// By name, as `adit.symmetry.SymmetryDataset` has them.
fn fields(py: Python<'_>, found: Analysis) -> PyResult<Bound<'_, PyDict>> {
    let fields = PyDict::new(py);
    fields.set_item("number", found.number)?;
    fields.set_item("hall_number", found.hall_number)?;
    fields.set_item("international", found.international)?;
    fields.set_item("pearson", found.pearson)?;
    fields.set_item("symprec", found.symprec)?;
    fields.set_item("orbits", arrays::vector(py, found.orbits))?;
    fields.set_item("wyckoffs", found.wyckoffs.iter().map(char::to_string).collect::<Vec<_>>())?;
    fields.set_item("site_symmetries", found.site_symmetries)?;
    let count = found.rotations.len();
    let rotations = found.rotations.as_flattened().as_flattened().to_vec();
    fields.set_item("rotations", arrays::shaped(py, rotations, [count, 3, 3])?)?;
    fields.set_item("translations", arrays::shaped(py, found.translations.as_flattened().to_vec(), [count, 3])?)?;
    fields.set_item("transformation", arrays::shaped(py, found.transformation.as_flattened().to_vec(), [3, 3])?)?;
    fields.set_item("origin_shift", arrays::vector(py, found.origin_shift.to_vec()))?;
    fields.set_item("conventional", system(py, found.conventional)?)?;
    fields.set_item("primitive", system(py, found.primitive)?)?;
    fields.set_item("to_primitive", arrays::vector(py, found.to_primitive))?;
    Ok(fields)
}

type System<'py> = (Bound<'py, PyArray1<u8>>, Bound<'py, PyArray2<f64>>, Bound<'py, PyArray2<f64>>);

fn system(py: Python<'_>, standard: Standard) -> PyResult<System<'_>> {
    let atoms = standard.numbers.len();
    Ok((
        arrays::vector(py, standard.numbers),
        arrays::shaped(py, standard.positions.as_flattened().to_vec(), [atoms, 3])?,
        arrays::shaped(py, standard.cell.as_flattened().to_vec(), [3, 3])?,
    ))
}
