"""What does it do to crystals to be snapped to their symmetry (`adit-gen --symmetrize`)?

    python benches/symmetrized.py --docs docs/generate.md

The same crystals, by the default settings of the weights, left alone and snapped with each limit. Without symmetry:
space group 1 at 0.01 Angstrom. Energy and the largest force on an atom: by CHGNet (Deng 2023, arXiv 2302.14231),
unrelaxed. No higher: not by more than 0.1 meV an atom.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adit.generate import Generator
from adit.symmetry import spacegroups, symmetrize
from adit.system import AtomicSystem
from baselines import report

LIMITS = (0.05, 0.1, 0.2, 0.3)
FILE = Path(__file__).parent / "results" / "symmetrized.csv"


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="joint-tiny")
    parser.add_argument("--n", type=int, default=300)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--limits", type=float, nargs="+", default=LIMITS)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--csv", type=Path, default=FILE)
    parser.add_argument("--docs", type=Path, help="document to fill")
    options = parser.parse_args(words)
    generator = Generator.from_pretrained(options.weights, device="cpu", threads=options.threads)
    made = generator.sample(options.n, "crystal", seed=options.seed)
    alone = by_chgnet(made)
    rows = [row("left alone", made, alone, alone)]
    for limit in options.limits:
        snapped = [one.system for one in symmetrize(made, limit)]
        rows.append(row(f"{limit:g} A", snapped, by_chgnet(snapped), alone))
        print(rows[-1], flush=True)
    with options.csv.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[-1]))
        writer.writeheader()
        writer.writerows(rows)
    if options.docs:
        report.fill(options.docs, "symmetrized", f"{options.n} crystals, seed {options.seed}:\n\n{table(rows)}")


def by_chgnet(crystals: Sequence[AtomicSystem]) -> NDArray[np.float64]:
    """(N, 2): energies, eV an atom, and largest forces on an atom, eV/A."""
    from chgnet.model import CHGNet

    model = CHGNet.load(verbose=False, use_device="cpu")
    found = [model.predict_structure(crystal.to_pymatgen()) for crystal in crystals]
    return np.array([[float(one["e"]), np.linalg.norm(one["f"], axis=1).max()] for one in found])


def row(
    name: str, crystals: Sequence[AtomicSystem], judged: NDArray[np.float64], alone: NDArray[np.float64]
) -> dict[str, object]:
    rise = judged[:, 0] - alone[:, 0]
    return {
        "limit": name,
        "without_symmetry": float((spacegroups(list(crystals), 0.01) == 1).mean()),
        "force": float(np.median(judged[:, 1])),
        "energy_change_mev": 1000 * float(rise.mean()),
        "no_higher": float((rise <= 1e-4).mean()),
    }


def table(rows: Sequence[dict[str, object]]) -> str:
    """For a document."""
    lines = ["| limit | without symmetry | largest force, median, eV/A | mean change of energy, meV/atom | no higher |"]
    lines.append("|---" * 5 + "|")
    for one in rows:
        shares = [f"{100 * float(str(one[key])):.1f} %" for key in ("without_symmetry", "no_higher")]
        lines.append(
            f"| {one['limit']} | {shares[0]} | {one['force']:.2f} | {one['energy_change_mev']:.1f} | {shares[1]} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
