//! The primitive cell as pymatgen's `get_primitive_structure` finds it, tolerance 0.25 Angstrom.
//!
//! Kept with its habits, because the verdicts hang on them: the tolerance is for each fractional
//! coordinate, translations are taken from the atoms of the rarest kind, the smallest reduction is
//! tried first and then the result is reduced again, atoms that fall together are averaged, and the
//! atoms come out sorted by the symbol of their element.

use std::sync::LazyLock;

use super::lattice::{nearest, wrapped};
use super::niggli;
use crate::cell::{self, Matrix, Vec3};

/// Angstrom.
const TOLERANCE: f64 = 0.25;
/// A lattice of this many Angstrom has more sublattices than anyone will look through.
const MAX_LEVELS: usize = 64;

const SYMBOLS: &str = "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se \
    Br Kr Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf \
    Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr Rf Db Sg Bh Hs Mt Ds \
    Rg Cn Nh Fl Mc Lv Ts Og";

/// The place of each atomic number in the alphabetical order of the symbols.
static ALPHABETICAL: LazyLock<[u8; 256]> = LazyLock::new(|| {
    let mut named: Vec<(&str, usize)> = SYMBOLS.split_whitespace().zip(1..).collect();
    named.sort_unstable();
    let mut rank = [u8::MAX; 256];
    for (place, (_, number)) in named.into_iter().enumerate() {
        rank[number] = place as u8;
    }
    rank
});

/// A crystal: fractional coordinates in the basis `rows`, one number for each.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    pub rows: Matrix,
    pub fractional: Vec<Vec3>,
    pub numbers: Vec<u8>,
}

impl Cell {
    /// The same atoms in another basis of the lattice, inside the cell.
    #[must_use]
    pub fn in_basis(&self, rows: Matrix) -> Self {
        let dual = cell::dual(&rows);
        let convert = |f: &Vec3| {
            let place = cell::combine(f, &self.rows);
            dual.map(|vector| cell::dot(&vector, &place)).map(|f| f - f.floor())
        };
        Self { rows, fractional: self.fractional.iter().map(convert).collect(), numbers: self.numbers.clone() }
    }

    /// In the Niggli-reduced basis; as it is if that is the same to five digits.
    #[must_use]
    pub fn niggli(&self) -> Option<Self> {
        let rows = niggli::reduce(&self.rows)?;
        let close = |(x, y): (&f64, &f64)| (x - y).abs() <= 1e-8 + 1e-5 * y.abs();
        let same = rows.iter().flatten().zip(self.rows.iter().flatten()).all(close);
        Some(if same { self.clone() } else { self.in_basis(rows) })
    }
}

/// The primitive cell, Niggli-reduced if it is smaller than what came. `None`: not to be reduced.
#[must_use]
pub fn reduce(given: &Cell) -> Option<Cell> {
    let mut cell = given.clone();
    let mut levels = 0;
    while levels < MAX_LEVELS
        && let Some(smaller) = smaller(&cell)
    {
        cell = smaller;
        levels += 1;
    }
    for _ in 0..levels {
        cell = cell.niggli()?;
    }
    Some(cell)
}

/// The atoms of one kind.
struct Group {
    number: u8,
    places: Vec<Vec3>,
}

fn groups_of(cell: &Cell) -> Vec<Group> {
    let mut order: Vec<usize> = (0..cell.numbers.len()).collect();
    let rank = |number: u8| (ALPHABETICAL[usize::from(number)], number);
    order.sort_by_key(|&atom| rank(cell.numbers[atom]));
    let mut groups: Vec<Group> = Vec::new();
    for atom in order {
        let (number, place) = (cell.numbers[atom], cell.fractional[atom]);
        match groups.last_mut() {
            Some(group) if group.number == number => group.places.push(place),
            _ => groups.push(Group { number, places: vec![place] }),
        }
    }
    groups
}

/// A vector modulo the lattice is nearer to 0 than `limits` in each coordinate.
fn is_near(vector: &Vec3, limits: &Vec3) -> bool {
    (0..3).all(|k| wrapped(vector[k]).abs() < limits[k])
}

fn smaller(cell: &Cell) -> Option<Cell> {
    let groups = groups_of(cell);
    let units = groups.iter().fold(0, |units, group| gcd(units, group.places.len()));
    if units < 2 {
        return None;
    }
    let limits = cell.rows.map(|row| TOLERANCE / cell::norm(&row));
    let translations = translations(&groups, &limits);
    for size in (2..=units).filter(|size| units % size == 0) {
        for a in (1..=size).filter(|a| size % a == 0) {
            for e in (1..=size / a).filter(|e| (size / a) % e == 0) {
                let diagonal = [a, e, size / a / e].map(|entry| entry as f64);
                let found = sublattices(diagonal, &translations, &limits, |matrix| {
                    merged(cell, &groups, size, matrix, &limits)
                });
                if found.is_some() {
                    return found;
                }
            }
        }
    }
    None
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Vectors that carry each atom near to one of its kind.
fn translations(groups: &[Group], limits: &Vec3) -> Vec<Vec3> {
    let doubled = limits.map(|limit| 2.0 * limit);
    let mut ascending: Vec<&Group> = groups.iter().collect();
    ascending.sort_by_key(|group| group.places.len());
    let base = ascending[0].places[0];
    let mut vectors: Vec<Vec3> = ascending[0].places.iter().map(|place| cell::sub(place, &base)).collect();
    for group in ascending {
        for place in &group.places {
            vectors.retain(|vector| {
                let image = cell::plus(place, 1.0, vector);
                group.places.iter().any(|other| is_near(&cell::sub(&image, other), &doubled))
            });
        }
    }
    vectors
}

/// Tries the matrices [[a, b, c], [0, e, f], [0, 0, g]] whose inverse has only translations as rows,
/// in order of (b, c, f), until `accept` likes one.
fn sublattices<T>(
    [a, e, g]: Vec3,
    translations: &[Vec3],
    limits: &Vec3,
    mut accept: impl FnMut(&Matrix) -> Option<T>,
) -> Option<T> {
    let near = |k: usize, x: f64, vector: &Vec3| wrapped(x - vector[k]).abs() < limits[k];
    let is_translation = |row: Vec3| translations.iter().any(|vector| is_near(&cell::sub(&row, vector), limits));
    if !is_translation([0.0, 0.0, 1.0 / g]) {
        return None;
    }
    let up_to = |limit: f64| (0..limit as i64).map(|x| x as f64);
    let thirds: Vec<f64> = up_to(e).filter(|f| is_translation([0.0, 1.0 / e, -f / (e * g)])).collect();
    let first: Vec<&Vec3> = translations.iter().filter(|vector| near(0, 1.0 / a, vector)).collect();
    if thirds.is_empty() || first.is_empty() {
        return None;
    }
    for b in up_to(a) {
        let second: Vec<&Vec3> = first.iter().copied().filter(|vector| near(1, -b / (a * e), vector)).collect();
        if second.is_empty() {
            continue;
        }
        for c in up_to(a) {
            for f in &thirds {
                let last = (b * f - c * e) / (a * e * g);
                if second.iter().any(|vector| near(2, last, vector)) {
                    let found = accept(&[[a, b, c], [0.0, e, *f], [0.0, 0.0, g]]);
                    if found.is_some() {
                        return found;
                    }
                }
            }
        }
    }
    None
}

/// The crystal in the sublattice `inverse(matrix) @ rows`, if its atoms fall together in cliques of
/// `size`, and never an atom with its neighbour.
fn merged(cell: &Cell, groups: &[Group], size: usize, matrix: &Matrix, limits: &Vec3) -> Option<Cell> {
    // The columns of the inverse, as rows, then transposed.
    let columns = cell::dual(matrix);
    let rows = [0, 1, 2].map(|k| cell::combine(&columns.map(|column| column[k]), &cell.rows));
    let near = rows.map(|row| TOLERANCE / cell::norm(&row));
    let doubled = limits.map(|limit| 2.0 * limit);
    let (mut fractional, mut numbers) = (Vec::new(), Vec::new());
    for group in groups {
        let places: Vec<Vec3> = group.places.iter().map(|f| cell::combine(f, matrix)).collect();
        let cliques = cliques(&group.places, &places, size, &near, &doubled)?;
        for clique in cliques {
            fractional.push(averaged(&clique, &places));
            numbers.push(group.number);
        }
    }
    Some(Cell { rows, fractional, numbers })
}

fn cliques(old: &[Vec3], new: &[Vec3], size: usize, near: &Vec3, doubled: &Vec3) -> Option<Vec<Vec<usize>>> {
    let together = |i: usize, j: usize| {
        i == j
            || is_near(&cell::sub(&new[i], &new[j]), near)
                && (0..3).any(|k| wrapped(old[i][k] - old[j][k]).abs() > doubled[k])
    };
    let mut members: Vec<Vec<usize>> = Vec::with_capacity(new.len());
    for i in 0..new.len() {
        let mut found = Vec::with_capacity(size);
        for j in 0..new.len() {
            if together(i, j) {
                if found.len() == size {
                    return None;
                }
                found.push(j);
            }
        }
        if found.len() < size {
            return None;
        }
        members.push(found);
    }
    // `together` is symmetric: cliques are groups whose members have the same group.
    let closed = members.iter().all(|group| group.iter().all(|&j| members[j] == *group));
    closed.then(|| members.iter().enumerate().filter(|(i, group)| group[0] == *i).map(|(_, g)| g.clone()).collect())
}

/// The mean of a clique, inside the cell up to rounding.
fn averaged(clique: &[usize], places: &[Vec3]) -> Vec3 {
    let inside = |atom: usize| places[atom].map(|f| f - f.floor());
    let mut mean = inside(clique[0]);
    for (count, &atom) in clique.iter().enumerate().skip(1) {
        let other = inside(atom);
        for k in 0..3 {
            let offset = other[k] - mean[k];
            mean[k] += (offset - nearest(offset)) / (count + 1) as f64;
        }
    }
    mean
}
