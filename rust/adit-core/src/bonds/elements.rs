//! What an atom of each element may be: its valences, each with charge, unpaired electrons and cost.
//!
//! Costs are in thousandths of a unit in which a wrong bond order costs about 1, a pair of formal
//! charges about 5 and an unpaired electron about 7. They were set by hand from chemistry
//! (electronegative atoms take the negative charge, second-row atoms keep the octet, third-row
//! atoms may exceed it where enough neighbours ask for it) and not fitted to any data set.

use std::sync::LazyLock;

pub const MAX_NUMBER: u8 = 118;
/// No atom has more.
pub const MAX_VALENCE: usize = 8;
/// Neighbours counted when the states of an atom are looked up.
const MAX_DEGREE: usize = 8;
const OPTIONS: usize = 4;
pub const FORBIDDEN: i32 = 1_000_000;

/// An atom of one element with one valence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    pub charge: i8,
    pub radicals: u8,
    pub cost: i32,
}

const NONE: State = State { charge: 0, radicals: 0, cost: FORBIDDEN };

/// The states of one element with a given number of neighbours, by valence, cheapest first.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    pub max_valence: u8,
    states: [[State; OPTIONS]; MAX_VALENCE + 1],
}

impl Kind {
    pub fn best(&self, valence: u8) -> State {
        self.states[usize::from(valence)][0]
    }

    pub fn options(&self, valence: u8) -> impl Iterator<Item = State> + '_ {
        self.states[usize::from(valence)].iter().copied().take_while(|state| state.cost < FORBIDDEN)
    }

    fn add(&mut self, valence: u8, state: State) {
        let held = &mut self.states[usize::from(valence)];
        let place = held.partition_point(|other| other.cost <= state.cost);
        if place < OPTIONS {
            held[place..].rotate_right(1);
            held[place] = state;
        }
    }
}

static KINDS: LazyLock<Vec<Kind>> = LazyLock::new(|| {
    (0..=MAX_NUMBER).flat_map(|number| (0..=MAX_DEGREE as u8).map(move |degree| kind_of(number, degree))).collect()
});

/// The states of an element with `degree` neighbours; beyond 118 those of a noble gas.
pub fn kind(number: u8, degree: usize) -> &'static Kind {
    let row = usize::from(if number > MAX_NUMBER { 0 } else { number });
    &KINDS[row * (MAX_DEGREE + 1) + degree.min(MAX_DEGREE)]
}

/// Whether an atom with so many neighbours is left without bonds.
pub fn is_metal(number: u8, degree: usize) -> bool {
    metal_charge(number, degree.min(MAX_DEGREE) as u8) != 0
}

/// Whether the element can be bonded to another atom by this module.
pub fn is_covalent(number: u8) -> bool {
    kind(number, 1).max_valence > 0
}

/// The highest bond order an element takes part in.
pub fn max_order(number: u8) -> u8 {
    match number {
        6 | 7 | 8 | 15 => 3,
        5 | 14 | 16 | 17 | 33 | 34 | 35 | 52 | 53 | 54 => 2,
        _ => 1,
    }
}

fn kind_of(number: u8, degree: u8) -> Kind {
    let mut kind = Kind { max_valence: 0, states: [[NONE; OPTIONS]; MAX_VALENCE + 1] };
    let charge = metal_charge(number, degree);
    if charge != 0 {
        for other in 0..=charge + 1 {
            let cost = if other == charge { 0 } else { 1500 + 500 * i32::from((other - charge).abs()) };
            kind.add(0, State { charge: other, radicals: 0, cost });
        }
        return kind;
    }
    let neutral = neutral_states(number, degree);
    let ions = ions(number, degree);
    let highest = neutral.iter().map(|&(valence, _)| valence).chain(ions.iter().map(|&(valence, ..)| valence)).max();
    kind.max_valence = highest.unwrap_or(0);
    for &(valence, charge, cost) in &ions {
        kind.add(valence, State { charge, radicals: 0, cost });
    }
    for valence in 0..=kind.max_valence {
        if let Some(&(full, cost)) = neutral.iter().find(|&&(full, _)| full >= valence) {
            let radicals = full - valence;
            let cost = cost + i32::from(radicals) * radical_cost(number);
            kind.add(valence, State { charge: 0, radicals, cost });
        }
    }
    kind
}

fn radical_cost(number: u8) -> i32 {
    match number {
        // An atom of hydrogen is lost for poor geometries only.
        1 => 15_000,
        9 | 17 | 35 | 53 => 5000,
        5 | 13 | 31 | 49 => 4000,
        6 | 14 => 7000,
        7 => 6500,
        8 => 6000,
        _ => 5500,
    }
}

/// Valences of the neutral atom without unpaired electrons, ascending.
fn neutral_states(number: u8, degree: u8) -> Vec<(u8, i32)> {
    let third = |steps: [i32; 3]| vec![(2, 0), (4, steps[0]), (6, steps[1]), (8, steps[2])];
    match number {
        36 | 54 => vec![(0, 0), (2, 1000), (4, 1500), (6, 2000), (8, 4000)],
        1 | 9 => vec![(1, 0)],
        5 | 7 | 13 | 31 | 49 | 81 => vec![(3, 0)],
        6 | 14 | 32 => vec![(4, 0)],
        50 | 82 => vec![(2, 1500), (4, 0)],
        8 | 80 => vec![(2, 0)],
        15 | 33 | 51 | 83 => vec![(3, 0), (5, if degree >= 4 { 500 } else { 2500 })],
        16 | 34 | 52 | 84 => {
            let mut states = third(match degree {
                0 | 1 => [7000, 9000, 9000],
                2 => [4000, 6000, 9000],
                3 => [1000, 3000, 9000],
                _ => [1500, 1000, 9000],
            });
            states.truncate(3);
            states
        }
        17 | 35 | 53 | 85 => match degree {
            0 | 1 => vec![(1, 0), (3, 6000)],
            2 => vec![(1, 0), (3, 1500), (5, 3000)],
            _ => vec![(1, 0), (3, 1500), (5, 2000), (7, 2500)],
        },
        _ => vec![(0, 0)],
    }
}

/// Charged states without unpaired electrons: valence, charge, cost.
fn ions(number: u8, degree: u8) -> Vec<(u8, i8, i32)> {
    match number {
        1 => vec![(0, 1, 16_000), (0, -1, 17_000)],
        5 | 13 | 31 | 49 => vec![(4, -1, 2000)],
        6 => vec![(3, -1, if degree == 1 { 3000 } else { 11_000 }), (3, 1, 12_000)],
        7 => vec![(4, 1, 3000), (2, -1, 3800), (1, -2, 12_000)],
        8 => vec![(1, -1, 2500), (3, 1, if degree == 1 { 4500 } else { 7000 }), (0, -2, 8000)],
        9 => vec![(0, -1, 2000)],
        17 | 35 | 53 => vec![(0, -1, 2000), (2, 1, 7000)],
        14 | 32 | 50 => vec![(3, -1, 11_000), (3, 1, 12_000), (5, -1, 4000), (6, -2, 5000)],
        15 | 33 | 51 => vec![(4, 1, 3000), (2, -1, 5000), (6, -1, if degree >= 6 { 3000 } else { 9000 })],
        16 | 34 | 52 => vec![(1, -1, 2500), (3, 1, 4000), (5, 1, 4500), (0, -2, 8000)],
        _ => Vec::new(),
    }
}

/// The usual charge of a metal that this module leaves without bonds; 0 for all that is not one. The
/// metals of the p block and mercury are metals only as long as they are alone.
fn metal_charge(number: u8, degree: u8) -> i8 {
    match number {
        13 | 31 | 49 | 83 if degree == 0 => 3,
        50 | 80 | 82 if degree == 0 => 2,
        81 if degree == 0 => 1,
        3 | 11 | 19 | 37 | 47 | 55 | 79 | 87 | 113..=117 => 1,
        4 | 12 | 20 | 25..=30 | 38 | 46 | 48 | 56 | 78 | 88 => 2,
        21 | 23 | 24 | 39 | 44 | 45 | 57..=71 | 77 | 89..=112 => 3,
        22 | 40..=43 | 72..=76 => 4,
        _ => 0,
    }
}
