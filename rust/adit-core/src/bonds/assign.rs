//! Orders, charges and unpaired electrons of a whole molecule: each set of connected undecided
//! contacts by itself, then, where the total charge asks for it, dearer answers for some of them.

use super::components;
use super::elements::State;
use super::model::Model;
use super::solve::{Edge, Node, Solution, Solver};

/// What one elementary charge of the whole molecule costs where the total is not given.
const TOTAL_CHARGE: i32 = 500;
/// What it may cost a component to come nearer to a charge that is given, in the first attempt...
const PER_CHARGE: i32 = 12_000;
/// ... and in the last.
const UNBOUNDED: i32 = 1 << 29;
/// The search for a total charge looks so far beyond the way from the cheapest to the wanted.
const MARGIN: i32 = 4;
/// Wanted charges further from the cheapest than this are not sought.
const MAX_SHIFT: u32 = 4000;

/// The answer, and memory that is used again and again.
#[derive(Debug, Default)]
pub struct Assigner {
    /// One for each edge of the model.
    pub orders: Vec<u8>,
    /// One for each atom.
    pub states: Vec<State>,
    /// A limit of the search was met.
    pub cut: bool,
    solver: Solver,
    base: Vec<u8>,
    valences: Vec<u8>,
    found: Vec<u8>,
    /// Of the cheapest answers, one for each component.
    costs: Vec<i32>,
    /// Undecided edges, those of one component together; component k is `starts[k]..starts[k + 1]`.
    undecided: Vec<u32>,
    starts: Vec<usize>,
    local: Vec<u32>,
    members: Vec<u32>,
    nodes: Vec<Node>,
    edges: Vec<Edge>,
}

/// A part of the molecule that can be had with several charges, the first the cheapest.
struct Part {
    /// A component, or one atom.
    component: Option<usize>,
    atom: usize,
    choices: Vec<Solution>,
}

impl Assigner {
    pub fn assign(&mut self, model: &Model, charge: Option<i32>) {
        self.begin(model);
        self.cut = false;
        self.costs.clear();
        for component in 0..self.starts.len() - 1 {
            self.load(model, component);
            let cost = self.solver.cheapest(&self.nodes, &self.edges, &mut self.found);
            self.costs.push(cost);
            self.cut |= self.solver.cut;
            let edges = &self.undecided[self.starts[component]..self.starts[component + 1]];
            for (&k, &order) in edges.iter().zip(&self.found) {
                self.orders[k as usize] = order;
            }
        }
        self.settle(model);
        let total: i32 = self.states.iter().map(|state| i32::from(state.charge)).sum();
        if total != charge.unwrap_or(0) {
            // A dearer answer is worth at most what it saves; a charge that is given has to be met.
            let bound = if charge.is_none() { TOTAL_CHARGE.saturating_mul(total.abs()) } else { PER_CHARGE };
            if !self.recharge(model, total, charge, bound) && charge.is_some() {
                self.recharge(model, total, charge, UNBOUNDED);
            }
        }
    }

    /// Decided orders, and the components of the others.
    fn begin(&mut self, model: &Model) {
        self.orders.clear();
        self.orders.extend(model.edges.iter().map(|edge| edge.low));
        self.base.clear();
        self.base.resize(model.numbers.len(), 0);
        self.undecided.clear();
        for (k, edge) in model.edges.iter().enumerate() {
            if edge.low == edge.high {
                for &end in &edge.ends {
                    self.base[end as usize] += edge.low;
                }
            } else {
                self.undecided.push(k as u32);
            }
        }
        self.starts.clear();
        self.starts.push(0);
        if self.undecided.is_empty() {
            return;
        }
        let ends = |&k: &u32| model.edges[k as usize].ends;
        let labels = components(model.numbers.len(), self.undecided.iter().map(ends));
        let label = |k: &u32| labels[ends(k)[0] as usize];
        self.undecided.sort_by_key(label);
        for place in 1..self.undecided.len() {
            if label(&self.undecided[place - 1]) != label(&self.undecided[place]) {
                self.starts.push(place);
            }
        }
        self.starts.push(self.undecided.len());
    }

    /// Nodes and edges of one component, with numbers of their own.
    fn load(&mut self, model: &Model, component: usize) {
        self.local.resize(model.numbers.len().max(self.local.len()), u32::MAX);
        self.members.clear();
        self.nodes.clear();
        self.edges.clear();
        for &k in &self.undecided[self.starts[component]..self.starts[component + 1]] {
            let mut edge = model.edges[k as usize];
            for end in &mut edge.ends {
                let atom = *end as usize;
                if self.local[atom] == u32::MAX {
                    self.local[atom] = self.members.len() as u32;
                    self.members.push(*end);
                    let node = Node { base: self.base[atom], kind: model.kinds[atom], extra: model.extra[atom] };
                    self.nodes.push(node);
                }
                *end = self.local[atom];
            }
            self.edges.push(edge);
        }
        for &atom in &self.members {
            self.local[atom as usize] = u32::MAX;
        }
    }

    fn take(&mut self, component: usize, solution: &Solution) {
        let edges = &self.undecided[self.starts[component]..self.starts[component + 1]];
        for (&k, &order) in edges.iter().zip(&solution.orders) {
            self.orders[k as usize] = order;
        }
    }

    /// The cheapest state of each atom with its valence.
    fn settle(&mut self, model: &Model) {
        self.valences.clear();
        self.valences.resize(model.numbers.len(), 0);
        for (edge, &order) in model.edges.iter().zip(&self.orders) {
            for &end in &edge.ends {
                self.valences[end as usize] += order;
            }
        }
        self.states.clear();
        self.states.extend(model.kinds.iter().zip(&self.valences).map(|(kind, &valence)| kind.best(valence)));
    }

    /// The cheapest answer with the wanted charge; where none is given, the cheapest if each charge
    /// of the whole molecule costs [`TOTAL_CHARGE`]. Each component may become dearer by `bound`.
    /// False, and all stays as it is, if there is no such answer.
    fn recharge(&mut self, model: &Model, total: i32, wanted: Option<i32>, bound: i32) -> bool {
        let shift = wanted.unwrap_or(0).saturating_sub(total);
        if shift.unsigned_abs() > MAX_SHIFT {
            return false;
        }
        let parts = self.parts(model, bound);
        let (low, high) = (shift.min(0) - MARGIN, shift.max(0) + MARGIN);
        let width = (high - low + 1) as usize;
        let mut costs = vec![i32::MAX; width];
        costs[(-low) as usize] = 0;
        let mut taken = vec![u8::MAX; width * parts.len()];
        for (part, taken) in parts.iter().zip(taken.chunks_mut(width)) {
            costs = combine(&costs, taken, &part.choices);
        }
        let price =
            |place: usize| i64::from(costs[place]) + i64::from(TOTAL_CHARGE * (total + low + place as i32).abs());
        let reached = (0..width).filter(|&place| costs[place] < i32::MAX);
        let best = match wanted {
            Some(_) => reached.min_by_key(|&place| (place != (shift - low) as usize, price(place))),
            None => reached.min_by_key(|&place| price(place)),
        };
        let Some(mut place) = best.filter(|&place| wanted.is_none() || place == (shift - low) as usize) else {
            return false;
        };
        let mut chosen = vec![0; parts.len()];
        for (k, part) in parts.iter().enumerate().rev() {
            let choice = usize::from(taken[k * width + place]);
            chosen[k] = choice;
            place = (place as i32 - shift_of(&part.choices, choice)) as usize;
        }
        for (part, &choice) in parts.iter().zip(&chosen) {
            if let Some(component) = part.component {
                self.take(component, &part.choices[choice]);
            }
        }
        self.settle(model);
        for (part, &choice) in parts.iter().zip(&chosen) {
            self.set_states(model, part, &part.choices[choice]);
        }
        true
    }

    /// All that can be had with more than one charge.
    fn parts(&mut self, model: &Model, bound: i32) -> Vec<Part> {
        let mut parts = Vec::new();
        let mut inside = vec![false; model.numbers.len()];
        for component in 0..self.starts.len() - 1 {
            self.load(model, component);
            for &atom in &self.members {
                inside[atom as usize] = true;
            }
            let bound = self.costs[component].saturating_add(bound);
            let mut choices = self.solver.by_charge(&self.nodes, &self.edges, bound);
            self.cut |= self.solver.cut;
            choices.sort_by_key(|choice| (choice.cost, choice.charge));
            choices.truncate(usize::from(u8::MAX) - 1);
            if !choices.is_empty() {
                parts.push(Part { component: Some(component), atom: 0, choices });
            }
        }
        for atom in (0..inside.len()).filter(|&atom| !inside[atom]) {
            let options = model.kinds[atom].options(self.valences[atom]).enumerate();
            let choices: Vec<Solution> = options
                .map(|(option, state)| Solution {
                    cost: state.cost,
                    charge: state.charge,
                    orders: Vec::new(),
                    options: vec![option as u8],
                })
                .collect();
            if choices.len() > 1 {
                parts.push(Part { component: None, atom, choices });
            }
        }
        parts
    }

    fn set_states(&mut self, model: &Model, part: &Part, choice: &Solution) {
        let set = |states: &mut [State], atom: usize, option: u8, valence: u8| {
            if let Some(state) = model.kinds[atom].options(valence).nth(usize::from(option)) {
                states[atom] = state;
            }
        };
        match part.component {
            None => set(&mut self.states, part.atom, choice.options[0], self.valences[part.atom]),
            Some(component) => {
                self.load(model, component);
                for (&atom, &option) in self.members.iter().zip(&choice.options) {
                    set(&mut self.states, atom as usize, option, self.valences[atom as usize]);
                }
            }
        }
    }
}

fn shift_of(choices: &[Solution], choice: usize) -> i32 {
    choices.get(choice).map_or(0, |taken| i32::from(taken.charge) - i32::from(choices[0].charge))
}

/// One more part: for each total shift of charge the least cost, and the choice that it takes.
fn combine(costs: &[i32], taken: &mut [u8], choices: &[Solution]) -> Vec<i32> {
    let mut next = vec![i32::MAX; costs.len()];
    for (place, &cost) in costs.iter().enumerate().filter(|&(_, &cost)| cost < i32::MAX) {
        for (k, choice) in choices.iter().enumerate() {
            let target = place as i32 + shift_of(choices, k);
            let sum = cost.saturating_add(choice.cost - choices[0].cost);
            if target >= 0 && (target as usize) < next.len() && sum < next[target as usize] {
                next[target as usize] = sum;
                taken[target as usize] = k as u8;
            }
        }
    }
    next
}
