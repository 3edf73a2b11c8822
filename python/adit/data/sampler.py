"""Which systems make a training step: a budget of atoms, in groups of one size, without padding."""

from __future__ import annotations

from collections.abc import Iterator
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
    it is used up), mixed at `crystal_fraction`, and grouped by their number of atoms. Iterating twice
    gives the same steps, so a resumed run skips the steps it has done.

    Attributes:
        sizes: (N,) atoms in each system.
        periodic: (N,) bool.
        tokens_per_step: atoms in a step; the last group may exceed it.
        tokens_per_group: atoms in a group, at most (one system at least).
        crystal_fraction: share of systems that are crystals; ignored if there is only one kind.
        seed: any integer.
    """

    sizes: NDArray[np.int64]
    periodic: NDArray[np.bool_]
    tokens_per_step: int
    tokens_per_group: int
    crystal_fraction: float
    seed: int

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
        rng = np.random.default_rng(self.seed)
        crystals = _shuffled_forever(np.flatnonzero(self.periodic), rng)
        molecules = _shuffled_forever(np.flatnonzero(~self.periodic), rng)
        fraction = self.crystal_fraction
        if not self.periodic.any() or self.periodic.all():
            fraction = float(self.periodic.all())
        pending: list[NDArray[np.int64]] = []
        tokens = 0
        while True:
            for group in self._chunk(crystals, molecules, fraction, rng):
                pending.append(group)
                tokens += int(self.sizes[group].sum())
                if tokens >= self.tokens_per_step:
                    yield pending
                    pending, tokens = [], 0

    def _chunk(
        self,
        crystals: Iterator[int],
        molecules: Iterator[int],
        fraction: float,
        rng: np.random.Generator,
    ) -> list[NDArray[np.int64]]:
        """Enough systems for some hundred groups, cut into groups of one size, shuffled."""
        drawn: list[int] = []
        tokens = 0
        while tokens < _GROUPS_PER_CHUNK * self.tokens_per_group:
            drawn.append(next(crystals) if rng.random() < fraction else next(molecules))
            tokens += int(self.sizes[drawn[-1]])
        indices = np.array(drawn)
        sizes = self.sizes[indices]
        groups = []
        for size in np.unique(sizes):
            same = indices[sizes == size]
            count = max(1, self.tokens_per_group // int(size))
            groups += [same[start : start + count] for start in range(0, len(same), count)]
        return [groups[k] for k in rng.permutation(len(groups))]


def _shuffled_forever(indices: NDArray[np.int64], rng: np.random.Generator) -> Iterator[int]:
    while len(indices):
        yield from rng.permutation(indices).tolist()
