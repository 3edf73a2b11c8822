//! Wraps `adit_core::validity`.

use adit_core::validity::{self, OxidationStates};
use numpy::PyArray1;
use pyo3::prelude::*;

use crate::arrays::{self, Input, invalid};

#[pyfunction]
#[pyo3(
    signature = (numbers, offsets, oxidation_states=None, threads=None),
    text_signature = "(numbers, offsets, oxidation_states='smact14', threads=None)"
)]
pub fn compositional<'py>(
    py: Python<'py>,
    numbers: &Bound<'py, PyAny>,
    offsets: &Bound<'py, PyAny>,
    oxidation_states: Option<&Bound<'py, PyAny>>,
    threads: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyArray1<bool>>> {
    let numbers: Input<u8> = Input::new("numbers", numbers, &[None])?;
    let offsets: Input<i64> = Input::new("offsets", offsets, &[None])?;
    let (numbers, offsets) = (numbers.flat(), offsets.flat());
    let (states, threads) = (states_named(oxidation_states)?, arrays::threads(threads)?);
    let valid = py.detach(|| validity::compositional(numbers, offsets, states, threads)).map_err(invalid)?;
    Ok(arrays::vector(py, valid))
}

#[pyfunction]
#[pyo3(
    signature = (formulas, oxidation_states=None, threads=None),
    text_signature = "(formulas, oxidation_states='smact14', threads=None)"
)]
pub fn compositional_of_formulas<'py>(
    py: Python<'py>,
    formulas: &Bound<'py, PyAny>,
    oxidation_states: Option<&Bound<'py, PyAny>>,
    threads: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyArray1<bool>>> {
    let formulas: Vec<String> = arrays::scalar("formulas", formulas, "a list of formulas")?;
    let (states, threads) = (states_named(oxidation_states)?, arrays::threads(threads)?);
    let valid = py.detach(|| validity::compositional_of_formulas(&formulas, states, threads)).map_err(invalid)?;
    Ok(arrays::vector(py, valid))
}

#[pyfunction]
pub fn parse_formula(formula: &Bound<'_, PyAny>) -> PyResult<Vec<(u8, u64)>> {
    let formula: String = arrays::scalar("formula", formula, "text such as C7H10O2")?;
    validity::parse(&formula).map_err(|what| invalid(format!("`formula` must {what}; got {formula:?}")))
}

#[pyfunction]
#[pyo3(signature = (oxidation_states=None), text_signature = "(oxidation_states='smact14')")]
pub fn oxidation_state_tables(oxidation_states: Option<&Bound<'_, PyAny>>) -> PyResult<Vec<(f64, Vec<i64>)>> {
    let states = states_named(oxidation_states)?;
    let one = |number| (validity::electronegativity(number), states.of(number).iter().map(|&q| i64::from(q)).collect());
    Ok((0..=100).map(one).collect())
}

fn states_named(name: Option<&Bound<'_, PyAny>>) -> PyResult<OxidationStates> {
    let Some(name) = name else { return Ok(OxidationStates::Smact14) };
    let known = format!("one of {}", OxidationStates::NAMES.join(", "));
    let name: String = arrays::scalar("oxidation_states", name, &known)?;
    OxidationStates::named(&name).ok_or_else(|| invalid(format!("`oxidation_states` must be {known}; got {name:?}")))
}
