"""Checkpoints: a folder of safetensors and one JSON file, which appears whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from adit.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adit.train.optim import EMA

FORMAT_VERSION = 1


def save_checkpoint(
    folder: Path,
    step: int,
    model: nn.Module,
    ema: EMA,
    optimizers: list[torch.optim.Optimizer],
    header: dict[str, Any],
    keep: int = 2,
) -> Path:
    """Writes `folder/step-00001234/`; older checkpoints beyond `keep` are removed."""
    return _write(folder, step, _files(model, ema, optimizers), _state(step, optimizers, header), keep)


class Saver:
    """Writes checkpoints in a thread, one at a time, while the training goes on; leaving its context waits for it."""

    def __init__(self) -> None:
        self._worker = ThreadPoolExecutor(1)
        self._writing: Future[Path] | None = None

    def __enter__(self) -> Saver:
        return self

    def save(
        self, folder: Path, step: int, model: nn.Module, ema: EMA, optimizers: list[torch.optim.Optimizer],
        header: dict[str, Any], keep: int = 2,
    ) -> None:  # fmt: skip
        """As `save_checkpoint`, of the tensors as they are now.

        Raises:
            OSError: the checkpoint before could not be written.
        """
        self.wait()
        copies = {
            name: {key: tensor.to("cpu", copy=True) for key, tensor in tensors.items()}
            for name, tensors in _files(model, ema, optimizers).items()
        }
        self._writing = self._worker.submit(_write, folder, step, copies, _state(step, optimizers, header), keep)

    def wait(self) -> None:
        """Until the last one is there."""
        if self._writing is not None:
            self._writing.result()

    def __exit__(self, *_: object) -> None:
        try:
            self.wait()
        finally:
            self._worker.shutdown()


def _files(model: nn.Module, ema: EMA, optimizers: list[torch.optim.Optimizer]) -> dict[str, dict[str, Tensor]]:
    """The tensors of each safetensors file."""
    return {
        "model": {name: tensor.detach() for name, tensor in model.state_dict().items()},
        "ema": ema.shadow,
        "optimizer": {
            f"{index}/{parameter}/{name}": torch.as_tensor(value)
            for index, optimizer in enumerate(optimizers)
            for parameter, entries in optimizer.state_dict()["state"].items()
            for name, value in entries.items()
        },
    }


def _state(step: int, optimizers: list[torch.optim.Optimizer], header: dict[str, Any]) -> str:
    """The JSON part, as it is now."""
    groups = [optimizer.state_dict()["param_groups"] for optimizer in optimizers]
    state = {"format": "adit-checkpoint", "version": FORMAT_VERSION, "step": step, "optimizers": groups, **header}
    return json.dumps(state, indent=1)


def _write(folder: Path, step: int, files: dict[str, dict[str, Tensor]], state: str, keep: int) -> Path:
    target = folder / f"step-{step:08d}"
    partial = folder / f".partial-{os.getpid()}"
    for left_over in folder.glob(".partial-*"):
        shutil.rmtree(left_over, ignore_errors=True)
    partial.mkdir(parents=True)
    for name, tensors in files.items():
        save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, partial / f"{name}.safetensors")
    (partial / "state.json").write_text(state)
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)
    for old in [path for path in list_checkpoints(folder) if path <= target][:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def list_checkpoints(folder: Path) -> list[Path]:
    """Whole checkpoints in a run's folder, oldest first."""
    return sorted(path.parent for path in folder.glob("step-*/state.json"))


def read_state(checkpoint: Path) -> dict[str, Any]:
    """The JSON part of a checkpoint.

    Raises:
        CheckpointError: missing, damaged, or of another format version.
    """
    try:
        state: dict[str, Any] = json.loads((checkpoint / "state.json").read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{checkpoint} is not a checkpoint ({error})") from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{checkpoint / 'state.json'} is damaged: it holds no JSON object")
    if state.get("format") != "adit-checkpoint" or state.get("version") != FORMAT_VERSION:
        raise CheckpointError(
            f"{checkpoint} has format {state.get('format')!r} version {state.get('version')!r}; "
            f"this adit reads 'adit-checkpoint' version {FORMAT_VERSION}"
        )
    if missing := {"step", "optimizers"} - set(state):
        raise CheckpointError(f"{checkpoint / 'state.json'} is damaged: it lacks {', '.join(sorted(missing))}")
    return state


def load_checkpoint(checkpoint: Path, model: nn.Module, ema: EMA, optimizers: list[torch.optim.Optimizer]) -> int:
    """Restores everything in place; returns the step to go on from.

    Raises:
        CheckpointError: the files do not fit the model or are damaged.
    """
    state = read_state(checkpoint)
    load_tensors(checkpoint / "model.safetensors", model)
    shadow = read_tensors(checkpoint / "ema.safetensors")
    if {name: tensor.shape for name, tensor in shadow.items()} != {n: t.shape for n, t in ema.shadow.items()}:
        raise CheckpointError(f"{checkpoint} holds an average of another model")
    for name, tensor in shadow.items():
        ema.shadow[name].copy_(tensor)
    flat = read_tensors(checkpoint / "optimizer.safetensors")
    try:
        for index, (optimizer, groups) in enumerate(zip(optimizers, state["optimizers"], strict=True)):
            per_parameter: dict[int, dict[str, Tensor]] = {}
            for name, tensor in flat.items():
                owner, parameter, entry = name.split("/")
                if int(owner) == index:
                    per_parameter.setdefault(int(parameter), {})[entry] = tensor
            optimizer.load_state_dict({"state": per_parameter, "param_groups": groups})
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{checkpoint} holds the state of another optimiser ({error})") from error
    return int(state["step"])


def read_tensors(path: Path) -> dict[str, Tensor]:
    """A safetensors file.

    Raises:
        CheckpointError: missing or damaged.
    """
    try:
        tensors: dict[str, Tensor] = load_file(path)
        return tensors
    except (OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path} cannot be read ({error})") from error
    except SafetensorError as error:
        raise CheckpointError(f"{path} is damaged ({error})") from error


def load_tensors(path: Path, model: nn.Module) -> None:
    """Loads a safetensors file into a model of the same shape."""
    try:
        model.load_state_dict(read_tensors(path))
    except RuntimeError as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path} does not fit the model: {error}") from error
