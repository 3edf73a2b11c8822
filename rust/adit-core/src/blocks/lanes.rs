//! Values in half or single precision, and arithmetic on as many of them as the processor takes at a time.
#![allow(clippy::inline_always)] // As a part of whom it is to be compiled for.

use pulp::Simd;

/// A number as it lies in memory.
pub trait Value: Copy + Default + Send + Sync {
    fn wide(self) -> f32;
    fn narrow(value: f32) -> Self;
}

impl Value for f32 {
    #[inline(always)]
    fn wide(self) -> f32 {
        self
    }

    #[inline(always)]
    fn narrow(value: f32) -> Self {
        value
    }
}

/// The bits of a bfloat16, which are the upper half of those of a single-precision number.
pub type Bf16 = i16;

impl Value for Bf16 {
    #[inline(always)]
    fn wide(self) -> f32 {
        f32::from_bits(u32::from(self.cast_unsigned()) << 16)
    }

    /// To the nearest, of two as near to the even one; NaN stays NaN.
    #[inline(always)]
    fn narrow(value: f32) -> Self {
        let bits = value.to_bits();
        let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
        (if value.is_nan() { 0x7fc0 } else { rounded }) as Self
    }
}

/// What there is no instruction for.
pub trait Arithmetic: Simd {
    /// c0 + x (c1 + x (c2 + ..)).
    #[inline(always)]
    fn polynomial(self, x: Self::f32s, coefficients: &[f32]) -> Self::f32s {
        let mut out = self.splat_f32s(0.0);
        for &coefficient in coefficients.iter().rev() {
            out = self.mul_add_e_f32s(out, x, self.splat_f32s(coefficient));
        }
        out
    }

    /// e^x of x <= 0, and next to nothing below -80; within 5e-7 of it. 2^n times Taylor's polynomial in the rest, at most
    /// ln 2 / 2, of which the first term left out is at most 1.2e-7.
    #[inline(always)]
    fn exp(self, x: Self::f32s) -> Self::f32s {
        /// Added to a small number, it leaves the nearest whole one in the lowest bits; its own lowest nine are clear.
        const WHOLE: f32 = 12_582_912.0;
        /// In two parts, the first of so few digits that its products are exact.
        const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
        const TAYLOR: [f32; 7] = [1.0, 1.0, 0.5, 1.0 / 6.0, 1.0 / 24.0, 1.0 / 120.0, 1.0 / 720.0];
        let lowest = self.splat_f32s(-80.0); // what it leads to is never so small that processors are slow at it
        let x = self.select_f32s(self.less_than_f32s(x, lowest), lowest, x); // NaN stays
        let shifted = self.mul_add_e_f32s(x, self.splat_f32s(std::f32::consts::LOG2_E), self.splat_f32s(WHOLE));
        let whole = self.sub_f32s(shifted, self.splat_f32s(WHOLE));
        let rest = self.mul_add_e_f32s(whole, self.splat_f32s(-LN_2[0]), x);
        let rest = self.mul_add_e_f32s(whole, self.splat_f32s(-LN_2[1]), rest);
        let exponent = self.wrapping_dyn_shl_u32s(self.transmute_u32s_f32s(shifted), self.splat_u32s(23));
        let power = self.transmute_u32s_f32s(self.polynomial(rest, &TAYLOR));
        self.transmute_f32s_u32s(self.add_u32s(power, exponent))
    }

    /// x times the probability that a standard normal number is below x (Hendrycks & Gimpel 2016, arXiv 1606.08415), by
    /// formula 7.1.26 of Abramowitz & Stegun for the error function, whose error is below 1.5e-7.
    #[inline(always)]
    fn gelu(self, x: Self::f32s) -> Self::f32s {
        const P: f32 = 0.327_591_1;
        // Half of theirs.
        const A: [f32; 6] = [0.0, 0.127_414_8, -0.142_248_36, 0.710_706_9, -0.726_576, 0.530_702_7];
        let [zero, one] = [0.0, 1.0].map(|value| self.splat_f32s(value));
        let z = self.mul_f32s(self.abs_f32s(x), self.splat_f32s(std::f32::consts::FRAC_1_SQRT_2));
        let t = self.div_f32s(one, self.mul_add_e_f32s(z, self.splat_f32s(P), one));
        let exp = self.exp(self.mul_f32s(z, self.neg_f32s(z)));
        // Of the normal distribution beyond |x|.
        let beyond = self.mul_f32s(self.polynomial(t, &A), exp);
        let below = self.select_f32s(self.greater_than_f32s(x, zero), self.sub_f32s(one, beyond), beyond);
        self.mul_f32s(x, below)
    }
}

impl<S: Simd> Arithmetic for S {}

/// This processor, one without vectors, and whatever else this one can pass for.
#[cfg(test)]
pub fn every_arch() -> Vec<pulp::Arch> {
    let mut out = vec![pulp::Arch::new(), pulp::Arch::Scalar];
    #[cfg(target_arch = "x86_64")]
    out.extend(pulp::x86::V3::try_new().map(pulp::Arch::V3));
    out
}

#[cfg(test)]
mod tests {
    use pulp::WithSimd;

    use super::*;

    struct Each<'a>(&'a mut [f32], bool);

    impl WithSimd for Each<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            for x in S::as_mut_simd_f32s(self.0).0 {
                *x = if self.1 { simd.gelu(*x) } else { simd.exp(*x) };
            }
        }
    }

    fn each(values: &[f32], gelu: bool) -> Vec<Vec<f32>> {
        let made = |arch: pulp::Arch| {
            let mut out = values.to_vec();
            arch.dispatch(Each(&mut out, gelu));
            out
        };
        every_arch().into_iter().map(made).collect()
    }

    #[test]
    fn exponentials_are_right_to_single_precision() {
        let values: Vec<f32> = (-8704..0).map(|k| k as f32 * 0.01 * 80.0 / 87.04).collect();
        for made in each(&values, false) {
            for (&x, made) in values.iter().zip(made) {
                let exact = f64::from(x).exp();
                assert!((f64::from(made) / exact - 1.0).abs() < 5e-7, "{x}: {made} {exact}");
            }
        }
        for made in each(&[f32::NEG_INFINITY; 16], false) {
            assert!(made.iter().all(|&value| (0.0..1e-34).contains(&value)));
        }
        for made in each(&[f32::NAN; 16], false) {
            assert!(made.iter().all(|value| value.is_nan()));
        }
    }

    #[test]
    fn gelu_of_what_is_not_finite() {
        for made in each(&[[f32::NAN, f32::INFINITY, f32::MAX, f32::MIN]; 4].concat(), true) {
            assert!(made[0].is_nan() && made[1] == f32::INFINITY && made[2] > 3.4e38 && made[3].abs() < 1e2);
        }
    }

    #[test]
    fn halves_round_to_the_nearest_even() {
        // 1 + 1/256 lies between 1 and 1 + 2/256; 1 + 3/256 between 1 + 2/256 and 1 + 4/256.
        let rounded = |value: f32| Bf16::narrow(value).wide().to_bits() >> 16;
        for (value, made) in [(1.0 + 1.0 / 256.0, 0x3f80), (1.0 + 3.0 / 256.0, 0x3f82), (1.004, 0x3f81), (-2.0, 0xc000)]
        {
            assert_eq!(rounded(value), made);
        }
        assert_eq!((rounded(f32::INFINITY), rounded(f32::MAX)), (0x7f80, 0x7f80));
        for bits in [0x7f80_0001, 0x7fff_ffff, 0xffff_ffff] {
            assert!(Bf16::narrow(f32::from_bits(bits)).wide().is_nan());
        }
    }
}
