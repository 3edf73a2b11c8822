"""What a training step of the second stage spends its time on, and how far it is from the machine's matrix products.

    python benches/train_profile.py --docs docs/training.md                            # CPU, one thread, joint-tiny
    python benches/train_profile.py --device cuda --recipe joint-gpu --docs docs/training.md

The step is `adit.train.loop.Trainer`'s own. Its parts are timed from outside: on a CPU in CPU seconds of one thread; on
a GPU the device is waited for at the end of each part, and the steps are timed once more without waiting, which shows
what the host costs. Beside it a step of the same size written the usual way (`Plain`), eager and compiled. It needs the
recipe's data (`adit-data prepare`). The weights are random: speed does not depend on them.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import wraps
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from adit.config import Recipe
from adit.data.packed import PackedDataset
from adit.generate import choose_device
from adit.models.dit import DiT
from adit.models.vae import VAE
from adit.recipes import get_recipe
from adit.train.dit import DiTLoss
from adit.train.latents import LatentPool
from adit.train.loop import Trainer, compile_blocks
from adit.train.optim import EMA, make_optimizers
from adit.train.stages import load_all
from baselines import report
from baselines.adit_usual import PublishedADiT
from baselines.timing import Bench, counting

PARTS = ("batch", "encoder", "self-conditioning", "forward", "backward", "graph", "clipping", "optimiser", "average")
"""graph: loss and gradients replayed as one CUDA graph, in place of the four before."""
WARM_UP = 4
"""Steps, in which torch.compile works."""


@dataclass
class Clock:
    """Seconds of each part since it was last cleared; `waits` for the device at the end of a part."""

    device: torch.device
    waits: bool = True
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def now(self) -> float:
        if self.device.type == "cpu":
            return time.process_time()
        if self.waits:
            torch.cuda.synchronize()
        return time.perf_counter()

    def timed(self, part: str | Callable[[], str], call: Callable[..., Any]) -> Callable[..., Any]:
        """`call`, its time added to `part`, or to the one that it names when called."""

        @wraps(call)
        def run(*args: Any, **options: Any) -> Any:
            start, name = self.now(), part if isinstance(part, str) else part()
            out = call(*args, **options)
            self.seconds[name] += self.now() - start
            return out

        return run


@dataclass(frozen=True, kw_only=True)
class Row:
    """One part of a step, or the whole: its mean milliseconds and share."""

    part: str
    milliseconds: float
    share: float


class Step:
    """Training steps of a recipe's second stage, on random weights."""

    def __init__(self, recipe: Recipe, data: PackedDataset, device: torch.device) -> None:
        torch.manual_seed(0)
        self.clock = Clock(device)
        vae, dit = VAE(recipe.vae).to(device), DiT(recipe.dit).to(device)
        config, share, pool = recipe.dit_train, recipe.flow.self_conditioning, None
        if recipe.flow.latent_copies:
            pool = LatentPool(vae, data, 1, config.tokens_per_group, config.crystal_fraction, share, 0, config.bf16)
        with TemporaryDirectory() as folder:
            self.trainer = Trainer(
                model=dit, loss=DiTLoss(dit, vae, recipe.flow), data=data, config=recipe.dit_train,
                folder=Path(folder), header={}, device=device, pool=pool,
            )  # fmt: skip
        if recipe.dit_train.compile and pool is None:
            compile_blocks(vae.encoder)
            compile_blocks(dit)
        self.optimizers = make_optimizers(dit, recipe.dit_train.optim)
        self.ema = EMA(dit, 0.999)
        self.generator = torch.Generator(device)
        self.batches = enumerate(self.trainer.sampler())

    def run(self, steps: int) -> int:
        """That many steps; returns the atoms in them."""
        atoms = 0
        for number, groups in islice(self.batches, steps):
            self.trainer._step(number, groups, self.optimizers, self.generator)
            self.ema.update(self.trainer.model, number)
            atoms += sum(int(self.trainer.data.sizes[group].sum()) for group in groups)
        return atoms

    @contextmanager
    def parts(self) -> Iterator[dict[str, float]]:
        """Inside, the parts of the steps are timed."""
        timed, trainer = self.clock.timed, self.trainer
        loss: Any = trainer.loss
        graphs = trainer.config.cuda_graphs
        passes = timed(lambda: "forward" if torch.is_grad_enabled() else "self-conditioning", loss.dit.forward)
        with (
            patch.object(trainer, "fetch", timed("batch", trainer.fetch)),
            patch.object(loss, "latents", timed("encoder", loss.latents)),
            patch.object(loss.dit, "forward", passes),
            patch.object(torch.Tensor, "backward", timed("backward", torch.Tensor.backward)),
            patch.object(torch.nn.utils, "clip_grad_norm_", timed("clipping", torch.nn.utils.clip_grad_norm_)),
            patch.object(trainer, "gradients", timed("graph", trainer.gradients) if graphs else trainer.gradients),
            patch.object(self.ema, "update", timed("average", self.ema.update)),
        ):
            for optimizer in self.optimizers:
                optimizer.step = timed("optimiser", optimizer.step)  # type: ignore[method-assign]
            self.clock.seconds.clear()
            yield self.clock.seconds
            for optimizer in self.optimizers:
                del optimizer.step


def profile(step: Step, steps: int) -> tuple[list[Row], float, int]:
    """The parts of a step, the seconds of a step without waiting for the device, and its mean atoms."""
    step.run(WARM_UP)
    with step.parts() as seconds:
        start = step.clock.now()
        step.run(steps)
        whole = step.clock.now() - start
    seconds["the rest"] = whole - sum(seconds.values())
    rows = [
        Row(part=part, milliseconds=1000 * seconds[part] / steps, share=seconds[part] / whole)
        for part in (*PARTS, "the rest")
        if part in seconds
    ]
    start = step.clock.now()
    step.clock.waits = False
    atoms = step.run(steps)
    step.clock.waits = True
    return rows, (step.clock.now() - start) / steps, atoms // steps


class Plain:
    """A training step written the usual way: ADiT's network of the recipe's sizes in plain torch, AdamW, autocast.

    Systems of all sizes in a padded batch with a mask, modulations for each sample, a first pass over a share of the
    systems for self-conditioning, an average of the weights. Its latents are drawn once and lie on the device, so that
    data and encoder cost it nothing.
    """

    def __init__(self, recipe: Recipe, sizes: torch.Tensor, device: torch.device, compiled: bool) -> None:
        torch.manual_seed(0)
        config, self.bf16, self.device = recipe.dit, recipe.dit_train.bf16, device
        self.network = PublishedADiT(config.width, config.layers, config.heads).to(device)
        if compiled:
            for block in self.network.blocks:
                block.compile(dynamic=True)
        self.inputs = self.network.inputs(sizes)
        self.first = int(recipe.flow.self_conditioning * len(sizes))
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=1e-4, foreach=True)
        self.ema = EMA(self.network, 0.999)

    def __call__(self) -> None:
        """One step."""
        inputs = {name: value for name, value in self.inputs.items() if value is not None}
        data = inputs["latents"]
        noisy = torch.lerp(torch.randn_like(data), data, inputs["time"][:, None, None])
        guess = torch.zeros_like(data)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            first = {
                name: value[: self.first] for name, value in {**inputs, "latents": noisy, "earlier": guess}.items()
            }
            with torch.no_grad():
                guess[: self.first] = self.network(**first)["latents"]
            out = self.network(**{**inputs, "latents": noisy, "earlier": guess})["latents"]
        (out.float() - data)[inputs["mask"]].square().mean().backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.ema.update(self.network, 0)


def plain_seconds(recipe: Recipe, like: Step, atoms: int, steps: int, compiled: bool) -> float:
    """Of a step of `Plain` on systems as in the first step of `like`, for `atoms` atoms."""
    clock, systems = like.clock, np.concatenate(next(iter(like.trainer.sampler())))
    sizes = torch.from_numpy(np.random.default_rng(0).permutation(like.trainer.data.sizes[systems]))
    step = Plain(recipe, sizes, clock.device, compiled)
    for _ in range(WARM_UP):
        step()
    clock.waits = True
    start = clock.now()
    for _ in range(steps):
        step()
    return (clock.now() - start) / steps * atoms / int(sizes.sum())


def flop(recipe: Recipe, data: PackedDataset) -> float:
    """Floating-point operations for an atom (a multiply-add is two), counted in a small step on the CPU.

    In groups of systems of one size, without padding and rows that do not count; without the encoder, where the
    training has encoded its systems beforehand.
    """
    small = replace(recipe.dit_train, compile=False, bf16=False, tokens_per_step=4096, tokens_per_group=512)
    few = data.subset(np.arange(0, len(data), 1 + len(data) // 5000))
    flow = replace(recipe.flow, latent_copies=0)
    step = Step(replace(recipe, dit_train=small, flow=flow), few, torch.device("cpu"))
    if recipe.flow.latent_copies:
        loss: Any = step.trainer.loss
        loss.latents = lambda batch: torch.randn(*batch.numbers.shape, recipe.dit.latent_dim)
    with counting() as counter:
        atoms = step.run(1)
    return float(counter.get_total_flops()) / atoms


def peak(clock: Clock, dtype: torch.dtype, size: int) -> float:
    """Operations a second of a product of two square matrices: the best of five."""
    left, right = (torch.randn(size, size, device=clock.device).to(dtype) for _ in range(2))
    seconds = []
    for _ in range(5):
        start = clock.now()
        torch.mm(left, right)
        seconds.append(clock.now() - start)
    return 2 * size**3 / min(seconds)


def markdown(
    rows: list[Row], seconds: float, atoms: int, work: float, rate: float, about: dict[str, str], of: str,
    plain: dict[str, float],
) -> str:  # fmt: skip
    """The section of the docs."""
    lines = ["| part of a step | ms | share |", "|---|---|---|"]
    lines += [f"| {row.part} | {row.milliseconds:,.1f} | {100 * row.share:.1f} % |" for row in rows]
    head = (
        f"Measured {about['date']} on {about['machine']}, {about['device']}, {about['threads']} threads, products in "
        f"{about['products']}, torch {about['torch']}, commit {about['commit']}; recipe {of}, {atoms:,} atoms a step."
    )
    foot = (
        f"A step takes {1000 * seconds:,.0f} ms: {atoms / seconds:,.0f} atoms a second, {work / 1e9:,.0f} GFLOP at "
        f"{work / seconds / 1e9:,.0f} GFLOP/s, {100 * work / seconds / rate:.0f} % of the {rate / 1e9:,.0f} GFLOP/s "
        "of a large matrix product measured beside it."
    )
    beside = [
        f"{name} {1000 * took:,.0f} ms ({atoms / took:,.0f} atoms a second, {100 * work / took / rate:.1f} %; ours is "
        f"{took / seconds:.1f} times as fast)"
        for name, took in plain.items()
    ]
    usual = f"The same network and atoms in a step written the usual way (padded, AdamW): {'; '.join(beside)}."
    return "\n\n".join([head, "\n".join(lines), foot, usual])


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="joint-tiny")
    parser.add_argument("--data", nargs="+", metavar="NAME", help="prepared data sets; default: the recipe's")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results", help="folder for the CSV file")
    parser.add_argument("--docs", type=Path, help="document whose section is replaced")
    options = parser.parse_args(words)
    device = choose_device(options.device)
    if device.type == "cpu":
        torch.set_num_threads(1)
    recipe = get_recipe(options.recipe)
    data = load_all(tuple(options.data or recipe.data)).split("train")
    bench = Bench(device=device, bf16=recipe.dit_train.bf16, batch=0)
    step = Step(recipe, data, device)
    dtype = torch.bfloat16 if recipe.dit_train.bf16 else torch.float32
    rate = peak(step.clock, dtype, 2048 if device.type == "cpu" else 8192)
    rows, seconds, atoms = profile(step, options.steps)
    ways = {"eager": False, "compiled": True}
    plain = {name: plain_seconds(recipe, step, atoms, options.steps, way) for name, way in ways.items()}
    work = atoms * flop(recipe, data)
    about = report.machine(bench)
    text = markdown(rows, seconds, atoms, work, rate, about, recipe.name, plain)
    print(text)
    report.write_csv(options.out / f"train-profile-{device.type}.csv", rows, about)
    if options.docs:
        report.fill(options.docs, f"train-profile {device.type}", text)


if __name__ == "__main__":
    main()
