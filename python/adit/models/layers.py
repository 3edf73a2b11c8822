"""The Transformer blocks of the autoencoder and of the diffusion model.

Shape suffixes: B systems, N atoms in each, D width, H heads, K head size.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adit.errors import InvalidInputError
from adit.ops.attention import attention, packed_attention
from adit.ops.block import BlockWeights
from adit.ops.dispatch import Impl, kernels
from adit.ops.packing import Packing


def sinusoidal_embedding(values: Tensor, width: int) -> Tensor:
    """(...,) to (..., width): cosines and sines at geometrically spaced frequencies (Vaswani 2017)."""
    half = width // 2
    frequencies = torch.exp(-math.log(10_000.0) * torch.arange(half, device=values.device) / half)
    angles = values.float()[..., None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], -1)


def fourier_features(fractional: Tensor, n_frequencies: int) -> Tensor:
    """(..., 3) fractional coordinates to (..., 6 n) features with the period of the cell."""
    frequencies = 2 * math.pi * torch.arange(1, n_frequencies + 1, device=fractional.device)
    angles = (fractional[..., None] * frequencies).flatten(-2)
    return torch.cat([angles.cos(), angles.sin()], -1)


class SelfAttention(nn.Module):
    """Multi-head attention among the atoms of a system, with optional normalised queries and keys.

    Attributes:
        impl: which implementation it runs on, see `adit.ops.dispatch.kernels`; see also `set_impl`.
    """

    def __init__(self, width: int, heads: int, qk_norm: bool) -> None:
        super().__init__()
        if heads < 1 or width % heads or width % 2:
            raise InvalidInputError(
                f"`heads` must divide the width, which must be even; got {heads} heads, width {width}"
            )
        self.heads, self.qk_norm = heads, qk_norm
        self.impl: Impl = "auto"
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x_BND: Tensor) -> Tensor:
        systems, atoms, width = x_BND.shape
        qkv = self.qkv(x_BND).view(systems, atoms, 3, self.heads, width // self.heads)
        if kernels(self.impl, qkv, width // self.heads):
            packing = Packing.uniform(systems, atoms, qkv.device)
            mixed = packed_attention(qkv.flatten(0, 1), packing, qk_norm=self.qk_norm, impl=self.impl)
            packed: Tensor = self.out(mixed.view(systems, atoms, width))
            return packed
        q_BHNK, k_BHNK, v_BHNK = qkv.permute(2, 0, 3, 1, 4)
        if self.qk_norm:
            # sqrt(K) restores the scale that attention divides by
            q_BHNK = F.normalize(q_BHNK.float(), dim=-1).to(v_BHNK.dtype) * math.sqrt(width // self.heads)
            k_BHNK = F.normalize(k_BHNK.float(), dim=-1).to(v_BHNK.dtype) * math.sqrt(width // self.heads)
        mixed = attention(q_BHNK, k_BHNK, v_BHNK)
        out: Tensor = self.out(mixed.transpose(1, 2).reshape(systems, atoms, width))
        return out


def set_impl(network: nn.Module, impl: Impl) -> None:
    """Which implementation all attention in a network, and what is packed there, runs on."""
    for module in network.modules():
        if hasattr(module, "impl"):
            module.impl = impl  # type: ignore[assignment]


class FeedForward(nn.Module):
    """Two linear layers with a GELU between (exact: on a CPU six times faster than the tanh form)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down(F.gelu(self.up(x)))
        return out


def block_weights(
    attention: SelfAttention, feed_forward: FeedForward, dtype: torch.dtype | None = None
) -> BlockWeights:
    """In `dtype` or their own."""
    layers = (attention.qkv, attention.out, feed_forward.up, feed_forward.down)
    return BlockWeights(*(part.to(dtype) for layer in layers for part in (layer.weight, layer.bias)))


class TransformerBlock(nn.Module):
    """A pre-norm Transformer layer."""

    def __init__(self, width: int, heads: int, qk_norm: bool) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width)
        self.attention = SelfAttention(width, heads, qk_norm)
        self.norm_feed_forward = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width)

    def forward(self, x_BND: Tensor) -> Tensor:
        x_BND = x_BND + self.attention(self.norm_attention(x_BND))
        out: Tensor = x_BND + self.feed_forward(self.norm_feed_forward(x_BND))
        return out

    @property
    def modulation(self) -> Tensor:
        """(1, 6, D): with these and `weights`, a DiT block does what this layer does."""
        (a, b), (c, d) = ((norm.bias, norm.weight - 1) for norm in (self.norm_attention, self.norm_feed_forward))
        gate = torch.ones_like(a)
        return torch.stack([a, b, gate, c, d, gate])[None]

    @property
    def weights(self) -> BlockWeights:
        """For `adit.ops.block.dit_stack`."""
        return block_weights(self.attention, self.feed_forward)


def modulate(x_BND: Tensor, shift_B1D: Tensor, scale_B1D: Tensor) -> Tensor:
    """LayerNorm without affine parameters, then the condition's scale and shift (AdaLN, Peebles & Xie 2023)."""
    if scale_B1D.shape[0] == 1:  # one condition for all systems: twice as fast in one pass
        scale_D, shift_D = scale_B1D[0, 0].to(x_BND.dtype), shift_B1D[0, 0].to(x_BND.dtype)
        return F.layer_norm(x_BND, x_BND.shape[-1:], 1 + scale_D, shift_D)
    return F.layer_norm(x_BND, x_BND.shape[-1:]) * (1 + scale_B1D) + shift_B1D


GATES = (2, 5)
"""Which of a block's six modulations are its gates, of attention and feed-forward; shut, it does nothing."""


class DiTBlock(nn.Module):
    """A Transformer layer whose norms and residual gates follow the condition (AdaLN-zero, arXiv 2212.09748).

    In plain torch: a `DiT` comes here only where it does not take the kernels for whole blocks.
    """

    def __init__(self, width: int, heads: int, qk_norm: bool) -> None:
        super().__init__()
        self.attention = SelfAttention(width, heads, qk_norm)
        self.attention.impl = "reference"
        self.feed_forward = FeedForward(width)
        self.modulation = nn.Linear(width, 6 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x_BND: Tensor, modulation_B6D: Tensor) -> Tensor:
        """The residual stream, wider than the weights if they are in half precision.

        `modulation_B6D` is `self.modulation` of the condition, (B, 6, D) or (1, 6, D): shift, scale and gate
        of the attention half, then of the feed-forward half.
        """
        shift_a, scale_a, gate_a, shift_f, scale_f, gate_f = modulation_B6D[:, :, None].unbind(1)
        dtype = self.attention.qkv.weight.dtype
        x_BND = x_BND + gate_a * self.attention(modulate(x_BND, shift_a, scale_a).to(dtype))
        out: Tensor = x_BND + gate_f * self.feed_forward(modulate(x_BND, shift_f, scale_f).to(dtype))
        return out

    def weights(self, dtype: torch.dtype | None = None) -> BlockWeights:
        """For `adit.ops.block.dit_stack`, in `dtype` or their own."""
        return block_weights(self.attention, self.feed_forward, dtype)


class FinalLayer(nn.Module):
    """AdaLN and a linear map to the output, which starts at zero."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.modulation = nn.Linear(width, 2 * width)
        self.linear = nn.Linear(width, out)
        for layer in (self.modulation, self.linear):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x_BND: Tensor, modulation_B2D: Tensor) -> Tensor:
        """(B, N, out). `modulation_B2D` is `self.modulation` of the condition, (B, 2, D) or (1, 2, D)."""
        shift, scale = modulation_B2D[:, :, None].unbind(1)
        out: Tensor = self.linear(modulate(x_BND, shift, scale))
        return out
