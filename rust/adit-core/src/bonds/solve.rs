//! The cheapest assignment of bond orders to one connected set of undecided contacts.
//!
//! Dynamic programming over a path decomposition: atoms are finished one after the other, and a
//! partial solution is known by the valences used so far of the atoms that are begun and not
//! finished (their number stays at 2 or 3 along chains and fused rings). Of partial solutions that
//! agree in this only the cheapest is kept, so the answer is exact, and the work linear in the number
//! of atoms. Two limits keep dense clumps bounded, and are reported: at most [`SLOTS`] open
//! atoms, and at most [`BEAM`] partial solutions.

use super::elements::{FORBIDDEN, Kind, State};

/// Atoms that can be open at a time.
const SLOTS: usize = 30;
/// Partial solutions that are kept.
const BEAM: usize = 600;
const BITS: usize = 4;
const CHARGE_SHIFT: usize = 120;
const FREE: u8 = u8::MAX;

/// An atom with undecided contacts.
#[derive(Debug, Clone, Copy)]
pub struct Node {
    /// Valence used by bonds that are decided.
    pub base: u8,
    pub kind: &'static Kind,
    /// What a positive and a negative charge cost more here than elsewhere.
    pub extra: [i32; 2],
}

impl Node {
    fn cost(&self, state: State) -> i32 {
        state.cost
            + match state.charge.signum() {
                1 => self.extra[0],
                -1 => self.extra[1],
                _ => 0,
            }
    }
}

/// A contact whose order lies in `low..=high`; `costs` by order.
#[derive(Debug, Clone, Copy)]
pub struct Edge {
    pub ends: [u32; 2],
    pub low: u8,
    pub high: u8,
    pub costs: [i32; 4],
}

/// One way of bonding the component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Solution {
    pub cost: i32,
    /// Total charge of the nodes.
    pub charge: i8,
    /// One for each edge.
    pub orders: Vec<u8>,
    /// Which of its options each node takes.
    pub options: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct Step {
    edge: u32,
    slots: [u8; 2],
    /// The valence that an end brings along when it is met first; `FREE` when it is open already.
    enters: [u8; 2],
    /// The end is finished with this edge.
    leaves: [bool; 2],
}

#[derive(Debug, Clone, Copy)]
struct Partial {
    key: u128,
    cost: i32,
    past: Past,
}

/// How a partial solution came from the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Past {
    parent: u32,
    order: u8,
    options: [u8; 2],
}

/// Memory that is used again and again.
#[derive(Debug, Default)]
pub struct Solver {
    steps: Vec<Step>,
    incident: Vec<u32>,
    starts: Vec<u32>,
    slot_of: Vec<u8>,
    left: Vec<u32>,
    bases: Vec<u8>,
    /// Edges that are decided: planned, or given up.
    done: Vec<bool>,
    given_up: Vec<bool>,
    current: Vec<Partial>,
    next: Vec<Partial>,
    history: Vec<Past>,
    layers: Vec<u32>,
}

impl Solver {
    /// The cheapest solution of all; with `by_charge` the cheapest for each total charge. The flag
    /// says that a limit was met, so that it may not be the cheapest.
    pub fn solve(&mut self, nodes: &[Node], edges: &[Edge], by_charge: bool) -> (Vec<Solution>, bool) {
        self.given_up.clear();
        self.given_up.resize(edges.len(), false);
        self.bases.clear();
        self.bases.extend(nodes.iter().map(|node| node.base));
        let mut cut = false;
        while !self.plan(nodes.len(), edges) {
            cut = true;
        }
        self.history.clear();
        self.layers.clear();
        self.begin(nodes);
        for place in 0..self.steps.len() {
            let step = self.steps[place];
            self.expand(nodes, edges, step, by_charge);
            cut |= self.reduce();
            self.layers.push(self.history.len() as u32);
            self.history.extend(self.next.iter().map(|partial| partial.past));
            std::mem::swap(&mut self.current, &mut self.next);
        }
        let ends = (0..self.current.len()).map(|place| self.trace(place, nodes.len(), edges)).collect();
        (ends, cut)
    }

    /// The empty solution, and in it the atoms that have no edge to wait for.
    fn begin(&mut self, nodes: &[Node]) {
        let mut start = Partial { key: 0, cost: 0, past: Past { parent: 0, order: 0, options: [0; 2] } };
        for (atom, node) in nodes.iter().enumerate() {
            if self.starts[atom] == self.starts[atom + 1] {
                let state = node.kind.best(self.bases[atom]);
                start.key = with_charge(start.key, state.charge);
                start.cost += node.cost(state);
            }
        }
        self.current.clear();
        self.current.push(start);
    }

    /// The order in which edges are decided and atoms finished: next always the atom that opens the
    /// fewest others. False if there was no room for all edges: those were given up, each with its
    /// lowest order, and the plan must be made anew.
    fn plan(&mut self, nodes: usize, edges: &[Edge]) -> bool {
        self.index(nodes, edges);
        self.steps.clear();
        self.slot_of.clear();
        self.slot_of.resize(nodes, FREE);
        self.done.clone_from(&self.given_up);
        let mut free: u32 = (1 << SLOTS) - 1;
        let mut complete = true;
        while let Some(atom) = self.next_atom(edges) {
            for place in self.starts[atom]..self.starts[atom + 1] {
                let edge = self.incident[place as usize];
                if !self.done[edge as usize] {
                    complete &= self.add_step(edge, edges, &mut free);
                }
            }
        }
        complete
    }

    fn index(&mut self, nodes: usize, edges: &[Edge]) {
        self.left.clear();
        self.left.resize(nodes, 0);
        let kept = |edge: &usize| !self.given_up[*edge];
        for edge in (0..edges.len()).filter(kept) {
            for end in edges[edge].ends {
                self.left[end as usize] += 1;
            }
        }
        self.starts.clear();
        self.starts.push(0);
        let mut sum = 0;
        for &count in &self.left {
            sum += count;
            self.starts.push(sum);
        }
        self.incident.clear();
        self.incident.resize(sum as usize, 0);
        let mut filled: Vec<u32> = self.starts.clone();
        for edge in (0..edges.len()).filter(kept) {
            for end in edges[edge].ends {
                self.incident[filled[end as usize] as usize] = edge as u32;
                filled[end as usize] += 1;
            }
        }
    }

    fn next_atom(&self, edges: &[Edge]) -> Option<usize> {
        let growth = |atom: usize| {
            let range = self.starts[atom] as usize..self.starts[atom + 1] as usize;
            let opened = self.incident[range]
                .iter()
                .filter(|&&edge| !self.done[edge as usize])
                .map(|&edge| edges[edge as usize].ends)
                .filter(|ends| self.slot_of[(if ends[0] as usize == atom { ends[1] } else { ends[0] }) as usize] == FREE)
                .count();
            2 * opened as i64 - i64::from(self.slot_of[atom] != FREE) * 3
        };
        (0..self.left.len()).filter(|&atom| self.left[atom] > 0).min_by_key(|&atom| growth(atom))
    }

    fn add_step(&mut self, edge: u32, edges: &[Edge], free: &mut u32) -> bool {
        let ends = edges[edge as usize].ends.map(|end| end as usize);
        let opening = ends.iter().filter(|&&end| self.slot_of[end] == FREE).count() as u32;
        self.done[edge as usize] = true;
        if free.count_ones() < opening {
            self.given_up[edge as usize] = true;
            for end in ends {
                self.bases[end] += edges[edge as usize].low;
                self.left[end] -= 1;
            }
            return false;
        }
        let mut step = Step { edge, slots: [0; 2], enters: [FREE; 2], leaves: [false; 2] };
        for (k, &end) in ends.iter().enumerate() {
            if self.slot_of[end] == FREE {
                let slot = free.trailing_zeros();
                *free &= !(1 << slot);
                self.slot_of[end] = slot as u8;
                step.enters[k] = self.bases[end];
            }
            step.slots[k] = self.slot_of[end];
            self.left[end] -= 1;
            step.leaves[k] = self.left[end] == 0;
        }
        for (k, &end) in ends.iter().enumerate() {
            if step.leaves[k] {
                *free |= 1 << self.slot_of[end];
            }
        }
        self.steps.push(step);
        true
    }

    fn expand(&mut self, nodes: &[Node], edges: &[Edge], step: Step, by_charge: bool) {
        let edge = &edges[step.edge as usize];
        let ends = edge.ends.map(|end| &nodes[end as usize]);
        let shifts = step.slots.map(|slot| BITS * usize::from(slot));
        self.next.clear();
        for (parent, partial) in self.current.iter().enumerate() {
            let before: [u8; 2] = std::array::from_fn(|k| {
                if step.enters[k] == FREE { (partial.key >> shifts[k]) as u8 & 15 } else { step.enters[k] }
            });
            let mut rest = partial.key;
            for shift in shifts {
                rest &= !(15 << shift);
            }
            for order in edge.low..=edge.high {
                let valences = before.map(|valence| valence + order);
                if valences[0] > ends[0].kind.max_valence || valences[1] > ends[1].kind.max_valence {
                    break;
                }
                let mut made = Partial {
                    key: rest,
                    cost: partial.cost + edge.costs[usize::from(order)],
                    past: Past { parent: parent as u32, order, options: [0; 2] },
                };
                for k in 0..2 {
                    if !step.leaves[k] {
                        made.key |= u128::from(valences[k]) << shifts[k];
                    }
                }
                finish(&mut self.next, made, ends, valences, step.leaves, by_charge);
            }
        }
    }

    /// Keeps the cheapest of each key, and of those the cheapest [`BEAM`].
    fn reduce(&mut self) -> bool {
        self.next.sort_unstable_by_key(|partial| (partial.key, partial.cost, partial.past));
        self.next.dedup_by_key(|partial| partial.key);
        let cut = self.next.len() > BEAM;
        if cut {
            self.next.sort_unstable_by_key(|partial| (partial.cost, partial.key));
            self.next.truncate(BEAM);
        }
        cut
    }

    fn trace(&self, place: usize, nodes: usize, edges: &[Edge]) -> Solution {
        let last = self.current[place];
        let mut orders: Vec<u8> = edges.iter().map(|edge| edge.low).collect();
        let mut options = vec![0; nodes];
        let mut place = place;
        for (step, layer) in self.steps.iter().zip(&self.layers).rev() {
            let past = self.history[*layer as usize + place];
            orders[step.edge as usize] = past.order;
            for (k, &end) in edges[step.edge as usize].ends.iter().enumerate() {
                if step.leaves[k] {
                    options[end as usize] = past.options[k];
                }
            }
            place = past.parent as usize;
        }
        Solution { cost: last.cost, charge: (last.key >> CHARGE_SHIFT) as u8 as i8, orders, options }
    }
}

fn with_charge(key: u128, charge: i8) -> u128 {
    key.wrapping_add(u128::from(charge as u8) << CHARGE_SHIFT)
}

/// Adds the cost of the atoms that are finished: their cheapest state, or each state by its charge.
fn finish(
    next: &mut Vec<Partial>,
    made: Partial,
    ends: [&Node; 2],
    valences: [u8; 2],
    leaves: [bool; 2],
    by_charge: bool,
) {
    let finished = (0..2).filter(|&k| leaves[k]);
    if !by_charge {
        let cost: i32 = finished.map(|k| ends[k].cost(ends[k].kind.best(valences[k]))).sum();
        if cost < FORBIDDEN {
            next.push(Partial { cost: made.cost + cost, ..made });
        }
        return;
    }
    let start = next.len();
    next.push(made);
    for k in finished {
        for partial in next.split_off(start) {
            for (option, state) in ends[k].kind.options(valences[k]).enumerate() {
                let mut partial = partial;
                partial.key = with_charge(partial.key, state.charge);
                partial.cost += ends[k].cost(state);
                partial.past.options[k] = option as u8;
                next.push(partial);
            }
        }
    }
}
