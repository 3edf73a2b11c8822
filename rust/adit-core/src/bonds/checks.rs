//! Is the geometry of a molecule one that its bonds allow? In the spirit of `PoseBusters`.
//!
//! M. Buttenschoen, G. M. Morris, C. M. Deane, Chem. Sci. 15, 3130 (2024): bond lengths
//! and angles near to what is usual, no clashes, flat aromatic rings and double bonds. There the bounds
//! come from `RDKit`'s distance geometry; here from the lengths of `lengths` and from fixed angles.

use super::contacts::half_list;
use super::lengths::pair;
use super::{Bonds, flags};
use crate::cell::{self, Vec3};
use crate::neighbors;

/// What can be wrong, as bits.
pub mod failures {
    /// The bonds leave more than one piece.
    pub const CONNECTED: u32 = 1;
    /// A valence is not satisfied, or cannot be.
    pub const VALENCES: u32 = 2;
    /// A bond is shorter or longer by a quarter than is usual for its order.
    pub const LENGTHS: u32 = 4;
    /// An angle is far from what is usual.
    pub const ANGLES: u32 = 8;
    /// Two atoms that are more than three bonds apart are too close.
    pub const CLASHES: u32 = 16;
    /// An atom of an aromatic ring is more than 0.25 Angstrom out of its plane.
    pub const RINGS: u32 = 32;
    /// A double bond is twisted.
    pub const DOUBLE_BONDS: u32 = 64;
}

const LENGTH_TOLERANCE: f64 = 0.25;
/// Angstrom.
const FLATNESS: f64 = 0.25;
/// Atoms more than three bonds apart are closer than this part of the sum of their radii.
const CLASH: f64 = 0.6;
/// The same between hydrogen and an atom that accepts a hydrogen bond.
const HYDROGEN_BOND: f64 = 0.5;
/// Degrees allowed at an atom, by the number of its directions: 2, 3, 4 or more. So wide that bonds
/// out of fused small rings pass.
const OPEN: [(f64, f64); 3] = [(135.0, 180.0), (80.0, 168.0), (70.0, 162.0)];
/// In rings of three and four.
const THREE_RING: (f64, f64) = (42.0, 82.0);
const FOUR_RING: (f64, f64) = (62.0, 118.0);
/// In rings of up to so many atoms a double bond cannot be flat on its own account.
const SMALL_RING: usize = 7;
const BRUTE_LIMIT: usize = 80;

/// Neighbours of each atom, and the order of the bond to each.
struct Graph {
    starts: Vec<u32>,
    others: Vec<(u32, u8)>,
}

impl Graph {
    fn new(bonds: &Bonds) -> Self {
        let mut starts = vec![0u32; bonds.charges.len() + 1];
        bonds.pairs.as_flattened().iter().for_each(|&end| starts[end as usize + 1] += 1);
        for atom in 1..starts.len() {
            starts[atom] += starts[atom - 1];
        }
        let mut filled = starts.clone();
        let mut others = vec![(0, 0); 2 * bonds.pairs.len()];
        for (&[a, b], &order) in bonds.pairs.iter().zip(&bonds.orders) {
            for (end, other) in [(a, b), (b, a)] {
                others[filled[end as usize] as usize] = (other, order);
                filled[end as usize] += 1;
            }
        }
        Self { starts, others }
    }

    fn of(&self, atom: u32) -> &[(u32, u8)] {
        &self.others[self.starts[atom as usize] as usize..self.starts[atom as usize + 1] as usize]
    }

    fn bonded(&self, first: u32, second: u32) -> bool {
        self.of(first).iter().any(|&(other, _)| other == second)
    }

    /// Whether the two have a neighbour in common other than `except`.
    fn share(&self, first: u32, second: u32, except: u32) -> bool {
        self.of(first).iter().any(|&(other, _)| other != except && other != second && self.bonded(other, second))
    }
}

/// The failed checks of one molecule whose bonds are known.
#[must_use]
pub fn check(numbers: &[u8], positions: &[Vec3], bonds: &Bonds) -> u32 {
    let graph = Graph::new(bonds);
    let broken = flags::RADICAL | flags::CROWDED | flags::CHARGE;
    let mut failed = 0;
    for (failure, found) in [
        (failures::CONNECTED, bonds.flags & flags::FRAGMENTS != 0),
        (failures::VALENCES, bonds.flags & broken != 0),
        (failures::LENGTHS, bad_lengths(numbers, positions, bonds)),
        (failures::ANGLES, bad_angles(numbers, positions, &graph)),
        (failures::CLASHES, bonds.flags & flags::OVERLAP != 0 || clashes(numbers, positions, &graph)),
        (failures::RINGS, bent_rings(numbers, positions, &graph)),
        (failures::DOUBLE_BONDS, twisted(numbers, positions, bonds, &graph)),
    ] {
        failed |= if found { failure } else { 0 };
    }
    failed
}

fn distance(positions: &[Vec3], first: u32, second: u32) -> f64 {
    cell::norm(&cell::sub(&positions[second as usize], &positions[first as usize]))
}

fn bad_lengths(numbers: &[u8], positions: &[Vec3], bonds: &Bonds) -> bool {
    bonds.pairs.iter().zip(&bonds.orders).any(|(&[a, b], &order)| {
        let usual = pair(numbers[a as usize], numbers[b as usize]).lengths[usize::from(order.clamp(1, 3)) - 1];
        let ratio = distance(positions, a, b) / f64::from(usual);
        !((1.0 - LENGTH_TOLERANCE..=1.0 + LENGTH_TOLERANCE).contains(&ratio))
    })
}

/// Two for a linear atom, 3 for a flat one, 4 for all else.
fn directions(number: u8, bonds: &[(u32, u8)]) -> usize {
    let most = bonds.iter().map(|&(_, order)| order).max().unwrap_or(0);
    let doubles = bonds.iter().filter(|&&(_, order)| order == 2).count();
    match number {
        6 | 7 if bonds.len() == 2 && (most == 3 || doubles == 2) => 2,
        6 | 7 if bonds.len() <= 3 && most == 2 => 3,
        _ => 4,
    }
}

fn bad_angles(numbers: &[u8], positions: &[Vec3], graph: &Graph) -> bool {
    (0..numbers.len() as u32).any(|atom| {
        let bonds = graph.of(atom);
        // Beyond four neighbours there are angles of 90 and 180 degrees.
        if bonds.len() > 4 {
            return false;
        }
        let open = OPEN[directions(numbers[atom as usize], bonds) - 2];
        (0..bonds.len()).any(|i| {
            (0..i).any(|j| {
                let (first, second) = (bonds[j].0, bonds[i].0);
                let (low, high) = if graph.bonded(first, second) {
                    THREE_RING
                } else if graph.share(first, second, atom) {
                    FOUR_RING
                } else {
                    open
                };
                let angle = angle(positions, first, atom, second);
                !(low <= angle && angle <= high)
            })
        })
    })
}

/// In degrees.
fn angle(positions: &[Vec3], first: u32, middle: u32, last: u32) -> f64 {
    let [first, middle, last] = [first, middle, last].map(|atom| &positions[atom as usize]);
    let (left, right) = (cell::sub(first, middle), cell::sub(last, middle));
    cell::norm(&cell::cross(&left, &right)).atan2(cell::dot(&left, &right)).to_degrees()
}

/// Van der Waals radii in Angstrom: A. Bondi, J. Phys. Chem. 68, 441 (1964), hydrogen after R. S.
/// Rowland and R. Taylor, J. Phys. Chem. 100, 7384 (1996); 2 for all others.
fn radius(number: u8) -> f64 {
    match number {
        1 => 1.10,
        6 => 1.70,
        7 => 1.55,
        8 => 1.52,
        9 => 1.47,
        14 => 2.10,
        15 | 16 => 1.80,
        17 => 1.75,
        35 => 1.85,
        53 => 1.98,
        _ => 2.00,
    }
}

fn clashes(numbers: &[u8], positions: &[Vec3], graph: &Graph) -> bool {
    let limit = |i: u32, j: u32| {
        let (first, second) = (numbers[i as usize], numbers[j as usize]);
        let accepts = |number: u8| matches!(number, 7 | 8 | 9 | 16 | 17);
        let bridge = (first == 1 && accepts(second)) || (second == 1 && accepts(first));
        (if bridge { HYDROGEN_BOND } else { CLASH }) * (radius(first) + radius(second))
    };
    let clash = |i: u32, j: u32, distance: f64| distance < limit(i, j) && apart(graph, i, j);
    let count = numbers.len() as u32;
    if numbers.len() <= BRUTE_LIMIT {
        return (0..count).any(|i| (0..i).any(|j| clash(i, j, distance(positions, i, j))));
    }
    let reach = CLASH * 2.0 * numbers.iter().map(|&number| radius(number)).fold(0.0, f64::max);
    let list = neighbors::neighbor_list(positions, &[[0.0; 3]; 3], [false; 3], &half_list(reach));
    // Too many pairs to list are too many to be no clash.
    list.map_or(true, |list| (0..list.i.len()).any(|k| clash(list.i[k] as u32, list.j[k] as u32, list.distances[k])))
}

/// More than three bonds apart.
fn apart(graph: &Graph, first: u32, second: u32) -> bool {
    !graph.of(first).iter().any(|&(near, _)| {
        near == second
            || graph.bonded(near, second)
            || graph.of(near).iter().any(|&(far, _)| far != first && graph.bonded(far, second))
    })
}

/// Aromatic rings of five and six atoms, each found from its first atom in one direction.
fn bent_rings(numbers: &[u8], positions: &[Vec3], graph: &Graph) -> bool {
    let flat = |atom: u32| {
        let bonds = graph.of(atom);
        match numbers[atom as usize] {
            6 => bonds.len() == 3 && bonds.iter().any(|&(_, order)| order == 2),
            7 => bonds.len() <= 3,
            8 | 16 | 34 => bonds.len() == 2,
            _ => false,
        }
    };
    (0..numbers.len() as u32).filter(|&atom| flat(atom)).any(|first| {
        let mut path = vec![first];
        rings(graph, &flat, &mut path, &mut |ring| aromatic(numbers, graph, ring) && out_of_plane(positions, ring))
    })
}

/// Depth-first search for rings of five and six; true as soon as `found` is.
fn rings(
    graph: &Graph,
    allowed: &dyn Fn(u32) -> bool,
    path: &mut Vec<u32>,
    found: &mut dyn FnMut(&[u32]) -> bool,
) -> bool {
    let (first, last) = (path[0], path[path.len() - 1]);
    for &(next, _) in graph.of(last) {
        if next == first && path.len() >= 5 && path[1] < last {
            if found(path) {
                return true;
            }
        } else if path.len() < 6 && next > first && allowed(next) && !path.contains(&next) {
            path.push(next);
            if rings(graph, allowed, path, found) {
                return true;
            }
            path.pop();
        }
    }
    false
}

/// Six electrons: one from an atom with a double bond in the ring, two from a hetero atom without,
/// none from a carbon with a double bond to oxygen or sulfur outside.
fn aromatic(numbers: &[u8], graph: &Graph, ring: &[u32]) -> bool {
    let electrons = ring.iter().map(|&atom| {
        let double = graph.of(atom).iter().find(|&&(_, order)| order == 2);
        match double {
            Some((other, _)) if ring.contains(other) => Some(1),
            Some((other, _)) => matches!(numbers[*other as usize], 8 | 16).then_some(0),
            None => (numbers[atom as usize] != 6).then_some(2),
        }
    });
    electrons.sum::<Option<u32>>() == Some(6)
}

/// Whether a point is further than [`FLATNESS`] from the plane through all: the one whose normal is
/// the sum of the cross products of successive points around their centre.
fn out_of_plane(positions: &[Vec3], atoms: &[u32]) -> bool {
    let centre =
        atoms.iter().fold([0.0; 3], |sum, &atom| cell::plus(&sum, 1.0 / atoms.len() as f64, &positions[atom as usize]));
    let around: Vec<Vec3> = atoms.iter().map(|&atom| cell::sub(&positions[atom as usize], &centre)).collect();
    let normal = (0..around.len())
        .fold([0.0; 3], |sum, k| cell::plus(&sum, 1.0, &cell::cross(&around[k], &around[(k + 1) % around.len()])));
    let length = cell::norm(&normal);
    !around.iter().all(|point| cell::dot(point, &normal).abs() <= FLATNESS * length)
}

/// A double bond between carbon or nitrogen, outside of cumulenes and small rings: the neighbours of
/// its ends must lie in one plane with it.
fn twisted(numbers: &[u8], positions: &[Vec3], bonds: &Bonds, graph: &Graph) -> bool {
    bonds.pairs.iter().zip(&bonds.orders).any(|(&[a, b], &order)| {
        let flat = |atom: u32| {
            let number = numbers[atom as usize];
            matches!(number, 6 | 7) && directions(number, graph.of(atom)) == 3
        };
        if order != 2 || !flat(a) || !flat(b) || in_small_ring(graph, a, b) {
            return false;
        }
        let outer = |atom: u32, other: u32| graph.of(atom).iter().map(|&(end, _)| end).filter(move |&end| end != other);
        outer(a, b).any(|i| outer(b, a).any(|j| i != j && off_torsion(positions, [i, a, b, j])))
    })
}

fn in_small_ring(graph: &Graph, first: u32, second: u32) -> bool {
    let mut seen = vec![first];
    let mut from = 0;
    for depth in 1..SMALL_RING {
        let until = seen.len();
        for place in from..until {
            let atom = seen[place];
            for &(other, _) in graph.of(atom) {
                if other == second && depth > 1 {
                    return true;
                }
                if other != second && !seen.contains(&other) {
                    seen.push(other);
                }
            }
        }
        from = until;
    }
    false
}

/// Whether an end of a torsion is more than [`FLATNESS`] out of the plane that halves it.
fn off_torsion(positions: &[Vec3], [i, a, b, j]: [u32; 4]) -> bool {
    let [i, a, b, j] = [i, a, b, j].map(|atom| &positions[atom as usize]);
    let axis = cell::sub(b, a);
    let (left, right) = (cell::cross(&cell::sub(i, a), &axis), cell::cross(&cell::sub(j, b), &axis));
    let twist = cell::norm(&cell::cross(&left, &right)).atan2(cell::dot(&left, &right).abs());
    // |left| and |right| are the distances from the axis times its length.
    let arm = cell::norm(&left).max(cell::norm(&right));
    !(arm * (twist / 2.0).sin() <= FLATNESS * cell::norm(&axis))
}
