"""Neighbour lists of system objects, and of many systems at once."""

from __future__ import annotations

import ase.build
import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from adit import _rust
from adit.data.packed import PackedDataset
from adit.errors import InvalidInputError
from adit.neighbors import neighbor_list, neighbor_list_batch
from adit.packing import pack
from adit.system import AtomicSystem

WATER = AtomicSystem([8, 1, 1], [[0.0, 0.0, 0.1], [0.0, 0.76, -0.5], [0.0, -0.76, -0.5]])
SALT = AtomicSystem.from_fractional([11, 17], [[0, 0, 0], [0.5, 0.5, 0.5]], 2.8 * (1 - np.eye(3)))
EVERYTHING = "ijSdD"


def same(one, other):
    return len(one) == len(other) and all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_system_stands_for_its_arrays():
    expected = neighbor_list(EVERYTHING, SALT.positions, SALT.cell, True, 4.0)
    for thing in (SALT, SALT.to_ase(), SALT.to_pymatgen()):
        assert same(neighbor_list(EVERYTHING, thing, cutoff=4.0), expected)
        assert same(neighbor_list(EVERYTHING, thing, 4.0), expected)
    expected = neighbor_list(EVERYTHING, WATER.positions, None, False, 1.2)
    for thing in (WATER, WATER.to_ase(), WATER.to_pymatgen(), WATER.to_rdkit()):
        assert same(neighbor_list(EVERYTHING, thing, 1.2), expected)
    assert len(expected[0]) == 4


def test_mixed_periodic_directions_are_honoured():
    slab = ase.build.fcc111("Al", (2, 2, 3), vacuum=8.0)
    assert slab.pbc.tolist() == [True, True, False]
    expected = neighbor_list("ijS", slab.positions, slab.cell.array, slab.pbc, 3.5)
    assert same(neighbor_list("ijS", slab, 3.5), expected)
    wire = Structure(Lattice(np.diag([9.0, 9.0, 2.0]), pbc=(False, False, True)), ["C"], [[0.5, 0.5, 0.5]])
    assert neighbor_list("S", wire, 2.5).tolist() == [[0, 0, -1], [0, 0, 1]]
    # Atoms without a cell, as ASE makes them, and sites that AtomicSystem refuses.
    assert len(neighbor_list("i", ase.Atoms("H2", [[0, 0, 0], [0, 0, 0.7]]), 1.0)) == 2
    alloy = Structure(Lattice.cubic(3.0), [{"Cu": 0.5, "Au": 0.5}], [[0, 0, 0]])
    assert len(neighbor_list("i", alloy, 3.1)) == 6


def test_cell_and_pbc_may_stay_away():
    expected = neighbor_list("ijS", SALT.positions, SALT.cell, True, 4.0)
    with pytest.raises(InvalidInputError, match="`pbc`"):
        neighbor_list("ijS", SALT.positions, SALT.cell, cutoff=4.0)
    assert same(neighbor_list("ijS", positions=SALT.positions, cell=SALT.cell, pbc=True, cutoff=4.0), expected)
    assert same(neighbor_list("ij", WATER.positions, cutoff=1.2), neighbor_list("ij", WATER, 1.2))


@pytest.mark.parametrize(
    ("arguments", "keywords", "named"),
    [
        ((SALT, SALT.cell, True, 4.0), {}, "its own cell"),
        ((SALT, 4.0), {"pbc": True}, "its own cell"),
        ((SALT,), {}, "`cutoff`"),
        ((SALT.positions, SALT.cell, True), {}, "`cutoff`"),
        (("NaCl", 4.0), {}, "`positions`"),
        (([SALT, SALT], 4.0), {}, "`positions`"),
    ],
)
def test_what_does_not_fit_is_named(arguments, keywords, named):
    with pytest.raises(InvalidInputError, match=named):
        neighbor_list("ij", *arguments, **keywords)


def some_systems(rng, count=60):
    systems = []
    for k in range(count):
        positions = rng.uniform(-6, 6, size=(rng.integers(0, 40), 3))
        cell = np.eye(3) * 6 + rng.normal(size=(3, 3))
        atoms = ase.Atoms(np.full(len(positions), 6), positions, cell=cell, pbc=rng.integers(0, 2, size=3))
        systems.append(atoms if k % 3 else AtomicSystem(atoms.numbers, positions, cell))
    return systems


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("algorithm", ["auto", "brute", "cells"])
def test_a_batch_is_its_systems_one_by_one(half, algorithm):
    systems = some_systems(np.random.default_rng(0))
    i, j, shifts, distances, vectors, pair_offsets = neighbor_list_batch(
        EVERYTHING, systems, 3.3, half=half, algorithm=algorithm
    )
    assert pair_offsets.dtype == np.int64 and pair_offsets[0] == 0 and pair_offsets[-1] == len(i)
    first = 0
    for k, system in enumerate(systems):
        mine = slice(pair_offsets[k], pair_offsets[k + 1])
        got = (i[mine] - first, j[mine] - first, shifts[mine], distances[mine], vectors[mine])
        assert same(got, neighbor_list(EVERYTHING, system, 3.3, half=half))
        first += len(system)


def test_threads_do_not_matter():
    """Many systems, so that there are many portions."""
    rng = np.random.default_rng(1)
    systems = [AtomicSystem(np.full(8, 6), rng.random((8, 3)) * 4, np.eye(3) * 4) for _ in range(700)]
    packed = pack(systems)
    one = neighbor_list_batch(EVERYTHING, packed, 4.0, threads=1)
    assert same(one, neighbor_list_batch(EVERYTHING, packed, 4.0, threads=3))
    assert same(one, neighbor_list_batch(EVERYTHING, packed, 4.0))


def test_packed_data_sets_and_lists_agree():
    data = PackedDataset.from_systems([WATER, SALT, SALT])
    from_list = neighbor_list_batch("ijS", [WATER, SALT, SALT], 4.0)
    for packed in (data, pack(data)):
        assert same(neighbor_list_batch("ijS", packed, 4.0), from_list)


def test_quantities_of_a_batch_come_in_the_order_asked():
    i, j, _, distances, _, pair_offsets = neighbor_list_batch(EVERYTHING, [SALT, WATER], 4.0)
    assert same(neighbor_list_batch("dji", [SALT, WATER], 4.0), (distances, j, i, pair_offsets))
    assert same(neighbor_list_batch("jj", [SALT, WATER], 4.0), (j, j, pair_offsets))


@pytest.mark.parametrize("systems", [[], [AtomicSystem([], [])], [AtomicSystem([], [])] * 3])
def test_batches_of_nothing(systems):
    *columns, pair_offsets = neighbor_list_batch(EVERYTHING, systems, 4.0)
    assert [column.shape for column in columns] == [(0,), (0,), (0, 3), (0,), (0, 3)]
    assert pair_offsets.tolist() == [0] * (len(systems) + 1)


@pytest.mark.parametrize(
    ("systems", "named"),
    [
        (SALT, "`systems`"),
        (SALT.to_ase(), "`systems`"),
        ([SALT, "NaCl"], "system 1"),
        ([SALT, SALT.positions], "system 1"),
        ([WATER, SALT, ase.Atoms("H", [[0, 0, 0]], pbc=True)], "system 2: `cell`"),
        ([WATER, ase.Atoms("H", [[0, 0, np.nan]])], r"system 1: `positions\[0\]`"),
    ],
)
def test_a_batch_names_what_it_refuses(systems, named):
    with pytest.raises(InvalidInputError, match=named):
        neighbor_list_batch("ij", systems, 4.0)


GOOD = (SALT.positions, SALT.cell[None], np.ones((1, 3), bool), np.array([0, 2]), 4.0)


@pytest.mark.parametrize(
    ("place", "bad", "named"),
    [
        (0, SALT.positions.astype(np.float32), "`positions`.*float64"),
        (1, SALT.cell, "`cells`"),
        (1, np.zeros((2, 3, 3)), "`cells`.*1 systems"),
        (2, np.ones(1, bool), "`pbc`"),
        (2, np.ones((1, 3)), "`pbc`.*bool"),
        (2, np.ones((1, 4), bool), "`pbc`"),
        (2, np.ones((3, 1), bool).T.repeat(2, 0), "`pbc`"),
        (3, np.array([0, 1]), "`offsets`"),
        (3, np.array([0, 2], np.int32), "`offsets`"),
        (4, -1.0, "`cutoff`"),
        (4, 1e300, "`cutoff`"),
    ],
)
def test_the_core_refuses_by_name(place, bad, named):
    arguments = [*GOOD]
    arguments[place] = bad
    with pytest.raises(InvalidInputError, match=named):
        _rust.neighbor_list_batch("ijS", *arguments)


def test_the_first_bad_system_is_named_whatever_the_threads():
    systems = [ase.Atoms("H", [[0, 0, 0]], cell=np.eye(3) * 3, pbc=True) for _ in range(3000)]
    for bad in (1200, 2900):
        systems[bad] = ase.Atoms("H", [[0, 0, np.inf]])
    for threads in (1, 4):
        with pytest.raises(InvalidInputError, match="system 1200"):
            neighbor_list_batch("i", systems, 4.0, threads=threads)
