"""EDM's diffusion: noise schedule, training loss and sampler (Hoogeboom et al. 2022, arXiv 2203.17003).

For training the EGNN of `edm.py` at equal budget. Positions in Angstrom; types are one-hot / 4 and the charge / 10, as
published. The variance exploding part of the schedule is clipped as in appendix B.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from baselines.common import centred, mask_of, masked
from baselines.edm import EDM, FEATURES, STEPS

ELEMENTS = (1, 6, 7, 8, 9)
"""Atomic numbers of the one-hot features."""


def encode_types(numbers_BN: Tensor) -> Tensor:
    """Atomic numbers (0 for padding) to scaled features (B, N, 6)."""
    hot = (numbers_BN[..., None] == torch.tensor(ELEMENTS, device=numbers_BN.device)).float()
    return torch.cat([hot / 4, numbers_BN[..., None].float() / 10], -1)


def decode_types(types_BNF: Tensor) -> Tensor:
    """Scaled features to the most likely atomic numbers (B, N)."""
    return torch.tensor(ELEMENTS, device=types_BNF.device)[types_BNF[..., : len(ELEMENTS)].argmax(-1)]


def schedule(steps: int, precision: float = 1e-5) -> Tensor:
    """(steps + 1,) alpha of times 0 to 1: a polynomial (equation 4, appendix B), its steps clipped; float64."""
    t = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    squared = (1 - t**2) ** 2
    ratios = torch.cat([squared[:1], squared[1:] / squared[:-1]]).clamp(min=1e-3, max=1.0)
    return ((1 - 2 * precision) * ratios.cumprod(0) + precision).sqrt()


class EDMDiffusion(nn.Module):
    """The loss and the sampler of a noise predictor.

    Molecules are positions (B, N, 3) in Angstrom, centred, features (B, N, 6) of `encode_types`, and a mask (B, N),
    None if nothing is padded.
    """

    alpha: Tensor

    def __init__(self, network: EDM, steps: int = STEPS) -> None:
        super().__init__()
        self.network, self.steps = network, steps
        self.register_buffer("alpha", schedule(steps))

    def levels(self, step_B: Tensor) -> tuple[Tensor, Tensor]:
        """alpha and sigma of these steps, each (B, 1, 1)."""
        alpha = self.alpha[step_B][:, None, None]
        return alpha.float(), (1 - alpha.square()).sqrt().float()

    def noise(self, like: Tensor, mask: Tensor | None, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Centred normal positions and normal features."""
        systems, atoms, _ = like.shape
        drawn = torch.randn(systems, atoms, 3 + FEATURES, generator=generator, device=like.device)
        return centred(drawn[..., :3], mask), masked(drawn[..., 3:], mask)

    def loss(
        self, positions: Tensor, types: Tensor, mask: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """(B,) mean squared error of the noise at a random time (the simple loss, section 3.2)."""
        step = torch.randint(0, self.steps + 1, (len(positions),), generator=generator, device=positions.device)
        alpha, sigma = self.levels(step)
        noise_x, noise_h = self.noise(positions, mask, generator)
        noisy = (alpha * positions + sigma * noise_x, alpha * types + sigma * noise_h)
        out = self.network(*noisy, step / self.steps, mask)
        error = (out["positions"] - noise_x).square().sum(-1) + (out["types"] - noise_h).square().sum(-1)
        atoms = positions.shape[1] if mask is None else mask.sum(1)
        return error.sum(1) / (atoms * (3 + FEATURES))

    @torch.no_grad()
    def sample(
        self, sizes: Tensor, generator: torch.Generator | None = None, evaluations: int | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Positions, features and mask for sizes (B,), by ancestral sampling.

        In `steps` + 1 evaluations of the network as published, or in fewer: through evenly spaced steps.
        """
        device = self.alpha.device
        mask = mask_of(sizes, device)
        like = torch.empty(len(sizes), int(sizes.max()), 3, device=device)
        x, h = self.noise(like, mask, generator)
        grid = torch.linspace(self.steps, 0, evaluations or self.steps + 1, dtype=torch.float64).round().long().tolist()
        for step, then in pairwise(grid):
            x, h = self.step_down(x, h, step, then, mask, generator)
        alpha, sigma = self.levels(torch.zeros(1, dtype=torch.long, device=device))
        out = self.network(x, h, torch.zeros(len(x), device=device), mask)
        return (x - sigma * out["positions"]) / alpha, (h - sigma * out["types"]) / alpha, mask

    def step_down(
        self, x: Tensor, h: Tensor, step: int, then: int, mask: Tensor | None, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """From `step` to the earlier one `then` (equations 3 and 8)."""
        alpha, before = self.alpha[step], self.alpha[then]
        ratio = alpha / before
        variance, variance_before = 1 - alpha**2, 1 - before**2
        between = variance - ratio**2 * variance_before
        pull, spread = float(between / (ratio * variance.sqrt())), float((between * variance_before / variance).sqrt())
        out = self.network(x, h, torch.full((len(x),), step / self.steps, device=x.device), mask)
        fresh_x, fresh_h = self.noise(x, mask, generator)
        x = x / float(ratio) - pull * out["positions"] + spread * fresh_x
        return centred(x, mask), h / float(ratio) - pull * out["types"] + spread * fresh_h
