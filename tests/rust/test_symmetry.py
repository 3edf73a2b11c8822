"""Niggli reduction and space groups against spglib and pymatgen."""

from pathlib import Path

import numpy as np
import pytest
import spglib
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from adit import _rust
from adit.data import PackedDataset
from adit.errors import InvalidInputError


def random_cells(count, seed):
    cells = np.random.default_rng(seed).normal(size=(count, 3, 3)) * 5
    volume = np.abs(np.linalg.det(cells)) / np.prod(np.linalg.norm(cells, axis=2), axis=1)
    return np.ascontiguousarray(cells[volume > 1e-3])


def assert_same_lattice_and_frame(new, old):
    transform = new @ np.linalg.inv(old)
    assert np.allclose(transform, np.rint(transform), atol=1e-6)
    assert np.allclose(np.linalg.det(np.rint(transform)), 1.0)


def test_is_a_whole_unimodular_combination_of_the_old_vectors():
    cells = random_cells(300, 0)
    for new, old in zip(_rust.niggli_reduce(cells), cells, strict=True):
        assert_same_lattice_and_frame(new, old)


def test_equals_spglib():
    cells = random_cells(300, 1)
    for new, old in zip(_rust.niggli_reduce(cells), cells, strict=True):
        expected = Lattice(spglib.niggli_reduce(old, 1e-8)).parameters
        assert Lattice(new).parameters == pytest.approx(expected, abs=1e-5)


def test_equals_pymatgen():
    # pymatgen picks the vectors of its answer with a tolerance of one degree.
    cells = random_cells(40, 2)
    for new, old in zip(_rust.niggli_reduce(cells), cells, strict=True):
        expected = Lattice(old).get_niggli_reduced_lattice()
        assert Lattice(new).lengths == pytest.approx(expected.lengths, abs=1e-4)
        assert Lattice(new).angles == pytest.approx(expected.angles, abs=1.0)


BRAVAIS = {
    "cubic": Lattice.cubic(4.2),
    "fcc": Lattice.rhombohedral(2.9, 60),
    "bcc": Lattice.rhombohedral(2.7, np.degrees(np.arccos(-1 / 3))),
    "hexagonal": Lattice.hexagonal(3.2, 5.1),
    "rhombohedral": Lattice.rhombohedral(4.7, 57.3),
    "tetragonal": Lattice.tetragonal(3.8, 9.5),
    "orthorhombic": Lattice.orthorhombic(9.1, 2.3, 5.6),
    "monoclinic": Lattice.monoclinic(5.1, 9.2, 5.3, 99.7),
    "triclinic": Lattice.from_parameters(8.1, 3.3, 6.2, 97, 111, 64),
}


@pytest.mark.parametrize("name", BRAVAIS)
@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("hand", [1, -1])
def test_every_setting_of_a_lattice_ends_in_one(name, single, hand):
    matrix = BRAVAIS[name].matrix * hand
    rng = np.random.default_rng(3)
    settings_ = [np.eye(3)]
    while len(settings_) < 30:
        candidate = rng.integers(-1, 2, size=(3, 3))
        if round(np.linalg.det(candidate)) == 1:
            settings_.append(candidate)
    cells = np.array(settings_) @ matrix
    if single:
        cells = cells.astype(np.float32).astype(float)
    reduced = _rust.niggli_reduce(cells)
    expected = Lattice(spglib.niggli_reduce(matrix * hand, 1e-5)).parameters
    for new, old in zip(reduced, cells, strict=True):
        assert_same_lattice_and_frame(new, old)
        assert np.sign(np.linalg.det(new)) == hand
        assert Lattice(new).parameters == pytest.approx(expected, abs=2e-3 if single else 1e-6)


# Cells of the Materials Project whose edges or angles differ by about as much as the first tolerance.
TIED = np.array(
    [
        [[6.38105724, 0, 0], [-3.190529618253787, 5.526157096500402, 0], [1.4803044e-06, 2.5639631e-06, 5.98132562]],
        [[5.82945035, 0, 0], [-2.914721788937024, 5.0484527317848, 0], [3.1453568e-06, -3.9962316e-06, 13.539869910]],
        [[4.0170813, 0, 0], [2.0087233714086, 3.47878245305205, 0], [2.0084137747911, 1.1594557079565, 3.279895016349]],
        [[5.65721251, 0, 0], [-2.82860892375375, 4.89942613599778, 0], [-4.0994832e-05, 2.8471172e-06, 8.516736899901]],
        [[5.03443559, 0, 0], [-2.51721775901125, 4.36284670820621, 0], [-3.9148317e-05, -1.592023e-07, 9.779957999922]],
        [[3.78829582, 0, 0], [-1.89413557800016, 3.28077670532208, 0], [-3.3566252e-06, 2.7077255e-05, 5.82083710994]],
    ]
)


@pytest.mark.parametrize("place", range(len(TIED)))
def test_a_cell_with_ties_is_reduced(place):
    old = TIED[place]
    [new] = _rust.niggli_reduce(old[None])
    assert_same_lattice_and_frame(new, old)
    assert Lattice(new).lengths == pytest.approx(Lattice(spglib.niggli_reduce(old, 1e-3)).lengths, abs=1e-3)


def test_no_nearly_symmetric_cell_is_refused():
    rng = np.random.default_rng(5)
    lattices = np.array([lattice.matrix for lattice in BRAVAIS.values()])
    noise = rng.normal(size=(4000, 3, 3)) * 10 ** rng.uniform(-10, -1, size=(4000, 1, 1))
    cells = lattices[rng.integers(len(lattices), size=4000)] + noise
    for new, old in zip(_rust.niggli_reduce(cells), cells, strict=True):
        assert_same_lattice_and_frame(new, old)


def test_extreme_skew_and_size():
    plain = np.diag([3.0, 4.0, 5.0])
    skew = np.array([[1, 0, 0], [4_000, 1, 0], [-7, 900, 1]])
    for scale in (1e-6, 1.0, 1e6):
        new = _rust.niggli_reduce((skew @ plain * scale)[None])[0]
        assert np.allclose(np.abs(new), plain * scale, rtol=1e-6, atol=1e-6 * scale)


def test_same_at_any_thread_count():
    cells = random_cells(500, 4)
    results = [_rust.niggli_reduce(cells, threads) for threads in (1, 2, 5, None)]
    assert all(np.array_equal(result, results[0]) for result in results)


def test_no_cells():
    assert _rust.niggli_reduce(np.zeros((0, 3, 3))).shape == (0, 3, 3)


@pytest.mark.parametrize("bad", [np.zeros((3, 3)), np.ones((3, 3)), np.full((3, 3), np.nan), np.full((3, 3), np.inf)])
def test_a_cell_without_volume_is_named(bad):
    cells = np.array([np.eye(3), np.eye(3), bad])
    with pytest.raises(InvalidInputError, match=r"`cells\[2\]`"):
        _rust.niggli_reduce(cells)


@given(st.lists(st.floats(), min_size=9, max_size=9))
@settings(max_examples=200, deadline=None)
def test_any_numbers_are_reduced_or_refused(numbers):
    cell = np.array(numbers).reshape(1, 3, 3)
    try:
        new = _rust.niggli_reduce(cell)
    except InvalidInputError as error:
        assert "`cells[0]`" in str(error)
    else:
        assert np.isfinite(new).all()


@pytest.mark.parametrize(
    ("cells", "threads", "named"),
    [
        (np.eye(3), None, "`cells`"),
        (np.zeros((1, 3, 3), np.float32), None, "`cells`.*float64"),
        (np.asfortranarray(np.ones((2, 3, 3))), None, "`cells`.*contiguous"),
        (np.eye(3)[None], 0, "`threads`"),
        (np.eye(3)[None], "two", "`threads`"),
    ],
)
def test_refused_by_name(cells, threads, named):
    with pytest.raises(InvalidInputError, match=named):
        _rust.niggli_reduce(cells, threads)


def tiny_crystals():
    data = PackedDataset.load(Path(__file__).parents[1] / "fixtures" / "tiny_dataset")
    return [system for system in data if system.cell is not None]


def packed(systems):
    numbers = np.concatenate([numbers for numbers, _, _ in systems]).astype(np.uint8)
    positions = np.concatenate([np.reshape(positions, (-1, 3)) for _, positions, _ in systems]).astype(float)
    cells = np.array([cell for _, _, cell in systems], dtype=float)
    offsets = np.cumsum([0] + [len(numbers) for numbers, _, _ in systems])
    return numbers, positions, cells, offsets


def test_space_groups_equal_spglib():
    crystals = tiny_crystals()
    found = _rust.spacegroups(*packed([(c.numbers, c.positions, c.cell) for c in crystals]), symprec=0.1)
    expected = [
        spglib.get_symmetry_dataset((c.cell, c.fractional, c.numbers), symprec=0.1, angle_tolerance=-1.0).number
        for c in crystals
    ]
    assert (found > 0).all()
    # Where a structure is distorted by about the tolerance, the two lower it in different steps.
    assert np.mean(found == expected) >= 0.98


KNOWN = {
    # Both hands of quartz, which differ only by the handedness of their screw axis.
    152: (Lattice.hexagonal(4.916, 5.405), ["Si", "O"], [[0.4697, 0, 1 / 3], [0.4135, 0.2669, 0.4524]]),
    154: (Lattice.hexagonal(4.916, 5.405), ["Si", "O"], [[0.4697, 0, 2 / 3], [0.4135, 0.2669, 0.5476]]),
    225: (Lattice.cubic(5.6402), ["Na", "Cl"], [[0, 0, 0], [0.5, 0, 0]]),
    227: (Lattice.cubic(5.43), ["Si"], [[0, 0, 0]]),
    194: (Lattice.hexagonal(3.21, 5.21), ["Mg"], [[1 / 3, 2 / 3, 0.25]]),
    62: (Lattice.orthorhombic(5.44, 7.65, 5.38), ["Ca", "Ti"], [[0.036, 0.25, -0.007], [0, 0, 0.5]]),
}


@pytest.mark.parametrize("number", KNOWN)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_space_group_whatever_the_setting(number, dtype):
    lattice, species, coordinates = KNOWN[number]
    structure = Structure.from_spacegroup(number, lattice, species, coordinates)
    skew = np.array([[1, 0, 0], [3, 1, 0], [-2, 5, 1]])
    atoms, positions, cell = structure.atomic_numbers, structure.cart_coords + 37.3, structure.lattice.matrix
    # The same cell, left-handed, skewed, doubled.
    systems = [(atoms, positions, cell), (atoms, positions, -cell), (atoms, positions, skew @ cell)]
    systems.append((atoms * 2, np.concatenate([positions, positions + cell[1]]), np.diag([1, 2, 1]) @ cell))
    numbers, positions, cells, offsets = packed(systems)
    found = _rust.spacegroups(numbers, positions.astype(dtype), cells.astype(dtype), offsets)
    assert found.tolist() == [number] * 4


def test_a_system_without_space_group_is_zero():
    cube = np.eye(3) * 4
    systems = [
        ([11, 17], [[0, 0, 0], [2, 2, 2]], cube),
        ([], [], cube),
        ([11, 11], [[0, 0, 0], [4, 0, 0.005]], cube),
        ([11, 17], [[0, 0, 0], [0, 0, 0]], cube),
        ([11], [[np.nan, 0, 0]], cube),
        ([11], [[np.inf, 0, 0]], cube),
        ([11], [[1e300, 0, 0]], cube),
        ([11], [[0, 0, 0]], cube * 0),
        ([11], [[0, 0, 0]], cube * np.nan),
        ([11], [[0, 0, 0]], np.diag([4, 4, 1e7])),
        ([11], [[0, 0, 0]], np.ones((3, 3))),
        ([11], [[1e6, 0, 0]], cube),
    ]
    assert _rust.spacegroups(*packed(systems)).tolist() == [221, *[0] * 10, 221]
    assert _rust.spacegroups(*packed(systems), threads=1).tolist() == [221, *[0] * 10, 221]
    assert _rust.spacegroups(*packed(systems[:1]), symprec=1e9).tolist() == [0]
    nothing = np.zeros(0, np.uint8), np.zeros((0, 3)), np.zeros((0, 3, 3)), np.zeros(1, int)
    assert _rust.spacegroups(*nothing).shape == (0,)


@given(
    st.lists(st.floats(-8, 8), min_size=9, max_size=9),
    st.lists(st.tuples(st.integers(1, 2), *[st.floats(-5, 5)] * 3), max_size=6),
    st.floats(1e-8, 2.0),
)
@settings(max_examples=300, deadline=5000)
def test_any_crystal_ends_with_a_number(cell, atoms, symprec):
    systems = [([atom[0] for atom in atoms], [atom[1:] for atom in atoms], np.reshape(cell, (3, 3)))]
    [number] = _rust.spacegroups(*packed(systems), symprec=symprec)
    assert 0 <= number <= 230


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"numbers": np.zeros(1, int)}, "`numbers`.*uint8"),
        ({"positions": np.zeros((2, 3))}, "`positions`"),
        ({"cells": np.zeros((2, 3, 3))}, "`cells`.*1 systems"),
        ({"offsets": np.array([0, 2])}, "`offsets`"),
        ({"symprec": 0.0}, "`symprec`"),
        ({"symprec": np.nan}, "`symprec`"),
        ({"symprec": "fine"}, "`symprec`.*Angstrom"),
        ({"threads": 0}, "`threads`"),
    ],
)
def test_space_groups_refused_by_name(changed, named):
    arguments = {"numbers": np.ones(1, np.uint8), "positions": np.zeros((1, 3)), "cells": np.eye(3)[None]}
    arguments |= {"offsets": np.array([0, 1])}
    with pytest.raises(InvalidInputError, match=named):
        _rust.spacegroups(**(arguments | changed))
