"""The pictures of the README: the first twelve molecules and crystals of a seed, not picked by hand.

python benches/pictures.py --folder docs/images
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("agg")

import numpy as np
from ase.data.colors import jmol_colors
from matplotlib import pyplot as plt
from matplotlib.colors import LinearSegmentedColormap

from adit.eval.drawing import Drawing, draw, label
from adit.generate import Generator

COLUMNS, ROWS, BALL = 6, 2, 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="joint-tiny")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("docs/images"))
    options = parser.parse_args()
    generator = Generator.from_pretrained(options.weights)
    for kind in ("molecule", "crystal"):
        systems = generator.sample(COLUMNS * ROWS, kind, seed=options.seed)
        figure, grid = plt.subplots(ROWS, COLUMNS, figsize=(14.4, 5.6))
        for axes, system in zip(grid.flat, systems, strict=True):
            paint(axes, draw(system))
            axes.set_title(re.sub(r"(\d+)", r"$_{\1}$", label(system)), y=-0.08, fontsize=14, color="#333")
        figure.tight_layout()
        figure.savefig(options.folder / f"{kind}s.png", dpi=100)
        plt.close(figure)


def paint(axes: Any, drawing: Drawing) -> None:
    """Balls and sticks, the far ones first."""
    tasks = [(start[2] + end[2], "edge", (start, end)) for start, end in drawing.edges]
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
