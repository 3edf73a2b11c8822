"""DiT blocks, forward and backward, against float64."""

import oracle
import pytest
import torch

import adit_kernels
from adit_kernels import BlockWeights


def weights(width, dtype, generator):
    sizes = [(3 * width, width), (width, width), (4 * width, width), (width, 4 * width)]
    pairs = [
        (torch.randn(o, i, generator=generator) * i**-0.5, 0.1 * torch.randn(o, generator=generator)) for o, i in sizes
    ]
    return [value.to(dtype) for pair in pairs for value in pair]


def check(lengths, width, heads, dtype, rows=None, qk_norm=True, layers=1):
    offsets, system = oracle.layout(lengths)
    generator = torch.Generator().manual_seed(0)
    systems = len(lengths) if rows is None else 3
    x = torch.randn(sum(lengths), width, generator=generator).to(dtype)
    modulation = (0.5 * torch.randn(layers, systems, 6, width, generator=generator)).to(dtype)
    flat = [value for _ in range(layers) for value in weights(width, dtype, generator)]

    def ours(x, modulation, *flat):
        of = [BlockWeights(*flat[8 * k : 8 * k + 8]) for k in range(layers)]
        where = (offsets, system, max(lengths, default=0), heads, qk_norm, rows)
        return [adit_kernels.dit_stack(x, modulation, of, *where)]

    def plain(x, modulation, *flat):
        for k in range(layers):
            x = oracle.block(x, modulation[k], flat[8 * k : 8 * k + 8], lengths, rows, heads, qk_norm)
        return [x]

    oracle.assert_no_worse_than_eager(ours, plain, [x, modulation, *flat])


def test_float32():
    check([5, 1, 12, 0, 7], 64, 2, torch.float32)


def test_float16_with_shared_rows():
    check([5, 1, 12, 0, 7], 192, 3, torch.float16, torch.tensor([1, 0, 2, 1, 1], dtype=torch.int32), False)


@pytest.mark.parametrize("lengths", [[], [0, 0], [1]], ids=str)
def test_next_to_nothing(lengths):
    check(lengths, 64, 1, torch.float32)


def test_two_layers_share_the_norm_between_them():
    check([5, 1, 3], 64, 2, torch.float32, layers=2)


def test_long_systems():
    check([70, 3], 64, 2, torch.float32)


def test_a_wide_residual_stream_with_narrow_weights():
    """float32 in, float32 out, and nearer to the truth than all in float16."""
    lengths = [5, 1, 12]
    offsets, system = oracle.layout(lengths)
    generator = torch.Generator().manual_seed(0)
    x, modulation = torch.randn(18, 64, generator=generator), torch.randn(3, 6, 64, generator=generator)
    of = weights(64, torch.float16, generator)
    where = (offsets, system, 12, 2, True, None)
    wide = adit_kernels.dit_block(x, modulation, BlockWeights(*of), *where)
    narrow = adit_kernels.dit_block(x.half(), modulation.half(), BlockWeights(*of), *where)
    true = oracle.block(x.double(), modulation.double(), [w.double() for w in of], lengths, None, 2, True)
    assert wide.dtype == torch.float32
    assert (wide - true).square().mean() < (narrow - true).square().mean()


@pytest.mark.parametrize("heads", [0, 1, 4, 5])
def test_heads_of_other_sizes_are_refused(heads):
    offsets, system = oracle.layout([3])
    of = BlockWeights(*weights(96, torch.float32, None))
    with pytest.raises(ValueError, match=f"`heads` must divide the width 96 .* got {heads}"):
        adit_kernels.dit_block(torch.zeros(3, 96), torch.zeros(1, 6, 96), of, offsets, system, 3, heads)
