//! Wraps `adit_core::matching`.

use adit_core::matching::{self, Convention, Crystal, Options};
use numpy::{PyArray1, PyArray2, PyArray3};
use pyo3::prelude::*;

use crate::arrays::{self, Input, Real, detached, invalid};

type Cells<'py> =
    (Bound<'py, PyArray1<u8>>, Bound<'py, PyArray2<f64>>, Bound<'py, PyArray3<f64>>, Bound<'py, PyArray1<i64>>);

/// Crystals, reduced once for all comparisons.
#[pyclass(frozen, module = "adit._rust")]
pub struct Crystals {
    crystals: Vec<Option<Crystal>>,
    options: Options,
}

#[pymethods]
impl Crystals {
    #[new]
    #[pyo3(signature = (
        numbers, positions, cells, offsets, *, ltol, stol, angle_tol, primitive_cell, scale, attempt_supercell,
        convention, prefilter=None, threads=None
    ))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        py: Python<'_>,
        numbers: &Bound<'_, PyAny>,
        positions: &Bound<'_, PyAny>,
        cells: &Bound<'_, PyAny>,
        offsets: &Bound<'_, PyAny>,
        ltol: &Bound<'_, PyAny>,
        stol: &Bound<'_, PyAny>,
        angle_tol: &Bound<'_, PyAny>,
        primitive_cell: &Bound<'_, PyAny>,
        scale: &Bound<'_, PyAny>,
        attempt_supercell: &Bound<'_, PyAny>,
        convention: &Bound<'_, PyAny>,
        prefilter: Option<&Bound<'_, PyAny>>,
        threads: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let numbers: Input<u8> = Input::new("numbers", numbers, &[None])?;
        let positions = Real::new("positions", positions, &[None, Some(3)])?;
        let cells = Real::new("cells", cells, &[None, Some(3), Some(3)])?;
        let offsets: Input<i64> = Input::new("offsets", offsets, &[None])?;
        let options = Options {
            ltol: arrays::scalar("ltol", ltol, "a number")?,
            stol: arrays::scalar("stol", stol, "a number")?,
            angle_tol: arrays::scalar("angle_tol", angle_tol, "an angle in degrees")?,
            primitive_cell: arrays::scalar("primitive_cell", primitive_cell, "a bool")?,
            scale: arrays::scalar("scale", scale, "a bool")?,
            attempt_supercell: arrays::scalar("attempt_supercell", attempt_supercell, "a bool")?,
            convention: convention_named(convention)?,
            prefilter: prefilter.map_or(Ok(true), |prefilter| arrays::scalar("prefilter", prefilter, "a bool"))?,
        };
        let (numbers, offsets, threads) = (numbers.flat(), offsets.flat(), arrays::threads(threads)?);
        let crystals =
            detached!(py, positions, cells, matching::crystals(numbers, positions, cells, offsets, &options, threads));
        Ok(Self { crystals: crystals.map_err(invalid)?, options })
    }

    fn __len__(&self) -> usize {
        self.crystals.len()
    }

    fn comparable<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<bool>> {
        arrays::vector(py, self.crystals.iter().map(Option::is_some).collect())
    }

    fn cells<'py>(&self, py: Python<'py>) -> PyResult<Cells<'py>> {
        let (mut numbers, mut positions, mut cells, mut offsets) = (Vec::new(), Vec::new(), Vec::new(), vec![0]);
        for crystal in &self.crystals {
            if let Some(crystal) = crystal {
                let cell = &crystal.primitive.cell;
                numbers.extend_from_slice(&cell.numbers);
                positions.extend(cell.fractional.iter().flat_map(|f| adit_core::cell::combine(f, &cell.rows)));
                cells.extend_from_slice(cell.rows.as_flattened());
            } else {
                cells.extend_from_slice(&[0.0; 9]);
            }
            offsets.push(numbers.len() as i64);
        }
        let atoms = numbers.len();
        Ok((
            arrays::vector(py, numbers),
            arrays::shaped(py, positions, [atoms, 3])?,
            arrays::shaped(py, cells, [self.crystals.len(), 3, 3])?,
            arrays::vector(py, offsets),
        ))
    }

    #[pyo3(signature = (other, pairs, anonymous, threads=None))]
    fn fit_pairs<'py>(
        &self,
        py: Python<'py>,
        other: &Self,
        pairs: &Bound<'py, PyAny>,
        anonymous: &Bound<'py, PyAny>,
        threads: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyArray1<bool>>> {
        self.check_same(other)?;
        let pairs: Input<i64> = Input::new("pairs", pairs, &[None, Some(2)])?;
        let anonymous = arrays::scalar("anonymous", anonymous, "a bool")?;
        let (pairs, threads) = (pairs.flat().as_chunks().0, arrays::threads(threads)?);
        let fits = py
            .detach(|| matching::fit_pairs(&self.crystals, &other.crystals, pairs, anonymous, &self.options, threads));
        Ok(arrays::vector(py, fits.map_err(invalid)?))
    }

    #[pyo3(signature = (other, pairs, threads=None))]
    fn rms_pairs<'py>(
        &self,
        py: Python<'py>,
        other: &Self,
        pairs: &Bound<'py, PyAny>,
        threads: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyArray2<f64>>> {
        self.check_same(other)?;
        let pairs: Input<i64> = Input::new("pairs", pairs, &[None, Some(2)])?;
        let (pairs, threads) = (pairs.flat().as_chunks().0, arrays::threads(threads)?);
        let fits = py.detach(|| matching::rms_pairs(&self.crystals, &other.crystals, pairs, &self.options, threads));
        arrays::shaped(py, fits.map_err(invalid)?.into_flattened(), [pairs.len(), 2])
    }

    #[pyo3(signature = (anonymous, threads=None))]
    fn groups<'py>(
        &self,
        py: Python<'py>,
        anonymous: &Bound<'py, PyAny>,
        threads: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyArray1<i64>>> {
        let anonymous = arrays::scalar("anonymous", anonymous, "a bool")?;
        let threads = arrays::threads(threads)?;
        let labels = py.detach(|| matching::groups(&self.crystals, anonymous, &self.options, threads));
        Ok(arrays::vector(py, labels.map_err(invalid)?))
    }

    #[pyo3(signature = (against, anonymous, threads=None))]
    fn first_matches<'py>(
        &self,
        py: Python<'py>,
        against: &Self,
        anonymous: &Bound<'py, PyAny>,
        threads: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyArray1<i64>>> {
        self.check_same(against)?;
        let anonymous = arrays::scalar("anonymous", anonymous, "a bool")?;
        let threads = arrays::threads(threads)?;
        let found =
            py.detach(|| matching::first_matches(&self.crystals, &against.crystals, anonymous, &self.options, threads));
        Ok(arrays::vector(py, found.map_err(invalid)?))
    }
}

impl Crystals {
    fn check_same(&self, other: &Self) -> PyResult<()> {
        if self.options == other.options {
            return Ok(());
        }
        Err(invalid(format!(
            "both sets of crystals must have been reduced with the same options; got {:?} and {:?}. \
             Reduce both with one StructureMatcher",
            self.options, other.options
        )))
    }
}

fn convention_named(name: &Bound<'_, PyAny>) -> PyResult<Convention> {
    const NAMES: &str = "one of 'symmetric', 'pymatgen'";
    let name: String = arrays::scalar("convention", name, NAMES)?;
    match name.as_str() {
        "symmetric" => Ok(Convention::Symmetric),
        "pymatgen" => Ok(Convention::Pymatgen),
        other => Err(invalid(format!("`convention` must be {NAMES}; got {other:?}"))),
    }
}
