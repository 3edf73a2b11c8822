"""Where each system's tokens lie in a packed batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
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
        cls, lengths: Sequence[int] | Tensor, device: torch.device | str = "cpu", max_length: int | None = None
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
