"""Stage 2: the Diffusion Transformer on the latents of a frozen autoencoder."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from adit.batch import SystemBatch
from adit.config import FlowConfig
from adit.data.augment import augment
from adit.flow.path import flow_loss, interpolate, sample_times, to_data
from adit.models.dit import CRYSTAL, MOLECULE, NULL, DiT, composition
from adit.models.vae import VAE
from adit.train.latents import LatentBatch


class DiTLoss:
    """The flow-matching objective on a batch: predict the clean latents from noisy ones.

    A share `self_conditioning` of the systems are fed a first prediction, made without gradient; with
    probability `label_dropout` a system loses its label (and composition), so that the same network serves
    classifier-free guidance; the composition it loses more often. Nothing here waits for the device.
    """

    def __init__(self, dit: DiT, vae: VAE, config: FlowConfig) -> None:
        self.dit, self.vae, self.config = dit, vae, config
        self.vae.requires_grad_(False)

    def __call__(
        self, batch: SystemBatch | LatentBatch, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of each system and its plain squared error, (B,), of a group or of a packed batch."""
        config, device, count = self.config, batch.periodic.device, batch.n_systems
        rows = self._rows(batch, generator)
        data = rows.latents
        noise = torch.randn(data.shape, generator=generator, device=device)
        t = sample_times(count, config.time_sampling, generator, device, config.time_mean, config.time_std)
        label = torch.where(batch.periodic, CRYSTAL, MOLECULE)
        drop = torch.rand(count, generator=generator, device=device) < config.label_dropout
        label = torch.where(drop, NULL, label)
        x = interpolate(noise, data, rows.each(t))
        counts = self.told(batch, drop, generator) if self.dit.config.composition else None

        def predict(guess: Tensor, systems: int, end: int) -> Tensor:
            """The clean latents of the first `systems` systems, which are `end` rows."""
            told = None if counts is None else counts[:systems]
            raw = rows.network(self.dit, x[:end], t[:systems], label[:systems], guess[:end], told)
            return to_data(raw, x[:end], rows.each(t)[:end])

        guess = torch.zeros_like(x)
        first, end = rows.first(config.self_conditioning)  # the order of a batch is random
        if first:
            with torch.no_grad():
                guess = torch.cat([predict(guess, first, end), guess[end:]])
        predicted = predict(guess, count, len(x))
        with torch.no_grad():
            error = rows.mean((predicted - data).square().mean((1, 2)))
        return rows.mean(flow_loss(predicted, data, rows.each(t), config.weight_cap)), {"error": error}

    def _rows(self, batch: SystemBatch | LatentBatch, generator: torch.Generator) -> _Group | _Packed:
        if isinstance(batch, LatentBatch):
            return _Packed(batch.latents[:, None], batch)
        return _Group(self.latents(augment(batch, generator)))

    def told(self, batch: SystemBatch | LatentBatch, drop: Tensor, generator: torch.Generator) -> Tensor:
        """The composition of each system, zero where the network is not told: (B, elements)."""
        config = self.config
        share = torch.where(batch.periodic, config.crystal_composition, config.molecule_composition)
        known = torch.rand(batch.n_systems, generator=generator, device=drop.device) < share
        counts = batch.counts if isinstance(batch, LatentBatch) else composition(batch.numbers)
        return counts * (known & ~drop)[:, None]

    @torch.no_grad()
    def latents(self, batch: SystemBatch) -> Tensor:
        """Normalised latents, (B, N, L): the posterior's mean, since its noise only blurs the target."""
        return self.vae.encode(batch)


@dataclass(frozen=True, slots=True)
class _Group:
    """Systems of one size: a row is a system.

    Attributes:
        latents: (B, N, L).
    """

    latents: Tensor

    def each(self, of_B: Tensor) -> Tensor:
        """What belongs to a system, for each row."""
        return of_B

    def mean(self, of_rows: Tensor) -> Tensor:
        """(B,) means over the rows of a system."""
        return of_rows

    def first(self, share: float) -> tuple[int, int]:
        """The first systems, a share of all, and their rows."""
        systems = int(share * len(self.latents) + 0.5)
        return systems, systems

    def network(self, dit: DiT, x: Tensor, t: Tensor, label: Tensor, guess: Tensor, counts: Tensor | None) -> Tensor:
        """The raw prediction for the first systems."""
        out: Tensor = dit(x, t, label, guess, counts)
        return out


@dataclass(frozen=True, slots=True)
class _Packed:
    """Packed systems of any sizes: a row is an atom. The same methods.

    Attributes:
        latents: (T, 1, L).
    """

    latents: Tensor
    batch: LatentBatch

    def each(self, of_B: Tensor) -> Tensor:
        return of_B.index_select(0, self.batch.packing.system)

    def mean(self, of_rows: Tensor) -> Tensor:
        sums = torch.zeros_like(self.batch.sizes).index_add_(0, self.batch.packing.system, of_rows)
        return sums / self.batch.packing.offsets.diff().clamp(min=1)

    def first(self, share: float) -> tuple[int, int]:
        return self.batch.first

    def network(self, dit: DiT, x: Tensor, t: Tensor, label: Tensor, guess: Tensor, counts: Tensor | None) -> Tensor:
        packing = self.batch.packing.first(len(t), len(x))
        out: Tensor = dit(x[:, 0], t, label, guess[:, 0], counts, packing)
        return out[:, None]
