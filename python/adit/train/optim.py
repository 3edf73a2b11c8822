"""Optimiser, learning-rate schedule and exponential moving average."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator

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
        optimizers.append(Muon(matrices, lr=config.muon_learning_rate, weight_decay=config.weight_decay, momentum=0.95))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"]
    return optimizers


class Muon(torch.optim.Muon):
    """torch's Muon with the matrices of one shape orthogonalised together.

    A Transformer has a few shapes and many layers: one batched product in place of one a layer, since on a GPU the
    launches of torch's loop take longer than a fast training step has for them.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update of every matrix that has a gradient."""
        assert closure is None, "the training loop has none"
        for group in self.param_groups:
            alike: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    alike[parameter.shape].append(parameter)
            for shape, parameters in alike.items():
                buffers = [self._momentum(parameter) for parameter in parameters]
                gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
                torch._foreach_lerp_(buffers, gradients, 1 - group["momentum"])
                ahead = torch._foreach_lerp(gradients, buffers, group["momentum"])
                update = orthogonalised(torch.stack(ahead), group["ns_coefficients"], group["ns_steps"], group["eps"])
                # the root mean square of an update is the same whatever the shape (Jordan 2024)
                rate = group["lr"] * max(1.0, shape[0] / shape[1]) ** 0.5
                if group["weight_decay"]:
                    torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(parameters, list(update.to(parameters[0].dtype).unbind()), alpha=-rate)

    def _momentum(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        out: Tensor = state["momentum_buffer"]
        return out


def orthogonalised(matrices: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float) -> Tensor:
    """(K, rows, columns) with all singular values brought near 1, in bfloat16.

    By Newton-Schulz steps x <- a x + (b x x^T + c (x x^T)^2) x of the normalised matrix (Jordan 2024, "Muon").
    """
    a, b, c = coefficients
    x = matrices.bfloat16()
    if tall := x.shape[1] > x.shape[2]:
        x = x.mT
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


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
