"""What the training loop measures: means of its terms, and its pace."""

from __future__ import annotations

import time
from collections.abc import Mapping

import torch
from torch import Tensor

from adit.batch import SystemBatch

WARM_UP, MEASURED = 40, 20
"""Steps that compile and settle, and steps that are timed after them."""


class Meter:
    """Weighted means since they were last read, summed on the device in float64: adding waits for nothing."""

    def __init__(self, device: torch.device, state: Mapping[str, tuple[float, float]]) -> None:
        """`state` is what an interrupted run had not read yet, as `state()` gave it."""
        self.device = device
        self.sums = {name: torch.tensor(pair, dtype=torch.float64, device=device) for name, pair in state.items()}

    def add(self, name: str, value: Tensor | float, weight: Tensor | float = 1.0) -> None:
        """Scalars, or tensors (B,) of which those with weight 0 do not count."""
        value_B, weight_B = self._double(value), self._double(weight)
        weighted = torch.where(weight_B > 0, value_B * weight_B, 0.0)
        pair = torch.stack([weighted.sum(), weight_B.sum()])
        self.sums[name] = self.sums[name] + pair if name in self.sums else pair

    def _double(self, value: Tensor | float) -> Tensor:
        if isinstance(value, Tensor):
            return value.double()
        return torch.full((), value, dtype=torch.float64, device=self.device)

    def add_batch(self, loss_B: Tensor, terms: Mapping[str, Tensor], batch: SystemBatch) -> None:
        """The loss of all systems, and the terms of molecules and crystals apart; each atom weighs the same."""
        weight_B = torch.full((batch.n_systems,), float(batch.n_atoms), device=self.device)
        self.add("loss", loss_B, weight_B)
        for name, value_B in terms.items():
            self.add(f"molecule/{name}", value_B.detach(), weight_B * ~batch.periodic)
            self.add(f"crystal/{name}", value_B.detach(), weight_B * batch.periodic)

    def state(self) -> dict[str, tuple[float, float]]:
        """For a checkpoint, as JSON."""
        return {name: (pair[0].item(), pair[1].item()) for name, pair in self.sums.items()}

    def read(self) -> dict[str, float]:
        """The means by name, of what was added at all; starts anew."""
        means = {name: total / weight for name, (total, weight) in sorted(self.state().items()) if weight > 0}
        self.sums = {}
        return means


class Pace:
    """How many steps fit into a given time."""

    def __init__(self, start: int) -> None:
        self.start, self.begun, self.warm = start, time.monotonic(), 0.0

    def steps(self, step: int, seconds: float) -> int | None:
        """Called before each step; once, when the pace is known, the number of steps that `seconds` allow in all."""
        done, now = step - self.start, time.monotonic()
        if done == WARM_UP:
            self.warm = now
        if done != WARM_UP + MEASURED:
            return None
        each = (now - self.warm) / MEASURED
        return step + max(1, int((seconds - (now - self.begun)) / each))
