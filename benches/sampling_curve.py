"""Quality against sampler settings: which steps, solver and guidance scale the weights should ship with.

python benches/sampling_curve.py --csv benches/results/sampling_curve.csv --plot docs/images/sampling_curve.png
"""

from __future__ import annotations

import argparse
import csv
import platform
import time
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from adit import validity as crystal_validity
from adit.eval.molecules import judge, uniqueness
from adit.eval.stability import edm_stability
from adit.generate import Generator

SETTINGS = [
    *(f"{solver}:{steps}" for solver in ("euler", "dpm++") for steps in (10, 25, 50, 100)),
    *(f"heun:{steps}" for steps in (5, 13, 25, 50)),
    *(f"ancestral:{steps}" for steps in (10, 25, 50, 100, 200)),
]
QUALITY = {"molecule": "stable_molecules", "crystal": "valid"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", default="joint-tiny")
    parser.add_argument("--n", type=int, default=512, help="samples of each kind and setting")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--settings", nargs="+", default=SETTINGS)
    parser.add_argument("--cfg", type=float, nargs="+", default=[1.0])
    parser.add_argument("--systems", nargs="+", default=["molecule", "crystal"])
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--plot", type=Path, help=".png or .svg")
    options = parser.parse_args()
    generator = Generator.from_pretrained(options.weights)
    rows = []
    for system, setting, cfg in product(options.systems, options.settings, options.cfg):
        solver, steps = setting.split(":")
        start = time.perf_counter()
        formula = "any" if system == "crystal" else None  # told ones are nearly all valid, whatever the solver
        made = generator.sample(
            options.n, system, seed=options.seed, solver=solver, steps=int(steps), cfg=cfg, guide=1.0, formula=formula,
            batch_size=options.n,
        )  # fmt: skip
        seconds = time.perf_counter() - start
        row: dict[str, object] = {
            "system": system, "solver": solver, "steps": int(steps), "cfg": cfg, "n": options.n,
            "seed": options.seed, "evaluations": evaluations(solver, int(steps), cfg),
            "seconds": round(seconds, 2), "machine": platform.processor() or platform.machine(),
        }  # fmt: skip
        if system == "molecule":
            stability, verdicts = edm_stability(made), judge(made, "adit")
            figures = {
                "stable_atoms": stability.atom_stability,
                "stable_molecules": stability.molecule_stability,
                "valid": verdicts.paired.mean(),
                "connected": verdicts.connected.mean(),
                "unique": uniqueness(verdicts.smiles),
            }
        else:
            structural, compositional = crystal_validity.structural(made), crystal_validity.compositional(made)
            figures = {
                "structural": structural.mean(),
                "compositional": compositional.mean(),
                "valid": (structural & compositional).mean(),
            }
        row |= {name: round(float(value), 4) for name, value in figures.items()}
        rows.append(row)
        print("  ".join(f"{name} {value}" for name, value in row.items() if name != "machine"), flush=True)
        if options.csv:
            save(rows, options.csv)
        if options.plot:
            plot(rows, options.plot, options)


def evaluations(solver: str, steps: int, cfg: float) -> int:
    """Of the network, for a sample."""
    return (2 * steps - 1 if solver == "heun" else steps) * (1 if cfg in (0.0, 1.0) else 2)


def save(rows: list[dict[str, Any]], path: Path) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, names, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def plot(rows: list[dict[str, Any]], path: Path, options: argparse.Namespace) -> None:
    """Quality against evaluations, a line for each solver; bars of one standard error."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(options.systems), figsize=(5 * len(options.systems), 3.6), squeeze=False)
    for axis, system in zip(axes[0], options.systems, strict=True):
        for solver, cfg in dict.fromkeys((row["solver"], row["cfg"]) for row in rows if row["system"] == system):
            of = [row for row in rows if (row["system"], row["solver"], row["cfg"]) == (system, solver, cfg)]
            of.sort(key=lambda row: row["evaluations"])
            share = np.array([row[QUALITY[system]] for row in of])
            error = 100 * np.sqrt(share * (1 - share) / options.n)
            label = solver if cfg == 1.0 else f"{solver}, guidance {cfg:g}"
            axis.errorbar([row["evaluations"] for row in of], 100 * share, error, label=label, marker="o", ms=4)
        axis.set(xscale="log", xlabel="network evaluations a sample", ylabel=f"{QUALITY[system].replace('_', ' ')} / %")
        axis.set_title(f"{system}s, {options.weights}, n = {options.n}", fontsize=10)
        axis.grid(alpha=0.3)
    axes[0][0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
