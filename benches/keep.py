"""Atoms are kept: does the network find what belongs beside them? (`adit-gen --keep`)

    python benches/keep.py --n 500

Crystals of MP-20's validation split that have an alkali, alkaline earth or zinc ion are robbed of all ions of the first
such element of IONS; their host and their formula are told. An answer is right if it matches the crystal
(StructureMatcher, stol 0.5, ltol 0.3, angle_tol 10; and at its default tolerances). Beside it, what the same network
makes of formula and cell alone.

Of QM9's test molecules with four heavy atoms or more the first half of the heavy atoms, in the order of SMILES, and
their hydrogens are kept, and their formula is told: how many are valid (`adit-rust` protocol), have the bonds of what
is kept, and both, at several steps and noises.

Of each, what is good by quarters of `keep_rmsd`, the smallest first.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from adit.bonds import infer_bonds
from adit.data.prepare import load
from adit.elements import NUMBERS
from adit.eval.molecules import validity
from adit.eval.stability import edm_stability
from adit.generate import Generator
from adit.kept import kept_from
from adit.matching import StructureMatcher
from adit.system import AtomicSystem
from csp import distances

IONS = tuple(NUMBERS[symbol] for symbol in ("Li", "Na", "Mg", "K", "Ca", "Rb", "Sr", "Cs", "Ba", "Zn"))
SETTINGS = ((None, None), (72, 20.0))


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="joint-tiny")
    parser.add_argument("--crystals", default="mp20", help="prepared data set with a split `val`")
    parser.add_argument("--molecules", default="qm9", help="prepared data set with a split `test`")
    parser.add_argument("--n", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int)
    options = parser.parse_args(words)
    generator = Generator.from_pretrained(options.weights, device="cpu", threads=options.threads)
    rng = np.random.default_rng(options.seed)
    common = {"strength": 1.0, "seed": options.seed}  # of a template at strength 1 only the composition is left
    wholes, hosts = taken(options.crystals, "val", True, options.n, rng)
    cells = np.stack([whole.cell for whole in wholes if whole.cell is not None])
    for name, asked in (("host and formula told", {"keep": hosts}), ("cell and formula told", {"cell": cells})):
        made = generator.sample(len(wholes), "crystal", like=wholes, **common, **asked)
        rms = np.array([distances(whole, [one])[0] for whole, one in zip(wholes, made, strict=True)])
        strict = np.mean([StructureMatcher().fit(whole, one) for whole, one in zip(wholes, made, strict=True)])
        found = np.isfinite(rms)
        print(
            f"{name}: {len(wholes)} crystals of {options.crystals}, {found.mean():.1%} match, rms distance "
            f"{rms[found].mean():.3f}; {strict:.1%} by the default tolerances", flush=True,
        )  # fmt: skip
        if "keep" in asked:
            by_quarter(made, found)
    wholes, scaffolds = taken(options.molecules, "test", False, options.n, rng)
    kept = kept_from("molecule", scaffolds, None)
    for steps, noise in SETTINGS:
        start = time.perf_counter()
        made = generator.sample(len(wholes), like=wholes, keep=kept, steps=steps, noise=noise, **common)
        seconds = time.perf_counter() - start
        valid = np.array([text is not None for text in validity(made, "adit-rust")])
        intact = kept.intact(made)
        print(
            f"scaffold and formula told, steps {steps or 'as ever'}, noise {noise or 'as ever'}: {len(made)} molecules "
            f"of {options.molecules}, {valid.mean():.1%} valid, {intact.mean():.1%} with the scaffold's bonds, "
            f"{(valid & intact).mean():.1%} both, {edm_stability(made).molecule_stability:.1%} stable, {seconds:.0f} s",
            flush=True,
        )
        by_quarter(made, valid & intact)


def by_quarter(made: list[AtomicSystem], good: np.ndarray) -> None:
    order = np.argsort([one.info["keep_rmsd"] for one in made])
    shares = [f"{good[part].mean():.1%}" for part in np.array_split(order, 4)]
    print(f"  by quarters of keep_rmsd: {', '.join(shares)}", flush=True)


def taken(
    name: str, split: str, periodic: bool, n: int, rng: np.random.Generator
) -> tuple[list[AtomicSystem], list[AtomicSystem]]:
    """`n` structures of a prepared data set, and what is kept of each."""
    data = load(name).split(split)
    wholes: list[AtomicSystem] = []
    parts: list[AtomicSystem] = []
    for place in rng.permutation(np.flatnonzero(np.asarray(data.periodic) == periodic)):
        whole = data[int(place)]
        rows = host(whole) if periodic else scaffold(whole)
        if 0 < len(rows) < len(whole):
            wholes.append(whole)
            parts.append(AtomicSystem(whole.numbers[rows], whole.positions[rows], whole.cell))
        if len(wholes) == n:
            break
    return wholes, parts


def host(crystal: AtomicSystem) -> list[int]:
    """All atoms but those of the first element of IONS that there is."""
    ion = next((number for number in IONS if number in crystal.numbers), 0)
    return np.flatnonzero(crystal.numbers != ion).tolist()


def scaffold(molecule: AtomicSystem) -> list[int]:
    """The first half of four or more heavy atoms, and their hydrogens."""
    heavy = np.flatnonzero(molecule.numbers != 1).tolist()
    if len(heavy) < 4:
        return []
    first = set(heavy[: (len(heavy) + 1) // 2])
    pairs = [pair for pair in infer_bonds(molecule).bonds.tolist() if first & set(pair)]
    return sorted(first | {atom for pair in pairs for atom in pair if molecule.numbers[atom] == 1})


if __name__ == "__main__":
    main()
