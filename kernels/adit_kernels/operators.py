"""When a kernel goes through its torch operator."""

from __future__ import annotations

import torch


def direct() -> bool:
    """Whether nothing differentiates or traces, so that a kernel can be launched without its operator.

    The first call of any `torch.library.custom_op` imports torch._dynamo, a second of a short run.
    """
    return not torch.is_grad_enabled() and not torch.compiler.is_compiling()
