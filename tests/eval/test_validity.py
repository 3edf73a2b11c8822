"""Validity of crystals against benches/judge.py, pymatgen and smact."""

from __future__ import annotations

import gzip
import itertools
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Composition, Structure
from smact import element_dictionary, metals
from smact.screening import smact_validity

from adit import _rust
from adit.data.packed import PackedDataset
from adit.elements import SYMBOLS
from adit.errors import InvalidInputError
from adit.system import AtomicSystem
from adit.validity import OXIDATION_STATES, compositional, compositional_faults, structural

ROOT = Path(__file__).parents[2]
FORMULAS = ROOT / "tests" / "fixtures" / "mp20_formulas.txt.gz"
SALT = AtomicSystem.from_fractional([11, 17], [[0, 0, 0], [0.5, 0.5, 0.5]], 2.82 * (np.ones((3, 3)) - np.eye(3)))
MOLECULE = AtomicSystem([1], [[0, 0, 0]])
ODD = ["He", "Ar", "Kr", "Xe", "Rn", "Pm", "Eu", "Yb", "Tb", "At", "Fr", "Ra", "Es", "Fm", "Po", "H"]
"""Elements that lack an electronegativity or states in one table or another, and such."""


def of_smact(formula: str, table: str) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return bool(smact_validity(Composition(formula), oxidation_states_set=table))


def to_structure(system: AtomicSystem) -> Structure:
    return Structure(system.cell, system.symbols, system.positions, coords_are_cartesian=True)


def test_structural_as_the_judge_says(judge, mp20, damaged):
    assert structural(mp20).all()
    expected = [judge.structural(to_structure(system)) for system in damaged]
    assert structural(damaged).tolist() == expected
    assert 0.2 < np.mean(expected) < 0.8


@pytest.mark.parametrize(
    ("edge", "fractions", "valid"),
    [
        (4.0, [[0, 0, 0], [0.126, 0, 0]], True),
        (4.0, [[0, 0, 0], [0.124, 0, 0]], False),
        (4.0, [[0, 0, 0], [0.9, 0, 0]], False),
        (4.0, [[0, 0, 0], [0, 0, 0]], False),
        (0.47, [[0, 0, 0]], False),  # its own image
        (3.0, [[0, 0, 0]], True),
        (3.0, np.zeros((0, 3)), False),
    ],
)
def test_structural_at_the_limits(edge, fractions, valid):
    system = AtomicSystem.from_fractional([14] * len(fractions), fractions, edge * np.eye(3))
    assert structural([system]).tolist() == [valid]
    assert structural(system) is valid


def test_extreme_cells_are_judged():
    assert structural(AtomicSystem([14], [[0, 0, 0]], np.diag([9.0, 9.0, 1e-3]))) is False
    assert structural(AtomicSystem([14], [[0, 0, 0]], np.diag([3.0, 3.0, 1e8]))) is True
    assert structural(AtomicSystem([14], [[0, 0, 0]], [[3, 0, 0], [2999.9, 0.4, 0], [0, 0, 9]])) is False
    assert structural(AtomicSystem([14], [[1e300, 0, 0]], 3 * np.eye(3))) is False


def test_molecules_are_refused():
    with pytest.raises(InvalidInputError, match="system 1 is a molecule"):
        structural([SALT, MOLECULE])


@pytest.mark.parametrize("table", OXIDATION_STATES)
def test_compositional_as_smact_says(mp20, table):
    rng = np.random.default_rng(3)
    known = gzip.decompress(FORMULAS.read_bytes()).decode().split()
    drawn = [
        "".join(f"{SYMBOLS[n]}{rng.integers(1, 16)}" for n in set(rng.integers(1, 101, rng.integers(1, 6)).tolist()))
        for _ in range(200)
    ]
    formulas = [*rng.choice(known, 500), *(system.formula for system in mp20), *drawn]
    expected = [of_smact(formula, table) for formula in formulas]
    assert compositional(formulas, table).tolist() == expected
    assert compositional(mp20, table).tolist() == expected[500 : 500 + len(mp20)]
    assert 0.85 < np.mean(expected[:500]) < 0.95
    assert 0.1 < np.mean(expected[-200:]) < 0.9


@pytest.mark.slow
@pytest.mark.parametrize("table", OXIDATION_STATES)
def test_every_formula_of_mp20_as_smact_says(table):
    known = gzip.decompress(FORMULAS.read_bytes()).decode().split()
    assert len(known) == 29_938
    assert compositional(known, table).tolist() == [of_smact(formula, table) for formula in known]


# smact tries every choice of states, so that eight elements of seven states each would take it minutes.
def few_states(amounts: dict[str, int], table: str) -> bool:
    states = [len(getattr(e, f"oxidation_states_{table}") or ()) for e in element_dictionary(list(amounts)).values()]
    return bool(np.prod(states, dtype=float) < 20_000)


@given(
    st.dictionaries(
        st.one_of(st.sampled_from(SYMBOLS[1:]), st.sampled_from(ODD)),
        st.one_of(st.integers(1, 12), st.integers(1, 10_000)),
        min_size=1,
        max_size=8,
    ),
    st.sampled_from(OXIDATION_STATES),
)
@settings(max_examples=200, deadline=None)
def test_any_formula_as_smact_says(amounts, table):
    if few_states(amounts, table):
        formula = "".join(f"{symbol}{count}" for symbol, count in amounts.items())
        assert compositional(formula, table) == of_smact(formula, table)


@given(st.lists(st.sampled_from(sorted(metals)), min_size=2, max_size=4, unique=True), st.sampled_from(["", *ODD, "O"]))
@settings(max_examples=150, deadline=None)
def test_alloys_with_and_without_a_stranger_as_smact_says(alloy, stranger):
    formula = "".join(alloy) + stranger
    for table in OXIDATION_STATES:
        assert compositional(formula, table) == of_smact(formula, table)


def neutral(formula: str, table: str) -> bool:
    """Whether any choice of one state for each element adds up to nothing, whatever the electronegativities."""
    amounts = Composition(formula).get_el_amt_dict()
    states = [getattr(e, f"oxidation_states_{table}") or [] for e in element_dictionary(list(amounts)).values()]
    return any(
        sum(state * count for state, count in zip(choice, amounts.values(), strict=True)) == 0
        for choice in itertools.product(*states)
    )


@pytest.mark.parametrize("table", OXIDATION_STATES)
def test_the_reasons_are_those_of_smact(table):
    rng = np.random.default_rng(8)
    drawn = [sorted(set(rng.integers(1, 101, rng.integers(1, 4)).tolist())) for _ in range(300)]
    systems = [spread(np.repeat(kinds, rng.integers(1, 5, len(kinds)))) for kinds in drawn]
    faults = compositional_faults(systems, table)
    assert [not fault for fault in faults] == compositional(systems, table).tolist()
    for system, fault in zip(systems, faults, strict=True):
        if fault == "not charge neutral":
            assert not neutral(system.formula, table)
        elif fault.startswith("charge neutral only"):
            assert neutral(system.formula, table)
        elif fault:
            symbol = fault.split()[-1]
            element = element_dictionary([symbol])[symbol]
            if "electronegativity" in fault:
                assert element.pauling_eneg is None or np.isnan(element.pauling_eneg)
            else:
                assert not getattr(element, f"oxidation_states_{table}")
    assert {"", "not", "charge", "SMACT"} == {fault.partition(" ")[0] for fault in faults}


def spread(numbers: np.ndarray) -> AtomicSystem:
    return AtomicSystem(numbers, np.arange(3 * len(numbers)).reshape(-1, 3))


def test_every_element_alone_and_as_oxide_as_smact_says():
    formulas = [symbol + tail for symbol, tail in itertools.product(SYMBOLS[1:], ["", "3", "O", "O2", "F", "2O3"])]
    for table in OXIDATION_STATES:
        assert compositional(formulas, table).tolist() == [of_smact(formula, table) for formula in formulas]


def test_the_tables_are_those_of_the_installed_smact():
    written = (ROOT / "rust" / "adit-core" / "src" / "validity" / "tables.rs").read_text()
    tool = ROOT / "rust" / "adit-core" / "tools" / "validity_tables.py"
    made = subprocess.run([sys.executable, tool], capture_output=True, text=True, check=True).stdout
    # But for the line with the version.
    assert [line for line in made.splitlines() if "from smact" not in line] == [
        line for line in written.splitlines() if "from smact" not in line
    ]


def test_twenty_elements_and_a_million_atoms_take_no_time():
    start = time.perf_counter()
    compositional("O" + "".join(SYMBOLS[21:40]))
    compositional("Na999983Cl1000003S7919")
    assert time.perf_counter() - start < 1


def test_elements_alloys_and_salts():
    formulas = ["O2", "CuZn", "NaCl", "NaCl2", "HeO", "", "Ca3(PO4)2", "K4[Fe(CN)6]", "Na2 O", "D2O", "Og", "OgO"]
    expected = [True, True, True, False, False, False, True, True, True, True, True, False]
    assert compositional(formulas).tolist() == expected
    assert [compositional(formula) for formula in formulas] == expected


def test_a_system_a_formula_and_a_data_set_are_judged_alike():
    other = AtomicSystem([11, 17, 17], [[0, 0, 0], [2, 0, 0], [0, 2, 0]], 5 * np.eye(3))
    empty = AtomicSystem([], np.zeros((0, 3)))
    systems = [SALT, other, MOLECULE, empty]
    assert compositional(systems).tolist() == [True, False, True, False]
    assert [compositional(system) for system in systems] == [True, False, True, False]
    assert compositional([SALT.to_ase(), other.to_pymatgen()]).tolist() == [True, False]
    assert compositional(SALT.to_pymatgen()) is True
    assert compositional(PackedDataset.from_systems([SALT, other])).tolist() == [True, False]
    assert structural(PackedDataset.from_systems([SALT, other])).tolist() == [True, True]
    assert len(structural([])) == len(compositional([])) == 0


def test_same_at_any_thread_count():
    known = gzip.decompress(FORMULAS.read_bytes()).decode().split()[:3000]
    results = [compositional(known, threads=threads) for threads in (1, 2, 5, None)]
    assert all(np.array_equal(result, results[0]) for result in results)


@given(st.one_of(st.text(max_size=12), st.text("()[]{}HOSiCaNa0123456789. ", max_size=16)))
@settings(max_examples=150, deadline=None)
def test_any_text_is_judged_or_refused(text):
    try:
        assert compositional(text) in (True, False)
    except InvalidInputError as error:
        assert "`formulas[0]`" in str(error) or "atoms in one reduced composition" in str(error)


@pytest.mark.parametrize(
    ("formulas", "reason"),
    [
        (["NaCl", "NaQ"], r"`formulas\[1\]` must be made of known element symbols; got \"NaQ\""),
        (["Fe0.5O"], "whole numbers of atoms"),
        (["nacl"], "element symbols"),
        (["Ca(OH"], "close its brackets"),
        (["Ca(OH]"], "matching brackets"),
        (["CaOH)"], "matching brackets"),
        (["(" * 40], "matching brackets"),
        (["O99999999999999999999999"], "fewer atoms"),
        (["((O999999)999999)999999"], "fewer atoms"),
        (["Na4294967291Cl4294967279"], "4294967291|8589934570.* limit of 16777216"),
        (["NaCl", SALT], "at 1, AtomicSystem"),
        ([SALT, "NaCl"], "at 0, AtomicSystem"),
        ([7], "system 0: a system must be"),
    ],
)
def test_what_is_no_formula_is_named(formulas, reason):
    with pytest.raises(InvalidInputError, match=reason):
        compositional(formulas)


def test_unknown_names_are_refused():
    with pytest.raises(InvalidInputError, match='smact14, icsd16, icsd24; got "mine"'):
        compositional([SALT], "mine")
    with pytest.raises(InvalidInputError, match="smact14, icsd16, icsd24; got 7"):
        compositional("NaCl", 7)
    with pytest.raises(InvalidInputError, match="`formulas`"):
        _rust.compositional_of_formulas([1])
    with pytest.raises(InvalidInputError, match="`offsets`"):
        _rust.compositional(np.ones(2, np.uint8), np.array([0, 1]))
