"""The autoencoder's losses. Shape suffixes: B systems, N atoms in each."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from adit.batch import SystemBatch, lattice_cells
from adit.config import VAELossConfig
from adit.models.vae import Decoded


def robust(error: Tensor, scale: float) -> Tensor:
    """sqrt(error^2 + scale^2) - scale: quadratic below `scale`, linear above (Charbonnier 1994)."""
    return (error * error + scale * scale).sqrt() - scale


def minimum_image(difference: Tensor) -> Tensor:
    """Fractional differences wrapped into [-1/2, 1/2]."""
    return difference - difference.round()


def contact_weight(distance: Tensor, inner: float = 3.0, outer: float = 5.0) -> Tensor:
    """1 below `inner` Angstrom, falling linearly to 0 at `outer`."""
    return ((outer - distance) / (outer - inner)).clamp(0, 1)


def pair_distance_loss(predicted_BNN: Tensor, true_BNN: Tensor) -> Tensor:
    """(B,) mean relative error of the short pair distances; pairs closer than 0.1 Angstrom (self) do not count."""
    weight = contact_weight(true_BNN) * (true_BNN > 0.1)
    error = robust((predicted_BNN - true_BNN) / true_BNN.clamp(min=0.5), 0.01)
    return (weight * error).sum((1, 2)) / weight.sum((1, 2)).clamp(min=1e-6)


def _pair_distances(difference_BNN3: Tensor) -> Tensor:
    return (difference_BNN3.square().sum(-1) + 1e-8).sqrt()


def reconstruction_terms(decoded: Decoded, target: SystemBatch) -> dict[str, Tensor]:
    """Each term as (B,), before weights. `position`, `rmsd` in Angstrom; all positions in a crystal under
    the minimum-image convention.

    The crystal decoder learns cosines and sines (`fractional`): its error is smooth and periodic, so it
    learns from the start; the error in Angstrom (`position`) sharpens it.
    """
    crystal = target.periodic
    systems, atoms = target.numbers.shape
    logits = decoded.logits.reshape(systems * atoms, -1)
    type_loss = F.cross_entropy(logits, target.numbers.reshape(-1) - 1, reduction="none").view(systems, atoms).mean(1)

    angles = 2 * math.pi * target.fractional
    phase = torch.stack([angles.cos(), angles.sin()], -1)
    fractional_loss = (decoded.phase - phase).square().sum((-1, -2)).mean(1)
    lattice_error = decoded.lattice - target.lattice
    length_loss = lattice_error[:, :3].square().mean(1)
    angle_loss = lattice_error[:, 3:].square().mean(1)

    shift = minimum_image(decoded.fractional - target.fractional)
    # a common shift of all atoms is no error of the structure, but it is one of the code: keep it
    displacement = torch.where(crystal[:, None, None], shift @ target.cells, decoded.cartesian - target.cartesian)
    squared = displacement.square().sum(-1)
    position_loss = robust((squared + 1e-8).sqrt(), 0.05).mean(1)

    # pairs: the image that is nearest in the true structure, followed into the predicted one
    true_fraction = target.fractional[:, None] - target.fractional[:, :, None]
    image = true_fraction.round()
    near = true_fraction - image
    moved = shift[:, None] - shift[:, :, None]
    cells = lattice_cells(decoded.lattice, atoms)
    crystal_true = _pair_distances(near @ target.cells[:, None])
    crystal_predicted = _pair_distances((near + moved) @ cells[:, None])
    molecule_true = _pair_distances(target.cartesian[:, None] - target.cartesian[:, :, None])
    molecule_predicted = _pair_distances(decoded.cartesian[:, None] - decoded.cartesian[:, :, None])
    mask = crystal[:, None, None]
    distance_loss = pair_distance_loss(
        torch.where(mask, crystal_predicted, molecule_predicted), torch.where(mask, crystal_true, molecule_true)
    )
    accuracy = (decoded.logits.argmax(-1) + 1 == target.numbers).float().mean(1)
    return {
        "type": type_loss,
        "position": position_loss,
        "distance": distance_loss,
        "fractional": torch.where(crystal, fractional_loss, 0.0),
        "length": torch.where(crystal, length_loss, 0.0),
        "angle": torch.where(crystal, angle_loss, 0.0),
        "accuracy": accuracy,
        "rmsd": squared.mean(1).sqrt(),
    }


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """(B,) KL divergence to the unit Gaussian, summed over latent dimensions, mean over atoms."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(-1).mean(1)


def total_loss(terms: dict[str, Tensor], weights: VAELossConfig) -> Tensor:
    """(B,) the weighted sum of the terms that have a weight."""
    names = ("type", "position", "distance", "fractional", "length", "angle", "kl")
    return torch.stack([getattr(weights, name) * terms[name] for name in names if name in terms]).sum(0)
