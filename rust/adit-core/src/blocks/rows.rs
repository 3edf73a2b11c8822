//! What is done to each token by itself.
#![allow(clippy::inline_always)] // As a part of whom it is to be compiled for.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::lanes::{Arithmetic, Value};
use super::pieces;
use crate::error::{Error, Result};
use crate::threads;

/// Of the variance, as `torch.nn.functional.layer_norm` has it.
const EPSILON: f32 = 1e-5;

/// Which row of modulation each system of a pack takes.
#[derive(Debug, Clone, Copy)]
pub struct Modulation<'a> {
    width: usize,
    offsets: &'a [i32],
    rows: &'a [i32],
    count: usize,
}

impl<'a> Modulation<'a> {
    /// System s owns tokens `offsets[s]..offsets[s + 1]`, each of `width` values, and takes row `rows[s]` of `count`.
    ///
    /// # Errors
    /// A row is not there, or the arrays do not fit together, or the offsets fall.
    pub fn new(width: usize, offsets: &'a [i32], rows: &'a [i32], count: usize) -> Result<Self> {
        pieces::check(offsets)?;
        pieces::check_length("rows", rows.len(), offsets.len().saturating_sub(1))?;
        if let Some(index) = rows.iter().position(|&row| row < 0 || row as usize >= count) {
            return Err(Error::entry(
                "rows",
                index,
                format!("be 0 to {}", count as i64 - 1),
                rows[index],
                "Pass a row of modulation for each system",
            ));
        }
        Ok(Self { width, offsets, rows, count })
    }

    /// For each token of a range of systems: where its values lie, from the first of the range on, and those of its row.
    #[inline(always)]
    fn tokens(&self, range: Range<usize>) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
        let first = self.offsets[range.start];
        range.flat_map(move |s| {
            let row = self.rows[s] as usize * self.width;
            (self.offsets[s] - first..self.offsets[s + 1] - first).map(move |token| {
                let place = token as usize * self.width;
                (place..place + self.width, row..row + self.width)
            })
        })
    }

    fn check_tokens(&self, name: &'static str, length: usize) -> Result<()> {
        let tokens = self.offsets.last().map_or(0, |&end| end as usize);
        pieces::check_length(name, length, tokens * self.width)
    }

    fn check_rows(&self, name: &'static str, length: usize) -> Result<()> {
        pieces::check_length(name, length, self.count * self.width)
    }
}

/// What is added to the residual stream: gate (y + bias); an empty bias is none.
#[derive(Debug, Clone, Copy)]
pub struct Gated<'a, H> {
    pub y: &'a [H],
    pub bias: &'a [H],
    pub gate: &'a [f32],
}

/// What the residual stream is read as: `layer_norm(x)` (1 + scale) + shift.
#[derive(Debug)]
pub struct Normed<'a, H> {
    pub scale: &'a [f32],
    pub shift: &'a [f32],
    pub out: &'a mut [H],
}

/// x += gate (y + bias), then out = `layer_norm(x)` (1 + scale) + shift; either may be left out. In one pass over memory.
///
/// # Errors
/// Lengths do not fit, or see [`threads::run`].
pub fn gate_adaln<H: Value>(
    x: &mut [f32],
    gated: Option<Gated<H>>,
    normed: Option<Normed<H>>,
    of: &Modulation,
    threads: Option<usize>,
) -> Result<()> {
    of.check_tokens("x", x.len())?;
    let mut bias = Vec::new();
    if let Some(gated) = &gated {
        of.check_tokens("y", gated.y.len())?;
        of.check_rows("gate", gated.gate.len())?;
        bias = bias_or_zeros(gated.bias, of.width)?;
    }
    if let Some(normed) = &normed {
        of.check_tokens("out", normed.out.len())?;
        of.check_rows("scale", normed.scale.len())?;
        of.check_rows("shift", normed.shift.len())?;
    }
    let ranges = pieces::ranges(of.offsets, threads::check(threads)?);
    let modulation = normed.as_ref().map(|normed| (normed.scale, normed.shift));
    let mut outs = normed.map(|normed| pieces::split(normed.out, &ranges, of.offsets, of.width).into_iter());
    let mut parts = Vec::with_capacity(ranges.len());
    for (x, range) in pieces::split(x, &ranges, of.offsets, of.width).into_iter().zip(ranges) {
        let first = of.offsets[range.start] as usize * of.width;
        let gated = gated.map(|gated| Gated { y: &gated.y[first..first + x.len()], ..gated });
        let out = outs.as_mut().and_then(Iterator::next);
        let normed = modulation.zip(out).map(|((scale, shift), out)| Normed { scale, shift, out });
        parts.push(Part { x, gated, bias: &bias, normed, of, range });
    }
    let arch = Arch::new();
    each(parts, |part| arch.dispatch(part))
}

/// values = gelu(values + bias), rows as long as the bias.
///
/// # Errors
/// `values` is not whole rows, or see [`threads::run`].
pub fn gelu<H: Value>(values: &mut [H], bias: &[H], threads: Option<usize>) -> Result<()> {
    let width = bias.len();
    let rows = values.len().checked_div(width).unwrap_or(0);
    pieces::check_length("values", values.len(), rows * width)?;
    let (arch, bias) = (Arch::new(), &bias_or_zeros(bias, width)?);
    let share = rows.div_ceil(threads::check(threads)?).max(pieces::FEW);
    each(values.chunks_mut(share * width.max(1)).collect(), |values| arch.dispatch(Activation { values, bias }))
}

/// Does `work` on each item, by a thread of its own if there are several.
pub fn each<T: Send>(items: Vec<T>, work: impl Fn(T) + Sync + Send) -> Result<()> {
    if items.len() > 1 {
        return threads::run(Some(items.len()), || items.into_par_iter().for_each(work));
    }
    items.into_iter().for_each(work);
    Ok(())
}

/// In single precision; zeros for none.
pub fn bias_or_zeros<H: Value>(bias: &[H], width: usize) -> Result<Vec<f32>> {
    if bias.is_empty() {
        return Ok(vec![0.0; width]);
    }
    pieces::check_length("bias", bias.len(), width)?;
    Ok(bias.iter().map(|value| value.wide()).collect())
}

/// A part of the systems, for a thread.
struct Part<'a, H> {
    x: &'a mut [f32],
    gated: Option<Gated<'a, H>>,
    /// Of what is gated.
    bias: &'a [f32],
    normed: Option<Normed<'a, H>>,
    of: &'a Modulation<'a>,
    range: Range<usize>,
}

impl<H: Value> WithSimd for Part<'_, H> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        for (own, row) in self.of.tokens(self.range) {
            let x = &mut self.x[own.clone()];
            if let Some(Gated { y, gate, .. }) = self.gated {
                for (((x, y), bias), gate) in x.iter_mut().zip(&y[own.clone()]).zip(self.bias).zip(&gate[row.clone()]) {
                    *x += gate * (y.wide() + bias);
                }
            }
            if let Some(Normed { scale, shift, out }) = &mut self.normed {
                norm(simd, x, &scale[row.clone()], &shift[row], &mut out[own]);
            }
        }
    }
}

/// A token's `layer_norm`, scaled and shifted.
#[inline(always)]
fn norm<S: Simd, H: Value>(simd: S, x: &[f32], scale: &[f32], shift: &[f32], out: &mut [H]) {
    let (lanes, rest) = S::as_simd_f32s(x);
    let count = x.len() as f32;
    let zero = simd.splat_f32s(0.0);
    let sum = lanes.iter().fold(zero, |sum, &lane| simd.add_f32s(sum, lane));
    let mean = (simd.reduce_sum_f32s(sum) + rest.iter().sum::<f32>()) / count;
    let square = lanes.iter().fold(zero, |sum, &lane| {
        let off = simd.sub_f32s(lane, simd.splat_f32s(mean));
        simd.mul_add_e_f32s(off, off, sum)
    });
    let square = simd.reduce_sum_f32s(square) + rest.iter().map(|value| (value - mean) * (value - mean)).sum::<f32>();
    let factor = 1.0 / (square / count + EPSILON).sqrt();
    for (((out, &value), &scale), &shift) in out.iter_mut().zip(x).zip(scale).zip(shift) {
        *out = H::narrow((value - mean) * factor * (1.0 + scale) + shift);
    }
}

struct Activation<'a, H> {
    values: &'a mut [H],
    bias: &'a [f32],
}

impl<H: Value> WithSimd for Activation<'_, H> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // Up to whole lanes.
        let mut room = vec![0.0; self.bias.len().next_multiple_of(S::F32_LANES)];
        for row in self.values.chunks_exact_mut(self.bias.len()) {
            for ((into, value), bias) in room.iter_mut().zip(&*row).zip(self.bias) {
                *into = value.wide() + bias;
            }
            for lanes in S::as_mut_simd_f32s(&mut room).0 {
                *lanes = simd.gelu(*lanes);
            }
            for (value, &made) in row.iter_mut().zip(&room) {
                *value = H::narrow(made);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blocks::lanes::{Bf16, every_arch};
    use crate::random::Random;

    #[test]
    fn all_processors_give_the_same() {
        let width = 37; // no whole number of vectors
        let mut random = Random::new(6, 0);
        let before: Vec<f32> = (0..5 * width).map(|_| 4.0 * random.uniform() as f32 - 2.0).collect();
        let (offsets, rows, bias) = ([0, 2, 5], [0, 0], vec![0.5; width]);
        let of = Modulation::new(width, &offsets, &rows, 1).unwrap();
        let y: Vec<Bf16> = before.iter().map(|&value| Bf16::narrow(value)).collect();
        let row = &before[..width];
        let made: Vec<Vec<f32>> = every_arch()
            .into_iter()
            .map(|arch| {
                let (mut x, mut out, mut active) = (before.clone(), vec![-1; 5 * width], before.clone());
                let gated = Some(Gated { y: &y[..], bias: &[], gate: row });
                let normed = Some(Normed { scale: row, shift: row, out: &mut out[..] });
                arch.dispatch(Part { x: &mut x, gated, bias: &bias, normed, of: &of, range: 0..2 });
                arch.dispatch(Activation { values: &mut active, bias: &bias });
                [x, out.into_iter().map(Value::wide).collect(), active].concat()
            })
            .collect();
        for (one, other) in made.iter().skip(1).flat_map(|other| other.iter().zip(&made[0])) {
            assert!((one - other).abs() <= 0.008 * other.abs() + 1e-6, "{one} {other}");
        }
    }
}
