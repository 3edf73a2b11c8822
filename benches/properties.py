"""Do molecules that were asked to have a property have it (`adit-gen --property`), and what does it cost?

    python benches/properties.py --docs docs/properties.md

For each value, `n` molecules by the default settings of the weights: left alone, with the compositions that are
likely to have it (scale 0), and pulled towards it as well (scales 1, 2 and 4). Two judges: the predictor itself, of the
finished latents, and GFN2-xTB (Bannwarth 2019, doi 10.1021/acs.jctc.8b01176, by tblite), which knows nothing of it, of
the coordinates. xTB's gap is not that of the DFT in QM9, so what it should say is what it says on average of held-out
molecules whose DFT value is within `WITHIN` of the one that was asked for. Stable: EDM's tables. Valid: `adit`
protocol, in one piece and without unpaired electrons.

Crystals get new compositions, which decide about these properties; so what is measured of them is whether the
predictor picks compositions rightly: of MP-20's validation set, whose DFT values are known, those that it puts within a
range; and how many of `n` samples it puts there if they are asked to be.
"""

from __future__ import annotations

import argparse
import csv
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from adit.data.packed import PackedDataset
from adit.data.prepare import load
from adit.eval.molecules import connected, validity
from adit.eval.stability import edm_stability
from adit.generate import Generator
from adit.models.dit import CRYSTAL
from adit.ops.packing import Packing
from adit.steering import steering_for
from adit.system import AtomicSystem
from adit.train.latents import PropertyPool
from adit.validity import structural
from baselines import report

VALUES = {"gap": (0.18, 0.22, 0.26, 0.30, 0.34), "mu": (0.5, 2.0, 4.0, 6.0)}
WITHIN = {"gap": 0.005, "mu": 0.1}
SCALES = (0.0, 1.0, 2.0, 4.0)
RANGES = {"band_gap": ((1.0, 2.0), (3.0, 5.0)), "formation_energy_per_atom": ((-math.inf, -2.5), (-0.5, 0.0))}
FILE = Path(__file__).parent / "results" / "properties.csv"
_BOHR, _DEBYE = 0.529177210903, 2.541746473


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="joint-tiny")
    parser.add_argument("--data", default="qm9", help="prepared data set with a split `test` and DFT's values")
    parser.add_argument("--crystals", default="mp20", help="prepared data set with a split `val` and DFT's values")
    parser.add_argument("--n", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--csv", type=Path, default=FILE)
    parser.add_argument("--docs", type=Path, help="document to fill")
    options = parser.parse_args(words)
    generator = Generator.from_pretrained(options.weights, device="cpu", threads=options.threads)
    held_out = load(options.data).split("test")
    alone = generator.sample(options.n, "molecule", seed=options.seed)
    rows: list[dict[str, object]] = []
    for name, values in VALUES.items():
        column = np.asarray(held_out.properties[name])
        for value in values:
            near = np.flatnonzero(np.abs(column - value) <= WITHIN[name])[: options.n]
            reference = [held_out[int(place)] for place in near]
            rows.append({"property": name, "value": value, "samples": "held-out", **judged(reference, name)})
            rows.append({"property": name, "value": value, "samples": "not asked", **judged(alone, name)})
            for scale in SCALES:
                made = generator.sample(
                    options.n, "molecule", seed=options.seed, properties={name: value}, property_scale=scale
                )
                off = np.array([float(one.info[f"predicted_{name}"]) for one in made]) - value
                about = {"samples": f"{scale:g}", "predicted": off.mean() + value, "off": np.abs(off).mean()}
                rows.append({"property": name, "value": value, **about, **judged(made, name)})
                print(rows[-1], flush=True)
    with options.csv.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[-1]))
        writer.writeheader()
        writer.writerows(rows)
    picked = crystals(generator, load(options.crystals).split("val"), options.n, options.seed)
    with options.csv.with_stem("properties-crystals").open("w", newline="") as handle:
        writer = csv.DictWriter(handle, list(picked[-1]))
        writer.writeheader()
        writer.writerows(picked)
    if options.docs:
        where = f"weights {generator.weights.name}, {options.n} samples a row, seed {options.seed}"
        report.fill(options.docs, "properties", f"Molecules, {where}:\n\n{table(rows)}")
        report.fill(options.docs, "properties of crystals", f"Crystals, {where}:\n\n{crystal_table(picked)}")


def crystals(generator: Generator, held_out: PackedDataset, n: int, seed: int) -> list[dict[str, object]]:
    """For each range: the held-out crystals that are picked, and the samples that are asked for."""
    rows: list[dict[str, object]] = []
    for name, ranges in RANGES.items():
        known = np.asarray(held_out.properties[name])
        pool = PropertyPool(generator.model, held_out.subset(np.isfinite(known)), [name], 1, seed)
        known = known[np.isfinite(known)]
        packing = Packing.from_lengths(pool.lengths)
        for low, high in ranges:
            steering = steering_for(generator.predictors, {name: (low, high)}, "crystal", CRYSTAL, 1.0, torch.float32)
            found = steering.predicted(pool.latents[0].float(), packing, pool.counts.long())
            right, picked = within(known, low, high), within([one[f"predicted_{name}"] for one in found], low, high)
            row = {"property": name, "low": low, "high": high, "held_out": right.mean(), "picked": picked.mean()}
            row |= {"picked_right": right[picked].mean(), "found": picked[right].mean()}
            for asked, ends in (("not_asked", (-1e9, 1e9)), ("asked", (low, high))):  # all there is is no preference
                made = generator.sample(n, "crystal", seed=seed, properties={name: ends})
                values = [float(one.info[f"predicted_{name}"]) for one in made]
                row |= {asked: within(values, low, high).mean(), f"{asked}_valid": structural(made).mean()}
            rows.append(row)
            print(rows[-1], flush=True)
    return rows


def within(values: ArrayLike, low: float, high: float) -> NDArray[np.bool_]:
    """Which lie between."""
    return (np.asarray(values) >= low) & (np.asarray(values) <= high)


def judged(molecules: Sequence[AtomicSystem], name: str) -> dict[str, float]:
    """Mean and spread of the property by xTB, shares of the stable and the valid."""
    by_xtb = np.array([xtb(one)[name] for one in molecules])
    good = np.array([smiles is not None for smiles in validity(list(molecules))]) & connected(list(molecules))
    return {
        "n": len(molecules),
        "xtb": float(np.nanmean(by_xtb)),
        "xtb_spread": float(np.nanstd(by_xtb)),
        "stable": edm_stability(list(molecules)).molecule_stability,
        "valid": float(good.mean()),
    }


def xtb(molecule: AtomicSystem) -> dict[str, float]:
    """Gap (Hartree) and dipole moment (Debye) by GFN2-xTB; NaN where it does not converge, or knows no such
    element."""
    from tblite.exceptions import TBLiteRuntimeError
    from tblite.interface import Calculator

    try:
        calculator = Calculator("GFN2-xTB", molecule.numbers, molecule.positions / _BOHR)
        calculator.set("verbosity", 0)
        found = calculator.singlepoint()
    except TBLiteRuntimeError:
        return {"gap": np.nan, "mu": np.nan}
    energies: NDArray[np.float64] = found.get("orbital-energies")
    filled = found.get("orbital-occupations") > 1
    gap = energies[~filled].min() - energies[filled].max() if filled.any() and not filled.all() else np.nan
    return {"gap": float(gap), "mu": float(np.linalg.norm(found.get("dipole")) * _DEBYE)}


def table(rows: Sequence[dict[str, object]]) -> str:
    """For a document: a line for each value."""
    scales = [f"{scale:g}" for scale in SCALES]
    heads = ["asked for", f"predicted, mean distance, scale {' / '.join(scales)}", "xTB: held-out", "not asked"]
    heads += [f"scale {' / '.join(scales)}", f"stable: held-out, not asked, scale {' / '.join(scales)}"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name, value in dict.fromkeys((row["property"], row["value"]) for row in rows):
        of = {row["samples"]: row for row in rows if (row["property"], row["value"]) == (name, value)}
        steered = [of[scale] for scale in scales]
        cells = [f"{name} {value:g}", " / ".join(f"{row['off']:.2g}" for row in steered)]
        cells += [
            f"{of[samples]['xtb']:.3f} ± {of[samples]['xtb_spread']:.3f}" for samples in ("held-out", "not asked")
        ]
        cells.append(" / ".join(f"{row['xtb']:.3f}" for row in steered))
        shares = [f"{100 * float(str(row['stable'])):.1f}" for row in (of["held-out"], of["not asked"], *steered)]
        cells.append(f"{', '.join(shares[:2])}, {' / '.join(shares[2:])} %")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def crystal_table(rows: Sequence[dict[str, object]]) -> str:
    """For a document."""
    heads = ["range", "held-out crystals in it", "picked", "of these in it", "of those in it picked"]
    heads += ["samples predicted in it, not asked", "asked", "structurally valid"]
    keys = ["held_out", "picked", "picked_right", "found", "not_asked", "asked", "asked_valid"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in rows:
        cells = [f"{row['property']} {row['low']:g} to {row['high']:g}"]
        lines.append(f"| {' | '.join(cells + [f'{100 * float(str(row[key])):.1f} %' for key in keys])} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
