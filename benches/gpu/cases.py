"""What `bench.py` measures, section by section.

Shape suffixes: T tokens, S systems, L longest system, R rows of modulation, D width, H heads, K head size.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from measure import Results, eager_seconds, gradients, relative_error, seconds
from torch import Tensor
from triton.runtime.errors import OutOfResources

import adit_kernels
from adit.ops import reference
from adit.ops.packing import Packing
from adit_kernels import BlockWeights, configs

MIXES = {"qm9-like 3-29": (3, 29), "mp20-like 1-20": (1, 20), "geom-like 20-90": (20, 90)}
"""Sizes of systems, uniform between these bounds."""


@dataclass
class Setting:
    """Where, how large (`tiny` for a dry run) and how long."""

    device: torch.device
    results: Results
    tiny: bool
    seconds: float
    precision: torch.dtype | None = None
    peaks: dict[str, float] = field(default_factory=dict)

    @property
    def dtype(self) -> torch.dtype:
        """The interpreter's bfloat16 arithmetic is wrong, so a dry run takes float16."""
        return self.precision or (torch.float16 if self.tiny else torch.bfloat16)

    @property
    def width(self) -> int:
        return 64 if self.tiny else 384

    @property
    def heads(self) -> int:
        return self.width // (32 if self.tiny else 64)

    def mix(self, name: str) -> Mix:
        low, high = MIXES[name]
        count = 3 if self.tiny else 4096 if high < 64 else 1536
        lengths = np.random.default_rng(0).integers(low, high + 1, count)
        lengths[0] = high
        return Mix(self, lengths)

    def randn(self, *shape: int) -> Tensor:
        return torch.randn(shape, device=self.device).to(self.dtype)

    def peak_bandwidth(self) -> float:
        """Bytes read and written per second by a copy."""
        if "copy" not in self.peaks:
            peaks(self)
        return self.peaks["copy"]

    def peak_flops(self) -> float:
        if "matmul" not in self.peaks:
            peaks(self)
        return self.peaks["matmul"]


@dataclass
class Mix:
    """A packed batch and the same systems padded."""

    setting: Setting
    lengths: np.ndarray

    @cached_property
    def packing(self) -> Packing:
        return Packing.from_lengths(self.lengths.tolist(), self.setting.device)

    @property
    def layout(self) -> tuple[Tensor, Tensor, int]:
        return self.packing.offsets, self.packing.system, self.packing.max_length

    @property
    def tokens(self) -> int:
        return int(self.lengths.sum())

    @cached_property
    def present_SL(self) -> Tensor:
        lengths = torch.from_numpy(self.lengths).to(self.setting.device)
        return torch.arange(self.packing.max_length, device=self.setting.device) < lengths[:, None]

    def first(self, systems: int) -> Mix:
        return Mix(self.setting, self.lengths[:systems])


def peaks(setting: Setting) -> None:
    """What this card copies and multiplies, measured."""
    count, side = (1 << 10, 64) if setting.tiny else (1 << 29, 8192)
    source = setting.randn(count)
    target = torch.empty_like(source)
    took = seconds(lambda: target.copy_(source), setting.device)
    setting.peaks["copy"] = 2 * source.nbytes / took
    setting.results.add("peaks", "copy", "bytes read and written", setting.peaks["copy"] / 1e9, "GB/s")
    a, b = setting.randn(side, side), setting.randn(side, side)
    took = seconds(lambda: a @ b, setting.device)
    setting.peaks["matmul"] = 2 * side**3 / took
    setting.results.add("peaks", f"matmul {side}", str(setting.dtype), setting.peaks["matmul"] / 1e12, "TFLOP/s")


def correct(setting: Setting) -> None:
    """Every kernel against float64 on this device, beside plain torch of the same types: forward and gradients.

    In float32 the kernels multiply by three TF32 products, and may be four times as far off as plain torch.
    """
    for name, dtype in [*((name, setting.dtype) for name in MIXES), (next(iter(MIXES)), torch.float32)]:
        here = replace(setting, precision=dtype)
        slack = 4 if dtype == torch.float32 else 1.5
        for kind, ours, plain, inputs in functions(here.mix(name).first(2 if setting.tiny else 200)):
            found = []
            for function, wanted in ((ours, None), (plain, None), (plain, torch.float64)):
                leaves = [value.detach().to(wanted).requires_grad_() for value in inputs]
                out = function(*leaves)
                found.append([out, *gradients([out], leaves)])
            errors = [max(relative_error(g, t) for g, t in zip(got, found[2], strict=True)) for got in found[:2]]
            limit = slack * errors[1] + torch.finfo(dtype).eps / 2
            text = f"{'ok' if errors[0] <= limit else 'WRONG'} {errors[0]:.2e} eager {errors[1]:.2e}"
            setting.results.add("correct", f"{name}, {dtype}", kind, text, "worst relative error")


def functions(mix: Mix) -> list[tuple[str, Callable[..., Tensor], Callable[..., Tensor], list[Tensor]]]:
    """(name, the kernels, plain torch, inputs) of what is to be checked.

    Training and sampling pass a float32 residual stream to blocks with narrower weights.
    """
    setting, packing = mix.setting, mix.packing
    width, heads = setting.width, setting.heads
    x, y, of = setting.randn(mix.tokens, width), setting.randn(mix.tokens, width), weights(setting)
    modulation = 0.5 * setting.randn(packing.systems, 6, width)
    qkv = setting.randn(mix.tokens, 3, heads, width // heads)

    def gate_adaln(x: Tensor, y: Tensor, m: Tensor) -> Tensor:
        return torch.cat(adit_kernels.gate_adaln(x, y, m[:, 0], m[:, 1], m[:, 2], *mix.layout))

    def plain_gate_adaln(x: Tensor, y: Tensor, m: Tensor) -> Tensor:
        return torch.cat(reference.gate_adaln(x, y, m[:, 0], m[:, 1], m[:, 2], packing, None, x.dtype))

    def block(x: Tensor, m: Tensor, *of: Tensor) -> Tensor:
        return adit_kernels.dit_block(x, m, BlockWeights(*of), *mix.layout, heads, True)

    def plain_block(x: Tensor, m: Tensor, *of: Tensor) -> Tensor:
        return reference.dit_stack(x, m[None], [of], packing, heads, True, None)

    def attention(norm: bool) -> tuple[Callable[..., Tensor], Callable[..., Tensor]]:
        return (
            lambda qkv: adit_kernels.attention(qkv, *mix.layout, norm),
            lambda qkv: reference.attention(qkv, packing, norm),
        )

    mixed = [("block, float32 stream", block, plain_block, [x.float(), modulation, *of])]
    return [
        ("gate_adaln", gate_adaln, plain_gate_adaln, [x, y, modulation]),
        ("attention, qk_norm", *attention(True), [qkv]),
        ("attention", *attention(False), [qkv]),
        ("block", block, plain_block, [x, modulation, *of]),
        *(mixed if setting.dtype != torch.float32 else []),
    ]


def weights(setting: Setting) -> BlockWeights:
    width = setting.width
    sizes = [(3 * width, width), (width, width), (4 * width, width), (width, 4 * width)]
    return BlockWeights(*(v for o, i in sizes for v in (setting.randn(o, i) * i**-0.5, setting.randn(o))))


def adaln(setting: Setting) -> None:
    """Bytes that must move per second, and as a fraction of what a copy reaches. Modulation rows are not counted."""
    count = 2 if setting.tiny else 16384
    mix = Mix(setting, np.full(count, 3 if setting.tiny else 18))
    x, y, modulation = (setting.randn(mix.tokens, setting.width) for _ in range(3))
    rows = torch.zeros(count, dtype=torch.int32, device=setting.device)
    for per, m, index in (("row per system", modulation[: 3 * count], None), ("one row", modulation[:3], rows)):
        gate, scale, shift = m.view(-1, 3, setting.width).unbind(1)
        variants = {
            "adaln": (2, lambda a=scale, b=shift, i=index: adit_kernels.adaln(x, a, b, *mix.layout, i)),
            "gate_adaln": (
                4,
                lambda g=gate, a=scale, b=shift, i=index: adit_kernels.gate_adaln(x, y, g, a, b, *mix.layout, i),
            ),
            "plain torch, adaln": (
                2,
                lambda a=scale, b=shift, i=index: reference.adaln(x, a, b, mix.packing, i, x.dtype),
            ),
        }
        for variant, (passes, call) in variants.items():
            add_bandwidth(setting, f"forward, {per}", variant, passes, x.nbytes, seconds(call, setting.device))
    leaves = [v.clone().requires_grad_() for v in (x, y, modulation[: 3 * count])]
    gate, scale, shift = leaves[2].view(-1, 3, setting.width).unbind(1)
    total, h = adit_kernels.gate_adaln(*leaves[:2], gate, scale, shift, *mix.layout)
    seeds = [torch.randn_like(total), torch.randn_like(h)]

    def backward() -> None:
        torch.ops.adit_kernels.gate_adaln_backward(
            *seeds, total, leaves[1], gate, scale, mix.packing.offsets, None, mix.packing.max_length
        )

    with torch.no_grad():
        add_bandwidth(setting, "backward, row per system", "gate_adaln", 6, x.nbytes, seconds(backward, setting.device))


def add_bandwidth(setting: Setting, case: str, variant: str, passes: int, nbytes: int, took: float) -> None:
    """`passes`: how many tensors of `nbytes` the operation reads and writes."""
    rate = passes * nbytes / took
    setting.results.add("adaln", case, variant, rate / 1e9, "GB/s")
    setting.results.add("adaln", case, variant, rate / setting.peak_bandwidth(), "of copy bandwidth")


def attention(setting: Setting) -> None:
    """Packed attention against `scaled_dot_product_attention` on the padded batch, forward and with backward."""
    for name in MIXES:
        mix = setting.mix(name)
        size = setting.width // setting.heads
        packed = setting.randn(mix.tokens, 3, setting.heads, size)
        padded = setting.randn(len(mix.lengths), mix.packing.max_length, 3, setting.heads, size)
        mask = mix.present_SL[:, None, None, :]

        def sdpa(qkv: Tensor, mask: Tensor | None = mask) -> Tensor:
            q, k, v = qkv.permute(2, 0, 3, 1, 4)
            return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)

        variants: dict[str, tuple[Callable[[Tensor], Tensor], Tensor]] = {
            "kernels, qk_norm": (lambda qkv, m=mix: adit_kernels.attention(qkv, *m.layout, True), packed),
            "kernels": (lambda qkv, m=mix: adit_kernels.attention(qkv, *m.layout, False), packed),
            "torch SDPA, padded, masked": (sdpa, padded),
            "torch SDPA, padded, no mask (wrong)": (lambda qkv, f=sdpa: f(qkv, None), padded),
        }
        times: dict[str, dict[str, float]] = {"forward": {}, "forward and backward": {}}
        for variant, (function, data) in variants.items():
            with torch.no_grad():
                times["forward"][variant] = seconds(lambda f=function, d=data: f(d), setting.device)
            leaf = data.clone().requires_grad_()
            seed = torch.randn_like(function(leaf))
            times["forward and backward"][variant] = seconds(
                lambda f=function, x=leaf, s=seed: torch.autograd.grad(f(x), x, s), setting.device
            )
        for part, found in times.items():
            for variant, took in found.items():
                setting.results.add("attention", f"{name}, {part}", variant, 1e6 * took, "us")
            ratio = found["torch SDPA, padded, masked"] / found["kernels"]
            setting.results.add("attention", f"{name}, {part}", "masked SDPA over kernels", ratio, "x")
        bytes_moved = 4 * packed.nbytes / 3
        share = bytes_moved / times["forward"]["kernels"] / setting.peak_bandwidth()
        setting.results.add("attention", f"{name}, forward", "kernels", share, "of copy bandwidth")


def plain_block(x_SLD: Tensor, modulation_S6D: Tensor, of: BlockWeights, mask: Tensor, heads: int) -> Tensor:
    """A DiT block as usually written, on a padded batch, with its modulations given."""
    systems, longest, width = x_SLD.shape
    shift_a, scale_a, gate_a, shift_f, scale_f, gate_f = (m[:, None] for m in modulation_S6D.unbind(1))
    h = F.layer_norm(x_SLD, (width,)) * (1 + scale_a) + shift_a
    qkv = F.linear(h, of.qkv, of.qkv_bias).view(systems, longest, 3, heads, width // heads)
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).reshape(x_SLD.shape)
    x_SLD = x_SLD + gate_a * F.linear(mixed, of.out, of.out_bias)
    h = F.layer_norm(x_SLD, (width,)) * (1 + scale_f) + shift_f
    return x_SLD + gate_f * F.linear(F.gelu(F.linear(h, of.up, of.up_bias)), of.down, of.down_bias)


def block(setting: Setting) -> None:
    """A DiT-S block with the kernels against the plain padded block, each compiled and not."""
    of, heads, width = weights(setting), setting.heads, setting.width
    backend = "aot_eager" if setting.tiny else "inductor"
    for name in MIXES:
        if setting.results.elapsed() > setting.seconds:
            setting.results.add("block", name, "skipped, out of time", "", "")
            continue
        mix = setting.mix(name)
        modulation = 0.5 * setting.randn(len(mix.lengths), 6, width)
        x, mask = setting.randn(mix.tokens, width), mix.present_SL[:, None, None, :]
        x_SLD = setting.randn(*mix.present_SL.shape, width)

        def packed(x: Tensor, modulation: Tensor, m: Mix = mix) -> Tensor:
            return adit_kernels.dit_block(x, modulation, of, *m.layout, heads)

        def padded(x: Tensor, modulation: Tensor, mask: Tensor = mask) -> Tensor:
            return plain_block(x, modulation, of, mask, heads)

        torch._dynamo.reset()
        compiled_plain = torch.compile(padded, backend=backend, dynamic=False)
        compiled = torch.compile(packed, backend=backend, dynamic=False)
        variants: dict[str, tuple[Callable[..., Tensor], Tensor]] = {
            "plain, padded": (padded, x_SLD),
            "plain, padded, compiled": (compiled_plain, x_SLD),
            "kernels": (packed, x),
            "kernels, compiled": (compiled, x),
        }
        add_blocks(setting, mix, variants, modulation)


def add_blocks(
    setting: Setting, mix: Mix, variants: dict[str, tuple[Callable[..., Tensor], Tensor]], modulation: Tensor
) -> None:
    """Forward and training times of blocks, speed against the compiled plain one, share of the matmul peak."""
    width = setting.width
    flops = 24 * width**2 * mix.tokens + 4 * width * int((mix.lengths.astype(np.int64) ** 2).sum())
    case = f"sizes {mix.lengths.min()}-{mix.lengths.max()}, {mix.tokens} tokens"
    forward, training = {}, {}
    for variant, (function, data) in variants.items():
        with torch.no_grad():
            call = lambda f=function, d=data: f(d, modulation)  # noqa: E731
            forward[variant] = seconds(call, setting.device)
            setting.results.add("block", case, f"{variant}, forward", 1e6 * forward[variant], "us")
            if variant in ("plain, padded, compiled", "kernels"):
                took = eager_seconds(call, setting.device)
                setting.results.add("block", case, f"{variant}, forward, without a graph", 1e6 * took, "us")
        leaves = [data.clone().requires_grad_(), modulation.clone().requires_grad_()]
        seed = torch.randn_like(data)
        training[variant] = seconds(
            lambda f=function, v=leaves, s=seed: torch.autograd.grad(f(*v), v, s), setting.device, inner=2
        )
        setting.results.add("block", case, f"{variant}, with backward", 1e6 * training[variant], "us")
        share = flops / forward[variant] / setting.peak_flops()
        setting.results.add("block", case, f"{variant}, forward", share, "of matmul peak (real tokens)")
    for label, found in (("forward", forward), ("with backward", training)):
        base = found["plain, padded, compiled"]
        for variant, took in found.items():
            if variant.startswith("kernels"):
                setting.results.add("block", case, f"{variant}, {label}", base / took, "x compiled plain")


def sweep(setting: Setting) -> None:
    """Launch parameters, for the table in `adit_kernels.configs`; microseconds, forward and backward together."""
    for name in MIXES:
        mix = setting.mix(name)
        longest = mix.packing.max_length
        qkv = setting.randn(mix.tokens, 3, setting.heads, setting.width // setting.heads).requires_grad_()

        def attend(qkv: Tensor = qkv, m: Mix = mix) -> Tensor:
            return adit_kernels.attention(qkv, *m.layout, True)

        short = [(b, w) for b in (32, 64, 128) if b > longest for w in (2, 4, 8)]
        for block_, warps in short[:1] if setting.tiny else short:
            entry = configs.ShortAttention(longest, block_, warps)
            try_config(setting, name, f"attention {entry}", attend, qkv, short=(entry,))
        tiles = itertools.product((32, 64, 128), (32, 64), (4, 8), (1, 2, 3))
        for queries, keys, warps, stages in [(32, 32, 4, 1)] if setting.tiny else tiles:
            entry = configs.LongAttention(queries, keys, warps, stages)
            try_config(setting, name, f"attention {entry}", attend, qkv, short=(), long=entry)
    mix = setting.mix("qm9-like 3-29")
    x = setting.randn(mix.tokens, setting.width).requires_grad_()
    modulation = 0.5 * setting.randn(len(mix.lengths), 6, setting.width)

    sizes = [(512, 1)] if setting.tiny else itertools.product((1024, 2048, 4096, 8192), (2, 4, 8))
    for elements, warps in sizes:
        entry = configs.Elementwise(elements, elements, warps=warps)
        try_config(setting, "qm9-like", f"adaln {entry}", lambda: norms(mix, x, modulation), x, adaln=entry)


def norms(mix: Mix, x: Tensor, modulation: Tensor) -> Tensor:
    gate, scale, shift = modulation[:, :3].unbind(1)
    return adit_kernels.gate_adaln(x, x, gate, scale, shift, *mix.layout)[1]


def try_config(
    setting: Setting, case: str, variant: str, function: Callable[[], Tensor], leaf: Tensor, **entry: object
) -> None:
    """Times a call and its backward pass under other launch parameters."""
    with configs.override(**entry):
        try:
            seed = torch.randn_like(function())
            took = seconds(lambda: torch.autograd.grad(function(), leaf, seed), setting.device, repeats=7, inner=2)
        except OutOfResources as error:
            setting.results.add("sweep", case, variant, str(error).split(".")[0], "")
            return
    setting.results.add("sweep", case, variant, 1e6 * took, "us")


SECTIONS: dict[str, Callable[[Setting], None]] = {
    "peaks": peaks,
    "correct": correct,
    "adaln": adaln,
    "attention": attention,
    "block": block,
}
