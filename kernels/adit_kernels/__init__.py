"""Triton kernels for Diffusion Transformers over many short packed sequences; needs torch and triton only."""

from adit_kernels.adaln import adaln, gate_adaln, gate_residual
from adit_kernels.attention import attention

__all__ = ["adaln", "attention", "gate_adaln", "gate_residual"]
