"""AdaLN and gated residuals over packed tokens.

Shape suffixes: T tokens, S systems, R rows of modulation, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from adit.ops import reference
from adit.ops.dispatch import Impl, kernels
from adit.ops.packing import Packing


def adaln(
    x_TD: Tensor, scale_RD: Tensor, shift_RD: Tensor, packing: Packing, rows_S: Tensor | None = None, *,
    dtype: torch.dtype | None = None, impl: Impl = "auto",
) -> Tensor:  # fmt: skip
    """layer_norm(x) (1 + scale) + shift: (T, D) in `dtype`, or that of `x`.

    Args:
        x_TD: packed tokens.
        scale_RD, shift_RD: one row per system, or per row that `rows_S` names; slices of a wider tensor are fine.
        packing: where the systems lie.
        rows_S: int32, the row of modulation of each system; None if system s takes row s.
        dtype: of the result; residual streams may be wider than what the next product takes.
        impl: see `adit.ops.dispatch.kernels`.

    Raises:
        BackendUnavailableError: for impl="triton" or "rust" where it cannot run.
        InvalidInputError: if `x` does not fit the packing.
    """
    packing.check(x_TD, "x")
    if module := kernels(impl, x_TD):
        out: Tensor = module.adaln(
            x_TD, scale_RD, shift_RD, packing.offsets, packing.system, packing.max_length, rows_S, dtype
        )
        return out
    return reference.adaln(x_TD, scale_RD, shift_RD, packing, rows_S, dtype or x_TD.dtype)


def gate_residual(
    x_TD: Tensor, y_TD: Tensor, gate_RD: Tensor, packing: Packing, rows_S: Tensor | None = None, *,
    impl: Impl = "auto",
) -> Tensor:  # fmt: skip
    """x + gate y: (T, D) in the type of `x`. Arguments and errors as for `adaln`."""
    packing.check(x_TD, "x")
    if module := kernels(impl, x_TD):
        out: Tensor = module.gate_residual(
            x_TD, y_TD, gate_RD, packing.offsets, packing.system, packing.max_length, rows_S
        )
        return out
    return reference.gate_residual(x_TD, y_TD, gate_RD, packing, rows_S)


def gate_adaln(
    x_TD: Tensor, y_TD: Tensor, gate_RD: Tensor, scale_RD: Tensor, shift_RD: Tensor, packing: Packing,
    rows_S: Tensor | None = None, *, dtype: torch.dtype | None = None, impl: Impl = "auto",
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """x + gate y in the type of `x`, and the AdaLN of that in `dtype`, or that of `y`: in one pass over memory.

    Arguments and errors as for `adaln`.
    """
    packing.check(x_TD, "x")
    if module := kernels(impl, x_TD):
        where = (packing.offsets, packing.system, packing.max_length, rows_S)
        x_out, h = module.gate_adaln(x_TD, y_TD, gate_RD, scale_RD, shift_RD, *where, dtype)
        return x_out, h
    return reference.gate_adaln(x_TD, y_TD, gate_RD, scale_RD, shift_RD, packing, rows_S, dtype or y_TD.dtype)
