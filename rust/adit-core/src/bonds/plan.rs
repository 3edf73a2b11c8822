//! The order in which the edges of a component are decided and its atoms finished.

use super::solve::{Edge, Node, SLOTS};

/// No slot; and in [`Step::enters`]: the atom is open already.
pub const FREE: u8 = u8::MAX;

/// One edge is decided.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    pub edge: u32,
    /// Where the valences of its ends are kept.
    pub slots: [u8; 2],
    /// The valence that an end brings along when it is met first; `FREE` when it is open already.
    pub enters: [u8; 2],
    /// The end is finished with this edge.
    pub leaves: [bool; 2],
    /// The valence that the edges to come need at least.
    pub reserved: [u8; 2],
}

#[derive(Debug, Default)]
pub struct Plan {
    pub steps: Vec<Step>,
    /// Valences of the atoms from decided bonds and from edges that were given up.
    pub bases: Vec<u8>,
    /// Whether an atom has edges at all.
    pub waits: Vec<bool>,
    incident: Vec<u32>,
    starts: Vec<u32>,
    filled: Vec<u32>,
    slot_of: Vec<u8>,
    left: Vec<u32>,
    /// Lowest orders of the undecided edges of each atom, added up.
    needed: Vec<u8>,
    open: Vec<u32>,
    /// Edges that have a step, or were given up.
    done: Vec<bool>,
    pub given_up: Vec<bool>,
    free: u32,
}

impl Plan {
    /// Next is always the open atom that opens the fewest others. True if there was no room for all
    /// edges: some were given up, each with its lowest order.
    pub fn make(&mut self, nodes: &[Node], edges: &[Edge]) -> bool {
        self.given_up.clear();
        self.given_up.resize(edges.len(), false);
        self.bases.clear();
        self.bases.extend(nodes.iter().map(|node| node.base));
        let mut tries = 1;
        while !self.attempt(nodes.len(), edges) {
            tries += 1;
        }
        tries > 1
    }

    fn attempt(&mut self, nodes: usize, edges: &[Edge]) -> bool {
        self.index(nodes, edges);
        self.waits.clear();
        self.waits.extend(self.left.iter().map(|&left| left > 0));
        self.steps.clear();
        self.slot_of.clear();
        self.slot_of.resize(nodes, FREE);
        self.done.clone_from(&self.given_up);
        self.open.clear();
        self.free = (1 << SLOTS) - 1;
        let mut complete = true;
        while let Some(atom) = self.next_atom(edges) {
            for place in self.starts[atom]..self.starts[atom + 1] {
                let edge = self.incident[place as usize];
                if !self.done[edge as usize] {
                    complete &= self.add_step(edge, edges);
                }
            }
            let left = &self.left;
            self.open.retain(|&atom| left[atom as usize] > 0);
        }
        complete
    }

    fn index(&mut self, nodes: usize, edges: &[Edge]) {
        self.left.clear();
        self.left.resize(nodes, 0);
        self.needed.clear();
        self.needed.resize(nodes, 0);
        let kept = |edge: &usize| !self.given_up[*edge];
        for edge in (0..edges.len()).filter(kept) {
            for end in edges[edge].ends {
                self.left[end as usize] += 1;
                self.needed[end as usize] += edges[edge].low;
            }
        }
        self.starts.clear();
        self.starts.push(0);
        let mut sum = 0;
        for &count in &self.left {
            sum += count;
            self.starts.push(sum);
        }
        self.filled.clone_from(&self.starts);
        self.incident.clear();
        self.incident.resize(sum as usize, 0);
        for edge in (0..edges.len()).filter(kept) {
            for end in edges[edge].ends {
                let place = &mut self.filled[end as usize];
                self.incident[*place as usize] = edge as u32;
                *place += 1;
            }
        }
    }

    fn next_atom(&self, edges: &[Edge]) -> Option<usize> {
        if self.open.is_empty() {
            let waiting = (0..self.left.len()).filter(|&atom| self.left[atom] > 0);
            return waiting.min_by_key(|&atom| self.left[atom]);
        }
        let opens = |atom: u32| {
            let range = self.starts[atom as usize] as usize..self.starts[atom as usize + 1] as usize;
            let undone = self.incident[range].iter().filter(|&&edge| !self.done[edge as usize]);
            let others = undone.flat_map(|&edge| edges[edge as usize].ends);
            others.filter(|&end| self.slot_of[end as usize] == FREE).count()
        };
        self.open.iter().copied().min_by_key(|&atom| opens(atom)).map(|atom| atom as usize)
    }

    fn add_step(&mut self, edge: u32, edges: &[Edge]) -> bool {
        let ends = edges[edge as usize].ends.map(|end| end as usize);
        let opening = ends.iter().filter(|&&end| self.slot_of[end] == FREE).count() as u32;
        self.done[edge as usize] = true;
        for &end in &ends {
            self.needed[end] -= edges[edge as usize].low;
        }
        if self.free.count_ones() < opening {
            self.given_up[edge as usize] = true;
            for end in ends {
                self.bases[end] += edges[edge as usize].low;
                self.left[end] -= 1;
                if self.left[end] == 0 && self.slot_of[end] != FREE {
                    self.free |= 1 << self.slot_of[end];
                }
            }
            return false;
        }
        let mut step = Step { edge, slots: [0; 2], enters: [FREE; 2], leaves: [false; 2], reserved: [0; 2] };
        for (k, &end) in ends.iter().enumerate() {
            if self.slot_of[end] == FREE {
                let slot = self.free.trailing_zeros();
                self.free &= !(1 << slot);
                self.slot_of[end] = slot as u8;
                self.open.push(end as u32);
                step.enters[k] = self.bases[end];
            }
            step.slots[k] = self.slot_of[end];
            self.left[end] -= 1;
            step.leaves[k] = self.left[end] == 0;
            step.reserved[k] = self.needed[end];
        }
        for (k, &end) in ends.iter().enumerate() {
            if step.leaves[k] {
                self.free |= 1 << self.slot_of[end];
            }
        }
        self.steps.push(step);
        true
    }
}
