"""Solvers that follow the path from noise (t = 0) to data (t = 1).

Each asks `predict(x, t)` for the clean data and works for any prediction on the straight path
x_t = (1 - t) x_0 + t x_1, whose velocity is (x_1 - x) / (1 - t).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from statistics import NormalDist

import torch
from torch import Tensor

from adit.errors import InvalidInputError

Predict = Callable[[Tensor, float], Tensor]
Noise = Callable[[Tensor], Tensor]

SOLVERS = ("euler", "heun", "dpm++", "ancestral", "sde-dpm++")
"""euler: first order. heun: second order, two evaluations a step. dpm++: second order by multistep, one
evaluation a step. ancestral: first order, with fresh noise at each step. sde-dpm++: both of the last."""
STOCHASTIC = ("ancestral", "sde-dpm++")
"""Those with fresh noise."""
FRESH = 20.0
"""Power of their noise, as a multiple of DDPM's, where nothing else is said."""
_MULTISTEP = ("dpm++", "sde-dpm++")
_GRID_MEAN, _GRID_STD = 0.2, 0.8


def time_grid(steps: int) -> list[float]:
    """`steps` steps from 0 to 1, dense in the middle: there it is settled what is bonded to what.

    The times between are quantiles of a logit-normal distribution, as the network saw them in training. Data that
    is noised only to t = 0.8 comes back right whatever the steps; from t = 0.4 it comes back as wrong as samples are
    (docs/generate.md).
    """
    if steps < 1:
        raise InvalidInputError(f"`steps` must be at least 1; got {steps}")
    normal = NormalDist(_GRID_MEAN, _GRID_STD)
    return [0.0, *(1 / (1 + math.exp(-normal.inv_cdf(step / steps))) for step in range(1, steps)), 1.0]


def integrate(
    predict: Predict, x: Tensor, times: list[float], solver: str, noise: Noise = torch.randn_like, fresh: float = FRESH
) -> Tensor:
    """Brings noise x at times[0] to times[-1].

    Args:
        predict: x (B, N, L) and time to the clean data (B, N, L).
        x: the start, (B, N, L).
        times: increasing, at most 1.
        solver: one of `SOLVERS`.
        noise: fresh Gaussian noise like a tensor, for the `STOCHASTIC` solvers.
        fresh: its power, as a multiple of what keeps to DDPM; 0 is euler, or dpm++.

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
            continue
        if solver in _MULTISTEP:
            data, previous = _extrapolate(data, previous, s, t), (data, s)
        x = _stochastic(x, data, s, t, noise, fresh) if solver in STOCHASTIC and t < 1 else _affine(x, data, s, t)
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
    (DPM-Solver++ 2M and SDE-DPM-Solver++ 2M, Lu 2022, arXiv 2211.01095). First order where the ratio is infinite."""
    if previous is None or t >= 1 or previous[1] <= 0:
        return data
    last, r = previous
    step = _log_snr(t) - _log_snr(s)
    weight = 0.5 * step / (_log_snr(s) - _log_snr(r))
    return (1 + weight) * data - weight * last


def _log_snr(t: float) -> float:
    return math.log(t / (1 - t))


def _stochastic(x: Tensor, data: Tensor, s: float, t: float, noise: Noise, fresh: float) -> Tensor:
    """The exact step, for constant data, of the reverse stochastic equation with `fresh` times the noise power of
    the usual one (Xue 2023, arXiv 2309.05019, eq. 5, tau^2 = `fresh`), for alpha = t, sigma = 1 - t.

    0 times is the step without noise, once is DDPM's (DDIM with eta = 1: Song 2021, arXiv 2010.02502). More noise makes
    up for more of the network's errors. By first order the samples spread too little, the less the more noise; by
    second order about rightly.
    """
    if s <= 0:
        return _affine(x, data, s, t)
    kept = ((1 - t) * s / ((1 - s) * t)) ** fresh
    left = (x - s * data) / (1 - s)
    out: Tensor = t * data + (1 - t) * (kept * left + math.sqrt(1 - kept * kept) * noise(x))
    return out
