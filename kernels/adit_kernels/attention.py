"""Softmax attention among the tokens of each system, over packed tokens.

Short systems: a program holds several whole systems of one head and never loops. Which ones follows from the offsets
alone: tile i owns the systems that start at tokens [i step, (i + 1) step), and step + max_length - 1 <= BLOCK, so that
they fit. No schedule is built on the host, and padding costs arithmetic but no memory traffic.
Long systems: tiles of queries against the keys of their systems with a running softmax (Dao 2023, arXiv 2307.08691).

Shape suffixes: T tokens, S systems, H heads, K head size.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from adit_kernels.configs import table
from adit_kernels.operators import direct

HEAD_SIZES = (32, 64)
_LOG2E = math.log2(math.e)


@triton.jit
def first_system_token(offsets, system, tokens, at):
    """The first token of the first system that starts at or after token `at`; `tokens` if there is none."""
    inside = at < tokens
    s = tl.load(system + at, mask=inside, other=0)
    start = tl.load(offsets + s, mask=inside, other=0)
    end = tl.load(offsets + s + 1, mask=inside, other=0)
    return tl.where(inside, tl.where(start == at, at, end), tokens)


@triton.jit
def unit_rows(x, QK_NORM: tl.constexpr):
    """Rows over their Euclidean length, rounded as they were, and the inverse length; or rows as they are and 1."""
    exact = x.to(tl.float32)
    inverse = tl.full((x.shape[0], 1), 1.0, tl.float32)
    if QK_NORM:
        inverse = (1.0 / tl.maximum(tl.sqrt(tl.sum(exact * exact, 1)), 1e-12))[:, None]
    return (exact * inverse).to(x.dtype), inverse


@triton.jit
def _unit_rows_gradient(grad, unit, inverse, QK_NORM: tl.constexpr):
    """The gradient of what `unit_rows` took, from that of what it gave."""
    if QK_NORM:
        exact = unit.to(tl.float32)
        grad = inverse * (grad - exact * tl.sum(grad * exact, 1)[:, None])
    return grad


@triton.jit
def softmax_base2(logits, mask):
    """Rows of 2^logits over their sum, and the base-2 logarithm of that sum; rows without keys give zeros."""
    logits = tl.where(mask, logits, -1e30)
    top = tl.max(logits, 1)
    p = tl.where(mask, tl.exp2(logits - top[:, None]), 0.0)
    total = tl.maximum(tl.sum(p, 1), 1e-30)
    return p / total[:, None], top + tl.log2(total)


@triton.jit
def _load_head(qkv, t, mask, part, head, HEADS: tl.constexpr, K: tl.constexpr):
    at = ((t.to(tl.int64) * 3 + part) * HEADS + head)[:, None] * K + tl.arange(0, K)[None, :]
    return tl.load(qkv + at, mask=mask[:, None], other=0.0)


@triton.jit
def _store_head(qkv, value, t, mask, part, head, HEADS: tl.constexpr, K: tl.constexpr):
    at = ((t.to(tl.int64) * 3 + part) * HEADS + head)[:, None] * K + tl.arange(0, K)[None, :]
    tl.store(qkv + at, value.to(qkv.dtype.element_ty), mask=mask[:, None])


@triton.jit(do_not_specialize=["tokens", "step"])
def _short_forward(
    qkv, out, lse, offsets, system, tokens, scale,
    HEADS: tl.constexpr, K: tl.constexpr, QK_NORM: tl.constexpr, BLOCK: tl.constexpr, step,
):  # fmt: skip
    tile, head = tl.program_id(0) // HEADS, tl.program_id(0) % HEADS
    begin = first_system_token(offsets, system, tokens, tile * step)
    end = first_system_token(offsets, system, tokens, tile * step + step)
    if begin < end:
        t = begin + tl.arange(0, BLOCK)
        mask = t < end
        of = tl.load(system + t, mask=mask, other=-1)
        q, _ = unit_rows(_load_head(qkv, t, mask, 0, head, HEADS, K), QK_NORM)
        k, _ = unit_rows(_load_head(qkv, t, mask, 1, head, HEADS, K), QK_NORM)
        v = _load_head(qkv, t, mask, 2, head, HEADS, K)
        logits = tl.dot(q, tl.trans(k), input_precision="tf32x3") * scale
        p, norm = softmax_base2(logits, of[:, None] == of[None, :])
        o = tl.dot(p.to(v.dtype), v, input_precision="tf32x3")
        at = (t.to(tl.int64) * HEADS + head)[:, None] * K + tl.arange(0, K)[None, :]
        tl.store(out + at, o.to(out.dtype.element_ty), mask=mask[:, None])
        tl.store(lse + head.to(tl.int64) * tokens + t, norm, mask=mask)


@triton.jit(do_not_specialize=["tokens", "step"])
def _short_backward(
    grad_out, qkv, lse, grad_qkv, offsets, system, tokens, scale, grad_scale,
    HEADS: tl.constexpr, K: tl.constexpr, QK_NORM: tl.constexpr, BLOCK: tl.constexpr, step,
):  # fmt: skip
    tile, head = tl.program_id(0) // HEADS, tl.program_id(0) % HEADS
    begin = first_system_token(offsets, system, tokens, tile * step)
    end = first_system_token(offsets, system, tokens, tile * step + step)
    if begin < end:
        t = begin + tl.arange(0, BLOCK)
        mask = t < end
        of = tl.load(system + t, mask=mask, other=-1)
        q, q_inverse = unit_rows(_load_head(qkv, t, mask, 0, head, HEADS, K), QK_NORM)
        k, k_inverse = unit_rows(_load_head(qkv, t, mask, 1, head, HEADS, K), QK_NORM)
        v = _load_head(qkv, t, mask, 2, head, HEADS, K)
        at = (t.to(tl.int64) * HEADS + head)[:, None] * K + tl.arange(0, K)[None, :]
        do = tl.load(grad_out + at, mask=mask[:, None], other=0.0)
        norm = tl.load(lse + head.to(tl.int64) * tokens + t, mask=mask, other=0.0)
        logits = tl.dot(q, tl.trans(k), input_precision="tf32x3") * scale
        p = tl.where(of[:, None] == of[None, :], tl.exp2(logits - norm[:, None]), 0.0)
        dv = tl.dot(tl.trans(p.to(do.dtype)), do, input_precision="tf32x3")
        _store_head(grad_qkv, dv, t, mask, 2, head, HEADS, K)
        if BLOCK > 64:  # read again rather than held: on sm_80 there are no registers left
            do = tl.load(grad_out + at, mask=mask[:, None], other=0.0)
            v = _load_head(qkv, t, mask, 2, head, HEADS, K)
        dp = tl.dot(do, tl.trans(v), input_precision="tf32x3")
        ds = (p * (dp - tl.sum(p * dp, 1)[:, None]) * grad_scale).to(q.dtype)
        dq = tl.dot(ds, k, input_precision="tf32x3")
        _store_head(grad_qkv, _unit_rows_gradient(dq, q, q_inverse, QK_NORM), t, mask, 0, head, HEADS, K)
        dk = tl.dot(tl.trans(ds), q, input_precision="tf32x3")
        _store_head(grad_qkv, _unit_rows_gradient(dk, k, k_inverse, QK_NORM), t, mask, 1, head, HEADS, K)


@triton.jit
def _reach(offsets, system, first, last):
    """The tokens of all systems that have one among tokens first to last, both included: a half-open range."""
    return tl.load(offsets + tl.load(system + first)), tl.load(offsets + tl.load(system + last) + 1)


@triton.jit(do_not_specialize=["tokens"])
def _long_forward(
    qkv, out, lse, offsets, system, tokens, scale,
    HEADS: tl.constexpr, K: tl.constexpr, QK_NORM: tl.constexpr, QUERIES: tl.constexpr, KEYS: tl.constexpr,
):  # fmt: skip
    tile, head = tl.program_id(0) // HEADS, tl.program_id(0) % HEADS
    t = tile * QUERIES + tl.arange(0, QUERIES)
    mask = t < tokens
    of = tl.load(system + t, mask=mask, other=-1)
    q, _ = unit_rows(_load_head(qkv, t, mask, 0, head, HEADS, K), QK_NORM)
    begin, end = _reach(offsets, system, tile * QUERIES, tl.minimum(tile * QUERIES + QUERIES, tokens) - 1)
    top = tl.full((QUERIES,), -1e30, tl.float32)
    total = tl.zeros((QUERIES,), tl.float32)
    o = tl.zeros((QUERIES, K), tl.float32)
    for start in range(begin, end, KEYS):
        u = start + tl.arange(0, KEYS)
        present = u < end
        k, _ = unit_rows(_load_head(qkv, u, present, 1, head, HEADS, K), QK_NORM)
        v = _load_head(qkv, u, present, 2, head, HEADS, K)
        same = of[:, None] == tl.load(system + u, mask=present, other=-2)[None, :]
        logits = tl.where(same, tl.dot(q, tl.trans(k), input_precision="tf32x3") * scale, -1e30)
        new_top = tl.maximum(top, tl.max(logits, 1))
        p = tl.where(same, tl.exp2(logits - new_top[:, None]), 0.0)
        shrink = tl.exp2(top - new_top)
        total = total * shrink + tl.sum(p, 1)
        o = o * shrink[:, None] + tl.dot(p.to(v.dtype), v, input_precision="tf32x3")
        top = new_top
    total = tl.maximum(total, 1e-30)
    at = (t.to(tl.int64) * HEADS + head)[:, None] * K + tl.arange(0, K)[None, :]
    tl.store(out + at, (o / total[:, None]).to(out.dtype.element_ty), mask=mask[:, None])
    tl.store(lse + head.to(tl.int64) * tokens + t, top + tl.log2(total), mask=mask)


@triton.jit(do_not_specialize=["tokens"])
def _long_backward_queries(
    grad_out, qkv, out, lse, delta, grad_qkv, offsets, system, tokens, scale, grad_scale,
    HEADS: tl.constexpr, K: tl.constexpr, QK_NORM: tl.constexpr, QUERIES: tl.constexpr, KEYS: tl.constexpr,
):  # fmt: skip
    """The gradient of the queries; leaves sum(grad_out out) of each token in `delta` (H, T)."""
    tile, head = tl.program_id(0) // HEADS, tl.program_id(0) % HEADS
    t = tile * QUERIES + tl.arange(0, QUERIES)
    mask = t < tokens
    of = tl.load(system + t, mask=mask, other=-1)
    q, q_inverse = unit_rows(_load_head(qkv, t, mask, 0, head, HEADS, K), QK_NORM)
    at = (t.to(tl.int64) * HEADS + head)[:, None] * K + tl.arange(0, K)[None, :]
    do = tl.load(grad_out + at, mask=mask[:, None], other=0.0)
    o = tl.load(out + at, mask=mask[:, None], other=0.0)
    along = tl.sum(do.to(tl.float32) * o.to(tl.float32), 1)
    tl.store(delta + head.to(tl.int64) * tokens + t, along, mask=mask)
    norm = tl.load(lse + head.to(tl.int64) * tokens + t, mask=mask, other=0.0)
    begin, end = _reach(offsets, system, tile * QUERIES, tl.minimum(tile * QUERIES + QUERIES, tokens) - 1)
    dq = tl.zeros((QUERIES, K), tl.float32)
    for start in range(begin, end, KEYS):
        u = start + tl.arange(0, KEYS)
        present = u < end
        k, _ = unit_rows(_load_head(qkv, u, present, 1, head, HEADS, K), QK_NORM)
        v = _load_head(qkv, u, present, 2, head, HEADS, K)
        same = of[:, None] == tl.load(system + u, mask=present, other=-2)[None, :]
        logits = tl.dot(q, tl.trans(k), input_precision="tf32x3") * scale
        p = tl.where(same, tl.exp2(logits - norm[:, None]), 0.0)
        dp = tl.dot(do, tl.trans(v), input_precision="tf32x3")
        ds = (p * (dp - along[:, None]) * grad_scale).to(q.dtype)
        dq += tl.dot(ds, k, input_precision="tf32x3")
    _store_head(grad_qkv, _unit_rows_gradient(dq, q, q_inverse, QK_NORM), t, mask, 0, head, HEADS, K)


@triton.jit(do_not_specialize=["tokens"])
def _long_backward_keys(
    grad_out, qkv, lse, delta, grad_qkv, offsets, system, tokens, scale, grad_scale,
    HEADS: tl.constexpr, K: tl.constexpr, QK_NORM: tl.constexpr, QUERIES: tl.constexpr, KEYS: tl.constexpr,
):  # fmt: skip
    """The gradients of keys and values, a tile of KEYS of them."""
    tile, head = tl.program_id(0) // HEADS, tl.program_id(0) % HEADS
    u = tile * KEYS + tl.arange(0, KEYS)
    present = u < tokens
    of = tl.load(system + u, mask=present, other=-1)
    k, k_inverse = unit_rows(_load_head(qkv, u, present, 1, head, HEADS, K), QK_NORM)
    v = _load_head(qkv, u, present, 2, head, HEADS, K)
    begin, end = _reach(offsets, system, tile * KEYS, tl.minimum(tile * KEYS + KEYS, tokens) - 1)
    dk = tl.zeros((KEYS, K), tl.float32)
    dv = tl.zeros((KEYS, K), tl.float32)
    for start in range(begin, end, QUERIES):
        t = start + tl.arange(0, QUERIES)
        mask = t < end
        q, _ = unit_rows(_load_head(qkv, t, mask, 0, head, HEADS, K), QK_NORM)
        at = (t.to(tl.int64) * HEADS + head)[:, None] * K + tl.arange(0, K)[None, :]
        do = tl.load(grad_out + at, mask=mask[:, None], other=0.0)
        norm = tl.load(lse + head.to(tl.int64) * tokens + t, mask=mask, other=0.0)
        along = tl.load(delta + head.to(tl.int64) * tokens + t, mask=mask, other=0.0)
        same = tl.load(system + t, mask=mask, other=-2)[:, None] == of[None, :]
        logits = tl.dot(q, tl.trans(k), input_precision="tf32x3") * scale
        p = tl.where(same, tl.exp2(logits - norm[:, None]), 0.0)
        dv += tl.dot(tl.trans(p.to(do.dtype)), do, input_precision="tf32x3")
        dp = tl.dot(do, tl.trans(v), input_precision="tf32x3")
        ds = (p * (dp - along[:, None]) * grad_scale).to(q.dtype)
        dk += tl.dot(tl.trans(ds), q, input_precision="tf32x3")
    _store_head(grad_qkv, _unit_rows_gradient(dk, k, k_inverse, QK_NORM), u, present, 1, head, HEADS, K)
    _store_head(grad_qkv, dv, u, present, 2, head, HEADS, K)


def logit_scales(head_size: int, qk_norm: bool) -> tuple[float, float]:
    """What multiplies q k to give base-2 logits, and what multiplies their gradient in the backward pass.

    Logits are q k / sqrt(K); with QK-norm, q and k are unit vectors times sqrt(K) each.
    """
    scale = head_size**0.5 if qk_norm else head_size**-0.5
    return scale * _LOG2E, scale


def _warps(warps: int, qkv: Tensor) -> int:
    """Twice as many for float32, whose operands take twice the registers."""
    return 2 * warps if qkv.dtype == torch.float32 else warps


def _attention(qkv: Tensor, offsets: Tensor, system: Tensor, max_length: int, qk_norm: bool) -> tuple[Tensor, Tensor]:
    tokens, _, heads, size = qkv.shape
    out, lse = qkv.new_empty(tokens, heads, size), qkv.new_empty(heads, tokens, dtype=torch.float32)
    if tokens == 0:
        return out, lse
    scale, _ = logit_scales(size, qk_norm)
    arguments = (qkv, out, lse, offsets, system, tokens, scale)
    if (short := table().short_for(max_length)) is not None:
        step = short.step(max_length)
        _short_forward[(triton.cdiv(tokens, step) * heads,)](
            *arguments,
            HEADS=heads,
            K=size,
            QK_NORM=qk_norm,
            BLOCK=short.block,
            step=step,
            num_warps=_warps(short.warps, qkv),
        )
    else:
        long = table().long
        _long_forward[(triton.cdiv(tokens, long.queries) * heads,)](
            *arguments, HEADS=heads, K=size, QK_NORM=qk_norm, QUERIES=long.queries, KEYS=long.keys,
            num_warps=_warps(long.warps, qkv), num_stages=long.stages,
        )  # fmt: skip
    return out, lse


attention_op = torch.library.custom_op("adit_kernels::attention", _attention, mutates_args=())


@attention_op.register_fake
def _(qkv, offsets, system, max_length, qk_norm):
    tokens, _, heads, size = qkv.shape
    return qkv.new_empty(tokens, heads, size), qkv.new_empty(heads, tokens, dtype=torch.float32)


@torch.library.custom_op("adit_kernels::attention_backward", mutates_args=())
def attention_backward_op(
    grad_out: Tensor, qkv: Tensor, out: Tensor, lse: Tensor, offsets: Tensor, system: Tensor, max_length: int,
    qk_norm: bool,
) -> Tensor:  # fmt: skip
    tokens, _, heads, size = qkv.shape
    grad_qkv = torch.empty_like(qkv)
    if tokens == 0:
        return grad_qkv
    scales = logit_scales(size, qk_norm)
    if (short := table().short_for(max_length)) is not None:
        step = short.step(max_length)
        _short_backward[(triton.cdiv(tokens, step) * heads,)](
            grad_out, qkv, lse, grad_qkv, offsets, system, tokens, *scales,
            HEADS=heads, K=size, QK_NORM=qk_norm, BLOCK=short.block, step=step, num_warps=_warps(short.warps, qkv),
        )  # fmt: skip
        return grad_qkv
    long, delta = table().long, torch.empty_like(lse)
    options = {"HEADS": heads, "K": size, "QK_NORM": qk_norm, "QUERIES": long.queries, "KEYS": long.keys}
    options |= {"num_warps": _warps(long.warps, qkv), "num_stages": long.stages}
    _long_backward_queries[(triton.cdiv(tokens, long.queries) * heads,)](
        grad_out, qkv, out, lse, delta, grad_qkv, offsets, system, tokens, *scales, **options
    )
    _long_backward_keys[(triton.cdiv(tokens, long.keys) * heads,)](
        grad_out, qkv, lse, delta, grad_qkv, offsets, system, tokens, *scales, **options
    )
    return grad_qkv


@attention_backward_op.register_fake
def _(grad_out, qkv, out, lse, offsets, system, max_length, qk_norm):
    return torch.empty_like(qkv)


def _setup(ctx, inputs, output):
    qkv, offsets, system, ctx.max_length, ctx.qk_norm = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(qkv, *output, offsets, system)


def _gradient(ctx, grad_out, _):
    grad = attention_backward_op(grad_out.contiguous(), *ctx.saved_tensors, ctx.max_length, ctx.qk_norm)
    return grad, None, None, None, None


attention_op.register_autograd(_gradient, setup_context=_setup)


def attention(qkv_T3HK: Tensor, offsets_S1: Tensor, system_T: Tensor, max_length: int, qk_norm: bool = False) -> Tensor:
    """softmax(q k^T / sqrt(K)) v within each system: (T, H, K) in the type of `qkv`, sums in float32.

    Args:
        qkv_T3HK: queries, keys and values, as a projection (T, 3 H K) gives them; K is 32 or 64.
        offsets_S1, system_T: as for `adaln`.
        max_length: a bound on the length of a system, which picks the kernel; tokens of a longer system are lost.
        qk_norm: queries and keys are first normalised and multiplied by sqrt(K).

    Raises:
        ValueError: for another head size or shape.
    """
    if qkv_T3HK.ndim != 4 or qkv_T3HK.shape[1] != 3 or qkv_T3HK.shape[3] not in HEAD_SIZES:
        raise ValueError(f"`qkv` must have shape (T, 3, heads, 32 or 64); got {tuple(qkv_T3HK.shape)}")
    run = _attention if direct() else attention_op
    return run(qkv_T3HK.contiguous(), offsets_S1, system_T, max_length, qk_norm)[0]
