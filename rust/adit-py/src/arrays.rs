//! From Python objects to slices and back, with one exception for everything that does not fit.

use numpy::{
    Element, IntoPyArray, PyArray, PyArray1, PyArrayDyn, PyArrayMethods, PyReadonlyArrayDyn, PyReadwriteArrayDyn,
    PyUntypedArray, PyUntypedArrayMethods,
};
use pyo3::prelude::*;
use pyo3::types::PyString;

mod python {
    pyo3::import_exception!(adit.errors, InvalidInputError);
}

/// `adit.errors.InvalidInputError`.
pub fn invalid(message: impl ToString) -> PyErr {
    python::InvalidInputError::new_err(message.to_string())
}

/// A C-contiguous array of dtype `T`, borrowed; `shape` has `None` where any length will do.
pub struct Input<'py, T: Element>(PyReadonlyArrayDyn<'py, T>);

impl<'py, T: Element> Input<'py, T> {
    pub fn new(name: &str, object: &Bound<'py, PyAny>, shape: &[Option<usize>]) -> PyResult<Self> {
        let refuse = |got: String| {
            let axes: Vec<String> =
                shape.iter().map(|axis| axis.map_or_else(|| "n".to_owned(), |length| length.to_string())).collect();
            let comma = if axes.len() == 1 { "," } else { "" };
            let dtype = numpy::dtype::<T>(object.py());
            invalid(format!(
                "`{name}` must be a C-contiguous numpy array of dtype {dtype} and shape ({}{comma}); got {got}. \
                 Use np.ascontiguousarray(..., dtype=np.{dtype})",
                axes.join(", ")
            ))
        };
        let Ok(untyped) = object.cast::<PyUntypedArray>() else {
            return Err(refuse(format!("{}", object.get_type())));
        };
        let found = untyped.shape();
        let described = || {
            let order = if untyped.is_c_contiguous() { "" } else { ", not C-contiguous" };
            format!("dtype {}, shape {found:?}{order}", untyped.dtype())
        };
        let fits = found.len() == shape.len()
            && shape.iter().zip(found).all(|(want, got)| want.is_none_or(|want| want == *got));
        let Ok(array) = object.cast::<PyArrayDyn<T>>() else {
            return Err(refuse(described()));
        };
        if !fits || !untyped.is_c_contiguous() {
            return Err(refuse(described()));
        }
        let borrowed =
            array.try_readonly().map_err(|reason| invalid(format!("`{name}` cannot be read now: {reason}")))?;
        if borrowed.as_slice().is_err() {
            return Err(refuse(format!("{}, misaligned", described())));
        }
        Ok(Self(borrowed))
    }

    pub fn flat(&self) -> &[T] {
        // Contiguity was checked; an empty slice is never reached.
        self.0.as_slice().unwrap_or_default()
    }

    pub fn shape(&self) -> &[usize] {
        self.0.shape()
    }

    pub fn rows(&self) -> &[[T; 3]] {
        self.flat().as_chunks().0
    }

    pub fn matrices(&self) -> &[[[T; 3]; 3]] {
        self.rows().as_chunks().0
    }
}

/// The same, to write to.
pub struct Output<'py, T: Element>(PyReadwriteArrayDyn<'py, T>);

impl<'py, T: Element> Output<'py, T> {
    pub fn new(name: &str, object: &Bound<'py, PyAny>, shape: &[Option<usize>]) -> PyResult<Self> {
        drop(Input::<T>::new(name, object, shape)?);
        let array = object.cast::<PyArrayDyn<T>>()?;
        let refuse = |reason| invalid(format!("`{name}` cannot be written to: {reason}. Pass an array of its own"));
        Ok(Self(array.try_readwrite().map_err(refuse)?))
    }

    pub fn py(&self) -> Python<'py> {
        self.0.py()
    }

    pub fn shape(&self) -> &[usize] {
        self.0.shape()
    }

    pub fn flat(&mut self) -> &mut [T] {
        // Contiguity was checked.
        self.0.as_slice_mut().unwrap_or_default()
    }
}

/// float64 or float32.
pub enum Real<'py> {
    Double(Input<'py, f64>),
    Single(Input<'py, f32>),
}

impl<'py> Real<'py> {
    pub fn new(name: &str, object: &Bound<'py, PyAny>, shape: &[Option<usize>]) -> PyResult<Self> {
        if object.cast::<PyArrayDyn<f32>>().is_ok() {
            return Input::new(name, object, shape).map(Self::Single);
        }
        Input::new(name, object, shape).map(Self::Double)
    }
}

/// Releases the GIL and evaluates an expression in which `positions` and `cells` are the rows and
/// matrices of two [`Real`] of these names, in whichever precision each of them came.
macro_rules! detached {
    ($py:expr, $positions:ident, $cells:ident, $work:expr) => {{
        macro_rules! with {
            ($one:expr, $other:expr) => {{
                let ($positions, $cells) = ($one.rows(), $other.matrices());
                $py.detach(|| $work)
            }};
        }
        match (&$positions, &$cells) {
            (Real::Double(one), Real::Double(other)) => with!(one, other),
            (Real::Double(one), Real::Single(other)) => with!(one, other),
            (Real::Single(one), Real::Double(other)) => with!(one, other),
            (Real::Single(one), Real::Single(other)) => with!(one, other),
        }
    }};
}
pub(crate) use detached;

/// A bool array (n,), read as bytes: numpy lets a bool view hold other bytes than 0 and 1, Rust does not.
pub fn bools(name: &str, object: &Bound<'_, PyAny>) -> PyResult<Vec<bool>> {
    let bytes = bytes_of_bools(name, object, &[None])?;
    Ok(bytes.flat().iter().map(|&byte| byte != 0).collect())
}

/// A bool array (n, 3), read as bytes.
pub fn bool_rows(name: &str, object: &Bound<'_, PyAny>) -> PyResult<Vec<[bool; 3]>> {
    let bytes = bytes_of_bools(name, object, &[None, Some(3)])?;
    Ok(bytes.rows().iter().map(|row| row.map(|byte| byte != 0)).collect())
}

fn bytes_of_bools<'py>(name: &str, object: &Bound<'py, PyAny>, shape: &[Option<usize>]) -> PyResult<Input<'py, u8>> {
    let refuse = || {
        let shape = if shape.len() == 1 { "(n,)" } else { "(n, 3)" };
        invalid(format!(
            "`{name}` must be a C-contiguous numpy array of dtype bool and shape {shape}. \
             Use np.asarray(..., dtype=bool)"
        ))
    };
    let array = object.cast::<PyArrayDyn<bool>>().map_err(|_| refuse())?;
    if !array.is_c_contiguous() || array.ndim() != shape.len() {
        return Err(refuse());
    }
    let bytes = array.call_method1("view", (PyString::new(object.py(), "uint8"),))?;
    Input::new(name, &bytes, shape)
}

/// A Python scalar or tuple as `T`, or the one exception.
pub fn scalar<'py, T>(name: &str, object: &Bound<'py, PyAny>, expected: &str) -> PyResult<T>
where
    T: for<'a> FromPyObject<'a, 'py>,
{
    object.extract().map_err(|_| {
        let repr: String =
            object.repr().map_or_else(|_| "?".to_owned(), |text| text.to_string()).chars().take(80).collect();
        invalid(format!("`{name}` must be {expected}; got {repr}"))
    })
}

pub fn threads(object: Option<&Bound<'_, PyAny>>) -> PyResult<Option<usize>> {
    object.map(|value| scalar("threads", value, "a positive integer, or None for all cores")).transpose()
}

/// (m,) without copying.
pub fn vector<T: Element>(py: Python<'_>, values: Vec<T>) -> Bound<'_, PyArray1<T>> {
    values.into_pyarray(py)
}

/// Any shape, without copying.
pub fn shaped<T: Element, const D: usize>(
    py: Python<'_>,
    values: Vec<T>,
    shape: [usize; D],
) -> PyResult<Bound<'_, PyArray<T, numpy::ndarray::Dim<[usize; D]>>>>
where
    numpy::ndarray::Dim<[usize; D]>: numpy::ndarray::Dimension,
    [usize; D]: numpy::ndarray::IntoDimension<Dim = numpy::ndarray::Dim<[usize; D]>>,
{
    values.into_pyarray(py).reshape(shape)
}

/// An array for a caller who writes all of it. Large ones come as numpy makes them, not cleared, and in
/// large pages: both are a good part of the time of what is written there.
pub fn unwritten<T: Element, const D: usize>(
    py: Python<'_>,
    shape: [usize; D],
) -> PyResult<Bound<'_, PyArray<T, numpy::ndarray::Dim<[usize; D]>>>>
where
    numpy::ndarray::Dim<[usize; D]>: numpy::ndarray::Dimension,
    [usize; D]: numpy::ndarray::IntoDimension<Dim = numpy::ndarray::Dim<[usize; D]>>,
{
    const LARGE: usize = 1 << 12;
    if shape.iter().product::<usize>() < LARGE {
        return Ok(PyArray::zeros(py, shape, false));
    }
    let array = py.import("numpy")?.call_method1("empty", (shape.to_vec(), numpy::dtype::<T>(py)))?;
    Ok(array.cast_into()?)
}
