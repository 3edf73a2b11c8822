//! Crystals as the search wants them: reduced, atoms sorted by kind, with what is needed again and again.

use super::lattice::{self, Parameters};
use super::primitive::{self, Cell};
use super::{Convention, Options, translations};
use crate::cell::{self, Matrix, Vec3};

/// Longer edges, in Angstrom, are no crystal's.
const MAX_EDGE: f64 = 1e6;
/// The longest edge of a reduced cell over the shortest: beyond, there are too many ways to lay one
/// lattice over another.
pub const MAX_ASPECT: f64 = 64.0;
/// The same for the cell that comes, which may be a row of smaller ones.
pub const MAX_GIVEN_ASPECT: f64 = 256.0;
/// More atoms in a reduced cell cannot be compared: the table of distances would fill the memory.
pub const MAX_ATOMS: usize = 4096;
const MAX_FRACTIONAL: f64 = 1e9;
/// Neighbours are counted up to this many (V / n)^(1/3).
const CROWD: f64 = 1.6;
/// Lattice vectors are kept up to this many times the longest edge, if they lie in a box of so many.
const REACH: f64 = 1.5;
const MAX_VECTORS: f64 = 4096.0;
/// Where there are more pairs than this, the first atom has to do.
const MAX_CROWD: usize = 1 << 18;

/// Atoms of one kind: `start..end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    pub number: u8,
    pub start: usize,
    pub end: usize,
}

impl Block {
    #[must_use]
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.end == self.start
    }
}

/// A lattice vector: in terms of the basis, in space, and its length.
#[derive(Debug, Clone, Copy)]
pub struct Vector {
    pub whole: [i32; 3],
    pub place: Vec3,
    pub length: f64,
}

/// One form of a crystal, in a reduced basis.
#[derive(Debug, Clone)]
pub struct Form {
    pub cell: Cell,
    pub parameters: Parameters,
    pub volume: f64,
    pub dual_lengths: Vec3,
    /// Lengths of the three shortest independent lattice vectors, ascending.
    pub minima: Vec3,
    /// All lattice vectors up to the length `reach`, shortest first.
    pub vectors: Vec<Vector>,
    pub reach: f64,
    /// Ascending by number. `places` are sorted likewise; those of the cell are not.
    pub blocks: Vec<Block>,
    pub places: Vec<Vec3>,
    /// The atom that is laid over each of its kind: its block, its index in `places`.
    pub anchor: (usize, usize),
}

/// A crystal in the form or forms that its convention compares.
#[derive(Debug, Clone)]
pub struct Crystal {
    pub primitive: Form,
    /// The cell as given, Niggli-reduced, where the symmetric convention found a smaller one.
    pub given: Option<Form>,
    /// Numbers of atoms of each kind, divided by their greatest common divisor; ascending by number.
    pub composition: Vec<(u8, u32)>,
}

impl Crystal {
    /// `None`: no atoms or too many, numbers that are not finite, or a cell that is flat or of extreme
    /// shape. Such a crystal matches nothing.
    #[must_use]
    pub fn new(numbers: &[u8], positions: &[Vec3], rows: &Matrix, options: &Options) -> Option<Self> {
        let sound = rows.iter().flatten().all(|x| x.abs() <= MAX_EDGE);
        if numbers.is_empty() || !sound || !is_stout(&cell::minkowski_reduce(rows)?.0, MAX_GIVEN_ASPECT) {
            return None;
        }
        let dual = cell::dual(rows);
        let fractional: Vec<Vec3> =
            positions.iter().map(|place| dual.map(|vector| cell::dot(&vector, place))).collect();
        if fractional.iter().flatten().any(|f| !(f.abs() <= MAX_FRACTIONAL)) {
            return None;
        }
        let given = Cell { rows: *rows, fractional, numbers: numbers.to_vec() };
        let (primitive, given) = match options.convention {
            Convention::Pymatgen => {
                let reduced = given.niggli()?;
                let primitive = if options.primitive_cell { primitive::reduce(&reduced)? } else { reduced };
                (Form::new(primitive, false)?, None)
            }
            Convention::Symmetric if options.primitive_cell => {
                let whole = translations::niggli(&given)?;
                let primitive = translations::reduce(&whole)?;
                let smaller = primitive.numbers.len() < whole.numbers.len();
                (Form::new(primitive, true)?, if smaller { Form::new(whole, true) } else { None })
            }
            Convention::Symmetric => (Form::new(translations::niggli(&given)?, true)?, None),
        };
        let composition = primitive.composition();
        Some(Self { primitive, given, composition })
    }

    /// Of how many atoms of each kind there are, whatever they are called.
    #[must_use]
    pub fn anonymous_composition(&self) -> Vec<u32> {
        let mut counts: Vec<u32> = self.composition.iter().map(|&(_, count)| count).collect();
        counts.sort_unstable();
        counts
    }
}

impl Form {
    fn new(cell: Cell, central: bool) -> Option<Self> {
        let parameters = Parameters::of(&cell.rows);
        let lengths = parameters.lengths;
        let high = lengths.iter().copied().fold(0.0, f64::max);
        if !is_stout(&cell.rows, MAX_ASPECT) || cell.numbers.len() > MAX_ATOMS || cell::is_degenerate(&cell.rows) {
            return None;
        }
        let mut minima = cell::minkowski_reduce(&cell.rows)?.0.map(|row| cell::norm(&row));
        minima.sort_unstable_by(f64::total_cmp);
        let mut order: Vec<usize> = (0..cell.numbers.len()).collect();
        order.sort_by_key(|&atom| cell.numbers[atom]);
        let mut blocks: Vec<Block> = Vec::new();
        for (place, &atom) in order.iter().enumerate() {
            let number = cell.numbers[atom];
            match blocks.last_mut() {
                Some(block) if block.number == number => block.end += 1,
                _ => blocks.push(Block { number, start: place, end: place + 1 }),
            }
        }
        let places: Vec<Vec3> = order.iter().map(|&atom| cell.fractional[atom]).collect();
        let dual_lengths = cell::dual(&cell.rows).map(|vector| cell::norm(&vector));
        let (vectors, reach) = short_vectors(&cell.rows, &dual_lengths, high);
        let volume = cell::determinant(&cell.rows).abs();
        let mut form =
            Self { cell, parameters, volume, dual_lengths, minima, vectors, reach, blocks, places, anchor: (0, 0) };
        form.anchor = if central { form.crowded_anchor()? } else { form.first_anchor(&order)? };
        Some(form)
    }

    /// The most crowded atom of the rarest kind, of the lowest number if there are several kinds.
    fn crowded_anchor(&self) -> Option<(usize, usize)> {
        let rarest = self.blocks.iter().map(Block::len).min()?;
        let block = self.blocks.iter().position(|block| block.len() == rarest)?;
        Some((block, most_crowded(self, self.blocks[block])))
    }

    /// The first atom, in the order of the sites, of those whose kind is rarest.
    fn first_anchor(&self, order: &[usize]) -> Option<(usize, usize)> {
        let rarest = self.blocks.iter().map(Block::len).min()?;
        let rare = self.blocks.iter().enumerate().filter(|(_, block)| block.len() == rarest);
        let places = rare.map(|(k, block)| (k, block.start));
        places.min_by_key(|&(_, place)| order[place])
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    fn composition(&self) -> Vec<(u8, u32)> {
        fn gcd(a: usize, b: usize) -> usize {
            if b == 0 { a } else { gcd(b, a % b) }
        }
        let common = self.blocks.iter().fold(0, |common, block| gcd(common, block.len())).max(1);
        self.blocks.iter().map(|block| (block.number, (block.len() / common) as u32)).collect()
    }
}

fn is_stout(rows: &Matrix, aspect: f64) -> bool {
    let lengths = rows.map(|row| cell::norm(&row));
    lengths.iter().all(|high| lengths.iter().all(|low| *high <= aspect * low))
}

/// The atom of a block with most around it, which does not depend on how the atoms are numbered.
fn most_crowded(cell: &Form, block: Block) -> usize {
    let places = &cell.places;
    if block.len() == 1 || block.len() * places.len() > MAX_CROWD {
        return block.start;
    }
    let radius = CROWD * (cell.volume / places.len() as f64).cbrt();
    let width = cell.dual_lengths.map(|length| radius * length);
    let crowd = |atom: usize| -> f64 {
        let mut sum = 0.0;
        for other in places {
            let start = cell::sub(other, &places[atom]);
            let range = |axis: usize| {
                let (first, last) = ((-width[axis] - start[axis]).ceil(), (width[axis] - start[axis]).floor());
                (first as i32..=last as i32).map(f64::from)
            };
            for i in range(0) {
                for j in range(1) {
                    for k in range(2) {
                        let vector = cell::combine(&cell::plus(&start, 1.0, &[i, j, k]), &cell.cell.rows);
                        let near = 1.0 - cell::dot(&vector, &vector) / (radius * radius);
                        sum += near.max(0.0).powi(3);
                    }
                }
            }
        }
        sum
    };
    let mut best = (f64::NEG_INFINITY, block.start);
    for atom in block.start..block.end {
        let sum = crowd(atom);
        if sum > best.0 {
            best = (sum, atom);
        }
    }
    best.1
}

/// Lattice vectors of up to [`REACH`] times the longest edge, shortest first, and that length. None, and 0,
/// if there are many.
fn short_vectors(rows: &Matrix, dual_lengths: &Vec3, longest: f64) -> (Vec<Vector>, f64) {
    let mut vectors = Vec::new();
    let radius = REACH * longest;
    let found = lattice::points_within(rows, dual_lengths, radius, MAX_VECTORS, |whole, place, squared| {
        if squared > 0.0 {
            vectors.push(Vector { whole, place, length: squared.sqrt() });
        }
    });
    if found.is_none() {
        return (Vec::new(), 0.0);
    }
    vectors.sort_unstable_by(|p, q| p.length.total_cmp(&q.length));
    (vectors, radius)
}
