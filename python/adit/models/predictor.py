"""A small Transformer that tells the properties of a system from its latents, noisy or clean.

Shape suffixes: B systems, N atoms in each, T atoms of packed systems, L latent dimensions, E elements, K properties.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from adit.config import DiTConfig
from adit.models.dit import DiT
from adit.models.layers import FinalLayer
from adit.ops.packing import Packing

_LOG_VARIANCE, _FAR = (-10.0, 4.0), 1e7


class PropertyPredictor(DiT):
    """Mean and variance of each property, given noisy latents at a time, what the system is, and its composition.

    In plain torch alone: samples are steered by its gradient with respect to the latents (`adit.steering`).

    Attributes:
        names: of the K properties.
        mean, std: (K,) of the training set; the network's own unit.
        low, high: (K,) the least and the greatest of the training set.
    """

    mean: Tensor
    std: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, config: DiTConfig, names: Sequence[str]) -> None:
        super().__init__(config)
        self.names = tuple(names)
        self.impl = "reference"
        self.final = FinalLayer(config.width, 2 * len(self.names))
        for name, value in (("mean", 0.0), ("std", 1.0), ("low", 0.0), ("high", 0.0)):
            self.register_buffer(name, torch.full((len(self.names),), value))

    def estimate(
        self, x_BNL: Tensor, t_B: Tensor, label_B: Tensor, counts_BE: Tensor, packing: Packing | None = None
    ) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the properties, (B, K) in their units; arguments as of `DiT.forward`."""
        out = self(x_BNL, t_B, label_B, torch.zeros_like(x_BNL), counts_BE, packing)
        if packing is None:
            out_B2K = out.mean(1)
        else:
            sizes_B1 = packing.offsets.diff().clamp(min=1)[:, None]
            out_B2K = out.new_zeros(packing.systems, out.shape[1]).index_add(0, packing.system, out) / sizes_B1
        mean_BK, log_variance_BK = out_B2K.chunk(2, -1)
        spread_BK = (0.5 * log_variance_BK.clamp(*_LOG_VARIANCE)).exp()
        return self.mean + self.std * mean_BK, self.std * spread_BK


def log_likelihood(mean_BK: Tensor, spread_BK: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Logarithm of the probability that Gaussians lie between bounds, (B, K); of the density where these are equal.

    Args:
        mean_BK: of the Gaussians.
        spread_BK: their standard deviations.
        low: (K,) or (B, K); may be -inf.
        high: not below `low`; may be inf. Where one of the two is NaN, nothing is asked, and the result is 0.
    """
    asked, equal = ~(low.isnan() | high.isnan()), low == high
    spread = spread_BK.double()

    def in_spreads(bound: Tensor) -> Tensor:
        """What is not asked or infinite must have finite gradients all the same."""
        finite = torch.where(asked & bound.isfinite(), bound, 0.0).double()
        far = bound.sign().nan_to_num().double() * _FAR
        return torch.where(bound.isinf(), far, ((finite - mean_BK) / spread).clamp(-_FAR, _FAR))

    a, b = in_spreads(low), in_spreads(high)
    density = -0.5 * a.square() - spread.log() - 0.5 * math.log(2 * math.pi)
    b = torch.where(equal | ~asked, a + 1, b)
    a, b = torch.where(a + b > 0, -b, a), torch.where(a + b > 0, -a, b)  # in the lower tail they do not cancel
    log_a, log_b = torch.special.log_ndtr(a), torch.special.log_ndtr(b)
    between = log_b + torch.log1p(-(log_a - log_b).exp())
    return torch.where(asked, torch.where(equal, density, between), 0.0)
