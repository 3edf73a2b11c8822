//! The cheapest assignment of bond orders to one connected set of undecided contacts.
//!
//! Dynamic programming over a path decomposition: atoms are finished one after the other, and a
//! partial solution is known by the valences used so far of the atoms that are begun and not
//! finished (their number stays at 2 or 3 along chains and fused rings). Of partial solutions that
//! agree in this only the cheapest is kept, so the answer is exact, and the work linear in the number
//! of atoms. Two limits keep dense clumps bounded, and are reported: at most [`SLOTS`] open atoms,
//! and at most [`BEAM`] partial solutions. No cost is negative, so that partial solutions beyond a
//! bound can be dropped without loss.

use super::elements::{FORBIDDEN, Kind, State};
use super::plan::{FREE, Plan, Step};

/// Atoms that can be open at a time.
pub const SLOTS: usize = 30;
/// Partial solutions that are kept.
const BEAM: usize = 150;
const BITS: usize = 4;
const CHARGE_SHIFT: usize = 120;

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
        let extra = match state.charge.signum() {
            1 => self.extra[0],
            -1 => self.extra[1],
            _ => 0,
        };
        (state.cost + extra).max(0)
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
    /// A limit was met in the last call: what it found may not be the cheapest.
    pub cut: bool,
    plan: Plan,
    bound: i32,
    current: Vec<Partial>,
    next: Merged,
    history: Vec<Past>,
    layers: Vec<u32>,
}

impl Solver {
    /// The cost of the cheapest solution, and the order of each edge in it.
    pub fn cheapest(&mut self, nodes: &[Node], edges: &[Edge], orders: &mut Vec<u8>) -> i32 {
        self.cut = self.plan.make(nodes, edges);
        self.run(nodes, edges, None);
        orders.clear();
        orders.extend(edges.iter().map(|edge| edge.low));
        let Some(last) = self.current.first() else {
            return FORBIDDEN;
        };
        self.trace(0, |step, past| orders[step.edge as usize] = past.order);
        let saved = if self.plan.given_up.contains(&true) { self.mend(nodes, edges, orders) } else { 0 };
        last.cost - saved
    }

    /// Raises the orders of edges that were given up as long as that is cheaper.
    fn mend(&self, nodes: &[Node], edges: &[Edge], orders: &mut [u8]) -> i32 {
        let mut valences: Vec<u8> = nodes.iter().map(|node| node.base).collect();
        for (edge, &order) in edges.iter().zip(&*orders) {
            for &end in &edge.ends {
                valences[end as usize] += order;
            }
        }
        let state = |atom: u32, valence: u8| {
            let node = &nodes[atom as usize];
            if valence > node.kind.max_valence { FORBIDDEN } else { node.cost(node.kind.best(valence)) }
        };
        let mut saved = 0;
        for (k, edge) in edges.iter().enumerate().filter(|&(k, _)| self.plan.given_up[k]) {
            while orders[k] < edge.high {
                let costs = |more: u8| {
                    let ends = edge.ends.iter().map(|&end| state(end, valences[end as usize] + more));
                    ends.sum::<i32>() + edge.costs[usize::from(orders[k] + more)]
                };
                let gain = costs(0) - costs(1);
                if gain <= 0 {
                    break;
                }
                saved += gain;
                orders[k] += 1;
                for &end in &edge.ends {
                    valences[end as usize] += 1;
                }
            }
        }
        saved
    }

    /// For each total charge the cheapest solution, if it costs at most `bound`.
    pub fn by_charge(&mut self, nodes: &[Node], edges: &[Edge], bound: i32) -> Vec<Solution> {
        self.cut = self.plan.make(nodes, edges);
        self.run(nodes, edges, Some(bound));
        (0..self.current.len()).map(|place| self.solution(place, nodes.len(), edges)).collect()
    }

    fn run(&mut self, nodes: &[Node], edges: &[Edge], bound: Option<i32>) {
        self.bound = bound.unwrap_or(i32::MAX);
        self.history.clear();
        self.layers.clear();
        let mut start = Partial { key: 0, cost: 0, past: Past { parent: 0, order: 0, options: [0; 2] } };
        for (atom, node) in nodes.iter().enumerate().filter(|&(atom, _)| !self.plan.waits[atom]) {
            let state = node.kind.best(self.plan.bases[atom]);
            start.key = with_charge(start.key, state.charge);
            start.cost += node.cost(state);
        }
        self.current.clear();
        self.current.push(start);
        for place in 0..self.plan.steps.len() {
            let step = self.plan.steps[place];
            self.expand(nodes, edges, step, bound.is_some());
            self.cut |= self.next.shorten();
            self.layers.push(self.history.len() as u32);
            self.history.extend(self.next.partials.iter().map(|partial| partial.past));
            std::mem::swap(&mut self.current, &mut self.next.partials);
        }
    }

    fn expand(&mut self, nodes: &[Node], edges: &[Edge], step: Step, by_charge: bool) {
        let edge = &edges[step.edge as usize];
        let ends = edge.ends.map(|end| &nodes[end as usize]);
        let shifts = step.slots.map(|slot| BITS * usize::from(slot));
        let keep = !((15 << shifts[0]) | (15 << shifts[1]));
        self.next.clear();
        for (parent, partial) in self.current.iter().enumerate() {
            let before: [u8; 2] = std::array::from_fn(|k| {
                if step.enters[k] == FREE { (partial.key >> shifts[k]) as u8 & 15 } else { step.enters[k] }
            });
            for order in edge.low..=edge.high {
                let valences = before.map(|valence| valence + order);
                if (0..2).any(|k| valences[k] + step.reserved[k] > ends[k].kind.max_valence) {
                    break;
                }
                let mut made = Partial {
                    key: partial.key & keep,
                    cost: partial.cost + edge.costs[usize::from(order)],
                    past: Past { parent: parent as u32, order, options: [0; 2] },
                };
                for k in 0..2 {
                    if !step.leaves[k] {
                        made.key |= u128::from(valences[k]) << shifts[k];
                    }
                }
                if by_charge {
                    self.next.add_by_charge(made, ends, valences, step.leaves, self.bound);
                    continue;
                }
                for k in 0..2 {
                    if step.leaves[k] {
                        made.cost += ends[k].cost(ends[k].kind.best(valences[k]));
                    }
                }
                self.next.add(made);
            }
        }
    }

    /// From the last step to the first.
    fn trace(&self, mut place: usize, mut visit: impl FnMut(&Step, Past)) {
        for (step, layer) in self.plan.steps.iter().zip(&self.layers).rev() {
            let past = self.history[*layer as usize + place];
            visit(step, past);
            place = past.parent as usize;
        }
    }

    fn solution(&self, place: usize, nodes: usize, edges: &[Edge]) -> Solution {
        let last = self.current[place];
        let mut orders: Vec<u8> = edges.iter().map(|edge| edge.low).collect();
        let mut options = vec![0; nodes];
        self.trace(place, |step, past| {
            orders[step.edge as usize] = past.order;
            for (k, &end) in edges[step.edge as usize].ends.iter().enumerate() {
                if step.leaves[k] {
                    options[end as usize] = past.options[k];
                }
            }
        });
        Solution { cost: last.cost, charge: (last.key >> CHARGE_SHIFT) as u8 as i8, orders, options }
    }
}

fn with_charge(key: u128, charge: i8) -> u128 {
    key.wrapping_add(u128::from(charge as u8) << CHARGE_SHIFT)
}

/// Up to so many partial solutions are searched one by one; beyond, by a hash table.
const SCAN: usize = 12;

/// Partial solutions, of each key the cheapest.
#[derive(Debug, Default)]
struct Merged {
    partials: Vec<Partial>,
    /// Places in `partials` plus 1; 0 is empty. In use when there are more than [`SCAN`].
    table: Vec<u32>,
}

impl Merged {
    fn clear(&mut self) {
        if self.partials.len() > SCAN {
            self.table.fill(0);
        }
        self.partials.clear();
    }

    fn add(&mut self, made: Partial) {
        if self.partials.len() <= SCAN {
            if let Some(held) = self.partials.iter_mut().find(|held| held.key == made.key) {
                improve(held, made);
            } else {
                self.partials.push(made);
                if self.partials.len() > SCAN {
                    self.rebuild(256);
                }
            }
            return;
        }
        let place = self.find(made.key);
        match self.table[place] {
            0 => {
                self.partials.push(made);
                self.table[place] = self.partials.len() as u32;
                if 2 * self.partials.len() > self.table.len() {
                    self.rebuild(2 * self.table.len());
                }
            }
            held => improve(&mut self.partials[held as usize - 1], made),
        }
    }

    /// Each state of the atoms that are finished by its charge.
    fn add_by_charge(&mut self, made: Partial, ends: [&Node; 2], valences: [u8; 2], leaves: [bool; 2], bound: i32) {
        let states = |k: usize| {
            let none = State { charge: 0, radicals: 0, cost: 0 };
            let open = (!leaves[k]).then_some((0, none));
            let options = ends[k].kind.options(valences[k]).enumerate().filter(move |_| leaves[k]);
            open.into_iter().chain(options)
        };
        for (first, left) in states(0) {
            for (second, right) in states(1) {
                let mut made = made;
                made.key = with_charge(with_charge(made.key, left.charge), right.charge);
                made.cost += if leaves[0] { ends[0].cost(left) } else { 0 };
                made.cost += if leaves[1] { ends[1].cost(right) } else { 0 };
                made.past.options = [first as u8, second as u8];
                if made.cost <= bound {
                    self.add(made);
                }
            }
        }
    }

    /// The place of a key in the table, or the empty place where it belongs.
    fn find(&self, key: u128) -> usize {
        let mask = self.table.len() - 1;
        let mixed = ((key >> 64) as u64 ^ (key as u64).rotate_left(29)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut place = (mixed >> 40) as usize & mask;
        while self.table[place] != 0 && self.partials[self.table[place] as usize - 1].key != key {
            place = (place + 1) & mask;
        }
        place
    }

    fn rebuild(&mut self, least: usize) {
        let size = least.max(self.table.len());
        self.table.clear();
        self.table.resize(size, 0);
        for k in 0..self.partials.len() {
            let place = self.find(self.partials[k].key);
            self.table[place] = k as u32 + 1;
        }
    }

    /// Keeps the cheapest [`BEAM`]; true if there were more.
    fn shorten(&mut self) -> bool {
        if self.partials.len() <= BEAM {
            return false;
        }
        self.table.fill(0);
        self.partials.sort_unstable_by_key(|partial| (partial.cost, partial.key));
        self.partials.truncate(BEAM);
        true
    }
}

fn improve(held: &mut Partial, made: Partial) {
    if (made.cost, made.past) < (held.cost, held.past) {
        *held = made;
    }
}
