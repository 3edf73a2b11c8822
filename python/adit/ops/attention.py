"""Attention within each system."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Softmax attention among the N atoms of each of B systems; each of shape (B, heads, N, d), as is the result.

    On a CPU the two products and the softmax are written out: for these short sequences the backward
    pass of `scaled_dot_product_attention` in bfloat16 is many times slower than the products themselves.
    """
    if query.device.type != "cpu":
        return F.scaled_dot_product_attention(query, key, value)
    logits = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    return torch.softmax(logits.float(), -1).to(value.dtype) @ value
