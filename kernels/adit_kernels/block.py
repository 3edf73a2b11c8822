"""DiT blocks over packed tokens, at the levels of fusion of `adit_kernels.configs.FUSION_LEVELS`.

The fused forward kernels save their inputs only; their backward passes recompute what they need with the kernels of
`adaln` and `attention` and the library's matrix products.

Shape suffixes: T tokens, S systems, R rows of modulation, D width, H heads, L layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from adit_kernels import fused
from adit_kernels.adaln import (
    adaln,
    adaln_backward_op,
    adaln_op,
    gate_adaln,
    gate_residual,
    gate_residual_backward_op,
)
from adit_kernels.attention import HEAD_SIZES, attention, attention_backward_op, attention_op
from adit_kernels.configs import FUSION_LEVELS, MAX_FUSED_WIDTH, table


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


def _linear_gradient(grad: Tensor, inputs: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of the inputs, the weight and the bias of a linear layer."""
    return grad @ weight, grad.T @ inputs, grad.sum(0)


@torch.library.custom_op("adit_kernels::adaln_linear", mutates_args=())
def adaln_linear_op(
    x: Tensor, scale: Tensor, shift: Tensor, weight: Tensor, bias: Tensor, offsets: Tensor, system: Tensor,
    rows: Tensor | None, max_length: int, gelu: bool,
) -> Tensor:  # fmt: skip
    return fused.adaln_linear(x, scale, shift, weight, bias, system, rows, gelu)


@adaln_linear_op.register_fake
def _(x, scale, shift, weight, bias, offsets, system, rows, max_length, gelu):
    return weight.new_empty(x.shape[0], weight.shape[0])


def _adaln_linear_setup(ctx, inputs, output):
    *tensors, ctx.max_length, ctx.gelu = inputs
    ctx.save_for_backward(*tensors)


def _adaln_linear_gradient(ctx, grad):
    x, scale, shift, weight, bias, offsets, system, rows = ctx.saved_tensors
    h = adaln_op(x, scale, shift, offsets, system, rows, ctx.max_length, weight.dtype)
    if ctx.gelu:
        grad = torch.ops.aten.gelu_backward(grad, F.linear(h, weight, bias))
    grad_h, *grad_linear = _linear_gradient(grad, h, weight)
    grads = adaln_backward_op(grad_h, x, scale, offsets, rows, ctx.max_length)
    return *grads, *grad_linear, None, None, None, None, None


adaln_linear_op.register_autograd(_adaln_linear_gradient, setup_context=_adaln_linear_setup)


@torch.library.custom_op("adit_kernels::linear_gate", mutates_args=())
def linear_gate_op(
    x: Tensor, a: Tensor, weight: Tensor, bias: Tensor, gate: Tensor, offsets: Tensor, system: Tensor,
    rows: Tensor | None, max_length: int,
) -> Tensor:  # fmt: skip
    return fused.linear_gate(x, a, weight, bias, gate, system, rows)


@linear_gate_op.register_fake
def _(x, a, weight, bias, gate, offsets, system, rows, max_length):
    return torch.empty_like(x)


def _linear_gate_setup(ctx, inputs, output):
    _, *tensors, _, rows, ctx.max_length = inputs
    ctx.save_for_backward(*tensors, rows)


def _gated_linear_gradient(grad, a, weight, bias, gate, offsets, rows, max_length):
    """Of (a, weight, bias, gate) in x + gate (a weight^T + bias)."""
    y = F.linear(a, weight, bias)
    grad_y, grad_gate = gate_residual_backward_op(grad.contiguous(), y, gate, offsets, rows, max_length)
    return *_linear_gradient(grad_y, a, weight), grad_gate


def _linear_gate_gradient(ctx, grad):
    a, weight, bias, gate, offsets, rows = ctx.saved_tensors
    grads = _gated_linear_gradient(grad, a, weight, bias, gate, offsets, rows, ctx.max_length)
    return grad, *grads, None, None, None, None


linear_gate_op.register_autograd(_linear_gate_gradient, setup_context=_linear_gate_setup)


@torch.library.custom_op("adit_kernels::adaln_attention", mutates_args=())
def adaln_attention_op(
    x: Tensor, scale: Tensor, shift: Tensor, weight: Tensor, bias: Tensor, offsets: Tensor, system: Tensor,
    rows: Tensor | None, max_length: int, heads: int, qk_norm: bool,
) -> Tensor:  # fmt: skip
    config = table().fused_for(max_length, 2)
    assert config is not None  # `check_fusion` has seen to it
    return fused.adaln_attention(
        x, scale, shift, weight, bias, offsets, system, rows, max_length, heads, qk_norm, config
    )


@adaln_attention_op.register_fake
def _(x, scale, shift, weight, bias, offsets, system, rows, max_length, heads, qk_norm):
    return weight.new_empty(x.shape)


def _attention_setup(ctx, inputs, output):
    *tensors, ctx.max_length, ctx.heads, ctx.qk_norm = inputs
    ctx.save_for_backward(*tensors)


def _attention_inputs(ctx, x, scale, shift, weight, bias, offsets, system, rows):
    """What a fused kernel kept on chip: (h, qkv, out, lse), and out with its heads side by side."""
    h = adaln_op(x, scale, shift, offsets, system, rows, ctx.max_length, weight.dtype)
    qkv = F.linear(h, weight, bias).view(x.shape[0], 3, ctx.heads, x.shape[1] // ctx.heads)
    out, lse = attention_op(qkv, offsets, system, ctx.max_length, ctx.qk_norm)
    return (h, qkv, out, lse), out.view(x.shape)


def _attention_gradient(ctx, grad_out, x, scale, weight, offsets, system, rows, kept):
    """Of (x, scale, shift, weight, bias)."""
    h, qkv, out, lse = kept
    grad_out = grad_out.reshape(out.shape).contiguous()
    grad_qkv = attention_backward_op(grad_out, qkv, out, lse, offsets, system, ctx.max_length, ctx.qk_norm)
    grad_h, *grad_linear = _linear_gradient(grad_qkv.flatten(1), h, weight)
    return *adaln_backward_op(grad_h, x, scale, offsets, rows, ctx.max_length), *grad_linear


def _adaln_attention_gradient(ctx, grad):
    x, scale, shift, weight, bias, offsets, system, rows = ctx.saved_tensors
    kept, _ = _attention_inputs(ctx, x, scale, shift, weight, bias, offsets, system, rows)
    grads = _attention_gradient(ctx, grad, x, scale, weight, offsets, system, rows, kept)
    return *grads, None, None, None, None, None, None


adaln_attention_op.register_autograd(_adaln_attention_gradient, setup_context=_attention_setup)


@torch.library.custom_op("adit_kernels::attention_half", mutates_args=())
def attention_half_op(
    x: Tensor, scale: Tensor, shift: Tensor, gate: Tensor, qkv: Tensor, qkv_bias: Tensor, out: Tensor,
    out_bias: Tensor, offsets: Tensor, system: Tensor, rows: Tensor | None, max_length: int, heads: int,
    qk_norm: bool,
) -> Tensor:  # fmt: skip
    config = table().fused_for(max_length, 3)
    assert config is not None  # `check_fusion` has seen to it
    return fused.attention_half(
        x, scale, shift, gate, qkv, qkv_bias, out, out_bias, offsets, system, rows, max_length, heads, qk_norm, config
    )


@attention_half_op.register_fake
def _(x, scale, shift, gate, qkv, qkv_bias, out, out_bias, offsets, system, rows, max_length, heads, qk_norm):
    return torch.empty_like(x)


def _attention_half_gradient(ctx, grad):
    x, scale, shift, gate, qkv, qkv_bias, out, out_bias, offsets, system, rows = ctx.saved_tensors
    kept, mixed = _attention_inputs(ctx, x, scale, shift, qkv, qkv_bias, offsets, system, rows)
    grad_mixed, *grad_out, grad_gate = _gated_linear_gradient(
        grad, mixed, out, out_bias, gate, offsets, rows, ctx.max_length
    )
    grad_x, grad_scale, grad_shift, *grad_qkv = _attention_gradient(
        ctx, grad_mixed, x, scale, qkv, offsets, system, rows, kept
    )
    grads = (grad + grad_x, grad_scale, grad_shift, grad_gate, *grad_qkv, *grad_out)
    return *grads, None, None, None, None, None, None


attention_half_op.register_autograd(_attention_half_gradient, setup_context=_attention_setup)


@torch.library.custom_op("adit_kernels::feed_forward_half", mutates_args=())
def feed_forward_half_op(
    x: Tensor, scale: Tensor, shift: Tensor, gate: Tensor, up: Tensor, up_bias: Tensor, down: Tensor,
    down_bias: Tensor, offsets: Tensor, system: Tensor, rows: Tensor | None, max_length: int,
) -> Tensor:  # fmt: skip
    return fused.feed_forward_half(x, scale, shift, gate, up, up_bias, down, down_bias, system, rows)


@feed_forward_half_op.register_fake
def _(x, scale, shift, gate, up, up_bias, down, down_bias, offsets, system, rows, max_length):
    return torch.empty_like(x)


def _feed_forward_setup(ctx, inputs, output):
    *tensors, ctx.max_length = inputs
    ctx.save_for_backward(*tensors)


def _feed_forward_gradient(ctx, grad):
    x, scale, shift, gate, up, up_bias, down, down_bias, offsets, system, rows = ctx.saved_tensors
    h = adaln_op(x, scale, shift, offsets, system, rows, ctx.max_length, up.dtype)
    z = F.linear(h, up, up_bias)
    grad_a, *grad_down, grad_gate = _gated_linear_gradient(
        grad, F.gelu(z), down, down_bias, gate, offsets, rows, ctx.max_length
    )
    grad_h, *grad_up = _linear_gradient(torch.ops.aten.gelu_backward(grad_a, z), h, up)
    grad_x, *grad_modulation = adaln_backward_op(grad_h, x, scale, offsets, rows, ctx.max_length)
    return grad + grad_x, *grad_modulation, grad_gate, *grad_up, *grad_down, None, None, None, None


feed_forward_half_op.register_autograd(_feed_forward_gradient, setup_context=_feed_forward_setup)


def check_fusion(fusion: int, width: int, heads: int, max_length: int) -> None:
    """Raises ValueError if a level of fusion does not exist, or not for these sizes; says why."""
    if fusion not in FUSION_LEVELS:
        raise ValueError(f"`fusion` must be one of {sorted(FUSION_LEVELS)}; got {fusion}")
    if heads < 1 or width % heads or width // heads not in HEAD_SIZES:
        raise ValueError(f"`heads` must divide the width {width} into heads of {HEAD_SIZES}; got {heads}")
    if fusion == 0:
        return
    if width % 64 or width > MAX_FUSED_WIDTH or fused.pieces(width) is None:
        raise ValueError(
            f"fusion levels 1 to 3 take widths up to {MAX_FUSED_WIDTH} that are multiples of 64 and sums of two powers"
            f" of two; got {width}: use level 0"
        )
    if fusion >= 2 and table().fused_for(max_length, fusion) is None:
        raise ValueError(f"fusion level {fusion} takes short systems only; got up to {max_length} tokens: use level 1")


def dit_block(
    x_TD: Tensor, modulation_R6D: Tensor, weights: BlockWeights, offsets_S1: Tensor, system_T: Tensor,
    max_length: int, heads: int, qk_norm: bool = False, rows_S: Tensor | None = None, fusion: int | None = None,
) -> Tensor:  # fmt: skip
    """One AdaLN-zero block, (T, D) in the type of `x`: x += gate attention(AdaLN x); x += gate feed_forward(AdaLN x).

    Args:
        x_TD: the residual stream; float32 with bfloat16 weights is fine.
        modulation_R6D: shift, scale and gate of the attention half, then of the feed-forward half.
        weights: of one floating-point type, the one that the matrix products take.
        offsets_S1, system_T, max_length, rows_S: as for `adit_kernels.adaln`.
        heads: of attention, of 32 or 64 each.
        qk_norm: as for `adit_kernels.attention`.
        fusion: a key of `FUSION_LEVELS`; None takes the table's.

    Raises:
        ValueError: if the level of fusion does not take these sizes.
    """
    return dit_stack(
        x_TD, modulation_R6D[None], [weights], offsets_S1, system_T, max_length, heads, qk_norm, rows_S, fusion
    )


def dit_stack(
    x_TD: Tensor, modulation_LR6D: Tensor, weights: Sequence[BlockWeights], offsets_S1: Tensor, system_T: Tensor,
    max_length: int, heads: int, qk_norm: bool = False, rows_S: Tensor | None = None, fusion: int | None = None,
) -> Tensor:  # fmt: skip
    """L blocks in a row; at level 0 a block's last gate and the next block's first AdaLN are one kernel.

    Arguments as for `dit_block`, with the modulation of each layer and a list of L weights.
    """
    level = table().fusion if fusion is None else fusion
    check_fusion(level, x_TD.shape[1], heads, max_length)
    layout = (offsets_S1, system_T, max_length, rows_S)
    if level == 0:
        return _unfused(x_TD.contiguous(), modulation_LR6D, weights, heads, qk_norm, layout)
    x = x_TD.contiguous()
    for modulation, of in zip(modulation_LR6D.unbind(0), weights, strict=True):
        x = _fused(x, modulation.unbind(1), of, heads, qk_norm, layout, level)
    return x


_Layout = tuple[Tensor, Tensor, int, Tensor | None]


def _unfused(
    x: Tensor, modulation: Tensor, weights: Sequence[BlockWeights], heads: int, qk_norm: bool, layout: _Layout
) -> Tensor:
    rows = [m.unbind(1) for m in modulation.unbind(0)]
    (tokens, width), dtype = x.shape, weights[0].qkv.dtype
    h = adaln(x, rows[0][1], rows[0][0], *layout, dtype=dtype)
    for layer, of in enumerate(weights):
        _, _, gate_a, shift_f, scale_f, gate_f = rows[layer]
        qkv = F.linear(h, of.qkv, of.qkv_bias).view(tokens, 3, heads, width // heads)
        mixed = attention(qkv, *layout[:3], qk_norm).view(tokens, width)
        y = F.linear(mixed, of.out, of.out_bias)
        x, h = gate_adaln(x, y, gate_a, scale_f, shift_f, *layout, dtype=dtype)
        y = F.linear(F.gelu(F.linear(h, of.up, of.up_bias)), of.down, of.down_bias)
        if layer + 1 == len(weights):
            return gate_residual(x, y, gate_f, *layout)
        shift_a, scale_a = rows[layer + 1][:2]
        x, h = gate_adaln(x, y, gate_f, scale_a, shift_a, *layout, dtype=dtype)
    return x


def _fused(
    x: Tensor, modulation: Sequence[Tensor], of: BlockWeights, heads: int, qk_norm: bool, layout: _Layout, level: int
) -> Tensor:
    shift_a, scale_a, gate_a, shift_f, scale_f, gate_f = modulation
    offsets, system, max_length, rows = layout
    where = (offsets, system, rows, max_length)
    if level == 3:
        x = attention_half_op(x, scale_a, shift_a, gate_a, *of[:4], *where, heads, qk_norm)
    else:
        if level == 2:
            mixed = adaln_attention_op(x, scale_a, shift_a, of.qkv, of.qkv_bias, *where, heads, qk_norm)
        else:
            qkv = adaln_linear_op(x, scale_a, shift_a, of.qkv, of.qkv_bias, *where, False)
            split = qkv.view(x.shape[0], 3, heads, x.shape[1] // heads)
            mixed = attention(split, offsets, system, max_length, qk_norm).view(x.shape)
        x = linear_gate_op(x, mixed, of.out, of.out_bias, gate_a, *where)
    if level >= 2:
        return feed_forward_half_op(x, scale_f, shift_f, gate_f, *of[4:], *where)
    up = adaln_linear_op(x, scale_f, shift_f, of.up, of.up_bias, *where, True)
    return linear_gate_op(x, up, of.down, of.down_bias, gate_f, *where)
