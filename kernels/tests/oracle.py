"""The operations written the obvious way: one system after another, in the type of the inputs.

In float64 this is what is true; in float32 or float16 it is what plain torch would give.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def layout(lengths: Sequence[int]) -> tuple[Tensor, Tensor]:
    """(offsets, system) of systems of these lengths."""
    sizes = torch.tensor(lengths, dtype=torch.long)
    offsets = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)]).int()
    return offsets, torch.arange(len(lengths)).repeat_interleave(sizes).int()


def per_token(of: Tensor, lengths: Sequence[int], rows: Tensor | None) -> Tensor:
    parts = [of[s if rows is None else int(rows[s])].expand(n, -1) for s, n in enumerate(lengths)]
    return torch.cat([of[:0], *parts])


def adaln(x: Tensor, scale: Tensor, shift: Tensor, lengths: Sequence[int], rows: Tensor | None) -> Tensor:
    normed = (x - x.mean(-1, keepdim=True)) / (x.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
    return normed * (1 + per_token(scale, lengths, rows)) + per_token(shift, lengths, rows)


def gate_residual(x: Tensor, y: Tensor, gate: Tensor, lengths: Sequence[int], rows: Tensor | None) -> Tensor:
    return x + per_token(gate, lengths, rows) * y


def attention(qkv: Tensor, lengths: Sequence[int], qk_norm: bool) -> Tensor:
    outs = [qkv[:0, 0]]
    for system in qkv.split(list(lengths)):
        q, k, v = system.permute(1, 2, 0, 3)
        if qk_norm:
            q, k = (part / part.norm(dim=-1, keepdim=True) * part.shape[-1] ** 0.5 for part in (q, k))
        p = torch.softmax(q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5, -1)
        outs.append((p @ v).transpose(0, 1))
    return torch.cat(outs)


def block(
    x: Tensor, modulation: Tensor, weights: Sequence[Tensor], lengths: Sequence[int], rows: Tensor | None, heads: int,
    qk_norm: bool,
) -> Tensor:  # fmt: skip
    shift_a, scale_a, gate_a, shift_f, scale_f, gate_f = modulation.unbind(1)
    h = adaln(x, scale_a, shift_a, lengths, rows)
    qkv = F.linear(h, *weights[:2]).view(len(x), 3, heads, x.shape[1] // heads)
    mixed = attention(qkv, lengths, qk_norm).reshape(x.shape)
    x = gate_residual(x, F.linear(mixed, *weights[2:4]), gate_a, lengths, rows)
    h = F.gelu(F.linear(adaln(x, scale_f, shift_f, lengths, rows), *weights[4:6]))
    return gate_residual(x, F.linear(h, *weights[6:8]), gate_f, lengths, rows)


def assert_no_worse_than_eager(
    ours: Callable[..., Sequence[Tensor]], oracle: Callable[..., Sequence[Tensor]], inputs: Sequence[Tensor]
) -> None:
    """Outputs and all gradients of `ours` are as near to float64 as those of the oracle in the inputs' own type.

    Nearness is the root mean square of the difference over that of the value. Slack: half as much again, since sums
    run in another order; half a unit in the last place of that type, and two of float32, which the kernels sum in.
    """
    dtype = inputs[0].dtype
    results = []
    for function, kind in ((ours, dtype), (oracle, dtype), (oracle, torch.float64)):
        leaves = [value.to(kind).clone().requires_grad_() for value in inputs]
        outs = list(function(*leaves))
        generator = torch.Generator().manual_seed(1)
        cotangents = [torch.randn(out.shape, generator=generator).to(out.dtype) for out in outs]
        torch.autograd.backward(outs, cotangents)
        results.append([*(out.detach() for out in outs), *(leaf.grad for leaf in leaves)])
    for number, (ours_, eager, true) in enumerate(zip(*results, strict=True)):
        assert ours_.shape == true.shape
        assert ours_.dtype == dtype
        assert ours_.isfinite().all(), f"result {number} is not finite"
        if true.numel() == 0:
            continue
        size = true.square().mean().sqrt() + 1e-30
        errors = [float((got.double() - true).square().mean().sqrt() / size) for got in (ours_, eager)]
        limit = 1.5 * errors[1] + torch.finfo(dtype).eps / 2 + 2 * torch.finfo(torch.float32).eps
        assert errors[0] <= limit, f"result {number}: error {errors[0]:.2e}, eager's {errors[1]:.2e}"
