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
    /// Partners differ by no more than this in each coordinate.
    pub tolerance: Vec3,
    images: [Vec3; 27],
    steps: [Step; 13],
    count: usize,
}

/// A lattice vector k, one of each pair of opposites: a vector w is longer than w + k or w - k by
/// |2 k.w| - k.k, as squares.
#[derive(Debug, Clone, Copy, Default)]
pub struct Step {
    /// 2 k.w is this times the fractional coordinates of w.
    pub twice: Vec3,
    pub square: f64,
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
    pub fn len(&self) -> usize {
        self.0[0].len()
    }

    #[must_use]
    pub fn get(&self, index: usize) -> Vec3 {
        self.0.each_ref().map(|values| values[index])
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
    /// For partners no further apart than `reach` in the direction of any dual vector.
    #[must_use]
    pub fn new(parameters: &Parameters, reach: f64) -> Option<Self> {
        let (rows, transform) = lattice::lll(&parameters.rows());
        let inverse = lattice::inverse(&transform.map(|row| row.map(|entry| entry as i32)))?;
        let images = std::array::from_fn(|k| cell::combine(&coefficients(k), &rows));
        let dual_lengths = cell::dual(&rows).map(|vector| cell::norm(&vector));
        let tolerance = dual_lengths.map(|length| length * reach);
        let mut torus = Self { rows, inverse, dual_lengths, tolerance, images, steps: [Step::default(); 13], count: 0 };
        let longest = tolerance.map(|tolerance| tolerance.min(0.5));
        for (_, step) in torus.all_steps() {
            // For no w of such coordinates is there anything to be gained otherwise.
            if cell::dot(&step.twice.map(f64::abs), &longest) > step.square * (1.0 + TIE) {
                torus.steps[torus.count] = step;
                torus.count += 1;
            }
        }
        Some(torus)
    }

    /// One of each pair of opposite vectors with coefficients -1, 0 and 1, and its coefficients.
    pub fn all_steps(&self) -> impl Iterator<Item = (Vec3, Step)> + use<> {
        let (rows, images) = (self.rows, self.images);
        (0..13).map(move |k| {
            let twice = rows.map(|row| 2.0 * cell::dot(&row, &images[k]));
            (coefficients(k), Step { twice, square: cell::dot(&images[k], &images[k]) })
        })
    }

    /// The squares of the shortest vectors from `from` to each of `to`; infinite beyond the tolerance.
    pub fn squares(&self, from: &Vec3, to: [&[f64]; 3], row: &mut Row, squares: &mut [f64]) {
        let (count, tolerance) = (squares.len(), &self.tolerance);
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
        let is_ahead = |step: &Step| cell::dot(&step.twice, &short).abs() < step.square * (1.0 - TIE);
        let inside = short.iter().all(|x| x.abs() < 0.5 - TIE);
        if inside && self.steps[..self.count].iter().all(is_ahead) {
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

fn coefficients(image: usize) -> Vec3 {
    [image / 9, image / 3 % 3, image % 3].map(|x| x as f64 - 1.0)
}
