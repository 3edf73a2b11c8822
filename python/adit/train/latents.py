"""The latents of a training set, encoded beforehand and kept on the device.

A step of stage 2 then takes a packed batch of systems of any sizes by indexing, with no encoder and no work for the
host. Shape suffixes: B systems, T atoms of a batch, L latent dimensions, E elements.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from adit.data.augment import augment
from adit.data.resident import ResidentDataset, send
from adit.models.dit import ELEMENTS
from adit.ops.packing import Packing

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from adit.data.packed import PackedDataset
    from adit.models.vae import VAE

_CHUNK = 262_144
"""Atoms that are encoded together."""


@dataclass(frozen=True, slots=True)
class LatentBatch:
    """B packed systems.

    Attributes:
        latents: (T, L) float32, normalised.
        counts: (B, E) int64, the number of atoms of each element.
        periodic: (B,) bool, True for crystals.
        sizes: (B,) float32, atoms in each system.
        packing: where they lie.
        lengths: (B,) atoms in each system, on the host.
    """

    latents: Tensor
    counts: Tensor
    periodic: Tensor
    sizes: Tensor
    packing: Packing
    lengths: NDArray[np.int64] = field(repr=False)

    @property
    def n_systems(self) -> int:
        return len(self.lengths)


class LatentPool:
    """A training set's latents in several orientations and shifts, each system's apart.

    Attributes:
        latents: (copies, atoms, L) float16, normalised: 0.03 % off, a hundredth of what the decoder takes as noise.
        counts: (systems, E) int16.
        periodic: (systems,) bool.
        starts, sizes: (systems,) int64, the first atom and the number of atoms of each system.
    """

    def __init__(self, vae: VAE, data: PackedDataset, copies: int, seed: int, bf16: bool = False) -> None:
        """Encodes `data` on the device of `vae`, in bfloat16 if the training does."""
        device = vae.latent_mean.device
        self.lengths: NDArray[np.int64] = np.asarray(data.sizes, dtype=np.int64)
        self.device, self.max_length = device, int(self.lengths.max())
        resident = ResidentDataset.from_packed(data, device)
        self.periodic, self.starts = resident.periodic, resident.starts
        self.sizes = torch.from_numpy(self.lengths).to(device)
        system = torch.repeat_interleave(torch.arange(len(self.sizes), device=device), self.sizes)
        places = torch.bincount(system * ELEMENTS + resident.numbers - 1, minlength=len(self.sizes) * ELEMENTS)
        self.counts = places.view(-1, ELEMENTS).to(torch.int16)
        shape = (copies, len(resident.numbers), vae.config.latent_dim)
        self.latents = torch.empty(shape, dtype=torch.float16, device=device)
        generator = torch.Generator(device).manual_seed(seed)
        chunks = [
            (size, torch.from_numpy(chunk).to(device))
            for size in np.unique(self.lengths).tolist()
            for chunk in _chunks(np.flatnonzero(self.lengths == size), max(1, _CHUNK // size))
        ]
        for copy in range(copies):
            for size, indices in chunks:
                batch = augment(resident.batch(indices, size), generator)
                with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                    latents = vae.encode(batch)
                atoms = self.starts[indices, None] + torch.arange(size, device=device)
                self.latents[copy, atoms] = latents.half()

    def batch(self, indices: NDArray[np.int64], generator: torch.Generator) -> LatentBatch:
        """The systems `indices` (B,), each in one of its copies at random; waits for nothing."""
        lengths = self.lengths[indices]
        tokens = int(lengths.sum())
        chosen = send(indices, self.device)
        sizes = self.sizes[chosen]
        packing = Packing.on_device(sizes, tokens, self.max_length)
        copy = torch.randint(len(self.latents), sizes.shape, generator=generator, device=self.device)
        atom = self.starts[chosen].index_select(0, packing.system) + packing.index
        latents = self.latents[copy.index_select(0, packing.system), atom].float()
        return LatentBatch(latents, self.counts[chosen].long(), self.periodic[chosen], sizes.float(), packing, lengths)


def _chunks(indices: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    return [indices[begin : begin + size] for begin in range(0, len(indices), size)]
