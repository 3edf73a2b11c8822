"""The Rust kernels against the reference in float64: no worse than plain torch in the same precision."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from adit import _rust
from adit.errors import BackendUnavailableError, InvalidInputError
from adit.ops import host, reference
from adit.ops.adaln import adaln, gate_adaln, gate_residual
from adit.ops.attention import packed_attention
from adit.ops.block import BlockWeights, dit_stack
from adit.ops.packing import Packing

LENGTHS = st.lists(st.sampled_from([0, 1, 2, 3, 4, 5, 6, 7, 8, 15, 16, 17, 31, 32, 33, 70]), max_size=6)
DTYPES = st.sampled_from([torch.float32, torch.bfloat16])


def random(*shape: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def many(lengths: list[int]) -> list[int]:
    """The same several times: of a few atoms the errors are few numbers, ours by chance twice those of plain torch."""
    return lengths * max(1, min(32, 2048 // max(1, sum(lengths))))


def assert_no_worse(
    ours: Callable[..., Sequence[Tensor]], plain: Callable[..., Sequence[Tensor]], *inputs: Tensor
) -> None:
    """Root mean squares of the errors; slack of half a unit in the last place, and of two of float32."""
    with torch.no_grad():
        exact = plain(*(value.double() for value in inputs))
        for made, eager, true in zip(ours(*inputs), plain(*inputs), exact, strict=True):
            assert made.shape == true.shape and made.dtype == eager.dtype and made.isfinite().all()
            if true.numel():
                errors = [float((got.double() - true).square().mean().sqrt()) for got in (made, eager)]
                slack = torch.finfo(made.dtype).eps / 2 + 2 * torch.finfo(torch.float32).eps
                assert errors[0] <= 1.5 * errors[1] + slack * float(true.square().mean().sqrt())


@settings(deadline=None, max_examples=50)
@given(LENGTHS, st.sampled_from(host.HEAD_SIZES), st.integers(1, 3), st.booleans(), DTYPES, st.integers(0, 99))
@example([2048], 32, 1, True, torch.bfloat16, 0)
def test_attention(lengths: list[int], size: int, heads: int, qk_norm: bool, dtype: torch.dtype, seed: int) -> None:
    lengths = many(lengths)
    packing = Packing.from_lengths(lengths)
    qkv = 3 * random(sum(lengths), 3, heads, size, seed=seed, dtype=dtype)
    assert_no_worse(
        lambda qkv: [packed_attention(qkv, packing, qk_norm=qk_norm, impl="rust")],
        lambda qkv: [reference.attention(qkv, packing, qk_norm)],
        qkv,
    )


@settings(deadline=None, max_examples=50)
@given(LENGTHS, st.integers(1, 70), DTYPES, st.booleans(), st.integers(0, 99))
def test_adaln_and_gates(lengths: list[int], width: int, dtype: torch.dtype, shared: bool, seed: int) -> None:
    lengths = many(lengths)
    packing, systems, tokens = Packing.from_lengths(lengths), len(lengths), sum(lengths)
    rows = torch.arange(systems, dtype=torch.int32) % 2 if shared else None
    x, y = 5 + random(tokens, width, seed=seed), random(tokens, width, seed=seed + 1, dtype=dtype)
    modulation = random(max(systems, 2), 3, width, seed=seed + 2)
    before = x.clone()

    def ours(x: Tensor, y: Tensor, modulation: Tensor) -> list[Tensor]:
        gate, scale, shift = modulation.unbind(1)  # slices of a wider tensor
        where = {"packing": packing, "rows_S": rows, "impl": "rust"}
        both = gate_adaln(x, y, gate, scale, shift, **where)
        alone = (gate_residual(x, y, gate, **where), adaln(x, scale, shift, dtype=dtype, **where))
        torch.testing.assert_close(alone[0], both[0], rtol=0, atol=0)
        return [*both, *alone]

    def plain(x: Tensor, y: Tensor, modulation: Tensor) -> list[Tensor]:
        gate, scale, shift = modulation.unbind(1)
        both = reference.gate_adaln(x, y, gate, scale, shift, packing, rows, y.dtype)
        return [*both, both[0], reference.adaln(x, scale, shift, packing, rows, y.dtype)]

    assert_no_worse(ours, plain, x, y, modulation)
    assert torch.equal(x, before)  # a result is another tensor


def test_other_types_go_by_float32() -> None:
    packing = Packing.from_lengths([3, 2])
    x, y, modulation = random(5, 8, seed=0), random(5, 8, seed=1), random(2, 8, seed=2)
    with torch.no_grad():
        for impl in ("rust", "reference"):
            total, h = gate_adaln(x.bfloat16(), y.half(), modulation, modulation, modulation, packing, impl=impl)  # type: ignore[arg-type]
            normed = adaln(x, modulation, modulation, packing, dtype=torch.float16, impl=impl)  # type: ignore[arg-type]
            assert (total.dtype, h.dtype, normed.dtype) == (torch.bfloat16, torch.float16, torch.float16)
            exact = reference.adaln(x.double(), modulation.double(), modulation.double(), packing, None, torch.double)
            torch.testing.assert_close(normed.double(), exact, rtol=2e-3, atol=2e-3)


@settings(deadline=None, max_examples=50)
@given(LENGTHS, st.sampled_from([(1, 16), (2, 32), (3, 64)]), st.integers(0, 3), DTYPES, st.booleans())
@example([1], (2, 32), 1, torch.bfloat16, False)
def test_a_stack_of_blocks(
    lengths: list[int], heads: tuple[int, int], layers: int, dtype: torch.dtype, qk_norm: bool
) -> None:
    lengths = many(lengths)
    packing, width = Packing.from_lengths(lengths), heads[0] * heads[1]
    inner = (2 + 2 * qk_norm) * width
    sizes = [(3 * width, width), (width, width), (inner, width), (width, inner)]
    shapes = [shape for size in sizes for shape in (size, size[:1])] * layers
    weights = [random(*shape, seed=k, dtype=dtype) / shape[-1] ** 0.5 for k, shape in enumerate(shapes)]
    x = random(sum(lengths), width, seed=1)
    modulation = random(layers, 1, 6, width, seed=2)
    rows = torch.zeros(len(lengths), dtype=torch.int32)

    def ours(x: Tensor, modulation: Tensor, *weights: Tensor) -> list[Tensor]:
        of = [BlockWeights(*weights[8 * k : 8 * k + 8]) for k in range(layers)]
        return [dit_stack(x, modulation, of, packing, heads[0], qk_norm=qk_norm, rows_S=rows, impl="rust")]

    def plain(x: Tensor, modulation: Tensor, *weights: Tensor) -> list[Tensor]:
        of = [weights[8 * k : 8 * k + 8] for k in range(layers)]
        return [reference.dit_stack(x, modulation, of, packing, heads[0], qk_norm, rows)]

    assert_no_worse(ours, plain, x, modulation, *weights)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gelu(dtype: torch.dtype) -> None:
    values = torch.linspace(-12, 12, 4001).to(dtype)[:, None].repeat(1, 3)
    bias = torch.tensor([0.0, 0.5, -2.0], dtype=dtype)
    made = values.clone()
    _rust.gelu(host._array(made), host._array(bias))
    true = torch.nn.functional.gelu((values + bias.double()).double())
    assert (made.double() - true).abs().max() <= torch.finfo(dtype).eps / 2 * 14 + 2e-7 * 14


def test_all_of_the_output_is_written() -> None:
    """With any number of threads, the same."""
    lengths = [33, 0, 1, 70, 5] * 5
    offsets, tokens = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32), sum(lengths)
    qkv = np.random.default_rng(0).normal(size=(tokens, 96)).astype(np.float32)
    rows, modulation = np.zeros(len(lengths), np.int32), np.ones((1, 32), np.float32)
    found = []
    for threads in (1, 2, 5):
        mixed, normed, x = np.full((2, tokens, 32), np.nan, np.float32), None, qkv[:, :32].copy()
        mixed, normed = mixed
        _rust.attention(qkv, None, mixed, offsets, 2, True, threads)
        _rust.gate_adaln(x, offsets, rows, scale=modulation, shift=modulation, out=normed, threads=threads)
        assert np.isfinite(mixed).all() and np.isfinite(normed).all()
        found.append((mixed, normed))
    for other in found[1:]:
        np.testing.assert_array_equal(found[0], other)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_stays_in_its_system(value: float) -> None:
    lengths = [5, 18, 5]
    packing = Packing.from_lengths(lengths)
    qkv = random(28, 3, 2, 32, seed=0)
    with torch.no_grad():
        right = packed_attention(qkv, packing, qk_norm=True, impl="rust")
        for token in (5, 22):
            spoilt = qkv.clone()
            spoilt[token] = value
            made = packed_attention(spoilt, packing, qk_norm=True, impl="rust")
            assert not made[5:23].isfinite().all()
            torch.testing.assert_close(made[:5], right[:5], rtol=0, atol=0)
            torch.testing.assert_close(made[23:], right[23:], rtol=0, atol=0)


def test_logits_and_values_without_measure() -> None:
    """A weight that is next to nothing is no danger, nor is a query that is nothing at all."""
    qkv = torch.zeros(3, 3, 1, 16)
    qkv[0, 0], qkv[1, 1], qkv[:, 2] = 1e4, 1e4, torch.tensor([[1.0], [2.0], [3.0]])[:, None]
    with torch.no_grad():
        made = packed_attention(qkv, Packing.from_lengths([3]), impl="rust")[:, 0, 0]
        normed = packed_attention(qkv, Packing.from_lengths([3]), qk_norm=True, impl="rust")[:, 0, 0]
    torch.testing.assert_close(made, torch.tensor([2.0, 2.0, 2.0]))
    torch.testing.assert_close(normed[1:], torch.tensor([2.0, 2.0]))


def test_rust_by_name_says_why_it_cannot_run() -> None:
    packing = Packing.from_lengths([5])
    with pytest.raises(BackendUnavailableError, match="no backward pass"):
        packed_attention(torch.zeros(5, 3, 1, 32), packing, impl="rust")
    with torch.no_grad():
        with pytest.raises(BackendUnavailableError, match="heads of 16, 32, 64, 128, not 8"):
            packed_attention(torch.zeros(5, 3, 1, 8), packing, impl="rust")
        with pytest.raises(BackendUnavailableError, match="float32 and bfloat16, not float16"):
            packed_attention(torch.zeros(5, 3, 1, 32).half(), packing, impl="rust")


def test_gradients_are_recorded_where_they_are_wanted() -> None:
    """`auto` leaves it to plain torch then."""
    qkv = random(5, 3, 1, 32, seed=0).requires_grad_()
    packed_attention(qkv, Packing.from_lengths([5])).sum().backward()  # type: ignore[no-untyped-call]
    assert qkv.grad is not None and qkv.grad.abs().max() > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": np.array([3], np.int32)}, r"`rows\[0\]` must be 0 to 1; got 3"),
        ({"rows": np.array([-1], np.int32)}, r"`rows\[0\]` must be 0 to 1"),
        ({"offsets": np.array([0, 9], np.int32)}, "`x` must have 36 entries; got 20"),
        ({"offsets": np.array([0, 5, 4], np.int32)}, "`offsets` must begin with 0 and never fall"),
        ({"out": np.zeros((5, 3), np.float32)}, "`out` must have 20 entries"),
        ({"scale": np.zeros((2, 4))}, "`scale` must be a C-contiguous numpy array of dtype float32"),
        ({"threads": 0}, "`threads` must be 1 to 1024"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(change: dict[str, object], message: str) -> None:
    x, part = np.zeros((5, 4), np.float32), np.zeros((2, 4), np.float32)
    arguments = {
        "x": x, "offsets": np.array([0, 5], np.int32), "rows": np.array([1], np.int32), "scale": part, "shift": part,
        "out": np.zeros((5, 4), np.float32),
    }  # fmt: skip
    with pytest.raises(InvalidInputError, match=message):
        _rust.gate_adaln(**(arguments | change))  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match=r"`out` cannot be read now: .* already borrowed"):
        _rust.gate_adaln(**(arguments | {"out": x}))  # type: ignore[arg-type]
