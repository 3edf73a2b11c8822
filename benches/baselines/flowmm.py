"""FlowMM: Riemannian flow matching of crystals with a variant of CSPNet (Miller et al. 2024, arXiv 2406.04744).

The published configuration for generation: DiffCSP's network (6 layers of 512 features, 128 frequencies) without
self-pairs, differences on the torus by the shortest way, and on each edge the cosines of its angles with the lattice
vectors and an embedding of the number of atoms; elements as 7 analog bits, lattice as lengths and angles, whose
output pools by mean and by sum. 1,000 steps; 250 are reported too. No self-conditioning.

The lattice is (B, 6): lengths in Angstrom, angles in radians. Pairs as (B, N, P = N - 1), see `common.partners`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from baselines.common import Baseline, Draw, mask_of, masked, masked_mean, pair_mask, partners
from baselines.diffcsp import FREQUENCIES, TIME, CSPLayer, fourier

BITS, MOST_ATOMS = 7, 100
STEPS = (1000, 250)


def metric(lattice_B6: Tensor) -> Tensor:
    """Dot products of the lattice vectors, (B, 3, 3)."""
    lengths, cosines = lattice_B6[:, :3], lattice_B6[:, 3:].cos()
    one = torch.ones_like(cosines[:, 0])
    a, b, c = cosines.unbind(-1)
    table = torch.stack([one, c, b, c, one, a, b, a, one], -1).view(-1, 3, 3)
    return table * lengths[:, :, None] * lengths[:, None]


def edge_cosines(difference_BNP3: Tensor, metric_B33: Tensor) -> Tensor:
    """Cosines of the angles between edges and lattice vectors, (B, N, P, 3); zero for an edge of no length."""
    dots = torch.einsum("bkl,bnpl->bnpk", metric_B33, difference_BNP3)
    squared = (dots * difference_BNP3).sum(-1, keepdim=True).clamp(min=1e-12)
    lengths = metric_B33.diagonal(dim1=-2, dim2=-1).sqrt()
    return dots / squared.sqrt() / lengths[:, None, None]


class FlowMMLayer(CSPLayer):
    """CSPNet's layer with its own embedding of the number of atoms."""

    def __init__(self, width: int) -> None:
        super().__init__(width, width + 3 + 6 + 6 * FREQUENCIES, itself=False)
        self.count = nn.Linear(MOST_ATOMS, width, bias=False)

    def forward(
        self,
        h_BNF: Tensor,
        edge_BNPK: Tensor,
        other_NP: Tensor,
        mask_BN: Tensor | None,
        pairs_BNP: Tensor | None,
        count_BK: Tensor,
    ) -> Tensor:
        embedded = self.count(count_BK)[:, None, None].expand(-1, *other_NP.shape, -1)
        return super().forward(h_BNF, edge_BNPK, other_NP, mask_BN, pairs_BNP, embedded)


class FlowMM(Baseline):
    """The vector field of coordinates, lattice and element bits."""

    def __init__(self, width: int = 512, layers: int = 6) -> None:
        super().__init__()
        self.time = nn.Linear(1, TIME, bias=False)
        self.types = nn.Linear(BITS, width, bias=False)
        self.mix = nn.Linear(width + TIME, width, bias=False)
        self.blocks = nn.ModuleList(FlowMMLayer(width) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.out_fractional = nn.Linear(width, 3, bias=False)
        self.out_lattice = nn.Linear(2 * width, 6)
        self.out_types = nn.Linear(width, BITS)

    def forward(
        self, fractional: Tensor, lattice: Tensor, types: Tensor, time: Tensor, mask: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Fractional coordinates (B, N, 3), lattice (B, 6), types (B, N, 7), time (B,): velocities likewise."""
        systems, atoms, _ = fractional.shape
        t = self.time(time[:, None])[:, None].expand(-1, atoms, -1)
        h = self.mix(torch.cat([self.types(types), t], -1))
        other = partners(atoms, h.device)
        pairs = pair_mask(mask, other)
        difference = fractional[:, other] - fractional[:, :, None]
        difference = difference - difference.round()
        angles = edge_cosines(difference, metric(lattice))
        edge = torch.cat([angles, lattice[:, None, None].expand(-1, *other.shape, -1), fourier(difference)], -1)
        number = torch.full((systems,), atoms, device=h.device) if mask is None else mask.sum(1)
        count = nn.functional.one_hot(number, MOST_ATOMS).to(h.dtype)
        for block in self.blocks:
            h = block(h, edge, other, mask, pairs, count)
        h = self.norm(h)
        mean = masked_mean(h, mask)[:, 0]
        pooled = torch.cat([mean, mean * number[:, None].to(h.dtype)], -1)
        return {
            "fractional": masked(self.out_fractional(h), mask),
            "lattice": self.out_lattice(pooled),
            "types": masked(self.out_types(h), mask),
        }

    def inputs(self, sizes: Tensor, seed: int = 0) -> dict[str, Tensor | None]:
        draw, mask = Draw(seed, self.place), mask_of(sizes, self.place["device"])
        systems, atoms = len(sizes), int(sizes.max())
        lengths, angles = 3 + 4 * draw.uniform(systems, 3), math.pi * (0.4 + 0.2 * draw.uniform(systems, 3))
        return {
            "fractional": draw.uniform(systems, atoms, 3),
            "lattice": torch.cat([lengths, angles], -1),
            "types": draw.normal(systems, atoms, BITS),
            "time": draw.uniform(systems),
            "mask": mask,
        }
