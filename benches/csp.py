"""Crystal structure prediction: is a held-out crystal among what the network makes of its cell's formula?

    python benches/csp.py --n 500 --tries 1 5

The task of DiffCSP (arXiv 2309.04475) on MP-20's validation split (its test split is not at hand): the network is told
how many atoms of each element are in the cell, and nothing else. A crystal is found if one of its `tries` samples
matches it (StructureMatcher, stol 0.5, ltol 0.3, angle_tol 10); the rms distance is the smallest of the matches, over
(V / N)^(1/3), averaged over the crystals that were found. Beside it, what the same network makes when it is told the
cell, too, and when it is told the number of atoms alone.

With --pattern the powder pattern of each crystal (Cu K-alpha, 10 to 80 degrees, lines 0.2 degrees wide at half of
their height, on a background, the strongest of 2,000 counts, with their noise) chooses among its samples
(`adit.eval.powder`).
"""

from __future__ import annotations

import argparse
from multiprocessing import get_context

import numpy as np

from adit.data.prepare import load
from adit.eval.powder import Pattern, similarities
from adit.generate import Generator
from adit.matching import StructureMatcher
from adit.system import AtomicSystem


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="joint-tiny")
    parser.add_argument("--data", default="mp20", help="prepared data set")
    parser.add_argument("--n", type=int, default=500, help="crystals of the validation split")
    parser.add_argument("--tries", type=int, nargs="+", default=[1, 5], help="samples for each")
    parser.add_argument("--pattern", action="store_true", help="choose by powder patterns, too")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int)
    options = parser.parse_args(words)
    generator = Generator.from_pretrained(options.weights, device=options.device, threads=options.threads)
    crystals = drawn(options.data, "val", True, options.n, np.random.default_rng(options.seed))
    most, cells = max(options.tries), np.stack([crystal.cell for crystal in crystals])
    for name, asked in (
        ("formula and cell told", {"cell": cells}),
        ("formula told", {}),
        ("number of atoms alone", {"formula": "any"}),
    ):
        # nothing but size and composition is left of a template at strength 1
        made = generator.sample(
            most * len(crystals), "crystal", like=crystals, strength=1.0, seed=options.seed, **asked
        )
        tried = [made[k :: len(crystals)] for k in range(len(crystals))]
        same = np.mean([one.formula == crystals[k].formula for k, some in enumerate(tried) for one in some])
        rms = np.array([distances(crystal, some) for crystal, some in zip(crystals, tried, strict=True)])
        print(f"{name}: {len(crystals)} crystals of {options.data}; of that formula {same:.1%}")
        alike = by_pattern(crystals, tried) if options.pattern else None
        for tries in options.tries:
            report(f"best of {tries}", rms[:, :tries].min(1))
            if "cell" in asked and tries > 1:
                misfits = np.array([[one.info["cell_misfit"] for one in some[:tries]] for some in tried])
                report(f"of {tries} the smallest misfit of the cell", rms[np.arange(len(rms)), misfits.argmin(1)])
            if alike is not None and tries > 1:
                best = alike[:, :tries].argmax(1)
                report(f"of {tries} the most alike powder pattern", rms[np.arange(len(rms)), best])


def by_pattern(crystals: list[AtomicSystem], tried: list[list[AtomicSystem]]) -> np.ndarray:
    """(crystals, tries) how alike each sample's powder pattern is to that of its crystal; -1 without one."""
    with get_context("spawn").Pool() as pool:
        found = pool.starmap(_alike, zip(range(len(crystals)), crystals, tried, strict=True), chunksize=4)
    return np.nan_to_num(np.array(found), nan=-1)


def _alike(seed: int, crystal: AtomicSystem, tried: list[AtomicSystem]) -> np.ndarray:
    return similarities(measured(crystal, np.random.default_rng(seed)), tried)


def measured(crystal: AtomicSystem, rng: np.random.Generator) -> Pattern:
    """What a diffractometer might make of a crystal."""
    from pymatgen.analysis.diffraction.xrd import XRDCalculator

    angles = np.arange(10, 80, 0.02)
    made = XRDCalculator("CuKa").get_pattern(crystal.to_pymatgen(), two_theta_range=(5, 85))
    wide = 0.2 / np.sqrt(8 * np.log(2))
    lines = (np.array(made.y)[:, None] * np.exp(-0.5 * ((angles - np.array(made.x)[:, None]) / wide) ** 2)).sum(0)
    counts = 2000 * lines / lines.max() + 200 * np.exp(-angles / 30) + 50
    return Pattern(angles, rng.poisson(counts), "CuKa")


def report(name: str, rms: np.ndarray) -> None:
    """The share that was found, and the mean rms distance of these."""
    found = np.isfinite(rms)
    mean = rms[found].mean() if found.any() else float("nan")
    print(f"  {name}: match rate {found.mean():.1%}, rms distance {mean:.3f}", flush=True)


def drawn(name: str, split: str, periodic: bool, n: int, rng: np.random.Generator) -> list[AtomicSystem]:
    """`n` crystals, or molecules, of a prepared data set."""
    data = load(name).split(split)
    data = data.subset(np.flatnonzero(np.asarray(data.periodic) == periodic))
    return [data[int(k)] for k in rng.permutation(len(data))[:n]]


def distances(crystal: AtomicSystem, made: list[AtomicSystem]) -> list[float]:
    """The rms distance of each sample to the crystal; infinite where they do not match."""
    matcher = StructureMatcher(ltol=0.3, stol=0.5, angle_tol=10)
    found = [matcher.get_rms_dist(crystal, one) if one.formula == crystal.formula else None for one in made]
    return [np.inf if pair is None else pair[0] for pair in found]


if __name__ == "__main__":
    main()
