"""adit itself, measured beside the baselines."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from adit.config import DiTConfig, VAEConfig
from adit.convert import write
from adit.flow.guidance import guidance_labels, guided
from adit.generate import Generator
from adit.models.dit import CRYSTAL as CRYSTAL_LABEL
from adit.models.dit import MOLECULE as MOLECULE_LABEL
from adit.models.dit import NULL, DiT, Modulations
from adit.ops.packing import Packing
from adit.weights.store import GenerationModel, Pretrained, SamplingDefaults
from baselines.common import Baseline, Draw
from baselines.registry import CRYSTAL, MOLECULE, Entry
from baselines.workloads import Workload

_LABELS = {MOLECULE: MOLECULE_LABEL, CRYSTAL: CRYSTAL_LABEL}


class OurDiT(Baseline):
    """adit's DiT with random weights, one guided prediction as the sampler makes it: one size, one condition.

    `guide` is of the smaller network, if the settings use it.
    """

    def __init__(
        self, config: DiTConfig, system: str, settings: SamplingDefaults, guide: DiTConfig | None = None
    ) -> None:
        super().__init__()
        self.dit, self.system, self.settings = DiT(config), system, settings
        self.guide = DiT(guide) if guide is not None else None
        self.blocks = self.dit.blocks
        for parameter in self.parameters():  # AdaLN-zero starts at zero
            if parameter.device.type != "meta" and parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, latents: Tensor) -> Tensor:
        """Latents (B, N, L) to predicted clean latents."""
        labels = guidance_labels(_LABELS[self.system], NULL, self.settings.cfg)

        def network(dit: DiT, labels: tuple[int, ...], x: Tensor, time: float, guess: Tensor) -> list[Tensor]:
            label_R, time_R = torch.tensor(labels, device=x.device), torch.full((len(labels),), time, device=x.device)
            blocks, final = dit.modulations(time_R, label_R)
            rows = (slice(c, c + 1) for c in range(len(labels)))
            return [dit.denoise(x, guess, Modulations(blocks[:, row], final[row])) for row in rows]

        guide = None if self.guide is None else partial(network, self.guide, labels[:1])
        return guided(partial(network, self.dit, labels), self.settings.cfg, self.settings.guide, guide)(latents, 0.5)

    def inputs(self, sizes: Tensor, seed: int = 0) -> dict[str, Tensor | None]:
        shape = (len(sizes), int(sizes.max()), self.dit.config.latent_dim)
        return {"latents": Draw(seed, self.place).normal(*shape)}


def network_calls(settings: SamplingDefaults) -> int:
    """Forward passes of the DiT for one sample with these settings; its guide's come on top."""
    steps = 2 * settings.steps - 1 if settings.solver == "heun" else settings.steps
    return steps * (1 if settings.cfg in (0.0, 1.0) else 2)


def published_size(generator: Generator) -> Generator:
    """adit at the size of ADiT-S and the published 51 M of autoencoder, random weights, its published settings."""
    settings = SamplingDefaults(steps=100, solver="euler", cfg=2.0)
    weights = Pretrained(
        name="DiT-S (random weights)",
        model=GenerationModel(VAEConfig(), DiTConfig()),
        defaults=dict.fromkeys((MOLECULE, CRYSTAL), settings),
        atom_counts=generator.weights.atom_counts,
    )
    return Generator(weights, device=str(generator.device))


def entry(generator: Generator, system: str) -> Entry:
    """The generator's network and settings, for the columns of the table."""
    settings, model = generator.defaults[system], generator.model
    networks = [model.dit] if model.guide is None or settings.guide == 1 else [model.dit, model.guide]
    passes = network_calls(replace(settings, cfg=1.0))
    return Entry(
        name=f"adit, {generator.weights.name}",
        source="this package",
        build=partial(OurDiT, model.dit.config, system, settings, *(network.config for network in networks[1:])),
        parameters=sum(p.numel() for network in networks for p in network.parameters()),
        gflop=0,
        gflop_atoms=0,
        evaluations=(passes,),
        systems=(system,),
        equivariant=False,
        pads=False,
        masks=False,
    )


def evaluation(generator: Generator, system: str, sizes: Tensor) -> Callable[[], Tensor]:
    """A function that makes one guided prediction for systems of these sizes, packed as in the sampler."""
    settings, device = generator.defaults[system], generator.device
    with torch.no_grad():
        packing = Packing.from_lengths(sizes.tolist(), device)
        schedules = generator.schedules([0.5], system, settings)
        network, *guide = [schedule.packed(packing, graph=device.type == "cuda") for schedule in schedules]
    predict = guided(network, settings.cfg, settings.guide, guide[0] if guide else None)
    latents = torch.randn(1, int(sizes.sum()), generator.model.dit.config.latent_dim).to(device)
    return lambda: predict(latents, 0.5)


def end_to_end(
    generator: Generator,
    workload: Workload,
    repeats: int,
    seconds: float,
    block: int | None = None,
    steps: int | None = None,
) -> tuple[float, str]:
    """Seconds of one sample with the weights' default settings, file written (molecules with bonds).

    Measured on whole blocks of the size that `adit-gen` makes, or `block`: in smaller ones hardly two systems have one
    size, and share nothing. Returns the median, and on how many blocks: at most `repeats`, no more once `seconds` are
    over.

    Args:
        steps: for slow networks: blocks of 1 and of so many steps are measured, and continued along the line through
            both to the steps of the default settings.
    """
    counts = {**generator.weights.atom_counts, workload.system: workload.atoms}
    # the sizes of the workload; device and threads are set already
    sized = Generator(replace(generator.weights, atom_counts=counts), device=str(generator.device))
    n, whole = sized.block_size(block), sized.defaults[workload.system].steps
    formula = None if workload.trained else "any"  # formulas of the training set have its sizes
    suffix = ".sdf" if workload.system == MOLECULE else ".extxyz"
    with tempfile.TemporaryDirectory() as folder:

        def run(n: int, seed: int, steps: int) -> float:
            start = time.perf_counter()
            write(
                Path(folder) / f"samples{suffix}",
                sized.sample(n, workload.system, seed=seed, steps=steps, formula=formula),
            )
            return time.perf_counter() - start

        def measured(seed: int) -> float:
            if steps is None:
                return run(n, seed, whole)
            first, more = run(n, seed, 1), run(n, seed, steps)
            return first + (more - first) * (whole - 1) / (steps - 1)

        start = time.perf_counter()
        run(n if sized.device.type == "cuda" else min(n, 4), 0, 2)  # whose kernels are compiled for a size of block
        times = [measured(1)]
        while len(times) < repeats and time.perf_counter() - start < seconds:
            times.append(measured(1 + len(times)))
    of = f"{len(times)} block{'s' if len(times) > 1 else ''} of {n}"
    return statistics.median(times) / n, of if steps is None else f"{of}, from 1 and {steps} of {whole} steps"
