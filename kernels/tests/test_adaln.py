"""AdaLN and gates, forward and backward, against float64."""

import oracle
import pytest
import torch

import adit_kernels
from adit_kernels import configs

LENGTHS = {
    "odd": [5, 1, 13, 0, 7],
    "one atom each": [1] * 9,
    "empty systems at both ends": [0, 0, 4, 0],
    "one system": [29],
    "no tokens": [0, 0],
    "no systems": [],
}


def tensors(lengths, width, dtype, rows):
    """x, y and (R, 3 width) of gate, scale, shift."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(sum(lengths), width), (sum(lengths), width), (len(lengths) if rows is None else 3, 3 * width)]
    return [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]


def check(lengths, width, dtype, rows):
    """All three functions at once, with the modulation as slices of one tensor."""
    offsets, system = oracle.layout(lengths)
    where = (offsets, system, max(lengths, default=0), rows)

    def ours(x, y, modulation):
        gate, scale, shift = modulation.chunk(3, -1)
        return (
            adit_kernels.adaln(x, scale, shift, *where),
            adit_kernels.gate_residual(x, y, gate, *where),
            *adit_kernels.gate_adaln(x, y, gate, scale, shift, *where),
        )

    def plain(x, y, modulation):
        gate, scale, shift = modulation.chunk(3, -1)
        total = oracle.gate_residual(x, y, gate, lengths, rows)
        after = oracle.adaln(total, scale, shift, lengths, rows)
        return oracle.adaln(x, scale, shift, lengths, rows), total, total, after

    oracle.assert_no_worse_than_eager(ours, plain, tensors(lengths, width, dtype, rows))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
def test_row_per_system(lengths, dtype):
    check(lengths, 48, dtype, None)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_rows_shared_by_systems(dtype):
    check(LENGTHS["odd"], 64, dtype, torch.tensor([1, 0, 2, 1, 1], dtype=torch.int32))


@pytest.mark.parametrize("width", [1, 33, 384])
def test_any_width(width):
    check([3, 1, 2], width, torch.float32, None)


def test_long_systems_are_split_in_the_backward_pass():
    with configs.override(adaln=configs.Elementwise(elements=128, backward_elements=128, split=4, warps=1)):
        check([11, 1, 9], 24, torch.float32, None)
        check([11, 1, 9], 24, torch.float32, torch.tensor([2, 0, 2], dtype=torch.int32))


def test_the_result_may_be_narrower_than_the_residual_stream():
    """And equals the rounded result in float32."""
    offsets, system = oracle.layout([3, 4])
    x, y, modulation = tensors([3, 4], 32, torch.float32, None)
    gate, scale, shift = modulation.chunk(3, -1)
    narrow = adit_kernels.adaln(x, scale, shift, offsets, system, 4, dtype=torch.float16)
    wide = adit_kernels.adaln(x, scale, shift, offsets, system, 4)
    assert torch.equal(narrow, wide.half())
    total, h = adit_kernels.gate_adaln(x, y.half(), gate, scale, shift, offsets, system, 4)
    assert (total.dtype, h.dtype) == (torch.float32, torch.float16)


def test_tokens_with_a_large_mean_keep_their_precision():
    """The variance is that of centred values, not a difference of large squares."""
    offsets, system = oracle.layout([4])
    x = 1000 + torch.randn(4, 64, generator=torch.Generator().manual_seed(0))
    zero = torch.zeros(1, 64)
    got = adit_kernels.adaln(x, zero, zero, offsets, system, 4)
    true = oracle.adaln(x.double(), zero.double(), zero.double(), [4], None)
    assert (got - true).abs().max() < 2e-3
