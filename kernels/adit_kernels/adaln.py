"""AdaLN over packed tokens: LayerNorm without affine parameters, then a scale and shift per system.

    h = layer_norm(x) (1 + scale) + shift            (Peebles & Xie 2023, arXiv 2212.09748)

and the gated residual x + gate y, alone or fused with the AdaLN that follows it. One pair of kernels serves all three.

Shape suffixes: T tokens, S systems, R rows of modulation, D width.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from adit_kernels.configs import table
from adit_kernels.operators import direct

EPSILON = 1e-5


@triton.jit
def load_row(system, rows, token, mask, HAS_ROWS: tl.constexpr):
    """The row of modulation of each token: its system, or what `rows` gives for its system."""
    row = tl.load(system + token, mask=mask, other=0)
    if HAS_ROWS:
        row = tl.load(rows + row, mask=mask, other=0)
    return row.to(tl.int64)


@triton.jit
def _normalise(v, inside, width, EPS: tl.constexpr):
    """(tokens, D) to zero mean and unit variance along D, and the inverse standard deviation (tokens, 1)."""
    centred = tl.where(inside, v - (tl.sum(v, 1) / width)[:, None], 0.0)
    inverse = 1.0 / tl.sqrt(tl.sum(centred * centred, 1) / width + EPS)[:, None]
    return centred * inverse, inverse


@triton.jit(do_not_specialize=["tokens"])
def _forward_kernel(
    x, y, gate, scale, shift, x_out, h, system, rows, tokens, width, gate_stride, scale_stride, shift_stride,
    GATE: tl.constexpr, NORM: tl.constexpr, HAS_ROWS: tl.constexpr, EPS: tl.constexpr,
    BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    t = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)
    d = tl.arange(0, BLOCK_D)[None, :]
    inside = (t < tokens)[:, None] & (d < width)
    row = load_row(system, rows, t, t < tokens, HAS_ROWS)[:, None]
    at = t.to(tl.int64)[:, None] * width + d
    v = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    if GATE:
        g = tl.load(gate + row * gate_stride + d, mask=inside, other=0.0).to(tl.float32)
        v += g * tl.load(y + at, mask=inside, other=0.0).to(tl.float32)
        rounded = v.to(x_out.dtype.element_ty)
        tl.store(x_out + at, rounded, mask=inside)
        v = rounded.to(tl.float32)  # what the backward pass will see
    if NORM:
        unit, _ = _normalise(v, inside, width, EPS)
        a = tl.load(scale + row * scale_stride + d, mask=inside, other=0.0).to(tl.float32)
        b = tl.load(shift + row * shift_stride + d, mask=inside, other=0.0).to(tl.float32)
        tl.store(h + at, (unit * (1.0 + a) + b).to(h.dtype.element_ty), mask=inside)


@triton.jit
def _backward_kernel(
    grad_x_out, grad_h, x_out, y, gate, scale, grad_x, grad_y, grad_gate, grad_scale, grad_shift,
    offsets, rows, width, splits, gate_stride, scale_stride,
    GATE: tl.constexpr, NORM: tl.constexpr, HAS_ROWS: tl.constexpr, EPS: tl.constexpr,
    SPLIT: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """One program per system and stretch of SPLIT tokens; its share of the modulation's gradients goes to row pid."""
    pid = tl.program_id(0).to(tl.int64)
    s, stretch = pid // splits, pid % splits
    first = tl.load(offsets + s) + stretch.to(tl.int32) * SPLIT
    last = tl.minimum(tl.load(offsets + s + 1), first + SPLIT)
    row = s
    if HAS_ROWS:
        row = tl.load(rows + s).to(tl.int64)
    d = tl.arange(0, BLOCK_D)[None, :]
    columns = d < width
    if GATE:
        g = tl.load(gate + row * gate_stride + d, mask=columns, other=0.0).to(tl.float32)
        sum_gate = tl.zeros((BLOCK_T, BLOCK_D), tl.float32)
    if NORM:
        a = 1.0 + tl.load(scale + row * scale_stride + d, mask=columns, other=0.0).to(tl.float32)
        sum_scale = tl.zeros((BLOCK_T, BLOCK_D), tl.float32)
        sum_shift = tl.zeros((BLOCK_T, BLOCK_D), tl.float32)
    for t0 in range(first, last, BLOCK_T):
        t = t0 + tl.arange(0, BLOCK_T)
        inside = (t < last)[:, None] & columns
        at = t.to(tl.int64)[:, None] * width + d
        grad = tl.zeros((BLOCK_T, BLOCK_D), tl.float32)
        if GATE:
            grad += tl.load(grad_x_out + at, mask=inside, other=0.0).to(tl.float32)
        if NORM:
            dh = tl.load(grad_h + at, mask=inside, other=0.0).to(tl.float32)
            v = tl.load(x_out + at, mask=inside, other=0.0).to(tl.float32)
            unit, inverse = _normalise(v, inside, width, EPS)
            sum_scale += dh * unit
            sum_shift += dh
            du = dh * a
            along_unit = (tl.sum(du * unit, 1) / width)[:, None]
            grad += inverse * (du - (tl.sum(du, 1) / width)[:, None] - unit * along_unit)
            tl.store(grad_x + at, grad.to(grad_x.dtype.element_ty), mask=inside)
        if GATE:
            sum_gate += grad * tl.load(y + at, mask=inside, other=0.0).to(tl.float32)
            tl.store(grad_y + at, (grad * g).to(grad_y.dtype.element_ty), mask=inside)
    out = pid * width + tl.arange(0, BLOCK_D)
    if GATE:
        tl.store(grad_gate + out, tl.sum(sum_gate, 0), mask=tl.arange(0, BLOCK_D) < width)
    if NORM:
        tl.store(grad_scale + out, tl.sum(sum_scale, 0), mask=tl.arange(0, BLOCK_D) < width)
        tl.store(grad_shift + out, tl.sum(sum_shift, 0), mask=tl.arange(0, BLOCK_D) < width)


def _run_forward(
    x: Tensor, y: Tensor | None, gate: Tensor | None, scale: Tensor | None, shift: Tensor | None,
    system: Tensor, rows: Tensor | None, dtype: torch.dtype,
) -> tuple[Tensor | None, Tensor | None]:  # fmt: skip
    """(x_out, h): the first None without a gate, the second None without a scale."""
    tokens, width = x.shape
    x_out = None if y is None else torch.empty_like(x)
    h = None if scale is None else torch.empty_like(x, dtype=dtype)
    if tokens == 0:
        return x_out, h
    config, block = table().adaln, triton.next_power_of_2(width)
    block_t = max(1, config.elements // block)
    _forward_kernel[(triton.cdiv(tokens, block_t),)](
        x, y, gate, scale, shift, x_out, h, system, rows, tokens, width, _row_stride(gate), _row_stride(scale),
        _row_stride(shift), GATE=y is not None, NORM=scale is not None, HAS_ROWS=rows is not None, EPS=EPSILON,
        BLOCK_T=block_t, BLOCK_D=block, num_warps=config.warps,
    )  # fmt: skip
    return x_out, h


def _run_backward(
    grad_x_out: Tensor | None, grad_h: Tensor | None, x_out: Tensor, y: Tensor | None, gate: Tensor | None,
    scale: Tensor | None, offsets: Tensor, rows: Tensor | None, max_length: int,
) -> tuple[Tensor | None, Tensor | None, list[Tensor]]:  # fmt: skip
    """Gradients of x (None without a norm: that of the sum), of y, and of what there is of gate, scale, shift."""
    width, systems = x_out.shape[1], offsets.shape[0] - 1
    config, block = table().adaln, triton.next_power_of_2(width)
    splits = max(1, triton.cdiv(max_length, config.split))
    grad_x = None if scale is None else torch.empty_like(x_out)
    grad_y = None if y is None else torch.empty_like(y)
    given = [gate, scale, scale]
    sums = [None if of is None else x_out.new_empty((systems, splits, width), dtype=torch.float32) for of in given]
    if systems > 0:
        _backward_kernel[(systems * splits,)](
            grad_x_out, grad_h, x_out, y, gate, scale, grad_x, grad_y, *sums, offsets, rows, width, splits,
            _row_stride(gate), _row_stride(scale), GATE=y is not None, NORM=scale is not None,
            HAS_ROWS=rows is not None, EPS=EPSILON, SPLIT=config.split,
            BLOCK_T=max(1, config.backward_elements // block), BLOCK_D=block, num_warps=config.warps,
        )  # fmt: skip
    pairs = [(total, of) for total, of in zip(sums, given, strict=True) if total is not None and of is not None]
    return grad_x, grad_y, [_to_rows(total, of, rows) for total, of in pairs]


def _row_stride(of: Tensor | None) -> int:
    return 0 if of is None else of.stride(0)


def _to_rows(sums: Tensor, of: Tensor, rows: Tensor | None) -> Tensor:
    """Sums of (systems, splits, D) to the gradient of the (R, D) tensor that they belong to."""
    per_system = sums[:, 0] if sums.shape[1] == 1 else sums.sum(1)
    if rows is None:
        return per_system.to(of.dtype)
    return sums.new_zeros(of.shape).index_add_(0, rows.long(), per_system).to(of.dtype)


def _adaln(
    x: Tensor, scale: Tensor, shift: Tensor, offsets: Tensor, system: Tensor, rows: Tensor | None, max_length: int,
    dtype: torch.dtype,
) -> Tensor:  # fmt: skip
    return _run_forward(x, None, None, scale, shift, system, rows, dtype)[1]  # type: ignore[return-value]


adaln_op = torch.library.custom_op("adit_kernels::adaln", _adaln, mutates_args=())


@adaln_op.register_fake
def _(x, scale, shift, offsets, system, rows, max_length, dtype):
    return torch.empty_like(x, dtype=dtype)


@torch.library.custom_op("adit_kernels::adaln_backward", mutates_args=())
def adaln_backward_op(
    grad_h: Tensor, x: Tensor, scale: Tensor, offsets: Tensor, rows: Tensor | None, max_length: int
) -> tuple[Tensor, Tensor, Tensor]:
    grad_x, _, (grad_scale, grad_shift) = _run_backward(
        None, grad_h, x, None, None, scale, offsets, rows, max_length
    )  # fmt: skip
    return grad_x, grad_scale, grad_shift


@adaln_backward_op.register_fake
def _(grad_h, x, scale, offsets, rows, max_length):
    return torch.empty_like(x), scale.new_empty(scale.shape), scale.new_empty(scale.shape)


def _adaln_setup(ctx, inputs, output):
    x, scale, shift, offsets, _, rows, ctx.max_length, _ = inputs
    ctx.save_for_backward(x, scale, offsets, rows)
    ctx.shift_dtype = shift.dtype


def _adaln_gradient(ctx, grad_h):
    x, scale, offsets, rows = ctx.saved_tensors
    grads = adaln_backward_op(grad_h.contiguous(), x, scale, offsets, rows, ctx.max_length)
    return grads[0], grads[1], grads[2].to(ctx.shift_dtype), None, None, None, None, None


adaln_op.register_autograd(_adaln_gradient, setup_context=_adaln_setup)


def _gate_adaln(
    x: Tensor, y: Tensor, gate: Tensor, scale: Tensor, shift: Tensor, offsets: Tensor, system: Tensor,
    rows: Tensor | None, max_length: int, dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    return _run_forward(x, y, gate, scale, shift, system, rows, dtype)  # type: ignore[return-value]


gate_adaln_op = torch.library.custom_op("adit_kernels::gate_adaln", _gate_adaln, mutates_args=())


@gate_adaln_op.register_fake
def _(x, y, gate, scale, shift, offsets, system, rows, max_length, dtype):
    return torch.empty_like(x), torch.empty_like(x, dtype=dtype)


@torch.library.custom_op("adit_kernels::gate_adaln_backward", mutates_args=())
def gate_adaln_backward_op(
    grad_x_out: Tensor, grad_h: Tensor, x_out: Tensor, y: Tensor, gate: Tensor, scale: Tensor, offsets: Tensor,
    rows: Tensor | None, max_length: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    grad_x, grad_y, (grad_gate, grad_scale, grad_shift) = _run_backward(
        grad_x_out, grad_h, x_out, y, gate, scale, offsets, rows, max_length
    )  # fmt: skip
    return grad_x, grad_y, grad_gate, grad_scale, grad_shift  # type: ignore[return-value]


@gate_adaln_backward_op.register_fake
def _(grad_x_out, grad_h, x_out, y, gate, scale, offsets, rows, max_length):
    return torch.empty_like(x_out), torch.empty_like(y), *(of.new_empty(of.shape) for of in (gate, scale, scale))


def _gate_adaln_setup(ctx, inputs, output):
    _, y, gate, scale, shift, offsets, _, rows, ctx.max_length, _ = inputs
    ctx.save_for_backward(output[0], y, gate, scale, offsets, rows)
    ctx.shift_dtype = shift.dtype


def _gate_adaln_gradient(ctx, grad_x_out, grad_h):
    x_out, y, gate, scale, offsets, rows = ctx.saved_tensors
    *grads, grad_shift = gate_adaln_backward_op(
        grad_x_out.contiguous(), grad_h.contiguous(), x_out, y, gate, scale, offsets, rows, ctx.max_length
    )
    return *grads, grad_shift.to(ctx.shift_dtype), None, None, None, None, None


gate_adaln_op.register_autograd(_gate_adaln_gradient, setup_context=_gate_adaln_setup)


def _gate_residual(
    x: Tensor, y: Tensor, gate: Tensor, offsets: Tensor, system: Tensor, rows: Tensor | None, max_length: int
) -> Tensor:
    return _run_forward(x, y, gate, None, None, system, rows, x.dtype)[0]  # type: ignore[return-value]


gate_residual_op = torch.library.custom_op("adit_kernels::gate_residual", _gate_residual, mutates_args=())


@gate_residual_op.register_fake
def _(x, y, gate, offsets, system, rows, max_length):
    return torch.empty_like(x)


@torch.library.custom_op("adit_kernels::gate_residual_backward", mutates_args=())
def gate_residual_backward_op(
    grad: Tensor, y: Tensor, gate: Tensor, offsets: Tensor, rows: Tensor | None, max_length: int
) -> tuple[Tensor, Tensor]:
    _, grad_y, (grad_gate,) = _run_backward(grad, None, grad, y, gate, None, offsets, rows, max_length)
    return grad_y, grad_gate  # type: ignore[return-value]


@gate_residual_backward_op.register_fake
def _(grad, y, gate, offsets, rows, max_length):
    return torch.empty_like(y), gate.new_empty(gate.shape)


def _gate_residual_setup(ctx, inputs, output):
    _, y, gate, offsets, _, rows, ctx.max_length = inputs
    ctx.save_for_backward(y, gate, offsets, rows)


def _gate_residual_gradient(ctx, grad):
    y, gate, offsets, rows = ctx.saved_tensors
    grad_y, grad_gate = gate_residual_backward_op(grad.contiguous(), y, gate, offsets, rows, ctx.max_length)
    return grad, grad_y, grad_gate, None, None, None, None


gate_residual_op.register_autograd(_gate_residual_gradient, setup_context=_gate_residual_setup)


def adaln(
    x_TD: Tensor, scale_RD: Tensor, shift_RD: Tensor, offsets_S1: Tensor, system_T: Tensor, max_length: int,
    rows_S: Tensor | None = None, dtype: torch.dtype | None = None,
) -> Tensor:  # fmt: skip
    """layer_norm(x) (1 + scale) + shift of packed tokens, (T, D) in `dtype` (that of `x` if not given).

    Args:
        x_TD: tokens of all systems one after another; float32, bfloat16 or float16. Sums are in float32.
        scale_RD, shift_RD: one row per system, or per row of `rows_S`; only the last axis must be contiguous.
        offsets_S1: int32; system s owns tokens offsets[s] to offsets[s + 1]; offsets[S] = T. Systems may be empty.
        system_T: int32, the system of each token.
        max_length: a bound on the length of a system; known on the host.
        rows_S: int32, the row of modulation of each system; None if system s takes row s.
    """
    scale_RD, shift_RD = _rows_ready(scale_RD), _rows_ready(shift_RD)
    return (_adaln if direct() else adaln_op)(
        x_TD.contiguous(), scale_RD, shift_RD, offsets_S1, system_T, rows_S, max_length, dtype or x_TD.dtype
    )


def gate_adaln(
    x_TD: Tensor, y_TD: Tensor, gate_RD: Tensor, scale_RD: Tensor, shift_RD: Tensor, offsets_S1: Tensor,
    system_T: Tensor, max_length: int, rows_S: Tensor | None = None, dtype: torch.dtype | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """x + gate y, and the AdaLN of that: two (T, D); the first in the type of `x`. Arguments as for `adaln`."""
    gate_RD, scale_RD, shift_RD = _rows_ready(gate_RD), _rows_ready(scale_RD), _rows_ready(shift_RD)
    return (_gate_adaln if direct() else gate_adaln_op)(
        x_TD.contiguous(), y_TD.contiguous(), gate_RD, scale_RD, shift_RD, offsets_S1, system_T, rows_S, max_length,
        dtype or y_TD.dtype,
    )  # fmt: skip


def gate_residual(
    x_TD: Tensor, y_TD: Tensor, gate_RD: Tensor, offsets_S1: Tensor, system_T: Tensor, max_length: int,
    rows_S: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """x + gate y, (T, D) in the type of `x`. Arguments as for `adaln`."""
    gate_RD = _rows_ready(gate_RD)
    return (_gate_residual if direct() else gate_residual_op)(
        x_TD.contiguous(), y_TD.contiguous(), gate_RD, offsets_S1, system_T, rows_S, max_length
    )  # fmt: skip


def _rows_ready(of: Tensor) -> Tensor:
    """Rows of any stride, each of them contiguous."""
    return of if of.stride(-1) == 1 else of.contiguous()
