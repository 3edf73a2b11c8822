"""Which implementation of a packed operation runs: Triton kernels (`adit-kernels`), Rust, or plain torch."""

from __future__ import annotations

import importlib
import logging
from functools import cache
from types import ModuleType
from typing import Literal, get_args

import torch
from torch import Tensor

from adit.errors import BackendUnavailableError, InvalidInputError

Impl = Literal["auto", "triton", "rust", "reference"]

BFLOAT16_CAPABILITY = (8, 0)
"""Of GPUs that multiply bfloat16, from Ampere on, for which the kernels are made."""

_log = logging.getLogger("adit.ops")


@cache
def _module(name: str) -> ModuleType | str:
    """A module of kernels, or why it cannot be imported."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        return str(error)


def _interpreted() -> bool:
    """Whether Triton runs kernels on the CPU, one instruction at a time, as tests do."""
    return bool(importlib.import_module("triton").knobs.runtime.interpret)


def _why_not_triton(like: Tensor, head_size: int | None) -> str | None:
    """Why the Triton kernels cannot take a tensor such as `like`; None if they can."""
    if isinstance(reason := _module("adit_kernels"), str):
        return f"{reason} (`pip install ./kernels` in adit's repository)"
    if head_size not in (None, 32, 64):
        return f"the kernels take heads of 32 and 64, not {head_size}"
    if like.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        return f"the kernels take float32, bfloat16 and float16, not {str(like.dtype).removeprefix('torch.')}"
    if like.device.type != "cuda" and not _interpreted():
        return f"the kernels need a CUDA device, and the tensors are on {like.device}"
    if like.device.type == "cuda" and (found := torch.cuda.get_device_capability(like.device)) < BFLOAT16_CAPABILITY:
        return f"the kernels need a GPU of compute capability 8.0 or more, and {like.device} has {found[0]}.{found[1]}"
    return None


def _why_not_rust(like: Tensor, head_size: int | None) -> str | None:
    """Why the Rust kernels cannot take a tensor such as `like`; None if they can."""
    if torch.compiler.is_compiling() or torch.is_grad_enabled():
        return "the Rust kernels have no backward pass: they run under torch.no_grad() alone, and not compiled"
    if isinstance(module := _module("adit.ops.host"), str):
        return module
    if head_size not in (None, *module.HEAD_SIZES):
        return f"the Rust kernels take heads of {', '.join(map(str, module.HEAD_SIZES))}, not {head_size}"
    if like.dtype not in (torch.float32, torch.bfloat16):
        return f"the Rust kernels take float32 and bfloat16, not {str(like.dtype).removeprefix('torch.')}"
    return f"the Rust kernels need tensors on the CPU, not {like.device}" if like.device.type != "cpu" else None


@cache
def _say(took: str, why: str) -> None:
    """Once per choice and reason."""
    _log.info("packed operations: impl='auto' took %s%s", took, why)


def kernels(impl: Impl, like: Tensor, head_size: int | None = None) -> ModuleType | None:
    """The module that is to run: `adit_kernels`, `adit.ops.host`, or None for the reference.

    Args:
        impl: "triton" and "rust" are for GPU and CPU; "auto" takes the one for the device of `like` where it can run,
            or the reference, and says in the log, once, what it took.
        like: one of the tensors that they would take.
        head_size: of attention, if that is in it.

    Raises:
        BackendUnavailableError: for "triton" and "rust" where they cannot run; with the reason.
        InvalidInputError: for an unknown `impl`.
    """
    if impl not in get_args(Impl):
        raise InvalidInputError(f"`impl` must be one of {', '.join(get_args(Impl))}; got {impl!r}")
    if impl == "reference":
        return None
    rust = impl == "rust" or (impl == "auto" and like.device.type == "cpu")
    reason = (_why_not_rust if rust else _why_not_triton)(like, head_size)
    if reason is None:
        if impl == "auto":
            _say("the Rust kernels" if rust else "the Triton kernels", "")
        module = _module("adit.ops.host" if rust else "adit_kernels")
        assert isinstance(module, ModuleType)
        return module
    if impl != "auto":
        raise BackendUnavailableError(f"impl={impl!r} cannot run: {reason}; impl='reference' can")
    if not torch.compiler.is_compiling():
        _say("plain torch", f": {reason}")
    return None
