//! Niggli reduction with the tolerances that pymatgen uses, so that the same cell comes out.
//!
//! The steps are those of I. Krivy and B. Gruber, Acta Cryst. A32, 297 (1976), with the comparisons of
//! R. Grosse-Kunstleve, N. Sauter and P. Adams, Acta Cryst. A60, 1 (2004). Two habits of pymatgen show
//! in its verdicts and are kept: the tolerance is 1e-5 V^(1/3) whatever the unit of what is compared,
//! and the basis that is returned is the first one, in a certain order of the lattice points, whose
//! lengths agree with the reduced ones to within that and whose angles agree to within one degree.

use super::lattice::{self, Parameters};
use crate::cell::{self, Matrix, Vec3};

const TOLERANCE: f64 = 1e-5;
const ANGLE_TOLERANCE: f64 = 1.0;
const MAX_ROUNDS: usize = 100;
const MAX_POINTS: f64 = 1e7;

/// A right-handed reduced basis of the lattice, in the same Cartesian frame; `None` where there is
/// none to be found.
#[must_use]
pub fn reduce(rows: &Matrix) -> Option<Matrix> {
    if cell::is_degenerate(rows) {
        return None;
    }
    let tolerance = TOLERANCE * cell::determinant(rows).abs().cbrt();
    let target = reduced_parameters(&lattice::lll(rows).0, tolerance)?;
    first_mapping(rows, &Parameters::of(&target.rows()), tolerance)
}

/// `m^T g m`
fn congruent(g: &Matrix, m: &Matrix) -> Matrix {
    let half: Matrix = std::array::from_fn(|i| std::array::from_fn(|j| (0..3).map(|k| g[i][k] * m[k][j]).sum()));
    std::array::from_fn(|i| std::array::from_fn(|j| (0..3).map(|k| m[k][i] * half[k][j]).sum()))
}

/// (A, B, C, xi, eta, zeta) of the metric.
fn characters(g: &Matrix) -> [f64; 6] {
    [g[0][0], g[1][1], g[2][2], 2.0 * g[1][2], 2.0 * g[0][2], 2.0 * g[0][1]]
}

fn reduced_parameters(rows: &Matrix, tolerance: f64) -> Option<Parameters> {
    let mut g: Matrix = std::array::from_fn(|i| std::array::from_fn(|j| cell::dot(&rows[i], &rows[j])));
    for _ in 0..MAX_ROUNDS {
        let Some(next) = step(&mut g, tolerance) else { break };
        g = next;
    }
    let [a, b, c, xi, eta, zeta] = characters(&g);
    let lengths = [a.sqrt(), b.sqrt(), c.sqrt()];
    let cosines =
        [xi / 2.0 / lengths[1] / lengths[2], eta / 2.0 / lengths[0] / lengths[2], zeta / 2.0 / lengths[0] / lengths[1]];
    let angles = cosines.map(|cosine| cosine.acos().to_degrees());
    (lengths.iter().chain(&angles).all(|x| x.is_finite())).then_some(Parameters { lengths, angles })
}

/// One round: orders and signs the metric in place, then the first shortening, if there is one.
fn step(g: &mut Matrix, e: f64) -> Option<Matrix> {
    let [a, b, _, xi, eta, _] = characters(g);
    if b + e < a || ((a - b).abs() < e && xi.abs() > eta.abs() + e) {
        *g = congruent(g, &[[0.0, -1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, -1.0]]);
    }
    let [_, b, c, xi, eta, zeta] = characters(g);
    if c + e < b || ((b - c).abs() < e && eta.abs() > zeta.abs() + e) {
        return Some(congruent(g, &[[-1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, -1.0, 0.0]]));
    }
    let signs = signs([xi, eta, zeta], e);
    *g = congruent(g, &[[signs[0], 0.0, 0.0], [0.0, signs[1], 0.0], [0.0, 0.0, signs[2]]]);
    let [a, b, _, xi, eta, zeta] = characters(g);
    let shortening = if xi.abs() > b + e
        || ((xi - b).abs() < e && zeta - e > 2.0 * eta)
        || ((xi + b).abs() < e && -e > zeta)
    {
        [[1.0, 0.0, 0.0], [0.0, 1.0, -xi.signum()], [0.0, 0.0, 1.0]]
    } else if eta.abs() > a + e || ((a - eta).abs() < e && zeta - e > 2.0 * xi) || ((a + eta).abs() < e && -e > zeta) {
        [[1.0, 0.0, -eta.signum()], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    } else if zeta.abs() > a + e || ((a - zeta).abs() < e && eta - e > 2.0 * xi) || ((a + zeta).abs() < e && -e > eta) {
        [[1.0, -zeta.signum(), 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    } else {
        let sum = xi + eta + zeta + a + b;
        if !(-e > sum || (sum.abs() < e && e < zeta + 2.0 * (a + eta))) {
            return None;
        }
        [[1.0, 0.0, 1.0], [0.0, 1.0, 1.0], [0.0, 0.0, 1.0]]
    };
    Some(congruent(g, &shortening))
}

/// The directions of the edges that make all angles acute, or none.
fn signs(products: Vec3, e: f64) -> Vec3 {
    let found = products.map(|product| if product.abs() < e { 0.0 } else { product.signum() });
    let product: f64 = found.iter().product();
    if product > 0.0 {
        return found.map(|sign| if sign < 0.0 { -1.0 } else { 1.0 });
    }
    let mut chosen = found.map(|sign| if sign > 0.0 { -1.0 } else { 1.0 });
    if chosen.iter().product::<f64>() < 0.0
        && let Some(free) = (0..3).rev().find(|&k| found[k] == 0.0)
    {
        chosen[free] = -1.0;
    }
    chosen
}

struct Point {
    key: [i32; 6],
    place: Vec3,
    length: f64,
}

/// The first basis of the lattice with the wanted parameters. Points are in the order in which a search
/// by cubes of the sphere's radius finds them: by cube, then by falling whole coordinates.
fn first_mapping(rows: &Matrix, target: &Parameters, tolerance: f64) -> Option<Matrix> {
    let longest = target.lengths.iter().copied().fold(0.0, f64::max);
    let radius = longest * (1.0 + tolerance);
    let (short, transform) = cell::minkowski_reduce(rows)?;
    let dual_lengths = cell::dual(&short).map(|vector| cell::norm(&vector));
    let edge = radius.max(1.0);
    let cube = |x: f64| if x < -2e-8 { 0 } else { i32::from(x >= edge - 2e-8) + 1 };
    let mut lists: [Vec<Point>; 3] = [Vec::new(), Vec::new(), Vec::new()];
    lattice::points_within(&short, &dual_lengths, radius, MAX_POINTS, |whole, place, squared| {
        let length = squared.sqrt();
        for (list, wanted) in lists.iter_mut().zip(&target.lengths) {
            let ratio = length / wanted;
            if ratio < 1.0 + tolerance && ratio > 1.0 / (1.0 + tolerance) {
                let own: [i32; 3] = std::array::from_fn(|axis| {
                    (0..3).map(|k| i64::from(whole[k]).saturating_mul(transform[k][axis])).sum::<i64>() as i32
                });
                let key = [cube(place[0]), cube(place[1]), cube(place[2]), -own[0], -own[1], -own[2]];
                list.push(Point { key, place, length });
            }
        }
    })?;
    for list in &mut lists {
        list.sort_unstable_by_key(|point| point.key);
    }
    let fits = |p: &Point, q: &Point, wanted: f64| {
        let cosine = (cell::dot(&p.place, &q.place) / p.length / q.length).clamp(-1.0, 1.0);
        (cosine.acos().to_degrees() - wanted).abs() <= ANGLE_TOLERANCE
    };
    let degenerate = 1e-8 * cell::determinant(rows).abs();
    let [alpha, beta, gamma] = target.angles;
    let mut mirrored = None;
    for a in &lists[0] {
        for b in lists[1].iter().filter(|b| fits(a, b, gamma)) {
            for c in lists[2].iter().filter(|c| fits(b, c, alpha) && fits(a, c, beta)) {
                let basis = [a.place, b.place, c.place];
                let volume = cell::determinant(&basis) * cell::determinant(rows).signum();
                if volume > degenerate {
                    return Some(right_handed(basis));
                }
                if volume < -degenerate {
                    mirrored.get_or_insert(basis);
                }
            }
        }
    }
    mirrored.map(right_handed)
}

fn right_handed(rows: Matrix) -> Matrix {
    if cell::determinant(&rows) > 0.0 { rows } else { rows.map(|row| cell::scaled(&row, -1.0)) }
}
