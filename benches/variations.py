"""How far from a structure are its variations (`adit-gen --like`), and how good?

    python benches/variations.py --docs docs/generate.md

Held-out molecules of QM9 (test) and crystals of MP-20 (val), one variation of each at every strength, by the default
settings of the weights. Same: of molecules the SMILES without stereochemistry (`adit` protocol), of crystals a match by
StructureMatcher (stol 0.5, ltol 0.3, angle_tol 10). Similarity: Tanimoto, Morgan fingerprints of radius 2, mean; of
pairs of the held-out molecules themselves in the last line. "Shuffled" has the atoms of each structure in random order,
not in the data set's, which the network has seen.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
from rdkit import Chem, DataStructs
from rdkit.Chem import rdFingerprintGenerator

from adit import validity
from adit.eval.molecules import judge
from adit.eval.stability import edm_stability
from adit.generate import Generator
from adit.system import AtomicSystem
from baselines import report
from csp import distances, drawn

STRENGTHS = (0.2, 0.3, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.8, 1.0)
FILE = Path(__file__).parent / "results" / "variations.csv"


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="joint-tiny")
    parser.add_argument("--molecules", default="qm9", help="prepared data set with a split `test`")
    parser.add_argument("--crystals", default="mp20", help="prepared data set with a split `val`")
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--strengths", type=float, nargs="+", default=STRENGTHS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--csv", type=Path, default=FILE)
    parser.add_argument("--docs", type=Path, help="document to fill")
    options = parser.parse_args(words)
    generator = Generator.from_pretrained(options.weights, device="cpu", threads=options.threads)
    rng = np.random.default_rng(options.seed)
    molecules = drawn(options.molecules, "test", False, options.n, rng)
    crystals = drawn(options.crystals, "val", True, options.n, rng)
    rows: list[dict[str, object]] = []
    for name, templates in (
        ("molecules", molecules),
        ("molecules shuffled", [shuffled(one, rng) for one in molecules]),
        ("crystals", crystals),
        ("crystals shuffled", [shuffled(one, rng) for one in crystals]),
    ):
        kind = "crystal" if templates[0].is_periodic else "molecule"
        judged = crystals_judged if kind == "crystal" else molecules_judged
        for strength in options.strengths:
            made = generator.sample(len(templates), kind, seed=options.seed, like=templates, strength=strength)
            rows.append({"of": name, "strength": strength, "n": len(made), **judged(templates, made)})
            print(rows[-1], flush=True)
        rows.append(
            {"of": name, "strength": "", "n": len(templates), **judged(templates, templates[1:] + templates[:1])}
        )
    with options.csv.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, ["of", "strength", "n", "same", "similarity", "stable", "valid"])
        writer.writeheader()
        writer.writerows(rows)
    if options.docs:
        report.fill(options.docs, "variations", table(rows))


def shuffled(system: AtomicSystem, rng: np.random.Generator) -> AtomicSystem:
    """With its atoms in another order."""
    order = rng.permutation(len(system))
    return AtomicSystem(system.numbers[order], system.positions[order], system.cell)


def molecules_judged(templates: list[AtomicSystem], made: list[AtomicSystem]) -> dict[str, float]:
    """Shares of the same and of the stable molecules, and the mean similarity where both have a SMILES."""
    morgan = rdFingerprintGenerator.GetMorganGenerator(radius=2)
    pairs = list(zip(judge(templates, "adit").smiles, judge(made, "adit").smiles, strict=True))
    prints = [[morgan.GetFingerprint(Chem.MolFromSmiles(text)) for text in pair] for pair in pairs if all(pair)]
    return {
        "same": float(np.mean([a is not None and a == b for a, b in pairs])),
        "similarity": float(np.mean([DataStructs.TanimotoSimilarity(*pair) for pair in prints])),
        "stable": edm_stability(made).molecule_stability,
    }


def crystals_judged(templates: list[AtomicSystem], made: list[AtomicSystem]) -> dict[str, float]:
    """Shares of the same and of the valid crystals."""
    same = [np.isfinite(distances(a, [b])[0]) for a, b in zip(templates, made, strict=True)]
    return {"same": float(np.mean(same)), "valid": float(validity.structural(made).mean())}


def table(rows: list[dict[str, object]]) -> str:
    """For the document."""
    held = {(row["of"], row["strength"]): row for row in rows}
    strengths = [row["strength"] for row in rows if row["of"] == "molecules"]
    lines = ["| strength | molecules: same | similarity | stable | shuffled: same | stable | crystals: same | valid | "
             "shuffled: same | valid |", "|---|---|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for strength in strengths:
        m, ms, c, cs = (
            held[of, strength] for of in ("molecules", "molecules shuffled", "crystals", "crystals shuffled")
        )
        cells = [f"{m['same']:.1%}", f"{m['similarity']:.2f}", f"{m['stable']:.1%}", f"{ms['same']:.1%}",
                 f"{ms['stable']:.1%}", f"{c['same']:.1%}", f"{c['valid']:.1%}", f"{cs['same']:.1%}",
                 f"{cs['valid']:.1%}"]  # fmt: skip
        lines.append(f"| {strength or 'another held-out one'} | {' | '.join(cells)} |".replace("%", " %"))
    return "\n".join(lines)


if __name__ == "__main__":
    main()
