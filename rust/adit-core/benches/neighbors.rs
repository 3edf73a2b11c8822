//! How the cost of neighbour lists grows with atoms and with the batch: `cargo bench -p adit-core --bench neighbors`.
//! The throughput column is to stay level.

use adit_core::cell::{self, Matrix, Vec3};
use adit_core::neighbors::{Algorithm, Quantities, Search, neighbor_list, neighbor_list_batch};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const SEARCH: Search = Search {
    cutoff: 5.0,
    half: false,
    algorithm: Algorithm::Auto,
    quantities: Quantities::I.and(Quantities::J).and(Quantities::SHIFTS).and(Quantities::DISTANCES),
};

/// Atoms at random places, at the density of a perovskite; a linear congruential generator is random enough.
fn crystal(atoms: usize, state: &mut u64) -> (Vec<Vec3>, Matrix) {
    let mut random = || {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*state >> 11) as f64 / (1_u64 << 53) as f64
    };
    let edge = (atoms as f64 / 0.0588).cbrt();
    let skew = 0.1 * edge;
    let given = [[edge, 0.0, 0.0], [skew, edge, 0.0], [-skew, skew, edge]];
    ((0..atoms).map(|_| cell::combine(&[random(), random(), random()], &given)).collect(), given)
}

fn atoms(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("neighbour list by atoms");
    group.sample_size(20);
    for count in [5, 20, 100, 1_000, 10_000, 100_000] {
        let (points, given) = crystal(count, &mut 1);
        group.throughput(Throughput::Elements(count as u64));
        group.bench_with_input(BenchmarkId::from_parameter(count), &points, |bencher, points| {
            bencher.iter(|| neighbor_list(points, &given, [true; 3], &SEARCH));
        });
    }
    group.finish();
}

fn batch(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("neighbour list by systems of 5 atoms");
    group.sample_size(20);
    for threads in [1, 2] {
        for count in [1, 10, 100, 1_000, 10_000] {
            let mut state = 2;
            let (points, cells): (Vec<_>, Vec<_>) = (0..count).map(|_| crystal(5, &mut state)).unzip();
            let points = points.concat();
            let offsets: Vec<i64> = (0..=count as i64).map(|k| 5 * k).collect();
            let periodic = vec![[true; 3]; count];
            group.throughput(Throughput::Elements(count as u64));
            group.bench_function(BenchmarkId::new(format!("{threads} threads"), count), |bencher| {
                bencher.iter(|| neighbor_list_batch(&points, &cells, &periodic, &offsets, &SEARCH, Some(threads)));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, atoms, batch);
criterion_main!(benches);
