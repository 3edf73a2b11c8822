//! The images of the cell that can be within reach, numbered in the order of their shifts.

use super::scene::Scene;
use crate::cell::{Vec3, floor};

pub struct Image {
    /// In units of the cell as given.
    pub shift: [i64; 3],
    /// The lattice vector.
    pub vector: Vec3,
}

/// As many on either side, so that images number k and len - 1 - k are opposites.
#[derive(Default)]
pub struct Images {
    /// Most steps of the frame along each axis.
    most: [i64; 3],
    /// Number of each image by its steps; empty where the order of steps is that of the shifts.
    numbers: Vec<u32>,
    all: Vec<Image>,
}

impl Images {
    /// The images of a point in the cell that can come within `reach`, a part of the cell along
    /// each axis, of a point in the cell.
    pub fn set(&mut self, scene: &Scene, reach: Vec3) {
        self.most = std::array::from_fn(|k| if scene.frame.periodic[k] { floor(1.0 + reach[k]) as i64 } else { 0 });
        let [a, b, c] = self.most;
        let steps = (-a..=a).flat_map(|x| (-b..=b).flat_map(move |y| (-c..=c).map(move |z| [x, y, z])));
        self.all.clear();
        self.all.extend(steps.map(|steps| Image { shift: scene.original(steps), vector: scene.lattice(steps) }));
        self.numbers.clear();
        if !scene.keeps_order() {
            let mut order: Vec<u32> = (0..self.all.len() as u32).collect();
            order.sort_unstable_by_key(|&place| self.all[place as usize].shift);
            self.numbers.resize(order.len(), 0);
            for (number, place) in order.into_iter().enumerate() {
                self.numbers[place as usize] = number as u32;
            }
            self.all.sort_unstable_by_key(|image| image.shift);
        }
    }

    pub fn most(&self) -> [i64; 3] {
        self.most
    }

    pub fn all(&self) -> &[Image] {
        &self.all
    }

    /// The number of the cell itself.
    pub fn home(&self) -> usize {
        self.all.len() / 2
    }

    #[inline]
    pub fn number(&self, steps: [i64; 3]) -> usize {
        let [x, y, z] = steps;
        let [a, b, c] = self.most;
        let place = (((x + a) * (2 * b + 1) + y + b) * (2 * c + 1) + z + c) as usize;
        self.numbers.get(place).map_or(place, |&number| number as usize)
    }
}
