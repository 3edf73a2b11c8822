"""Classifier-free guidance and self-conditioning while sampling."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from adit.flow.path import to_data
from adit.flow.solver import Predict

Network = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def guided(network: Network, label_B: Tensor, null: int, scale: float) -> Predict:
    """A `predict` for `adit.flow.solver.integrate`: unconditional + scale (conditional - unconditional).

    Ho & Salimans 2022 (arXiv 2207.12598). At scale 1 the unconditional network is not run, at 0 only it.
    Each guided prediction is fed into the next call (self-conditioning, Chen 2022, arXiv 2208.04202).
    """
    guess: Tensor | None = None

    def predict(x: Tensor, time: float) -> Tensor:
        nonlocal guess
        if guess is None:
            guess = torch.zeros_like(x)
        t = torch.full((x.shape[0],), time, device=x.device)
        nulls = torch.full_like(label_B, null)
        if scale in (0.0, 1.0):
            guess = to_data(network(x, t, label_B if scale == 1.0 else nulls, guess), x, t)
        else:
            both = network(x.repeat(2, 1, 1), t.repeat(2), torch.cat([label_B, nulls]), guess.repeat(2, 1, 1))
            conditional, unconditional = both.chunk(2)
            guess = to_data(unconditional + scale * (conditional - unconditional), x, t)
        return guess

    return predict
