"""Packed attention, forward and backward, against float64."""

import oracle
import pytest
import torch

import adit_kernels
from adit_kernels import configs

SHORT = {
    "odd": [5, 1, 12, 0, 7],
    "one atom each": [1] * 40,
    "empty systems at both ends": [0, 0, 4, 0],
    "as long as they may be": [29, 29, 1, 29],
    "no tokens": [0, 0],
    "no systems": [],
}
LONG = {"short and long": [3, 70, 1, 0, 33], "one": [130]}


def check(lengths, size, qk_norm, dtype, heads=2):
    offsets, system = oracle.layout(lengths)
    generator = torch.Generator().manual_seed(0)
    qkv = torch.randn(sum(lengths), 3, heads, size, generator=generator).to(dtype)
    longest = max(lengths, default=0)
    oracle.assert_no_worse_than_eager(
        lambda qkv: [adit_kernels.attention(qkv, offsets, system, longest, qk_norm)],
        lambda qkv: [oracle.attention(qkv, lengths, qk_norm)],
        [qkv],
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("lengths", SHORT.values(), ids=SHORT)
def test_several_systems_per_program(lengths, dtype):
    check(lengths, 32, False, dtype)
    check(lengths, 64, True, dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_systems_that_fill_a_program_of_128(dtype):
    check([64, 1, 40, 33], 32, True, dtype, heads=1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("lengths", LONG.values(), ids=LONG)
def test_long_systems(lengths, dtype):
    check(lengths, 32, True, dtype)
    check(lengths, 64, False, dtype, heads=1)


@pytest.mark.parametrize("lengths", SHORT.values(), ids=SHORT)
def test_tiles_take_short_systems_too(lengths):
    with configs.override(short=(), long=configs.LongAttention(queries=16, keys=32)):
        check(lengths, 32, True, torch.float32)


@pytest.mark.slow
def test_two_thousand_tokens():
    check([2048, 5], 64, True, torch.float32, heads=1)


def test_a_bound_above_the_longest_system_changes_nothing():
    """A captured graph passes the bound of its bucket."""
    lengths = [5, 1, 7]
    offsets, system = oracle.layout(lengths)
    qkv = torch.randn(13, 3, 2, 32, generator=torch.Generator().manual_seed(0))
    true = oracle.attention(qkv.double(), lengths, False)
    for bound in (7, 12, 31, 64, 500):
        got = adit_kernels.attention(qkv, offsets, system, bound)
        assert (got - true).abs().max() < 2e-6


def test_systems_do_not_see_each_other():
    """Not even through a NaN."""
    offsets, system = oracle.layout([5, 3, 6])
    qkv = torch.randn(14, 3, 1, 32, generator=torch.Generator().manual_seed(0))
    alone = adit_kernels.attention(qkv, offsets, system, 6)
    qkv[5:8] *= 100
    assert torch.equal(adit_kernels.attention(qkv, offsets, system, 6)[8:], alone[8:])
    assert torch.equal(adit_kernels.attention(qkv, offsets, system, 6)[:5], alone[:5])


def test_large_logits_do_not_overflow():
    offsets, system = oracle.layout([5, 3])
    qkv = 100 * torch.randn(8, 3, 1, 32, generator=torch.Generator().manual_seed(0))
    true = oracle.attention(qkv.double(), [5, 3], False)
    for bound in (5, 500):
        assert (adit_kernels.attention(qkv, offsets, system, bound) - true).abs().max() < 0.02


def test_zero_vectors_under_qk_norm():
    """As `torch.nn.functional.normalize`: they stay zero, and gradients stay finite."""
    offsets, system = oracle.layout([3])
    qkv = torch.zeros(3, 3, 1, 32, requires_grad=True)
    out = adit_kernels.attention(qkv, offsets, system, 3, True)
    out.sum().backward()
    assert torch.equal(out, torch.zeros_like(out))
    assert qkv.grad.isfinite().all()


def test_other_head_sizes_are_refused():
    offsets, system = oracle.layout([3])
    with pytest.raises(ValueError, match=r"32 or 64.*got \(3, 3, 1, 48\)"):
        adit_kernels.attention(torch.zeros(3, 3, 1, 48), offsets, system, 3)
