"""TABASCO-hot: a plain Transformer over heavy atoms (Vonessen et al. 2025, arXiv 2507.00899).

The published configuration: 16 pre-norm layers of width 256, 8 heads, and one cross-attention layer each for
coordinates and elements, 100 steps; no hydrogens, no equivariance, no modulation, no guidance. GELU in the
feed-forward (the paper does not say).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from baselines.common import Baseline, Draw, centred, mask_of, masked, mlp, sinusoid

ELEMENTS = 9
STEPS = 100


class TabascoLayer(nn.Module):
    """A pre-norm Transformer layer."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_feed_forward = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.feed_forward = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x_BNF: Tensor, allowed_B11N: Tensor | None) -> Tensor:
        qkv = self.qkv(self.norm_attention(x_BNF)).unflatten(-1, (3, self.heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=allowed_B11N)
        x_BNF = x_BNF + self.out(mixed.transpose(1, 2).flatten(2))
        return x_BNF + self.feed_forward(self.norm_feed_forward(x_BNF))


class Tabasco(Baseline):
    """Noisy positions and elements to clean ones."""

    def __init__(self, width: int = 256, heads: int = 8, layers: int = 16) -> None:
        super().__init__()
        self.width = width
        self.positions = nn.Linear(3, width, bias=False)
        self.types = nn.Embedding(ELEMENTS, width)
        self.blocks = nn.ModuleList(TabascoLayer(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        options = {"dropout": 0.0, "activation": "gelu", "batch_first": True, "norm_first": True}
        self.cross_positions = nn.TransformerDecoderLayer(width, heads, 4 * width, **options)
        self.cross_types = nn.TransformerDecoderLayer(width, heads, 4 * width, **options)
        self.out_positions = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 3, bias=False))
        self.out_types = mlp(width, width, ELEMENTS)

    def forward(self, positions: Tensor, types: Tensor, time: Tensor, mask: Tensor | None = None) -> dict[str, Tensor]:
        """Positions (B, N, 3), types (B, N) of heavy atoms, time (B,) to positions and type logits (B, N, 9)."""
        index = torch.arange(positions.shape[1], device=positions.device, dtype=positions.dtype)
        x = self.positions(positions) + self.types(types) + sinusoid(index, self.width)
        start = masked(x + sinusoid(200 * time, self.width)[:, None], mask)
        allowed = None if mask is None else mask[:, None, None]
        x = start
        for block in self.blocks:
            x = block(x, allowed)
        x = masked(self.norm(x), mask)
        padding = None if mask is None else ~mask
        masks = {"tgt_key_padding_mask": padding, "memory_key_padding_mask": padding}
        return {
            "positions": masked(self.out_positions(self.cross_positions(x, start, **masks)), mask),
            "types": masked(self.out_types(self.cross_types(x, start, **masks)), mask),
        }

    def inputs(self, sizes: Tensor, seed: int = 0) -> dict[str, Tensor | None]:
        draw, mask = Draw(seed, self.place), mask_of(sizes, self.place["device"])
        systems, atoms = len(sizes), int(sizes.max())
        return {
            "positions": centred(draw.normal(systems, atoms, 3), mask),
            "types": draw.integers(0, ELEMENTS, systems, atoms),
            "time": draw.uniform(systems),
            "mask": mask,
        }
