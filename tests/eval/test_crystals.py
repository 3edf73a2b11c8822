from __future__ import annotations

import time

import numpy as np
import pytest
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Lattice, Structure

from adit.data.packed import PackedDataset
from adit.errors import InvalidInputError
from adit.eval.crystals import novel, reduced_formulas, unique
from adit.system import AtomicSystem
from adit.validity import structural

SALT = AtomicSystem.from_fractional([11, 17], [[0, 0, 0], [0.5, 0.5, 0.5]], 2.82 * (np.ones((3, 3)) - np.eye(3)))
MOLECULE = AtomicSystem([1], [[0, 0, 0]])


def to_structure(system: AtomicSystem) -> Structure:
    return Structure(system.cell, system.symbols, system.positions, coords_are_cartesian=True)


def from_structure(structure: Structure) -> AtomicSystem:
    return AtomicSystem(structure.atomic_numbers, structure.cart_coords, structure.lattice.matrix)


def test_reduced_formulas():
    double = AtomicSystem(np.tile(SALT.numbers, 2), np.tile(SALT.positions, (2, 1)), SALT.cell)
    one, two, other, empty = reduced_formulas([SALT, double, MOLECULE, AtomicSystem([], np.zeros((0, 3)))])
    assert one == two
    assert len({one, other, empty}) == 3


@pytest.fixture(scope="module")
def family(mp20):
    """Crystals and disguised copies: rotated, shifted, blown up, as supercells, slightly rattled."""
    rng = np.random.default_rng(5)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    systems = list(mp20[:30])
    for k, system in enumerate(mp20[:12]):
        structure = to_structure(system)
        if k % 4 == 0:
            structure.translate_sites(range(len(structure)), rng.random(3))
        elif k % 4 == 1:
            structure = Structure(Lattice(structure.lattice.matrix @ turn), structure.species, structure.frac_coords)
        elif k % 4 == 2:
            structure.make_supercell([2, 1, 1])
        else:
            structure.scale_lattice(1.1 * structure.volume)
        systems.append(from_structure(structure))
    return systems


def test_copies_are_not_unique(family):
    result = unique(family)
    assert result.first[:30].all()
    assert not result.first[30:].any()
    assert result.rate == 30 / 42
    assert result.incomplete == 0


def test_unique_counts_the_groups_of_pymatgen(mp20):
    carbons = [
        from_structure(Structure.from_spacegroup(*arguments))
        for arguments in (
            ("Fd-3m", Lattice.cubic(3.57), ["C"], [[0, 0, 0]]),
            ("Fm-3m", Lattice.cubic(3.5), ["C"], [[0, 0, 0]]),
            ("Im-3m", Lattice.cubic(2.4), ["C"], [[0, 0, 0]]),
            ("Fd-3m", Lattice.cubic(7.0), ["C"], [[0.04, 0.04, 0.04]]),
            ("P6/mmm", Lattice.hexagonal(2.46, 3.4), ["C"], [[1 / 3, 2 / 3, 0]]),
        )
    ]
    systems = [*mp20, *carbons, *mp20[:20], *carbons[:2]]
    groups = StructureMatcher(stol=0.5, ltol=0.3, angle_tol=10).group_structures([to_structure(s) for s in systems])
    assert unique(systems).first.sum() == len(groups)


def test_broken_crystals_are_neither_unique_nor_novel(damaged):
    rng = np.random.default_rng(4)
    needle = AtomicSystem.from_fractional([6] * 4, [[0, 0, k / 4] for k in range(4)], np.diag([0.6, 0.6, 400.0]))
    heap = AtomicSystem([6] * 20, 0.05 * rng.normal(size=(20, 3)), np.eye(3))
    skewed = AtomicSystem([6, 6], [[0, 0, 0], [0, 0, 1.5]], [[3, 0, 0], [2.9, 0.2, 0], [0, 0, 3]])
    systems = [*damaged, heap, heap, needle, needle, skewed, skewed]
    start = time.perf_counter()
    result = unique(systems)
    fresh = novel(systems, PackedDataset.from_systems(systems))
    assert time.perf_counter() - start < 30
    valid = structural(systems)
    assert not result.first[~valid].any()
    assert not fresh[~valid].any()
    assert result.incomplete >= 2  # the needles, too long to be compared


def test_novelty(mp20, family):
    reference = PackedDataset.from_systems(mp20[:12])
    fresh = novel(family, reference)
    assert not fresh[:12].any()
    assert fresh[12:30].all()
    assert not fresh[30:].any()
    assert novel(family, PackedDataset.from_systems([MOLECULE])).all()


def test_molecules_are_refused():
    for judge in (unique, lambda systems: novel(systems, PackedDataset.from_systems([]))):
        with pytest.raises(InvalidInputError, match="system 1 is a molecule"):
            judge([SALT, MOLECULE])


def test_nothing_to_judge():
    assert np.isnan(unique([]).rate)
    assert len(novel([], PackedDataset.from_systems([]))) == 0
