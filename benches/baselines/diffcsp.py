"""DiffCSP: joint diffusion of lattice, coordinates and elements with CSPNet (Jiao et al. 2023, arXiv 2309.04475).

The published configuration for generation: 6 layers of 512 features, 128 Fourier frequencies of the fractional
difference, all N^2 pairs with self-pairs, 1,000 steps of a predictor and a corrector: 2,000 evaluations. The Fourier
features, the same in each layer, are computed once (published: in each layer).

The lattice is (B, 3, 3), row vectors, Angstrom.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from baselines.common import Baseline, Draw, mask_of, masked, masked_mean, mlp, sinusoid

ELEMENTS, FREQUENCIES, TIME = 100, 128, 256
STEPS = 2000


def fourier(difference: Tensor) -> Tensor:
    """Fractional differences (..., 3) to sines and cosines (..., 6 * 128), of the period of the cell."""
    frequency = 2 * math.pi * torch.arange(FREQUENCIES, device=difference.device).to(difference.dtype)
    angles = (difference[..., None] * frequency).flatten(-2)
    return torch.cat([angles.sin(), angles.cos()], -1)


def pair_mean(message_BNPF: Tensor, mask_BN: Tensor | None, pairs_BNP: Tensor | None, itself: bool) -> Tensor:
    """Mean over the real partners."""
    count: Tensor | int = max(message_BNPF.shape[2], 1)
    if mask_BN is not None and pairs_BNP is not None:
        message_BNPF = message_BNPF * pairs_BNP[..., None].to(message_BNPF.dtype)
        count = (mask_BN.sum(1) - int(not itself)).clamp(min=1)[:, None, None].to(message_BNPF.dtype)
    return message_BNPF.sum(2) / count


class CSPLayer(nn.Module):
    """One round of messages (section 4.2), with a norm before and a residual after."""

    def __init__(self, width: int, edge: int, itself: bool) -> None:
        super().__init__()
        self.itself = itself
        self.norm = nn.LayerNorm(width)
        self.message = mlp(2 * width + edge, width, width, last=True)
        self.update = mlp(2 * width, width, width, last=True)

    def forward(
        self,
        h_BNF: Tensor,
        edge_BNPK: Tensor,
        other_NP: Tensor,
        mask_BN: Tensor | None,
        pairs_BNP: Tensor | None,
        *more_BNPK: Tensor,
    ) -> Tensor:
        h = self.norm(h_BNF)
        mine = h[:, :, None].expand(-1, -1, other_NP.shape[1], -1)
        message = self.message(torch.cat([mine, h[:, other_NP], edge_BNPK, *more_BNPK], -1))
        mean = pair_mean(message, mask_BN, pairs_BNP, self.itself)
        return h_BNF + self.update(torch.cat([h, mean], -1))


class DiffCSP(Baseline):
    """The denoiser: noise in the lattice, score of the coordinates, noise in the elements."""

    def __init__(self, width: int = 512, layers: int = 6) -> None:
        super().__init__()
        self.types = nn.Linear(ELEMENTS, width)
        self.mix = nn.Linear(width + TIME, width)
        self.blocks = nn.ModuleList(CSPLayer(width, 9 + 6 * FREQUENCIES, itself=True) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.out_fractional = nn.Linear(width, 3, bias=False)
        self.out_lattice = nn.Linear(width, 9, bias=False)
        self.out_types = nn.Linear(width, ELEMENTS)

    def forward(
        self, fractional: Tensor, lattice: Tensor, types: Tensor, time: Tensor, mask: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Fractional coordinates (B, N, 3), lattice (B, 3, 3), types (B, N, 100), time (B,): outputs likewise."""
        systems, atoms, _ = fractional.shape
        t = sinusoid(1000 * time, TIME)[:, None].expand(-1, atoms, -1)
        h = self.mix(torch.cat([self.types(types), t.to(types.dtype)], -1))
        other = torch.arange(atoms, device=h.device).expand(atoms, -1)
        pairs = None if mask is None else mask[:, :, None] & mask[:, None]
        inner = (lattice @ lattice.mT).flatten(1)[:, None, None].expand(-1, atoms, atoms, -1)
        difference = fractional[:, None] - fractional[:, :, None]
        edge = torch.cat([inner, fourier(difference)], -1)
        for block in self.blocks:
            h = block(h, edge, other, mask, pairs)
        h = self.norm(h)
        noise = self.out_lattice(masked_mean(h, mask)[:, 0]).view(systems, 3, 3) @ lattice
        return {
            "fractional": masked(self.out_fractional(h), mask),
            "lattice": noise,
            "types": masked(self.out_types(h), mask),
        }

    def inputs(self, sizes: Tensor, seed: int = 0) -> dict[str, Tensor | None]:
        draw, mask = Draw(seed, self.place), mask_of(sizes, self.place["device"])
        systems, atoms = len(sizes), int(sizes.max())
        return {
            "fractional": draw.uniform(systems, atoms, 3),
            "lattice": draw.normal(systems, 3, 3),
            "types": draw.normal(systems, atoms, ELEMENTS),
            "time": draw.uniform(systems),
            "mask": mask,
        }
