//! How the cost of structure matching grows with atoms and with pairs: `cargo bench -p adit-core --bench matching`.
//! By pairs the throughput column is to stay level; by atoms the assignment makes it fall, as n^2 to n^3.

use adit_core::cell::{self, Matrix, Vec3};
use adit_core::matching::{Crystal, Options, crystals, fit_pairs, rms_pairs};
use adit_core::random::Random;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// Carbons at random places in skewed cells, each followed by a rattled copy of itself.
fn pairs_of_carbons(pairs: usize, atoms: usize, options: &Options) -> [Vec<Option<Crystal>>; 2] {
    let mut random = Random::new(1, 0);
    let (mut sides, mut cells): ([Vec<Vec3>; 2], Vec<Matrix>) = Default::default();
    for _ in 0..pairs {
        let edge = (7.0 * atoms as f64).cbrt();
        let mut rows = [[edge, 0.0, 0.0], [0.0, edge, 0.0], [0.0, 0.0, edge]];
        rows.iter_mut().flatten().for_each(|x| *x += 0.3 * edge * (random.uniform() - 0.5));
        for _ in 0..atoms {
            let place = cell::combine(&[random.uniform(), random.uniform(), random.uniform()], &rows);
            sides[0].push(place);
            sides[1].push(place.map(|x| x + 0.1 * (random.uniform() - 0.5)));
        }
        cells.push(rows);
    }
    let offsets: Vec<i64> = (0..=pairs as i64).map(|k| k * atoms as i64).collect();
    let numbers = vec![6; pairs * atoms];
    sides.map(|places| crystals(&numbers, &places, &cells, &offsets, options, Some(1)).unwrap_or_default())
}

fn measure(criterion: &mut Criterion, title: &str, sizes: &[(usize, usize)], threads: usize) {
    let options = Options { ltol: 0.3, stol: 0.5, angle_tol: 10.0, ..Options::default() };
    let mut group = criterion.benchmark_group(title);
    group.sample_size(10);
    for &(pairs, atoms) in sizes {
        let [left, right] = pairs_of_carbons(pairs, atoms, &options);
        let indices: Vec<[i64; 2]> = (0..pairs as i64).map(|k| [k, k]).collect();
        let size = format!("{pairs} pairs of {atoms}");
        group.throughput(Throughput::Elements((pairs * atoms) as u64));
        group.bench_function(BenchmarkId::new("fit", &size), |bencher| {
            bencher.iter(|| fit_pairs(&left, &right, &indices, false, &options, Some(threads)));
        });
        group.bench_function(BenchmarkId::new("rms", &size), |bencher| {
            bencher.iter(|| rms_pairs(&left, &right, &indices, &options, Some(threads)));
        });
    }
    group.finish();
}

fn atoms(criterion: &mut Criterion) {
    measure(criterion, "matching by atoms", &[(20, 4), (20, 8), (20, 16), (20, 32)], 1);
}

fn batch(criterion: &mut Criterion) {
    for threads in [1, 2] {
        let title = format!("matching by pairs, {threads} threads");
        measure(criterion, &title, &[(1, 8), (10, 8), (100, 8), (300, 8)], threads);
    }
}

criterion_group!(benches, atoms, batch);
criterion_main!(benches);
