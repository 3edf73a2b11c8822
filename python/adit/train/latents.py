"""The latents of a training set, encoded beforehand and kept on the device.

A step then takes its batch by indexing, with no encoder and no work for the host. Shape suffixes: B systems,
T atoms of a batch, L latent dimensions, E elements, K properties.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from adit.data.augment import augment
from adit.data.resident import ResidentDataset, send
from adit.errors import InvalidInputError
from adit.models.dit import ELEMENTS
from adit.ops.packing import Packing

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from adit.data.packed import PackedDataset
    from adit.models.vae import VAE

_CHUNK = 262_144
"""Atoms that are encoded together."""


@dataclass(frozen=True, slots=True)
class PropertyBatch:
    """B systems of N atoms each with K properties.

    Attributes:
        latents: (B, N, L) float32, normalised.
        counts: (B, E) int64, the number of atoms of each element.
        periodic: (B,) bool, True for crystals.
        targets: (B, K) float32, NaN where unknown.
    """

    latents: Tensor
    counts: Tensor
    periodic: Tensor
    targets: Tensor

    @property
    def n_systems(self) -> int:
        return len(self.periodic)

    @property
    def sizes(self) -> Tensor:
        """(B,) float32, atoms in each system."""
        return torch.full_like(self.targets[:, 0], self.latents.shape[1])


@dataclass(frozen=True, slots=True)
class LatentBatch:
    """B packed systems in two parts, each with rows and atoms to spare, so that all batches of a run have one shape.

    What is left of the atoms of a part belongs to further systems, whose sizes count as 0, or that are empty.

    Attributes:
        latents: (T, L) float32, normalised.
        counts: (B, E) int64, the number of atoms of each element.
        periodic: (B,) bool, True for crystals.
        sizes: (B,) float32, atoms in each system that counts, else 0.
        packing: where they lie.
        first: systems and atoms of the first part.
    """

    latents: Tensor
    counts: Tensor
    periodic: Tensor
    sizes: Tensor
    packing: Packing
    first: tuple[int, int]

    @property
    def n_systems(self) -> int:
        return len(self.sizes)


class EncodedData:
    """A data set's latents in several orientations and shifts, each system's apart.

    Attributes:
        latents: (copies, atoms, L) float16, normalised: 0.03 % off, a hundredth of what the decoder takes as noise.
        counts: (systems, E) int16.
        periodic: (systems,) bool.
        starts: (systems,) int64, the first atom of each system.
        lengths: (systems,) the number of atoms of each system, on the host.
    """

    def __init__(self, vae: VAE, data: PackedDataset, copies: int, seed: int, bf16: bool = False) -> None:
        """Encodes `data` on the device of `vae`.

        Args:
            vae: the frozen autoencoder.
            data: the systems.
            copies: how often each is encoded.
            seed: of the orientations and shifts.
            bf16: whether the products of the encoder are in bfloat16.
        """
        self.lengths: NDArray[np.int64] = np.asarray(data.sizes, dtype=np.int64)
        self.device, self.max_length = vae.latent_mean.device, int(self.lengths.max())
        resident = ResidentDataset.from_packed(data, self.device)
        self.periodic, self.starts = resident.periodic, resident.starts
        system = torch.from_numpy(np.repeat(np.arange(len(data)), self.lengths)).to(self.device)
        places = torch.bincount(system * ELEMENTS + resident.numbers - 1, minlength=len(data) * ELEMENTS)
        self.counts = places.view(-1, ELEMENTS).to(torch.int16)
        shape = (copies, len(resident.numbers), vae.config.latent_dim)
        self.latents = torch.empty(shape, dtype=torch.float16, device=self.device)
        with torch.no_grad(), torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
            self._encode(vae, resident, torch.Generator(self.device).manual_seed(seed))

    def _encode(self, vae: VAE, resident: ResidentDataset, generator: torch.Generator) -> None:
        """Fills `latents`, in batches of systems of one size."""
        for size in np.unique(self.lengths).tolist():
            members = torch.from_numpy(np.flatnonzero(self.lengths == size)).to(self.device)
            for indices in torch.split(members, max(1, _CHUNK // size)):
                atoms = self.starts[indices, None] + torch.arange(size, device=self.device)
                for latents in self.latents:
                    latents[atoms] = vae.encode(augment(resident.batch(indices, size), generator)).half()


class LatentPool(EncodedData):
    """A training set's latents, for packed batches of systems of any sizes.

    Attributes:
        tokens: atoms that the systems of a batch may have.
        parts, rows: atoms and rows of each part of a batch.
        first: as in `LatentBatch`.
    """

    def __init__(
        self, vae: VAE, data: PackedDataset, copies: int, tokens: int, crystal_fraction: float, first: float, seed: int,
        bf16: bool = False,
    ) -> None:  # fmt: skip
        """As `EncodedData`, and further:

        Args:
            tokens: atoms in a batch.
            crystal_fraction: share of the systems of a batch that are crystals.
            first: share of a batch that is its first part.
        """
        share, longest = int(first * tokens), int(np.max(data.sizes))
        self.parts = [share, tokens - share] if 0 < first < 1 else [tokens]
        if min(self.parts) < 2 * longest or tokens <= 3 * longest:
            raise InvalidInputError(
                f"packed batches need more than 3 times the {longest} atoms of the largest system, and 2 times "
                f"in each part that self-conditioning makes ({', '.join(map(str, self.parts))}); got "
                f"tokens_per_group={tokens}"
            )
        super().__init__(vae, data, copies, seed, bf16)
        self.tokens = tokens - 2 * self.max_length
        means = [self.lengths[np.asarray(data.periodic) == kind].mean() for kind in np.unique(data.periodic)]
        mean = means[0] if len(means) == 1 else (1 - crystal_fraction) * means[0] + crystal_fraction * means[1]
        self.rows = [int(1.2 * part / mean) + 24 for part in self.parts]
        self.first = (self.rows[0], self.parts[0]) if first > 0 else (0, 0)

    def batch(self, indices: NDArray[np.int64], generator: torch.Generator) -> LatentBatch:
        """The systems `indices` of at most `self.tokens` atoms, each in one of its copies at random.

        Waits for nothing.
        """
        chosen, lengths, sizes = self._layout(indices)
        tokens = sum(self.parts)
        packing = Packing.on_device(lengths, tokens, self.max_length)
        copy = torch.randint(len(self.latents), chosen.shape, generator=generator, device=self.device)
        atom = self.starts[chosen].index_select(0, packing.system) + packing.index
        latents = self.latents[copy.index_select(0, packing.system), atom.clamp(max=self.latents.shape[1] - 1)]
        counts, periodic = self.counts[chosen].long(), self.periodic[chosen]
        return LatentBatch(latents.float(), counts, periodic, sizes.float(), packing, self.first)

    def _layout(self, indices: NDArray[np.int64]) -> Tensor:
        """(3, B) int64: the system of each row, its atoms, and the atoms that count."""
        table = np.zeros((3, sum(self.rows)), dtype=np.int64)
        begin = 0
        for atoms, rows in zip(self.parts, self.rows, strict=True):
            ends = np.cumsum(self.lengths[indices])
            count = int(np.searchsorted(ends, atoms, "right"))
            taken, indices = indices[:count], indices[count:]
            left = atoms - int(ends[count - 1] if count else 0)
            spare = [self.max_length] * (left // self.max_length) + [left % self.max_length]
            if count + len(spare) > rows:
                raise InvalidInputError(f"{count} systems do not fit {rows} rows; raise tokens_per_group")
            table[0, begin : begin + count] = taken
            table[1:, begin : begin + count] = self.lengths[taken]
            table[1, begin + count : begin + count + len(spare)] = spare
            begin += rows
        return send(table, self.device)


class PropertyPool(EncodedData):
    """A training set's latents with properties, in batches of systems of one size.

    Attributes:
        targets: (systems, K) float32, NaN where unknown.
    """

    def __init__(
        self, vae: VAE, data: PackedDataset, names: Sequence[str], copies: int, seed: int, bf16: bool = False
    ) -> None:
        """As `EncodedData`; `names` are those of the K columns."""
        super().__init__(vae, data, copies, seed, bf16)
        columns = [np.asarray(data.properties[name], dtype=np.float32) for name in names]
        self.targets = torch.from_numpy(np.stack(columns, 1)).to(self.device)

    def batch(self, indices: NDArray[np.int64], generator: torch.Generator) -> PropertyBatch:
        """The systems `indices`, all of one size, each in one of its copies at random."""
        chosen = send(indices, self.device)
        copy = torch.randint(len(self.latents), (len(indices), 1), generator=generator, device=self.device)
        atoms = self.starts[chosen, None] + torch.arange(int(self.lengths[indices[0]]), device=self.device)
        counts, periodic = self.counts[chosen].long(), self.periodic[chosen]
        return PropertyBatch(self.latents[copy, atoms].float(), counts, periodic, self.targets[chosen])
