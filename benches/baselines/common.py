"""What the networks share: the interface, masks, pairs of atoms, features of time.

Shape suffixes, here and in the networks: B systems, N atoms in each (the most, if padded), P partners of an atom,
F features, S coordinate sets, K other channels.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn


class Baseline(nn.Module, ABC):
    """A network to be timed: `network(**network.inputs(sizes))` is one evaluation.

    Attributes:
        blocks: the repeated layers; `torch.compile` is applied to each of these.
    """

    blocks: nn.ModuleList

    @abstractmethod
    def inputs(self, sizes: Tensor, seed: int = 0) -> dict[str, Tensor | None]:
        """Random inputs for systems of `sizes` (B,) atoms, as in the middle of sampling."""

    def guided(self, inputs: dict[str, Tensor | None]) -> dict[str, Tensor | None]:
        """Inputs of one evaluation under classifier-free guidance: the batch twice, the second time without label."""
        raise NotImplementedError(f"{type(self).__name__} is not sampled with guidance")

    @property
    def place(self) -> dict[str, Any]:
        """Device and dtype of the weights, as keyword arguments."""
        first = next(self.parameters())
        return {"device": first.device, "dtype": first.dtype}


class Draw:
    """Random tensors of one seed, made on the CPU, so that they are the same on every device."""

    def __init__(self, seed: int, place: dict[str, Any]) -> None:
        self.generator, self.place = torch.Generator().manual_seed(seed), place

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator).to(**self.place)

    def uniform(self, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=self.generator).to(**self.place)

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high, shape, generator=self.generator).to(self.place["device"])

    def one_hot(self, classes: int, *shape: int) -> Tensor:
        hot = nn.functional.one_hot(self.integers(0, classes, *shape), classes)
        return hot.to(**self.place)


def mask_of(sizes: Tensor, device: torch.device) -> Tensor | None:
    """(B, N) True for real atoms, or None if all systems are of one size and nothing is padded."""
    if bool((sizes == sizes[0]).all()):
        return None
    return (torch.arange(int(sizes.max())) < sizes[:, None]).to(device)


def mlp(*widths: int, last: bool = False) -> nn.Sequential:
    """Linear layers with SiLU between them, and after the last one if `last`."""
    layers: list[nn.Module] = []
    for k, (inside, outside) in enumerate(pairwise(widths)):
        layers.append(nn.Linear(inside, outside))
        if last or k < len(widths) - 2:
            layers.append(nn.SiLU())
    return nn.Sequential(*layers)


def sinusoid(values: Tensor, width: int) -> Tensor:
    """(...,) to (..., width): cosines and sines at geometrically spaced frequencies (Vaswani 2017)."""
    half = width // 2
    steps = torch.arange(half, device=values.device, dtype=torch.float32) / half
    angles = values[..., None] * torch.exp(-math.log(10_000) * steps).to(values.dtype)
    return torch.cat([angles.cos(), angles.sin()], -1)


def masked_mean(x_BNF: Tensor, mask_BN: Tensor | None) -> Tensor:
    """Mean over the real atoms of each system, (B, 1, F)."""
    if mask_BN is None:
        return x_BNF.mean(1, keepdim=True)
    weight = mask_BN[..., None].to(x_BNF.dtype)
    return (x_BNF * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True)


def masked(x_BNF: Tensor, mask_BN: Tensor | None) -> Tensor:
    """Zero for padded atoms."""
    return x_BNF if mask_BN is None else x_BNF * mask_BN[..., None].to(x_BNF.dtype)


def centred(x_BN3: Tensor, mask_BN: Tensor | None) -> Tensor:
    """Positions less their mean; zero for padded atoms."""
    return masked(x_BN3 - masked_mean(x_BN3, mask_BN), mask_BN)


def partners(atoms: int, device: torch.device) -> Tensor:
    """(N, N - 1): the other atoms of each."""
    index = torch.arange(max(atoms - 1, 0), device=device).expand(atoms, -1)
    return index + (index >= torch.arange(atoms, device=device)[:, None])


def reversed_pairs(atoms: int, device: torch.device) -> Tensor:
    """(N (N - 1),): where pair (j, i) stands among the flattened pairs (i, j) of `partners`."""
    other = partners(atoms, device)
    own = torch.arange(atoms, device=device)[:, None]
    return (other * (atoms - 1) + own - (own > other).long()).flatten()


def pair_mask(mask_BN: Tensor | None, other_NP: Tensor) -> Tensor | None:
    """(B, N, P) True where both atoms are real."""
    return None if mask_BN is None else mask_BN[:, :, None] & mask_BN[:, other_NP]


def parameter_count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())
