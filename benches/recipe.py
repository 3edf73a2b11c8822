"""The recipe by experiment: one change at a time from a small baseline, each trained for the same minutes of one core.

    python benches/recipe.py --docs docs/recipe.md                # all choices: an hour of one CPU core
    python benches/recipe.py --only base velocity --minutes 10    # some of them; a killed run goes on
    python benches/recipe.py --report --docs docs/recipe.md       # the tables of what is there
    python benches/recipe.py --quick --data SMALL                 # seconds: does it run?

The choices are in `benches/quality/choices.py`. Stage 2 is trained on the autoencoder of the shipped weights (on
latents that are encoded once for all runs, outside of their budget), stage 1 is a small autoencoder of its own. The
budget is CPU time with one thread. Samples: the same seed, solver and steps for all.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from adit import validity as crystal_validity
from adit.config import DiTConfig, Recipe, VAEConfig, to_dict
from adit.data.packed import PackedDataset
from adit.eval.crystals import novel, unique
from adit.eval.molecules import validity
from adit.eval.stability import edm_stability
from adit.eval.statistics import bootstrap
from adit.flow.path import interpolate, preconditioning, to_data
from adit.generate import Generator
from adit.models.dit import CRYSTAL, MOLECULE, DiT
from adit.models.vae import VAE
from adit.recipes import get_recipe
from adit.system import AtomicSystem
from adit.train.checkpoint import list_checkpoints, load_tensors, read_state
from adit.train.meter import Budget
from adit.train.reconstruct import load_vae
from adit.train.stages import bundle, load_all, train_vae
from adit.train.validate import known_smiles, reconstruction_figures
from adit.weights.store import SamplingDefaults
from baselines import report
from baselines.timing import Bench
from quality import recipe_tables as tables
from quality.choices import CHOICES, Choice
from quality.keep import kept_samples, save_json
from quality.pool import Pool, PoolLoss, PoolTrainer, average_of, encoded, statistics

CPU = torch.device("cpu")
SAMPLING = {"molecule": SamplingDefaults(steps=50, solver="ancestral", cfg=1.0),
            "crystal": SamplingDefaults(steps=25, solver="dpm++", cfg=1.0)}  # fmt: skip
"""As the shipped weights."""
TIMES = (0.1, 0.3, 0.5, 0.7, 0.9)
"""At which the error is measured."""
SHIPPED = "shipped"
Figures = dict[str, tuple[float, float, float]]
"""Name to value, and the bounds of its 95 % interval over samples; NaN where it is none over samples."""


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(CHOICES), default=list(CHOICES), metavar="CHOICE")
    parser.add_argument("--minutes", type=float, default=1.0, help="of each run")
    parser.add_argument("--steps", type=int, help="of each run, in place of minutes, whose pace a busy machine changes")
    parser.add_argument("--samples", type=int, default=300, help="molecules and crystals, each, of each run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", nargs="+", default=["qm9", "mp20"], help="prepared data sets")
    parser.add_argument("--vae", default="joint-tiny", help="weights or run whose autoencoder stage 2 takes")
    parser.add_argument("--pool", type=int, default=60_000, help="molecules and crystals, each, that are encoded")
    parser.add_argument("--runs", type=Path, default=Path("runs/recipe"), help="checkpoints, samples, verdicts")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results", help="folder for the CSV file")
    parser.add_argument("--docs", type=Path, help="document to fill")
    parser.add_argument("--report", action="store_true", help="only the tables of the runs that are there")
    parser.add_argument("--quick", action="store_true", help="seconds and few samples: does it run?")
    return parser.parse_args(words)


def baseline(options: argparse.Namespace) -> Recipe:
    """joint-tiny in small, with a warm-up and an average that suit the budget."""
    tiny = get_recipe("joint-tiny")
    bf16 = bool(torch.cpu._is_avx512_bf16_supported())
    budget: dict[str, Any] = {"tokens_per_step": 2048, "seed": options.seed, "checkpoint_every": 100,
                              **({"steps": options.steps} if options.steps else {}),
                              "validation_samples": 4, "compile": False, "bf16": bf16}  # fmt: skip
    if options.quick:
        budget |= {"tokens_per_step": 256, "tokens_per_group": 128}
    stages: dict[str, Any] = {
        name: replace(train, **budget, optim=replace(train.optim, warmup_steps=50, ema_decay=0.99))
        for name, train in (("vae_train", tiny.vae_train), ("dit_train", tiny.dit_train))
    }
    vae = VAEConfig(width=96, heads=3, encoder_layers=2, decoder_layers=2, latent_dim=8, qk_norm=True)
    dit = DiTConfig(width=96, heads=3, layers=3, latent_dim=8, qk_norm=True)
    return replace(tiny, name="recipe", data=tuple(options.data), vae=vae, dit=dit, **stages)


class Experiment:
    """What all runs share."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.runs, self.base = options, options.runs, baseline(options)
        data = load_all(tuple(options.data))
        self.train, self.held_out = data.split("train"), data.split("val")
        self.known = partial(known_smiles, self.train, self.runs / "pool" / "known_smiles.txt")
        self.crystals = self.train.subset(np.flatnonzero(self.train.periodic))
        self._pools: dict[str, tuple[VAE, Pool, Pool]] = {}

    def budget(self) -> Budget | None:
        """CPU time; None if the steps are given."""
        return None if self.options.steps else Budget(60 * self.options.minutes, time.process_time, (1.0,))

    def recipe(self, choice: Choice) -> Recipe:
        """The baseline with the choice's change and seed."""
        recipe = choice.of(self.base)
        seed = self.options.seed + choice.seed
        stages = {name: replace(getattr(recipe, name), seed=seed) for name in ("vae_train", "dit_train")}
        return replace(recipe, **stages)

    def pools(self, name: str) -> tuple[VAE, Pool, Pool]:
        """An autoencoder (that of the shipped weights, or of a choice), systems to train on and held-out ones."""
        if name not in self._pools:
            folder, sizes = self.runs / "pool", (16, 8) if self.options.quick else (self.options.pool, 500)
            vae = load_vae(self.options.vae if name == SHIPPED else self.runs / name, CPU)
            statistics(vae, self.train, folder / f"{name}-statistics.safetensors")
            bf16 = self.base.dit_train.bf16
            made = [
                encoded(vae, data, size, folder / f"{name}-{kind}-{size}.safetensors", bf16=bf16)
                for data, size, kind in zip((self.train, self.held_out), sizes, ("train", "val"), strict=True)
            ]
            self._pools = {SHIPPED: self._pools[SHIPPED]} if SHIPPED in self._pools else {}
            self._pools[name] = (vae, made[0], made[1])
        return self._pools[name]

    def measure(self, name: str) -> dict[str, Any]:
        """Trains and judges one choice; whatever of it is there already is not done again."""
        choice, folder = CHOICES[name], self.runs / name
        if choice.stage == "vae":
            stage, figures = self.autoencoder(choice, folder)
        elif choice.stage in ("dit", "dit on vae"):
            stage = self.dit(choice, folder)
            figures = self.judged(choice, folder, list_checkpoints(stage)[-1] / "ema.safetensors")
        else:
            stage = self.runs / "base" / "dit"
            found = list_checkpoints(stage)
            if not found:
                raise SystemExit(f"{name} is judged on the weights of the choice base, which is not in {self.runs}")
            weights = {"weights": "model.safetensors", "sampling": "ema.safetensors"}[choice.stage]
            file = average_of(found[-1], choice.decay) if choice.decay else found[-1] / weights
            figures = self.judged(choice, folder, file)
        state = read_state(list_checkpoints(stage)[-1])
        return {"steps": state["step"], "seconds": state.get("seconds", float("nan")),
                "minutes": float("nan") if self.options.steps else self.options.minutes,
                "samples": self.options.samples, "figures": figures}  # fmt: skip

    def autoencoder(self, choice: Choice, folder: Path) -> tuple[Path, Figures]:
        stage = train_vae(self.recipe(choice), folder, CPU, True, budget=self.budget())
        vae = load_vae(stage, CPU)
        statistics(vae, self.train, self.runs / "pool" / f"{folder.name}-statistics.safetensors")
        figures = reconstruction_figures(vae, self.held_out, self.options.samples)
        return stage, {key: (value, float("nan"), float("nan")) for key, value in figures.items()}

    def dit(self, choice: Choice, folder: Path) -> Path:
        recipe = self.recipe(choice)
        vae, pool, _ = self.pools(choice.vae or SHIPPED)
        torch.manual_seed(recipe.dit_train.seed)
        dit = choice.network(recipe.dit)
        trainer = PoolTrainer(
            model=dit, loss=PoolLoss(dit, vae, recipe.flow), data=pool.data, encoded=pool, config=recipe.dit_train,
            folder=folder / "dit", header={"stage": "dit", "recipe": to_dict(recipe)}, budget=self.budget(),
            decays=tuple(other.decay for other in CHOICES.values() if other.decay),
        )  # fmt: skip
        trainer.run(resume=True)
        return trainer.folder

    def judged(self, choice: Choice, folder: Path, weights: Path) -> Figures:
        """Errors and samples of a trained DiT."""
        recipe = self.recipe(choice)
        vae, _, held_out = self.pools(choice.vae or SHIPPED)
        dit = choice.network(recipe.dit)
        load_tensors(weights, dit)
        kinds = [
            kind for kind, none in (("molecule", 1.0), ("crystal", 0.0)) if recipe.dit_train.crystal_fraction != none
        ]
        figures: Figures = {}
        sampling = {kind: replace(settings, cfg=choice.cfg) for kind, settings in SAMPLING.items()}
        generator = Generator(bundle(recipe, vae, dit, self.train, sampling), "cpu")
        for kind in kinds:
            if choice.stage in ("dit", "weights"):
                figures |= errors(dit, held_out, kind)
            draw = partial(generator.sample, self.options.samples, kind, seed=self.options.seed)
            made, _ = kept_samples(folder / kind, [draw], time.process_time)
            figures |= molecules(made, self.known()) if kind == "molecule" else crystals(made, self.crystals)
        return figures


@torch.no_grad()
def errors(dit: DiT, held_out: Pool, kind: str) -> Figures:
    """Mean squared error of the clean latents at each of `TIMES`, and `unexplained`: its share of the error of a guess
    that knows of no structure (skip x_t, `adit.flow.path.preconditioning`: an untrained DiT's), mean of the times.

    As the sampler asks: the second of two predictions, which is fed the first.
    """
    dit.eval()
    generator = torch.Generator().manual_seed(0)
    label = torch.tensor([CRYSTAL if kind == "crystal" else MOLECULE])
    total, linear, atoms = np.zeros(len(TIMES)), np.zeros(len(TIMES)), 0
    for batch in held_out.by_size(kind):
        for k, value in enumerate(TIMES):
            t = torch.tensor([value])
            noise = torch.randn(batch.latents.shape, generator=generator)
            x = interpolate(noise, batch.latents, t)
            guess = to_data(dit(x, t, label, torch.zeros_like(x)), x, t)
            made = to_data(dit(x, t, label, guess), x, t)
            total[k] += float((made - batch.latents).square().mean(-1).sum())
            linear[k] += float((preconditioning(t)[0] * x - batch.latents).square().mean(-1).sum())
        atoms += batch.n_systems * batch.n_atoms
    values = {f"{kind}/error@{t:g}": value for t, value in zip(TIMES, total / atoms, strict=True)}
    values[f"{kind}/unexplained"] = (total / linear).mean()
    return {name: (float(value), float("nan"), float("nan")) for name, value in values.items()}


def molecules(made: list[AtomicSystem], known: set[str]) -> Figures:
    """Stability by EDM's tables, validity by `adit-rust`, valid and unique and novel."""
    stable, smiles = edm_stability(made), validity(made)
    first = {text: k for k, text in reversed(list(enumerate(smiles)))}
    new = [text is not None and first[text] == k and text not in known for k, text in enumerate(smiles)]
    return {
        "molecule/stable_atoms": (stable.atom_stability, *bootstrap(stable.atoms, stable.sizes)),
        "molecule/stable": share(stable.molecules),
        "molecule/valid": share([text is not None for text in smiles]),
        "molecule/valid_unique_novel": share(new),
    }


def crystals(made: list[AtomicSystem], train: PackedDataset) -> Figures:
    """Validity, and valid and unique and novel."""
    structural, compositional = crystal_validity.structural(made), crystal_validity.compositional(made)
    valid = structural & compositional
    return {
        "crystal/structural": share(structural),
        "crystal/compositional": share(compositional),
        "crystal/valid": share(valid),
        "crystal/valid_unique_novel": share(valid & unique(made).first & novel(made, train)),
    }


def share(flags: Any) -> tuple[float, float, float]:
    """Of True, with its interval."""
    return float(np.mean(flags)), *bootstrap(flags)


def publish(options: argparse.Namespace) -> None:
    """Tables of all runs that have ended."""
    files = {name: options.runs / name / "outcome.json" for name in CHOICES}
    found = {name: json.loads(file.read_text()) for name, file in files.items() if file.exists()}
    if not found:
        raise SystemExit(f"no run in {options.runs} has ended; run without --report first")
    about = report.machine(Bench(device=CPU, bf16=bool(torch.cpu._is_avx512_bf16_supported()), batch=0))
    report.write_csv(options.out / "recipe.csv", tables.lines(found), about)
    text = tables.markdown(found, about)
    print(text)
    if options.docs:
        report.fill(options.docs, "recipe", text)


def main(words: list[str] | None = None) -> None:
    options = arguments(words)
    torch.set_num_threads(1)
    if options.quick:
        options.minutes, options.samples = 0.02, 4
    if not options.report:
        experiment = Experiment(options)
        for name in options.only:
            file = options.runs / name / "outcome.json"
            if file.exists():
                report.say(f"{name}: done before")
                continue
            report.say(f"{name}: {CHOICES[name].what}, {CHOICES[name].value}")
            outcome = experiment.measure(name)
            file.parent.mkdir(parents=True, exist_ok=True)
            save_json(file, outcome)
    publish(options)


if __name__ == "__main__":
    main()
