"""Validity of crystals by `adit.validity` beside smact and pymatgen. One thread.

Compare within a group of one run only: absolute times drift with the machine.
"""

import warnings
from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Composition, Structure
from smact.screening import smact_validity

from adit.data.packed import PackedDataset
from adit.validity import compositional, structural

FIXTURE = Path(__file__).parents[1] / "tests" / "fixtures" / "tiny_dataset"
CRYSTALS = [system for system in PackedDataset.load(FIXTURE) if system.is_periodic]
STORE = PackedDataset.from_systems(CRYSTALS)


def by_adit_packed():
    return structural(STORE, threads=1) & compositional(STORE, threads=1)


def by_adit():
    return structural(CRYSTALS, threads=1) & compositional(CRYSTALS, threads=1)


def by_smact_and_pymatgen():
    valid = []
    for structure in STRUCTURES:
        distances = structure.distance_matrix + np.diag(np.full(len(structure), np.inf))
        close = distances.min(initial=np.inf) >= 0.5 and structure.volume >= 0.1
        valid.append(close and smact_validity(structure.composition, oxidation_states_set="smact14"))
    return np.array(valid)


STRUCTURES = [
    Structure(system.cell, system.symbols, system.positions, coords_are_cartesian=True) for system in CRYSTALS
]


@pytest.mark.parametrize("library", [by_adit_packed, by_adit, by_smact_and_pymatgen])
def test_both_validities(benchmark, library):
    benchmark.group = f"structural and compositional validity, {len(CRYSTALS)} MP-20"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = benchmark(library)
    assert found.tolist() == by_adit().tolist()


FORMULAS = [system.formula for system in CRYSTALS]


def formulas_by_adit():
    return compositional(FORMULAS, threads=1).tolist()


def formulas_by_smact():
    return [smact_validity(Composition(formula), oxidation_states_set="smact14") for formula in FORMULAS]


@pytest.mark.parametrize("library", [formulas_by_adit, formulas_by_smact])
def test_formulas(benchmark, library):
    benchmark.group = f"compositional validity, {len(FORMULAS)} formulas"
    assert benchmark(library) == formulas_by_adit()
