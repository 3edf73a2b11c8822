use adit_core::blocks::{Bf16, Gated, Modulation, Normed, Value, attention, gate_adaln, gelu};
use proptest::prelude::*;

fn lengths() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![0..20usize, Just(0), Just(16), Just(33)], 0..5)
}

fn offsets(lengths: &[usize]) -> Vec<i32> {
    let ends = lengths.iter().scan(0, |end, &length| {
        *end += length as i32;
        Some(*end)
    });
    std::iter::once(0).chain(ends).collect()
}

/// Numbers that look random, from -2 to 2.
fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut random = adit_core::random::Random::new(seed, 0);
    (0..count).map(|_| (4.0 * random.uniform() - 2.0) as f32).collect()
}

/// The formula, in double precision.
fn attention_by_formula(qkv: &[f32], bias: &[f32], ends: &[i32], [heads, size]: [usize; 2], unit: bool) -> Vec<f64> {
    let width = heads * size;
    let at = |atom: usize, part: usize, head: usize| -> Vec<f64> {
        let start = part * width + head * size;
        let raw = (start..start + size).map(|k| f64::from(qkv[atom * 3 * width + k] + bias[k])).collect::<Vec<_>>();
        let length = raw.iter().map(|value| value * value).sum::<f64>().sqrt().max(1e-12);
        let factor = if unit && part < 2 { (size as f64).sqrt() / length } else { 1.0 };
        raw.iter().map(|value| value * factor).collect()
    };
    let mut out = vec![0.0; qkv.len() / 3];
    for own in ends.windows(2).map(|pair| pair[0] as usize..pair[1] as usize) {
        for (atom, head) in own.clone().flat_map(|atom| (0..heads).map(move |head| (atom, head))) {
            let query = at(atom, 0, head);
            let logit = |key: usize| {
                at(key, 1, head).iter().zip(&query).map(|(k, q)| k * q).sum::<f64>() / (size as f64).sqrt()
            };
            let weights: Vec<f64> = own.clone().map(|key| logit(key).exp()).collect();
            let total: f64 = weights.iter().sum();
            for (key, weight) in own.clone().zip(&weights) {
                for (k, value) in at(key, 2, head).iter().enumerate() {
                    out[atom * width + head * size + k] += weight / total * value;
                }
            }
        }
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn attention_is_its_formula(
        lengths in lengths(),
        heads in 1..4usize,
        size in prop::sample::select(&[16usize, 32, 64, 128]),
        unit in any::<bool>(),
        threads in 1..4usize,
        seed in any::<u64>(),
    ) {
        let (ends, tokens, width) = (offsets(&lengths), lengths.iter().sum::<usize>(), heads * size);
        let (qkv, bias) = (numbers(tokens * 3 * width, seed), numbers(3 * width, seed ^ 1));
        let mut out = vec![f32::NAN; tokens * width];
        attention(&qkv, &bias, &mut out, &ends, [heads, size], unit, Some(threads)).unwrap();
        for (made, exact) in out.iter().zip(attention_by_formula(&qkv, &bias, &ends, [heads, size], unit)) {
            prop_assert!((f64::from(*made) - exact).abs() < 1e-5, "{} {}", made, exact);
        }
        let half = |values: &[f32]| values.iter().map(|&value| Bf16::narrow(value)).collect::<Vec<_>>();
        let wide = |values: &[Bf16]| values.iter().map(|&value| value.wide()).collect::<Vec<_>>();
        let (qkv, bias, mut out) = (half(&qkv), half(&bias), vec![-1; tokens * width]);
        attention(&qkv, &bias, &mut out, &ends, [heads, size], unit, Some(threads)).unwrap();
        let exact = attention_by_formula(&wide(&qkv), &wide(&bias), &ends, [heads, size], unit);
        for (made, exact) in wide(&out).iter().zip(exact) {
            prop_assert!((f64::from(*made) - exact).abs() < exact.abs() / 256.0 + 1e-5, "{} {}", made, exact);
        }
    }

    #[test]
    fn gates_and_norms_are_their_formulas(
        lengths in lengths(), width in 1..70usize, threads in 1..4usize, seed in any::<u64>(), biased in any::<bool>(),
    ) {
        let (ends, tokens) = (offsets(&lengths), lengths.iter().sum::<usize>());
        let rows: Vec<i32> = (0..lengths.len()).map(|s| (s % 3) as i32).collect();
        let of = Modulation::new(width, &ends, &rows, 3).unwrap();
        let [before, y] = [2, 3].map(|k| numbers(tokens * width, seed ^ k));
        let [gate, scale, shift] = [4, 5, 6].map(|k| numbers(3 * width, seed ^ k));
        let bias = if biased { numbers(width, seed ^ 7) } else { vec![] };
        let (mut x, mut out) = (before.clone(), vec![f32::NAN; tokens * width]);
        let gated = Gated { y: &y, bias: &bias, gate: &gate };
        let normed = Normed { scale: &scale, shift: &shift, out: &mut out };
        gate_adaln(&mut x, Some(gated), Some(normed), &of, Some(threads)).unwrap();
        for (s, own) in ends.windows(2).enumerate() {
            for token in own[0] as usize..own[1] as usize {
                let wide = |of: &[f32], k: usize| f64::from(of[k]);
                let row = rows[s] as usize * width;
                let exact: Vec<f64> = (0..width).map(|k| {
                    let added = wide(&y, token * width + k) + bias.get(k).map_or(0.0, |&bias| f64::from(bias));
                    wide(&before, token * width + k) + wide(&gate, row + k) * added
                }).collect();
                let mean = exact.iter().sum::<f64>() / width as f64;
                let variance = exact.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / width as f64;
                for (k, value) in exact.iter().enumerate() {
                    prop_assert!((wide(&x, token * width + k) - value).abs() < 1e-5);
                    let norm = (value - mean) / (variance + 1e-5).sqrt();
                    let exact = norm * (1.0 + wide(&scale, row + k)) + wide(&shift, row + k);
                    // One value has no variance, and what rounding leaves of it is made 300 times as large.
                    prop_assert!((wide(&out, token * width + k) - exact).abs() < 2e-4, "{}", exact);
                }
            }
        }
    }
}

#[test]
fn gelu_is_its_formula() {
    let values: Vec<f32> = (-8000..8000).map(|k| k as f32 * 1e-3).collect();
    // Of the error function, by its Taylor series up to 2, and beyond by its continued fraction.
    let erf = |z: f64| {
        if z.abs() < 2.0 {
            let terms = (0..60).scan(z, |term, k| {
                let now = *term / f64::from(2 * k + 1);
                *term *= -z * z / f64::from(k + 1);
                Some(now)
            });
            return terms.sum::<f64>() * std::f64::consts::FRAC_2_SQRT_PI;
        }
        let fraction = (1..60).rev().fold(0.0, |rest, k| f64::from(k) / 2.0 / (z.abs() + rest));
        let tail = (-z * z).exp() * std::f64::consts::FRAC_2_SQRT_PI / 2.0 / (z.abs() + fraction);
        z.signum() * (1.0 - tail)
    };
    let mut made = values.clone();
    gelu(&mut made, &[0.5; 5], Some(2)).unwrap();
    for (value, made) in values.iter().zip(made) {
        let x = f64::from(*value) + 0.5;
        let exact = 0.5 * x * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2));
        assert!((f64::from(made) - exact).abs() < 1e-6, "{x}: {made} {exact}");
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let (offsets, mut out) = ([0, 2], vec![0.0f32; 64]);
    let mut refused = |qkv: usize, bias: usize, offsets: &[i32], heads: [usize; 2], threads: usize, name: &str| {
        let (qkv, bias) = (vec![0.0; qkv], vec![0.0; bias]);
        let error = attention(&qkv, &bias, &mut out, offsets, heads, true, Some(threads)).unwrap_err().to_string();
        assert!(error.starts_with(&format!("`{name}` must")), "{error}");
    };
    refused(191, 0, &offsets, [2, 16], 1, "qkv");
    refused(192, 95, &offsets, [2, 16], 1, "bias");
    refused(192, 0, &[0, 3], [2, 16], 1, "out");
    refused(192, 0, &[1, 2], [2, 16], 1, "offsets");
    refused(192, 0, &[], [2, 16], 1, "offsets");
    refused(192, 0, &[0, -1], [2, 16], 1, "offsets");
    refused(192, 0, &offsets, [4, 8], 1, "heads");
    refused(192, 0, &offsets, [0, 16], 1, "heads");
    refused(192, 0, &offsets, [2, 16], 0, "threads");
    assert!(Modulation::new(4, &[0, 2], &[1], 1).unwrap_err().to_string().starts_with("`rows[0]` must be 0 to 0"));
    assert!(gelu(&mut [0.0; 5], &[0.0; 2], None).is_err());
    assert!(gelu::<f32>(&mut [], &[], None).is_ok() && gelu(&mut [0.0], &[], None).is_err());
}
