"""Stage 1: the autoencoder; and its decoder once more, in the latent space that it has."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from adit.batch import SystemBatch, to_fractional, wrap
from adit.config import VAELossConfig
from adit.data.augment import augment
from adit.models.losses import kl_divergence, reconstruction_terms, total_loss
from adit.models.vae import MASKED, VAE, Decoded

_STATISTICS_MOMENTUM = 0.02


class VAELoss:
    """The denoising, noise-proof autoencoder's objective on a batch.

    Ten per cent of the atoms lose their type and ten per cent are jittered before encoding (as published);
    the latents get Gaussian noise of up to `latent_noise` of their spread, drawn for each system, before
    decoding, because a diffusion model's samples are off by about that much.
    """

    def __init__(self, vae: VAE, config: VAELossConfig) -> None:
        self.vae, self.config = vae, config

    def __call__(self, batch: SystemBatch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        clean = augment(batch, generator)
        dirty = corrupt(clean, self.config, generator)
        mean, log_variance = self.vae.posterior(dirty)
        self._follow(mean.detach())
        latents = mean + (0.5 * log_variance).exp() * _normal(mean, generator)
        strength = _strength(mean, self.config, generator)
        latents = latents + strength * self.vae.latent_std * _normal(mean, generator)
        decoded = Decoded(*self.vae.decoder(latents, batch.periodic))
        with torch.autocast(mean.device.type, enabled=False):
            terms = {**reconstruction_terms(decoded, clean), "kl": kl_divergence(mean, log_variance)}
        return total_loss(terms, self.config), terms

    @torch.no_grad()
    def _follow(self, mean: Tensor) -> None:
        """Running mean and spread of the latents, for the strength of the noise.

        What is not finite does not count: it would spread to every system, and `Trainer` names the one it is from.
        """
        flat = mean.flatten(0, 1)
        flat = torch.where(flat.isfinite(), flat, self.vae.latent_mean)
        self.vae.latent_mean.lerp_(flat.mean(0), _STATISTICS_MOMENTUM)
        spread = (flat - self.vae.latent_mean).square().mean(0).sqrt()
        self.vae.latent_std.lerp_(spread, _STATISTICS_MOMENTUM)


class DecoderLoss:
    """The decoder's objective on a batch, the encoder frozen.

    Latents of clean systems, as the diffusion model learns them, get Gaussian noise of up to `latent_noise` of
    their spread, drawn for each system. The latents stay what they are, so do models that were trained on them.
    """

    def __init__(self, vae: VAE, config: VAELossConfig) -> None:
        self.vae, self.config = vae, config
        vae.requires_grad_(False)
        vae.decoder.requires_grad_(True)

    def __call__(self, batch: SystemBatch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        clean = augment(batch, generator)
        with torch.no_grad():
            latents = self.vae.encode(clean)
        strength = _strength(latents, self.config, generator)
        decoded = self.vae.decode(latents + strength * _normal(latents, generator), batch.periodic)
        with torch.autocast(latents.device.type, enabled=False):
            terms = reconstruction_terms(decoded, clean)
        return total_loss(terms, self.config), terms


def _strength(latents: Tensor, config: VAELossConfig, generator: torch.Generator) -> Tensor:
    """(B, 1, 1) of the noise on the latents, up to `latent_noise`."""
    return config.latent_noise * torch.rand(len(latents), 1, 1, generator=generator, device=latents.device)


def _normal(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=generator, device=like.device)


def corrupt(batch: SystemBatch, config: VAELossConfig, generator: torch.Generator) -> SystemBatch:
    """Hides some types and jitters some other atoms (by N(0, jitter) in Angstrom)."""
    draw = torch.rand(batch.numbers.shape, generator=generator, device=batch.numbers.device)
    masked = draw < config.mask_fraction
    jittered = (draw >= config.mask_fraction) & (draw < config.mask_fraction + config.jitter_fraction)
    shift = config.jitter * _normal(batch.cartesian, generator) * jittered[..., None]
    crystal = batch.periodic[:, None, None]
    with torch.autocast(shift.device.type, enabled=False):
        moved = batch.fractional + to_fractional(shift, batch.cells)
    return replace(
        batch,
        numbers=torch.where(masked, MASKED, batch.numbers),
        cartesian=torch.where(crystal, batch.cartesian, batch.cartesian + shift),
        fractional=torch.where(crystal, wrap(moved), batch.fractional),
    )
