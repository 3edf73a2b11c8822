"""Classifier-free guidance and self-conditioning while sampling."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from adit.flow.path import to_data
from adit.flow.solver import Predict

Network = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def guided(network: Network, label: Tensor, null: int, scale: float) -> Predict:
    """A `predict` for `adit.flow.solver.integrate`: unconditional + scale (conditional - unconditional).

    Ho & Salimans 2022 (arXiv 2207.12598). At scale 1 the unconditional network is not run, at 0 only it.
    `label` is (B,), or (1,) for all systems: the network then computes its modulations once and not for each.
    Each guided prediction is fed into the next call (self-conditioning, Chen 2022, arXiv 2208.04202).
    """
    guess: Tensor | None = None
    nulls = torch.full_like(label, null)

    def predict(x: Tensor, time: float) -> Tensor:
        nonlocal guess
        if guess is None:
            guess = torch.zeros_like(x)
        t = torch.full(label.shape, time, device=x.device)
        raw = network(x, t, nulls if scale == 0.0 else label, guess)
        if scale not in (0.0, 1.0):
            unconditional = network(x, t, nulls, guess)
            raw = unconditional + scale * (raw - unconditional)
        guess = to_data(raw, x, t)
        return guess

    return predict
