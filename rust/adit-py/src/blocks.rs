//! Wraps `adit_core::blocks`. Values are float32, or bfloat16 as its bits in int16: numpy has no type for it.

use adit_core::blocks::{self, Bf16, Gated, Modulation, Normed, Value};
use numpy::{Element, PyArrayDyn};
use pyo3::prelude::*;

use crate::arrays::{self, Input, Output, invalid};

type Object<'a, 'py> = &'a Bound<'py, PyAny>;
type Optional<'a, 'py> = Option<&'a Bound<'py, PyAny>>;

const TABLE: [Option<usize>; 2] = [None, None];

fn given<'py, T: Element>(name: &str, object: Optional<'_, 'py>, axes: usize) -> PyResult<Option<Input<'py, T>>> {
    object.map(|object| Input::new(name, object, &TABLE[..axes])).transpose()
}

fn flat<'a, T: Element>(input: Option<&'a Input<'_, T>>) -> &'a [T] {
    input.map_or(&[], Input::flat)
}

fn in_half(object: Object<'_, '_>) -> bool {
    object.cast::<PyArrayDyn<Bf16>>().is_ok()
}

/// Arguments of [`gate_adaln`] that are values of one precision.
struct Values<'a, 'py> {
    y: Optional<'a, 'py>,
    bias: Optional<'a, 'py>,
    out: Optional<'a, 'py>,
}

impl Values<'_, '_> {
    fn run<H: Value + Element>(
        &self,
        x: &mut Output<f32>,
        [gate, scale, shift]: [Option<&Input<f32>>; 3],
        of: &Modulation,
        threads: Option<usize>,
    ) -> PyResult<()> {
        let (y, bias) = (given::<H>("y", self.y, 2)?, given::<H>("bias", self.bias, 1)?);
        let mut out = self.out.map(|out| Output::<H>::new("out", out, &TABLE)).transpose()?;
        let gated = y.as_ref().map(|y| Gated { y: y.flat(), bias: flat(bias.as_ref()), gate: flat(gate) });
        let normed = out.as_mut().map(|out| Normed { scale: flat(scale), shift: flat(shift), out: out.flat() });
        let (py, x) = (x.py(), x.flat());
        py.detach(|| blocks::gate_adaln(x, gated, normed, of, threads)).map_err(invalid)
    }
}

#[pyfunction]
#[pyo3(signature = (x, offsets, rows, *, y=None, bias=None, gate=None, scale=None, shift=None, out=None, threads=None))]
#[allow(clippy::too_many_arguments)]
pub fn gate_adaln<'py>(
    x: Object<'_, 'py>,
    offsets: Object<'_, 'py>,
    rows: Object<'_, 'py>,
    y: Optional<'_, 'py>,
    bias: Optional<'_, 'py>,
    gate: Optional<'_, 'py>,
    scale: Optional<'_, 'py>,
    shift: Optional<'_, 'py>,
    out: Optional<'_, 'py>,
    threads: Optional<'_, 'py>,
) -> PyResult<()> {
    let mut x = Output::new("x", x, &TABLE)?;
    let [offsets, rows] =
        [("offsets", offsets), ("rows", rows)].map(|(name, object)| Input::new(name, object, &[None]));
    let (offsets, rows, threads) = (offsets?, rows?, arrays::threads(threads)?);
    let [gate, scale, shift] =
        [("gate", gate), ("scale", scale), ("shift", shift)].map(|(name, object)| given::<f32>(name, object, 2));
    let parts = [gate?, scale?, shift?];
    let count = parts.iter().flatten().map(|part| part.shape()[0]).next().unwrap_or(0);
    let of = Modulation::new(x.shape()[1], offsets.flat(), rows.flat(), count).map_err(invalid)?;
    let values = Values { y, bias, out };
    let run = if y.or(out).is_some_and(in_half) { Values::run::<Bf16> } else { Values::run::<f32> };
    run(&values, &mut x, parts.each_ref().map(Option::as_ref), &of, threads)
}

#[pyfunction]
#[pyo3(signature = (qkv, bias, out, offsets, heads, qk_norm, threads=None))]
#[allow(clippy::too_many_arguments)]
pub fn attention<'py>(
    qkv: Object<'_, 'py>,
    bias: Optional<'_, 'py>,
    out: Object<'_, 'py>,
    offsets: Object<'_, 'py>,
    heads: Object<'_, 'py>,
    qk_norm: Object<'_, 'py>,
    threads: Optional<'_, 'py>,
) -> PyResult<()> {
    fn run<H: Value + Element>(
        qkv: Object<'_, '_>,
        bias: Optional<'_, '_>,
        out: Object<'_, '_>,
        offsets: &[i32],
        (heads, qk_norm, threads): (usize, bool, Option<usize>),
    ) -> PyResult<()> {
        let (qkv, bias): (Input<H>, _) = (Input::new("qkv", qkv, &TABLE)?, given::<H>("bias", bias, 1)?);
        let mut out = Output::<H>::new("out", out, &TABLE)?;
        let size = out.shape()[1].checked_div(heads).unwrap_or(0);
        let (py, qkv, bias, out) = (out.py(), qkv.flat(), flat(bias.as_ref()), out.flat());
        py.detach(|| blocks::attention(qkv, bias, out, offsets, [heads, size], qk_norm, threads)).map_err(invalid)
    }
    let offsets = Input::new("offsets", offsets, &[None])?;
    let heads = arrays::scalar("heads", heads, "a whole number, at least 1")?;
    let options = (heads, arrays::scalar("qk_norm", qk_norm, "a bool")?, arrays::threads(threads)?);
    let run = if in_half(qkv) { run::<Bf16> } else { run::<f32> };
    run(qkv, bias, out, offsets.flat(), options)
}

#[pyfunction]
#[pyo3(signature = (values, bias, threads=None))]
pub fn gelu<'py>(values: Object<'_, 'py>, bias: Object<'_, 'py>, threads: Optional<'_, 'py>) -> PyResult<()> {
    fn run<H: Value + Element>(values: Object<'_, '_>, bias: Object<'_, '_>, threads: Option<usize>) -> PyResult<()> {
        let bias: Input<H> = Input::new("bias", bias, &[None])?;
        let mut values = Output::<H>::new("values", values, &[None, Some(bias.shape()[0])])?;
        let (py, values, bias) = (values.py(), values.flat(), bias.flat());
        py.detach(|| blocks::gelu(values, bias, threads)).map_err(invalid)
    }
    let run = if in_half(values) { run::<Bf16> } else { run::<f32> };
    run(values, bias, arrays::threads(threads)?)
}
