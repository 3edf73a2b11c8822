//! Whether two crystals match, and how well.

use super::crystal::{Block, Crystal, Form};
use super::mappings::{self, Lists, Mapping};
use super::sites::{Common, Fit, Layers, Limit, Pairing, Sites};
use super::{Convention, Options};
use crate::cell::{self, Vec3};

/// Below this there is nothing better to be found, says pymatgen.
const PERFECT: f64 = 1e-5;

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
        self.searched(&overlay, question, options)
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
            let fit = self.searched(&overlay, question, options);
            if question == Question::Whether && fit.is_some() {
                return fit;
            }
            if let Some(fit) = fit
                && best.is_none_or(|best| fit < best)
            {
                best = Some(fit);
            }
        }
        best
    }

    fn searched(&mut self, overlay: &Overlay, question: Question, options: &Options) -> Option<Fit> {
        let Overlay { source, target, copies, .. } = *overlay;
        if options.prefilter && !mappings::possible(source, target, copies, options) {
            return None;
        }
        self.pairings.clear();
        for (block, &kind) in source.blocks.iter().zip(overlay.kinds) {
            let (other, many) = (target.blocks[kind], block.len() * copies);
            if many != other.len() {
                return None;
            }
            let (own, other) = (block.start * copies..block.end * copies, other.start..other.end);
            let (first, second) = if overlay.anchored_in_target { (own, other) } else { (other, own) };
            self.pairings.push(Pairing { first, second });
        }
        self.pairings.sort_by_key(|pairing| pairing.first.len());
        let Self { lists, sites, places, points, pairings } = self;
        let (anchor, candidates, step) = overlay.anchor();
        let mut best: Option<Fit> = None;
        mappings::each(source, target, copies, options, lists, |mapping| {
            let Some(mut common) = Common::new(mapping.average, options.stol, target.len()) else { return false };
            for mapping in [mapping, &mapping.inverted()] {
                repeated(source, mapping, copies, points, places);
                let (first, second) = if overlay.anchored_in_target {
                    (&places[..], &target.places[..])
                } else {
                    (&target.places[..], &places[..])
                };
                let layers = Layers { first, second, pairings };
                sites.begin();
                for candidate in candidates.clone().step_by(step) {
                    let shift = cell::sub(&first[candidate], &second[anchor]);
                    let found = sites.fit(&mut common, &layers, &shift, limit(best, question, options));
                    let Some(fit) = found else { continue };
                    if accepted(fit, question, options) && best.is_none_or(|best| fit < best) {
                        best = Some(fit);
                    }
                    if best.is_some_and(|best| enough(best, question, options)) {
                        return true;
                    }
                }
            }
            false
        });
        best
    }
}

impl Overlay<'_> {
    /// The anchor's index, and the indices of the atoms in the other crystal that it is laid over, one for
    /// each primitive cell's worth.
    fn anchor(&self) -> (usize, std::ops::Range<usize>, usize) {
        if self.anchored_in_target {
            let (block, place) = self.target.anchor;
            let own = self.kinds.iter().position(|&kind| kind == block).map_or(0, |k| k);
            let Block { start, end, .. } = self.source.blocks[own];
            (place, start * self.copies..end * self.copies, self.copies)
        } else {
            let (block, place) = self.source.anchor;
            let Block { start, end, .. } = self.target.blocks[self.kinds[block]];
            (place * self.copies, start..end, 1)
        }
    }
}

/// What is worse will not be accepted, or is no better than what there is.
fn limit(best: Option<Fit>, question: Question, options: &Options) -> Limit {
    let rms = best.map_or(options.stol, |best| best.rms);
    let refused_by_rms = options.convention == Convention::Pymatgen && question == Question::Best;
    if options.prefilter {
        Limit { rms, max: if refused_by_rms { f64::INFINITY } else { options.stol } }
    } else {
        Limit { rms: f64::INFINITY, max: f64::INFINITY }
    }
}

fn accepted(fit: Fit, question: Question, options: &Options) -> bool {
    match (options.convention, question) {
        (Convention::Pymatgen, Question::Best) => fit.rms < options.stol,
        _ => fit.max < options.stol,
    }
}

fn enough(best: Fit, question: Question, options: &Options) -> bool {
    question == Question::Whether || (options.convention == Convention::Pymatgen && best.rms < PERFECT)
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
