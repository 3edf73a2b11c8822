"""Niggli reduction against spglib and pymatgen."""

import numpy as np
import pytest
import spglib
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice

from adit import _rust
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
