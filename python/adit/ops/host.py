"""The packed operations on a CPU by Rust, forward only: functions and arguments as in `adit_kernels`.

Residual streams are float32, the other values float32 or bfloat16; sums are kept in float32. Matrix products are
torch's.

Shape suffixes: T tokens, S systems, R rows of modulation, L layers, D width, H heads, K head size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from adit import _rust

HEAD_SIZES = (16, 32, 64, 128)


def adaln(
    x_TD: Tensor, scale_RD: Tensor, shift_RD: Tensor, offsets_S1: Tensor, system_T: Tensor, max_length: int,
    rows_S: Tensor | None = None, dtype: torch.dtype | None = None,
) -> Tensor:  # fmt: skip
    """See `adit.ops.adaln.adaln`."""
    out_TD = torch.empty(x_TD.shape, dtype=_held(dtype or x_TD.dtype))
    _update(x_TD.float().contiguous(), offsets_S1, rows_S, scale=scale_RD, shift=shift_RD, out=out_TD)
    return out_TD.to(dtype or x_TD.dtype)


def gate_residual(
    x_TD: Tensor, y_TD: Tensor, gate_RD: Tensor, offsets_S1: Tensor, system_T: Tensor, max_length: int,
    rows_S: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """See `adit.ops.adaln.gate_residual`."""
    out_TD = _copy(x_TD)
    _update(out_TD, offsets_S1, rows_S, y=y_TD.to(_held(y_TD.dtype)), gate=gate_RD)
    return out_TD.to(x_TD.dtype)


def gate_adaln(
    x_TD: Tensor, y_TD: Tensor, gate_RD: Tensor, scale_RD: Tensor, shift_RD: Tensor, offsets_S1: Tensor,
    system_T: Tensor, max_length: int, rows_S: Tensor | None = None, dtype: torch.dtype | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """See `adit.ops.adaln.gate_adaln`."""
    x_out_TD, held_TD = _copy(x_TD), y_TD.to(_held(y_TD.dtype))
    out_TD = torch.empty_like(held_TD, memory_format=torch.contiguous_format)
    modulation = {"gate": gate_RD, "scale": scale_RD, "shift": shift_RD}
    _update(x_out_TD, offsets_S1, rows_S, y=held_TD, out=out_TD, **modulation)
    return x_out_TD.to(x_TD.dtype), out_TD.to(dtype or y_TD.dtype)


def attention(qkv_T3HK: Tensor, offsets_S1: Tensor, system_T: Tensor, max_length: int, qk_norm: bool = False) -> Tensor:
    """See `adit.ops.attention.packed_attention`."""
    tokens, _, heads, size = qkv_T3HK.shape
    out_TD = qkv_T3HK.new_empty(tokens, heads * size)
    qkv = _array(qkv_T3HK.reshape(tokens, 3 * heads * size).contiguous())
    _rust.attention(qkv, None, _array(out_TD), _array(offsets_S1), heads, qk_norm, torch.get_num_threads())
    return out_TD.view(tokens, heads, size)


def dit_stack(
    x_TD: Tensor, modulation_LR6D: Tensor, weights: Sequence[Sequence[Tensor]], offsets_S1: Tensor, system_T: Tensor,
    max_length: int, heads: int, qk_norm: bool = False, rows_S: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """See `adit.ops.block.dit_stack`. Biases are added by what follows the product, which reads it anyway."""
    tokens, width = x_TD.shape
    threads, offsets, out_TD = torch.get_num_threads(), _array(offsets_S1), _copy(x_TD)
    if not weights or tokens == 0:
        return out_TD.to(x_TD.dtype)
    widths, dtype = (width, width, 3 * width, len(weights[0][4])), weights[0][0].dtype
    h_TD, y_TD, qkv_T3D, up_T4D = (torch.empty(tokens, each, dtype=dtype) for each in widths)
    layers = [[part.contiguous() for part in layer.unbind(1)] for layer in modulation_LR6D.float()]
    shift_RD, scale_RD, *_ = layers[0]
    _update(out_TD, offsets_S1, rows_S, scale=scale_RD, shift=shift_RD, out=h_TD)
    for layer, of in enumerate(weights):
        _, _, gate_a, shift_f, scale_f, gate_f = layers[layer]
        qkv, qkv_bias, out, out_bias, up, up_bias, down, down_bias = of
        torch.mm(h_TD, qkv.t(), out=qkv_T3D)
        _rust.attention(_array(qkv_T3D), _array(qkv_bias), _array(h_TD), offsets, heads, qk_norm, threads)
        torch.mm(h_TD, out.t(), out=y_TD)
        _update(out_TD, offsets_S1, rows_S, y=y_TD, bias=out_bias, gate=gate_a, scale=scale_f, shift=shift_f, out=h_TD)
        torch.mm(h_TD, up.t(), out=up_T4D)
        _rust.gelu(_array(up_T4D), _array(up_bias), threads)
        torch.mm(up_T4D, down.t(), out=y_TD)
        after = {}
        if layer + 1 < len(weights):
            shift_RD, scale_RD, *_ = layers[layer + 1]
            after = {"scale": scale_RD, "shift": shift_RD, "out": h_TD}
        _update(out_TD, offsets_S1, rows_S, y=y_TD, bias=down_bias, gate=gate_f, **after)
    return out_TD.to(x_TD.dtype)


def _update(x_TD: Tensor, offsets_S1: Tensor, rows_S: Tensor | None, **parts: Tensor) -> None:
    """`_rust.gate_adaln`, in place; y, bias and out are of one type, rows of modulation float32."""
    if rows_S is None:
        rows_S = torch.arange(len(offsets_S1) - 1, dtype=torch.int32)
    arrays = {
        name: _array(part.float().contiguous() if name in ("gate", "scale", "shift") else part.contiguous())
        for name, part in parts.items()
    }
    _rust.gate_adaln(_array(x_TD), _array(offsets_S1), _array(rows_S), threads=torch.get_num_threads(), **arrays)


def _array(tensor: Tensor) -> Any:
    """The same memory; bfloat16 as int16."""
    tensor = tensor.detach()
    return (tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor).numpy()


def _copy(x_TD: Tensor) -> Tensor:
    """In float32, to be written to."""
    return x_TD.to(torch.float32, copy=True, memory_format=torch.contiguous_format)


def _held(dtype: torch.dtype) -> torch.dtype:
    """As what Rust takes values of a type."""
    return dtype if dtype == torch.bfloat16 else torch.float32
