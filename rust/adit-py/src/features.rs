//! Wraps `adit_core::features`.

use adit_core::features::{self, Systems};
use numpy::{Element, PyArray1};
use pyo3::prelude::*;

use crate::arrays::{self, Input, Real, invalid};

type Pair<'py> = (Bound<'py, PyAny>, Bound<'py, PyAny>);

const SEED: &str = "a whole number, 0 to 2^64 - 1";

#[pyfunction]
pub fn operations<'py>(py: Python<'py>, seed: &Bound<'py, PyAny>, count: &Bound<'py, PyAny>) -> PyResult<Pair<'py>> {
    let seed = arrays::scalar("seed", seed, SEED)?;
    let count: usize = arrays::scalar("count", count, "a number of systems, at least 0")?;
    let (rotations, shifts) = py.detach(|| features::operations(seed, count)).map_err(invalid)?;
    Ok((
        arrays::shaped(py, rotations.into_flattened().into_flattened(), [count, 3, 3])?.into_any(),
        arrays::shaped(py, shifts.into_flattened(), [count, 3])?.into_any(),
    ))
}

/// The arrays of a pack, in one precision, borrowed.
struct Pack<'py, P: Element> {
    positions: Input<'py, P>,
    cells: Input<'py, P>,
    periodic: Vec<bool>,
    offsets: Input<'py, i64>,
}

enum AnyPack<'py> {
    Double(Pack<'py, f64>),
    Single(Pack<'py, f32>),
}

impl<'py> AnyPack<'py> {
    fn new(
        positions: &Bound<'py, PyAny>,
        cells: &Bound<'py, PyAny>,
        periodic: &Bound<'py, PyAny>,
        offsets: &Bound<'py, PyAny>,
    ) -> PyResult<Self> {
        let square = [None, Some(3), Some(3)];
        let positions = Real::new("positions", positions, &[None, Some(3)])?;
        let (periodic, offsets) = (arrays::bools("periodic", periodic)?, Input::new("offsets", offsets, &[None])?);
        Ok(match positions {
            Real::Double(positions) => {
                Self::Double(Pack { positions, cells: Input::new("cells", cells, &square)?, periodic, offsets })
            }
            Real::Single(positions) => {
                Self::Single(Pack { positions, cells: Input::new("cells", cells, &square)?, periodic, offsets })
            }
        })
    }
}

impl<P: Element + features::Real> Pack<'_, P> {
    fn systems(&self) -> adit_core::Result<Systems<'_, P, P>> {
        Systems::new(self.positions.rows(), self.cells.matrices(), &self.periodic, self.offsets.flat())
    }

    fn augment<'py>(&self, py: Python<'py>, seed: u64, turned: bool, threads: Option<usize>) -> PyResult<Pair<'py>> {
        let systems = self.systems().map_err(invalid)?;
        let augmented = py.detach(|| systems.augmented(seed, turned, threads)).map_err(invalid)?;
        let (atoms, count) = (augmented.positions.len(), augmented.cells.len());
        let cells = augmented.cells.into_flattened().into_flattened();
        Ok((
            arrays::shaped(py, augmented.positions.into_flattened(), [atoms, 3])?.into_any(),
            arrays::shaped(py, cells, [count, 3, 3])?.into_any(),
        ))
    }

    fn fractional<'py>(&self, py: Python<'py>, threads: Option<usize>) -> PyResult<Bound<'py, PyAny>> {
        let systems = self.systems().map_err(invalid)?;
        let fractional = py.detach(|| systems.fractional(threads)).map_err(invalid)?;
        let atoms = fractional.len();
        Ok(arrays::shaped(py, fractional.into_flattened(), [atoms, 3])?.into_any())
    }

    fn distances<'py>(&self, py: Python<'py>, threads: Option<usize>) -> PyResult<Bound<'py, PyArray1<f64>>> {
        let systems = self.systems().map_err(invalid)?;
        let distances = py.detach(|| systems.distances(threads)).map_err(invalid)?;
        Ok(arrays::vector(py, distances))
    }
}

#[pyfunction]
#[pyo3(
    signature = (positions, cells, periodic, offsets, seed, rotate_crystals=None, threads=None),
    text_signature = "(positions, cells, periodic, offsets, seed, rotate_crystals=False, threads=None)"
)]
#[allow(clippy::too_many_arguments)]
pub fn augment<'py>(
    py: Python<'py>,
    positions: &Bound<'py, PyAny>,
    cells: &Bound<'py, PyAny>,
    periodic: &Bound<'py, PyAny>,
    offsets: &Bound<'py, PyAny>,
    seed: &Bound<'py, PyAny>,
    rotate_crystals: Option<&Bound<'py, PyAny>>,
    threads: Option<&Bound<'py, PyAny>>,
) -> PyResult<Pair<'py>> {
    let pack = AnyPack::new(positions, cells, periodic, offsets)?;
    let (seed, threads) = (arrays::scalar("seed", seed, SEED)?, arrays::threads(threads)?);
    let turned = rotate_crystals.map_or(Ok(false), |flag| arrays::scalar("rotate_crystals", flag, "a bool"))?;
    match &pack {
        AnyPack::Double(pack) => pack.augment(py, seed, turned, threads),
        AnyPack::Single(pack) => pack.augment(py, seed, turned, threads),
    }
}

#[pyfunction]
#[pyo3(signature = (positions, cells, periodic, offsets, threads=None))]
pub fn fractional<'py>(
    py: Python<'py>,
    positions: &Bound<'py, PyAny>,
    cells: &Bound<'py, PyAny>,
    periodic: &Bound<'py, PyAny>,
    offsets: &Bound<'py, PyAny>,
    threads: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let (pack, threads) = (AnyPack::new(positions, cells, periodic, offsets)?, arrays::threads(threads)?);
    match &pack {
        AnyPack::Double(pack) => pack.fractional(py, threads),
        AnyPack::Single(pack) => pack.fractional(py, threads),
    }
}

#[pyfunction]
#[pyo3(signature = (positions, cells, periodic, offsets, threads=None))]
pub fn image_distances<'py>(
    py: Python<'py>,
    positions: &Bound<'py, PyAny>,
    cells: &Bound<'py, PyAny>,
    periodic: &Bound<'py, PyAny>,
    offsets: &Bound<'py, PyAny>,
    threads: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyArray1<f64>>> {
    let (pack, threads) = (AnyPack::new(positions, cells, periodic, offsets)?, arrays::threads(threads)?);
    match &pack {
        AnyPack::Double(pack) => pack.distances(py, threads),
        AnyPack::Single(pack) => pack.distances(py, threads),
    }
}

#[pyfunction]
pub fn fourier<'py>(
    py: Python<'py>,
    values: &Bound<'py, PyAny>,
    frequencies: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    fn features_of<'py, P: Element + features::Real>(
        py: Python<'py>,
        values: &Input<'py, P>,
        frequencies: usize,
    ) -> PyResult<Bound<'py, PyAny>> {
        let values = values.flat();
        let features = py.detach(|| features::fourier(values, frequencies)).map_err(invalid)?;
        Ok(arrays::shaped(py, features, [values.len(), 2 * frequencies])?.into_any())
    }
    let frequencies: usize = arrays::scalar("frequencies", frequencies, "a number of frequencies, at least 0")?;
    match Real::new("values", values, &[None])? {
        Real::Double(values) => features_of(py, &values, frequencies),
        Real::Single(values) => features_of(py, &values, frequencies),
    }
}
