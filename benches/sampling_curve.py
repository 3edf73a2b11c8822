"""Quality against sampler settings: which steps, solver and guidance scale the weights should ship with.

python benches/sampling_curve.py --weights joint-tiny --n 256 --csv benches/results/sampling_curve.csv
"""

from __future__ import annotations

import argparse
import csv
import platform
import time
from itertools import product
from pathlib import Path

from adit import validity as crystal_validity
from adit.eval.molecules import judge, uniqueness
from adit.eval.stability import edm_stability
from adit.generate import Generator


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", default="joint-tiny")
    parser.add_argument("--n", type=int, default=256, help="samples of each kind and setting")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--settings", nargs="+", default=["dpm++:25", "dpm++:50", "euler:50", "ancestral:100"])
    parser.add_argument("--cfg", type=float, nargs="+", default=[1.0, 2.0])
    parser.add_argument("--systems", nargs="+", default=["molecule", "crystal"])
    parser.add_argument("--csv", type=Path)
    options = parser.parse_args()
    generator = Generator.from_pretrained(options.weights)
    rows = []
    for system, setting, cfg in product(options.systems, options.settings, options.cfg):
        solver, steps = setting.split(":")
        start = time.perf_counter()
        made = generator.sample(
            options.n, system, seed=options.seed, solver=solver, steps=int(steps), cfg=cfg, batch_size=options.n
        )
        seconds = time.perf_counter() - start
        row: dict[str, object] = {
            "system": system, "solver": solver, "steps": int(steps), "cfg": cfg, "n": options.n,
            "seed": options.seed, "seconds": round(seconds, 2), "machine": platform.processor() or platform.machine(),
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
        names = list(dict.fromkeys(name for row in rows for name in row))
        with options.csv.open("w", newline="") as handle:
            writer = csv.DictWriter(handle, names, restval="")
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
