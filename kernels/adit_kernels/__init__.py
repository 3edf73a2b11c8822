"""Triton kernels for Diffusion Transformers over many short packed sequences; needs torch and triton only."""

from adit_kernels.adaln import adaln, gate_adaln, gate_residual
from adit_kernels.attention import attention
from adit_kernels.block import BlockWeights, check_fusion, dit_block, dit_stack
from adit_kernels.configs import FUSION_LEVELS

__all__ = [
    "FUSION_LEVELS",
    "BlockWeights",
    "adaln",
    "attention",
    "check_fusion",
    "dit_block",
    "dit_stack",
    "gate_adaln",
    "gate_residual",
]
