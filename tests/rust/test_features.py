"""`adit.features` against numpy, pymatgen and the statistics of what is random."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.util.coord import pbc_shortest_vectors
from scipy import stats

from adit import _rust, features
from adit.data.packed import PackedDataset
from adit.errors import InvalidInputError
from adit.packing import pack
from adit.system import AtomicSystem

TINY = PackedDataset.load(Path(__file__).parents[1] / "fixtures" / "tiny_dataset")
WATER = AtomicSystem([8, 1, 1], [[0.0, 0.0, 0.1], [0.0, 0.76, -0.5], [0.0, -0.76, -0.5]], info={"id": "water"})
SALT = AtomicSystem.from_fractional([11, 17], [[0, 0, 0], [0.5, 0.5, 0.5]], 2.8 * (1 - np.eye(3)))
N = 20_000


# --- The reference: SplitMix64 and Shoemake's quaternion in numpy ----------------------------------------------------


def mix(bits):
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


def operations_by_numpy(seed, count):
    golden = np.uint64(0x9E3779B97F4A7C15)
    with np.errstate(over="ignore"):
        state = mix(mix(np.uint64(seed) + golden) ^ np.arange(count, dtype=np.uint64))
        steps = (np.arange(1, 7, dtype=np.uint64) * golden)[None]
        u = (mix(state[:, None] + steps) >> np.uint64(11)) / 2.0**53
    inner, outer = np.sqrt(1 - u[:, 0]), np.sqrt(u[:, 0])
    a, b = 2 * np.pi * u[:, 1], 2 * np.pi * u[:, 2]
    x, y, z, w = inner * np.sin(a), inner * np.cos(a), outer * np.sin(b), outer * np.cos(b)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w),
        2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w),
        2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return np.stack(rows, -1).reshape(count, 3, 3), u[:, 3:]


@pytest.mark.parametrize("seed", [0, 1, 12345, 2**63 + 5, 2**64 - 1])
def test_operations_equal_the_numpy_reference(seed):
    for found, expected in zip(features.random_operations(500, seed), operations_by_numpy(seed, 500), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-14)


@pytest.fixture(scope="module")
def operations():
    return features.random_operations(N, 7)


def test_rotations_are_proper(operations):
    rotations = operations[0]
    identity = np.broadcast_to(np.eye(3), rotations.shape)
    np.testing.assert_allclose(rotations @ rotations.transpose(0, 2, 1), identity, rtol=0, atol=1e-14)
    np.testing.assert_allclose(np.linalg.det(rotations), 1, rtol=0, atol=1e-14)


def test_rotations_are_uniform(operations):
    """Angles have the density (1 - cos) / pi of the Haar measure, images of a vector cover the sphere
    (Archimedes), the matrix elements have the moments of Schur orthogonality."""
    rotations = operations[0]
    angles = np.arccos(((np.trace(rotations, axis1=1, axis2=2) - 1) / 2).clip(-1, 1))
    assert stats.kstest(angles, lambda a: (a - np.sin(a)) / math.pi).pvalue > 1e-3
    for vector in ((1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.6, 0.0, -0.8)):
        for component in (np.array(vector) @ rotations).T:
            assert stats.kstest(component, stats.uniform(-1, 2).cdf).pvalue > 1e-3
    flat = rotations.reshape(N, 9)
    assert np.abs(flat.mean(0)).max() < 5 / math.sqrt(N)
    assert np.abs(flat.T @ flat / N - np.eye(9) / 3).max() < 5 / math.sqrt(N)


def test_shifts_are_uniform_and_independent(operations):
    rotations, shifts = operations
    for axis in range(3):
        assert stats.kstest(shifts[:, axis], "uniform").pvalue > 1e-3
    columns = np.column_stack([shifts, rotations.reshape(N, 9)[:, [0, 4, 8]], shifts[np.arange(N) - 1]])
    correlation = np.corrcoef(columns.T)[:3]
    correlation[:, :3] -= np.eye(3)
    assert np.abs(correlation).max() < 5 / math.sqrt(N), "with each other, the rotations, the neighbour in the batch"


def test_seeds_and_systems_have_streams_of_their_own():
    shifts = np.concatenate([features.random_operations(1000, seed)[1] for seed in range(20)])
    assert len(np.unique(shifts, axis=0)) == len(shifts)


# --- Augmentation ----------------------------------------------------------------------------------------------------


def augment_by_numpy(packed, seed, rotate_crystals=False):
    rotations, shifts = operations_by_numpy(seed, len(packed.cells))
    positions, cells = packed.positions.copy(), packed.cells.copy()
    for k, (start, stop) in enumerate(zip(packed.offsets[:-1], packed.offsets[1:], strict=True)):
        x = packed.positions[start:stop]
        if not packed.periodic[k]:
            positions[start:stop] = x.mean(0) + (x - x.mean(0)) @ rotations[k]
            continue
        fractional = x @ np.linalg.inv(packed.cells[k]) + shifts[k]
        cells[k] = cells[k] @ rotations[k] if rotate_crystals else cells[k]
        positions[start:stop] = (fractional - np.floor(fractional)) @ cells[k]
    return positions, cells


def on_the_torus(difference, cell):
    fractional = difference @ np.linalg.inv(cell)
    return (fractional - np.round(fractional)) @ cell


@pytest.mark.parametrize("rotate_crystals", [False, True])
def test_augmentation_equals_the_numpy_reference(rotate_crystals):
    packed = pack(TINY)
    after = features.augment(packed, 3, rotate_crystals=rotate_crystals)
    positions, cells = augment_by_numpy(packed, 3, rotate_crystals)
    np.testing.assert_allclose(after.cells, cells, rtol=0, atol=1e-12)
    for k, (start, stop) in enumerate(zip(packed.offsets[:-1], packed.offsets[1:], strict=True)):
        difference = after.positions[start:stop] - positions[start:stop]
        if packed.periodic[k]:
            difference = on_the_torus(difference, cells[k])
        assert np.abs(difference).max(initial=0) < 1e-10
    assert np.array_equal(after.numbers, packed.numbers) and np.array_equal(after.offsets, packed.offsets)
    wrapped = features.fractional_coordinates(after)
    assert (wrapped >= 0).all() and (wrapped < 1).all()


def test_threads_do_not_matter_and_the_seed_does():
    packed = pack(TINY)
    one = features.augment(packed, 5, threads=1)
    assert len(packed.positions) < 4096, "less is done without threads"
    many = packed._replace(
        positions=np.tile(packed.positions, (4, 1)),
        cells=np.tile(packed.cells, (4, 1, 1)),
        offsets=np.concatenate([[0], *(packed.offsets[1:] + k * packed.offsets[-1] for k in range(4))]),
        periodic=np.tile(packed.periodic, 4),
    )
    runs = [features.augment(many, 5, threads=threads).positions for threads in (1, 2, 5, None)]
    assert all(np.array_equal(run, runs[0]) for run in runs)
    assert np.array_equal(runs[0][: len(packed.positions)], one.positions)
    assert not np.array_equal(features.augment(packed, 6).positions, one.positions)


def test_one_system_stays_one():
    turned = features.augment(WATER, 1)
    assert isinstance(turned, AtomicSystem) and turned.info == WATER.info and not turned.is_periodic
    assert turned == features.augment(WATER.to_ase(), 1)
    np.testing.assert_allclose(turned.positions.mean(0), WATER.positions.mean(0), atol=1e-15)
    shifted = features.augment(SALT, 1)
    assert np.array_equal(shifted.cell, SALT.cell)
    np.testing.assert_allclose(
        features.minimum_image_distances(shifted), features.minimum_image_distances(SALT), atol=1e-12
    )


# --- Gathering -------------------------------------------------------------------------------------------------------


def test_gather_takes_data_sets_and_packs():
    indices = np.random.default_rng(0).integers(0, len(TINY), 50)
    from_store, from_pack = features.gather(TINY, indices), features.gather(pack(TINY), indices.tolist())
    expected = pack([TINY[int(k)] for k in indices])
    for found in (from_store, from_pack):
        for one, other in zip(found, expected, strict=True):
            assert one.dtype == other.dtype and np.array_equal(one, other)


def test_gather_with_a_seed_augments():
    indices = np.arange(0, 300, 7)
    plain, augmented = features.gather(TINY, indices), features.gather(TINY, indices, seed=9)
    expected = features.augment(plain, 9)
    # The store is in single precision: it is augmented as it is.
    np.testing.assert_allclose(augmented.cells, expected.cells, atol=1e-5)
    difference = augmented.positions - expected.positions
    owner = np.repeat(np.arange(len(indices)), np.diff(plain.offsets))
    for k in range(len(indices)):
        mine = difference[owner == k]
        assert np.abs(on_the_torus(mine, plain.cells[k]) if plain.periodic[k] else mine).max() < 1e-4


def test_buckets_of_padded_rows_hold_everything():
    indices = np.arange(len(TINY))
    sizes = np.diff(TINY.offsets)
    widths = np.array([4, 8, 16, sizes.max()])
    atoms = 0
    for width, bucket in zip(widths, features.bucket_by_size(sizes, widths), strict=True):
        padded = features.gather_padded(TINY, indices[bucket], int(width))
        assert padded.numbers.shape == (len(bucket), width)
        assert np.array_equal(padded.mask.sum(1), sizes[bucket])
        atoms += padded.mask.sum()
    assert atoms == TINY.offsets[-1]
    assert features.gather_padded(TINY, [0, 5]).numbers.shape[1] == sizes[[0, 5]].max()
    assert features.gather_padded(TINY, []).mask.shape == (0, 0)


def test_lists_are_taken_and_what_is_wrong_is_named():
    sizes = np.diff(TINY.offsets)
    buckets = features.bucket_by_size(sizes.tolist(), [8, 200])
    for found, expected in zip(buckets, features.bucket_by_size(sizes, np.array([8, 200])), strict=True):
        assert np.array_equal(found, expected)
    assert features.plan_batches([3, 3, 3], [2, 0, 1], 6, 9).tolist() == [0, 2, 3]
    held = list(TINY)[:3]
    for made, expected in zip(features.gather(held, [2, 0]), features.gather(pack(held), [2, 0]), strict=True):
        assert np.array_equal(made, expected)
    assert features.gather_padded(held, [1]).mask.shape == (1, sizes[1])
    for bad in ([1.5], [[1]], "ab"):
        with pytest.raises(InvalidInputError, match="`sizes` must be whole numbers"):
            features.bucket_by_size(bad, [4])
        with pytest.raises(InvalidInputError, match="`order` must be whole numbers"):
            features.plan_batches([3], bad, 6, 9)


# --- Fractional coordinates, Fourier features, distances -------------------------------------------------------------


def test_fractional_coordinates_are_wrapped():
    packed = pack(TINY)
    found = features.fractional_coordinates(TINY)
    for k, system in enumerate(TINY):
        mine = found[packed.offsets[k] : packed.offsets[k + 1]]
        if not system.is_periodic:
            assert not mine.any()
            continue
        expected = np.linalg.solve(system.cell.T, system.positions.T).T
        apart = mine - expected
        np.testing.assert_allclose(apart, np.round(apart), rtol=0, atol=1e-12)
        assert (mine >= 0).all() and (mine < 1).all()
    np.testing.assert_allclose(features.fractional_coordinates(SALT), [[0, 0, 0], [0.5, 0.5, 0.5]], atol=1e-15)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-12), (np.float32, 2e-6)])
def test_fourier_features_equal_numpy(dtype, tolerance):
    fractional = np.random.default_rng(0).uniform(-2, 2, size=(40, 5, 3)).astype(dtype)
    found = features.fourier_features(fractional, 16)
    assert found.shape == (40, 5, 3, 32) and found.dtype == dtype
    angles = 2 * np.pi * fractional.astype(np.float64)[..., None] * np.arange(1, 17)
    np.testing.assert_allclose(found, np.concatenate([np.sin(angles), np.cos(angles)], -1), rtol=0, atol=tolerance)
    shifted = features.fourier_features(fractional.astype(np.float64) + 3, 16)
    np.testing.assert_allclose(shifted, found, rtol=0, atol=1e-5)
    assert features.fourier_features(fractional, 0).shape == (40, 5, 3, 0)
    assert features.fourier_features([[0, 1, 2]], 1).tolist() == [[[0.0, 1.0]] * 3]


def distances_by_numpy(system, reach=3):
    """All images of a reduced cell that is given as such by pymatgen's LLL, far enough out."""
    difference = system.positions[None] - system.positions[:, None]
    if not system.is_periodic:
        return np.linalg.norm(difference, axis=-1)
    cell = system.to_pymatgen().lattice.get_lll_reduced_lattice().matrix
    fractional = difference @ np.linalg.inv(cell)
    start = (fractional - np.round(fractional)) @ cell
    steps = np.stack(np.meshgrid(*[np.arange(-reach, reach + 1)] * 3, indexing="ij"), -1).reshape(-1, 3) @ cell
    return np.linalg.norm(start[:, :, None] + steps, axis=-1).min(-1)


def skewed(rng):
    cell = rng.normal(size=(3, 3)) * rng.uniform(1, 12, size=(3, 1))
    cell[2] += rng.integers(-4, 5) * cell[0] + rng.integers(-4, 5) * cell[1]
    return cell


def test_distances_are_to_the_nearest_image_in_skewed_cells():
    rng = np.random.default_rng(0)
    systems = [WATER]
    while len(systems) < 60:
        cell = skewed(rng)
        if abs(np.linalg.det(cell)) > 0.02 * np.prod(np.linalg.norm(cell, axis=1)):
            systems.append(AtomicSystem(np.full(7, 6), rng.uniform(-20, 20, size=(7, 3)), cell))
    flat, offsets = features.minimum_image_distances(systems)
    for k, system in enumerate(systems):
        mine = flat[offsets[k] : offsets[k + 1]].reshape(len(system), len(system))
        np.testing.assert_allclose(mine, distances_by_numpy(system), rtol=0, atol=1e-9)
        assert np.array_equal(mine, mine.T) and not mine.diagonal().any()
        assert np.array_equal(mine, features.minimum_image_distances(system))


def test_distances_of_real_crystals_equal_pymatgen():
    for system in TINY.subset(np.flatnonzero(TINY.periodic)[::5]):
        lattice = system.to_pymatgen().lattice
        squared = pbc_shortest_vectors(lattice, system.fractional, system.fractional, return_d2=True)[1]
        expected = np.sqrt(squared)
        np.fill_diagonal(expected, 0)
        np.testing.assert_allclose(features.minimum_image_distances(system), expected, rtol=0, atol=1e-7)


# --- Nasty input -----------------------------------------------------------------------------------------------------


def test_batches_of_nothing():
    empty = AtomicSystem([], [])
    for systems in ([], [empty], [empty, WATER, empty]):
        assert len(features.augment(systems, 0).positions) == sum(map(len, systems))
        assert features.minimum_image_distances(systems)[1][-1] == sum(len(system) ** 2 for system in systems)
    assert features.gather(pack([WATER]), []).offsets.tolist() == [0]
    assert features.minimum_image_distances(empty).shape == (0, 0)
    assert len(features.augment(empty, 0)) == 0


def refusal(call, *arguments):
    try:
        call(*arguments)
    except InvalidInputError as error:
        return str(error)
    return None


numbers = st.floats(allow_nan=True, allow_infinity=True)


@given(st.lists(st.lists(numbers, min_size=3, max_size=3), max_size=5), st.lists(numbers, min_size=9, max_size=9))
@settings(max_examples=100, deadline=None)
def test_any_numbers_end(points, cell):
    positions, cells = np.array(points).reshape(-1, 3), np.array(cell).reshape(1, 3, 3)
    for periodic in (False, True):
        arguments = (positions, cells, np.array([periodic]), np.array([0, len(positions)]))
        for call in (_rust.fractional, _rust.image_distances, lambda *rest: _rust.augment(*rest, 0, True)):
            message = refusal(call, *arguments)
            assert message is None or (periodic and "`cells[0]`" in message)


GOOD = {
    "positions": WATER.positions,
    "cells": np.zeros((1, 3, 3)),
    "periodic": np.zeros(1, bool),
    "offsets": np.array([0, 3]),
}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"positions": WATER.positions.astype(np.float16)}, "`positions`"),
        ({"positions": WATER.positions.astype(np.float32)}, "`cells`.*float32"),
        ({"cells": np.zeros((2, 3, 3))}, "`cells`"),
        ({"periodic": np.zeros(2, bool)}, "`periodic`"),
        ({"periodic": np.ones(1, bool)}, r"`cells\[0\]`"),
        ({"offsets": np.array([0, 4])}, "`offsets`"),
        ({"threads": 0}, "`threads`"),
    ],
)
def test_the_core_refuses_by_name(change, named):
    for call, extra in ((_rust.augment, {"seed": 0}), (_rust.fractional, {}), (_rust.image_distances, {})):
        with pytest.raises(InvalidInputError, match=named):
            call(**{**GOOD, **change}, **extra)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: features.augment(WATER, -1), "`seed`"),
        (lambda: features.augment(WATER, 2**64), "`seed`"),
        (lambda: features.augment(WATER, 0.5), "`seed`"),
        (lambda: features.augment("water", 0), "AtomicSystem"),
        (lambda: features.random_operations(-1, 0), "`count`"),
        (lambda: features.random_operations(2**40, 0), "operations"),
        (lambda: features.gather(TINY, [0, 300]), "`indices`"),
        (lambda: features.gather(TINY, [-1]), "`indices`"),
        (lambda: features.gather(TINY, [0.5]), "`indices`"),
        (lambda: features.gather(TINY, 3), "`indices`"),
        (lambda: features.gather_padded(TINY, [0, 1], 1), "`width`"),
        (lambda: features.gather_padded(TINY, [300]), "`indices`"),
        (lambda: features.fourier_features("abc", 3), "`fractional`"),
        (lambda: features.fourier_features(np.zeros(3), -1), "`frequencies`"),
        (lambda: features.fourier_features(np.zeros(3), 2**40), "Fourier"),
    ],
)
def test_public_functions_refuse_by_name(call, named):
    with pytest.raises(InvalidInputError, match=named):
        call()
