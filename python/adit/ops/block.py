"""DiT blocks over packed tokens.

Shape suffixes: T tokens, S systems, R rows of modulation, D width, L layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from adit.errors import InvalidInputError
from adit.ops import reference
from adit.ops.dispatch import Impl, kernels
from adit.ops.packing import Packing


class BlockWeights(NamedTuple):
    """The weights of one block, (outputs, inputs) as in `torch.nn.Linear`, and their biases; all of one type."""

    qkv: Tensor
    qkv_bias: Tensor
    out: Tensor
    out_bias: Tensor
    up: Tensor
    up_bias: Tensor
    down: Tensor
    down_bias: Tensor


def dit_stack(
    x_TD: Tensor, modulation_LR6D: Tensor, weights: Sequence[BlockWeights], packing: Packing, heads: int, *,
    qk_norm: bool = False, rows_S: Tensor | None = None, impl: Impl = "auto",
) -> Tensor:  # fmt: skip
    """AdaLN-zero Transformer blocks (arXiv 2212.09748) one after another: (T, D) in the type of `x`.

    Args:
        x_TD: packed tokens, the residual stream; may be wider than the weights' type.
        modulation_LR6D: per layer, shift, scale and gate of the attention half, then of the feed-forward half.
        weights: of L layers.
        packing: where the systems lie.
        heads: of attention; see `packed_attention` for the sizes that kernels take.
        qk_norm: queries and keys are normalised and multiplied by sqrt(D / heads).
        rows_S: int32, the row of modulation of each system; None if system s takes row s.
        impl: see `adit.ops.dispatch.kernels`.

    Raises:
        BackendUnavailableError: for impl="triton" or "rust" where it cannot run.
        InvalidInputError: if `x` does not fit the packing, or `heads` the width.
    """
    packing.check(x_TD, "x")
    width = x_TD.shape[1]
    if heads < 1 or width % heads:
        raise InvalidInputError(f"`heads` must divide the width {width}; got {heads}")
    if module := kernels(impl, x_TD, width // heads):
        out: Tensor = module.dit_stack(
            x_TD, modulation_LR6D, weights, packing.offsets, packing.system,
            packing.max_length, heads, qk_norm, rows_S,
        )  # fmt: skip
        return out
    return reference.dit_stack(x_TD, modulation_LR6D, weights, packing, heads, qk_norm, rows_S)
