"""The same pairs as vesin and matscipy, on real and on random structures; thousands of them in the slow tests."""

from __future__ import annotations

from pathlib import Path

import matscipy.neighbours
import numpy as np
import pytest
import vesin

from adit.data.packed import PackedDataset
from adit.neighbors import neighbor_list, neighbor_list_batch

TINY = Path(__file__).parents[1] / "fixtures" / "tiny_dataset"
PBC = [(a, b, c) for a in (True, False) for b in (True, False) for c in (True, False)]
ALL, NONE = (True, True, True), (False, False, False)


def table(i, j, shifts):
    rows = np.column_stack([i, j, shifts]).astype(np.int64)
    return rows[np.lexsort(rows.T[::-1])]


def by_matscipy(positions, cell, pbc, cutoff):
    if not any(pbc):
        # It wants a cell around everything.
        positions, cell = positions - positions.min(axis=0) + 1, np.eye(3) * (np.ptp(positions) + 2)
    arguments = {"positions": positions, "cell": cell, "pbc": np.array(pbc), "cutoff": cutoff}
    return table(*matscipy.neighbours.neighbour_list("ijS", **arguments))


def by_vesin(positions, cell, pbc, cutoff):
    calculator = vesin.NeighborList(cutoff=cutoff, full_list=True)
    return table(*calculator.compute(points=positions, box=cell, periodic=list(pbc), quantities="ijS"))


def ours(positions, cell, pbc, cutoff, algorithm):
    """Sorted as it comes: the order is part of the comparison."""
    i, j, shifts = neighbor_list("ijS", positions, cell, pbc, cutoff, algorithm=algorithm)
    return np.column_stack([i, j, shifts]).astype(np.int64)


def check(positions, cell, pbc, cutoff):
    brute = ours(positions, cell, pbc, cutoff, "brute")
    assert np.array_equal(brute, ours(positions, cell, pbc, cutoff, "cells"))
    assert np.array_equal(brute, by_matscipy(positions, cell, pbc, cutoff))
    assert np.array_equal(brute, by_vesin(positions, cell, pbc, cutoff))
    return len(brute)


def random_structure(rng):
    """Any handedness and skew, smaller or larger than the cutoff, atoms in the cell or far outside, mixed pbc."""
    lengths = rng.uniform(1.5, 14.0, size=(3, 1))
    while True:
        cell = rng.normal(size=(3, 3))
        cell *= lengths / np.linalg.norm(cell, axis=1, keepdims=True)
        if abs(np.linalg.det(cell)) > 0.15 * np.prod(lengths):
            break
    if rng.random() < 0.3:
        cell[1] += rng.integers(-3, 4) * cell[0]
    count = 1 + int(rng.integers(0, 1 + min(60, int(0.08 * abs(np.linalg.det(cell))))))
    fractional = rng.random((count, 3))
    pbc = ALL if rng.random() < 0.5 else PBC[rng.integers(8)]
    if rng.random() < 0.4:
        # Not in directions without images: there a place outside the cell is another place.
        fractional += np.where(pbc, rng.integers(-4, 5, size=(count, 3)), 0)
    return fractional @ cell, cell, pbc, float(rng.uniform(1.5, 6.5))


def test_random_structures():
    rng = np.random.default_rng(11)
    assert sum(check(*random_structure(rng)) for _ in range(250)) > 10_000


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_thousands_of_random_structures(seed):
    rng = np.random.default_rng(100 + seed)
    for _ in range(1000):
        check(*random_structure(rng))


def test_real_molecules_and_crystals():
    for number, system in enumerate(PackedDataset.load(TINY)):
        cell, pbc = (system.cell, ALL) if system.is_periodic else (np.zeros((3, 3)), NONE)
        assert check(system.positions, cell, pbc, 3.0 + 0.013 * (number % 150)) >= 0


def variations(system, rng):
    """Supercells, strained, rattled and turned; a slab, a wire."""
    repeat = rng.integers(1, 3, size=3)
    images = np.stack(np.meshgrid(*map(np.arange, repeat), indexing="ij"), -1).reshape(-1, 3) @ system.cell
    positions = (system.positions[None] + images[:, None]).reshape(-1, 3)
    strain = np.eye(3) + rng.normal(size=(3, 3)) * 0.04
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    cell = system.cell * repeat[:, None] @ strain @ turn
    positions = positions @ strain @ turn + rng.normal(size=positions.shape) * 0.03
    return positions, cell, ALL if rng.random() < 0.6 else PBC[rng.integers(8)], float(rng.uniform(2.0, 7.0))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_thousands_of_varied_crystals(seed):
    rng = np.random.default_rng(200 + seed)
    crystals = [system for system in PackedDataset.load(TINY) if system.is_periodic]
    for system in crystals * 5:
        check(*variations(system, rng))


def test_a_batch_has_the_pairs_of_its_systems():
    data = PackedDataset.load(TINY)
    i, j, shifts, pair_offsets = neighbor_list_batch("ijS", data, 4.37)
    assert pair_offsets[-1] == len(i)
    for k, system in enumerate(data):
        cell, pbc = (system.cell, ALL) if system.is_periodic else (np.zeros((3, 3)), NONE)
        mine = slice(pair_offsets[k], pair_offsets[k + 1])
        first = data.offsets[k]
        assert np.array_equal(
            np.column_stack([i[mine] - first, j[mine] - first, shifts[mine]]),
            by_matscipy(system.positions, cell, pbc, 4.37),
        )
