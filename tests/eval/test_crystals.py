from __future__ import annotations

import time
import warnings

import numpy as np
import pytest
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Composition, Lattice, Structure
from smact.screening import smact_validity

from adit.data.packed import PackedDataset
from adit.elements import SYMBOLS
from adit.errors import InvalidInputError
from adit.eval.crystals import (
    OXIDATION_STATES,
    compositional_validity,
    novel,
    reduced_formulas,
    structural_validity,
    unique,
)
from adit.system import AtomicSystem

SALT = AtomicSystem.from_fractional([11, 17], [[0, 0, 0], [0.5, 0.5, 0.5]], 2.82 * (np.ones((3, 3)) - np.eye(3)))
MOLECULE = AtomicSystem([1], [[0, 0, 0]])


def to_structure(system: AtomicSystem) -> Structure:
    return Structure(system.cell, system.symbols, system.positions, coords_are_cartesian=True)


def from_structure(structure: Structure) -> AtomicSystem:
    return AtomicSystem(structure.atomic_numbers, structure.cart_coords, structure.lattice.matrix)


@pytest.fixture(scope="module")
def damaged(mp20):
    """Real crystals, squeezed, stretched and shaken, some with two atoms on one place."""
    rng = np.random.default_rng(0)
    systems = []
    for k, system in enumerate(mp20):
        cell = system.cell * (1.0, 0.5, 0.25, 0.12)[k % 4]
        fractional = system.fractional + 0.1 * rng.normal(size=(len(system), 3))
        if k % 7 == 0:
            fractional[-1] = fractional[0] + (0, 0, 1)
        systems.append(AtomicSystem.from_fractional(system.numbers, fractional, cell))
    return systems


def test_structural_validity_as_the_judge_says(judge, mp20, damaged):
    assert structural_validity(mp20).all()
    expected = [judge.structural(to_structure(system)) for system in damaged]
    assert structural_validity(damaged).tolist() == expected
    assert 0.2 < np.mean(expected) < 0.8


@pytest.mark.parametrize(
    ("edge", "fractions", "valid"),
    [
        (4.0, [[0, 0, 0], [0.126, 0, 0]], True),
        (4.0, [[0, 0, 0], [0.124, 0, 0]], False),
        (4.0, [[0, 0, 0], [0.9, 0, 0]], False),
        (0.47, [[0, 0, 0]], False),  # its own image
        (3.0, [[0, 0, 0]], True),
        (3.0, np.zeros((0, 3)), False),
    ],
)
def test_structural_validity_at_the_limits(edge, fractions, valid):
    system = AtomicSystem.from_fractional([14] * len(fractions), fractions, edge * np.eye(3))
    assert structural_validity([system]).tolist() == [valid]


def test_flat_cell_is_invalid():
    assert structural_validity([AtomicSystem([14], [[0, 0, 0]], np.diag([9.0, 9.0, 1e-3]))]).tolist() == [False]


@pytest.mark.parametrize("states", OXIDATION_STATES)
def test_compositional_validity_as_smact_says(mp20, states):
    rng = np.random.default_rng(3)
    drawn = [rng.choice(rng.integers(1, 101, rng.integers(1, 6)), rng.integers(1, 16)) for _ in range(250)]
    systems = [*mp20, *(AtomicSystem(numbers, np.zeros((len(numbers), 3)), np.eye(3)) for numbers in drawn)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = [smact_validity(Composition(system.formula), oxidation_states_set=states) for system in systems]
    assert compositional_validity(systems, states).tolist() == expected
    assert 0.85 < np.mean(expected[: len(mp20)]) < 0.97
    assert 0.1 < np.mean(expected[len(mp20) :]) < 0.9


def test_compositional_validity_of_twenty_elements_takes_no_time():
    numbers = [8, *range(21, 40)]
    start = time.perf_counter()
    compositional_validity([AtomicSystem(numbers, np.zeros((20, 3)), np.eye(3))])
    assert time.perf_counter() - start < 5


def test_compositional_validity_knows_elements_alloys_and_salts():
    def crystal(*symbols: str) -> AtomicSystem:
        return AtomicSystem([SYMBOLS.index(symbol) for symbol in symbols], np.zeros((len(symbols), 3)), np.eye(3))

    systems = [
        crystal("O", "O"),
        crystal("Cu", "Zn"),
        crystal("Na", "Cl"),
        crystal("Na", "Cl", "Cl"),
        crystal("He", "O"),
    ]
    assert compositional_validity(systems).tolist() == [True, True, True, False, False]


def test_unknown_oxidation_states_are_refused():
    with pytest.raises(InvalidInputError, match="smact14, icsd16, icsd24; got 'mine'"):
        compositional_validity([SALT], "mine")  # type: ignore[arg-type]


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
    valid = structural_validity(systems)
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
    for judge in (structural_validity, unique, lambda systems: novel(systems, PackedDataset.from_systems([]))):
        with pytest.raises(InvalidInputError, match="system 1 is a molecule"):
            judge([SALT, MOLECULE])


def test_nothing_to_judge():
    assert len(structural_validity([])) == len(compositional_validity([])) == 0
    assert np.isnan(unique([]).rate)
    assert len(novel([], PackedDataset.from_systems([]))) == 0
