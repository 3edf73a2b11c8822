//! Matching never panics and always ends; the symmetric convention is symmetric, and blind to how a crystal is
//! written down; what is skipped for speed changes no answer.

use adit_core::cell::{self, Matrix, Vec3};
use adit_core::matching::assignment::Assignment;
use adit_core::matching::{
    Convention, Crystal, Options, Question, Workspace, crystals, first_matches, fit_pairs, groups, lattice, niggli,
    rms_pairs, translations,
};
use proptest::prelude::*;

#[derive(Debug, Clone)]
struct Atoms {
    numbers: Vec<u8>,
    fractional: Vec<Vec3>,
    rows: Matrix,
}

impl Atoms {
    fn crystal(&self, options: &Options) -> Option<Crystal> {
        let places: Vec<Vec3> = self.fractional.iter().map(|f| cell::combine(f, &self.rows)).collect();
        Crystal::new(&self.numbers, &places, &self.rows, options)
    }

    fn with(&self, change: impl Fn(usize, Vec3) -> Vec3) -> Self {
        let fractional = self.fractional.iter().enumerate().map(|(k, f)| change(k, *f)).collect();
        Self { fractional, ..self.clone() }
    }

    /// The same crystal: turned, shifted, with other edges, `copies` times as large, its atoms in reverse.
    fn rewritten(&self, axis: Vec3, angle: f64, shift: Vec3, shear: [i64; 3], copies: usize) -> Self {
        let multiple = [[1, shear[0], shear[1]], [0, 1, shear[2]], [0, 0, copies as i64]];
        let rows = cell::transformed(&multiple, &self.rows).map(|row| turned(&row, &axis, angle));
        let dual = cell::dual(&cell::transformed(&multiple, &self.rows));
        let (mut numbers, mut fractional) = (Vec::new(), Vec::new());
        for copy in 0..copies {
            for (number, f) in self.numbers.iter().zip(&self.fractional) {
                let place =
                    cell::combine(&[f[0] + shift[0], f[1] + shift[1], f[2] + shift[2] + copy as f64], &self.rows);
                numbers.push(*number);
                fractional.push(dual.map(|vector| cell::dot(&vector, &place)));
            }
        }
        numbers.reverse();
        fractional.reverse();
        Self { numbers, fractional, rows }
    }
}

/// Rodrigues' formula, then the mirror image.
fn turned(v: &Vec3, axis: &Vec3, angle: f64) -> Vec3 {
    let unit = cell::scaled(axis, 1.0 / cell::norm(axis).max(1e-3));
    let along = cell::dot(&unit, v) * (1.0 - angle.cos());
    let across = cell::cross(&unit, v);
    [0, 1, 2].map(|k| -(v[k] * angle.cos() + across[k] * angle.sin() + unit[k] * along))
}

fn vector(range: std::ops::Range<f64>) -> impl Strategy<Value = Vec3> {
    prop::array::uniform3(range)
}

/// One to six atoms of two elements in a cell of some volume.
fn atoms() -> impl Strategy<Value = Atoms> {
    let rows = prop::array::uniform3(vector(-1.0..1.0)).prop_filter_map("flat", |mut rows: Matrix| {
        for (k, row) in rows.iter_mut().enumerate() {
            row[k] += 1.5;
        }
        (cell::determinant(&rows).abs() > 0.3).then(|| rows.map(|row| cell::scaled(&row, 3.0)))
    });
    let sites = prop::collection::vec((prop::sample::select(vec![6u8, 8]), vector(0.0..1.0)), 1..7);
    (rows, sites).prop_map(|(rows, sites)| {
        let (numbers, fractional) = sites.into_iter().unzip();
        Atoms { numbers, fractional, rows }
    })
}

fn options(convention: Convention) -> Options {
    Options { convention, ..Options::default() }
}

const BOTH: [Convention; 2] = [Convention::Symmetric, Convention::Pymatgen];

fn anything() -> impl Strategy<Value = f64> {
    prop_oneof![
        -10.0..10.0f64,
        prop::num::f64::ANY,
        prop::sample::select(vec![0.0, 1.0, 1e-9, 1e9, 1e300, f64::NAN, f64::INFINITY]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn any_numbers_at_all(
        rows in prop::array::uniform3(prop::array::uniform3(anything())),
        places in prop::collection::vec(prop::array::uniform3(anything()), 0..6),
        numbers in prop::collection::vec(any::<u8>(), 6),
        stol in 0.01..1.0f64,
    ) {
        let numbers = &numbers[..places.len()];
        for convention in BOTH {
            let options = Options { stol, ..options(convention) };
            let held = crystals(numbers, &places, &[rows], &[0, places.len() as i64], &options, Some(1)).unwrap();
            let fit = fit_pairs(&held, &held, &[[0, 0]], false, &options, Some(1)).unwrap();
            prop_assert!(!fit[0] || held[0].is_some());
        }
    }

    #[test]
    fn extreme_shapes(exponents in vector(-4.0..4.0), skew in vector(-50.0..50.0), sites in prop::collection::vec(vector(0.0..1.0), 1..9)) {
        let [a, b, c] = exponents.map(|x| 10f64.powf(x));
        let rows = [[a, 0.0, 0.0], [skew[0] * a, b, 0.0], [skew[1] * a, skew[2] * b, c]];
        let atoms = Atoms { numbers: vec![6; sites.len()], fractional: sites, rows };
        for convention in BOTH {
            let options = options(convention);
            let Some(crystal) = atoms.crystal(&options) else { continue };
            let fit = Workspace::default().compare(&crystal, &crystal, Question::Whether, &options);
            prop_assert!(fit.is_some(), "a crystal matches itself");
        }
    }

    #[test]
    fn symmetric_in_its_arguments(a in atoms(), noise in prop::collection::vec(vector(-0.2..0.2), 6), strain in 0.8..1.2f64) {
        let mut b = a.with(|k, f| [0, 1, 2].map(|axis| f[axis] + noise[k][axis]));
        b.rows[0] = cell::scaled(&b.rows[0], strain);
        let options = options(Convention::Symmetric);
        let (Some(a), Some(b)) = (a.crystal(&options), b.crystal(&options)) else { return Ok(()) };
        let mut work = Workspace::default();
        for question in [Question::Whether, Question::Best] {
            let (there, back) = (work.compare(&a, &b, question, &options), work.compare(&b, &a, question, &options));
            prop_assert_eq!(there.is_some(), back.is_some());
            if question == Question::Best {
                prop_assert_eq!(there, back);
            }
        }
        let whether = work.compare(&a, &b, Question::Whether, &options).is_some();
        prop_assert_eq!(whether, work.compare(&a, &b, Question::Best, &options).is_some());
    }

    #[test]
    fn blind_to_how_it_is_written(
        a in atoms(), axis in vector(0.1..1.0), angle in 0.0..6.0f64, shift in vector(-2.0..2.0),
        shear in prop::array::uniform3(-3i64..4), copies in 1usize..4,
    ) {
        let b = a.rewritten(axis, angle, shift, shear, copies);
        let options = options(Convention::Symmetric);
        let (Some(a), Some(b)) = (a.crystal(&options), b.crystal(&options)) else { return Ok(()) };
        let mut work = Workspace::default();
        let fit = work.compare(&a, &b, Question::Best, &options);
        prop_assert!(fit.is_some_and(|fit| fit.max < 1e-3), "{:?}", fit);
        prop_assert!(work.compare_anonymous(&a, &b, &options));
    }

    #[test]
    fn prefilters_change_nothing(
        a in atoms(), b in atoms(), noise in prop::collection::vec(vector(-0.15..0.15), 6), related in any::<bool>(),
        ltol in 0.05..0.6f64, stol in 0.1..0.8f64, angle_tol in 2.0..25.0f64, scale in any::<bool>(),
        stretch in vector(0.7..1.4),
    ) {
        let mut b = if related {
            a.with(|k, f| [0, 1, 2].map(|axis| f[axis] + noise[k][axis]))
        } else {
            Atoms { numbers: vec![6; b.fractional.len()], ..b }
        };
        let a = if related { a } else { Atoms { numbers: vec![6; a.fractional.len()], ..a } };
        for (row, factor) in b.rows.iter_mut().zip(stretch) {
            *row = cell::scaled(row, factor);
        }
        for convention in BOTH {
            let with = Options { ltol, stol, angle_tol, scale, ..options(convention) };
            let without = Options { prefilter: false, ..with.clone() };
            let (Some(a), Some(b)) = (a.crystal(&with), b.crystal(&with)) else { continue };
            let mut work = Workspace::default();
            for question in [Question::Whether, Question::Best] {
                let fits = [&with, &without].map(|options| work.compare(&a, &b, question, options));
                prop_assert_eq!(fits[0].is_some(), fits[1].is_some());
                if question == Question::Best {
                    prop_assert_eq!(fits[0], fits[1]);
                }
            }
        }
    }

    #[test]
    fn least_assignment(n in 1usize..6, costs in prop::collection::vec(0.0..1.0f64, 36), forbidden in prop::collection::vec(0u8..3, 36)) {
        let costs: Vec<f64> =
            costs.iter().zip(&forbidden).take(n * n).map(|(&c, &f)| if f == 0 { f64::INFINITY } else { c }).collect();
        let best = permutations(n).into_iter().map(|p| total(&costs, &p)).fold(f64::INFINITY, f64::min);
        match Assignment::default().solve(&costs, n) {
            Some(columns) => prop_assert!((total(&costs, columns) - best).abs() < 1e-12),
            None => prop_assert!(best.is_infinite()),
        }
    }

    #[test]
    fn reductions_keep_the_lattice(a in atoms()) {
        let (reduced, transform) = lattice::lll(&a.rows);
        for (row, expected) in reduced.iter().zip(cell::transformed(&transform, &a.rows)) {
            prop_assert!(cell::norm(&cell::sub(row, &expected)) < 1e-9);
        }
        let ours = niggli::reduce(&a.rows).unwrap();
        prop_assert!((cell::determinant(&ours) - cell::determinant(&a.rows).abs()).abs() < 1e-6);
        let dual = cell::dual(&a.rows);
        for row in &ours {
            prop_assert!(dual.iter().all(|vector| lattice::wrapped(cell::dot(vector, row)).abs() < 1e-9));
        }
        let primitive = adit_core::matching::primitive::Cell {
            rows: a.rows, fractional: a.fractional.clone(), numbers: a.numbers.clone(),
        };
        let moyo = translations::niggli(&primitive).unwrap();
        let lengths = [ours, moyo.rows].map(|rows| rows.map(|row| cell::norm(&row)));
        prop_assert!((0..3).all(|k| (lengths[0][k] - lengths[1][k]).abs() < 1e-2), "{lengths:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// With many atoms of one kind the bounds decide over most translations.
    #[test]
    fn bounds_change_nothing(
        a in prop::collection::vec(vector(0.0..1.0), 3..10), noise in prop::collection::vec(vector(-1.0..1.0), 14),
        size in 0.0..0.1f64, rows in atoms().prop_map(|atoms| atoms.rows), edges in vector(1.0..2.0), copies in 1usize..3,
        stol in 0.2..0.8f64,
    ) {
        let mut a = Atoms { numbers: vec![6; a.len()], fractional: a, rows };
        for (row, factor) in a.rows.iter_mut().zip(edges) {
            *row = cell::scaled(row, factor);
        }
        let b = a.with(|k, f| [0, 1, 2].map(|axis| f[axis] + size * noise[k][axis]));
        let b = b.rewritten([0.3, 0.5, 0.2], 1.0, [0.1, 0.2, 0.3], [1, 0, -1], copies);
        for (convention, primitive_cell) in BOTH.into_iter().flat_map(|convention| [(convention, true), (convention, false)]) {
            let with = Options { ltol: 0.2, stol, angle_tol: 8.0, primitive_cell, attempt_supercell: true, ..options(convention) };
            let without = Options { prefilter: false, ..with.clone() };
            let (Some(a), Some(b)) = (a.crystal(&with), b.crystal(&with)) else { continue };
            for (a, b) in [(&a, &b), (&b, &a)] {
                let fits = [&with, &without].map(|options| Workspace::default().compare(a, b, Question::Best, options));
                prop_assert_eq!(fits[0], fits[1]);
            }
        }
    }
}

fn total(costs: &[f64], columns: &[usize]) -> f64 {
    columns.iter().enumerate().map(|(row, column)| costs[row * columns.len() + column]).sum()
}

fn permutations(n: usize) -> Vec<Vec<usize>> {
    if n == 0 {
        return vec![Vec::new()];
    }
    let shorter = permutations(n - 1);
    let inserted = |p: &Vec<usize>, k: usize| [&p[..k], &[n - 1], &p[k..]].concat();
    shorter.iter().flat_map(|p| (0..n).map(move |k| inserted(p, k))).collect()
}

/// Atoms on a line, `gap` apart from each other in turn: neighbours in the list match, others do not.
fn chain(length: usize, step: f64) -> (Vec<u8>, Vec<Vec3>, Vec<Matrix>, Vec<i64>) {
    let (mut positions, mut cells) = (Vec::new(), Vec::new());
    for k in 0..length {
        positions.extend([[0.0; 3], [2.0 + step * k as f64, 2.0, 2.0]]);
        cells.push([[8.0, 0.0, 0.0], [0.0, 5.0, 0.0], [0.0, 0.0, 4.0]]);
    }
    (vec![6; 2 * length], positions, cells, (0..=length as i64).map(|k| 2 * k).collect())
}

#[test]
fn symmetric_groups_do_not_depend_on_the_order() {
    let (numbers, positions, cells, offsets) = chain(6, 0.7);
    let backwards: Vec<Vec3> = positions.chunks(2).rev().flatten().copied().collect();
    let sizes = BOTH.map(|convention| {
        let options = Options { stol: 0.1, ..options(convention) };
        [&positions, &backwards].map(|positions| {
            let held = crystals(&numbers, positions, &cells, &offsets, &options, Some(1)).unwrap();
            let mut labels = groups(&held, false, &options, Some(2)).unwrap();
            assert_eq!(labels, groups(&held, false, &options, Some(1)).unwrap());
            labels.dedup();
            labels.len()
        })
    });
    assert_eq!(sizes[0], [1, 1], "each matches the next");
    assert!(sizes[1][0] > 1, "not the first with the last");
}

#[test]
fn threads_and_lists() {
    let (numbers, positions, cells, offsets) = chain(40, 0.05);
    for convention in BOTH {
        let options = Options { stol: 0.02, ..options(convention) };
        let held = crystals(&numbers, &positions, &cells, &offsets, &options, Some(1)).unwrap();
        let again = crystals(&numbers, &positions, &cells, &offsets, &options, Some(3)).unwrap();
        let pairs: Vec<[i64; 2]> = (0..40).flat_map(|i| (0..40).map(move |j| [i, j])).collect();
        let one = fit_pairs(&held, &held, &pairs, false, &options, Some(1)).unwrap();
        assert_eq!(one, fit_pairs(&again, &held, &pairs, false, &options, Some(4)).unwrap());
        let rms = rms_pairs(&held, &again, &pairs, &options, Some(2)).unwrap();
        assert!(one.iter().zip(&rms).all(|(fit, rms)| !fit || !rms[0].is_nan()));
        let first = first_matches(&held, &again, false, &options, Some(2)).unwrap();
        for (k, &found) in first.iter().enumerate() {
            assert_eq!(found, (0..40).find(|&j| one[k * 40 + j]).unwrap() as i64);
        }
        assert!(first[39] > 0);
    }
}

#[test]
fn bad_input_is_named() {
    let options = Options { stol: f64::NAN, ..Options::default() };
    let message = crystals::<f64, f64>(&[], &[], &[], &[0], &options, None).unwrap_err().to_string();
    assert!(message.contains("`stol` must be positive"), "{message}");
    let options = Options::default();
    let held =
        crystals(&[6], &[[0.0; 3]], &[[[3.0, 0.0, 0.0], [0.0, 3.0, 0.0], [0.0, 0.0, 3.0]]], &[0, 1], &options, None);
    let held = held.unwrap();
    let message = fit_pairs(&held, &held, &[[0, 1]], false, &options, None).unwrap_err().to_string();
    assert!(message.contains("from 0 to 1 (exclusive)"), "{message}");
    let numbers: Vec<u8> = (1..10).collect();
    let places: Vec<Vec3> = (0..9).map(|k| [f64::from(k), 0.0, 0.0]).collect();
    let rows = [[9.0, 0.0, 0.0], [0.0, 3.0, 0.0], [0.0, 0.0, 3.0]];
    let many = crystals(&numbers, &places, &[rows], &[0, 9], &options, None).unwrap();
    let message = fit_pairs(&many, &many, &[[0, 0]], true, &options, None).unwrap_err().to_string();
    assert!(message.contains("ways of renaming"), "{message}");
    assert!(fit_pairs(&many, &many, &[[0, 0]], false, &options, None).unwrap()[0]);
}
