"""DiT blocks over packed tokens: library matrix products; AdaLN, gates and attention as kernels.

Shape suffixes: T tokens, S systems, R rows of modulation, D width, L layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from adit_kernels.adaln import adaln, gate_adaln, gate_residual
from adit_kernels.attention import HEAD_SIZES, attention


class BlockWeights(NamedTuple):
    """The weights of one block, each (outputs, inputs) as in `torch.nn.Linear`, and their biases; all of one type."""

    qkv: Tensor
    qkv_bias: Tensor
    out: Tensor
    out_bias: Tensor
    up: Tensor
    up_bias: Tensor
    down: Tensor
    down_bias: Tensor


def dit_block(
    x_TD: Tensor, modulation_R6D: Tensor, weights: BlockWeights, offsets_S1: Tensor, system_T: Tensor,
    max_length: int, heads: int, qk_norm: bool = False, rows_S: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """One AdaLN-zero block, (T, D) in the type of `x`: x += gate attention(AdaLN x); x += gate feed_forward(AdaLN x).

    Args:
        x_TD: the residual stream; float32 with bfloat16 weights is fine.
        modulation_R6D: shift, scale and gate of the attention half, then of the feed-forward half.
        weights: of one floating-point type, the one that the matrix products take.
        offsets_S1, system_T, max_length, rows_S: as for `adit_kernels.adaln`.
        heads: of attention, of 32 or 64 each.
        qk_norm: as for `adit_kernels.attention`.

    Raises:
        ValueError: if `heads` does not divide the width into heads of 32 or 64.
    """
    return dit_stack(x_TD, modulation_R6D[None], [weights], offsets_S1, system_T, max_length, heads, qk_norm, rows_S)


def dit_stack(
    x_TD: Tensor, modulation_LR6D: Tensor, weights: Sequence[BlockWeights], offsets_S1: Tensor, system_T: Tensor,
    max_length: int, heads: int, qk_norm: bool = False, rows_S: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """L blocks in a row; a block's last gate and the next block's first AdaLN are one kernel.

    Arguments as for `dit_block`, with the modulation of each layer and a list of L weights.
    """
    tokens, width = x_TD.shape
    if heads < 1 or width % heads or width // heads not in HEAD_SIZES:
        raise ValueError(f"`heads` must divide the width {width} into heads of {HEAD_SIZES}; got {heads}")
    layout, dtype = (offsets_S1, system_T, max_length, rows_S), weights[0].qkv.dtype
    rows = [modulation.unbind(1) for modulation in modulation_LR6D.unbind(0)]
    x = x_TD.contiguous()
    h = adaln(x, rows[0][1], rows[0][0], *layout, dtype=dtype)
    for layer, of in enumerate(weights):
        _, _, gate_a, shift_f, scale_f, gate_f = rows[layer]
        qkv = F.linear(h, of.qkv, of.qkv_bias).view(tokens, 3, heads, width // heads)
        mixed = attention(qkv, *layout[:3], qk_norm).view(tokens, width)
        y = F.linear(mixed, of.out, of.out_bias)
        x, h = gate_adaln(x, y, gate_a, scale_f, shift_f, *layout, dtype=dtype)
        y = F.linear(F.gelu(F.linear(h, of.up, of.up_bias)), of.down, of.down_bias)
        if layer + 1 < len(weights):
            shift_a, scale_a = rows[layer + 1][:2]
            x, h = gate_adaln(x, y, gate_f, scale_a, shift_a, *layout, dtype=dtype)
    return gate_residual(x, y, gate_f, *layout)
