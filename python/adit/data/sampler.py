"""Which systems make a training step: a budget of atoms, in groups of one size or of any, without padding."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from adit.errors import InvalidInputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_GROUPS_PER_CHUNK = 160


@dataclass(frozen=True, slots=True)
class TokenBudgetSampler:
    """An endless, reproducible sequence of steps; each step is a list of groups of system indices.

    Systems are drawn without replacement from the molecules and from the crystals (each reshuffled when
    it is used up), mixed at `crystal_fraction`, and grouped by their number of atoms. Groups of one size
    have one shape, always. With `mixed` a group takes systems of any sizes, as they are drawn: for packed batches.
    Iterating twice gives the same steps, so a resumed run skips those it has done.

    Attributes:
        sizes: (N,) atoms in each system.
        periodic: (N,) bool.
        tokens_per_step: atoms in a step; the last group may exceed it.
        tokens_per_group: atoms in a group, at most (one system at least).
        crystal_fraction: share of systems that are crystals; ignored if there is only one kind.
        seed: not negative.
        mixed: groups of systems of any sizes.
    """

    sizes: NDArray[np.int64]
    periodic: NDArray[np.bool_]
    tokens_per_step: int
    tokens_per_group: int
    crystal_fraction: float
    seed: int
    mixed: bool = False

    def __post_init__(self) -> None:
        if len(self.sizes) == 0:
            raise InvalidInputError("the training set is empty; expected at least one system")
        if not 0 <= self.crystal_fraction <= 1:
            raise InvalidInputError(f"`crystal_fraction` must lie between 0 and 1; got {self.crystal_fraction}")
        if (smallest := int(self.sizes.min())) < 1:
            raise InvalidInputError(f"every system needs at least one atom; the smallest has {smallest}")
        if self.tokens_per_group < 1 or self.tokens_per_step < 1:
            raise InvalidInputError("`tokens_per_step` and `tokens_per_group` must be positive")

    def __iter__(self) -> Iterator[list[NDArray[np.int64]]]:
        pending: list[NDArray[np.int64]] = []
        tokens = 0
        for group in self._groups():
            pending.append(group)
            tokens += int(self.sizes[group].sum())
            if tokens >= self.tokens_per_step:
                yield pending
                pending, tokens = [], 0

    def _groups(self) -> Iterator[NDArray[np.int64]]:
        """Full groups, for ever: what does not fill a group waits for the next systems of its size."""
        rng = np.random.default_rng(self.seed)
        crystals = _Shuffled(np.flatnonzero(self.periodic), rng)
        molecules = _Shuffled(np.flatnonzero(~self.periodic), rng)
        fraction = self.crystal_fraction
        if not self.periodic.any() or self.periodic.all():
            fraction = float(self.periodic.all())
        # a group is no larger than there are systems of its size: none waits longer than its turn
        room = np.clip(self.tokens_per_group // np.maximum(np.arange(self.sizes.max() + 1), 1), 1, None)
        room = np.minimum(room, np.maximum(np.bincount(self.sizes), 1))
        draw = max(1, int(_GROUPS_PER_CHUNK * self.tokens_per_group / self.sizes.mean()))
        waiting: dict[int, NDArray[np.int64]] = {}
        left = crystals.left
        while True:
            n_crystals = int((rng.random(draw) < fraction).sum())
            drawn = np.concatenate([crystals.take(n_crystals), molecules.take(draw - n_crystals)])
            drawn = drawn[rng.permutation(draw)]
            if self.mixed:
                left = yield from self._cut(np.concatenate([left, drawn]))
                continue
            sizes = self.sizes[drawn]
            groups: list[NDArray[np.int64]] = []
            for size in np.unique(sizes).tolist():
                same = np.concatenate([waiting.pop(size, drawn[:0]), drawn[sizes == size]])
                full = len(same) // room[size] * room[size]
                groups += list(same[:full].reshape(-1, room[size]))
                waiting[size] = same[full:]
            yield from (groups[k] for k in rng.permutation(len(groups)))

    def _cut(self, drawn: NDArray[np.int64]) -> Generator[NDArray[np.int64], None, NDArray[np.int64]]:
        """Groups of consecutive systems within the budget of a group; returns those that do not fill one."""
        ends = np.cumsum(self.sizes[drawn])
        begin = 0
        while True:
            before = int(ends[begin - 1]) if begin else 0
            end = max(begin + 1, int(np.searchsorted(ends, before + self.tokens_per_group, "right")))
            if end >= len(drawn):
                return drawn[begin:]
            yield drawn[begin:end]
            begin = end


class _Shuffled:
    """Indices in random order, each once before any comes again."""

    def __init__(self, indices: NDArray[np.int64], rng: np.random.Generator) -> None:
        self.indices, self.rng, self.left = indices, rng, indices[:0]

    def take(self, count: int) -> NDArray[np.int64]:
        while len(self.left) < count:
            self.left = np.concatenate([self.left, self.rng.permutation(self.indices)])
        taken, self.left = self.left[:count], self.left[count:]
        return taken
