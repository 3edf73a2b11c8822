"""Pairs of crystals of every kind that a matcher has to judge."""

from __future__ import annotations

from typing import Any

import numpy as np
from pymatgen.core import Lattice, Structure

KINDS = ("formula", "rattled", "recelled", "supercell", "near", "carbons", "carbon", "different", "strained")


def recelled(structure: Structure, rng: np.random.Generator, copies: int = 1) -> Structure:
    """The same crystal in another cell, turned, shifted, `copies` times as large, its atoms in another order."""
    matrix = np.eye(3, dtype=int)
    for _ in range(4):
        i, j = rng.choice(3, 2, replace=False)
        matrix[i] += rng.integers(-2, 3) * matrix[j]
    stretch = np.eye(3, dtype=int)
    stretch[rng.integers(3)] *= copies
    large = structure.copy()
    large.make_supercell(matrix @ stretch)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    order = rng.permutation(len(large))
    fractional = large.frac_coords[order] + rng.random(3)
    species = [large.species[k] for k in order]
    return Structure(Lattice(large.lattice.matrix @ turn), species, fractional, to_unit_cell=True)


def rattled(structure: Structure, rng: np.random.Generator, sigma: float, strain: float = 0.0) -> Structure:
    """Each coordinate moved by `sigma` Angstrom, the cell strained at random."""
    matrix = structure.lattice.matrix @ (np.eye(3) + strain * rng.normal(size=(3, 3)))
    places = structure.frac_coords @ matrix + sigma * rng.normal(size=(len(structure), 3))
    return Structure(Lattice(matrix), structure.species, places, coords_are_cartesian=True)


def carbon(rng: np.random.Generator, count: int) -> Structure:
    """Carbon at random places in a skewed cell, as dense as in Carbon-24."""
    while True:
        matrix = rng.normal(size=(3, 3)) + 0.7 * np.eye(3)
        volume = abs(np.linalg.det(matrix))
        if volume > 0.1:
            matrix *= (count * rng.uniform(5.5, 9) / volume) ** (1 / 3)
            return Structure(Lattice(matrix), ["C"] * count, rng.random((count, 3)))


def pairs(structures: list[Structure], count: int, seed: int) -> list[tuple[str, Structure, Structure]]:
    """(kind, one, other) for `count` pairs drawn from `structures` and random carbons."""
    rng = np.random.default_rng(seed)
    formulas: dict[Any, list[Structure]] = {}
    for structure in structures:
        formulas.setdefault(structure.composition.reduced_formula, []).append(structure)
    several = [group for group in formulas.values() if len(group) > 1]
    drawn: list[tuple[str, Structure, Structure]] = []
    while len(drawn) < count:
        kind = KINDS[len(drawn) % len(KINDS)]
        one = structures[rng.integers(len(structures))]
        if kind == "formula" and several:
            group = several[rng.integers(len(several))]
            i, j = rng.choice(len(group), 2, replace=False)
            one, other = group[i], recelled(group[j], rng)
        elif kind == "rattled":
            other = recelled(rattled(one, rng, rng.choice([0.01, 0.05, 0.1])), rng)
        elif kind == "recelled":
            other = recelled(one, rng)
        elif kind == "supercell":
            other = rattled(recelled(one, rng, int(rng.integers(2, 4))), rng, rng.choice([0, 0, 0.01, 0.03, 0.06]))
        elif kind == "near":
            other = recelled(rattled(one, rng, rng.uniform(0.1, 0.6), rng.uniform(0, 0.05)), rng)
        elif kind == "carbons":
            size = 2 * int(rng.integers(2, 7))
            one, other = carbon(rng, size), carbon(rng, size)
        elif kind == "carbon":
            one = carbon(rng, int(rng.integers(4, 25)))
            other = recelled(rattled(one, rng, rng.uniform(0, 0.3), rng.uniform(0, 0.03)), rng)
        elif kind == "strained":
            other = recelled(rattled(one, rng, 0.02, rng.uniform(0, 0.15)), rng)
        else:
            other = structures[rng.integers(len(structures))]
        if max(len(one), len(other)) <= 60:
            drawn.append((kind, one, other))
    return drawn
