//! The images of the cell that can be within reach, numbered in the order of their shifts; and keys, which number
//! atoms and images.

use super::scene::Scene;
use super::too_large;
use crate::cell::{Vec3, floor};
use crate::error::Result;

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

    #[inline]
    pub fn number(&self, steps: [i64; 3]) -> usize {
        let [x, y, z] = steps;
        let [a, b, c] = self.most;
        let place = (((x + a) * (2 * b + 1) + y + b) * (2 * c + 1) + z + c) as usize;
        self.numbers.get(place).map_or(place, |&number| number as usize)
    }
}

/// Atom and image in one number, the key. Keys are in the order of atoms and shifts.
#[derive(Clone, Copy, Default)]
pub struct Packing {
    bits: u32,
    /// Number of the cell itself.
    home: usize,
}

impl Packing {
    /// No key is as large as this.
    pub const NO_KEY: i32 = i32::MAX;

    /// # Errors
    /// There are more atoms and images than 31 bits can number: far too many pairs.
    pub fn of(atoms: usize, images: usize) -> Result<Self> {
        let bits = images.next_power_of_two().trailing_zeros();
        if atoms > i32::MAX as usize >> bits {
            return Err(too_large("atoms and images", atoms as f64 * images as f64, i32::MAX as usize));
        }
        Ok(Self { bits, home: images / 2 })
    }

    #[inline]
    pub fn key(self, atom: usize, image: usize) -> i32 {
        (atom << self.bits | image) as i32
    }

    /// The key of an atom in the cell itself.
    #[inline]
    pub fn own(self, atom: usize) -> i32 {
        self.key(atom, self.home)
    }

    #[inline]
    pub fn is_own(self, key: i32) -> bool {
        key >= 0 && self.image(key) == self.home
    }

    #[inline]
    pub fn atom(self, key: i32) -> usize {
        (key >> self.bits) as usize
    }

    #[inline]
    pub fn image(self, key: i32) -> usize {
        key as usize & !(usize::MAX << self.bits)
    }
}
