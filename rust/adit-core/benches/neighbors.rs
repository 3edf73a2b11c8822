//! How the cost of neighbour lists grows with atoms and with the batch: `cargo bench -p adit-core --bench neighbors`.
//! The throughput column is to stay level.

use adit_core::cell::{self, Matrix, Vec3};
use adit_core::neighbors::{Algorithm, Quantities, Search, neighbor_list, neighbor_list_batch};
use adit_core::random::Random;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const SEARCH: Search = Search {
    cutoff: 5.0,
    half: false,
    algorithm: Algorithm::Auto,
    quantities: Quantities::I.and(Quantities::J).and(Quantities::SHIFTS).and(Quantities::DISTANCES),
};

/// Atoms near the points of a grid, row by row as in a supercell, at the density of a perovskite.
fn crystal(atoms: usize, random: &mut Random) -> (Vec<Vec3>, Matrix) {
    let side = (1..1000_usize).find(|side| side.pow(3) >= atoms).unwrap_or(1000);
    let edge = (atoms as f64 / 0.0588).cbrt();
    let given = [[edge, 0.0, 0.0], [0.1 * edge, edge, 0.0], [-0.1 * edge, 0.1 * edge, edge]];
    let mut place = |k: usize| {
        let point = [k / side / side % side, k / side % side, k % side];
        cell::combine(&point.map(|x| (x as f64 + random.uniform()) / side as f64), &given)
    };
    // Evenly spread, however many points the grid has too many.
    ((0..atoms).map(|k| place(k * side.pow(3) / atoms)).collect(), given)
}

fn atoms(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("neighbour list by atoms");
    group.sample_size(20);
    for count in [5, 20, 100, 1_000, 10_000, 100_000] {
        let (points, given) = crystal(count, &mut Random::new(1, 0));
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
            let mut random = Random::new(2, 0);
            let (points, cells): (Vec<_>, Vec<_>) = (0..count).map(|_| crystal(5, &mut random)).unzip();
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
