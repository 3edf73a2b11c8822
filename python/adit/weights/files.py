"""Tensors in files that state their sha256 elsewhere."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch.overrides import TorchFunctionMode

from adit.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

_DRAWING = {"kaiming_uniform_", "normal_", "uniform_"}
"""What the layers of networks draw their first weights with."""


class Undrawn(TorchFunctionMode):
    """Networks made in this context keep whatever is in memory as weights, to be loaded: drawing takes longer."""

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(function, "__name__", "") in _DRAWING:
            return args[0] if args else kwargs["tensor"]
        return function(*args, **kwargs)


def save_half(path: Path, tensors: Mapping[str, Tensor], what: str, exact: Collection[str] = ()) -> str:
    """Writes tensors in half precision, those named in `exact` as they are, and returns the file's sha256.

    Raises:
        CheckpointError: one is not finite, or too large for half precision; says of `what`.
    """
    kept = {name: (one if name in exact else one.half()).detach().contiguous().cpu() for name, one in tensors.items()}
    if bad := [name for name, tensor in kept.items() if not tensor.isfinite().all()]:
        raise CheckpointError(f"{what} cannot be saved in half precision: {', '.join(bad[:5])} not finite there")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    save_file(kept, partial)
    digest = hashlib.sha256(partial.read_bytes()).hexdigest()
    partial.chmod(0o644)
    partial.replace(path)
    return digest


def read_checked(path: Path, sha256: str, where: str) -> dict[str, Tensor]:
    """Its tensors in float32.

    Raises:
        CheckpointError: it is missing, damaged, or has not the sum that `where` says.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error})") from error
    if (digest := hashlib.sha256(content).hexdigest()) != sha256:
        raise CheckpointError(f"{path} is damaged: its sha256 is {digest}, {where} says {sha256}")
    try:
        return {name: tensor.float() for name, tensor in load(content).items()}
    except SafetensorError as error:
        raise CheckpointError(f"{path} is damaged ({error})") from error
