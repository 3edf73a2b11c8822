"""GeoLDM: diffusion in the latent space of an equivariant autoencoder (Xu et al. 2023, arXiv 2305.01140).

QM9's published configuration: the latent of an atom is a point and one invariant number; the denoiser is EDM's EGNN
(9 layers, 256 features) over these, 1,000 steps, and the decoder, evaluated once, is another EGNN of that size.
The encoder (1 layer) takes no part in sampling and is left out.
"""

from __future__ import annotations

from torch import Tensor

from baselines.common import Baseline, centred
from baselines.edm import EDM, EGNN, FEATURES, noisy_molecules

LATENT = 1
"""Invariant numbers of an atom's latent."""


class GeoLDM(EDM):
    """The denoiser: EDM's over latents."""

    def __init__(self) -> None:
        super().__init__(features=LATENT)


class GeoLDMDecoder(Baseline):
    """Latents to positions and types."""

    def __init__(self) -> None:
        super().__init__()
        self.egnn = EGNN(LATENT, FEATURES)
        self.blocks = self.egnn.blocks

    def forward(self, positions: Tensor, latents: Tensor, mask: Tensor | None = None) -> dict[str, Tensor]:
        """Latent points (B, N, 3) and numbers (B, N, 1) to positions (B, N, 3) and type logits (B, N, 6)."""
        positions, types = self.egnn(positions, latents, mask)
        return {"positions": centred(positions, mask), "types": types}

    def inputs(self, sizes: Tensor, seed: int = 0) -> dict[str, Tensor | None]:
        made = noisy_molecules(sizes, LATENT, seed, self.place)
        return {"positions": made["positions"], "latents": made["types"], "mask": made["mask"]}
