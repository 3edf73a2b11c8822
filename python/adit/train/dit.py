"""Stage 2: the Diffusion Transformer on the latents of a frozen autoencoder."""

from __future__ import annotations

import torch
from torch import Tensor

from adit.batch import SystemBatch
from adit.config import FlowConfig
from adit.data.augment import augment
from adit.flow.path import flow_loss, interpolate, sample_times, to_data
from adit.models.dit import CRYSTAL, MOLECULE, NULL, DiT, composition
from adit.models.vae import VAE


class DiTLoss:
    """The flow-matching objective on a batch: predict the clean latents from noisy ones.

    A share `self_conditioning` of the systems are fed a first prediction, made without gradient; with
    probability `label_dropout` a system loses its label (and composition), so that the same network serves
    classifier-free guidance; the composition it loses more often. Nothing here waits for the device.
    """

    def __init__(self, dit: DiT, vae: VAE, config: FlowConfig) -> None:
        self.dit, self.vae, self.config = dit, vae, config
        self.vae.requires_grad_(False)

    def __call__(self, batch: SystemBatch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        config, device, count = self.config, batch.cartesian.device, batch.n_systems
        data = self.latents(augment(batch, generator))
        noise = torch.randn(data.shape, generator=generator, device=device)
        t = sample_times(count, config.time_sampling, generator, device, config.time_mean, config.time_std)
        label = torch.where(batch.periodic, CRYSTAL, MOLECULE)
        drop = torch.rand(count, generator=generator, device=device) < config.label_dropout
        label = torch.where(drop, NULL, label)
        x = interpolate(noise, data, t)
        counts = self.told(batch, drop, generator) if self.dit.config.composition else None
        guess = torch.zeros_like(x)
        # the order of a batch is random, so its first systems are as good as any
        if first := int(config.self_conditioning * count + 0.5):
            with torch.no_grad():
                raw = self.dit(
                    x[:first], t[:first], label[:first], guess[:first], None if counts is None else counts[:first]
                )
                guess = torch.cat([to_data(raw, x[:first], t[:first]), guess[first:]])
        predicted = to_data(self.dit(x, t, label, guess, counts), x, t)
        with torch.no_grad():
            error = (predicted - data).square().mean((1, 2))
        return flow_loss(predicted, data, t, config.weight_cap), {"error": error}

    def told(self, batch: SystemBatch, drop: Tensor, generator: torch.Generator) -> Tensor:
        """The composition of each system, zero where the network is not told: (B, elements)."""
        config = self.config
        share = torch.where(batch.periodic, config.crystal_composition, config.molecule_composition)
        known = torch.rand(batch.n_systems, generator=generator, device=drop.device) < share
        return composition(batch.numbers) * (known & ~drop)[:, None]

    @torch.no_grad()
    def latents(self, batch: SystemBatch) -> Tensor:
        """Normalised latents, (B, N, L): the posterior's mean, since its noise only blurs the target."""
        return self.vae.encode(batch)
