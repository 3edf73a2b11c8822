"""EDM: equivariant diffusion of molecules with an EGNN (Hoogeboom et al. 2022, arXiv 2203.17003).

QM9's published configuration: 9 layers of 256 features, attention on the messages (appendix B), all N^2 ordered
pairs (self-pairs are computed and masked, as published), 1,000 denoising steps. The paper leaves the network that
embeds nothing but features and time to a linear layer; coordinates move by at most 15 A a layer (tanh).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from baselines.common import Baseline, Draw, centred, mask_of, masked, mlp

FEATURES = 6
"""H, C, N, O, F one-hot, and the charge."""
STEPS = 1000


class Pairs:
    """Geometry of all ordered pairs: unit-like directions (B, N, N, 3) and squared distances (B, N, N, 1)."""

    def __init__(self, positions_BN3: Tensor) -> None:
        difference = positions_BN3[:, :, None] - positions_BN3[:, None]
        self.squared = difference.square().sum(-1, keepdim=True)
        # the offset under the root keeps the gradient of self-pairs finite
        self.direction = difference / ((self.squared + 1e-8).sqrt() + 1)


def pair_features(h_BNF: Tensor, *more_BNNF: Tensor) -> Tensor:
    """h_i, h_j and the rest, concatenated."""
    atoms = h_BNF.shape[1]
    mine = h_BNF[:, :, None].expand(-1, -1, atoms, -1)
    theirs = h_BNF[:, None].expand(-1, atoms, -1, -1)
    return torch.cat([mine, theirs, *more_BNNF], -1)


def on_pairs(network: nn.Sequential, h_BNF: Tensor, pairs_BNNF: Tensor) -> Tensor:
    """`network(pair_features(h, pairs))` with its first layer taken apart: what it makes of an atom is made once.

    The same function of the same weights for half of the arithmetic of an EGNN. Not how it was published.
    """
    first, width = network[0], h_BNF.shape[-1]
    mine, theirs, pair = first.weight.split([width, width, pairs_BNNF.shape[-1]], 1)
    own, other = functional.linear(h_BNF, mine, first.bias), functional.linear(h_BNF, theirs)
    return network[1:](own[:, :, None] + other[:, None] + functional.linear(pairs_BNNF, pair))  # type: ignore[no-any-return]


class EGNNLayer(nn.Module):
    """One layer (equation 12): messages, features, coordinates.

    Attributes:
        thrifty: compute the first layers of the pairs as `on_pairs` does.
    """

    thrifty = False

    def __init__(self, width: int) -> None:
        super().__init__()
        self.message = mlp(2 * width + 2, width, width, last=True)
        self.attention = nn.Linear(width, 1)
        self.update = mlp(2 * width, width, width)
        self.shift = nn.Sequential(mlp(2 * width + 2, width, width, last=True), nn.Linear(width, 1, bias=False))
        nn.init.xavier_uniform_(self.shift[1].weight, gain=0.001)

    def forward(
        self, h_BNF: Tensor, x_BN3: Tensor, first_BNN1: Tensor, real_BNN1: Tensor, reach: float
    ) -> tuple[Tensor, Tensor]:
        pairs = Pairs(x_BN3)
        message = self.over_pairs(self.message, h_BNF, pairs.squared, first_BNN1)
        message = message * (torch.sigmoid(self.attention(message)) * real_BNN1)
        h_BNF = h_BNF + self.update(torch.cat([h_BNF, message.sum(2)], -1))
        size = self.shift[1](self.over_pairs(self.shift[0], h_BNF, pairs.squared, first_BNN1))
        return h_BNF, x_BN3 + (pairs.direction * torch.tanh(size) * real_BNN1 * reach).sum(2)

    def over_pairs(self, network: nn.Sequential, h_BNF: Tensor, *pairs_BNN1: Tensor) -> Tensor:
        """A network of `pair_features`."""
        if self.thrifty:
            return on_pairs(network, h_BNF, torch.cat(pairs_BNN1, -1))
        out: Tensor = network(pair_features(h_BNF, *pairs_BNN1))
        return out


class EGNN(nn.Module):
    """E(n)-equivariant graph network over fully connected molecules (Satorras 2021, arXiv 2102.09844)."""

    def __init__(self, features: int, out: int, width: int = 256, layers: int = 9, reach: float = 15.0) -> None:
        super().__init__()
        self.embed = nn.Linear(features, width)
        self.blocks = nn.ModuleList(EGNNLayer(width) for _ in range(layers))
        self.out = nn.Linear(width, out)
        self.reach = reach / layers

    def forward(self, x_BN3: Tensor, h_BNF: Tensor, mask_BN: Tensor | None) -> tuple[Tensor, Tensor]:
        """New coordinates (B, N, 3) and features (B, N, out)."""
        real = ~torch.eye(x_BN3.shape[1], dtype=torch.bool, device=x_BN3.device)[None]
        if mask_BN is not None:
            real = real & mask_BN[:, :, None] & mask_BN[:, None]
        real_BNN1 = real[..., None].to(x_BN3.dtype)
        first = Pairs(x_BN3).squared
        h = self.embed(h_BNF)
        for block in self.blocks:
            h, x_BN3 = block(h, x_BN3, first, real_BNN1, self.reach)
            h = masked(h, mask_BN)
        return x_BN3, masked(self.out(h), mask_BN)


class EDM(Baseline):
    """The noise predictor: noisy positions and features, and time, to the noise in both."""

    def __init__(self, features: int = FEATURES, width: int = 256, layers: int = 9) -> None:
        super().__init__()
        self.features = features
        self.egnn = EGNN(features + 1, features + 1, width, layers)
        self.blocks = self.egnn.blocks

    def forward(self, positions: Tensor, types: Tensor, time: Tensor, mask: Tensor | None = None) -> dict[str, Tensor]:
        """Positions (B, N, 3), types (B, N, features), time (B,) in [0, 1] to noise of the same shapes."""
        h = torch.cat([types, time[:, None, None].expand(-1, types.shape[1], 1).to(types.dtype)], -1)
        moved, h = self.egnn(positions, masked(h, mask), mask)
        return {"positions": centred(moved - positions, mask), "types": h[..., :-1]}

    def inputs(self, sizes: Tensor, seed: int = 0) -> dict[str, Tensor | None]:
        made = noisy_molecules(sizes, self.features, seed, self.place)
        return {**made, "time": Draw(seed + 1, self.place).uniform(len(sizes))}


def noisy_molecules(sizes: Tensor, features: int, seed: int, place: dict[str, Any]) -> dict[str, Tensor | None]:
    """Centred normal positions (B, N, 3), normal types (B, N, features), and the mask."""
    draw, mask = Draw(seed, place), mask_of(sizes, place["device"])
    systems, atoms = len(sizes), int(sizes.max())
    positions, types = draw.normal(systems, atoms, 3), draw.normal(systems, atoms, features)
    return {"positions": centred(positions, mask), "types": masked(types, mask), "mask": mask}
