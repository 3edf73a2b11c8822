from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adit.data.packed import PackedDataset
from adit.elements import NUMBERS, SYMBOLS
from adit.errors import InvalidInputError
from adit.eval.stability import edm_stability, tables
from adit.system import AtomicSystem

WATER = AtomicSystem([8, 1, 1], [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])


def test_every_row_as_the_judge_counts(judge, shaken, nonsense):
    systems = [*shaken, *nonsense.values()]
    result = edm_stability(systems)
    expected = [judge.stable_atoms(system.symbols, system.positions) for system in systems]
    assert (result.atoms * result.sizes).round().astype(int).tolist() == expected
    assert result.molecules.tolist() == [n == len(system) > 0 for n, system in zip(expected, systems, strict=True)]
    total = sum(map(len, systems))
    assert result.atom_stability == pytest.approx(sum(expected) / total)
    assert result.molecule_stability == pytest.approx(result.molecules.mean())


def test_real_molecules_are_nearly_all_stable(qm9):
    result = edm_stability(qm9)
    assert 0.985 < result.atom_stability < 1
    assert 0.90 < result.molecule_stability < 1


def test_tables_are_those_of_the_judge(judge):
    assert list(zip(tables().lengths, tables().margins, strict=True)) == judge.ORDERS
    assert {symbol: set(valences) for symbol, valences in tables().valences.items()} == judge.VALENCES


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_elements_at_any_distance(judge, data):
    symbols = data.draw(st.lists(st.sampled_from([*tables().valences, "Se", "He", "Fm"]), min_size=1, max_size=6))
    flat = data.draw(st.lists(st.floats(-3, 3, width=32), min_size=3 * len(symbols), max_size=3 * len(symbols)))
    positions = np.array(flat).reshape(-1, 3)
    result = edm_stability([AtomicSystem([NUMBERS[symbol] for symbol in symbols], positions)])
    assert round(result.atoms[0] * len(symbols)) == judge.stable_atoms(symbols, positions)


@pytest.mark.parametrize(
    ("symbols", "distance", "stable"),
    [
        ("HH", 0.83, 2),
        ("HH", 0.85, 0),
        ("NN", 1.12, 2),
        ("NN", 1.14, 0),
        ("OO", 1.25, 2),
        ("OO", 1.27, 0),
        ("CO", 1.15, 0),
    ],
)
def test_margins(symbols, distance, stable):
    system = AtomicSystem([NUMBERS[symbol] for symbol in symbols], [[0, 0, 0], [0, 0, distance]])
    assert edm_stability([system]).atoms[0] == stable / 2


def test_list_and_packed_agree(qm9):
    listed, packed = edm_stability(qm9), edm_stability(PackedDataset.from_systems(qm9))
    assert np.array_equal(listed.atoms, packed.atoms)
    assert np.array_equal(listed.sizes, packed.sizes)


def test_neighbours_in_a_batch_do_not_bond():
    apart = edm_stability([WATER])
    together = edm_stability([WATER, WATER, AtomicSystem([1], [[0.5, 0, 0]]), WATER])
    assert apart.molecules.all()
    assert together.molecules.tolist() == [True, True, False, True]


def test_large_systems_are_cut_into_blocks():
    copies = [WATER] * 400
    assert edm_stability(copies).molecule_stability == 1
    shifts = np.array(list(itertools.product(range(10), repeat=3))) * 6.0
    many = AtomicSystem(np.tile(WATER.numbers, 1000), (WATER.positions[None] + shifts[:, None]).reshape(-1, 3))
    assert edm_stability([many, WATER]).molecules.all()


def test_nothing_to_judge():
    result = edm_stability([])
    assert len(result.atoms) == 0
    assert np.isnan(result.atom_stability)
    assert np.isnan(result.molecule_stability)


def test_a_crystal_is_refused(mp20):
    with pytest.raises(InvalidInputError, match=r"system 1 is a crystal"):
        edm_stability([WATER, mp20[0]])


def test_all_table_symbols_are_elements():
    assert set(tables().valences) <= set(SYMBOLS[1:])
