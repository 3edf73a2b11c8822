//! Pairs of atoms that are close enough to be bonded.

use super::lengths::{Pair, pair, pairs_of, relative};
use crate::cell::{Matrix, Vec3};
use crate::error::Result;
use crate::neighbors::{self, Algorithm, MAX_COORDINATE, Quantities, Search};

/// Up to this many atoms all pairs are looked at; beyond, a neighbour list is made.
const BRUTE_LIMIT: usize = 80;
/// Closer than this many single bonds two atoms lie on top of each other.
const OVERLAP: f32 = 0.45;

/// Two atoms within reach of a bond.
#[derive(Debug, Clone, Copy)]
pub struct Contact {
    pub ends: [u32; 2],
    /// Angstrom.
    pub distance: f32,
    /// See [`relative`].
    pub ratio: f32,
    pub pair: &'static Pair,
}

/// All contacts, ends ascending, and whether two atoms overlap (those are no contact).
///
/// # Errors
/// There are too many pairs of atoms within reach: see [`neighbors::neighbor_list`].
pub fn find(numbers: &[u8], positions: &[Vec3], contacts: &mut Vec<Contact>) -> Result<bool> {
    contacts.clear();
    if numbers.len() > BRUTE_LIMIT {
        return find_in_list(numbers, positions, contacts);
    }
    let mut overlap = false;
    for (i, (&number, from)) in numbers.iter().zip(positions).enumerate() {
        let pairs = pairs_of(number);
        for (j, (&other, to)) in numbers.iter().zip(positions).enumerate().skip(i + 1) {
            let squared = (to[0] - from[0]).powi(2) + (to[1] - from[1]).powi(2) + (to[2] - from[2]).powi(2);
            if squared > 16.0 {
                continue;
            }
            let pair = &pairs[usize::from(other)];
            if squared < f64::from(pair.reach2) {
                overlap |= add(contacts, [i as u32, j as u32], squared.sqrt() as f32, pair);
            }
        }
    }
    Ok(overlap)
}

fn find_in_list(numbers: &[u8], positions: &[Vec3], contacts: &mut Vec<Contact>) -> Result<bool> {
    let mut present = [false; 256];
    for &number in numbers {
        present[usize::from(number)] = true;
    }
    let elements: Vec<u8> = (0..=255).filter(|&number| present[usize::from(number)]).collect();
    let reaches = elements.iter().flat_map(|&a| elements.iter().map(move |&b| pair(a, b).reach2));
    let reach = f64::from(reaches.fold(0.0, f32::max)).sqrt();
    if reach == 0.0 {
        return Ok(false);
    }
    // Further out f64 resolves no bonds: those atoms are alone.
    let near = |atom: &usize| positions[*atom].iter().all(|x| x.abs() <= MAX_COORDINATE);
    let chosen: Vec<usize> = (0..numbers.len()).filter(near).collect();
    let points: Vec<Vec3> = chosen.iter().map(|&atom| positions[atom]).collect();
    let none: Matrix = [[0.0; 3]; 3];
    let list = neighbors::neighbor_list(&points, &none, [false; 3], &half_list(reach))?;
    let mut overlap = false;
    for ((&i, &j), &distance) in list.i.iter().zip(&list.j).zip(&list.distances) {
        let (i, j) = (chosen[i as usize], chosen[j as usize]);
        let pair = pair(numbers[i], numbers[j]);
        if distance * distance < f64::from(pair.reach2) {
            overlap |= add(contacts, [i as u32, j as u32], distance as f32, pair);
        }
    }
    Ok(overlap)
}

/// Each pair within `cutoff` once, with its distance.
pub fn half_list(cutoff: f64) -> Search {
    let quantities = Quantities::I.and(Quantities::J).and(Quantities::DISTANCES);
    Search { cutoff, half: true, algorithm: Algorithm::Auto, quantities }
}

fn add(contacts: &mut Vec<Contact>, ends: [u32; 2], distance: f32, pair: &'static Pair) -> bool {
    let ratio = relative(distance, pair.lengths[0]);
    if ratio >= OVERLAP {
        contacts.push(Contact { ends, distance, ratio, pair });
    }
    ratio < OVERLAP
}
