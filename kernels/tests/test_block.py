"""A DiT block at every level of fusion, forward and backward, against float64."""

import oracle
import pytest
import torch

import adit_kernels
from adit_kernels import FUSION_LEVELS, BlockWeights


def weights(width, dtype, generator):
    sizes = [(3 * width, width), (width, width), (4 * width, width), (width, 4 * width)]
    pairs = [
        (torch.randn(o, i, generator=generator) * i**-0.5, 0.1 * torch.randn(o, generator=generator)) for o, i in sizes
    ]
    return [value.to(dtype) for pair in pairs for value in pair]


def check(fusion, lengths, width, heads, dtype, rows=None, qk_norm=True, layers=1):
    offsets, system = oracle.layout(lengths)
    generator = torch.Generator().manual_seed(0)
    systems = len(lengths) if rows is None else 3
    x = torch.randn(sum(lengths), width, generator=generator).to(dtype)
    modulation = (0.5 * torch.randn(layers, systems, 6, width, generator=generator)).to(dtype)
    flat = [value for _ in range(layers) for value in weights(width, dtype, generator)]

    def ours(x, modulation, *flat):
        of = [BlockWeights(*flat[8 * k : 8 * k + 8]) for k in range(layers)]
        where = (offsets, system, max(lengths, default=0), heads, qk_norm, rows, fusion)
        return [adit_kernels.dit_stack(x, modulation, of, *where)]

    def plain(x, modulation, *flat):
        for k in range(layers):
            x = oracle.block(x, modulation[k], flat[8 * k : 8 * k + 8], lengths, rows, heads, qk_norm)
        return [x]

    oracle.assert_no_worse_than_eager(ours, plain, [x, modulation, *flat])


@pytest.mark.parametrize("fusion", FUSION_LEVELS)
def test_float32(fusion):
    check(fusion, [5, 1, 12, 0, 7], 64, 2, torch.float32)


@pytest.mark.parametrize("fusion", FUSION_LEVELS)
def test_float16_with_rows_in_two_pieces(fusion):
    check(fusion, [5, 1, 12, 0, 7], 192, 3, torch.float16, torch.tensor([1, 0, 2, 1, 1], dtype=torch.int32), False)


@pytest.mark.parametrize("fusion", FUSION_LEVELS)
@pytest.mark.parametrize("lengths", [[], [0, 0], [1]], ids=str)
def test_next_to_nothing(fusion, lengths):
    check(fusion, lengths, 64, 1, torch.float32)


def test_two_layers_share_the_norm_between_them():
    check(0, [5, 1, 3], 64, 2, torch.float32, layers=2)


@pytest.mark.parametrize("fusion", [0, 1])
def test_long_systems(fusion):
    check(fusion, [70, 3], 64, 2, torch.float32)


@pytest.mark.parametrize("fusion", FUSION_LEVELS)
def test_a_wide_residual_stream_with_narrow_weights(fusion):
    """float32 in, float32 out, and nearer to the truth than all in float16."""
    lengths = [5, 1, 12]
    offsets, system = oracle.layout(lengths)
    generator = torch.Generator().manual_seed(0)
    x, modulation = torch.randn(18, 64, generator=generator), torch.randn(3, 6, 64, generator=generator)
    of = weights(64, torch.float16, generator)
    where = (offsets, system, 12, 2, True, None, fusion)
    wide = adit_kernels.dit_block(x, modulation, BlockWeights(*of), *where)
    narrow = adit_kernels.dit_block(x.half(), modulation.half(), BlockWeights(*of), *where)
    true = oracle.block(x.double(), modulation.double(), [w.double() for w in of], lengths, None, 2, True)
    assert wide.dtype == torch.float32
    assert (wide - true).square().mean() < (narrow - true).square().mean()


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((64, 2, 12, 4), "one of"),
        ((64, 3, 12, 0), "heads"),
        ((1024, 16, 12, 1), "up to 512"),
        ((448, 7, 12, 1), "two powers"),
        ((64, 2, 100, 2), "short systems only; got up to 100 tokens: use level 1"),
    ],
)
def test_what_a_level_cannot_do_is_refused(sizes, message):
    width, heads, longest, fusion = sizes
    with pytest.raises(ValueError, match=message):
        adit_kernels.check_fusion(fusion, width, heads, longest)
