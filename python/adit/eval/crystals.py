"""Uniqueness and novelty of crystals. Their validity: `adit.validity`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from adit.errors import InvalidInputError
from adit.matching import StructureMatcher
from adit.neighbors import neighbor_list
from adit.packing import Systems, as_system, element_counts, pack, take
from adit.validity import MIN_DISTANCE, MIN_VOLUME, structural

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from adit.data.packed import PackedDataset
    from adit.system import AtomicSystem

TOLERANCES = {"stol": 0.5, "ltol": 0.3, "angle_tol": 10.0}
"""Of pymatgen's StructureMatcher, as published since CDVAE (arXiv 2110.06197)."""


def reduced_formulas(systems: Systems) -> list[bytes]:
    """A key for each system, equal for equal reduced compositions: 101 little-endian uint16 counts by atomic number."""
    counts = element_counts(pack(systems))
    reduced = counts // np.maximum(np.gcd.reduce(counts, axis=1, keepdims=True), 1)
    return [row.tobytes() for row in reduced.astype("<u2")]


@dataclass(frozen=True, slots=True)
class Uniqueness:
    """Which crystals are the first of their kind.

    Attributes:
        first: (B,) bool; False for a repeated crystal and for one that is not structurally valid.
        valid: (B,) bool, structurally valid; only those are compared.
        labels: (B,) int64, the index of the first crystal of the kind; -1 where not structurally valid.
        comparable: (B,) bool; False where not structurally valid, and for crystals that are called unique without a
            comparison, because the cell is too elongated to match.
    """

    first: NDArray[np.bool_]
    valid: NDArray[np.bool_]
    labels: NDArray[np.int64]
    comparable: NDArray[np.bool_]

    @property
    def rate(self) -> float:
        """Different crystals among the structurally valid ones; NaN if there are none."""
        return float(self.first.sum() / self.valid.sum()) if self.valid.any() else float("nan")

    @property
    def incomplete(self) -> int:
        """Crystals called unique without a comparison."""
        return int((self.valid & ~self.comparable).sum())


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
    crystals = matcher.reduce(take(pack(systems), indices))
    labels = np.full(len(valid), -1, dtype=np.int64)
    labels[indices] = indices[matcher.group_labels(crystals)]
    comparable = np.zeros(len(valid), dtype=np.bool_)
    comparable[indices] = matcher.comparable(crystals)
    return Uniqueness(labels == np.arange(len(valid)), valid, labels, comparable)


def matches(systems: Systems, reference: PackedDataset) -> NDArray[np.int64]:
    """(B,) int64: the index of the first crystal of `reference` that each crystal matches; -1 if there is none.

    Only crystals of the same reduced composition are compared. -1 for what is not structurally valid, too.

    Raises:
        InvalidInputError: a system is a molecule.
    """
    valid = structural(systems)
    result = np.full(len(valid), -1, dtype=np.int64)
    indices = np.flatnonzero(valid)
    formulas = reduced_formulas(systems)
    wanted = {formulas[index] for index in indices.tolist()}
    same = [formula in wanted for formula in reduced_formulas(reference)]
    known = np.flatnonzero(np.array(same, dtype=np.bool_) & reference.periodic)
    matcher = _matcher()
    crystals, others = matcher.reduce(take(pack(systems), indices)), matcher.reduce(take(pack(reference), known))
    found = matcher.first_matches(crystals, others)
    result[indices[found >= 0]] = known[found[found >= 0]]
    return result


def novel(systems: Systems, reference: PackedDataset) -> NDArray[np.bool_]:
    """(B,) bool: structurally valid, and no crystal of `reference` matches.

    Raises:
        InvalidInputError: a system is a molecule.
    """
    return structural(systems) & (matches(systems, reference) < 0)


def structural_faults(systems: Systems) -> list[str]:
    """Why each crystal is not structurally valid, in words that count atoms from 0; "" for one that is.

    Raises:
        InvalidInputError: a system is a molecule.
    """
    faults = [""] * len(systems)
    for index in np.flatnonzero(~structural(systems)).tolist():
        faults[index] = _structural_fault(as_system(systems[index]))
    return faults


def _structural_fault(system: AtomicSystem) -> str:
    if not len(system):
        return "no atoms"
    if system.volume < MIN_VOLUME:
        return f"the volume of the cell is {system.volume:.2g} A^3"
    try:
        first, second, distance = neighbor_list("ijd", system, MIN_DISTANCE)
    except InvalidInputError:
        return "the shape of the cell is extreme"  # more pairs than any list holds
    if not len(distance):
        return "the coordinates are too large for distances"
    best = int(distance.argmin())
    if first[best] == second[best]:
        return f"atom {first[best]} is {distance[best]:.2f} A from its own image"
    return f"atoms {first[best]} and {second[best]} are {distance[best]:.2f} A apart"


def _matcher() -> StructureMatcher:
    return StructureMatcher(TOLERANCES["ltol"], TOLERANCES["stol"], TOLERANCES["angle_tol"], convention="pymatgen")
