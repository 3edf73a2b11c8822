"""Where each system's tokens lie in a packed batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adit.errors import InvalidInputError


@dataclass(frozen=True, slots=True)
class Packing:
    """Systems one after another in T tokens; made once per batch, on the host, and shared by all layers.

    Attributes:
        offsets: (S + 1,) int32; system s owns tokens offsets[s] to offsets[s + 1], and offsets[S] is T.
        system: (T,) int32; the system of each token.
        max_length: a bound on the length of a system. It picks kernels and sizes of tables, so a round bound (32, 64)
            serves all batches of a captured graph.
    """

    offsets: Tensor
    system: Tensor
    max_length: int

    @classmethod
    def from_lengths(
        cls,
        lengths: Sequence[int] | NDArray[np.int64] | Tensor,
        device: torch.device | str = "cpu",
        max_length: int | None = None,
    ) -> Packing:
        """Of systems of these lengths, some possibly 0; `max_length` is the greatest of them unless it is given.

        Raises:
            InvalidInputError: if a length is negative or above `max_length`.
        """
        sizes = np.asarray(lengths, dtype=np.int64).reshape(-1)
        longest = int(sizes.max(initial=0))
        bound = max(longest, 1) if max_length is None else max_length
        if sizes.min(initial=0) < 0 or longest > bound:
            raise InvalidInputError(f"`lengths` must be from 0 to {bound}; got {sizes.min()} to {longest}")
        offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
        system = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
        return cls(torch.from_numpy(offsets).to(device), torch.from_numpy(system).to(device), bound)

    @classmethod
    def uniform(cls, systems: int, length: int, device: torch.device | str = "cpu") -> Packing:
        """Of `systems` systems of one length; made on the device, also inside a CUDA graph."""
        tokens = torch.arange(systems * length, dtype=torch.int32, device=device)
        starts = length * torch.arange(systems + 1, dtype=torch.int32, device=device)
        return cls(starts, tokens // max(length, 1), max(length, 1))

    @classmethod
    def on_device(cls, lengths: Tensor, tokens: int, max_length: int) -> Packing:
        """Of `lengths` (S,) that lie on the device and sum to `tokens`; made there, so the host waits for nothing."""
        offsets = torch.zeros(len(lengths) + 1, dtype=torch.int32, device=lengths.device)
        offsets[1:] = lengths.cumsum(0)
        system = torch.arange(len(lengths), dtype=torch.int32, device=lengths.device)
        return cls(offsets, torch.repeat_interleave(system, lengths, output_size=tokens), max_length)

    def first(self, systems: int, tokens: int) -> Packing:
        """The first `systems` systems, of `tokens` tokens in all."""
        return Packing(self.offsets[: systems + 1], self.system[:tokens], self.max_length)

    def repeat(self, times: int) -> Packing:
        """The same systems `times` times, one copy after another."""
        tokens, systems = self.system.shape[0], self.systems
        offsets = [self.offsets[:-1] + copy * tokens for copy in range(times)]
        system = [self.system + copy * systems for copy in range(times)]
        end = self.offsets[-1:] + (times - 1) * tokens
        return Packing(torch.cat([*offsets, end]), torch.cat(system), self.max_length)

    @property
    def index(self) -> Tensor:
        """(T,) the place of each token in its system, from 0."""
        tokens = torch.arange(self.system.shape[0], device=self.system.device)
        return tokens - self.offsets[self.system.long()]

    @property
    def systems(self) -> int:
        """How many systems there are, empty ones included."""
        return self.offsets.shape[0] - 1

    def check(self, tokens: Tensor, name: str) -> None:
        """Raises InvalidInputError unless `tokens` has one row per token of this packing, on its device."""
        if tokens.shape[0] != self.system.shape[0]:
            raise InvalidInputError(
                f"`{name}` must have one row for each of the {self.system.shape[0]} tokens; got {tuple(tokens.shape)}"
            )
        if tokens.device != self.offsets.device:
            raise InvalidInputError(f"`{name}` is on {tokens.device} and its packing on {self.offsets.device}")
