"""Smallest distances against pymatgen and brute force."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure
from scipy.spatial.distance import pdist

from adit import _rust
from adit.errors import InvalidInputError


def smallest(positions, cell=None):
    """Of one system."""
    cells = np.zeros((1, 3, 3)) if cell is None else np.ascontiguousarray(cell, dtype=float)[None]
    offsets = np.array([0, len(positions)])
    positions = np.ascontiguousarray(positions, dtype=float).reshape(-1, 3)
    return float(_rust.min_distances(positions, cells, np.array([cell is not None]), offsets)[0])


def pymatgen_smallest(positions, cell):
    lattice = Lattice(cell)
    structure = Structure(lattice, ["H"] * len(positions), positions, coords_are_cartesian=True)
    between = structure.distance_matrix[np.triu_indices(len(positions), 1)]
    # Own images: all combinations of the LLL-reduced vectors within -2..2.
    grid = np.stack(np.meshgrid(*[np.arange(-2, 3)] * 3), -1).reshape(-1, 3)
    images = np.linalg.norm(grid[grid.any(axis=1)] @ lattice.lll_matrix, axis=1)
    return min(between.min(initial=np.inf), images.min())


@pytest.mark.parametrize("seed", range(60))
def test_equals_pymatgen_in_any_cell(seed):
    rng = np.random.default_rng(seed)
    cell = rng.normal(size=(3, 3)) * rng.uniform(0.5, 12.0, size=(3, 1))
    if seed % 3 == 0:
        cell[1] += rng.integers(-6, 7) * cell[0]
        cell[2] += rng.integers(-6, 7) * cell[0] + rng.integers(-6, 7) * cell[1]
    positions = (rng.random((rng.integers(1, 15), 3)) * 6 - 3) @ cell
    assert smallest(positions, cell) == pytest.approx(pymatgen_smallest(positions, cell), rel=1e-9)


def test_equals_pdist_for_molecules():
    rng = np.random.default_rng(0)
    for count in (2, 3, 20, 300):
        positions = rng.normal(size=(count, 3)) * rng.uniform(0.1, 30, size=3)
        assert smallest(positions) == pytest.approx(pdist(positions).min(), rel=1e-14)


def test_a_large_crystal_equals_its_neighbour_list():
    rng = np.random.default_rng(1)
    cell = rng.normal(size=(3, 3)) * 3 + np.eye(3) * 20
    positions = rng.random((2000, 3)) @ cell
    nearest = _rust.neighbor_list("d", positions, cell, (True, True, True), 2.0)[0].min()
    assert smallest(positions, cell) == pytest.approx(nearest, rel=1e-10)


def packed(seed, count=400):
    rng = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(rng.integers(0, 20, count))])
    positions = rng.normal(size=(offsets[-1], 3)) * 4
    return positions, rng.normal(size=(count, 3, 3)) * 5, rng.random(count) < 0.5, offsets


def test_same_at_any_thread_count_and_system_by_system():
    positions, cells, periodic, offsets = packed(2)
    results = [_rust.min_distances(positions, cells, periodic, offsets, threads) for threads in (1, 2, 3, 7, None)]
    assert all(np.array_equal(result, results[0]) for result in results)
    alone = [
        smallest(positions[offsets[k] : offsets[k + 1]], cells[k] if periodic[k] else None)
        for k in range(len(periodic))
    ]
    assert np.array_equal(results[0], alone)


def test_single_precision_is_computed_in_double():
    positions, cells, periodic, offsets = packed(3)
    p, c = positions.astype(np.float32), cells.astype(np.float32)
    expected = _rust.min_distances(p.astype(float), c.astype(float), periodic, offsets)
    for x, y in ((p, c), (p.astype(float), c), (p, c.astype(float))):
        assert np.array_equal(_rust.min_distances(x, y, periodic, offsets), expected)


def test_nothing_to_measure_is_infinite():
    assert smallest(np.zeros((0, 3))) == np.inf
    assert smallest(np.zeros((1, 3))) == np.inf
    assert smallest(np.zeros((0, 3)), np.eye(3)) == np.inf
    assert smallest(np.zeros((1, 3)), np.eye(3) * 3) == 3.0
    assert smallest(np.zeros((2, 3))) == 0.0
    assert _rust.min_distances(
        np.zeros((0, 3)), np.zeros((0, 3, 3)), np.zeros(0, bool), np.zeros(1, np.int64)
    ).shape == (0,)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e200])
def test_one_bad_system_does_not_spoil_the_others(bad):
    positions, cells, periodic, offsets = packed(4)
    good = _rust.min_distances(positions, cells, periodic, offsets)
    atoms = np.diff(offsets) > 0
    first, second = np.flatnonzero(atoms & periodic)[:2]
    molecule = np.flatnonzero(atoms & ~periodic)[0]
    positions[offsets[first], 1] = bad
    positions[offsets[molecule], 2] = bad
    cells[second, 0, 0] = bad if np.isnan(bad) else 0.0
    if not np.isnan(bad):
        cells[second] = 0.0
    cells[~periodic] = np.nan
    result = _rust.min_distances(positions, cells, periodic, offsets)
    spoilt = [first, second, molecule]
    assert np.isnan(result[spoilt]).all()
    assert np.array_equal(np.delete(result, spoilt), np.delete(good, spoilt))


@given(
    st.lists(st.lists(st.floats(width=32), min_size=3, max_size=3), max_size=6),
    st.lists(st.floats(), min_size=9, max_size=9),
    st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_any_numbers_end_in_a_number_or_nan(points, cell, periodic):
    positions = np.array(points, dtype=np.float32).reshape(-1, 3)
    result = _rust.min_distances(
        positions, np.array(cell).reshape(1, 3, 3), np.array([periodic]), np.array([0, len(positions)])
    )
    assert np.isnan(result[0]) or result[0] >= 0


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"offsets": np.array([0, 2, 1, 4])}, r"`offsets\[2\]`"),
        ({"offsets": np.array([0, 2, 3, 5])}, "`offsets`"),
        ({"offsets": np.array([1, 2, 3, 4])}, "`offsets`"),
        ({"offsets": np.array([], dtype=np.int64)}, "`offsets`"),
        ({"offsets": np.array([0, -1, 3, 4])}, r"`offsets\[1\]`"),
        ({"offsets": np.array([0, 2, 4])}, "`cells`"),
        ({"periodic": np.zeros(2, bool)}, "`periodic`"),
        ({"periodic": np.zeros(3, np.uint8)}, "`periodic`"),
        ({"periodic": np.zeros(6, bool)[::2]}, "`periodic`"),
        ({"cells": np.zeros((3, 3))}, "`cells`"),
        ({"positions": np.zeros((4, 3), np.int64)}, "`positions`"),
        ({"positions": np.zeros((4, 6))[:, ::2]}, "`positions`"),
        ({"threads": 0}, "`threads`"),
        ({"threads": -3}, "`threads`"),
        ({"threads": 10**30}, "`threads`"),
        ({"threads": 5000}, "`threads`"),
        ({"threads": 1.5}, "`threads`"),
    ],
)
def test_refused_by_name(change, named):
    good = {
        "positions": np.zeros((4, 3)),
        "cells": np.zeros((3, 3, 3)),
        "periodic": np.zeros(3, bool),
        "offsets": np.array([0, 1, 3, 4]),
    }
    assert _rust.min_distances(**good).shape == (3,)
    with pytest.raises(InvalidInputError, match=named):
        _rust.min_distances(**{**good, **change})
