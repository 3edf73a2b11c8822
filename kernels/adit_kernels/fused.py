"""Matrix products with AdaLN before them, gate and residual after them, or attention between them.

A program keeps its rows on chip from AdaLN on, and streams the weights past them. Rows of width D are held in two
pieces D0 + D1, each a power of two (384 = 256 + 128), so that no arithmetic is spent on padding.

Shape suffixes: T tokens, R rows of modulation, D width, H heads, K head size, N outputs, I inputs.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from adit_kernels.adaln import EPSILON, load_row
from adit_kernels.attention import first_system_token, logit_scales, softmax_base2, unit_rows
from adit_kernels.configs import FusedAttention, Product, table


@triton.jit
def _piece(rows, at, mask, FROM, D: tl.constexpr):
    """Columns FROM to FROM + D of the rows that start at `at`, float32."""
    return tl.load(rows + at[:, None] + (FROM + tl.arange(0, D))[None, :], mask=mask[:, None], other=0.0).to(tl.float32)


@triton.jit
def _statistics(x, at, mask, D0: tl.constexpr, D1: tl.constexpr, EPS: tl.constexpr):
    """Mean and inverse standard deviation of the rows that start at `at`."""
    WIDTH: tl.constexpr = D0 + D1
    v0 = _piece(x, at, mask, 0, D0)
    total = tl.sum(v0, 1)
    if D1 > 0:
        v1 = _piece(x, at, mask, D0, D1)
        total += tl.sum(v1, 1)
    mean = total / WIDTH
    v0 -= mean[:, None]
    squares = tl.sum(v0 * v0, 1)
    if D1 > 0:
        v1 -= mean[:, None]
        squares += tl.sum(v1 * v1, 1)
    return mean, 1.0 / tl.sqrt(squares / WIDTH + EPS)


@triton.jit
def _modulated(
    x, scale, shift, at, row, mask, scale_stride, shift_stride, mean, inverse, dtype: tl.constexpr,
    FROM, D: tl.constexpr,
):  # fmt: skip
    """AdaLN of columns FROM to FROM + D."""
    unit = (_piece(x, at, mask, FROM, D) - mean[:, None]) * inverse[:, None]
    a = 1.0 + _piece(scale, row * scale_stride, mask, FROM, D)
    return (unit * a + _piece(shift, row * shift_stride, mask, FROM, D)).to(dtype)


@triton.jit
def _adaln_pieces(
    x, scale, shift, t, row, mask, scale_stride, shift_stride, dtype: tl.constexpr,
    D0: tl.constexpr, D1: tl.constexpr, EPS: tl.constexpr,
):  # fmt: skip
    """AdaLN of tokens t, in two pieces of the type of the weights; the second is the first if D1 is 0."""
    at = t.to(tl.int64) * (D0 + D1)
    mean, inverse = _statistics(x, at, mask, D0, D1, EPS)
    h0 = _modulated(x, scale, shift, at, row, mask, scale_stride, shift_stride, mean, inverse, dtype, 0, D0)
    if D1 > 0:
        h1 = _modulated(x, scale, shift, at, row, mask, scale_stride, shift_stride, mean, inverse, dtype, D0, D1)
    else:
        h1 = h0
    return h0, h1


@triton.jit
def _project(h0, h1, weight, bias, n, D0: tl.constexpr, D1: tl.constexpr):
    """(tokens, D) by rows n of a weight (N, D), and their bias: (tokens, n) float32."""
    at = weight + n[None, :] * (D0 + D1)
    out = tl.dot(h0, tl.load(at + tl.arange(0, D0)[:, None]), input_precision="tf32x3")
    if D1 > 0:
        out = tl.dot(h1, tl.load(at + (D0 + tl.arange(0, D1))[:, None]), out, input_precision="tf32x3")
    return out + tl.load(bias + n)[None, :].to(tl.float32)


@triton.jit
def _spread(o0, o1, part, weight, i, inputs, D0: tl.constexpr, D1: tl.constexpr):
    """Adds to (tokens, D), in two pieces, part (tokens, i) by columns i of a weight (D, inputs)."""
    at = weight + i[:, None]
    o0 = tl.dot(part, tl.load(at + tl.arange(0, D0)[None, :] * inputs), o0, input_precision="tf32x3")
    if D1 > 0:
        o1 = tl.dot(part, tl.load(at + (D0 + tl.arange(0, D1))[None, :] * inputs), o1, input_precision="tf32x3")
    return o0, o1


@triton.jit
def _gated_store(out, x, y, bias, gate, t, row, mask, gate_stride, width, d):
    """out = x + gate (y + bias) at columns d; y is rounded to the type of the weights, as if it had been stored."""
    at = t.to(tl.int64)[:, None] * width + d[None, :]
    y = (y + tl.load(bias + d)[None, :].to(tl.float32)).to(bias.dtype.element_ty).to(tl.float32)
    g = tl.load(gate + row[:, None] * gate_stride + d[None, :], mask=mask[:, None], other=0.0).to(tl.float32)
    v = tl.load(x + at, mask=mask[:, None], other=0.0).to(tl.float32) + g * y
    tl.store(out + at, v.to(out.dtype.element_ty), mask=mask[:, None])


@triton.jit
def _gelu(x):
    return 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))


@triton.jit
def _attend(
    x, scale, shift, weight, bias, t, row, mask, of, mean, inverse, head, scale_stride, shift_stride, logit_scale,
    HEADS: tl.constexpr, K: tl.constexpr, QK_NORM: tl.constexpr, WIDTH: tl.constexpr, INNER: tl.constexpr,
):  # fmt: skip
    """One head of attention among tokens t of systems `of`, from the residual stream: (tokens, K) float32.

    AdaLN is applied to INNER columns at a time, for every head anew: rows held in registers throughout would spill.
    """
    dtype: tl.constexpr = weight.dtype.element_ty
    at = t.to(tl.int64) * WIDTH
    n = head * K + tl.arange(0, K)
    q = tl.zeros((of.shape[0], K), tl.float32) + tl.load(bias + n)[None, :].to(tl.float32)
    k = tl.zeros((of.shape[0], K), tl.float32) + tl.load(bias + WIDTH + n)[None, :].to(tl.float32)
    v = tl.zeros((of.shape[0], K), tl.float32) + tl.load(bias + 2 * WIDTH + n)[None, :].to(tl.float32)
    for first in range(0, WIDTH, INNER):
        h = _modulated(
            x, scale, shift, at, row, mask, scale_stride, shift_stride, mean, inverse, dtype, first, INNER
        )  # fmt: skip
        w = weight + n[None, :] * WIDTH + first + tl.arange(0, INNER)[:, None]
        q = tl.dot(h, tl.load(w), q, input_precision="tf32x3")
        k = tl.dot(h, tl.load(w + WIDTH * WIDTH), k, input_precision="tf32x3")
        v = tl.dot(h, tl.load(w + 2 * WIDTH * WIDTH), v, input_precision="tf32x3")
    unit_q, _ = unit_rows(q.to(dtype), QK_NORM)
    unit_k, _ = unit_rows(k.to(dtype), QK_NORM)
    logits = tl.dot(unit_q, tl.trans(unit_k), input_precision="tf32x3") * logit_scale
    p, _ = softmax_base2(logits, of[:, None] == of[None, :])
    return tl.dot(p.to(dtype), v.to(dtype), input_precision="tf32x3")


@triton.jit(do_not_specialize=["tokens"])
def _adaln_linear(
    x, scale, shift, weight, bias, out, system, rows, tokens, outputs, scale_stride, shift_stride,
    GELU: tl.constexpr, HAS_ROWS: tl.constexpr, EPS: tl.constexpr, D0: tl.constexpr, D1: tl.constexpr,
    TOKENS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    t = tl.program_id(0) * TOKENS + tl.arange(0, TOKENS)
    mask = t < tokens
    row = load_row(system, rows, t, mask, HAS_ROWS)
    dtype: tl.constexpr = weight.dtype.element_ty
    h0, h1 = _adaln_pieces(x, scale, shift, t, row, mask, scale_stride, shift_stride, dtype, D0, D1, EPS)
    for first in range(0, outputs, COLUMNS):
        n = first + tl.arange(0, COLUMNS)
        y = _project(h0, h1, weight, bias, n, D0, D1)
        if GELU:
            y = _gelu(y.to(dtype).to(tl.float32))
        tl.store(out + t.to(tl.int64)[:, None] * outputs + n[None, :], y.to(dtype), mask=mask[:, None])


@triton.jit(do_not_specialize=["tokens"])
def _linear_gate(
    x, a, weight, bias, gate, out, system, rows, tokens, width, inputs, gate_stride,
    HAS_ROWS: tl.constexpr, TOKENS: tl.constexpr, COLUMNS: tl.constexpr, INNER: tl.constexpr,
):  # fmt: skip
    tiles = width // COLUMNS
    t = (tl.program_id(0) // tiles) * TOKENS + tl.arange(0, TOKENS)
    d = (tl.program_id(0) % tiles) * COLUMNS + tl.arange(0, COLUMNS)
    mask = t < tokens
    y = tl.zeros((TOKENS, COLUMNS), tl.float32)
    for first in range(0, inputs, INNER):
        i = first + tl.arange(0, INNER)
        left = tl.load(a + t.to(tl.int64)[:, None] * inputs + i[None, :], mask=mask[:, None], other=0.0)
        y = tl.dot(left, tl.load(weight + d[None, :] * inputs + i[:, None]), y, input_precision="tf32x3")
    row = load_row(system, rows, t, mask, HAS_ROWS)
    _gated_store(out, x, y, bias, gate, t, row, mask, gate_stride, width, d)


@triton.jit(do_not_specialize=["tokens", "step"])
def _adaln_attention(
    x, scale, shift, weight, bias, out, offsets, system, rows, tokens, scale_stride, shift_stride, logit_scale,
    HEADS: tl.constexpr, K: tl.constexpr, QK_NORM: tl.constexpr, HAS_ROWS: tl.constexpr, EPS: tl.constexpr,
    D0: tl.constexpr, D1: tl.constexpr, BLOCK: tl.constexpr, step, INNER: tl.constexpr,
):  # fmt: skip
    tile, head = tl.program_id(0) // HEADS, tl.program_id(0) % HEADS
    begin = first_system_token(offsets, system, tokens, tile * step)
    end = first_system_token(offsets, system, tokens, tile * step + step)
    if begin < end:
        t = begin + tl.arange(0, BLOCK)
        mask = t < end
        of = tl.load(system + t, mask=mask, other=-1)
        row = load_row(system, rows, t, mask, HAS_ROWS)
        mean, inverse = _statistics(x, t.to(tl.int64) * (D0 + D1), mask, D0, D1, EPS)
        o = _attend(
            x, scale, shift, weight, bias, t, row, mask, of, mean, inverse, head, scale_stride, shift_stride,
            logit_scale, HEADS, K, QK_NORM, D0 + D1, INNER,
        )  # fmt: skip
        at = t.to(tl.int64)[:, None] * (HEADS * K) + head * K + tl.arange(0, K)[None, :]
        tl.store(out + at, o.to(out.dtype.element_ty), mask=mask[:, None])


@triton.jit(do_not_specialize=["tokens", "step"])
def _attention_half(
    x, scale, shift, gate, qkv_weight, qkv_bias, out_weight, out_bias, out, offsets, system, rows, tokens,
    scale_stride, shift_stride, gate_stride, logit_scale,
    HEADS: tl.constexpr, K: tl.constexpr, QK_NORM: tl.constexpr, HAS_ROWS: tl.constexpr, EPS: tl.constexpr,
    D0: tl.constexpr, D1: tl.constexpr, E1: tl.constexpr, BLOCK: tl.constexpr, step,
    INNER: tl.constexpr,
):  # fmt: skip
    """E1 is D1, or 16 where that is 0: the second accumulator then idles."""
    tile = tl.program_id(0)
    begin = first_system_token(offsets, system, tokens, tile * step)
    end = first_system_token(offsets, system, tokens, tile * step + step)
    if begin < end:
        t = begin + tl.arange(0, BLOCK)
        mask = t < end
        of = tl.load(system + t, mask=mask, other=-1)
        row = load_row(system, rows, t, mask, HAS_ROWS)
        mean, inverse = _statistics(x, t.to(tl.int64) * (D0 + D1), mask, D0, D1, EPS)
        o0 = tl.zeros((BLOCK, D0), tl.float32)
        o1 = tl.zeros((BLOCK, E1), tl.float32)
        for head in range(HEADS):
            o = _attend(
                x, scale, shift, qkv_weight, qkv_bias, t, row, mask, of, mean, inverse, head, scale_stride,
                shift_stride, logit_scale, HEADS, K, QK_NORM, D0 + D1, INNER,
            )  # fmt: skip
            i = head * K + tl.arange(0, K)
            o0, o1 = _spread(o0, o1, o.to(out_weight.dtype.element_ty), out_weight, i, D0 + D1, D0, D1)
        d = tl.arange(0, D0)
        _gated_store(out, x, o0, out_bias, gate, t, row, mask, gate_stride, D0 + D1, d)
        if D1 > 0:
            d1 = D0 + tl.arange(0, D1)
            _gated_store(out, x, o1, out_bias, gate, t, row, mask, gate_stride, D0 + D1, d1)


@triton.jit(do_not_specialize=["tokens"])
def _feed_forward_half(
    x, scale, shift, gate, up_weight, up_bias, down_weight, down_bias, out, system, rows, tokens, hidden,
    scale_stride, shift_stride, gate_stride, HAS_ROWS: tl.constexpr, EPS: tl.constexpr,
    D0: tl.constexpr, D1: tl.constexpr, E1: tl.constexpr, TOKENS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    t = tl.program_id(0) * TOKENS + tl.arange(0, TOKENS)
    mask = t < tokens
    row = load_row(system, rows, t, mask, HAS_ROWS)
    dtype: tl.constexpr = up_weight.dtype.element_ty
    h0, h1 = _adaln_pieces(x, scale, shift, t, row, mask, scale_stride, shift_stride, dtype, D0, D1, EPS)
    o0 = tl.zeros((TOKENS, D0), tl.float32)
    o1 = tl.zeros((TOKENS, E1), tl.float32)
    for first in range(0, hidden, COLUMNS):
        n = first + tl.arange(0, COLUMNS)
        u = _project(h0, h1, up_weight, up_bias, n, D0, D1)
        o0, o1 = _spread(o0, o1, _gelu(u.to(dtype).to(tl.float32)).to(dtype), down_weight, n, hidden, D0, D1)
    d = tl.arange(0, D0)
    _gated_store(out, x, o0, down_bias, gate, t, row, mask, gate_stride, D0 + D1, d)
    if D1 > 0:
        d1 = D0 + tl.arange(0, D1)
        _gated_store(out, x, o1, down_bias, gate, t, row, mask, gate_stride, D0 + D1, d1)


def pieces(width: int) -> tuple[int, int] | None:
    """A width as a sum of two powers of two, the second possibly 0; None if it is not one."""
    first = 1 << (width.bit_length() - 1)
    second = width - first
    return (first, second) if second & (second - 1) == 0 and second not in (1, 2, 4, 8) else None


def _check_steps(config: Product, columns: int, inner: int) -> None:
    """The loops of these kernels have no remainders."""
    if columns % config.columns or inner % config.inner:
        raise ValueError(f"{config} does not divide a product of {columns} columns over {inner}")


def adaln_linear(
    x: Tensor, scale: Tensor, shift: Tensor, weight: Tensor, bias: Tensor, system: Tensor, rows: Tensor | None,
    gelu: bool,
) -> Tensor:  # fmt: skip
    tokens, width = x.shape
    outputs, config = weight.shape[0], table().adaln_linear
    _check_steps(config, outputs, config.inner)
    out = weight.new_empty(tokens, outputs)
    d0, d1 = pieces(width)  # type: ignore[misc]
    if tokens > 0:
        _adaln_linear[(triton.cdiv(tokens, config.tokens),)](
            x, scale, shift, weight, bias, out, system, rows, tokens, outputs, scale.stride(0), shift.stride(0),
            GELU=gelu, HAS_ROWS=rows is not None, EPS=EPSILON, D0=d0, D1=d1, TOKENS=config.tokens,
            COLUMNS=config.columns, num_warps=config.warps, num_stages=config.stages,
        )  # fmt: skip
    return out


def linear_gate(
    x: Tensor, a: Tensor, weight: Tensor, bias: Tensor, gate: Tensor, system: Tensor, rows: Tensor | None
) -> Tensor:
    tokens, width = x.shape
    inputs, config = weight.shape[1], table().linear_gate
    _check_steps(config, width, inputs)
    out = torch.empty_like(x)
    if tokens > 0:
        _linear_gate[(triton.cdiv(tokens, config.tokens) * (width // config.columns),)](
            x, a, weight, bias, gate, out, system, rows, tokens, width, inputs, gate.stride(0),
            HAS_ROWS=rows is not None, TOKENS=config.tokens, COLUMNS=config.columns, INNER=config.inner,
            num_warps=config.warps, num_stages=config.stages,
        )  # fmt: skip
    return out


def adaln_attention(
    x: Tensor, scale: Tensor, shift: Tensor, weight: Tensor, bias: Tensor, offsets: Tensor, system: Tensor,
    rows: Tensor | None, max_length: int, heads: int, qk_norm: bool, config: FusedAttention,
) -> Tensor:  # fmt: skip
    tokens, width = x.shape
    out = weight.new_empty(tokens, width)
    d0, d1 = pieces(width)  # type: ignore[misc]
    step = config.step(max_length)
    if tokens > 0:
        _adaln_attention[(triton.cdiv(tokens, step) * heads,)](
            x, scale, shift, weight, bias, out, offsets, system, rows, tokens, scale.stride(0), shift.stride(0),
            logit_scales(width // heads, qk_norm)[0], HEADS=heads, K=width // heads, QK_NORM=qk_norm,
            HAS_ROWS=rows is not None, EPS=EPSILON, D0=d0, D1=d1, BLOCK=config.block, step=step, INNER=config.inner,
            num_warps=config.warps, num_stages=config.stages,
        )  # fmt: skip
    return out


def attention_half(
    x: Tensor, scale: Tensor, shift: Tensor, gate: Tensor, qkv_weight: Tensor, qkv_bias: Tensor, out_weight: Tensor,
    out_bias: Tensor, offsets: Tensor, system: Tensor, rows: Tensor | None, max_length: int, heads: int,
    qk_norm: bool, config: FusedAttention,
) -> Tensor:  # fmt: skip
    tokens, width = x.shape
    out = torch.empty_like(x)
    d0, d1 = pieces(width)  # type: ignore[misc]
    step = config.step(max_length)
    if tokens > 0:
        _attention_half[(triton.cdiv(tokens, step),)](
            x, scale, shift, gate, qkv_weight, qkv_bias, out_weight, out_bias, out, offsets, system, rows, tokens,
            scale.stride(0), shift.stride(0), gate.stride(0), logit_scales(width // heads, qk_norm)[0], HEADS=heads,
            K=width // heads, QK_NORM=qk_norm, HAS_ROWS=rows is not None, EPS=EPSILON, D0=d0, D1=d1,
            E1=max(d1, 16), BLOCK=config.block, step=step, INNER=config.inner, num_warps=config.warps,
            num_stages=config.stages,
        )  # fmt: skip
    return out


def feed_forward_half(
    x: Tensor, scale: Tensor, shift: Tensor, gate: Tensor, up_weight: Tensor, up_bias: Tensor, down_weight: Tensor,
    down_bias: Tensor, system: Tensor, rows: Tensor | None,
) -> Tensor:  # fmt: skip
    tokens, width = x.shape
    config, out = table().feed_forward, torch.empty_like(x)
    _check_steps(config, up_weight.shape[0], config.inner)
    d0, d1 = pieces(width)  # type: ignore[misc]
    if tokens > 0:
        _feed_forward_half[(triton.cdiv(tokens, config.tokens),)](
            x, scale, shift, gate, up_weight, up_bias, down_weight, down_bias, out, system, rows, tokens,
            up_weight.shape[0], scale.stride(0), shift.stride(0), gate.stride(0), HAS_ROWS=rows is not None,
            EPS=EPSILON, D0=d0, D1=d1, E1=max(d1, 16), TOKENS=config.tokens, COLUMNS=config.columns,
            num_warps=config.warps, num_stages=config.stages,
        )  # fmt: skip
    return out
