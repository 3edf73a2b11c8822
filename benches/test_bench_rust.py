"""Packing and neighbour lists of `adit._rust` beside what users would otherwise take.

One thread. Compare within a group of one run only: absolute times drift with the machine.
"""

import numpy as np
import pytest
import vesin
from pymatgen.optimization.neighbors import find_points_in_spheres

from adit import _rust

ALL = (True, True, True)
PEROVSKITE = np.array([[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])


def small_crystals():
    """50 perovskites of 5 atoms, rattled and strained."""
    rng = np.random.default_rng(0)
    cells = np.eye(3) * rng.uniform(3.7, 4.2, size=(50, 1, 1)) + rng.normal(size=(50, 3, 3)) * 0.05
    return [(np.ascontiguousarray(PEROVSKITE @ cell + rng.normal(size=(5, 3)) * 0.05), cell) for cell in cells]


def large_crystal():
    """4,000 atoms at the density of a perovskite, at random places."""
    rng = np.random.default_rng(1)
    cell = np.eye(3) * (4000 / 0.0588) ** (1 / 3)
    return [(np.ascontiguousarray(rng.random((4000, 3)) @ cell), cell)]


SYSTEMS = {"50 x 5 atoms": small_crystals, "4000 atoms": large_crystal}


def by_adit(systems, cutoff):
    return [_rust.neighbor_list("ijSd", positions, cell, ALL, cutoff) for positions, cell in systems]


def by_pymatgen(systems, cutoff):
    pbc = np.ones(3, dtype=np.int64)
    return [find_points_in_spheres(positions, positions, cutoff, pbc, cell, 1e-8) for positions, cell in systems]


def by_vesin(systems, cutoff):
    calculator = vesin.NeighborList(cutoff=cutoff, full_list=True)
    return [
        calculator.compute(points=positions, box=cell, periodic=True, quantities="ijSd") for positions, cell in systems
    ]


@pytest.mark.parametrize("library", [by_adit, by_pymatgen, by_vesin])
@pytest.mark.parametrize("cutoff", [5.0, 6.0])
@pytest.mark.parametrize("name", SYSTEMS)
def test_neighbor_list(benchmark, name, cutoff, library):
    benchmark.group = f"neighbour list, {name}, {cutoff:.0f} A"
    systems = SYSTEMS[name]()
    lists = benchmark(library, systems, cutoff)
    count = sum(len(one[0]) for one in lists) - (
        sum(map(len, (s[0] for s in systems))) if library is by_pymatgen else 0
    )
    assert count == sum(len(one[0]) for one in by_adit(systems, cutoff))
    benchmark.extra_info["pairs"] = count


def molecules():
    """130,000 molecules of QM9's sizes, and one shuffled batch of 256."""
    rng = np.random.default_rng(2)
    offsets = np.concatenate([[0], np.cumsum(rng.integers(10, 27, 130_000))])
    numbers = rng.integers(1, 10, offsets[-1]).astype(np.uint8)
    positions = rng.normal(size=(offsets[-1], 3)).astype(np.float32)
    return offsets, rng.integers(0, 130_000, 256), numbers, positions


def gather_by_numpy(offsets, indices, numbers, positions):
    sizes = offsets[indices + 1] - offsets[indices]
    new = np.concatenate([[0], np.cumsum(sizes)])
    atoms = np.repeat(offsets[indices] - new[:-1], sizes) + np.arange(new[-1])
    return numbers[atoms], positions[atoms], new


@pytest.mark.parametrize("library", [_rust.gather, gather_by_numpy], ids=["by_adit", "by_numpy"])
def test_gather(benchmark, library):
    benchmark.group = "gather 256 molecules"
    store = molecules()
    batch = benchmark(library, *store)
    assert all(np.array_equal(ours, theirs) for ours, theirs in zip(_rust.gather(*store), batch, strict=True))


@pytest.mark.parametrize("kind", ["molecules", "crystals"])
def test_min_distances(benchmark, kind):
    benchmark.group = f"smallest distance, 20,000 {kind}"
    rng = np.random.default_rng(3)
    offsets = np.concatenate([[0], np.cumsum(rng.integers(2, 21, 20_000))])
    cells = (np.eye(3) * 8 + rng.normal(size=(20_000, 3, 3))).astype(np.float32)
    positions = rng.uniform(0, 8, size=(offsets[-1], 3)).astype(np.float32)
    periodic = np.full(20_000, kind == "crystals")
    assert np.isfinite(benchmark(_rust.min_distances, positions, cells, periodic, offsets, 1)).all()


def test_niggli(benchmark):
    benchmark.group = "Niggli reduction, 2,000 cells"
    cells = np.random.default_rng(4).normal(size=(2000, 3, 3)) * 5
    assert benchmark(_rust.niggli_reduce, cells, 1).shape == (2000, 3, 3)
