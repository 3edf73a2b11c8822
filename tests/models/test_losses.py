"""The autoencoder's losses against plain float64 numpy."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adit.batch import SystemBatch
from adit.config import VAELossConfig
from adit.models.losses import (
    contact_weight,
    kl_divergence,
    minimum_image,
    pair_distance_loss,
    reconstruction_terms,
    robust,
    total_loss,
)
from adit.models.vae import Decoded


def perfect(batch: SystemBatch, confidence: float = 50.0) -> Decoded:
    """What a decoder without error would say."""
    angle = 2 * math.pi * batch.fractional
    logits = confidence * torch.nn.functional.one_hot(batch.numbers - 1, 100).float()
    return Decoded(logits, batch.cartesian, torch.stack([angle.cos(), angle.sin()], -1), batch.lattice)


def test_the_truth_costs_nothing(batch: SystemBatch) -> None:
    terms = reconstruction_terms(perfect(batch), batch)
    for name, value in terms.items():
        want = 1.0 if name == "accuracy" else 0.0
        assert value.shape == (batch.n_systems,)
        torch.testing.assert_close(value, torch.full_like(value, want), atol=2e-4, rtol=0, msg=name)


@pytest.mark.parametrize(("a", "b", "apart"), [(0.99, 0.01, 0.02), (0.2, 0.6, 0.4), (0.1, 0.8, 0.3), (3.9, -2.2, 0.1)])
def test_minimum_image(a: float, b: float, apart: float) -> None:
    for x, y in ((a, b), (b, a)):
        difference = minimum_image(torch.tensor(x - y, dtype=torch.float64))
        assert abs(difference) == pytest.approx(apart)


def test_the_position_of_a_crystal_is_periodic(batch: SystemBatch) -> None:
    """0.99 against 0.01 is off by 0.02 cells, in Angstrom through the cell."""
    crystals = batch.periodic
    target = replace(batch, fractional=torch.where(crystals[:, None, None], 0.01, 0.0).expand_as(batch.fractional))
    near, far = (
        reconstruction_terms(perfect(replace(target, fractional=torch.full_like(target.fractional, f))), target)
        for f in (0.99, 0.03)
    )
    torch.testing.assert_close(near["rmsd"][crystals], far["rmsd"][crystals], atol=1e-4, rtol=1e-3)
    step = torch.full((3,), 0.02) @ target.cells[crystals]
    torch.testing.assert_close(near["rmsd"][crystals], step.norm(dim=-1), atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(near["fractional"], far["fractional"], atol=1e-4, rtol=1e-3)


@given(st.floats(-0.5, 0.5), st.integers(-3, 3))
@settings(max_examples=50, deadline=None)
def test_the_phase_loss_is_the_chord(shift: float, cells: int) -> None:
    """|exp(2 pi i a) - exp(2 pi i b)|^2 = 4 sin^2(pi (a - b)), summed over three axes."""
    from adit.system import AtomicSystem

    system = AtomicSystem.from_fractional([3], [[0.3, 0.3, 0.3]], np.eye(3) * 3)
    target = SystemBatch.from_arrays(system.numbers[None], system.positions[None], system.cell[None], np.array([True]))
    moved = replace(target, fractional=target.fractional + shift + cells)
    loss = reconstruction_terms(perfect(moved), target)["fractional"].item()
    assert loss == pytest.approx(3 * 4 * math.sin(math.pi * shift) ** 2, abs=2e-5)


def brute_force(predicted: np.ndarray, true: np.ndarray) -> float:
    """Mean relative error of pairs closer than 5 Angstrom, one pair after the other."""
    total = weights = 0.0
    for i in range(len(true)):
        for j in range(len(true)):
            if i == j or true[i, j] <= 0.1:
                continue
            weight = min(1.0, max(0.0, (5 - true[i, j]) / 2))
            error = (predicted[i, j] - true[i, j]) / max(true[i, j], 0.5)
            total += weight * (math.sqrt(error**2 + 1e-4) - 0.01)
            weights += weight
    return total / max(weights, 1e-6)


def distances(points: np.ndarray) -> np.ndarray:
    return np.linalg.norm(points[:, None] - points[None], axis=-1)


def test_pair_distances_of_molecules_against_brute_force(batch: SystemBatch) -> None:
    noise = 0.2 * torch.randn(batch.cartesian.shape, generator=torch.Generator().manual_seed(0))
    decoded = replace(perfect(batch), cartesian=batch.cartesian + noise)
    loss = reconstruction_terms(decoded, batch)["distance"].numpy()
    for k in np.flatnonzero(~batch.periodic.numpy()):
        expected = brute_force(*(distances(x[k].double().numpy()) for x in (decoded.cartesian, batch.cartesian)))
        assert expected > 0.005 and loss[k] == pytest.approx(expected, rel=1e-3)


def test_pair_distances_of_crystals_against_brute_force(batch: SystemBatch) -> None:
    """The image that is nearest along each axis in the truth, followed into the prediction and its cell."""
    from adit.batch import lattice_cells

    generator = torch.Generator().manual_seed(0)
    moved = replace(
        batch,
        fractional=batch.fractional + 0.02 * torch.randn(batch.fractional.shape, generator=generator),
        lattice=batch.lattice * (1 + 0.02 * torch.randn(batch.lattice.shape, generator=generator)),
    )
    loss = reconstruction_terms(perfect(moved), batch)["distance"].numpy()
    cells = lattice_cells(moved.lattice.double(), batch.n_atoms).numpy()
    for k in np.flatnonzero(batch.periodic.numpy()):
        f, g = batch.fractional[k].double().numpy(), moved.fractional[k].double().numpy()
        single = batch.fractional[k].numpy()  # ties at one half are common in crystals: round as the loss does
        image = np.round(single[None] - single[:, None])
        true = np.linalg.norm((f[None] - f[:, None] - image) @ batch.cells[k].double().numpy(), axis=-1)
        predicted = np.linalg.norm((g[None] - g[:, None] - image) @ cells[k], axis=-1)
        expected = brute_force(predicted, true)
        assert expected > 0.003 and loss[k] == pytest.approx(expected, rel=2e-3)


def test_the_distance_loss_does_not_see_a_common_motion(batch: SystemBatch) -> None:
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(0)))[0]
    shift = torch.tensor([0.1, 0.7, 0.4])
    decoded = perfect(replace(batch, cartesian=batch.cartesian @ turn, fractional=batch.fractional + shift))
    assert reconstruction_terms(decoded, batch)["distance"].abs().max() < 2e-4


def test_a_lone_atom_has_no_pairs() -> None:
    batch = SystemBatch.from_arrays(np.array([[26]]), np.zeros((1, 1, 3)), np.eye(3)[None] * 3, np.array([True]))
    decoded = perfect(batch)
    decoded.lattice.requires_grad_(True)
    terms = reconstruction_terms(decoded, batch)
    assert terms["distance"].item() == 0
    sum(term.sum() for term in terms.values()).backward()
    assert decoded.lattice.grad.isfinite().all()  # type: ignore[union-attr]


def test_gradients_of_the_truth_are_finite(batch: SystemBatch) -> None:
    """Square roots at zero and divisions by nothing lie on the way."""
    decoded = perfect(batch)
    leaves = [getattr(decoded, f.name).clone().requires_grad_(True) for f in fields(Decoded)]
    terms = reconstruction_terms(Decoded(*leaves), batch)
    total_loss({**terms, "kl": torch.zeros(batch.n_systems)}, VAELossConfig()).sum().backward()
    assert all(leaf.grad is not None and leaf.grad.isfinite().all() for leaf in leaves)


def test_contact_weight_and_robust() -> None:
    weights = contact_weight(torch.tensor([0.5, 3.0, 4.0, 5.0, 9.0]))
    torch.testing.assert_close(weights, torch.tensor([1.0, 1.0, 0.5, 0.0, 0.0]))
    assert robust(torch.tensor(0.0), 0.05) == 0
    assert robust(torch.tensor(3.0, dtype=torch.float64), 0.05).item() == pytest.approx(2.95, abs=1e-3)
    assert robust(torch.tensor(1e-3, dtype=torch.float64), 0.05).item() == pytest.approx(1e-6 / 0.1, rel=1e-3)
    zero = torch.zeros(1, 2, 2)
    assert pair_distance_loss(zero + 1, zero).item() == 0, "no pairs, no loss"


def test_kl_against_torch_distributions() -> None:
    generator = torch.Generator().manual_seed(0)
    mean, log_variance = (torch.randn(3, 4, 5, generator=generator) for _ in range(2))
    posterior = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    expected = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0)).sum(-1).mean(1)
    torch.testing.assert_close(kl_divergence(mean, log_variance), expected)
    assert kl_divergence(torch.zeros(1, 2, 3), torch.zeros(1, 2, 3)).item() == 0


def test_total_is_the_weighted_sum() -> None:
    names = ("type", "position", "distance", "fractional", "length", "angle", "kl")
    terms = {name: torch.tensor([10.0**k]) for k, name in enumerate(names)}
    weights = VAELossConfig(type=1, position=2, distance=3, fractional=4, length=5, angle=6, kl=7)
    assert total_loss(terms, weights).item() == 7_654_321
