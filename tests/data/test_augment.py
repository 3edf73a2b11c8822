"""Random symmetry operations: uniform, and one for each system."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from adit.batch import SystemBatch
from adit.data.augment import augment, random_rotations

N = 20_000


@pytest.fixture(scope="module")
def rotations() -> torch.Tensor:
    return random_rotations(N, torch.Generator().manual_seed(1)).double()


def test_rotations_are_proper(rotations: torch.Tensor) -> None:
    identity = torch.eye(3, dtype=torch.float64).expand(N, 3, 3)
    torch.testing.assert_close(rotations @ rotations.mT, identity, atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.linalg.det(rotations), torch.ones(N, dtype=torch.float64), atol=1e-5, rtol=0)


def test_angles_have_the_density_of_the_haar_measure(rotations: torch.Tensor) -> None:
    """(1 - cos angle) / pi on [0, pi]; quaternions from U[0, 1)^4, as published, have another."""
    trace = rotations.diagonal(dim1=1, dim2=2).sum(-1)
    angles = torch.arccos(((trace - 1) / 2).clamp(-1, 1)).numpy()
    assert stats.kstest(angles, lambda a: (a - np.sin(a)) / math.pi).pvalue > 1e-3

    q = np.random.default_rng(0).random((N, 4))
    published = 2 * np.arccos(q[:, 0] / np.linalg.norm(q, axis=1))
    assert stats.kstest(published, lambda a: (a - np.sin(a)) / math.pi).pvalue < 1e-6, "the test must tell them apart"


@pytest.mark.parametrize("vector", [(1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.6, 0.0, -0.8)])
def test_any_vector_goes_anywhere_on_the_sphere(rotations: torch.Tensor, vector: tuple[float, ...]) -> None:
    """Each Cartesian component of a uniform unit vector is uniform on [-1, 1] (Archimedes)."""
    turned = (torch.tensor(vector, dtype=torch.float64) @ rotations).numpy()
    for axis in range(3):
        assert stats.kstest(turned[:, axis], stats.uniform(-1, 2).cdf).pvalue > 1e-3


def test_haar_moments(rotations: torch.Tensor) -> None:
    """E[R_ij R_kl] = delta_ik delta_jl / 3 (Schur orthogonality), E[R] = 0."""
    flat = rotations.reshape(N, 9)
    error = 5 / math.sqrt(N)
    assert flat.mean(0).abs().max() < error
    assert (flat.T @ flat / N - torch.eye(9, dtype=torch.float64) / 3).abs().max() < error


def batch(count: int = 64, atoms: int = 5) -> SystemBatch:
    """Copies of one molecule and of one crystal by turns, so that any difference comes from the augmentation."""
    rng = np.random.default_rng(0)
    positions = np.repeat(rng.normal(size=(1, atoms, 3)) * 2, count, 0)
    cells = np.repeat(rng.normal(size=(1, 3, 3)) + 4 * np.eye(3), count, 0)
    return SystemBatch.from_arrays(np.full((count, atoms), 6), positions, cells, np.arange(count) % 2 == 1)


def test_every_system_has_an_operation_of_its_own() -> None:
    before = batch()
    after = augment(before, torch.Generator().manual_seed(0))
    molecules, crystals = ~before.periodic, before.periodic
    rotation = torch.linalg.lstsq(before.cartesian[molecules], after.cartesian[molecules]).solution
    shift = (after.fractional - before.fractional)[crystals]
    shift = shift - shift.floor()
    for drawn in (rotation.flatten(1), shift[:, 0]):
        distance = torch.cdist(drawn, drawn) + 9 * torch.eye(len(drawn))
        assert distance.min() > 1e-3, "two systems share an operation"


def test_molecules_are_turned_about_their_centre_and_keep_their_shape() -> None:
    before = batch()
    after = augment(before, torch.Generator().manual_seed(0))
    chosen = ~before.periodic
    assert after.cartesian[chosen].mean(1).abs().max() < 1e-6
    gram = [x[chosen].double() @ x[chosen].double().mT for x in (before.cartesian, after.cartesian)]
    torch.testing.assert_close(gram[0], gram[1], atol=1e-5, rtol=1e-5)
    volumes = [torch.linalg.det(x[chosen][:, :3].double()) for x in (before.cartesian, after.cartesian)]
    torch.testing.assert_close(volumes[0], volumes[1], atol=1e-4, rtol=1e-4)  # no mirror
    assert torch.equal(after.fractional[chosen], before.fractional[chosen])


def test_crystals_are_shifted_as_a_whole_on_the_torus() -> None:
    before = batch(2000)
    after = augment(before, torch.Generator().manual_seed(0))
    chosen = before.periodic
    shift = (after.fractional - before.fractional)[chosen].double()
    apart = shift - shift[:, :1]
    assert (apart - apart.round()).abs().max() < 1e-6
    assert (after.fractional >= 0).all() and (after.fractional < 1).all()
    first = (shift[:, 0] - shift[:, 0].floor()).numpy()
    assert all(stats.kstest(first[:, axis], "uniform").pvalue > 1e-3 for axis in range(3))
    assert np.abs(np.corrcoef(first.T) - np.eye(3)).max() < 5 / math.sqrt(len(first))
    for name in ("cartesian", "lattice", "cells", "numbers"):
        assert torch.equal(getattr(after, name)[chosen], getattr(before, name)[chosen])


def test_autocast_does_not_touch_the_coordinates() -> None:
    """In bfloat16 a bond would be off by 0.006 Angstrom (rms), and the decoder would learn that."""
    plain = augment(batch(), torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        cast = augment(batch(), torch.Generator().manual_seed(0))
    assert cast.cartesian.dtype == torch.float32 and torch.equal(plain.cartesian, cast.cartesian)
    assert torch.equal(plain.fractional, cast.fractional)


def test_the_generator_decides() -> None:
    first, second, third = (augment(batch(), torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert torch.equal(first.cartesian, second.cartesian) and torch.equal(first.fractional, second.fractional)
    assert not torch.equal(first.cartesian, third.cartesian)
