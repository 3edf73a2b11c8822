"""What the training loop measures: means of its terms, and its time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from adit.batch import SystemBatch

if TYPE_CHECKING:
    from adit.train.latents import LatentBatch

NO_END = 2**40
"""Steps of a run whose pace is not known yet."""


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

    def add_batch(self, loss_B: Tensor, terms: Mapping[str, Tensor], batch: SystemBatch | LatentBatch) -> None:
        """The loss of all systems, and the terms of molecules and crystals apart; each atom weighs the same."""
        weight_B = batch.sizes
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


class Budget:
    """Time for a run. The learning rate follows the share that is over, so it ends with the time whatever the pace.

    Attributes:
        seconds: in all.
        clock: counts them; `time.process_time` leaves out what other processes on the machine take.
        marks: increasing shares of the time at which the run validates, outside of the time. Without any it
            validates every so many steps, and that counts.
    """

    def __init__(
        self, seconds: float, clock: Callable[[], float] = time.monotonic, marks: tuple[float, ...] = ()
    ) -> None:
        self.seconds, self.clock, self.marks = seconds, clock, marks
        self.begun, self.passed = clock(), 0

    def resume(self, spent: float) -> None:
        """Adds what an interrupted run had spent."""
        self.begun -= spent
        self.passed = sum(self.spent() >= mark * self.seconds for mark in self.marks)

    def spent(self) -> float:
        """Seconds that are over."""
        return self.clock() - self.begun

    def steps(self, done: int) -> int:
        """The steps of the whole run at the pace of the first `done`; `done` itself when the time is over.

        One at least: a run always leaves a checkpoint.
        """
        spent = self.spent()
        if done and spent >= self.seconds:
            return done
        return max(done + 1, int(done * self.seconds / spent)) if done and spent > 0 else NO_END

    def mark(self) -> bool:
        """Whether a mark was passed since this was last asked."""
        before, self.passed = self.passed, sum(self.spent() >= mark * self.seconds for mark in self.marks)
        return self.passed > before

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What happens inside does not count."""
        start = self.clock()
        yield
        self.begun += self.clock() - start
