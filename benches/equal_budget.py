"""Quality at equal budget: EDM's EGNN and adit's autoencoder + DiT, trained for the same time on the same molecules.

    python benches/equal_budget.py --docs docs/benchmarks.md             # all: hours of one CPU core
    python benches/equal_budget.py --only edm --minutes 45               # one of them; a killed run goes on
    python benches/equal_budget.py --report --docs docs/benchmarks.md    # tables and plot of what is there
    python benches/equal_budget.py --quick                               # a minute: does it run?

The budget is CPU time of the training process with one thread (on a GPU: wall time). The autoencoder's training, the
statistics of its latents and compiling count; reading figures for the curves does not.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from adit.config import DiTConfig, OptimConfig, Recipe, VAEConfig
from adit.data.packed import PackedDataset
from adit.generate import Generator, choose_device
from adit.models.vae import VAE
from adit.recipes import get_recipe
from adit.train.checkpoint import list_checkpoints, read_state
from adit.train.meter import Budget
from adit.train.stages import load_all, speedrun
from baselines import report
from baselines.common import parameter_count
from baselines.timing import Bench
from quality import edm, keep

MARKS = (0.1, 0.25, 0.5, 0.75, 1.0)
VAE_SHARE = 1 / 3
FIGURES = ("loss", "molecule/stable_atoms", "molecule/stable", "molecule/valid", "molecule/rmsd")
NAMES = {"edm": "EDM", "edm-small": "EDM, smaller", "adit": "adit (VAE + DiT)"}
EDM_SIZES = {"edm": (256, 9), "edm-small": (128, 6)}
"""Width and layers; the first is the published network."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One comparison.

    Attributes:
        data: prepared data set of molecules; its training split is used.
        minutes: budget of each.
        seed: of weights, batches and samples.
        runs: folder of the runs.
        n: molecules that are sampled and judged at the end.
        evaluations: of EDM's network for one of them, 1,001 as published.
        curve: molecules for each point of the curves; EDM's with a quarter of the evaluations.
        batch: EDM's, in molecules.
        optimizer: EDM's, "adamw" or "muon" as in `adit.config.OptimConfig`.
        rate: EDM's learning rate, of AdamW.
        ema: decay of EDM's average.
        quick: tiny networks.
        device: where all runs.
    """

    data: str
    minutes: float
    seed: int
    runs: Path
    n: int
    evaluations: int
    curve: int
    batch: int
    optimizer: str
    rate: float
    ema: float
    quick: bool
    device: torch.device

    @property
    def clock(self) -> keep.Clock:
        return keep.clock_of(self.device)

    @property
    def bf16(self) -> bool:
        return keep.has_bf16(self.device)

    @property
    def compiled(self) -> bool:
        """torch.compile of the layers: a tenth quicker, for half a minute of the budget."""
        return self.minutes >= 10


@dataclass(frozen=True, kw_only=True)
class Outcome(keep.Judged):
    """What became of one network: see `Settings`, and EDM's paper for the names."""

    name: str
    steps: str
    molecules_seen: str
    evaluations: int
    sampling_seconds: float


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(NAMES), help="default: edm and adit")
    parser.add_argument("--minutes", type=float, default=45.0, help="for the training of each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", default="qm9", help="prepared data set of molecules")
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--evaluations", type=int, default=250, help="of EDM's network for a sample; published: 1001")
    parser.add_argument("--curve", type=int, default=100, help="molecules for a point of the learning curves")
    parser.add_argument("--edm-batch", type=int, default=32)
    parser.add_argument("--edm-optimizer", choices=("adamw", "muon"), default="adamw")
    parser.add_argument("--edm-rate", type=float, default=1e-3)
    parser.add_argument("--edm-ema", type=float, default=0.998)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--runs", type=Path, default=Path("runs/equal-budget"), help="checkpoints, samples, verdicts")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results", help="folder for the CSV files")
    parser.add_argument("--docs", type=Path, help="document to fill; the plot goes to images/ beside it")
    parser.add_argument("--report", action="store_true", help="only tables and plot of the runs that are there")
    parser.add_argument("--quick", action="store_true", help="tiny networks for seconds: does it run?")
    return parser.parse_args(words)


def our_recipe(settings: Settings) -> Recipe:
    """joint-tiny on this data alone, smaller, because the budget is."""
    tiny = get_recipe("joint-test" if settings.quick else "joint-tiny")
    train = {"seed": settings.seed, "bf16": settings.bf16, "compile": settings.compiled, "checkpoint_every": 100}
    dit_train = replace(tiny.dit_train, **train, validation_samples=settings.curve)
    recipe = replace(
        tiny,
        name="equal-budget",
        data=(settings.data,),
        vae_train=replace(tiny.vae_train, **train),
        dit_train=dit_train,
    )
    if settings.quick:
        return recipe
    return replace(
        recipe,
        vae=VAEConfig(width=192, heads=6, encoder_layers=3, decoder_layers=4, latent_dim=8, qk_norm=True),
        dit=DiTConfig(width=192, heads=6, layers=6, latent_dim=8, qk_norm=True),
    )


def run_adit(settings: Settings, folder: Path, data: PackedDataset) -> Outcome:
    recipe = our_recipe(settings)
    weights = folder / "weights"
    if not (weights / "config.json").exists():
        speedrun(recipe, folder, settings.device, settings.minutes, VAE_SHARE, 0.0, True, settings.clock, MARKS)
    generator = Generator.from_pretrained(weights, device=str(settings.device))
    made, sampling = keep.generated(generator, settings.n, settings.seed, folder / "samples", settings.clock)
    states = [read_state(list_checkpoints(folder / stage)[-1]) for stage in ("vae", "dit")]
    configs = (recipe.vae_train, recipe.dit_train)
    seen = [molecules_seen(data, config, state["step"]) for config, state in zip(configs, states, strict=True)]
    return Outcome(
        name=NAMES["adit"],
        parameters=parameter_count(VAE(recipe.vae)) + parameter_count(generator.model.dit),
        minutes=settings.minutes,
        seconds=sum(state["seconds"] for state in states),
        steps=" + ".join(f"{state['step']:,}" for state in states),
        molecules_seen=" + ".join(f"{count:,}" for count in seen),
        samples=len(made),
        evaluations=keep.ANCESTRAL.steps,
        sampling_seconds=sampling,
        **keep.verdict(made),
    )


def molecules_seen(data: PackedDataset, config: Any, steps: int) -> int:
    """Molecules in the first `steps` batches, repetitions included: by their mean size."""
    return round(steps * config.tokens_per_step / float(data.sizes.mean()))


def run_edm(settings: Settings, name: str, folder: Path, data: PackedDataset) -> Outcome:
    width, layers = (16, 2) if settings.quick else EDM_SIZES[name]
    optim = OptimConfig(
        optimizer=settings.optimizer, learning_rate=settings.rate, muon_learning_rate=0.02, betas=(0.9, 0.999),
        gradient_clip=1.0, warmup_steps=100, decay_fraction=0.3, ema_decay=settings.ema,
    )  # fmt: skip
    budget = Budget(60 * settings.minutes, settings.clock, MARKS)
    config = edm.train_config(optim, settings.batch, settings.seed, settings.curve, bf16=settings.bf16)
    diffusion = edm.build(width, layers, settings.seed, settings.device, compiled=settings.compiled)
    edm.train(diffusion, data, config, folder / "edm", budget, max(2, settings.evaluations // 4))
    edm.load_average(diffusion, folder / "edm")
    blocks = edm.blocks(
        diffusion, data.split("train"), settings.n, settings.evaluations, settings.seed, bf16=settings.bf16
    )
    made, sampling = keep.kept_samples(folder / "samples", blocks, settings.clock)
    state = read_state(list_checkpoints(folder / "edm")[-1])
    return Outcome(
        name=NAMES[name],
        parameters=parameter_count(diffusion.network),
        minutes=settings.minutes,
        seconds=state["seconds"],
        steps=f"{state['step']:,}",
        molecules_seen=f"{molecules_seen(data, config, state['step']):,}",
        samples=len(made),
        evaluations=settings.evaluations,
        sampling_seconds=sampling,
        **keep.verdict(made),
    )


def curves(name: str, folder: Path) -> list[keep.CurvePoint]:
    """Of all stages of a run; the seconds of the second stage follow those of the first."""
    if name != "adit":
        return keep.curve(NAMES[name], "edm", folder / "edm", 0.0, FIGURES)
    before = read_state(list_checkpoints(folder / "vae")[-1])["seconds"]
    return [
        *keep.curve(NAMES[name], "vae", folder / "vae", 0.0, FIGURES),
        *keep.curve(NAMES[name], "dit", folder / "dit", before, FIGURES),
    ]


HEADINGS = (
    "network", "parameters", "CPU minutes", "steps", "molecules seen", "evaluations", "s for the samples",
    "stable atoms", "stable molecules", "valid", "valid, in one piece", "unique of valid", "judge.py: stable atoms",
    "stable molecules", "valid",
)  # fmt: skip


def markdown(outcomes: list[Outcome], settings: Settings, about: dict[str, str]) -> str:
    """The section of the docs."""
    lines = [f"| {' | '.join(HEADINGS)} |", "|" + "---|" * len(HEADINGS)]
    for o in outcomes:
        interval = f"{percent(o.stable_atoms)} ({100 * o.stable_atoms_low:.1f} to {100 * o.stable_atoms_high:.1f})"
        shares = (o.stable_molecules, o.valid, o.valid_connected, o.unique_of_valid, o.judge_stable_atoms,
                  o.judge_stable_molecules, o.judge_valid)  # fmt: skip
        cells = [o.name, f"{o.parameters / 1e6:.2f} M", f"{o.seconds / 60:.1f}", o.steps, f"{o.molecules_seen}",
                 f"{o.evaluations:,}", f"{o.sampling_seconds:,.0f}", interval, *map(percent, shares)]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    seconds = "CPU seconds, one thread" if about["device"] == "cpu" else "wall seconds"
    measured = (
        f"Measured {about['date']} on {about['machine']}, {about['device']}, matrix products in {about['products']}, "
        f"torch {about['torch']}, commit {about['commit']}; seed {settings.seed}; {outcomes[0].samples:,} samples "
        f"of each; times in {seconds}: `python benches/equal_budget.py --minutes {outcomes[0].minutes:g}`."
    )
    return "\n\n".join([measured, "\n".join(lines), "![learning curves](images/equal-budget.png)"])


def percent(share: float | None) -> str:
    return "-" if share is None or share != share else f"{100 * share:.1f} %"


def plot(path: Path, points: list[keep.CurvePoint], about: dict[str, str]) -> None:
    """Loss, stable atoms and valid molecules against the minutes of the budget."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
    panels = (("train", "loss", "training loss, as a share of the first"),
              ("validation", "molecule/stable_atoms", "stable atoms (EDM), share"),
              ("validation", "molecule/valid", "valid molecules (RDKit bonds), share"))  # fmt: skip
    for axis, (kind, name, label) in zip(axes, panels, strict=True):
        for k, key in enumerate(dict.fromkeys((p.name, p.stage) for p in points)):
            some = [p for p in points if (p.name, p.stage) == key and (p.kind, p.figure) == (kind, name)]
            if some:
                scale = some[0].value if kind == "train" else 1.0
                title = key[0] + (f", {key[1]}" if key[1] != "edm" else "")
                axis.plot([p.seconds / 60 for p in some], [p.value / scale for p in some], label=title, color=f"C{k}",
                          marker="o" if kind == "validation" else None)  # fmt: skip
        axis.set(xlabel="minutes of the budget", ylabel=label, ylim=(0, None))
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    figure.suptitle(f"{about['machine']}, {about['device']}, one thread, {about['date']}", fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def publish(settings: Settings, out: Path, docs: Path | None) -> None:
    """Tables, curves and plot of all runs that have ended."""
    found = {name: settings.runs / name / "outcome.json" for name in NAMES}
    found = {name: file for name, file in found.items() if file.exists()}
    if not found:
        raise SystemExit(f"no run in {settings.runs} has ended; run without --report first")
    outcomes = [Outcome(**json.loads(file.read_text())) for file in found.values()]
    points = [point for name in found for point in curves(name, settings.runs / name)]
    about = report.machine(Bench(device=settings.device, bf16=settings.bf16, batch=0))
    report.write_csv(out / "equal_budget.csv", outcomes, about)
    report.write_csv(out / "equal_budget_curves.csv", points, {})
    plot((docs or out / "x").parent / "images" / "equal-budget.png", points, about)
    text = markdown(outcomes, settings, about)
    print(text)
    if docs:
        report.fill(docs, "equal-budget", text)


def main(words: list[str] | None = None) -> None:
    options = arguments(words)
    torch.set_num_threads(1)
    quick = options.quick
    settings = Settings(
        data=options.data,
        minutes=0.03 if quick else options.minutes,
        seed=options.seed,
        runs=options.runs,
        n=8 if quick else options.samples,
        evaluations=4 if quick else options.evaluations,
        curve=4 if quick else options.curve,
        batch=options.edm_batch,
        optimizer=options.edm_optimizer,
        rate=options.edm_rate,
        ema=options.edm_ema,
        quick=quick,
        device=choose_device(options.device),
    )
    if not options.report:
        data = load_all((settings.data,))
        if data.periodic.any():
            raise SystemExit(f"{settings.data} holds crystals, which EDM cannot make; expected molecules alone")
        for name in options.only or ("edm", "adit"):
            folder = settings.runs / name
            if (folder / "outcome.json").exists():
                report.say(f"{NAMES[name]}: done before, in {folder}")
                continue
            report.say(f"{NAMES[name]}, {settings.minutes:g} minutes, in {folder}")
            run = run_adit if name == "adit" else partial(run_edm, name=name)
            keep.save_json(folder / "outcome.json", asdict(run(settings=settings, folder=folder, data=data)))
    publish(settings, options.out, options.docs)


if __name__ == "__main__":
    main()
