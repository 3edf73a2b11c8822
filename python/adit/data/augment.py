"""Random symmetry operations, drawn for each system on its own."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from adit.batch import SystemBatch, wrap


def random_rotations(
    count: int, generator: torch.Generator | None = None, device: torch.device | None = None
) -> Tensor:
    """(count, 3, 3) rotation matrices, uniform on SO(3): normalised Gaussian quaternions (Shoemake 1992)."""
    return rotations_of(torch.randn(count, 4, generator=generator, device=device))


def rotations_of(q: Tensor) -> Tensor:
    """Quaternions (count, 4) of any length to rotation matrices (count, 3, 3)."""
    w, x, y, z = (q / q.norm(dim=-1, keepdim=True)).unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w),
        2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w),
        2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, -1).view(len(q), 3, 3)


def augment(batch: SystemBatch, generator: torch.Generator | None = None) -> SystemBatch:
    """Rotates each molecule uniformly on SO(3) and shifts each crystal uniformly on the torus.

    Crystals need no rotation: the model sees them as fractional coordinates and lattice parameters.
    """
    device = batch.cartesian.device
    rotations = random_rotations(batch.n_systems, generator, device)
    return moved(batch, rotations, torch.rand(batch.n_systems, 1, 3, generator=generator, device=device))


def moved(batch: SystemBatch, rotations: Tensor, shifts: Tensor) -> SystemBatch:
    """Molecules turned by rotations (B, 3, 3), crystals shifted by fractional coordinates (B, 1, 3)."""
    device = batch.cartesian.device
    with torch.autocast(device.type, enabled=False):  # in bfloat16 the product would be off by 0.01 Angstrom
        cartesian = batch.cartesian @ rotations
    shifted = torch.where(batch.periodic[:, None, None], wrap(batch.fractional + shifts), 0.0)
    return replace(batch, cartesian=cartesian, fractional=shifted)
