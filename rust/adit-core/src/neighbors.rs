//! Neighbour lists in any mixture of periodic directions.
//!
//! Two algorithms, one result, bit for bit. Both work on the same [`Scene`]: atoms moved into a
//! Minkowski-reduced cell. A pair is judged there, by (q - p) + T with T the lattice vector
//! between the images, in this order of operations; so (i, j, S) and (j, i, -S) are exact mirror
//! images. [`brute`] seeks only one of the two, and the other is written down as its mirror (see
//! [`half`]); [`cells`] finds whole rows, and computes their columns as they are written (see [`rows`]).

mod batch;
mod bins;
mod brute;
mod cells;
mod columns;
mod half;
mod images;
mod list;
mod look;
mod rows;
mod scene;

pub use batch::{Batch, FoundBatch, MAX_BATCH, find_batch, neighbor_list_batch};
pub use columns::{Columns, Pairs, Quantities};

use std::cell::RefCell;

use crate::cell::{Matrix, Vec3};
use crate::error::{Error, Result};
use list::List;
use scene::Scene;

/// More pairs of one system than this are refused: 4 GB of output.
pub const MAX_PAIRS: usize = 1 << 26;
/// More image cells than this within the cutoff are refused.
pub const MAX_IMAGES: usize = 1 << 26;
/// Positions further out than this are refused, and longer edges: f64 no longer resolves bonds there.
pub const MAX_COORDINATE: f64 = 1e9;
/// Up to this many atoms "auto" takes brute force: measured. Images multiply the pairs of few atoms,
/// and brute force tries none in vain.
const BRUTE_LIMIT: usize = 8;
const BRUTE_LIMIT_WITHOUT_IMAGES: usize = 12;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// Brute force up to 8 atoms (12 where nothing is periodic), cell lists beyond.
    Auto,
    /// All pairs, and for each exactly the images within the cutoff.
    Brute,
    /// Atoms sorted into bins.
    Cells,
}

/// What to look for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Search {
    /// A pair is closer than this, strictly; 1e-100 to 1e100.
    pub cutoff: f64,
    /// A full list has each pair in both directions; a half list has it once: i < j, or i = j and
    /// the first nonzero shift positive.
    pub half: bool,
    pub algorithm: Algorithm,
    pub quantities: Quantities,
}

/// All pairs of atoms (and images) closer than the cutoff.
///
/// # Errors
/// The cutoff is not within 1e-100 to 1e100; a position is not finite, beyond [`MAX_COORDINATE`] or
/// beyond 2^31 cells; the cell is flat in its periodic directions, or larger than that; the list
/// would be too large.
pub fn neighbor_list(positions: &[Vec3], cell: &Matrix, periodic: [bool; 3], search: &Search) -> Result<Pairs> {
    let found = find(positions, cell, periodic, search)?;
    let mut pairs = Pairs::zeros(found.count(), search.quantities);
    found.write(Columns::of(&mut pairs, search.quantities));
    Ok(pairs)
}

/// What [`neighbor_list`] found, not yet written down.
pub struct Found(Work);

impl Found {
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.1.count()
    }

    /// Fills the columns, which have [`Found::count`] places each.
    pub fn write(self, columns: Columns) {
        let work = self.0;
        work.1.write(0, columns);
        if work.0.capacity() + work.1.capacity() <= KEPT {
            SPARE.set(work);
        }
    }
}

/// No more bytes of memory than this are kept by a thread.
const KEPT: usize = 8 << 20;

thread_local! {
    /// Memory for the next call: fresh pages cost more than what is computed in them.
    static SPARE: RefCell<Work> = RefCell::default();
}

/// The first half of [`neighbor_list`], for callers who bring the memory for its columns.
///
/// # Errors
/// As there.
pub fn find(positions: &[Vec3], cell: &Matrix, periodic: [bool; 3], search: &Search) -> Result<Found> {
    check_cutoff(search.cutoff)?;
    let (mut seeker, mut list) = SPARE.take();
    list.set(search);
    seeker.append(positions, cell, periodic, search, &mut list)?;
    columns::check_room(list.count(), MAX_PAIRS)?;
    Ok(Found((seeker, list)))
}

/// Its square must be a normal number.
fn check_cutoff(cutoff: f64) -> Result<()> {
    if (1e-100..=1e100).contains(&cutoff) {
        return Ok(());
    }
    let expected = "be a positive, finite length in Angstrom, 1e-100 to 1e100";
    Err(Error::argument("cutoff", expected, cutoff, "Pass e.g. 5.0"))
}

fn too_large(what: &'static str, got: f64, limit: usize) -> Error {
    Error::TooLarge { what, got: format!("about {got:.1e}"), limit, remedy: "Use a smaller cutoff or split the system" }
}

/// What a thread works with.
type Work = (Seeker, List);

/// The working memory of both algorithms, kept from system to system.
#[derive(Default)]
struct Seeker {
    scene: Scene,
    brute: brute::Brute,
    cells: cells::Cells,
}

impl Seeker {
    /// Adds the pairs of one more system to the list.
    fn append(
        &mut self,
        positions: &[Vec3],
        cell: &Matrix,
        periodic: [bool; 3],
        search: &Search,
        list: &mut List,
    ) -> Result<()> {
        self.scene.set(positions, cell, periodic, search.cutoff)?;
        let few = if periodic == [false; 3] { BRUTE_LIMIT_WITHOUT_IMAGES } else { BRUTE_LIMIT };
        let brute = match search.algorithm {
            Algorithm::Auto => positions.len() <= few,
            Algorithm::Brute => true,
            Algorithm::Cells => false,
        };
        if brute {
            list.begin_half(positions.len());
            list.half.begin(positions.len())?;
            self.brute.search(&self.scene, &mut list.half)
        } else {
            list.begin_rows();
            self.cells.search(&self.scene, &mut list.rows)
        }
    }

    /// Bytes of memory, about.
    fn capacity(&self) -> usize {
        80 * self.scene.points.capacity() + self.cells.capacity()
    }
}
