"""Guidance and self-conditioning while sampling."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from adit.flow.path import to_data
from adit.flow.solver import Predict

Network = Callable[[Tensor, float, Tensor], Sequence[Tensor]]
"""Noisy latents, time and a guess of the clean ones to the raw prediction for each label of `guidance_labels`."""


def guidance_labels(label: int, null: int, scale: float) -> tuple[int, ...]:
    """What the network is asked for: at scale 1 the unconditional prediction is not needed, at 0 only that."""
    if scale == 1.0:
        return (label,)
    return (null,) if scale == 0.0 else (label, null)


def guided(
    network: Network,
    scale: float,
    guide_scale: float = 1.0,
    guide: Network | None = None,
    toward: Predict | None = None,
    within: Predict | None = None,
) -> Predict:
    """A `predict` for `adit.flow.solver.integrate`: unconditional + scale (conditional - unconditional).

    Ho & Salimans 2022 (arXiv 2207.12598). Then, with a worse network `guide` that answers for one label,
    guide + guide_scale (that - guide): what the better one does better is overdone (autoguidance, Karras 2024,
    arXiv 2406.02507). `toward` is the gradient of log p(wanted | x): by Bayes' rule and Tweedie's formula
    (1 - t)^2 / t times it is added to the expected clean data (classifier guidance, Dhariwal & Nichol 2021,
    arXiv 2105.05233); at t = 0 it is not asked, since x says nothing there. `within` makes
    of the expected clean data at a time such as meets a condition. Each guided prediction is fed into the next call
    (self-conditioning, Chen 2022, arXiv 2208.04202).
    """
    guess: Tensor | None = None

    def predict(x: Tensor, time: float) -> Tensor:
        nonlocal guess
        before = torch.zeros_like(x) if guess is None else guess
        raw, *rest = network(x, time, before)
        for unconditional in rest:
            raw = unconditional + scale * (raw - unconditional)
        if guide is not None:
            (worse,) = guide(x, time, before)
            raw = worse + guide_scale * (raw - worse)
        guess = to_data(raw, x, torch.full((1,), time, device=x.device))
        if toward is not None and time > 0:
            guess = guess + (1 - time) ** 2 / time * toward(x, time)
        if within is not None:
            guess = within(guess, time)
        return guess

    return predict
