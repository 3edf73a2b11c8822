"""Optimiser, learning-rate schedule and exponential moving average."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from adit.config import OptimConfig
from adit.errors import InvalidInputError


def make_optimizers(model: nn.Module, config: OptimConfig) -> list[torch.optim.Optimizer]:
    """The optimisers that a configuration names, each parameter in exactly one.

    "adamw": AdamW on everything. "muon": Muon (Jordan 2024) on the matrices inside the blocks, AdamW on the rest.

    Raises:
        InvalidInputError: no such optimiser.
    """
    if config.optimizer not in ("adamw", "muon"):
        raise InvalidInputError(f"`optimizer` must be 'adamw' or 'muon'; got {config.optimizer!r}")
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        inside = ".blocks." in f".{name}" and parameter.ndim == 2 and "modulation" not in name
        (matrices if inside and config.optimizer == "muon" else others).append(parameter)
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(
            others, lr=config.learning_rate, betas=config.betas, weight_decay=config.weight_decay, foreach=True
        )
    ]
    if matrices:
        optimizers.append(
            torch.optim.Muon(matrices, lr=config.muon_learning_rate, weight_decay=config.weight_decay, momentum=0.95)
        )
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"]
    return optimizers


def schedule(step: int, steps: int, config: OptimConfig) -> float:
    """Factor on the learning rate at `step` (from 0): linear warm-up, constant, linear decay to zero."""
    warmup = min(1.0, (step + 1) / max(1, config.warmup_steps))
    decay = min(1.0, (steps - step) / max(1.0, config.decay_fraction * steps))
    return min(warmup, decay)


class EMA:
    """An exponential moving average of a model's parameters and buffers; the early average is shorter."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.shadow = {name: tensor.detach().clone() for name, tensor in _tensors(model)}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        pairs = [(self.shadow[name], tensor.detach()) for name, tensor in _tensors(model)]
        torch._foreach_lerp_([shadow for shadow, _ in pairs], [tensor for _, tensor in pairs], 1 - decay)

    @torch.no_grad()
    def copy_to(self, model: nn.Module) -> None:
        """Overwrites the model with the average."""
        for name, tensor in _tensors(model):
            tensor.copy_(self.shadow[name])


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_parameters()
    yield from model.named_buffers()
