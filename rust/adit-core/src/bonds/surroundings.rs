//! Where chemists put a formal charge when several nitrogens could carry it.
//!
//! The geometry rarely tells (the lengths of an amidinium or of a tetrazolate are nearly equal), so
//! small costs decide as conventions do: a cation sits on a nitrogen of a ring rather than on one
//! outside it, on one with hydrogen, and not on one next to a carbonyl; an anion sits next to
//! carbon rather than between two nitrogens, and next to sulfonyl. A nitrogen with two neighbours is
//! positive only if all three are in line (azides, diazo compounds, isonitriles).

use super::model::Model;
use super::solve::Edge;
use crate::cell::{self, Vec3};

const NITROGEN: u8 = 7;
/// What a positive charge costs more...
const NEXT_TO_ACYL: i32 = 800;
const NEXT_TO_NITROGEN: i32 = 200;
const NEXT_TO_OXYGEN: i32 = 500;
const WITH_HYDROGEN: i32 = -300;
const BENT: i32 = 3000;
/// ... and a negative one.
const BETWEEN_NITROGENS: i32 = 600;
const ANION_NEXT_TO_ACYL: i32 = -400;
const NEXT_TO_SULFONYL: i32 = -1800;
/// What a double bond out of a ring to a nitrogen with two more neighbours costs.
const OUT_OF_RING: i32 = 500;

/// The cosine of the angle (150 degrees) below which a nitrogen with two neighbours is not linear.
const LINEAR: f64 = -0.866;

pub fn price(model: &mut Model, positions: &[Vec3]) {
    model.extra.clear();
    model.extra.resize(model.numbers.len(), [0; 2]);
    let mut nitrogens = vec![0u8; model.numbers.len()];
    let mut first = vec![u32::MAX; model.numbers.len()];
    let mut cations = false;
    for edge in model.edges.iter().filter(|edge| edge.low > 0) {
        let [a, b] = edge.ends.map(|end| end as usize);
        for (atom, other) in [(a, b), (b, a)] {
            if model.numbers[atom] == NITROGEN {
                nitrogens[atom] += u8::from(model.numbers[other] == NITROGEN);
                cations |= model.certain[atom] == 3;
                if first[atom] == u32::MAX {
                    first[atom] = other as u32;
                } else if model.certain[atom] == 2 && bent(model, positions, first[atom] as usize, atom, other) {
                    model.extra[atom][0] += BENT;
                }
                let [plus, minus] = neighbour(model, other);
                model.extra[atom][0] += plus;
                model.extra[atom][1] += minus;
            }
        }
    }
    for (extra, _) in model.extra.iter_mut().zip(&nitrogens).filter(|(_, count)| **count == 2) {
        extra[1] += BETWEEN_NITROGENS;
    }
    if cations {
        leave_rings(model);
    }
}

fn bent(model: &Model, positions: &[Vec3], first: usize, middle: usize, last: usize) -> bool {
    let [first, middle, last] = [first, middle, last].map(|atom| &positions[model.order[atom] as usize]);
    let (left, right) = (cell::sub(first, middle), cell::sub(last, middle));
    cell::dot(&left, &right) > LINEAR * cell::norm(&left) * cell::norm(&right)
}

/// What one neighbour of a nitrogen adds to the costs of its charges.
fn neighbour(model: &Model, other: usize) -> [i32; 2] {
    let oxo = model.oxo[other] > 0;
    match model.numbers[other] {
        1 => [WITH_HYDROGEN, 0],
        6 if oxo => [NEXT_TO_ACYL, ANION_NEXT_TO_ACYL],
        NITROGEN => [NEXT_TO_NITROGEN, 0],
        8 if model.certain[other] > 1 => [NEXT_TO_OXYGEN, 0],
        15 | 16 | 34 if oxo => [NEXT_TO_ACYL, NEXT_TO_SULFONYL],
        _ => [0, 0],
    }
}

/// Makes double bonds dearer that lead out of a ring to a nitrogen with two more neighbours.
fn leave_rings(model: &mut Model) {
    let bridges = bridges(model.numbers.len(), &model.edges);
    let mut in_ring = vec![false; model.numbers.len()];
    for (edge, _) in model.edges.iter().zip(&bridges).filter(|(edge, bridge)| edge.low > 0 && !**bridge) {
        for &end in &edge.ends {
            in_ring[end as usize] = true;
        }
    }
    for (edge, _) in model.edges.iter_mut().zip(&bridges).filter(|(edge, bridge)| edge.high > 1 && **bridge) {
        let [a, b] = edge.ends.map(|end| end as usize);
        let cation = |atom: usize| model.numbers[atom] == NITROGEN && model.certain[atom] == 3;
        if (cation(a) && in_ring[b]) || (cation(b) && in_ring[a]) {
            edge.costs[2] += OUT_OF_RING;
        }
    }
}

/// For each edge whether it is in no ring of certain bonds. Depth-first search, R. E. Tarjan, Inf.
/// Process. Lett. 2, 160 (1974).
fn bridges(atoms: usize, edges: &[Edge]) -> Vec<bool> {
    let mut starts = vec![0u32; atoms + 1];
    let certain = || edges.iter().enumerate().filter(|(_, edge)| edge.low > 0);
    certain().flat_map(|(_, edge)| edge.ends).for_each(|end| starts[end as usize + 1] += 1);
    for atom in 0..atoms {
        starts[atom + 1] += starts[atom];
    }
    let mut filled = starts.clone();
    let mut incident = vec![(0u32, 0u32); starts[atoms] as usize];
    for (k, edge) in certain() {
        for (end, other) in [(edge.ends[0], edge.ends[1]), (edge.ends[1], edge.ends[0])] {
            incident[filled[end as usize] as usize] = (k as u32, other);
            filled[end as usize] += 1;
        }
    }
    let mut bridges = vec![true; edges.len()];
    let mut number = vec![0u32; atoms];
    let mut lowest = vec![0u32; atoms];
    let mut next: Vec<u32> = starts[..atoms].to_vec();
    let mut count = 0;
    let mut path: Vec<(u32, u32)> = Vec::new();
    for root in 0..atoms {
        if number[root] > 0 {
            continue;
        }
        count += 1;
        (number[root], lowest[root]) = (count, count);
        path.push((root as u32, u32::MAX));
        while let Some(&(atom, by)) = path.last() {
            let atom = atom as usize;
            if next[atom] == starts[atom + 1] {
                path.pop();
                if let Some(&(parent, _)) = path.last() {
                    let parent = parent as usize;
                    lowest[parent] = lowest[parent].min(lowest[atom]);
                    bridges[by as usize] = lowest[atom] == number[atom];
                }
                continue;
            }
            let (edge, other) = incident[next[atom] as usize];
            next[atom] += 1;
            if edge == by {
                continue;
            }
            if number[other as usize] == 0 {
                count += 1;
                (number[other as usize], lowest[other as usize]) = (count, count);
                path.push((other, edge));
            } else {
                bridges[edge as usize] = false;
                lowest[atom] = lowest[atom].min(number[other as usize]);
            }
        }
    }
    bridges
}
