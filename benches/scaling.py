"""Scaling: DiTs of four sizes, each trained for the same time, their loss and samples against parameters and FLOPs.

    python benches/scaling.py --docs docs/benchmarks.md                     # 4 sizes x 2 and 8 minutes of one CPU core
    python benches/scaling.py --only 1.5M --minutes 8                       # a part of it; a killed run goes on
    python benches/scaling.py --report --docs docs/benchmarks.md            # tables and plots of what is there
    python benches/scaling.py --quick                                       # seconds: does it run?
    python benches/scaling.py --device cuda --only 30M 130M 450M --minutes 30 120 --vae runs/joint-s/vae

One autoencoder serves all sizes: their losses are measured in its latents, so only then can they be compared. By
default it is that of the shipped weights; its training is no part of the budget. The budget is CPU time with one
thread (on a GPU: wall time); every run has its own schedule, which ends with it.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from adit.config import DiTConfig, Recipe
from adit.data.packed import PackedDataset
from adit.generate import Generator, choose_device
from adit.models.dit import DiT
from adit.models.vae import VAE
from adit.recipes import get_recipe
from adit.train.checkpoint import list_checkpoints, load_tensors, read_state
from adit.train.dit import DiTLoss
from adit.train.meter import Budget
from adit.train.reconstruct import load_vae
from adit.train.stages import bundle, load_all, train_dit
from adit.train.validate import held_out_loss, latent_statistics, size_groups
from baselines import report
from baselines.common import parameter_count
from baselines.timing import Bench, counting
from quality.keep import ANCESTRAL, Judged, clock_of, generated, has_bf16, save_json, verdict

SIZES = {
    "0.5M": (96, 3, 3), "1.5M": (128, 4, 5), "5M": (192, 6, 8), "12M": (288, 9, 8),
    "30M": (384, 6, 12), "130M": (768, 12, 12), "450M": (1024, 16, 24),
}  # fmt: skip
"""Width, heads, layers. The last three are the published sizes, for a GPU."""
HELD_OUT = 2000
"""Molecules."""


@dataclass(frozen=True, kw_only=True)
class Run(Judged):
    """One size and budget.

    Attributes:
        size: a name in `SIZES`.
        steps, molecules_seen: of training.
        pflop: of training, encoder included: 1e15 operations, a multiply-add being two.
        loss: on held-out molecules, of the averaged weights.
        others: as in `quality.keep.Judged`.
    """

    size: str
    steps: int
    molecules_seen: int
    pflop: float
    loss: float


@dataclass(frozen=True, kw_only=True)
class Fit:
    """y = factor * x ** exponent, by least squares of the logarithms.

    Attributes:
        r_squared: share of the variance of log y that it explains.
    """

    factor: float
    exponent: float
    r_squared: float
    points: int

    def __str__(self) -> str:
        return f"{self.factor:.3g} x^{self.exponent:.3f} (R^2 {self.r_squared:.2f}, {self.points} points)"


def power_law(x: list[float], y: list[float]) -> Fit | None:
    """None if there are fewer than two different x, or a y is not positive."""
    if len(set(x)) < 2 or min(*x, *y) <= 0:
        return None
    log_x, log_y = np.log(x), np.log(y)
    exponent, intercept = np.polyfit(log_x, log_y, 1)
    left, whole = np.square(log_y - exponent * log_x - intercept).sum(), np.square(log_y - log_y.mean()).sum()
    return Fit(
        factor=float(np.exp(intercept)),
        exponent=float(exponent),
        r_squared=float(1 - left / whole) if whole > 0 else float("nan"),
        points=len(x),
    )


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(SIZES), default=["0.5M", "1.5M", "5M", "12M"])
    parser.add_argument("--minutes", nargs="+", type=float, default=[2.0, 8.0], help="budgets; each size gets each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", default="qm9", help="prepared data set")
    parser.add_argument("--vae", default="joint-tiny", help="weights or run that has the autoencoder")
    parser.add_argument("--samples", type=int, default=500, help="molecules that are judged of each run")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--runs", type=Path, default=Path("runs/scaling"), help="checkpoints, samples, verdicts")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results", help="folder for the CSV file")
    parser.add_argument("--docs", type=Path, help="document to fill; the plot goes to images/ beside it")
    parser.add_argument("--report", action="store_true", help="only tables and plot of the runs that are there")
    parser.add_argument("--quick", action="store_true", help="seconds and few samples: does it run?")
    return parser.parse_args(words)


def recipe_of(size: str, options: argparse.Namespace, device: torch.device) -> Recipe:
    """joint-tiny's training (joint-gpu's on a GPU) of a DiT of this size, with a warm-up that suits the budget."""
    base = get_recipe("joint-gpu" if device.type == "cuda" else "joint-tiny")
    width, heads, layers = SIZES[size]
    train = base.dit_train
    if device.type == "cpu":
        optim = replace(train.optim, warmup_steps=50, ema_decay=0.99)
        train = replace(train, tokens_per_step=2048, compile=False, bf16=has_bf16(device), optim=optim)
    train = replace(train, seed=options.seed, checkpoint_every=100, validation_samples=50)
    if options.quick:
        train = replace(train, tokens_per_step=256, tokens_per_group=128, validation_samples=4)
    dit = DiTConfig(width=width, heads=heads, layers=layers, latent_dim=base.dit.latent_dim, qk_norm=True)
    return replace(base, name=f"scaling-{size}", data=(options.data,), dit=dit, dit_train=train)


def flop_of_an_atom(dit: DiT, vae: VAE, recipe: Recipe, data: PackedDataset) -> float:
    """Operations of training on one atom: encoder, both passes of the DiT and its gradient, counted on a batch."""
    mean = round(float(data.sizes.mean()))
    sized = data.subset(np.flatnonzero(data.sizes == min(data.sizes, key=lambda size: abs(size - mean)))[:16])
    (batch,) = size_groups(sized, len(sized))
    loss = DiTLoss(dit, vae, recipe.flow)
    with counting() as counter:
        loss(batch, torch.Generator().manual_seed(0))[0].mean().backward()  # type: ignore[no-untyped-call]
    dit.zero_grad()
    return float(counter.get_total_flops()) / (batch.n_systems * batch.n_atoms)


def measure(size: str, minutes: float, options: argparse.Namespace, data: PackedDataset, device: torch.device) -> Run:
    """Trains, samples and judges one; whatever of it is there already is not done again."""
    clock = clock_of(device)
    folder = options.runs / f"{size}-{minutes:g}"
    recipe = recipe_of(size, options, device)
    train_dit(recipe, folder, options.vae, device, True, budget=Budget(60 * minutes, clock, (1.0,)))
    train, held_out = data.split("train"), data.split("val")
    last = list_checkpoints(folder / "dit")[-1]
    state = read_state(last)
    vae, dit = load_vae(options.vae, torch.device("cpu")), DiT(recipe.dit)
    vae.latent_mean[:], vae.latent_std[:] = latent_statistics(vae, train)
    load_tensors(last / "ema.safetensors", dit)
    flop = flop_of_an_atom(dit, vae, recipe, train)
    tokens = state["step"] * recipe.dit_train.tokens_per_step
    loss = held_out_loss(DiTLoss(dit.to(device), vae.to(device), recipe.flow), held_out, HELD_OUT, device)
    weights = bundle(recipe, vae, dit, train, {"molecule": ANCESTRAL})
    made, _ = generated(Generator(weights, str(device)), options.samples, options.seed, folder / "samples", clock)
    return Run(
        size=size,
        parameters=parameter_count(dit),
        minutes=minutes,
        seconds=state["seconds"],
        steps=state["step"],
        molecules_seen=round(tokens / float(train.sizes.mean())),
        pflop=flop * tokens / 1e15,
        loss=loss,
        samples=len(made),
        **verdict(made),
    )


def fits(runs: list[Run]) -> dict[str, Fit | None]:
    """Loss against parameters for each budget; loss and unstable atoms against FLOPs over all runs."""
    out = {}
    for minutes in sorted({run.minutes for run in runs}):
        some = [run for run in runs if run.minutes == minutes]
        name = f"held-out loss against parameters, {minutes:g} minutes"
        out[name] = power_law([run.parameters for run in some], [run.loss for run in some])
    flop = [1e15 * run.pflop for run in runs]
    out["held-out loss against FLOPs, all runs"] = power_law(flop, [run.loss for run in runs])
    out["unstable atoms against FLOPs, all runs"] = power_law(flop, [1 - run.stable_atoms for run in runs])
    return out


HEADINGS = (
    "DiT", "parameters", "minutes", "steps", "molecules seen", "PFLOP", "held-out loss", "stable atoms",
    "stable molecules", "valid", "valid, in one piece",
)  # fmt: skip


def markdown(runs: list[Run], about: dict[str, str]) -> str:
    """The section of the docs."""
    lines = [f"| {' | '.join(HEADINGS)} |", "|" + "---|" * len(HEADINGS)]
    for run in runs:
        shares = (run.stable_atoms, run.stable_molecules, run.valid, run.valid_connected)
        cells = [run.size, f"{run.parameters / 1e6:.2f} M", f"{run.seconds / 60:.1f}", f"{run.steps:,}",
                 f"{run.molecules_seen:,}", f"{run.pflop:.3g}", f"{run.loss:.4f}",
                 *(f"{100 * share:.1f} %" for share in shares)]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    laws = [f"- {name}: {fit or 'no power law'}" for name, fit in fits(runs).items()]
    measured = (
        f"Measured {about['date']} on {about['machine']}, {about['device']}, matrix products in {about['products']}, "
        f"torch {about['torch']}, commit {about['commit']}; {runs[0].samples} samples of each."
    )
    caveat = (
        "Fits by least squares of the logarithms. A power law through four sizes, at budgets of minutes and one seed, "
        "describes these runs; it predicts nothing at a hundred times the size."
    )
    return "\n\n".join([measured, "\n".join(lines), caveat, "\n".join(laws), "![scaling](images/scaling.png)"])


def plot(path: Path, runs: list[Run], about: dict[str, str]) -> None:
    """Held-out loss, stable atoms and validity against parameters and against FLOPs."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, grid = plt.subplots(2, 3, figsize=(13, 7.5), layout="constrained")
    panels = (("loss", "held-out loss"), ("stable_atoms", "stable atoms (EDM), share"), ("valid", "valid, share"))
    for axes, (against, title) in zip(
        grid, (("parameters", "parameters of the DiT"), ("pflop", "PFLOP of training")), strict=True
    ):
        for axis, (name, label) in zip(axes, panels, strict=True):
            for k, minutes in enumerate(sorted({run.minutes for run in runs})):
                some = [run for run in runs if run.minutes == minutes]
                x, y = [getattr(run, against) for run in some], [getattr(run, name) for run in some]
                axis.plot(x, y, marker="o", label=f"{minutes:g} minutes", color=f"C{k}")
            axis.set(xscale="log", xlabel=title, ylabel=label)
            axis.grid(alpha=0.3)
        _draw_fit(axes[0], runs, against)
        axes[0].set_yscale("log")
        axes[0].legend(fontsize=8)
    figure.suptitle(f"{about['machine']}, {about['device']}, {about['date']}", fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _draw_fit(axis: Any, runs: list[Run], against: str) -> None:
    """The power law of the loss: of the largest budget against parameters, of all runs against FLOPs."""
    longest = max(run.minutes for run in runs)
    some = [run for run in runs if against == "pflop" or run.minutes == longest]
    x = [float(getattr(run, against)) for run in some]
    if fit := power_law(x, [run.loss for run in some]):
        ends = np.geomspace(min(x), max(x), 20)
        axis.plot(ends, fit.factor * ends**fit.exponent, "k--", linewidth=1, label=f"exponent {fit.exponent:.3f}")


def publish(options: argparse.Namespace, device: torch.device) -> None:
    """Table, fits and plot of all runs that have ended."""
    found = [Run(**json.loads(file.read_text())) for file in options.runs.glob("*/outcome.json")]
    if not found:
        raise SystemExit(f"no run in {options.runs} has ended; run without --report first")
    runs = sorted(found, key=lambda run: (run.minutes, run.parameters))
    about = report.machine(Bench(device=device, bf16=has_bf16(device), batch=0))
    report.write_csv(options.out / "scaling.csv", runs, about)
    plot((options.docs or options.out / "x").parent / "images" / "scaling.png", runs, about)
    text = markdown(runs, about)
    print(text)
    if options.docs:
        report.fill(options.docs, "scaling", text)


def main(words: list[str] | None = None) -> None:
    options = arguments(words)
    torch.set_num_threads(1)
    device = choose_device(options.device)
    if options.quick:
        options.minutes, options.samples = [0.02, 0.04], 4
    if not options.report:
        data = load_all((options.data,))
        for minutes in sorted(options.minutes):
            for size in options.only:
                file = options.runs / f"{size}-{minutes:g}" / "outcome.json"
                if file.exists():
                    report.say(f"{size}, {minutes:g} minutes: done before")
                    continue
                report.say(f"{size}, {minutes:g} minutes")
                save_json(file, asdict(measure(size, minutes, options, data, device)))
    publish(options, device)


if __name__ == "__main__":
    main()
