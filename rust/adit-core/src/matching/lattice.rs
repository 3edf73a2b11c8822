//! Lattice parameters, LLL reduction, and the lattice points in a sphere.

use crate::cell::{self, Matrix, Transform, Vec3};

/// A reduction of a sound 3 x 3 basis takes a handful of steps; this many mean that rounding rules.
const MAX_STEPS: usize = 1000;
const LOVASZ: f64 = 0.75;

/// The whole number nearest to x, for |x| < 2^51: twenty times faster than `f64::round` where the
/// processor has no instruction for it. Halves go to the even side.
#[must_use]
#[inline]
pub fn nearest(x: f64) -> f64 {
    const SHIFT: f64 = 6_755_399_441_055_744.0; // 1.5 * 2^52
    (x + SHIFT) - SHIFT
}

/// x less the whole number nearest to it.
#[must_use]
#[inline]
pub fn wrapped(x: f64) -> f64 {
    x - nearest(x)
}

/// Lengths, and angles in degrees: alpha between b and c, beta between a and c, gamma between a and b.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Parameters {
    pub lengths: Vec3,
    pub angles: Vec3,
}

impl Parameters {
    #[must_use]
    pub fn of(rows: &Matrix) -> Self {
        let lengths = rows.map(|row| cell::norm(&row));
        let angle = |p: usize, q: usize| {
            (cell::dot(&rows[p], &rows[q]) / (lengths[p] * lengths[q])).clamp(-1.0, 1.0).acos().to_degrees()
        };
        Self { lengths, angles: [angle(1, 2), angle(2, 0), angle(0, 1)] }
    }

    /// The basis with c along z and a in the plane of x and z, right-handed.
    #[must_use]
    pub fn rows(&self) -> Matrix {
        let [a, b, c] = self.lengths;
        let [alpha, beta, gamma] = self.angles.map(f64::to_radians);
        let star = (alpha.cos() * beta.cos() - gamma.cos()) / (alpha.sin() * beta.sin());
        let star = star.clamp(-1.0, 1.0).acos();
        [
            [a * beta.sin(), 0.0, a * beta.cos()],
            [-b * alpha.sin() * star.cos(), b * alpha.sin() * star.sin(), b * alpha.cos()],
            [0.0, 0.0, c],
        ]
    }
}

/// The basis of Lenstra, Lenstra and Lovasz (Math. Ann. 261, 515, 1982) with delta = 0.75, and the
/// transform: `reduced = transform @ rows`.
#[must_use]
pub fn lll(rows: &Matrix) -> (Matrix, Transform) {
    let mut basis = *rows;
    let mut transform = cell::IDENTITY;
    let mut k = 1;
    for _ in 0..MAX_STEPS {
        if k > 2 {
            break;
        }
        let (mut factors, squares) = orthogonalised(&basis);
        for i in (0..k).rev() {
            let whole = factors[k][i].round_ties_even();
            if whole != 0.0 {
                basis[k] = cell::plus(&basis[k], -whole, &basis[i]);
                let addend = transform[i];
                for (entry, addend) in transform[k].iter_mut().zip(addend) {
                    *entry = entry.saturating_sub(addend.saturating_mul(whole as i64));
                }
                let row = factors[i];
                for (factor, subtrahend) in factors[k].iter_mut().zip(row).take(i) {
                    *factor -= whole * subtrahend;
                }
                factors[k][i] -= whole;
            }
        }
        if squares[k] >= (LOVASZ - factors[k][k - 1].powi(2)) * squares[k - 1] {
            k += 1;
        } else {
            basis.swap(k, k - 1);
            transform.swap(k, k - 1);
            k = (k - 1).max(1);
        }
    }
    (basis, transform)
}

/// Gram-Schmidt: the factors and the squared lengths of what is left of each row.
fn orthogonalised(basis: &Matrix) -> (Matrix, Vec3) {
    let mut factors = [[0.0; 3]; 3];
    let mut left = *basis;
    let mut squares = [0.0; 3];
    for k in 0..3 {
        for i in 0..k {
            factors[k][i] = cell::dot(&basis[k], &left[i]) / squares[i];
            left[k] = cell::plus(&left[k], -factors[k][i], &left[i]);
        }
        squares[k] = cell::dot(&left[k], &left[k]);
    }
    (factors, squares)
}

/// The inverse of a whole-numbered matrix, as floats; `None` if its determinant is 0.
#[must_use]
pub fn inverse(transform: &[[i32; 3]; 3]) -> Option<Matrix> {
    let rows = transform.map(|row| row.map(f64::from));
    let determinant = cell::determinant(&rows);
    if determinant == 0.0 {
        return None;
    }
    // `dual` holds the columns of the inverse.
    let columns = cell::dual(&rows);
    Some([0, 1, 2].map(|k| columns.map(|column| column[k])))
}

/// Calls `visit` with the whole coordinates, the place and the squared length of each lattice point
/// within `radius`, the origin included; in ascending order of the coordinates.
///
/// `None`: the box around the sphere holds more than `limit` points.
pub fn points_within(
    rows: &Matrix,
    dual_lengths: &Vec3,
    radius: f64,
    limit: f64,
    mut visit: impl FnMut([i32; 3], Vec3, f64),
) -> Option<()> {
    let reach = dual_lengths.map(|length| (radius * length * (1.0 + 1e-9)).floor());
    if !(reach.iter().map(|reach| 2.0 * reach + 1.0).product::<f64>() <= limit) {
        return None;
    }
    let [x, y, z] = reach.map(|reach| reach as i32);
    let squared = radius * radius;
    for i in -x..=x {
        let first = cell::scaled(&rows[0], f64::from(i));
        for j in -y..=y {
            let second = cell::plus(&first, f64::from(j), &rows[1]);
            for k in -z..=z {
                let point = cell::plus(&second, f64::from(k), &rows[2]);
                let length = cell::dot(&point, &point);
                if length <= squared {
                    visit([i, j, k], point, length);
                }
            }
        }
    }
    Some(())
}
