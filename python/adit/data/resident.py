"""A data set that lives on the device: a batch is a few index operations there, with no work for the host."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from adit.batch import SystemBatch, gather

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from adit.data.packed import PackedDataset

_CHUNK = 65_536


@dataclass(frozen=True, slots=True)
class ResidentDataset:
    """N systems of T atoms in all, ready to be indexed; QM9 and MP-20 together take 0.1 GB.

    Attributes:
        numbers: (T,) int64.
        cartesian, fractional: (T, 3) float32, as in `SystemBatch`.
        cells: (N, 3, 3) float32.
        lattice: (N, 6) float32.
        periodic: (N,) bool.
        starts: (N,) int64, the first atom of each system.
    """

    numbers: Tensor
    cartesian: Tensor
    fractional: Tensor
    cells: Tensor
    lattice: Tensor
    periodic: Tensor
    starts: Tensor

    @classmethod
    def from_packed(cls, data: PackedDataset, device: torch.device) -> ResidentDataset:
        """The whole data set on `device`."""
        total, count = len(data.numbers), len(data)
        result = cls(
            torch.empty(total, dtype=torch.int64),
            torch.empty(total, 3),
            torch.empty(total, 3),
            torch.empty(count, 3, 3),
            torch.empty(count, 6),
            torch.empty(count, dtype=torch.bool),
            torch.from_numpy(np.array(data.offsets[:-1], dtype=np.int64)),
        )
        for size in np.unique(data.sizes).tolist():
            members = np.flatnonzero(data.sizes == size)
            for begin in range(0, len(members), _CHUNK):
                indices = members[begin : begin + _CHUNK]
                batch = gather(data, indices)
                systems = torch.from_numpy(indices)
                atoms = result.starts[systems, None] + torch.arange(size)
                for name in ("numbers", "cartesian", "fractional"):
                    getattr(result, name)[atoms] = getattr(batch, name)
                for name in ("cells", "lattice", "periodic"):
                    getattr(result, name)[systems] = getattr(batch, name)
        return cls(*(getattr(result, name).to(device) for name in cls.__slots__))

    def batch(self, indices: Tensor, size: int) -> SystemBatch:
        """The systems `indices` (B,), all of `size` atoms."""
        atoms = self.starts[indices, None] + torch.arange(size, device=indices.device)
        return SystemBatch(
            self.numbers[atoms],
            self.cartesian[atoms],
            self.fractional[atoms],
            self.cells[indices],
            self.lattice[indices],
            self.periodic[indices],
        )


def send(values: NDArray[np.int64], device: torch.device) -> Tensor:
    """To the device; from pinned memory, without which the copy would wait for what a GPU is doing."""
    on_host = torch.from_numpy(values)
    return on_host.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else on_host
