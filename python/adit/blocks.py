"""Which samples are made together, and what is the same for all of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from adit.kept import Kept
from adit.models.denoiser import Schedule
from adit.steering import Steering
from adit.templates import Templates
from adit.weights.store import SamplingDefaults

if TYPE_CHECKING:
    from numpy.typing import NDArray

SYSTEMS = ("molecule", "crystal")
# a block is done in a multiple of so many parts, or in half of it, a quarter, ..., of so many atoms each
_PARTS_ON_CPU, _ATOMS_ON_CPU = 8, (384, 2048)
_Item = TypeVar("_Item")
_END = object()


@dataclass(frozen=True)
class Group:
    """Samples of one size: their numbers, the composition each is told, and its stream of random numbers."""

    size: int
    indices: list[int]
    counts: list[NDArray[np.int64] | None]
    streams: list[np.random.Generator]

    @property
    def atoms(self) -> int:
        """In all of them."""
        return self.size * len(self.indices)

    @property
    def told(self) -> list[NDArray[np.int64]]:
        """The compositions where each is told one."""
        return [counts for counts in self.counts if counts is not None]

    def part(self, begin: int, end: int) -> Group:
        of = slice(begin, end)
        return Group(self.size, self.indices[of], self.counts[of], self.streams[of])


@dataclass(frozen=True)
class Run:
    """What is the same for all samples of a call of `Generator.stream`.

    Attributes:
        choose: the number of atoms of samples and the composition that each is told, by their numbers and streams.
        templates: what the samples are variations of, or None.
        steering: which properties they shall have, or None.
        cells: (K, 3, 3) known cells, sample number k has that of k modulo K; or None.
        kept: atoms that they shall hold, or None.
        grid: the times of the solver.
        schedules: of the network, then its guide.
    """

    system: str
    seed: int
    settings: SamplingDefaults
    choose: Callable[[Sequence[int], Sequence[np.random.Generator]], list[tuple[int, NDArray[np.int64] | None]]]
    templates: Templates | None
    steering: Steering | None
    cells: NDArray[np.float64] | None
    kept: Kept | None
    grid: list[float]
    schedules: list[Schedule]

    def groups(self, indices: range) -> list[Group]:
        """The samples by size."""
        of_size: dict[int, Group] = {}
        streams = [np.random.default_rng([self.seed, SYSTEMS.index(self.system), index]) for index in indices]
        for index, stream, (size, counts) in zip(indices, streams, self.choose(indices, streams), strict=True):
            group = of_size.setdefault(size, Group(size, [], [], []))
            group.indices.append(index)
            group.counts.append(counts)
            group.streams.append(stream)
        return [of_size[size] for size in sorted(of_size)]

    def about(self, index: int) -> dict[str, Any]:
        """The `info` of a sample."""
        own = {"id": f"{self.system}-{self.seed}-{index}", "index": index, "seed": self.seed}
        return own if self.templates is None else own | self.templates.origin(index)

    def counts(self, groups: list[Group], device: torch.device) -> Tensor | None:
        """The composition that each system of the groups is told: (B, 100)."""
        told = [counts for group in groups for counts in group.told]
        return torch.from_numpy(np.stack(told)).to(device) if told else None


def share_out(groups: list[Group]) -> list[list[Group]]:
    """The groups, some of them divided, in parts of about as many atoms each, the largest systems first.

    So many that most numbers of threads have as many to do each; the same whatever that number is.
    """
    atoms = sum(group.atoms for group in groups)
    fewest, most = _ATOMS_ON_CPU
    count = _PARTS_ON_CPU * math.ceil(atoms / (_PARTS_ON_CPU * most))
    while count > 1 and atoms < count * fewest:
        count //= 2
    parts: list[list[Group]] = [[] for _ in range(count)]
    before = 0
    for group in reversed(groups):
        middles = before + group.size * (np.arange(len(group.indices)) + 0.5)
        ends = np.searchsorted(middles, atoms / count * np.arange(count + 1))
        for part, (begin, end) in zip(parts, pairwise(ends), strict=True):
            if end > begin:
                part.append(group.part(begin, end))
        before += group.atoms
    return [part for part in parts if part]


def one_ahead(items: Iterator[_Item]) -> Iterator[_Item]:
    """The same items; the next is made in a thread of its own while the last is used: written, judged, ...

    So the device works on while the host does. On a CPU they would only compete.
    """
    with ThreadPoolExecutor(1) as worker:
        coming = worker.submit(next, items, _END)
        while (item := coming.result()) is not _END:
            coming = worker.submit(next, items, _END)
            yield cast("_Item", item)
