"""The autoencoder: atoms to 8 or so latent numbers per atom, and back.

Shape suffixes: B systems, N atoms in each, D width, L latent dimensions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from adit._rust import most_likely_types
from adit.batch import SystemBatch, lattice_cells, wrap
from adit.config import VAEConfig
from adit.models.layers import TransformerBlock, fourier_features, sinusoidal_embedding
from adit.ops.block import dit_stack
from adit.ops.dispatch import Impl
from adit.ops.packing import Packing
from adit.system import MAX_NUMBER, AtomicSystem

if TYPE_CHECKING:
    from numpy.typing import NDArray

MASKED = 0
"""The atomic number that stands for a hidden type."""


def _mlp(inputs: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, width))


class Encoder(nn.Module):
    """Systems to the mean and log-variance of a Gaussian over latents."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        width = config.width
        self.frequencies = config.fourier_frequencies
        self.element = nn.Embedding(MAX_NUMBER + 1, width)
        self.periodic = nn.Embedding(2, width)
        self.cartesian = _mlp(3, width)
        self.fractional = _mlp(6 * config.fourier_frequencies, width)
        self.lattice = nn.Linear(6, width)
        self.blocks = nn.ModuleList(
            TransformerBlock(width, config.heads, config.qk_norm) for _ in range(config.encoder_layers)
        )
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, 2 * config.latent_dim)

    def forward(
        self, numbers_BN: Tensor, cartesian_BN3: Tensor, fractional_BN3: Tensor, lattice_B6: Tensor, periodic_B: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Mean and log-variance, each (B, N, L) float32; number 0 hides an atom's type."""
        index = torch.arange(numbers_BN.shape[1], device=numbers_BN.device)
        crystal = periodic_B[:, None, None]
        place = torch.where(
            crystal,
            self.fractional(fourier_features(fractional_BN3, self.frequencies)) + self.lattice(lattice_B6)[:, None],
            self.cartesian(cartesian_BN3),
        )
        x_BND = self.element(numbers_BN) + place + self.periodic(periodic_B.long())[:, None]
        x_BND = x_BND + sinusoidal_embedding(index, x_BND.shape[-1])
        for block in self.blocks:
            x_BND = block(x_BND)
        x_BND = self.norm(x_BND).float()
        with torch.autocast(x_BND.device.type, enabled=False):
            mean, log_variance = self.out(x_BND).chunk(2, -1)
        return mean, log_variance.clamp(-30, 20)


@dataclass(frozen=True, slots=True)
class Decoded:
    """What the decoder says of B systems of N atoms.

    Attributes:
        logits: (B, N, 100) for atomic numbers 1 to 100.
        cartesian: (B, N, 3) Angstrom, centred; meaningful for molecules.
        phase: (B, N, 3, 2) cosine and sine of 2 pi times the fractional coordinates, not normalised; for crystals.
        lattice: (B, 6) as `adit.batch.lattice_parameters`; for crystals.
    """

    logits: Tensor
    cartesian: Tensor
    phase: Tensor
    lattice: Tensor

    @property
    def fractional(self) -> Tensor:
        """(B, N, 3) fractional coordinates in [0, 1)."""
        turns = torch.atan2(self.phase[..., 1], self.phase[..., 0]) / (2 * math.pi)
        return wrap(turns)

    def numbers(self, counts_BE: Tensor | None = None) -> NDArray[np.integer]:
        """(B, N) most likely atomic numbers; with the atoms of each element from hydrogen on, of this composition."""
        if counts_BE is None:
            return (self.logits.argmax(-1) + 1).cpu().numpy()
        systems, atoms, _ = self.logits.shape
        logits, counts = self.logits.float().flatten(0, 1).contiguous().cpu().numpy(), counts_BE.cpu().numpy()
        return most_likely_types(logits, counts, atoms * np.arange(systems + 1)).reshape(systems, atoms)

    def to_systems(
        self, periodic: Tensor, counts_BE: Tensor | None = None, cells: NDArray[np.float64] | None = None
    ) -> list[AtomicSystem]:
        """The most likely systems; `periodic` (B,) says which are crystals. `counts_BE` as for `numbers`.

        `cells` (B, 3, 3) are taken where they are known. A crystal whose lattice parameters no cell can have keeps a
        nearly flat cell, so that it is counted and judged invalid rather than dropped.
        """
        numbers = self.numbers(counts_BE)
        if cells is None:
            lattice = self.lattice.double()
            lengths = lattice[:, :3].clamp(min=0.1)
            cells = lattice_cells(torch.cat([lengths, lattice[:, 3:]], -1), numbers.shape[1]).cpu().numpy()
            # the least height that still makes a cell of 2e-6 cubic Angstrom: `AtomicSystem` wants a volume
            cells[:, 2, 2] = np.maximum(cells[:, 2, 2], 2e-6 / (cells[:, 0, 0] * cells[:, 1, 1]))
        cartesian = self.cartesian.double().cpu().numpy()
        fractional = self.fractional.double().cpu().numpy()
        return [
            AtomicSystem.from_fractional(numbers[k], fractional[k], cells[k])
            if crystal
            else AtomicSystem(numbers[k], cartesian[k])
            for k, crystal in enumerate(periodic.tolist())
        ]


class Decoder(nn.Module):
    """Latents to atom types, positions and lattice.

    Attributes:
        impl: which implementation packed systems run on, see `adit.ops.dispatch.kernels`.
    """

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        width = config.width
        self.impl: Impl = "auto"
        self.latent = nn.Linear(config.latent_dim, width)
        self.periodic = nn.Embedding(2, width)
        self.blocks = nn.ModuleList(
            TransformerBlock(width, config.heads, config.qk_norm) for _ in range(config.decoder_layers)
        )
        self.norm = nn.LayerNorm(width)
        self.heads = nn.Linear(width, MAX_NUMBER + 3 + 6)
        self.lattice = nn.Linear(width, 6)
        with torch.no_grad():
            self.lattice.bias.copy_(torch.tensor([3.0, 3.0, 3.0, 1.5, 1.5, 1.5]))

    def forward(self, latents_BNL: Tensor, periodic_B: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The fields of `Decoded`, in float32."""
        index = torch.arange(latents_BNL.shape[1], device=latents_BNL.device)
        x_BND = self.latent(latents_BNL) + self.periodic(periodic_B.long())[:, None]
        x_BND = x_BND + sinusoidal_embedding(index, x_BND.shape[-1])
        for block in self.blocks:
            x_BND = block(x_BND)
        return self.read(self.norm(x_BND))

    def hidden(self, latents_TL: Tensor, packing: Packing, periodic_B: Tensor) -> Tensor:
        """What `read` takes, of packed systems of any sizes: (T, D)."""
        layers = [block for block in self.blocks if isinstance(block, TransformerBlock)]
        attention, row = layers[0].attention, torch.zeros_like(packing.offsets[1:])
        index = torch.arange(packing.max_length, device=latents_TL.device)
        places = sinusoidal_embedding(index, self.latent.out_features).index_select(0, packing.index)
        x_TD = self.latent(latents_TL) + places + self.periodic(periodic_B.long()).index_select(0, packing.system)
        modulation, weights = torch.stack([layer.modulation for layer in layers]), [layer.weights for layer in layers]
        x_TD = dit_stack(
            x_TD, modulation, weights, packing, attention.heads,
            qk_norm=attention.qk_norm, rows_S=row, impl=self.impl,
        )  # fmt: skip
        out: Tensor = self.norm(x_TD)
        return out

    def read(self, x_BND: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The fields of `Decoded`, from the last layer's output for B systems of N atoms."""
        systems, atoms, _ = x_BND.shape
        x_BND = x_BND.float()
        with torch.autocast(x_BND.device.type, enabled=False):  # bfloat16 would round to 0.01 Angstrom
            logits, cartesian, phase = self.heads(x_BND).split([MAX_NUMBER, 3, 6], -1)
            lattice = self.lattice(x_BND.mean(1))
        cartesian = cartesian - cartesian.mean(1, keepdim=True)
        return logits, cartesian, phase.reshape(systems, atoms, 3, 2), lattice


class VAE(nn.Module):
    """Encoder and decoder, with the statistics that bring each latent channel to mean 0 and variance 1.

    `latent_mean` and `latent_std` (L,) follow the posterior means during training as running averages
    and are set from the training set before the next stages (`adit.train.stages`).
    """

    latent_mean: Tensor
    latent_std: Tensor

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.register_buffer("latent_mean", torch.zeros(config.latent_dim))
        self.register_buffer("latent_std", torch.ones(config.latent_dim))

    def posterior(self, batch: SystemBatch) -> tuple[Tensor, Tensor]:
        """Mean and log-variance (B, N, L) of the latents, not normalised."""
        mean, log_variance = self.encoder(
            batch.numbers, batch.cartesian, batch.fractional, batch.lattice, batch.periodic
        )
        return mean, log_variance

    def encode(self, batch: SystemBatch) -> Tensor:
        """The mean of the posterior, normalised: (B, N, L)."""
        mean, _ = self.posterior(batch)
        return (mean - self.latent_mean) / self.latent_std

    def decode(self, latents_BNL: Tensor, periodic_B: Tensor) -> Decoded:
        """Normalised latents (B, N, L) to systems; `periodic_B` (B,) is True for crystals."""
        return Decoded(*self.decoder(latents_BNL * self.latent_std + self.latent_mean, periodic_B))
