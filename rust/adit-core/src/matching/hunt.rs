//! The hunt for a fit, mapping by mapping.

use super::mappings::Mapping;
use super::pair::Question;
use super::sites::{Anchor, Common, Fit, Layers, Limit, Sites};
use super::{Convention, Options};

/// Below this there is nothing better to be found, says pymatgen.
const PERFECT: f64 = 1e-5;
/// Below this there is nothing but rounding, says the symmetric convention, and calls it zero: so whichever is found
/// first will do.
const ZERO: f64 = 1e-8;
/// So many mappings are put in order at a time.
const MAX_QUEUE: usize = 4096;

/// What is wanted, and the best that was found.
#[derive(Debug)]
pub struct Hunt<'a> {
    pub question: Question,
    pub options: &'a Options,
    pub best: Option<Fit>,
}

impl Hunt<'_> {
    /// Tries all places of the anchor, until there is no need to go on: then true.
    pub fn over(&mut self, common: &mut Common, layers: &Layers, anchor: &Anchor, sites: &mut Sites) -> bool {
        sites.survey(common, layers, anchor, (self.question == Question::Best).then(|| self.limit()));
        for k in 0..sites.order.len() {
            let place = sites.order[k];
            let Some(mut fit) = sites.fit(common, layers, anchor, place, self.limit()) else { continue };
            if self.options.convention == Convention::Symmetric && fit.rms < ZERO {
                fit = Fit { rms: 0.0, max: 0.0 };
            }
            if self.is_accepted(fit) && self.best.is_none_or(|best| fit < best) {
                self.best = Some(fit);
            }
            if self.is_over() {
                return true;
            }
        }
        false
    }

    /// What is worse will not be accepted, or is no better than what there is.
    fn limit(&self) -> Limit {
        let Options { stol, convention, prefilter, .. } = *self.options;
        let rms = self.best.map_or(stol, |best| best.rms);
        let refused_by_rms = convention == Convention::Pymatgen && self.question == Question::Best;
        if prefilter {
            Limit { rms, max: if refused_by_rms { f64::INFINITY } else { stol } }
        } else {
            Limit { rms: f64::INFINITY, max: f64::INFINITY }
        }
    }

    fn is_accepted(&self, fit: Fit) -> bool {
        match (self.options.convention, self.question) {
            (Convention::Pymatgen, Question::Best) => fit.rms < self.options.stol,
            _ => fit.max < self.options.stol,
        }
    }

    /// There is nothing better to be found.
    #[must_use]
    pub fn is_over(&self) -> bool {
        let limit = if self.options.convention == Convention::Pymatgen { PERFECT } else { ZERO };
        self.best.is_some_and(|best| self.question == Question::Whether || best.rms < limit)
    }
}

/// Mappings that wait to be visited, those that strain the lattice least before others: they are likely to
/// give the best fit, and with that at hand the others are soon ruled out.
#[derive(Debug, Default)]
pub struct Queue(Vec<Mapping>);

impl Queue {
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// True once `visit` has returned true.
    pub fn push(&mut self, mapping: &Mapping, visit: impl FnMut(&Mapping) -> bool) -> bool {
        self.0.push(mapping.clone());
        self.0.len() == MAX_QUEUE && self.drain(visit)
    }

    /// True once `visit` has returned true.
    pub fn drain(&mut self, visit: impl FnMut(&Mapping) -> bool) -> bool {
        self.0.sort_by(|p, q| p.strain.total_cmp(&q.strain));
        let stopped = self.0.iter().any(visit);
        self.0.clear();
        stopped
    }
}
