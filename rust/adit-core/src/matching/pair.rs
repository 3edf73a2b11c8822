//! Whether two crystals match, and how well.

use super::crystal::{Block, Crystal, Form};
use super::hunt::{Hunt, Queue};
use super::mappings::{self, Lists, Mapping};
use super::sites::{Anchor, Common, Fit, Layers, Pairing, Sites};
use super::{Convention, Options};
use crate::cell::{self, Vec3};

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// Any fit that will do.
    Whether,
    /// The fit with the least rms.
    Best,
}

/// Work space, kept between calls.
#[derive(Debug, Default)]
pub struct Workspace {
    lists: Lists,
    queue: Queue,
    sites: Sites,
    places: Vec<Vec3>,
    points: Vec<Vec3>,
    pairings: Vec<Pairing>,
}

/// Which kind of the second crystal each kind of the first stands for: `kinds[k]` is the block of the
/// second that block k of the first is compared with.
type Kinds = [usize];

/// One crystal laid over another. The crystal whose lattice vectors are searched is the source; `copies`
/// of its cells make up a cell of the target.
struct Overlay<'a> {
    source: &'a Form,
    target: &'a Form,
    copies: usize,
    /// The atom that is laid over its kind in the other belongs to the target, else to the source.
    anchored_in_target: bool,
    /// The target's block for each block of the source.
    kinds: &'a Kinds,
}

impl Workspace {
    /// The fit of `first` and `second`, in this order; `None` if they do not match. Elements are compared.
    pub fn compare(&mut self, first: &Crystal, second: &Crystal, question: Question, options: &Options) -> Option<Fit> {
        if first.composition != second.composition {
            return None;
        }
        let kinds: Vec<usize> = (0..first.composition.len()).collect();
        self.compared(first, second, &kinds, question, options)
    }

    /// Some renaming of the elements makes them match.
    pub fn compare_anonymous(&mut self, first: &Crystal, second: &Crystal, options: &Options) -> bool {
        let mut kinds = Vec::with_capacity(first.composition.len());
        first.composition.len() == second.composition.len() && self.renamed(first, second, &mut kinds, options)
    }

    fn renamed(&mut self, first: &Crystal, second: &Crystal, kinds: &mut Vec<usize>, options: &Options) -> bool {
        if kinds.len() == first.composition.len() {
            return self.compared(first, second, kinds, Question::Whether, options).is_some();
        }
        let count = first.composition[kinds.len()].1;
        for k in 0..second.composition.len() {
            if second.composition[k].1 == count && !kinds.contains(&k) {
                kinds.push(k);
                if self.renamed(first, second, kinds, options) {
                    return true;
                }
                kinds.pop();
            }
        }
        false
    }

    fn compared(
        &mut self,
        first: &Crystal,
        second: &Crystal,
        kinds: &Kinds,
        question: Question,
        options: &Options,
    ) -> Option<Fit> {
        match options.convention {
            Convention::Pymatgen => self.as_pymatgen(&first.primitive, &second.primitive, kinds, question, options),
            Convention::Symmetric => {
                let fit = self.symmetric(&first.primitive, &second.primitive, kinds, question, options);
                if fit.is_some() || (first.given.is_none() && second.given.is_none()) {
                    return fit;
                }
                let whole = [first, second].map(|crystal| crystal.given.as_ref().unwrap_or(&crystal.primitive));
                // Of different sizes, the primitive cells have been compared already.
                if whole[0].len() != whole[1].len() {
                    return None;
                }
                self.symmetric(whole[0], whole[1], kinds, question, options)
            }
        }
    }

    fn as_pymatgen(
        &mut self,
        first: &Form,
        second: &Form,
        kinds: &Kinds,
        question: Question,
        options: &Options,
    ) -> Option<Fit> {
        let (copies, of_first) = if options.attempt_supercell { copies(first.len(), second.len()) } else { (1, true) };
        let (source, target) = if of_first { (first, second) } else { (second, first) };
        if source.len() * copies != target.len() {
            return None;
        }
        let turned = inverted(kinds);
        let kinds = if of_first { kinds } else { &turned };
        let overlay = Overlay { source, target, copies, anchored_in_target: of_first, kinds };
        self.searched(&overlay, None, question, options)
    }

    /// Both ways round, and the smaller cell repeated if need be: the order does not matter.
    fn symmetric(
        &mut self,
        first: &Form,
        second: &Form,
        kinds: &Kinds,
        question: Question,
        options: &Options,
    ) -> Option<Fit> {
        let turned = inverted(kinds);
        let mut best: Option<Fit> = None;
        for (source, target, kinds) in [(first, second, kinds), (second, first, &turned)] {
            let copies = target.len() / source.len();
            let repeated = options.primitive_cell || options.attempt_supercell;
            if source.len() * copies != target.len() || (copies > 1 && !repeated) {
                continue;
            }
            let overlay = Overlay { source, target, copies, anchored_in_target: true, kinds };
            best = self.searched(&overlay, best, question, options);
        }
        best
    }

    /// The better of a fit that was found before and those of this overlay.
    fn searched(&mut self, overlay: &Overlay, best: Option<Fit>, question: Question, options: &Options) -> Option<Fit> {
        let Overlay { source, target, copies, .. } = *overlay;
        let mut hunt = Hunt { question, options, best };
        if hunt.is_over() || (options.prefilter && !mappings::possible(source, target, copies, options)) {
            return best;
        }
        self.pairings.clear();
        for (block, &kind) in source.blocks.iter().zip(overlay.kinds) {
            let (other, many) = (target.blocks[kind], block.len() * copies);
            if many != other.len() {
                return best;
            }
            let (own, other) = (block.start * copies..block.end * copies, other.start..other.end);
            let (first, second) = if overlay.anchored_in_target { (own, other) } else { (other, own) };
            self.pairings.push(Pairing { first, second });
        }
        self.pairings.sort_by_key(|pairing| pairing.first.len());
        let Self { lists, queue, sites, places, points, pairings } = self;
        let anchor = overlay.anchor();
        let mut visit = |mapping: &Mapping| {
            let Some(mut common) = Common::new(mapping.average, options.stol, target.len()) else { return false };
            [mapping, &mapping.inverted()].into_iter().any(|mapping| {
                repeated(source, mapping, copies, points, places);
                let (first, second) = if overlay.anchored_in_target {
                    (&places[..], &target.places[..])
                } else {
                    (&target.places[..], &places[..])
                };
                hunt.over(&mut common, &Layers { first, second, pairings }, &anchor, sites)
            })
        };
        queue.clear();
        let stopped = mappings::each(source, target, copies, options, lists, |mapping| match question {
            Question::Whether => visit(mapping),
            Question::Best => queue.push(mapping, &mut visit),
        });
        if !stopped {
            queue.drain(visit);
        }
        hunt.best
    }
}

impl Overlay<'_> {
    /// The anchor, and where it is laid: on one atom for each primitive cell's worth.
    fn anchor(&self) -> Anchor {
        let copies = self.copies;
        if self.anchored_in_target {
            let (block, atom) = self.target.anchor;
            let own = self.kinds.iter().position(|&kind| kind == block).map_or(0, |k| k);
            let Block { start, end, .. } = self.source.blocks[own];
            Anchor { atom, block: start * copies..end * copies, step: copies }
        } else {
            let (block, atom) = self.source.anchor;
            let Block { start, end, .. } = self.target.blocks[self.kinds[block]];
            Anchor { atom: atom * copies, block: start..end, step: 1 }
        }
    }
}

fn inverted(kinds: &Kinds) -> Vec<usize> {
    let mut turned = vec![0; kinds.len()];
    for (k, &kind) in kinds.iter().enumerate() {
        turned[kind] = k;
    }
    turned
}

/// How many cells of the smaller make up the larger, and whether the first is repeated.
fn copies(first: usize, second: usize) -> (usize, bool) {
    let ratio = second as f64 / first as f64;
    if ratio < 2.0 / 3.0 {
        ((1.0 / ratio).round_ties_even() as usize, false)
    } else {
        (ratio.round_ties_even() as usize, true)
    }
}

/// The places of the source's atoms in the basis of a mapping: each atom with its copies beside it.
fn repeated(source: &Form, mapping: &Mapping, copies: usize, points: &mut Vec<Vec3>, places: &mut Vec<Vec3>) {
    places.clear();
    if copies == 1 {
        places.extend(source.places.iter().map(|f| cell::combine(f, &mapping.inverse)));
        return;
    }
    points.clear();
    let corner = |axis: usize, sign: i32| mapping.whole.iter().map(|row| (sign * row[axis]).max(0)).sum::<i32>();
    let range = |axis: usize| -corner(axis, -1)..=corner(axis, 1);
    for i in range(0) {
        for j in range(1) {
            for k in range(2) {
                let point = cell::combine(&[i, j, k].map(f64::from), &mapping.inverse);
                if point.iter().all(|x| (-1e-9..1.0 - 1e-9).contains(x)) {
                    points.push(point);
                }
            }
        }
    }
    for place in &source.places {
        let place = cell::combine(place, &mapping.inverse);
        places.extend(points.iter().map(|point| cell::plus(&place, 1.0, point)));
    }
}
