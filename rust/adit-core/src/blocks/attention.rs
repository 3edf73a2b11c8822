//! Softmax attention within each system.
#![allow(clippy::inline_always)] // As a part of whom it is to be compiled for.

use std::ops::Range;

use bytemuck::{cast_slice, cast_slice_mut};
use pulp::{Arch, Simd, WithSimd};

use super::lanes::{Arithmetic, Value};
use super::pieces;
use super::rows::{bias_or_zeros, each};
use crate::error::{Error, Result};
use crate::threads;

/// So many keys are compared together,
const KEYS: usize = 6;
/// and so many parts of values mixed.
const PARTS: usize = 8;
/// The smallest length that a vector is divided by, as `torch.nn.functional.normalize` has it.
const SHORTEST: f32 = 1e-12;

/// Sizes of heads that there is code for.
pub const SIZES: [usize; 4] = [16, 32, 64, 128];

/// `out` = softmax(q k^T / sqrt(size)) v of each head, within each system: (T, heads, size), from `qkv` (T, 3, heads, size)
/// to which `bias` (3, heads, size) is added; an empty one is none. If `normalised`, queries and keys are brought to the
/// length sqrt(size) first. System s owns tokens `offsets[s]..offsets[s + 1]`.
///
/// # Errors
/// The size is not one of [`SIZES`], lengths do not fit, or see [`threads::run`].
pub fn attention<H: Value>(
    qkv: &[H],
    bias: &[H],
    out: &mut [H],
    offsets: &[i32],
    [heads, size]: [usize; 2],
    normalised: bool,
    threads: Option<usize>,
) -> Result<()> {
    if heads == 0 || !SIZES.contains(&size) {
        let got = format!("{heads} of {size}");
        return Err(Error::argument(
            "heads",
            format!("be at least 1, of one of the sizes {SIZES:?}"),
            got,
            "Use plain torch",
        ));
    }
    let width = heads * size;
    pieces::check(offsets)?;
    let tokens = offsets[offsets.len() - 1] as usize;
    pieces::check_length("out", out.len(), tokens * width)?;
    pieces::check_length("qkv", qkv.len(), 3 * tokens * width)?;
    let bias = &bias_or_zeros(bias, 3 * width)?;
    let ranges = pieces::ranges(offsets, threads::check(threads)?);
    let outs = pieces::split(out, &ranges, offsets, width);
    let arch = Arch::new();
    each(ranges.into_iter().zip(outs).collect(), |(range, out)| match size {
        16 => arch.dispatch(Part::<H, 16> { qkv, bias, out, offsets, range, normalised }),
        32 => arch.dispatch(Part::<H, 32> { qkv, bias, out, offsets, range, normalised }),
        64 => arch.dispatch(Part::<H, 64> { qkv, bias, out, offsets, range, normalised }),
        _ => arch.dispatch(Part::<H, 128> { qkv, bias, out, offsets, range, normalised }),
    })
}

/// A part of the systems, for a thread.
struct Part<'a, H, const SIZE: usize> {
    qkv: &'a [H],
    bias: &'a [f32],
    out: &'a mut [H],
    offsets: &'a [i32],
    range: Range<usize>,
    normalised: bool,
}

impl<H: Value, const SIZE: usize> WithSimd for Part<'_, H, SIZE> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (width, first) = (self.bias.len() / 3, self.offsets[self.range.start] as usize);
        let mut room = Room::<S, H, SIZE>::new(width);
        for s in self.range {
            let [a, b] = [s, s + 1].map(|k| self.offsets[k] as usize);
            let out = &mut self.out[width * (a - first)..width * (b - first)];
            room.read(simd, &self.qkv[3 * width * a..3 * width * b], self.bias);
            for start in (0..width).step_by(SIZE) {
                room.ask(simd, start, self.normalised);
                room.answer(simd, out, start);
            }
        }
    }
}

/// What one system needs, in single precision. A lane is a query throughout, so that softmax is a matter of whole vectors.
struct Room<S: Simd, H, const SIZE: usize> {
    width: usize,
    /// (atoms, 3, width): queries, keys and values of all heads.
    wide: Vec<f32>,
    /// Of one head, for each group of queries, as many as lanes: `SIZE` times a lane for each.
    queries: Vec<S::f32s>,
    /// Of one head, what logits of each key are multiplied by.
    scales: Vec<f32>,
    /// Of one group of queries, for each key.
    weights: Vec<S::f32s>,
    /// Of one group of queries, (SIZE, lanes).
    answers: Vec<H>,
}

impl<S: Simd, H: Value, const SIZE: usize> Room<S, H, SIZE> {
    fn new(width: usize) -> Self {
        let answers = vec![H::default(); SIZE * S::F32_LANES];
        Self { width, wide: vec![], queries: vec![], scales: vec![], weights: vec![], answers }
    }

    #[inline(always)]
    fn read(&mut self, simd: S, qkv: &[H], bias: &[f32]) {
        let atoms = qkv.len() / bias.len();
        self.wide.resize(qkv.len(), 0.0);
        for (wide, token) in self.wide.chunks_exact_mut(bias.len()).zip(qkv.chunks_exact(bias.len())) {
            for ((wide, value), bias) in wide.iter_mut().zip(token).zip(bias) {
                *wide = value.wide() + bias;
            }
        }
        let zero = simd.splat_f32s(0.0);
        self.queries.clear(); // lanes beyond the last atom are to stay finite
        self.queries.resize(atoms.div_ceil(S::F32_LANES) * SIZE, zero);
        self.weights.resize(atoms, zero);
    }

    /// Brings the queries of the head whose values begin at `start` into lanes, scaled as logits are.
    #[inline(always)]
    fn ask(&mut self, simd: S, start: usize, normalised: bool) {
        let lanes: &mut [f32] = cast_slice_mut(&mut self.queries);
        self.scales.clear();
        for (atom, token) in self.wide.chunks_exact(3 * self.width).enumerate() {
            let key = own::<SIZE>(token, self.width + start);
            self.scales.push(if normalised { 1.0 / length(simd, key) } else { 1.0 });
            let place = atom / S::F32_LANES * S::F32_LANES * SIZE + atom % S::F32_LANES;
            for (lane, query) in lanes[place..].iter_mut().step_by(S::F32_LANES).zip(&token[start..start + SIZE]) {
                *lane = *query;
            }
        }
        // Of the logits' 1 / sqrt(SIZE), and of the lengths sqrt(SIZE) of query and key, what is left is sqrt(SIZE).
        let scale = (SIZE as f32).sqrt();
        for queries in self.queries.as_chunks_mut::<SIZE>().0 {
            let factor = if normalised {
                let square = queries.iter().fold(simd.splat_f32s(0.0), |sum, &q| simd.mul_add_e_f32s(q, q, sum));
                simd.div_f32s(simd.splat_f32s(scale), simd.max_f32s(simd.splat_f32s(SHORTEST), simd.sqrt_f32s(square)))
            } else {
                simd.splat_f32s(1.0 / scale)
            };
            for query in queries {
                *query = simd.mul_f32s(*query, factor);
            }
        }
    }

    /// Answers all queries of a head.
    #[inline(always)]
    fn answer(&mut self, simd: S, out: &mut [H], start: usize) {
        let (atoms, width, wide) = (self.scales.len(), self.width, &self.wide);
        for (group, tokens) in out.chunks_mut(S::F32_LANES * width).enumerate() {
            let queries = &self.queries[group * SIZE..(group + 1) * SIZE];
            for first in (0..atoms).step_by(KEYS) {
                let keys: [&[f32; SIZE]; KEYS] =
                    std::array::from_fn(|row| own(wide, (3 * (first + row).min(atoms - 1) + 1) * width + start));
                let logits = products(simd, queries, |k| keys.map(|key| key[k]));
                let scaled = self.weights[first..].iter_mut().zip(logits).zip(&self.scales[first..]);
                for ((weight, logit), &scale) in scaled {
                    *weight = simd.mul_f32s(logit, simd.splat_f32s(scale));
                }
            }
            let inverse = soften(simd, &mut self.weights);
            for part in (0..SIZE).step_by(PARTS) {
                let of =
                    products(simd, &self.weights, |atom| *own::<PARTS>(wide, (3 * atom + 2) * width + start + part));
                let answers = of.map(|answer| simd.mul_f32s(answer, inverse));
                let place = part * S::F32_LANES;
                for (narrow, &wide) in self.answers[place..].iter_mut().zip(cast_slice::<S::f32s, f32>(&answers)) {
                    *narrow = H::narrow(wide);
                }
            }
            for (lane, token) in tokens.chunks_exact_mut(width).enumerate() {
                let own = self.answers[lane..].iter().step_by(S::F32_LANES);
                for (out, &answer) in token[start..start + SIZE].iter_mut().zip(own) {
                    *out = answer;
                }
            }
        }
    }
}

/// So many values from `place` on.
#[inline(always)]
fn own<const COUNT: usize>(wide: &[f32], place: usize) -> &[f32; COUNT] {
    wide[place..].first_chunk().unwrap_or(&[0.0; COUNT])
}

/// Of a vector, or `SHORTEST`.
#[inline(always)]
fn length<S: Simd, const SIZE: usize>(simd: S, of: &[f32; SIZE]) -> f32 {
    let lanes = S::as_simd_f32s(of).0;
    let square = lanes.iter().fold(simd.splat_f32s(0.0), |sum, &lane| simd.mul_add_e_f32s(lane, lane, sum));
    simd.reduce_sum_f32s(square).sqrt().max(SHORTEST)
}

/// Sums of vectors, each times a factor of its own for each row.
#[inline(always)]
fn products<S: Simd, const ROWS: usize>(
    simd: S,
    of: &[S::f32s],
    factors: impl Fn(usize) -> [f32; ROWS],
) -> [S::f32s; ROWS] {
    let mut out = [simd.splat_f32s(0.0); ROWS];
    for (k, &lanes) in of.iter().enumerate() {
        for (out, factor) in out.iter_mut().zip(factors(k)) {
            *out = simd.mul_add_e_f32s(simd.splat_f32s(factor), lanes, *out);
        }
    }
    out
}

/// Logits to exponentials, less the greatest of each lane; returns what they are to be multiplied by.
#[inline(always)]
fn soften<S: Simd>(simd: S, logits: &mut [S::f32s]) -> S::f32s {
    let highest = logits.iter().fold(simd.splat_f32s(f32::NEG_INFINITY), |high, &logit| simd.max_f32s(high, logit));
    let mut sum = simd.splat_f32s(0.0);
    for logit in logits {
        *logit = simd.exp(simd.sub_f32s(*logit, highest));
        sum = simd.add_f32s(sum, *logit);
    }
    simd.div_f32s(simd.splat_f32s(1.0), sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blocks::lanes::every_arch;
    use crate::random::Random;

    #[test]
    fn all_processors_give_the_same() {
        let (offsets, width) = ([0, 1, 18, 18, 51], 64);
        let mut random = Random::new(5, 0);
        let qkv: Vec<f32> = (0..51 * 3 * width).map(|_| random.uniform() as f32 - 0.5).collect();
        let bias = vec![0.25; 3 * width];
        let made: Vec<Vec<f32>> = every_arch()
            .into_iter()
            .map(|arch| {
                let mut out = vec![f32::NAN; 51 * width];
                let (qkv, bias, out_, range) = (&qkv[..], &bias[..], &mut out[..], 0..4);
                arch.dispatch(Part::<f32, 32> { qkv, bias, out: out_, offsets: &offsets, range, normalised: true });
                out
            })
            .collect();
        assert!(made.len() > 1);
        for (one, other) in made.iter().skip(1).flat_map(|other| other.iter().zip(&made[0])) {
            assert!((one - other).abs() < 1e-6, "{one} {other}");
        }
    }
}
