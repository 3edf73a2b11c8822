"""`SystemBatch` and the six lattice parameters."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice

from adit.batch import SystemBatch, gather, lattice_cells, lattice_parameters, to_fractional, wrap
from adit.data.packed import PackedDataset
from adit.errors import InvalidInputError
from adit.system import AtomicSystem

LENGTH = st.floats(1.0, 30.0)
ANGLE = st.floats(35.0, 140.0)


def possible(alpha: float, beta: float, gamma: float) -> bool:
    """Whether a cell has these angles, well away from flat."""
    a, b, c = (math.cos(math.radians(angle)) for angle in (alpha, beta, gamma))
    return 1 - a * a - b * b - c * c + 2 * a * b * c > 0.02


LATTICES = st.tuples(LENGTH, LENGTH, LENGTH, ANGLE, ANGLE, ANGLE).filter(lambda p: possible(*p[3:]))


@given(LATTICES)
@settings(max_examples=100, deadline=None)
def test_cartesian_vectors_become_fractional_ones_as_pymatgen_has_it(parameters: tuple[float, ...]) -> None:
    lattice = Lattice.from_parameters(*parameters)
    vectors = np.random.default_rng(0).normal(size=(5, 3))
    found = to_fractional(torch.from_numpy(vectors)[None], torch.from_numpy(lattice.matrix.copy())[None])
    np.testing.assert_allclose(found[0].numpy(), lattice.get_fractional_coords(vectors), rtol=1e-9, atol=1e-9)


@given(LATTICES, st.integers(1, 50))
@settings(max_examples=100, deadline=None)
def test_lattice_parameters_are_pymatgens_and_go_back(parameters: tuple[float, ...], n_atoms: int) -> None:
    lattice = Lattice.from_parameters(*parameters)
    cell = torch.from_numpy(lattice.matrix.copy())[None]
    scaled = lattice_parameters(cell, n_atoms)
    expected = [*np.array(lattice.abc) / n_atoms ** (1 / 3), *np.radians(lattice.angles)]
    np.testing.assert_allclose(scaled[0].numpy(), expected, rtol=1e-9)

    again = lattice_cells(scaled, n_atoms)
    np.testing.assert_allclose((again @ again.mT).numpy(), (cell @ cell.mT).numpy(), rtol=1e-6, atol=1e-6)
    assert torch.linalg.det(again) > 0
    assert again[0, 0, 1] == again[0, 0, 2] == again[0, 1, 2] == 0
    np.testing.assert_allclose(lattice_parameters(again, n_atoms).numpy(), scaled.numpy(), rtol=1e-6)


@given(st.tuples(*[st.floats(-1e3, 1e3)] * 6))
@settings(max_examples=100, deadline=None)
def test_impossible_lattices_give_finite_cells_and_gradients(parameters: tuple[float, ...]) -> None:
    lattice = torch.tensor([parameters], dtype=torch.float64, requires_grad=True)
    cells = lattice_cells(lattice, 3)
    cells.sum().backward()
    assert cells.isfinite().all() and lattice.grad is not None and lattice.grad.isfinite().all()


def test_lattice_parameters_do_not_see_the_frame() -> None:
    rng = np.random.default_rng(0)
    cells = rng.normal(size=(50, 3, 3)) * 5
    rotations = np.linalg.qr(rng.normal(size=(50, 3, 3)))[0]
    first, second = (lattice_parameters(torch.from_numpy(x), 4) for x in (cells, cells @ rotations))
    torch.testing.assert_close(first, second)


def one_of_each() -> PackedDataset:
    """A molecule off its centre and a crystal with atoms outside its (left-handed) cell, two atoms each."""
    cell = np.array([[0, 4.0, 0], [3.0, 0, 0], [0.5, 0, 5.0]])
    return PackedDataset.from_systems(
        [
            AtomicSystem([6, 8], [[10, 10, 10], [11.2, 10, 10]]),
            AtomicSystem.from_fractional([11, 17], [[-0.25, 1.5, 0.0], [0.5, 0.25, 7.75]], cell),
        ]
    )


def take(data: PackedDataset, indices: list[int]) -> SystemBatch:
    order = np.array(indices, dtype=np.int64)
    return gather(data, order)


def test_molecule_and_crystal_side_by_side() -> None:
    data = one_of_each()
    batch = take(data, [0, 1, 0])
    assert (batch.n_systems, batch.n_atoms) == (3, 2)
    assert batch.periodic.tolist() == [False, True, False]
    assert batch.numbers.tolist() == [[6, 8], [11, 17], [6, 8]]
    torch.testing.assert_close(batch.cartesian[0], torch.tensor([[-0.6, 0, 0], [0.6, 0, 0]]), atol=1e-5, rtol=0)
    assert not batch.fractional[0].any() and not batch.lattice[0].any()
    assert torch.equal(batch.cells[0], torch.eye(3))
    assert not batch.cartesian[1].any()
    expected = torch.tensor([[0.75, 0.5, 0.0], [0.5, 0.25, 0.75]])
    off = batch.fractional[1] - expected
    torch.testing.assert_close(off - off.round(), torch.zeros(2, 3), atol=1e-6, rtol=0)
    torch.testing.assert_close(batch.lattice[1, :3] * 2 ** (1 / 3), torch.tensor([4, 3, 25.25**0.5]))
    for name in ("cartesian", "fractional", "cells", "lattice"):
        assert getattr(batch, name).dtype == torch.float32


def test_gather_takes_memory_mapped_arrays_as_they_are(tmp_path) -> None:  # type: ignore[no-untyped-def]
    one_of_each().save(tmp_path / "d")
    batch = take(PackedDataset.load(tmp_path / "d"), [1])
    assert torch.equal(batch.fractional, take(one_of_each(), [1]).fractional)


@pytest.mark.parametrize("index", [2, -1])
def test_gather_refuses_indices_out_of_range(index: int) -> None:
    with pytest.raises(InvalidInputError, match="ind"):
        take(one_of_each(), [index])


def test_gather_refuses_systems_of_different_size() -> None:
    data = PackedDataset.from_systems([AtomicSystem([1] * n, np.zeros((n, 3))) for n in (2, 4, 3)])
    for indices in ([0, 2], [0, 1, 2]):  # 5 atoms; 9, which three systems could share
        with pytest.raises(InvalidInputError, match=r"of one size, since nothing is padded; got 2, 3.* atoms"):
            take(data, indices)
    assert take(data, []).n_systems == 0


@given(st.floats(-5, 5, width=32))
@settings(max_examples=200, deadline=None)
def test_wrapped_coordinates_lie_in_the_half_open_cell(value: float) -> None:
    wrapped = wrap(torch.tensor([value, -1e-9, -0.0, 1.0], dtype=torch.float32))
    assert (wrapped >= 0).all() and (wrapped < 1).all()
    off = float(wrapped[0]) - value
    assert abs(off - round(off)) < 1e-6


def test_wrapping_keeps_nan_visible() -> None:
    assert wrap(torch.tensor([float("nan")])).isnan().all()
