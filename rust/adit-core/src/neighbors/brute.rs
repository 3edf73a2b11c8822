//! All pairs, and for each exactly the images within the cutoff.

use super::half::Half;
use super::scene::Scene;
use crate::cell::{self, Frame, Matrix, Vec3};
use crate::error::Result;

#[derive(Default)]
pub struct Brute {
    points: Vec<Vec3>,
}

/// The frame in its triangular form: row 2 along x, row 1 in the xy plane; as (z, y, x).
struct Triangle {
    rows: Matrix,
    inverses: Vec3,
}

impl Triangle {
    /// With the axes: a vector's components there are its products with them.
    fn new(frame: &Frame) -> (Self, Matrix) {
        let x = cell::scaled(&frame.rows[2], 1.0 / cell::norm(&frame.rows[2]));
        let across = cell::plus(&frame.rows[1], -cell::dot(&frame.rows[1], &x), &x);
        let y = cell::scaled(&across, 1.0 / cell::norm(&across));
        let z = cell::scaled(&frame.dual[0], frame.heights[0]);
        let axes = [z, y, x];
        let rows = frame.rows.map(|row| axes.map(|axis| cell::dot(&row, &axis)));
        (Self { rows, inverses: [1.0 / rows[0][0], 1.0 / rows[1][1], 1.0 / rows[2][2]] }, axes)
    }

    /// The shifts along one axis that bring a point at `from` to within `reach` of the origin.
    #[inline]
    fn interval(&self, frame: &Frame, axis: usize, from: f64, reach: f64) -> (i64, i64) {
        if frame.periodic[axis] {
            (ceil((-reach - from) * self.inverses[axis]), -ceil((from - reach) * self.inverses[axis]))
        } else {
            (0, if from.abs() <= reach { 0 } else { -1 })
        }
    }
}

impl Brute {
    /// In the triangular form the shifts within the cutoff are three nested intervals: no image is
    /// tried in vain.
    pub fn search(&mut self, scene: &Scene, half: &mut Half) -> Result<()> {
        let (triangle, axes) = Triangle::new(&scene.frame);
        self.points.clear();
        self.points.extend(scene.points.iter().map(|p| axes.map(|axis| cell::dot(p, &axis))));
        for i in 0..self.points.len() {
            for j in i..self.points.len() {
                let start = half.entries.len();
                self.images(scene, &triangle, i, j, half)?;
                if !scene.keeps_order() {
                    half.sort_images(start);
                }
            }
            half.end_row();
        }
        Ok(())
    }

    /// Adds the pairs of atom i and the images of atom j.
    fn images(&self, scene: &Scene, triangle: &Triangle, i: usize, j: usize, half: &mut Half) -> Result<()> {
        let frame = &scene.frame;
        let squared = scene.reach * scene.reach;
        let difference = cell::sub(&scene.points[j], &scene.points[i]);
        let d = cell::sub(&self.points[j], &self.points[i]);
        let (from, to) = triangle.interval(frame, 0, d[0], scene.reach);
        for s in from..=to {
            let [height, depth, width] = cell::plus(&d, s as f64, &triangle.rows[0]);
            let left = (squared - height * height).max(0.0);
            let (from, to) = triangle.interval(frame, 1, depth, left.sqrt());
            for t in from..=to {
                let [_, depth, width] = cell::plus(&[0.0, depth, width], t as f64, &triangle.rows[1]);
                let left = (left - depth * depth).max(0.0);
                let (from, to) = triangle.interval(frame, 2, width, left.sqrt());
                half.reserve((to - from + 1).max(0) as usize)?;
                for u in from..=to {
                    let vector = cell::plus(&difference, 1.0, &scene.lattice([s, t, u]));
                    let distance = cell::dot(&vector, &vector);
                    if distance < scene.limit {
                        let shift = scene.shift(i, j, [s, t, u]);
                        if i != j || shift > [0; 3] {
                            half.push(i, j, shift, distance, &vector)?;
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

/// `f64::ceil` calls into the C library where the processor's own instruction may not be used.
#[inline]
fn ceil(value: f64) -> i64 {
    let whole = value as i64;
    whole + i64::from((whole as f64) < value)
}
