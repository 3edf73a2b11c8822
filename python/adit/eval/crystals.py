"""Uniqueness and novelty of crystals. Their validity: `adit.validity`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from adit.matching import StructureMatcher
from adit.packing import Systems, as_system, pack
from adit.validity import structural

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from adit.data.packed import PackedDataset

TOLERANCES = {"stol": 0.5, "ltol": 0.3, "angle_tol": 10.0}
"""Of pymatgen's StructureMatcher, as published since CDVAE (arXiv 2110.06197)."""


def reduced_formulas(systems: Systems) -> list[bytes]:
    """A key for each system, equal for equal reduced compositions: 101 little-endian uint16 counts by atomic number."""
    batch = pack(systems)
    count = len(batch.offsets) - 1
    owner = np.repeat(np.arange(count), np.diff(batch.offsets))
    counts = np.bincount(owner * 101 + batch.numbers, minlength=count * 101).reshape(count, 101)
    reduced = counts // np.maximum(np.gcd.reduce(counts, axis=1, keepdims=True), 1)
    return [row.tobytes() for row in reduced.astype("<u2")]


@dataclass(frozen=True, slots=True)
class Uniqueness:
    """Which crystals are the first of their kind.

    Attributes:
        first: (B,) bool; False for a repeated crystal and for one that is not structurally valid.
        valid: (B,) bool, structurally valid; only those are compared.
        incomplete: crystals called unique without a comparison, because the cell is too elongated to match.
    """

    first: NDArray[np.bool_]
    valid: NDArray[np.bool_]
    incomplete: int

    @property
    def rate(self) -> float:
        """Different crystals among the structurally valid ones; NaN if there are none."""
        return float(self.first.sum() / self.valid.sum()) if self.valid.any() else float("nan")


def unique(systems: Systems) -> Uniqueness:
    """Different crystals as pymatgen's StructureMatcher groups them: each is compared with the first of each group.

    Args:
        systems: crystals.

    Raises:
        InvalidInputError: a system is a molecule.
    """
    valid = structural(systems)
    indices = np.flatnonzero(valid)
    matcher = _matcher()
    crystals = matcher.reduce([as_system(systems[index]) for index in indices.tolist()])
    first = np.zeros(len(systems), dtype=np.bool_)
    first[indices[np.unique(matcher.group_labels(crystals))]] = True
    return Uniqueness(first, valid, int((~matcher.comparable(crystals)).sum()))


def novel(systems: Systems, reference: PackedDataset) -> NDArray[np.bool_]:
    """(B,) bool: structurally valid, and no crystal of `reference` with the same reduced composition matches.

    Raises:
        InvalidInputError: a system is a molecule.
    """
    result = structural(systems)
    indices = np.flatnonzero(result)
    formulas = reduced_formulas(systems)
    wanted = {formulas[index] for index in indices.tolist()}
    known = [
        reference[index]
        for index, formula in enumerate(reduced_formulas(reference))
        if reference.periodic[index] and formula in wanted
    ]
    result[indices] = _matcher().novel([as_system(systems[index]) for index in indices.tolist()], known)
    return result


def _matcher() -> StructureMatcher:
    return StructureMatcher(TOLERANCES["ltol"], TOLERANCES["stol"], TOLERANCES["angle_tol"], convention="pymatgen")
