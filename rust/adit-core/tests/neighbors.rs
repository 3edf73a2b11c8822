use adit_core::cell::{self, Matrix, Vec3};
use adit_core::error::Result;
use adit_core::neighbors::{self, Algorithm, Pairs, Quantities, Search, neighbor_list_batch};
use proptest::prelude::*;

const BOTH: [Algorithm; 2] = [Algorithm::Brute, Algorithm::Cells];

fn search(cutoff: f64, half: bool, algorithm: Algorithm) -> Search {
    Search { cutoff, half, algorithm, quantities: Quantities::ALL }
}

fn neighbor_list(
    points: &[Vec3],
    given: &Matrix,
    periodic: [bool; 3],
    cutoff: f64,
    half: bool,
    algorithm: Algorithm,
) -> Result<Pairs> {
    neighbors::neighbor_list(points, given, periodic, &search(cutoff, half, algorithm))
}

fn points(most: usize) -> impl Strategy<Value = Vec<Vec3>> {
    prop::collection::vec(prop::array::uniform3(-12.0..12.0f64), 0..most)
}

fn matrix() -> impl Strategy<Value = Matrix> {
    prop::array::uniform3(prop::array::uniform3(-6.0..6.0f64))
}

/// One system of a batch.
fn system() -> impl Strategy<Value = (Vec<Vec3>, Matrix, [bool; 3])> {
    let periodic = prop::array::uniform3(any::<bool>());
    (points(12), matrix(), periodic).prop_map(|(points, mut given, periodic)| {
        // Away from flat.
        for (k, row) in given.iter_mut().enumerate() {
            row[k] += 14.0;
        }
        (points, given, periodic)
    })
}

/// (i, j, shift) of each pair.
fn keys(pairs: &Pairs) -> Vec<(i64, i64, [i32; 3])> {
    let (shifts, _) = pairs.shifts.as_chunks();
    pairs.i.iter().zip(&pairs.j).zip(shifts).map(|((&i, &j), &shift)| (i, j, shift)).collect()
}

/// Every image in a box that is large enough.
fn by_hand(points: &[Vec3], given: &Matrix, cutoff: f64) -> Vec<(i64, i64, [i32; 3])> {
    let dual = cell::dual(given);
    let spread = |k: usize| {
        let along = points.iter().map(|p| cell::dot(&dual[k], p));
        let (low, high) = along.fold((0.0_f64, 0.0_f64), |(low, high), x| (low.min(x), high.max(x)));
        (cutoff * cell::norm(&dual[k]) + high - low).ceil() as i32 + 1
    };
    let [a, b, c] = [spread(0), spread(1), spread(2)];
    let mut found = Vec::new();
    for (i, p) in points.iter().enumerate() {
        for (j, q) in points.iter().enumerate() {
            for shift in (-a..=a).flat_map(|x| (-b..=b).flat_map(move |y| (-c..=c).map(move |z| [x, y, z]))) {
                let image = cell::plus(q, 1.0, &cell::combine(&shift.map(f64::from), given));
                if (i, [0; 3]) != (j, shift) && cell::norm(&cell::sub(&image, p)) < cutoff {
                    found.push((i as i64, j as i64, shift));
                }
            }
        }
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn brute_force_and_cell_lists_agree(
        points in points(40),
        given in matrix(),
        periodic in prop::array::uniform3(any::<bool>()),
        cutoff in 0.5..6.0f64,
        half in any::<bool>(),
    ) {
        prop_assume!(periodic != [true; 3] || cell::determinant(&given).abs() > 5.0);
        let [brute, cells] = BOTH.map(|algorithm| neighbor_list(&points, &given, periodic, cutoff, half, algorithm));
        if let (Ok(brute), Ok(cells)) = (&brute, &cells) {
            prop_assert!(brute == cells);
            prop_assert!(keys(brute).is_sorted_by(|a, b| a < b));
        } else {
            prop_assert_eq!(brute, cells);
        }
    }

    #[test]
    fn half_lists_are_one_direction_of_full_ones_and_vectors_exact_opposites(
        (points, given, periodic) in system(),
        cutoff in 0.5..9.0f64,
    ) {
        let full = neighbor_list(&points, &given, periodic, cutoff, false, Algorithm::Auto).unwrap();
        let half = neighbor_list(&points, &given, periodic, cutoff, true, Algorithm::Auto).unwrap();
        let table = |pairs: &Pairs, sign: i32| -> Vec<_> {
            let (vectors, _) = pairs.vectors.as_chunks::<3>();
            let rows = keys(pairs).into_iter().zip(&pairs.distances).zip(vectors);
            let turned = |((i, j, shift), d): ((i64, i64, [i32; 3]), &f64), v: &[f64; 3]| match sign {
                1 => ((i, j, shift), d.to_bits(), v.map(|x| (x + 0.0).to_bits())),
                _ => ((j, i, shift.map(|s| -s)), d.to_bits(), v.map(|x| (0.0 - x).to_bits())),
            };
            rows.map(|(row, vector)| turned(row, vector)).collect()
        };
        let mut both = [table(&half, 1), table(&half, -1)].concat();
        both.sort_unstable();
        prop_assert_eq!(both, table(&full, 1));
        for (i, j, shift) in keys(&half) {
            prop_assert!(i < j || i == j && shift > [0; 3]);
        }
    }

    #[test]
    fn a_batch_is_its_systems_whatever_the_threads(
        systems in prop::collection::vec(system(), 0..8),
        cutoff in 0.5..7.0f64,
        half in any::<bool>(),
    ) {
        let positions: Vec<Vec3> = systems.iter().flat_map(|(points, _, _)| points.clone()).collect();
        let cells: Vec<Matrix> = systems.iter().map(|&(_, given, _)| given).collect();
        let periodic: Vec<[bool; 3]> = systems.iter().map(|&(_, _, periodic)| periodic).collect();
        let mut offsets = vec![0];
        for (points, _, _) in &systems {
            offsets.push(offsets[offsets.len() - 1] + points.len() as i64);
        }
        let find = search(cutoff, half, Algorithm::Auto);
        let batch = neighbor_list_batch(&positions, &cells, &periodic, &offsets, &find, Some(1)).unwrap();
        let again = neighbor_list_batch(&positions, &cells, &periodic, &offsets, &find, Some(3)).unwrap();
        prop_assert!(batch == again);
        for (k, (points, given, periodic)) in systems.iter().enumerate() {
            let one = neighbors::neighbor_list(points, given, *periodic, &find).unwrap();
            let mine = batch.pair_offsets[k] as usize..batch.pair_offsets[k + 1] as usize;
            let i: Vec<i64> = batch.pairs.i[mine.clone()].iter().map(|i| i - offsets[k]).collect();
            let j: Vec<i64> = batch.pairs.j[mine.clone()].iter().map(|j| j - offsets[k]).collect();
            prop_assert_eq!(i, one.i);
            prop_assert_eq!(j, one.j);
            prop_assert_eq!(&batch.pairs.shifts[3 * mine.start..3 * mine.end], one.shifts);
            prop_assert_eq!(&batch.pairs.distances[mine.clone()], one.distances);
            prop_assert_eq!(&batch.pairs.vectors[3 * mine.start..3 * mine.end], one.vectors);
        }
    }

    #[test]
    fn any_numbers_end_in_a_list_or_an_error(
        points in prop::collection::vec(prop::array::uniform3(any::<f64>()), 0..5),
        given in prop::array::uniform3(prop::array::uniform3(any::<f64>())),
        periodic in prop::array::uniform3(any::<bool>()),
        cutoff in any::<f64>(),
    ) {
        for algorithm in BOTH {
            let _ = neighbor_list(&points, &given, periodic, cutoff, false, algorithm);
        }
        let find = search(cutoff, true, Algorithm::Auto);
        let offsets = [0, points.len() as i64];
        let _ = neighbor_list_batch(&points, &[given], &[periodic], &offsets, &find, Some(1));
    }

    #[test]
    fn magnitudes_that_pass_the_checks_agree(
        exponents in prop::array::uniform4(-40..40i32),
        points in points(20),
        periodic in prop::array::uniform3(any::<bool>()),
    ) {
        let [a, b, c, scale] = exponents.map(|e| 10.0_f64.powi(e));
        let given = [[5.0 * a, 0.1 * a, 0.0], [0.0, 6.0 * b, 0.2 * b], [0.3 * c, 0.0, 7.0 * c]];
        let points: Vec<Vec3> = points.iter().map(|p| cell::scaled(p, scale.min(1e7))).collect();
        let cutoff = 3.0 * [a, b, c].into_iter().fold(f64::INFINITY, f64::min);
        let [brute, cells] = BOTH.map(|algorithm| neighbor_list(&points, &given, periodic, cutoff, false, algorithm));
        prop_assert_eq!(brute, cells);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn equals_all_images_tried_by_hand((points, given, _) in system(), cutoff in 0.5..9.0f64) {
        let given = given.map(|row| cell::scaled(&row, 0.4));
        let reference = by_hand(&points, &given, cutoff);
        for algorithm in BOTH {
            let pairs = neighbor_list(&points, &given, [true; 3], cutoff, false, algorithm).unwrap();
            prop_assert_eq!(&keys(&pairs), &reference);
        }
    }
}

/// All distances and vectors, down to the sign of zeros.
fn bits(pairs: &Pairs) -> Vec<u64> {
    pairs.distances.iter().chain(&pairs.vectors).map(|x| x.to_bits()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Many atoms and long rows, from sparse to dense, wrapped and not.
    #[test]
    fn large_systems_agree_bit_for_bit(
        points in prop::collection::vec(prop::array::uniform3(-0.5..1.5f64), 30..400),
        (_, given, periodic) in system(),
        scale in 0.3..3.0f64,
        cutoff in 0.5..7.0f64,
        half in any::<bool>(),
    ) {
        let given = given.map(|row| cell::scaled(&row, scale));
        let points: Vec<Vec3> = points.iter().map(|p| cell::combine(p, &given)).collect();
        prop_assume!(cutoff.powi(3) * 4.0 * (points.len() as f64).powi(2) < 2e6 * cell::determinant(&given).abs());
        let [brute, cells] =
            BOTH.map(|algorithm| neighbor_list(&points, &given, periodic, cutoff, half, algorithm).unwrap());
        prop_assert!(keys(&brute) == keys(&cells) && bits(&brute) == bits(&cells));
    }

    /// Distances at the cutoff, or off by the last bit: single precision cannot tell.
    #[test]
    fn grids_agree_bit_for_bit(
        side in 2..7usize,
        spacing in 0.9..1.1f64,
        steps in 0..4usize,
        off in 0..3usize,
        origin in -1e6..1e6f64,
    ) {
        let edge = spacing * side as f64;
        let given = [[edge, 0.0, 0.0], [0.0, edge, 0.0], [0.0, 0.0, edge]];
        let points: Vec<Vec3> = (0..side.pow(3))
            .map(|k| [k / side / side, k / side % side, k % side].map(|x| x as f64 * spacing + origin))
            .collect();
        let exact = spacing * [1.0, 2.0_f64.sqrt(), 3.0_f64.sqrt(), 2.0][steps];
        let cutoff = [exact.next_down(), exact, exact.next_up()][off];
        for periodic in [[true; 3], [false, true, true]] {
            let [brute, cells] =
                BOTH.map(|algorithm| neighbor_list(&points, &given, periodic, cutoff, false, algorithm).unwrap());
            prop_assert!(keys(&brute) == keys(&cells) && bits(&brute) == bits(&cells));
        }
    }

    /// Brute force and bins within one batch.
    #[test]
    fn batches_of_mixed_sizes_are_their_systems(
        sizes in prop::collection::vec(0..40usize, 0..12),
        points in prop::collection::vec(prop::array::uniform3(-5.0..15.0f64), 480),
        half in any::<bool>(),
    ) {
        let given = [[10.0, 0.0, 0.0], [1.0, 9.0, 0.0], [0.0, -2.0, 11.0]];
        let offsets: Vec<i64> =
            (0..=sizes.len()).map(|k| sizes[..k].iter().sum::<usize>() as i64).collect();
        let points = &points[..offsets[sizes.len()] as usize];
        let (cells, periodic) = (vec![given; sizes.len()], vec![[true, true, false]; sizes.len()]);
        let find = search(4.5, half, Algorithm::Auto);
        let batch = neighbor_list_batch(points, &cells, &periodic, &offsets, &find, Some(2)).unwrap();
        for k in 0..sizes.len() {
            let (first, end) = (offsets[k] as usize, offsets[k + 1] as usize);
            let one = neighbors::neighbor_list(&points[first..end], &given, periodic[k], &find).unwrap();
            let mine = batch.pair_offsets[k] as usize..batch.pair_offsets[k + 1] as usize;
            let moved = |atoms: &[i64]| atoms.iter().map(|atom| atom + offsets[k]).collect::<Vec<_>>();
            prop_assert_eq!(&batch.pairs.i[mine.clone()], moved(&one.i));
            prop_assert_eq!(&batch.pairs.j[mine.clone()], moved(&one.j));
            prop_assert_eq!(&batch.pairs.shifts[3 * mine.start..3 * mine.end], one.shifts);
            prop_assert_eq!(&batch.pairs.distances[mine.clone()], one.distances);
            prop_assert_eq!(&batch.pairs.vectors[3 * mine.start..3 * mine.end], one.vectors);
        }
    }
}

#[test]
fn simple_cubic_shells() {
    let cube = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
    for (cutoff, shell) in [(1.1, 6), (1.5, 18), (1.8, 26), (2.1, 32)] {
        let pairs = neighbor_list(&[[0.3, 0.2, 7.0]], &cube, [true; 3], cutoff, false, Algorithm::Auto).unwrap();
        assert_eq!(pairs.i.len(), shell);
        let half = neighbor_list(&[[0.3, 0.2, 7.0]], &cube, [true; 3], cutoff, true, Algorithm::Auto).unwrap();
        assert_eq!(half.i.len(), shell / 2);
    }
}

#[test]
fn what_is_not_asked_for_stays_empty() {
    let mut find = search(2.0, false, Algorithm::Auto);
    find.quantities = Quantities::J.and(Quantities::DISTANCES);
    let pairs = neighbors::neighbor_list(&[[0.0; 3], [1.0; 3]], &[[0.0; 3]; 3], [false; 3], &find).unwrap();
    assert_eq!((pairs.i.len(), pairs.j.len(), pairs.shifts.len()), (0, 2, 0));
    assert_eq!((pairs.distances.len(), pairs.vectors.len()), (2, 0));
}

#[test]
fn messages_name_the_argument() {
    let none = [[0.0; 3]; 3];
    let at = |cutoff| neighbor_list(&[[0.0; 3]], &none, [false; 3], cutoff, false, Algorithm::Auto).unwrap_err();
    for cutoff in [f64::NAN, 0.0, -1.0, 1e-200, f64::INFINITY] {
        assert!(at(cutoff).to_string().starts_with("`cutoff` must be a positive"));
    }
    let flat = neighbor_list(&[[0.0; 3]], &none, [true; 3], 1.0, false, Algorithm::Auto).unwrap_err();
    assert!(flat.to_string().starts_with("`cell` must"));
    let find = search(1.0, false, Algorithm::Auto);
    let periodic = [[false; 3], [true; 3]];
    let batch = neighbor_list_batch(&[[0.0; 3]; 2], &[none; 2], &periodic, &[0, 1, 2], &find, None).unwrap_err();
    assert!(batch.to_string().starts_with("system 1: `cell` must"));
}
