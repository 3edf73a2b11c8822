"""A batch's loss and its gradients as one CUDA graph for each shape of batch.

A fast GPU does a step of these small networks in less time than Python takes to ask for its thousand kernels; a graph
is asked for once.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from adit.batch import SystemBatch
from adit.train.latents import LatentBatch, PropertyBatch

Batch = SystemBatch | LatentBatch | PropertyBatch
Compute = Callable[[Any, torch.Generator, Tensor], tuple[Tensor, dict[str, Tensor]]]
"""A `Batch` and a factor on its gradients, which it adds to those of the parameters, to the loss and its terms."""

_WARM_UP = 2


@dataclass(frozen=True)
class _Captured:
    """A graph, the batch and the factor it reads, and what it writes."""

    graph: torch.cuda.CUDAGraph
    batch: Batch
    factor: Tensor
    loss: Tensor
    terms: dict[str, Tensor]


class Graphs:
    """Replays `compute` for each shape of batch; what it returns is overwritten by the next batch of that shape.

    The gradients are added to `parameter.grad`, which stay where they are: set them to zero in place.
    """

    def __init__(self, compute: Compute, model: nn.Module, generator: torch.Generator) -> None:
        self.compute, self.model, self.generator = compute, model, generator
        self.pool = torch.cuda.graph_pool_handle()
        self.captured: dict[Hashable, _Captured] = {}
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.grad = torch.zeros_like(parameter)

    def __call__(self, batch: Batch, factor: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of each system and its terms."""
        shape = tuple(tensor.shape for tensor in _tensors(batch))
        if shape not in self.captured:
            self.captured[shape] = self._capture(batch, factor)
        one = self.captured[shape]
        for place, value in zip((*_tensors(one.batch), one.factor), (*_tensors(batch), factor), strict=True):
            place.copy_(value)
        one.graph.replay()
        return one.loss, one.terms

    def _capture(self, batch: Batch, factor: Tensor) -> _Captured:
        """The first batch of a shape compiles kernels and fills caches, which a capture may not do."""
        kept = [*(p.grad for p in self.model.parameters() if p.grad is not None), *self.model.buffers()]
        before, state = [tensor.clone() for tensor in kept], self.generator.get_state()
        inputs, scale = _copy(batch), factor.clone()
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_WARM_UP):
                self.compute(inputs, self.generator, scale)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self.generator)
        with torch.cuda.graph(graph, pool=self.pool):
            loss, terms = self.compute(inputs, self.generator, scale)
        torch._foreach_copy_(kept, before)
        self.generator.set_state(state)
        return _Captured(graph, inputs, scale, loss, terms)


def _tensors(batch: Batch) -> list[Tensor]:
    """Those of a batch and of its packing."""
    values = [getattr(batch, field.name) for field in fields(batch)]
    if isinstance(batch, LatentBatch):
        values += [batch.packing.offsets, batch.packing.system]
    return [value for value in values if isinstance(value, Tensor)]


def _copy(batch: Batch) -> Batch:
    """With tensors of its own."""
    own: dict[str, Any] = {
        field.name: value.clone() for field in fields(batch) if isinstance(value := getattr(batch, field.name), Tensor)
    }
    if isinstance(batch, LatentBatch):
        packing = batch.packing
        own["packing"] = replace(packing, offsets=packing.offsets.clone(), system=packing.system.clone())
    return replace(batch, **own)
