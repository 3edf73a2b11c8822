"""The packed operations in plain torch against loops over systems in float64; and which implementation runs."""

from __future__ import annotations

import importlib.util
import logging
import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from adit.errors import BackendUnavailableError, InvalidInputError
from adit.models.layers import DiTBlock
from adit.ops import dispatch
from adit.ops.adaln import adaln, gate_adaln, gate_residual
from adit.ops.attention import attention, packed_attention
from adit.ops.block import BlockWeights, dit_stack
from adit.ops.packing import Packing

LENGTHS = {"odd": [5, 1, 0, 13, 7], "one atom each": [1, 1, 1], "no tokens": [0, 0], "no systems": []}
parametrize_lengths = pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)


def random(*shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(len(shape) + sum(shape)))


@parametrize_lengths
@pytest.mark.parametrize("rows", [None, [1, 0, 2, 1, 1]], ids=["row per system", "shared rows"])
def test_adaln_and_gates(lengths: list[int], rows: list[int] | None) -> None:
    packing = Packing.from_lengths(lengths)
    x, y = random(sum(lengths), 12), random(sum(lengths), 12) + 1
    gate, scale, shift = (random(5, 12) + k for k in range(3))
    index = None if rows is None else torch.tensor(rows[: len(lengths)], dtype=torch.int32)
    total, h = gate_adaln(x, y, gate, scale, shift, packing, index)
    for s, (a, b) in enumerate(zip(packing.offsets[:-1], packing.offsets[1:], strict=True)):
        r = s if rows is None else rows[s]
        true = x[a:b] + gate[r] * y[a:b]
        torch.testing.assert_close(total[a:b], true)
        torch.testing.assert_close(h[a:b], F.layer_norm(true, (12,)) * (1 + scale[r]) + shift[r])
    torch.testing.assert_close(total, gate_residual(x, y, gate, packing, index))
    torch.testing.assert_close(h, adaln(total, scale, shift, packing, index))
    assert adaln(x, scale, shift, packing, index, dtype=torch.float16).dtype == torch.float16


@parametrize_lengths
@pytest.mark.parametrize("qk_norm", [False, True])
def test_packed_attention_is_attention_of_each_system(lengths: list[int], qk_norm: bool) -> None:
    """As the models compute it; a bound above the longest system changes nothing."""
    qkv = random(sum(lengths), 3, 2, 8)
    for bound in (None, 20):
        packing = Packing.from_lengths(lengths, max_length=bound)
        out = packed_attention(qkv, packing, qk_norm=qk_norm)
        assert out.shape == (sum(lengths), 2, 8)
        for a, b in zip(packing.offsets[:-1], packing.offsets[1:], strict=True):
            q, k, v = qkv[a:b].permute(1, 2, 0, 3)[:, None]
            if qk_norm:
                q, k = (F.normalize(part, dim=-1) * 8**0.5 for part in (q, k))
            # the models' softmax is in float32
            torch.testing.assert_close(out[a:b], attention(q, k, v)[0].transpose(0, 1), rtol=1e-5, atol=1e-6)


def test_packed_attention_has_the_gradient_of_its_formula() -> None:
    packing = Packing.from_lengths([3, 1, 2])
    qkv = random(6, 3, 1, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda qkv: packed_attention(qkv, packing, qk_norm=True), qkv)


def test_a_stack_of_blocks_is_that_of_the_models() -> None:
    lengths, width = [5, 1, 13], 64
    torch.manual_seed(0)
    blocks = torch.nn.ModuleList(DiTBlock(width, 2, True) for _ in range(2))
    for block in blocks:
        torch.nn.init.normal_(block.modulation.weight, std=0.1)
    condition = torch.randn(len(lengths), width)
    packing, x = Packing.from_lengths(lengths), torch.randn(sum(lengths), width)
    modulation = torch.stack([block.modulation(condition).view(len(lengths), 6, width) for block in blocks])
    linears = [(b.attention.qkv, b.attention.out, b.feed_forward.up, b.feed_forward.down) for b in blocks]
    weights = [BlockWeights(*(t for linear in four for t in (linear.weight, linear.bias))) for four in linears]
    out = dit_stack(x, modulation, weights, packing, 2, qk_norm=True)
    for s, part in enumerate(x.split(lengths)):
        y = part[None]
        for block in blocks:
            y = block(y, block.modulation(condition[s, None]).unflatten(-1, (6, -1)))
        torch.testing.assert_close(out[packing.system == s], y[0], rtol=1e-4, atol=1e-5)


def test_packing_knows_its_layout() -> None:
    packing = Packing.from_lengths([2, 0, 3])
    assert packing.offsets.tolist() == [0, 2, 2, 5]
    assert packing.system.tolist() == [0, 0, 2, 2, 2]
    assert (packing.systems, packing.max_length) == (3, 3)


@pytest.mark.parametrize("lengths", [[-1, 2], [9]])
def test_lengths_out_of_range_are_refused(lengths: list[int]) -> None:
    with pytest.raises(InvalidInputError, match="from 0 to 8"):
        Packing.from_lengths(lengths, max_length=8)


def test_shapes_that_do_not_fit_are_refused() -> None:
    packing = Packing.from_lengths([2, 3])
    with pytest.raises(InvalidInputError, match="5 tokens; got \\(4, 3, 1, 32\\)"):
        packed_attention(torch.zeros(4, 3, 1, 32), packing)
    with pytest.raises(InvalidInputError, match=r"\(T, 3, heads, head size\); got \(5, 32\)"):
        packed_attention(torch.zeros(5, 32), packing)
    with pytest.raises(InvalidInputError, match="auto, triton, rust, reference; got 'cuda'"):
        packed_attention(torch.zeros(5, 3, 1, 32), packing, impl="cuda")  # type: ignore[arg-type]


@pytest.mark.skipif(importlib.util.find_spec("adit_kernels") is None, reason="adit-kernels is not installed")
def test_triton_by_name_raises_on_a_cpu() -> None:
    with pytest.raises(BackendUnavailableError, match="need a CUDA device, and the tensors are on cpu"):
        packed_attention(torch.zeros(5, 3, 1, 32), Packing.from_lengths([5]), impl="triton")
    with pytest.raises(BackendUnavailableError, match="heads of 32 and 64, not 8"):
        packed_attention(torch.zeros(5, 3, 1, 8), Packing.from_lengths([5]), impl="triton")
    with pytest.raises(BackendUnavailableError, match="not float64"):
        packed_attention(torch.zeros(5, 3, 1, 32).double(), Packing.from_lengths([5]), impl="triton")


def test_auto_says_once_what_it_took(caplog: pytest.LogCaptureFixture) -> None:
    dispatch._say.cache_clear()
    packing, qkv = Packing.from_lengths([5]), torch.zeros(5, 3, 1, 8)
    with caplog.at_level(logging.INFO, "adit.ops"):
        packed_attention(qkv, packing)
        packed_attention(qkv, packing)
        packed_attention(qkv, packing, impl="reference")
    assert [record.message for record in caplog.records] == [
        "packed operations: impl='auto' took plain torch: the Rust kernels have no backward pass: they run under "
        "torch.no_grad() alone, and not compiled"
    ]
    with caplog.at_level(logging.INFO, "adit.ops"), torch.no_grad():
        packed_attention(torch.zeros(5, 3, 1, 32), packing)
    assert caplog.records[-1].message == "packed operations: impl='auto' took the Rust kernels"


BLOCKED = """
import sys
sys.modules.update(dict.fromkeys(["triton", "adit_kernels"]))
import torch
from adit.errors import BackendUnavailableError
from adit.ops.attention import packed_attention
from adit.ops.packing import Packing
packing, qkv = Packing.from_lengths([2]), torch.zeros(2, 3, 1, 32)
packed_attention(qkv, packing)
try:
    packed_attention(qkv, packing, impl="triton")
except BackendUnavailableError as error:
    print(error)
"""

INTERPRETED = """
import torch
from adit.ops.adaln import adaln, gate_adaln, gate_residual
from adit.ops.attention import packed_attention
from adit.ops.block import BlockWeights, dit_stack
from adit.ops.packing import Packing
torch.manual_seed(0)
packing, width = Packing.from_lengths([3, 1, 4]), 64
x, y, m = torch.randn(8, width), torch.randn(8, width), torch.randn(1, 3, 6, width)
shapes = [(192, 64), (192,), (64, 64), (64,), (256, 64), (256,), (64, 256), (64,)]
of = [BlockWeights(*(0.1 * torch.randn(shape) for shape in shapes))]
rows = torch.tensor([2, 0, 1], dtype=torch.int32)
gate, scale, shift = m[0, :, :3].unbind(1)
for a, b in zip(*(
    [
        adaln(x, scale, shift, packing, rows, impl=impl),
        gate_residual(x, y, gate, packing, rows, impl=impl),
        *gate_adaln(x, y, gate, scale, shift, packing, rows, impl=impl),
        packed_attention(x.view(8, 1, 1, 64).repeat(1, 3, 2, 1), packing, impl=impl),
        dit_stack(x, m, of, packing, 2, qk_norm=True, rows_S=rows, impl=impl),
    ] for impl in ("triton", "reference")
), strict=True):
    torch.testing.assert_close(a, b)
print("same")
"""


def run(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_without_triton_the_reference_runs_and_triton_by_name_says_why() -> None:
    out = run(BLOCKED)
    assert "impl='triton' cannot run" in out
    assert "pip install ./kernels" in out


@pytest.mark.skipif(importlib.util.find_spec("adit_kernels") is None, reason="adit-kernels is not installed")
def test_both_implementations_agree() -> None:
    """The kernels under Triton's interpreter, through `adit.ops`."""
    assert run(INTERPRETED, TRITON_INTERPRET="1") == "same\n"
