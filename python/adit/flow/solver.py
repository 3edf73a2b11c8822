"""Solvers that follow the path from noise (t = 0) to data (t = 1).

Each asks `predict(x, t)` for the clean data and works for any prediction on the straight path
x_t = (1 - t) x_0 + t x_1, whose velocity is (x_1 - x) / (1 - t).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from adit.errors import InvalidInputError

Predict = Callable[[Tensor, float], Tensor]
Noise = Callable[[Tensor], Tensor]

SOLVERS = ("euler", "heun", "dpm++", "ancestral")
"""euler: first order. heun: second order, two evaluations a step. dpm++: second order by multistep, one
evaluation a step. ancestral: first order, with fresh noise at each step."""


def time_grid(steps: int) -> list[float]:
    """`steps` equal steps from 0 to 1."""
    if steps < 1:
        raise InvalidInputError(f"`steps` must be at least 1; got {steps}")
    return [step / steps for step in range(steps + 1)]


def integrate(predict: Predict, x: Tensor, times: list[float], solver: str, noise: Noise = torch.randn_like) -> Tensor:
    """Brings noise x at times[0] to times[-1].

    Args:
        predict: x (B, N, L) and time to the clean data (B, N, L).
        x: the start, (B, N, L).
        times: increasing, at most 1.
        solver: one of `SOLVERS`.
        noise: fresh Gaussian noise like a tensor, for "ancestral".

    Raises:
        InvalidInputError: unknown solver.
    """
    if solver not in SOLVERS:
        raise InvalidInputError(f"unknown solver {solver!r}; known: {', '.join(SOLVERS)}")
    previous: tuple[Tensor, float] | None = None
    for s, t in pairwise(times):
        data = predict(x, s)
        if solver == "heun" and t < 1:
            x = _heun(predict, x, data, s, t)
        elif solver == "dpm++":
            x, previous = _affine(x, _extrapolate(data, previous, s, t), s, t), (data, s)
        elif solver == "ancestral" and t < 1:
            x = _ancestral(x, data, s, t, noise)
        else:
            x = _affine(x, data, s, t)
    return x


def _affine(x: Tensor, data: Tensor, s: float, t: float) -> Tensor:
    """The exact step for constant data: also the Euler step on this path."""
    ratio = (1 - t) / (1 - s)
    return ratio * x + (1 - ratio) * data


def _heun(predict: Predict, x: Tensor, data: Tensor, s: float, t: float) -> Tensor:
    first = (data - x) / (1 - s)
    end = x + (t - s) * first
    second = (predict(end, t) - end) / (1 - t)
    return x + 0.5 * (t - s) * (first + second)


def _extrapolate(data: Tensor, previous: tuple[Tensor, float] | None, s: float, t: float) -> Tensor:
    """Data half-way to t in the log signal-to-noise ratio, from this and the last prediction
    (DPM-Solver++ 2M, Lu 2022, arXiv 2211.01095, algorithm 2). First order where the ratio is infinite."""
    if previous is None or t >= 1 or previous[1] <= 0:
        return data
    last, r = previous
    step = _log_snr(t) - _log_snr(s)
    weight = 0.5 * step / (_log_snr(s) - _log_snr(r))
    return (1 + weight) * data - weight * last


def _log_snr(t: float) -> float:
    return math.log(t / (1 - t))


def _ancestral(x: Tensor, data: Tensor, s: float, t: float, noise: Noise) -> Tensor:
    """DDIM with eta = 1 (Song 2021, arXiv 2010.02502, eq. 16), for alpha = t, sigma = 1 - t."""
    if s <= 0:
        return _affine(x, data, s, t)
    fresh = (1 - t) * math.sqrt(max(0.0, 1 - ((1 - t) * s / ((1 - s) * t)) ** 2))
    kept = math.sqrt(max(0.0, (1 - t) ** 2 - fresh**2))
    return t * data + kept * (x - s * data) / (1 - s) + fresh * noise(x)
