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
    from adit.train.latents import LatentBatch, PropertyBatch

NO_END = 2**40
"""Steps of a run whose pace is not known yet."""


class Meter:
    """Weighted means since they were last read, summed on the device in float64: adding waits for nothing."""

    def __init__(self, device: torch.device, state: Mapping[str, tuple[float, float]]) -> None:
        """`state` is what an interrupted run had not read yet, as `state()` gave it."""
        self.device, self.earlier = device, dict(state)
        self.sums: dict[tuple[str, ...], Tensor] = {}

    def add(self, name: str, value: Tensor | float) -> None:
        """A scalar."""
        one = torch.ones((), dtype=torch.float64, device=self.device)
        self._add((name,), torch.stack([one * value, one])[None])

    def add_batch(
        self, loss_B: Tensor, terms: Mapping[str, Tensor], batch: SystemBatch | LatentBatch | PropertyBatch
    ) -> None:
        """The loss of all systems, and the terms of molecules and crystals apart; each atom weighs the same."""
        names = ("loss", *(f"{kind}/{name}" for kind in ("molecule", "crystal") for name in terms))
        values_KB = torch.stack([loss_B, *terms.values(), *terms.values()]).detach().double()
        size_B = batch.sizes.double()
        kinds = [size_B, *[size_B * ~batch.periodic] * len(terms), *[size_B * batch.periodic] * len(terms)]
        weight_KB = torch.stack(kinds)
        weighted_KB = torch.where(weight_KB > 0, values_KB * weight_KB, 0.0)
        self._add(names, torch.stack([weighted_KB.sum(1), weight_KB.sum(1)], 1))

    def _add(self, names: tuple[str, ...], pairs_K2: Tensor) -> None:
        self.sums[names] = self.sums[names] + pairs_K2 if names in self.sums else pairs_K2

    def state(self) -> dict[str, tuple[float, float]]:
        """For a checkpoint, as JSON."""
        out = dict(self.earlier)
        for names, pairs_K2 in self.sums.items():
            for name, (total, weight) in zip(names, pairs_K2.tolist(), strict=True):
                before = out.get(name, (0.0, 0.0))
                out[name] = (before[0] + total, before[1] + weight)
        return out

    def read(self) -> dict[str, float]:
        """The means by name, of what was added at all; starts anew."""
        means = {name: total / weight for name, (total, weight) in sorted(self.state().items()) if weight > 0}
        self.sums, self.earlier = {}, {}
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

        One at least, and asked once after each step: a run always ends with a checkpoint.
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
