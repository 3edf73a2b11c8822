"""Which implementation of a packed operation runs: the Triton kernels of `adit-kernels`, or plain torch."""

from __future__ import annotations

import importlib
import logging
from functools import cache
from types import ModuleType
from typing import Literal, get_args

import torch
from torch import Tensor

from adit.errors import BackendUnavailableError, InvalidInputError

Impl = Literal["auto", "triton", "reference"]

BFLOAT16_CAPABILITY = (8, 0)
"""Of GPUs that multiply bfloat16, from Ampere on, for which the kernels are made."""

_log = logging.getLogger("adit.ops")


@cache
def _kernels() -> ModuleType | str:
    """The kernels' module, or why it cannot be imported."""
    try:
        return importlib.import_module("adit_kernels")
    except ImportError as error:
        return f"{error} (`pip install ./kernels` in adit's repository)"


def _interpreted() -> bool:
    """Whether Triton runs kernels on the CPU, one instruction at a time, as tests do."""
    return bool(importlib.import_module("triton").knobs.runtime.interpret)


def why_not_triton(like: Tensor) -> str | None:
    """Why the kernels cannot take a tensor such as `like`; None if they can."""
    if isinstance(reason := _kernels(), str):
        return reason
    if like.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        return f"the kernels take float32, bfloat16 and float16, not {str(like.dtype).removeprefix('torch.')}"
    if like.device.type != "cuda" and not _interpreted():
        return f"the kernels need a CUDA device, and the tensors are on {like.device}"
    if like.device.type == "cuda" and (found := torch.cuda.get_device_capability(like.device)) < BFLOAT16_CAPABILITY:
        return f"the kernels need a GPU of compute capability 8.0 or more, and {like.device} has {found[0]}.{found[1]}"
    return None


@cache
def _say(took: str, why: str) -> None:
    """Once per choice and reason."""
    _log.info("packed operations: impl='auto' took %s%s", took, why)


def kernels(impl: Impl, like: Tensor, limit: str | None = None) -> ModuleType | None:
    """The module `adit_kernels` if it is to run, or None for the reference.

    Args:
        impl: "auto" takes the kernels where they can run and says in the log, once, what it took.
        like: one of the tensors that they would take.
        limit: a reason why these kernels cannot take this call, beyond what `like` tells.

    Raises:
        BackendUnavailableError: for "triton" where it cannot run; with the reason.
        InvalidInputError: for an unknown `impl`.
    """
    if impl not in get_args(Impl):
        raise InvalidInputError(f"`impl` must be one of {', '.join(get_args(Impl))}; got {impl!r}")
    if impl == "reference":
        return None
    reason = limit or why_not_triton(like)
    if reason is None:
        if impl == "auto":
            _say("the Triton kernels", "")
        module = _kernels()
        assert isinstance(module, ModuleType)
        return module
    if impl == "triton":
        raise BackendUnavailableError(f"impl='triton' cannot run: {reason}; impl='reference' can")
    _say("plain torch", f": {reason}")
    return None
