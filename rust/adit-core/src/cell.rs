//! 3-vectors, cells of row vectors, and Minkowski reduction.

use crate::error::{Error, Result};

pub type Vec3 = [f64; 3];
/// Three row vectors.
pub type Matrix = [Vec3; 3];
/// Integer combinations of row vectors: `new = transform @ old`.
pub type Transform = [[i64; 3]; 3];

pub const IDENTITY: Transform = [[1, 0, 0], [0, 1, 0], [0, 0, 1]];

/// A cell whose volume is less than this part of the product of its edges has no volume.
const DEGENERATE: f64 = 1e-12;
/// Larger entries of a transform are refused: f64 would lose the lattice, products might overflow.
const MAX_ENTRY: f64 = 1e9;
/// A reduction step must shorten the squared length by this part, so that ties end the loop.
const SHORTER: f64 = 1.0 - 1e-10;
const MAX_SWEEPS: usize = 200;

#[must_use]
pub fn dot(a: &Vec3, b: &Vec3) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

#[must_use]
pub fn cross(a: &Vec3, b: &Vec3) -> Vec3 {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

#[must_use]
pub fn norm(a: &Vec3) -> f64 {
    dot(a, a).sqrt()
}

#[must_use]
pub fn sub(a: &Vec3, b: &Vec3) -> Vec3 {
    [a[0] - b[0], a[1] - b[1], a[2] - b[2]]
}

#[must_use]
pub fn scaled(a: &Vec3, factor: f64) -> Vec3 {
    [a[0] * factor, a[1] * factor, a[2] * factor]
}

/// `a + factor * b`
#[must_use]
pub fn plus(a: &Vec3, factor: f64, b: &Vec3) -> Vec3 {
    [a[0] + factor * b[0], a[1] + factor * b[1], a[2] + factor * b[2]]
}

/// `coefficients @ rows`
#[must_use]
pub fn combine(coefficients: &Vec3, rows: &Matrix) -> Vec3 {
    let partial = plus(&scaled(&rows[0], coefficients[0]), coefficients[1], &rows[1]);
    plus(&partial, coefficients[2], &rows[2])
}

#[must_use]
pub fn determinant(rows: &Matrix) -> f64 {
    dot(&rows[0], &cross(&rows[1], &rows[2]))
}

// `f64::floor` and its like call into the C library where the processor's own instruction may not
// be used.

#[inline]
#[must_use]
pub fn floor(value: f64) -> f64 {
    if value.abs() < 1e15 {
        let whole = value as i64 as f64;
        if whole > value { whole - 1.0 } else { whole }
    } else {
        value
    }
}

/// As a whole number; it saturates.
#[inline]
#[must_use]
pub fn ceil(value: f64) -> i64 {
    let whole = value as i64;
    whole.saturating_add(i64::from((whole as f64) < value))
}

/// To the nearest, halves to even.
#[inline]
#[must_use]
pub fn round(value: f64) -> f64 {
    // Added to this, a double has no digits behind the point.
    const WHOLE: f64 = 6_755_399_441_055_744.0;
    if value.abs() < 1e15 { value + WHOLE - WHOLE } else { value }
}

/// `transform @ rows`
#[must_use]
pub fn transformed(transform: &Transform, rows: &Matrix) -> Matrix {
    transform.map(|row| combine(&row.map(|entry| entry as f64), rows))
}

/// Of a transform of determinant +1, with entries up to 1e9.
#[must_use]
pub fn inverted(transform: &Transform) -> Transform {
    let t = |k: usize, l: usize| transform[k % 3][l % 3];
    let minor = |k: usize, l: usize| t(k + 1, l + 1) * t(k + 2, l + 2) - t(k + 1, l + 2) * t(k + 2, l + 1);
    [0, 1, 2].map(|k| [0, 1, 2].map(|l| minor(l, k)))
}

/// Not finite, or three vectors in one plane (to within rounding).
#[must_use]
pub fn is_degenerate(rows: &Matrix) -> bool {
    let edges = norm(&rows[0]) * norm(&rows[1]) * norm(&rows[2]);
    let volume = determinant(rows).abs();
    !(volume > DEGENERATE * edges && edges.is_finite())
}

/// Dual vectors: `dual[k]` · x is the k-th fractional coordinate of x; `1 / |dual[k]|` is the
/// distance of the two faces that the k-th edge joins.
#[must_use]
pub fn dual(rows: &Matrix) -> Matrix {
    let factor = 1.0 / determinant(rows);
    [
        scaled(&cross(&rows[1], &rows[2]), factor),
        scaled(&cross(&rows[2], &rows[0]), factor),
        scaled(&cross(&rows[0], &rows[1]), factor),
    ]
}

/// A Minkowski-reduced basis of the same lattice: no edge can be shortened by whole multiples of
/// the other two. `rows = transform @ cell`, determinant of `transform` +1. The edges keep their
/// places: a cell that is reduced already comes back as it is, with the identity.
///
/// P. Nguyen, D. Stehle, "Low-dimensional lattice basis reduction revisited" (2009), section 3;
/// here without the sorting.
///
/// `None` if the cell is degenerate.
#[must_use]
pub fn minkowski_reduce(cell: &Matrix) -> Option<(Matrix, Transform)> {
    if is_degenerate(cell) {
        return None;
    }
    let mut rows = *cell;
    let mut transform = IDENTITY;
    for _ in 0..MAX_SWEEPS {
        let mut changed = false;
        for k in 0..3 {
            for other in [(k + 1) % 3, (k + 2) % 3] {
                let factor = -(dot(&rows[k], &rows[other]) / dot(&rows[other], &rows[other])).round();
                changed |= shorten(&mut rows, &mut transform, k, &[(other, factor)])?;
            }
        }
        // The plane step is exact only once the pairs are reduced.
        if !changed {
            for k in 0..3 {
                changed |= shorten_by_plane(&mut rows, &mut transform, k)?;
            }
        }
        if !changed {
            // Fresh from the input: without the rounding of the steps.
            return Some((transformed(&transform, cell), transform));
        }
    }
    None
}

/// Adds multiples of other rows to row k if that makes it shorter. `None`: the entries overflow.
fn shorten(rows: &mut Matrix, transform: &mut Transform, k: usize, terms: &[(usize, f64)]) -> Option<bool> {
    let new = terms.iter().fold(rows[k], |row, &(other, factor)| plus(&row, factor, &rows[other]));
    if !(dot(&new, &new) < SHORTER * dot(&rows[k], &rows[k])) {
        return Some(false);
    }
    rows[k] = new;
    for &(other, factor) in terms {
        let addend = transform[other];
        for (entry, addend) in transform[k].iter_mut().zip(addend) {
            let new = *entry as f64 + factor * addend as f64;
            if !(new.abs() <= MAX_ENTRY) {
                return None;
            }
            *entry = new as i64;
        }
    }
    Some(true)
}

/// Shortens row k by the lattice point of the other two that is nearest to its projection: one of
/// the four corners around it, because the two are reduced.
fn shorten_by_plane(rows: &mut Matrix, transform: &mut Transform, k: usize) -> Option<bool> {
    let (p, q) = ((k + 1) % 3, (k + 2) % 3);
    let (pp, qq, pq) = (dot(&rows[p], &rows[p]), dot(&rows[q], &rows[q]), dot(&rows[p], &rows[q]));
    let (kp, kq) = (dot(&rows[k], &rows[p]), dot(&rows[k], &rows[q]));
    let gram = pp * qq - pq * pq;
    let (x, y) = (((kp * qq - kq * pq) / gram).floor(), ((kq * pp - kp * pq) / gram).floor());
    let mut changed = false;
    let start = rows[k];
    let corners = [(x, y), (x + 1.0, y), (x, y + 1.0), (x + 1.0, y + 1.0)];
    let squared = |&(x, y): &(f64, f64)| {
        let new = plus(&plus(&start, -x, &rows[p]), -y, &rows[q]);
        dot(&new, &new)
    };
    let nearest = corners.iter().min_by(|a, b| squared(a).total_cmp(&squared(b)));
    if let Some(&(x, y)) = nearest {
        changed = shorten(rows, transform, k, &[(p, -x), (q, -y)])?;
    }
    Some(changed)
}

/// The lattice of the periodic directions, completed to a basis of space.
///
/// `rows[k]` is a lattice vector where `periodic[k]`, else a unit vector at right angles to all
/// others. The lattice vectors are Minkowski reduced: `rows[k] = transform[k] @ cell` there.
#[derive(Debug, Clone, Default)]
pub struct Frame {
    pub rows: Matrix,
    pub dual: Matrix,
    /// Distances of opposite faces; 1 where not periodic.
    pub heights: Vec3,
    pub periodic: [bool; 3],
    pub transform: Transform,
}

impl Frame {
    /// # Errors
    /// The periodic vectors of the cell are not finite or span no volume (area, length).
    pub fn new(cell: &Matrix, periodic: [bool; 3]) -> Result<Self> {
        let flat = || {
            Error::argument(
                "cell",
                "have linearly independent, finite row vectors in its periodic directions",
                format!("{cell:?} with pbc {periodic:?}"),
                "Check the cell, or switch pbc off in the flat direction",
            )
        };
        let completed = complete(cell, periodic).ok_or_else(flat)?;
        let (rows, mut transform) = minkowski_reduce(&completed).ok_or_else(flat)?;
        for k in 0..3 {
            if !periodic[k] {
                transform[k] = [0; 3];
            }
        }
        let dual = dual(&rows);
        let heights = dual.map(|vector| 1.0 / norm(&vector));
        Ok(Self { rows, dual, heights, periodic, transform })
    }

    #[must_use]
    pub fn is_as_given(&self) -> bool {
        (0..3).all(|k| !self.periodic[k] || self.transform[k] == IDENTITY[k])
    }
}

/// Replaces the vectors of directions that are not periodic by unit vectors at right angles.
/// Reduction never mixes them in, because their products with the lattice vectors vanish.
fn complete(cell: &Matrix, periodic: [bool; 3]) -> Option<Matrix> {
    let mut rows = *cell;
    let unit = |vector: Vec3| {
        let length = norm(&vector);
        (length > 0.0 && length.is_finite()).then(|| scaled(&vector, 1.0 / length))
    };
    let axes: Vec<usize> = (0..3).filter(|&k| periodic[k]).collect();
    match axes[..] {
        [] => rows = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
        [a] => {
            let along = unit(cell[a])?;
            let flattest = (0..3).min_by(|&p, &q| along[p].abs().total_cmp(&along[q].abs()))?;
            let mut helper = [0.0; 3];
            helper[flattest] = 1.0;
            let second = unit(cross(&along, &helper))?;
            rows[(a + 1) % 3] = second;
            rows[(a + 2) % 3] = cross(&along, &second);
        }
        [a, b] => {
            let normal = cross(&unit(cell[a])?, &unit(cell[b])?);
            rows[3 - a - b] = if norm(&normal) > DEGENERATE { unit(normal)? } else { return None };
        }
        _ => {}
    }
    Some(rows)
}
