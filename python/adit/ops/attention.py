"""Attention within each system."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from adit.errors import InvalidInputError
from adit.ops import reference
from adit.ops.dispatch import Impl, kernels
from adit.ops.packing import Packing


def attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Softmax attention among the N atoms of each of B systems; each of shape (B, heads, N, d), as is the result.

    On a CPU the two products and the softmax are written out: for these short sequences the backward
    pass of `scaled_dot_product_attention` in bfloat16 is many times slower than the products themselves.
    """
    if query.device.type != "cpu":
        return F.scaled_dot_product_attention(query, key, value)
    logits = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    return torch.softmax(logits.float(), -1).to(value.dtype) @ value


def packed_attention(qkv_T3HK: Tensor, packing: Packing, *, qk_norm: bool = False, impl: Impl = "auto") -> Tensor:
    """Softmax attention within each of the packed systems: (T, H, K) in the type of `qkv`.

    Args:
        qkv_T3HK: queries, keys and values of T tokens, H heads of size K; the Triton kernels take K of 32 and 64,
            those in Rust 16 and 128 as well.
        packing: where the systems lie.
        qk_norm: queries and keys are normalised and multiplied by sqrt(K) first.
        impl: see `adit.ops.dispatch.kernels`.

    Raises:
        BackendUnavailableError: for impl="triton" or "rust" where it cannot run.
        InvalidInputError: if `qkv` has another shape.
    """
    packing.check(qkv_T3HK, "qkv")
    if qkv_T3HK.ndim != 4 or qkv_T3HK.shape[1] != 3:
        raise InvalidInputError(f"`qkv` must have shape (T, 3, heads, head size); got {tuple(qkv_T3HK.shape)}")
    if module := kernels(impl, qkv_T3HK, qkv_T3HK.shape[-1]):
        out: Tensor = module.attention(qkv_T3HK, packing.offsets, packing.system, packing.max_length, qk_norm)
        return out
    return reference.attention(qkv_T3HK, packing, qk_norm)
