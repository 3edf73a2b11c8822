"""`AtomicSystem`: what it accepts, what it refuses and how it says so."""

from __future__ import annotations

import copy
import pickle
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pymatgen.core import Element

from adit.elements import ELECTRONEGATIVITY_RANKS, NUMBERS, SYMBOLS
from adit.errors import AditError, InvalidInputError
from adit.system import AtomicSystem

CUBE = np.eye(3) * 4.0
WATER = AtomicSystem([8, 1, 1], [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]], None, {"id": "water"})
SALT = AtomicSystem([11, 17], [[0, 0, 0], [2, 2, 2]], CUBE, {"id": "salt"})


def test_elements_are_those_of_the_periodic_table() -> None:
    from ase.data import chemical_symbols

    assert chemical_symbols[:101] == SYMBOLS
    assert all(SYMBOLS[number] == symbol for symbol, number in NUMBERS.items())


def test_fields_are_typed_owned_and_read_only() -> None:
    positions = np.zeros((1, 3), np.float32)
    system = AtomicSystem([6], positions, CUBE)
    positions[:] = 9
    assert (system.numbers.dtype, system.positions.dtype, system.cell.dtype) == (np.int64, np.float64, np.float64)
    assert not system.positions.any(), "the caller's array must not be shared"
    for array in (system.numbers, system.positions, system.cell):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    with pytest.raises(FrozenInstanceError):
        system.cell = None
    with pytest.raises(TypeError):
        system.info["a"] = 1


@pytest.mark.parametrize(
    ("numbers", "positions", "cell", "words"),
    [
        ([[6]], [[0, 0, 0]], None, ["`numbers`", "(n,)", "(1, 1)"]),
        ([6], [0, 0, 0], None, ["`positions`", "(1, 3)", "Angstrom", "(3,)"]),
        ([6, 6], [[0, 0, 0]], None, ["`positions`", "(2, 3)", "(1, 3)"]),
        ([6], [], None, ["`positions`", "(1, 3)", "(0, 3)"]),
        ([0], [[0, 0, 0]], None, ["`numbers`", "1 to 100", "0"]),
        ([6, 101], np.zeros((2, 3)), None, ["`numbers`", "101"]),
        ([-6], [[0, 0, 0]], None, ["-6"]),
        ([6.5], [[0, 0, 0]], None, ["whole numbers"]),
        ([np.nan], [[0, 0, 0]], None, ["whole numbers"]),
        ([10**30], [[0, 0, 0]], None, ["`numbers`"]),
        (["C"], [[0, 0, 0]], None, ["`numbers`", "'C'"]),
        ([1, 1], [[0, 0, 0], [np.nan, 0, 0]], None, ["finite", "atom 1"]),
        ([1], [[0, 0, np.inf]], None, ["finite", "atom 0"]),
        ([1, 1], [[0, 0, 0], [0, 0]], None, ["`positions`"]),
        ([1], [["x", 0, 0]], None, ["`positions`"]),
        ([1], [[None, 0, 0]], None, ["finite"]),
        ([6], [[0, 0, 0]], [4, 4, 4], ["`cell`", "(3, 3)", "(3,)"]),
        ([6], [[0, 0, 0]], np.zeros((3, 3)), ["`cell`", "volume", "cell=None"]),
        ([6], [[0, 0, 0]], [[1, 0, 0], [0, 1, 0], [1, 1, 0]], ["`cell`", "coplanar"]),
        ([6], [[0, 0, 0]], np.eye(3) * 1e-3, ["`cell`", "span only 1.0e-09 cubic Angstrom", "in Angstrom"]),
        ([6], [[0, 0, 0]], np.diag([1e3, 1e3, 1e-13]), ["`cell`", "span only"]),
        ([6], [[0, 0, 0]], np.full((3, 3), np.nan), ["`cell`", "finite"]),
    ],
)
def test_bad_input_is_refused_by_name(numbers, positions, cell, words) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InvalidInputError) as caught:
        AtomicSystem(numbers, positions, cell)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert isinstance(caught.value, AditError) and isinstance(caught.value, ValueError)


@pytest.mark.parametrize("shape", [(3, 2), (2, 3, 1), (6,), (3, 4)])
def test_fractional_coordinates_of_another_shape_are_not_reshaped(shape: tuple[int, ...]) -> None:
    """(3, 2) has six numbers, as two atoms have: taking them row by row would scramble the axes."""
    with pytest.raises(InvalidInputError, match=r"`fractional` must have shape \(n, 3\)"):
        AtomicSystem.from_fractional([6] * (int(np.prod(shape)) // 3), np.zeros(shape), CUBE)


def test_no_atoms() -> None:
    empty = AtomicSystem([], [])
    assert len(empty) == 0 and empty.positions.shape == (0, 3) and empty.formula == ""
    assert len(AtomicSystem.from_fractional([], [], CUBE)) == 0


@pytest.mark.parametrize(
    ("symbols", "formula"),
    [("O H H", "H2O"), ("C H H H O H", "CH4O"), ("Cl Na", "ClNa"), ("H C N", "CHN"), ("Si C C", "C2Si"), ("H H", "H2")],
)
def test_formula_is_in_hill_order(symbols: str, formula: str) -> None:
    numbers = [NUMBERS[symbol] for symbol in symbols.split()]
    assert AtomicSystem(numbers, np.zeros((len(numbers), 3))).formula == formula


def test_equality_looks_at_the_geometry_alone() -> None:
    assert replace(WATER, info={}) == WATER
    assert replace(SALT, cell=None) != SALT
    assert replace(SALT, cell=CUBE * 1.1) != SALT
    assert AtomicSystem(WATER.numbers[::-1], WATER.positions) != WATER
    assert WATER != "water"
    with pytest.raises(TypeError):
        hash(WATER)


@pytest.mark.parametrize("system", [WATER, SALT])
def test_copies_and_pickles(system: AtomicSystem) -> None:
    for twin in (pickle.loads(pickle.dumps(system)), copy.deepcopy(system), copy.copy(system)):
        assert twin == system and dict(twin.info) == dict(system.info)
        assert not twin.positions.flags.writeable


def test_a_molecule_has_neither_volume_nor_fractional_coordinates() -> None:
    for name in ("volume", "fractional"):
        with pytest.raises(InvalidInputError, match="`cell` is None"):
            getattr(WATER, name)


CELLS = hnp.arrays(np.float64, (3, 3), elements=st.floats(-20, 20)).filter(lambda cell: abs(np.linalg.det(cell)) > 0.1)


@given(CELLS, hnp.arrays(np.float64, (4, 3), elements=st.floats(-3, 3)))
@settings(max_examples=100, deadline=None)
def test_fractional_and_cartesian_as_in_pymatgen(cell, fractional) -> None:  # type: ignore[no-untyped-def]
    from pymatgen.core import Lattice

    system = AtomicSystem.from_fractional([1, 2, 3, 4], fractional, cell)
    lattice = Lattice(cell)
    np.testing.assert_allclose(system.positions, lattice.get_cartesian_coords(fractional), atol=1e-9)
    condition = np.linalg.cond(cell)
    np.testing.assert_allclose(system.fractional, fractional, atol=1e-12 * condition + 1e-12)
    assert system.volume == pytest.approx(lattice.volume)


@given(st.one_of(st.lists(st.one_of(st.floats(), st.integers(), st.text(max_size=3), st.none())), st.text(), st.none()))
@settings(max_examples=200, deadline=None)
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
def test_nonsense_gives_nothing_but_our_errors(value) -> None:  # type: ignore[no-untyped-def]
    for arguments in ((value, [[0, 0, 0]]), ([6], value), ([6], [value]), ([6], [[0, 0, 0]], value)):
        try:
            system = AtomicSystem(*arguments)
        except InvalidInputError:
            continue
        assert np.isfinite(system.positions).all() and ((system.numbers > 0) & (system.numbers <= 100)).all()


def test_elements_are_sorted_as_pymatgen_sorts_them() -> None:
    without = [2, 10, 18]
    with_one = [element for element in map(Element.from_Z, range(1, 101)) if element.Z not in without]
    expected = [element.Z for element in sorted(with_one)] + without
    assert ELECTRONEGATIVITY_RANKS[expected].tolist()[:97] == list(range(97))
    assert sorted(ELECTRONEGATIVITY_RANKS[without]) == [97, 98, 99]
