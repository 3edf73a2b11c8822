"""The straight path from noise to data, and what the network's output means on it.

x_t = (1 - t) x_0 + t x_1 with x_0 a unit Gaussian and x_1 data normalised to unit variance
(flow matching, Lipman 2023, arXiv 2210.02747; rectified flow, Liu 2023).
"""

from __future__ import annotations

import torch
from torch import Tensor

from adit.errors import InvalidInputError


def interpolate(noise: Tensor, data: Tensor, t: Tensor) -> Tensor:
    """x_t for times t (B,) and noise, data (B, N, L)."""
    t = t[:, None, None]
    return (1 - t) * noise + t * data


def preconditioning(t: Tensor) -> tuple[Tensor, Tensor]:
    """(skip, out) such that data = skip x_t + out F, where F has unit variance at every t.

    For unit-variance data: skip = t / s, out = (1 - t) / sqrt(s), s = t^2 + (1 - t)^2. The network
    predicts data at t = 0 and the noise to take away near t = 1 (Karras 2022, arXiv 2206.00364, eq. 7,
    written for the straight path). Shapes follow t.
    """
    s = t * t + (1 - t) ** 2
    return t / s, (1 - t) / s.sqrt()


def to_data(raw: Tensor, x: Tensor, t: Tensor) -> Tensor:
    """The clean latents that a raw network output (B, N, L) stands for."""
    skip, out = preconditioning(t[:, None, None])
    return skip * x + out * raw


def flow_loss(predicted: Tensor, data: Tensor, t: Tensor, weight_cap: float) -> Tensor:
    """(B,) squared error of the clean latents, times 1 / out(t)^2: constant for an untrained network.

    `weight_cap` bounds the time that enters the weight, as 1 / (1 - min(t, 0.9)) does in the paper.
    """
    _, out = preconditioning(t.clamp(max=weight_cap))
    return (predicted - data).square().mean((1, 2)) / out.square()


def sample_times(
    count: int,
    kind: str,
    generator: torch.Generator | None,
    device: torch.device | None,
    mean: float = 0.0,
    std: float = 1.0,
) -> Tensor:
    """(count,) times in [0.01, 0.99]: "uniform", or "logit-normal" (Esser 2024, arXiv 2403.03206).

    The logit of t is the logarithm of the signal-to-noise amplitude; `mean` and `std` are its moments.
    """
    if kind == "uniform":
        t = torch.rand(count, generator=generator, device=device)
    elif kind == "logit-normal":
        t = (mean + std * torch.randn(count, generator=generator, device=device)).sigmoid()
    else:
        raise InvalidInputError(f"`time_sampling` must be 'uniform' or 'logit-normal'; got {kind!r}")
    return 0.01 + 0.98 * t
