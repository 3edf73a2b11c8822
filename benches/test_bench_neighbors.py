"""Neighbour lists (i, j, S, d; full) beside what users would otherwise take.

One thread. Compare within a group of one run only: absolute times drift with the machine.
`by_adit_batch` is one call for all systems, the others one call for each. The last group shows what a
second core brings: run it on a machine that is free.
"""

import ase
import ase.neighborlist
import matscipy.neighbours
import numpy as np
import pytest
import vesin
from pymatgen.core import Lattice, Structure
from pymatgen.optimization.neighbors import find_points_in_spheres

from adit.neighbors import neighbor_list, neighbor_list_batch
from adit.packing import Packed

PEROVSKITE = np.array([[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
ALL = np.ones(3, dtype=np.int64)


def small_crystals(count=3000):
    """Perovskites of 5 atoms, rattled and strained."""
    rng = np.random.default_rng(0)
    cells = np.eye(3) * rng.uniform(3.7, 4.2, size=(count, 1, 1)) + rng.normal(size=(count, 3, 3)) * 0.05
    return [(np.ascontiguousarray(PEROVSKITE @ cell + rng.normal(size=(5, 3)) * 0.05), cell) for cell in cells]


def large_crystal(count=4000):
    """At the density of a perovskite, at random places, in no order."""
    rng = np.random.default_rng(1)
    cell = np.eye(3) * (count / 0.0588) ** (1 / 3)
    return [(np.ascontiguousarray(rng.random((count, 3)) @ cell), cell)]


SYSTEMS = {"3,000 x 5 atoms": small_crystals, "4,000 atoms": large_crystal}


def packed(systems):
    positions = np.concatenate([positions for positions, _ in systems])
    offsets = np.cumsum([0, *(len(positions) for positions, _ in systems)])
    cells = np.stack([cell for _, cell in systems])
    return Packed(np.full(len(positions), 6, np.uint8), positions, cells, offsets, np.ones(len(systems), bool))


def structures(systems):
    return [
        Structure(Lattice(cell), ["C"] * len(positions), positions, coords_are_cartesian=True)
        for positions, cell in systems
    ]


def atoms(systems):
    return [ase.Atoms(np.full(len(positions), 6), positions, cell=cell, pbc=True) for positions, cell in systems]


def by_adit(systems, cutoff):
    return [neighbor_list("ijSd", positions, cell, True, cutoff) for positions, cell in systems]


def by_adit_batch(pack, cutoff):
    return [neighbor_list_batch("ijSd", pack, cutoff, threads=1)]


def by_pymatgen_raw(systems, cutoff):
    return [find_points_in_spheres(positions, positions, cutoff, ALL, cell, 1e-8) for positions, cell in systems]


def by_pymatgen(systems, cutoff):
    return [structure.get_neighbor_list(cutoff) for structure in systems]


def by_vesin(systems, cutoff):
    calculator = vesin.NeighborList(cutoff=cutoff, full_list=True)
    return [
        calculator.compute(points=positions, box=cell, periodic=True, quantities="ijSd") for positions, cell in systems
    ]


def by_matscipy(systems, cutoff):
    return [
        matscipy.neighbours.neighbour_list("ijSd", cutoff=cutoff, positions=positions, cell=cell, pbc=[True] * 3)
        for positions, cell in systems
    ]


def by_ase(systems, cutoff):
    return [ase.neighborlist.neighbor_list("ijSd", one, cutoff) for one in systems]


# Each library has its systems in its own class before the clock starts.
PREPARE = {by_adit_batch: packed, by_pymatgen: structures, by_ase: atoms}


@pytest.mark.parametrize(
    "library", [by_adit, by_adit_batch, by_pymatgen_raw, by_pymatgen, by_vesin, by_matscipy, by_ase]
)
@pytest.mark.parametrize("cutoff", [5.0, 6.0])
@pytest.mark.parametrize("name", SYSTEMS)
def test_neighbor_list(benchmark, name, cutoff, library):
    benchmark.group = f"neighbour list, {name}, {cutoff:.0f} A"
    systems = SYSTEMS[name]()
    prepared = PREPARE.get(library, lambda systems: systems)(systems)
    rounds = 1 if library is by_ase else 7
    lists = benchmark.pedantic(library, args=(prepared, cutoff), rounds=rounds, warmup_rounds=min(1, rounds - 1))
    count = sum(len(one[0]) for one in lists)
    if library is by_pymatgen_raw:  # each atom is its own neighbour there
        count -= sum(len(positions) for positions, _ in systems)
    assert count == len(neighbor_list_batch("i", packed(systems), cutoff)[0])
    benchmark.extra_info["pairs"] = count


@pytest.mark.parametrize("threads", [1, 2], ids=["by_adit_on_1", "by_adit_on_2"])
def test_two_cores(benchmark, threads):
    benchmark.group = "neighbour lists of 3,000 x 5 atoms in one call, 5 A, by threads"
    pack = packed(small_crystals())
    benchmark.pedantic(
        neighbor_list_batch, args=("ijSd", pack, 5.0), kwargs={"threads": threads}, rounds=30, warmup_rounds=2
    )
