"""Symmetry by `adit.symmetry` beside moyopy and spglib, on real crystals. One thread.

Compare within a group of one run only: absolute times drift with the machine.
"""

from pathlib import Path

import moyopy
import numpy as np
import pytest
import spglib

from adit import symmetry
from adit.data.packed import PackedDataset
from adit.system import AtomicSystem

FIXTURE = Path(__file__).parents[1] / "tests" / "fixtures" / "tiny_dataset"
CRYSTALS = [system for system in PackedDataset.load(FIXTURE) if system.is_periodic]


def perovskites():
    """50 cells of 5 atoms, rattled by 0.01 and strained."""
    rng = np.random.default_rng(0)
    places = np.array([[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
    made = []
    for edge in rng.uniform(3.7, 4.2, 50):
        cell = np.eye(3) * edge + rng.normal(size=(3, 3)) * 0.002
        made.append(AtomicSystem([20, 22, 8, 8, 8], places @ cell + rng.normal(size=(5, 3)) * 0.01, cell))
    return made


SYSTEMS = {"MP-20": CRYSTALS, "rattled perovskites": perovskites()}


def by_adit(systems, symprec):
    return symmetry.spacegroups(systems, symprec, threads=1).tolist()


def by_adit_on_two_threads(systems, symprec):
    return symmetry.spacegroups(systems, symprec, threads=2).tolist()


def by_adit_in_full(systems, symprec):
    return [0 if found is None else found.number for found in symmetry.analyse(systems, symprec, threads=1)]


def by_moyopy(systems, symprec):
    cells = [moyopy.Cell(s.cell.tolist(), s.fractional.tolist(), s.numbers.tolist()) for s in systems]
    return [moyopy.MoyoDataset(cell, symprec=symprec).number for cell in cells]


def by_spglib(systems, symprec):
    cells = [(s.cell, s.fractional, s.numbers) for s in systems]
    found = [spglib.get_symmetry_dataset(cell, symprec=symprec) for cell in cells]
    return [0 if dataset is None else dataset.number for dataset in found]


@pytest.mark.parametrize("library", [by_adit, by_adit_in_full, by_adit_on_two_threads, by_moyopy, by_spglib])
@pytest.mark.parametrize("symprec", [0.01, 0.1])
@pytest.mark.parametrize("name", SYSTEMS)
def test_spacegroups(benchmark, name, symprec, library):
    systems = SYSTEMS[name]
    benchmark.group = f"space groups, {len(systems)} {name}, {symprec} A"
    found = benchmark(library, systems, symprec)
    # At tight tolerances spglib and moyo lower theirs in different steps.
    assert np.mean(np.array(found) == by_adit(systems, symprec)) > 0.8


def standard_by_adit(systems):
    return symmetry.standardize(systems, threads=1)


def standard_by_spglib(systems):
    cells = [(s.cell, s.fractional, s.numbers) for s in systems]
    return [spglib.standardize_cell(cell, symprec=0.01) for cell in cells]


@pytest.mark.parametrize("library", [standard_by_adit, standard_by_spglib])
def test_standardize(benchmark, library):
    benchmark.group = f"conventional cells, {len(CRYSTALS)} MP-20"
    assert len(benchmark(library, CRYSTALS)) == len(CRYSTALS)


@pytest.mark.parametrize("name", SYSTEMS)
def test_symmetrize(benchmark, name):
    benchmark.group = f"symmetrize within 0.1 A, {len(SYSTEMS[name])} {name}"
    made = benchmark(symmetry.symmetrize, SYSTEMS[name], 0.1, threads=1)
    assert all(found.spacegroup > 0 for found in made)
