"""The pictures of the README and the model card.

python benches/pictures.py --folder docs/images [--run runs/joint-tiny]

Not picked by hand: the first twelve molecules and crystals of a seed, variations of the first molecule, and the first
twelve of each kind with a fault, with what `adit.eval` says of it. With `--run` also the curves of its stages, from
their `log.csv`.
"""

from __future__ import annotations

import argparse
import csv
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("agg")

import numpy as np
from ase.data.colors import jmol_colors
from matplotlib import pyplot as plt
from matplotlib.colors import LinearSegmentedColormap

from adit.eval.crystals import structural_faults
from adit.eval.drawing import Drawing, draw, label
from adit.eval.molecules import judge
from adit.generate import Generator
from adit.system import AtomicSystem
from adit.train.stages import STAGES
from adit.validity import compositional_faults

COLUMNS, ROWS, BALL = 6, 2, 60
MANY = 10_000
"""Samples among which faults are looked for, at most."""
STRENGTHS = (0.3, 0.4, 0.45, 0.5, 0.5, 0.55, 0.55, 0.6, 0.6, 0.7, 0.8)
"""Of the variations of the first molecule."""
WINDOW = 25
"""Entries of a log of which a curve shows the mean."""


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="joint-tiny")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--run", type=Path, help="folder of a training run")
    parser.add_argument("--folder", type=Path, default=Path("docs/images"))
    options = parser.parse_args(words)
    generator = Generator.from_pretrained(options.weights)
    for kind in ("molecule", "crystal"):
        wrong: list[tuple[AtomicSystem, str]] = []
        for number, systems in enumerate(generator.stream(MANY, kind, seed=options.seed)):
            if number == 0:
                gallery(options.folder / f"{kind}s.png", systems[: COLUMNS * ROWS], [])
                if kind == "molecule":
                    near = [
                        generator.sample(1, like=systems[0], strength=s, seed=k)[0] for k, s in enumerate(STRENGTHS)
                    ]
                    notes = ["the template", *(f"strength {strength}" for strength in STRENGTHS)]
                    gallery(options.folder / "variations.png", [systems[0], *near], notes)
            wrong += [(system, reason) for system, reason in zip(systems, reasons(systems), strict=True) if reason]
            if len(wrong) >= COLUMNS * ROWS:
                break
        chosen, why = zip(*wrong[: COLUMNS * ROWS], strict=True) if wrong else ((), ())
        gallery(options.folder / f"{kind}-faults.png", chosen, why)
    if options.run:
        curves(options.folder / "training.png", options.run)


def reasons(systems: Sequence[AtomicSystem]) -> list[str]:
    """What is wrong with each molecule or crystal; "" where nothing is."""
    if systems[0].cell is None:
        return judge(systems, "adit-rust").reasons
    pairs = zip(structural_faults(systems), compositional_faults(systems), strict=True)
    return [structural or compositional for structural, compositional in pairs]


def gallery(path: Path, systems: Sequence[AtomicSystem], notes: Sequence[str]) -> None:
    """A grid of pictures, with formulas and perhaps notes."""
    figure, grid = plt.subplots(ROWS, COLUMNS, figsize=(14.4, 6.8 if notes else 5.6))
    for axes in grid.flat:
        axes.axis("off")
    for k, (axes, system) in enumerate(zip(grid.flat, systems, strict=False)):
        paint(axes, draw(system))
        title = re.sub(r"(\d+)", r"$_{\1}$", label(system))
        axes.set_title(title, y=-0.08, fontsize=14, color="#333")
        if notes:
            note = textwrap.fill(notes[k], 30)
            axes.text(0.5, -0.12, note, transform=axes.transAxes, ha="center", va="top", fontsize=8, color="#a33")
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    plt.close(figure)


def curves(path: Path, run: Path) -> None:
    """Errors of each stage (RMSD in Angstrom; of latents), and what the samples were worth while stage 2 trained.

    A panel without entries is left out.
    """
    panels = {
        stage: ("train", [f"{kind}/{'error' if stage == 'dit' else 'rmsd'}" for kind in ("molecule", "crystal")])
        for stage in STAGES
    }
    samples = ["molecule/stable_atoms", "molecule/valid_unique_novel", "crystal/valid_unique_novel"]
    panels["samples of the averaged weights"] = ("validation", samples)
    found = {
        title: {name: entries(run / (title if title in STAGES else "dit") / "log.csv", kind, name) for name in names}
        for title, (kind, names) in panels.items()
    }
    found = {title: lines for title, lines in found.items() if any(steps for steps, _ in lines.values())}
    figure, grid = plt.subplots(1, len(found), figsize=(3.6 * len(found), 3.6), layout="constrained", squeeze=False)
    for axes, (title, lines) in zip(grid[0], found.items(), strict=True):
        for name, (steps, values) in lines.items():
            if title in STAGES:
                axes.plot(smooth(steps), smooth(values), label=name)
            else:
                axes.plot(steps, values, marker="o", label=name)
        axes.set(title=title, xlabel="step", **({"yscale": "log"} if title in STAGES else {"ylim": (0, 1)}))
        axes.legend(fontsize=8)
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def entries(log: Path, kind: str, name: str) -> tuple[list[int], list[float]]:
    """Steps and values of a figure of a stage; empty if there is none."""
    if not log.exists():
        return [], []
    with log.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if (row["kind"], row["name"]) == (kind, name)]
    return [int(row["step"]) for row in rows], [float(row["value"]) for row in rows]


def smooth(values: Sequence[float]) -> Any:
    """Means of `WINDOW` neighbours."""
    width = min(WINDOW, len(values))
    return np.convolve(values, np.ones(width) / width, "valid") if width else []


def paint(axes: Any, drawing: Drawing) -> None:
    """Balls and sticks, the far ones first."""
    tasks: list[tuple[float, str, Any]] = [(start[2] + end[2], "edge", (start, end)) for start, end in drawing.edges]
    for pair in drawing.bonds:
        halves = drawing.positions[pair]
        middle = halves.mean(0)
        tasks += [(2 * half[2] - 0.2, "stick", (half, middle, n)) for half, n in zip(halves, pair, strict=True)]
    tasks += [(2 * place[2], "ball", (place, k)) for k, place in enumerate(drawing.positions)]
    for depth, (_, what, values) in enumerate(sorted(tasks, key=lambda task: task[0])):
        if what == "ball":
            place, k = values
            ball(axes, place, drawing.radii[k], jmol_colors[drawing.numbers[k]], depth)
            continue
        start, end = values[0], values[1]
        colour = "#888" if what == "edge" else 0.85 * jmol_colors[drawing.numbers[values[2]]]
        axes.plot(*zip(start[:2], end[:2], strict=True), color=colour, lw=1 if what == "edge" else 5, zorder=depth)
    reach = drawing.radius
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    axes.axis("off")


def ball(axes: Any, place: np.ndarray, radius: float, colour: np.ndarray, depth: int) -> None:
    """A shaded disc, lit from the upper left."""
    shades = LinearSegmentedColormap.from_list("", [0.45 * colour, colour, 0.4 * colour + 0.6])
    x, y = np.meshgrid(np.linspace(-1, 1, BALL), np.linspace(-1, 1, BALL))
    inside = x * x + y * y <= 1
    height = np.sqrt(np.where(inside, 1 - x * x - y * y, 0))
    light = np.clip((-0.4 * x + 0.5 * y + 0.77 * height), 0, 1)
    picture = shades(light)
    picture[..., 3] = inside
    ends = (place[0] - radius, place[0] + radius, place[1] - radius, place[1] + radius)
    axes.imshow(picture, extent=ends, origin="lower", zorder=depth, interpolation="bilinear")


if __name__ == "__main__":
    main()
