"""A Diffusion Transformer made ready to sample with.

Shape suffixes: B systems, N atoms in each, T tokens of packed systems, C labels, L latent dimensions.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from adit.flow.guidance import Network
from adit.models.dit import NULL, DiT, Modulations
from adit.ops.packing import Packing


class Denoiser:
    """A copy of a DiT whose blocks multiply in `dtype`; embedding, residual stream, AdaLN and output stay float32.

    Attributes:
        dit: the copy; `dit.impl` says which implementation its blocks run on.
        dtype: of the blocks' matrix products.
    """

    def __init__(self, dit: DiT, dtype: torch.dtype = torch.float32) -> None:
        self.dit, self.dtype = copy.deepcopy(dit).eval().requires_grad_(False), dtype
        for block in self.dit.blocks:
            block.attention.to(dtype)
            block.feed_forward.to(dtype)

    def schedule(self, times: Sequence[float], labels: Sequence[int]) -> Schedule:
        """For a run of the solver that asks at `times`, and is answered for each of `labels`."""
        device = self.dit.label.weight.device
        label_R = torch.tensor(labels, device=device).repeat(len(times))
        time_R = torch.tensor(times, device=device).repeat_interleave(len(labels))
        rows = {time: k * len(labels) for k, time in enumerate(times)}
        return Schedule(self.dit, self.dit.modulations(time_R, label_R), rows, tuple(labels))


@dataclass(frozen=True)
class Schedule:
    """A DiT with the modulations of a whole run of the solver.

    They depend on time and label alone: they are computed at once, one row for each time and label, rather than
    at each step for each system.

    Attributes:
        dit: the network.
        table: the modulations; the labels of the first time, then those of the second, ...
        rows: at which row of `table` a time begins.
        labels: those that it answers for; NULL is not told the composition either.
    """

    dit: DiT
    table: Modulations
    rows: dict[float, int]
    labels: tuple[int, ...]

    def of_one_size(self, counts_BE: Tensor | None = None) -> Network:
        """A `Network`, for systems of equal numbers of atoms: C predictions (B, N, L).

        `counts_BE` is their composition, as for `DiT.context`.
        """
        context = None if counts_BE is None else self.dit.context(counts_BE)

        def network(x_BNL: Tensor, time: float, guess_BNL: Tensor) -> list[Tensor]:
            out = []
            for row, label in enumerate(self.labels, self.rows[time]):
                modulations = Modulations(self.table.blocks[:, row, None], self.table.final[row, None])
                out.append(self.dit.denoise(x_BNL, guess_BNL, modulations, None if label == NULL else context))
            return out

        return network

    def packed(self, packing: Packing, counts_BE: Tensor | None = None, graph: bool = False) -> Network:
        """A `Network` for (1, T, L) latents of packed systems of any sizes; all labels go through in one batch.

        With `graph` it is captured once as a CUDA graph, and replayed at each step.
        """
        count = len(self.labels)
        several = packing.repeat(count)
        label_B = torch.arange(count, device=several.offsets.device, dtype=torch.int32)
        label_B = label_B.repeat_interleave(packing.systems)
        context = None
        if counts_BE is not None:
            told = self.dit.context(counts_BE)
            context = torch.cat([told * (label != NULL) for label in self.labels])
        place_TD = self.dit.places(several, context)

        def run(x_TL: Tensor, guess_TL: Tensor, rows_B: Tensor) -> Tensor:
            x_TL, guess_TL = (part.repeat(count, 1) for part in (x_TL, guess_TL))
            return self.dit.denoise_packed(x_TL, guess_TL, self.table, several, rows_B, place_TD)

        call: Callable[..., Tensor] = run
        if graph:
            zeros_TL = self.table.final.new_zeros(packing.system.shape[0], self.dit.config.latent_dim)
            call = _Captured(run, zeros_TL, zeros_TL, label_B)

        def network(x_1TL: Tensor, time: float, guess_1TL: Tensor) -> list[Tensor]:
            out_TL = call(x_1TL[0], guess_1TL[0], label_B + self.rows[time])
            return list(out_TL.view(count, *x_1TL.shape))

        return network


class _Captured:
    """`run` as a CUDA graph for tensors shaped as `examples`; what it returns is overwritten by the next call.

    `run` is kept, because the graph goes on reading the tensors that it refers to.
    """

    def __init__(self, run: Callable[..., Tensor], *examples: Tensor) -> None:
        self.run, self.inputs = run, [example.clone() for example in examples]
        run(*self.inputs)  # compiles kernels and fills caches, which a capture may not do
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):  # other threads may use the device
            self.out = run(*self.inputs)

    def __call__(self, *values: Tensor) -> Tensor:
        for place, value in zip(self.inputs, values, strict=True):
            place.copy_(value)
        self.graph.replay()
        return self.out
