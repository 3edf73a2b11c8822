//! Shortest vectors between points of a lattice's torus.

use super::lattice::{self, Parameters, wrapped};
use crate::cell::{self, Matrix, Vec3};

/// An image that might be nearer by less than this part of its square counts as equally near.
const TIE: f64 = 1e-9;

/// A lattice in its LLL-reduced basis.
#[derive(Debug)]
pub struct Torus {
    pub rows: Matrix,
    /// Fractional coordinates here are `f @ inverse`.
    pub inverse: Matrix,
    /// The dual vectors' lengths: what lies within `r` differs by no more than `r` times this in each coordinate.
    pub dual_lengths: Vec3,
    images: [Vec3; 27],
    steps: [Step; 13],
    count: usize,
}

/// A lattice vector k, one of each pair of opposites: a vector w is longer than w + k or w - k by
/// |2 k.w| - k.k, as squares.
#[derive(Debug, Clone, Copy, Default)]
struct Step {
    /// 2 k.w is this times the fractional coordinates of w.
    twice: Vec3,
    square: f64,
}

/// Points in fractional coordinates in [0, 1), coordinate by coordinate.
#[derive(Debug, Default)]
pub struct Points([Vec<f64>; 3]);

/// Work space, kept between calls.
#[derive(Debug, Default)]
pub struct Row {
    short: [Vec<f64>; 3],
    gain: Vec<f64>,
}

impl Points {
    pub fn clear(&mut self) {
        self.0.iter_mut().for_each(Vec::clear);
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0[0].is_empty()
    }

    #[must_use]
    pub fn slices(&self, range: &std::ops::Range<usize>) -> [&[f64]; 3] {
        self.0.each_ref().map(|values| &values[range.clone()])
    }
}

impl Extend<Vec3> for Points {
    fn extend<I: IntoIterator<Item = Vec3>>(&mut self, points: I) {
        for point in points {
            self.0.iter_mut().zip(point).for_each(|(values, x)| values.push(x));
        }
    }
}

impl Torus {
    #[must_use]
    pub fn new(parameters: &Parameters) -> Option<Self> {
        let (rows, transform) = lattice::lll(&parameters.rows());
        let inverse = lattice::inverse(&transform.map(|row| row.map(|entry| entry as i32)))?;
        let coefficients = |k: usize| [k / 9, k / 3 % 3, k % 3].map(|x| x as f64 - 1.0);
        let images = std::array::from_fn(|k| cell::combine(&coefficients(k), &rows));
        let (mut steps, mut count) = ([Step::default(); 13], 0);
        for image in &images[..13] {
            let (along, square) = (rows.map(|row| cell::dot(&row, image)), cell::dot(image, image));
            // For no w of coordinates up to a half is there anything to be gained otherwise.
            if along.iter().map(|x| x.abs()).sum::<f64>() > square * (1.0 - TIE) {
                steps[count] = Step { twice: along.map(|x| 2.0 * x), square };
                count += 1;
            }
        }
        let dual_lengths = cell::dual(&rows).map(|vector| cell::norm(&vector));
        Some(Self { rows, inverse, dual_lengths, images, steps, count })
    }

    /// The squares of the shortest vectors from `from` to each of `to`; infinite for what is further than
    /// `tolerance` in a coordinate.
    pub fn squares(&self, from: &Vec3, to: [&[f64]; 3], tolerance: &Vec3, row: &mut Row, squares: &mut [f64]) {
        let count = squares.len();
        let [a, b, c] = to.map(|values| &values[..count]);
        let Row { short: [x, y, z], gain } = row;
        for values in [&mut *x, &mut *y, &mut *z, &mut *gain] {
            values.resize(values.len().max(count), 0.0);
        }
        let (x, y, z, gain) = (&mut x[..count], &mut y[..count], &mut z[..count], &mut gain[..count]);
        for k in 0..count {
            let short = [wrapped(a[k] - from[0]), wrapped(b[k] - from[1]), wrapped(c[k] - from[2])];
            let vector = cell::combine(&short, &self.rows);
            let far =
                (short[0].abs() > tolerance[0]) | (short[1].abs() > tolerance[1]) | (short[2].abs() > tolerance[2]);
            squares[k] = if far { f64::INFINITY } else { cell::dot(&vector, &vector) };
            [x[k], y[k], z[k], gain[k]] = [short[0], short[1], short[2], 0.0];
        }
        for Step { twice: [p, q, r], square } in &self.steps[..self.count] {
            for k in 0..count {
                let nearer = (p * x[k] + q * y[k] + r * z[k]).abs() - square;
                gain[k] = if nearer > gain[k] { nearer } else { gain[k] };
            }
        }
        if self.count > 0 {
            squares.iter_mut().zip(gain).for_each(|(square, gain)| *square -= *gain);
        }
    }

    /// The shortest vector from one point to another, both in [0, 1). Of equally short ones the first in the
    /// order of the images, as in pymatgen: the mean over all partners depends on it.
    #[must_use]
    pub fn shortest(&self, from: &Vec3, to: &Vec3) -> Vec3 {
        let apart = cell::sub(to, from);
        let short = apart.map(wrapped);
        let is_ahead =
            |step: &Step| cell::dot(&step.twice, &short).abs() < step.square * (1.0 - TIE);
        if self.steps[..self.count].iter().all(is_ahead) {
            return cell::combine(&short, &self.rows);
        }
        let start = cell::combine(&apart, &self.rows);
        let mut best = (f64::INFINITY, start);
        for image in &self.images {
            let vector = cell::plus(&start, 1.0, image);
            let squared = cell::dot(&vector, &vector);
            if squared < best.0 {
                best = (squared, vector);
            }
        }
        best.1
    }

    /// Fractional coordinates of the original basis in [0, 1) of this one.
    #[must_use]
    pub fn inside(&self, f: &Vec3) -> Vec3 {
        cell::combine(f, &self.inverse).map(wrapped).map(|f| if f < 0.0 { f + 1.0 } else { f })
    }
}
