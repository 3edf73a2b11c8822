"""The packed operations in plain torch: any device, any floating type, differentiable. The kernels are tested by them.

Shape suffixes: T tokens, S systems, L longest system, R rows of modulation, D width, H heads, K head size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from adit.ops.packing import Packing


def token_rows(of_RD: Tensor, packing: Packing, rows_S: Tensor | None) -> Tensor:
    """The row of modulation that each token takes: (T, D)."""
    row_T = packing.system.long() if rows_S is None else rows_S.long()[packing.system.long()]
    return of_RD[row_T]


def adaln(
    x_TD: Tensor, scale_RD: Tensor, shift_RD: Tensor, packing: Packing, rows_S: Tensor | None, dtype: torch.dtype
) -> Tensor:
    """layer_norm(x) (1 + scale) + shift (Peebles & Xie 2023, arXiv 2212.09748), in `dtype`."""
    scale_TD, shift_TD = (token_rows(of, packing, rows_S) for of in (scale_RD, shift_RD))
    return (F.layer_norm(x_TD, x_TD.shape[-1:]) * (1 + scale_TD) + shift_TD).to(dtype)


def gate_residual(x_TD: Tensor, y_TD: Tensor, gate_RD: Tensor, packing: Packing, rows_S: Tensor | None) -> Tensor:
    """x + gate y, in the type of `x`."""
    return (x_TD + token_rows(gate_RD, packing, rows_S) * y_TD).to(x_TD.dtype)


def gate_adaln(
    x_TD: Tensor, y_TD: Tensor, gate_RD: Tensor, scale_RD: Tensor, shift_RD: Tensor, packing: Packing,
    rows_S: Tensor | None, dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """x + gate y, and the AdaLN of that."""
    x_TD = gate_residual(x_TD, y_TD, gate_RD, packing, rows_S)
    return x_TD, adaln(x_TD, scale_RD, shift_RD, packing, rows_S, dtype)


def attention(qkv_T3HK: Tensor, packing: Packing, qk_norm: bool) -> Tensor:
    """softmax(q k^T / sqrt(K)) v within each system, (T, H, K): gathered to (S, L), masked, and scattered back."""
    tokens, _, heads, size = qkv_T3HK.shape
    if tokens == 0:
        return qkv_T3HK.new_empty(0, heads, size)
    start_S1 = packing.offsets[:-1, None].long()
    place_L = torch.arange(packing.max_length, device=qkv_T3HK.device)
    present_SL = place_L < (packing.offsets[1:, None] - start_S1)
    index_SL = (start_S1 + place_L).clamp(max=tokens - 1)
    q_SHLK, k_SHLK, v_SHLK = qkv_T3HK[index_SL].permute(2, 0, 3, 1, 4)
    if qk_norm:
        # sqrt(K) restores the scale that attention divides by
        q_SHLK = F.normalize(q_SHLK, dim=-1) * math.sqrt(size)
        k_SHLK = F.normalize(k_SHLK, dim=-1) * math.sqrt(size)
    logits = (q_SHLK * size**-0.5) @ k_SHLK.transpose(-1, -2)
    logits = logits.masked_fill(~present_SL[:, None, None, :], torch.finfo(logits.dtype).min)
    wide = torch.promote_types(logits.dtype, torch.float32)
    out_SLHK = (torch.softmax(logits.to(wide), -1).to(v_SHLK.dtype) @ v_SHLK).transpose(1, 2)
    place_T = torch.arange(tokens, device=qkv_T3HK.device) - start_S1[packing.system.long(), 0]
    out_THK: Tensor = out_SLHK[packing.system.long(), place_T]
    return out_THK


def dit_stack(
    x_TD: Tensor, modulation_LR6D: Tensor, weights: Sequence[Sequence[Tensor]], packing: Packing, heads: int,
    qk_norm: bool, rows_S: Tensor | None,
) -> Tensor:  # fmt: skip
    """L AdaLN-zero blocks; modulation is shift, scale, gate of the attention half, then of the feed-forward half."""
    tokens, width = x_TD.shape
    for modulation_R6D, of in zip(modulation_LR6D, weights, strict=True):
        shift_a, scale_a, gate_a, shift_f, scale_f, gate_f = modulation_R6D.unbind(1)
        qkv, qkv_bias, out, out_bias, up, up_bias, down, down_bias = of
        h_TD = adaln(x_TD, scale_a, shift_a, packing, rows_S, qkv.dtype)
        qkv_T3HK = F.linear(h_TD, qkv, qkv_bias).view(tokens, 3, heads, width // heads)
        mixed_TD = attention(qkv_T3HK, packing, qk_norm).reshape(tokens, width)
        y_TD = F.linear(mixed_TD, out, out_bias)
        x_TD, h_TD = gate_adaln(x_TD, y_TD, gate_a, scale_f, shift_f, packing, rows_S, qkv.dtype)
        y_TD = F.linear(F.gelu(F.linear(h_TD, up, up_bias)), down, down_bias)
        x_TD = gate_residual(x_TD, y_TD, gate_f, packing, rows_S)
    return x_TD
