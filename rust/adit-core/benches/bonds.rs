//! How the cost of bond inference grows with atoms and with the batch: `cargo bench -p adit-core --bench bonds`.
//! The throughput column is to stay level once a call's fixed cost, about 10 us to wake a thread, is small.

use adit_core::bonds;
use adit_core::cell::Vec3;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// A zigzag chain of carbons with all its hydrogens, atoms in Angstrom: an alkane of `carbons` carbons.
fn alkane(carbons: usize) -> (Vec<u8>, Vec<Vec3>) {
    let (mut numbers, mut places) = (Vec::new(), Vec::new());
    for k in 0..carbons {
        let up = if k % 2 == 0 { 1.0 } else { -1.0 };
        let at = [1.257 * k as f64, 0.44 * up, 0.0];
        let mut add = |number, offset: Vec3| {
            numbers.push(number);
            places.push([at[0] + offset[0], at[1] + offset[1], at[2] + offset[2]]);
        };
        add(6, [0.0; 3]);
        add(1, [0.0, 0.629 * up, 0.890]);
        add(1, [0.0, 0.629 * up, -0.890]);
        if k == 0 {
            add(1, [-0.890, -0.629 * up, 0.0]);
        }
        if k + 1 == carbons {
            add(1, [0.890, -0.629 * up, 0.0]);
        }
    }
    (numbers, places)
}

fn measure(criterion: &mut Criterion, title: &str, sizes: &[(usize, usize)], threads: usize) {
    let mut group = criterion.benchmark_group(title);
    group.sample_size(20);
    for &(systems, carbons) in sizes {
        let (one, places) = alkane(carbons);
        let (numbers, positions) = (one.repeat(systems), places.repeat(systems));
        let offsets: Vec<i64> = (0..=systems).map(|k| (k * one.len()) as i64).collect();
        group.throughput(Throughput::Elements(numbers.len() as u64));
        let size = BenchmarkId::from_parameter(format!("{systems} molecules of {} atoms", one.len()));
        group.bench_function(size, |bencher| {
            bencher.iter(|| bonds::infer_batch(&numbers, &positions, &offsets, None, Some(threads)));
        });
    }
    group.finish();
}

fn atoms(criterion: &mut Criterion) {
    measure(criterion, "bonds by atoms", &[(1, 3), (1, 10), (1, 33), (1, 100), (1, 333)], 1);
}

fn batch(criterion: &mut Criterion) {
    for threads in [1, 2] {
        let title = format!("bonds by molecules, {threads} threads");
        measure(criterion, &title, &[(1, 6), (10, 6), (100, 6), (1_000, 6), (10_000, 6)], threads);
    }
}

criterion_group!(benches, atoms, batch);
criterion_main!(benches);
