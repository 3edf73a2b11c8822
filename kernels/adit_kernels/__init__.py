"""Triton kernels for Diffusion Transformers over many short packed sequences; needs torch and triton only."""

from adit_kernels.adaln import adaln, gate_adaln, gate_residual
from adit_kernels.attention import attention
from adit_kernels.block import BlockWeights, dit_block, dit_stack

__all__ = [
    "BlockWeights",
    "adaln",
    "attention",
    "dit_block",
    "dit_stack",
    "gate_adaln",
    "gate_residual",
]
