"""The convention "pymatgen" gives pymatgen's verdicts, distances, groups and reduced cells."""

from __future__ import annotations

import os

import numpy as np
import pytest
from pymatgen.analysis.structure_matcher import StructureMatcher as Pymatgen
from pymatgen.core import Lattice, Structure

import adit
from adit.matching import StructureMatcher

SWITCHES = {
    "default": {},
    "loose": {"ltol": 0.3, "stol": 0.5, "angle_tol": 10},
    "tight": {"ltol": 0.05, "stol": 0.1, "angle_tol": 2},
    "volume counts": {"scale": False},
    "cells as given": {"primitive_cell": False},
    "supercells": {"primitive_cell": False, "attempt_supercell": True},
}


def disagreements(drawn, switches):
    """Indices of pairs on which verdict or distance differ, and how many match."""
    theirs, ours = Pymatgen(**switches), StructureMatcher(**switches, convention="pymatgen")
    left, right = (ours.reduce([pair[side] for pair in drawn]) for side in (1, 2))
    fits, distances = ours.fit_pairs(left, right), ours.rms_pairs(left, right)
    wrong = []
    for k, (_, one, other) in enumerate(drawn):
        expected = theirs.get_rms_dist(one, other)
        near = np.isnan(distances[k]).all() if expected is None else abs(distances[k, 0] - expected[0]) < 1e-4
        if theirs.fit(one, other) != fits[k] or not near:
            wrong.append(k)
    return wrong, int(fits.sum())


@pytest.mark.parametrize("name", SWITCHES)
def test_verdicts_and_distances(made, mp20, name):
    wrong, matches = disagreements(made.pairs(mp20, 27, seed=3), SWITCHES[name])
    assert wrong == []
    assert 2 <= matches <= 25


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_five_thousand_pairs(made, seed):
    """From MP-20 as prepared in $ADIT_DATA_DIR; on at most 0.2 % may the two differ."""
    if "ADIT_DATA_DIR" not in os.environ:
        pytest.skip("set ADIT_DATA_DIR to a folder with the prepared mp20")
    data = adit.load_dataset("mp20").split("train")
    chosen = np.random.default_rng(seed).choice(len(data), 4000, replace=False)
    wrong, matches = disagreements(made.pairs([data[int(k)].to_pymatgen() for k in chosen], 1000, seed), {})
    assert len(wrong) <= 2
    assert 300 < matches < 700


def test_reduced_cells(made, mp20):
    rng = np.random.default_rng(8)
    structures = [made.recelled(structure, rng, int(rng.integers(1, 4))) for structure in mp20[:40]]
    structures += [made.carbon(rng, 6) for _ in range(5)]
    numbers, positions, cells, offsets = StructureMatcher(convention="pymatgen").reduce(structures).cells()
    for k, structure in enumerate(structures):
        expected = Pymatgen._get_reduced_structure(structure)
        atoms = slice(offsets[k], offsets[k + 1])
        assert numbers[atoms].tolist() == list(expected.atomic_numbers)
        assert np.abs(cells[k] - expected.lattice.matrix).max() < 1e-6
        apart = expected.lattice.get_fractional_coords(positions[atoms]) - expected.frac_coords
        assert np.abs(apart - np.round(apart)).max() < 1e-6


def test_groups(made, mp20):
    rng = np.random.default_rng(9)
    seeds = [*mp20[:8], *(made.carbon(rng, 6) for _ in range(3))]
    structures = [made.rattled(seed, rng, 0.2) for seed in seeds for _ in range(4)]
    order = rng.permutation(len(structures))
    structures = [structures[k] for k in order]
    theirs = Pymatgen().group_structures(structures)
    ours = StructureMatcher(convention="pymatgen").group_structures(structures)
    assert {frozenset(map(id, group)) for group in ours} == {frozenset(map(id, group)) for group in theirs}
    assert 11 < len(ours) < 44


def renamed(structure, names):
    new = structure.copy()
    new.replace_species(names)
    return new


def test_anonymous(made, mp20):
    rng = np.random.default_rng(10)
    matcher, reference = StructureMatcher(convention="pymatgen"), Pymatgen()
    salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.6), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    blende = Structure.from_spacegroup("F-43m", Lattice.cubic(5.4), ["Zn", "S"], [[0, 0, 0], [0.25, 0.25, 0.25]])
    magnesia = renamed(salt, {"Na": "Mg", "Cl": "O"})
    assert matcher.fit_anonymous(salt, magnesia) and not matcher.fit(salt, magnesia)
    verdicts = []
    for one in (salt, blende, *mp20[:6]):
        cycle = dict(zip(one.elements, [*one.elements[1:], one.elements[0]], strict=True))
        for other in (made.rattled(renamed(one, cycle), rng, 0.1), salt, blende):
            verdicts.append(matcher.fit_anonymous(one, other))
            assert verdicts[-1] == reference.fit_anonymous(one, other)
    assert 5 < sum(verdicts) < len(verdicts) - 5


def test_both_ways(made, mp20):
    matcher, reference = StructureMatcher(convention="pymatgen"), Pymatgen()
    for _, one, other in made.pairs(mp20, 27, seed=4)[4::9]:
        assert matcher.fit(one, other, symmetric=True) == reference.fit(one, other, symmetric=True)
