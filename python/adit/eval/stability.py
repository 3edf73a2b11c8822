"""Atom and molecule stability from tables of typical bond lengths: the protocol of EDM.

Source: Hoogeboom, Satorras, Vignac & Welling, "Equivariant Diffusion for Molecule Generation in 3D",
ICML 2022, arXiv 2203.17003, appendix C (bond lengths in pm, margins, valences).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from adit.elements import NUMBERS
from adit.errors import InvalidInputError
from adit.packing import Systems, pack

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Typical lengths in pm, each pair once. A margin is added before comparing.
SINGLE = {
    "H": {"H": 74, "B": 119, "C": 109, "N": 101, "O": 96, "F": 92, "Si": 148, "P": 144, "S": 134, "Cl": 127,
          "As": 152, "Br": 141, "I": 161},
    "B": {"Cl": 175},
    "C": {"C": 154, "N": 147, "O": 143, "F": 135, "Si": 185, "P": 184, "S": 182, "Cl": 177, "Br": 194, "I": 214},
    "N": {"N": 145, "O": 140, "F": 136, "P": 177, "S": 168, "Cl": 175, "Br": 214, "I": 222},
    "O": {"O": 148, "F": 142, "Si": 163, "P": 163, "S": 151, "Cl": 164, "Br": 172, "I": 194},
    "F": {"F": 142, "Si": 160, "P": 156, "S": 158, "Cl": 166, "Br": 178, "I": 187},
    "Si": {"Si": 233, "S": 200, "Cl": 202, "Br": 215, "I": 243},
    "P": {"P": 221, "S": 210, "Cl": 203, "Br": 222},
    "S": {"S": 204, "Cl": 207, "Br": 225, "I": 234},
    "Cl": {"Cl": 199, "Br": 214},
    "Br": {"Br": 228},
    "I": {"I": 266},
}  # fmt: skip
DOUBLE = {
    "C": {"C": 134, "N": 129, "O": 120, "S": 160},
    "N": {"N": 125, "O": 121},
    "O": {"O": 121, "P": 150},
    "P": {"S": 186},
}
TRIPLE = {"C": {"C": 120, "N": 116, "O": 113}, "N": {"N": 110}}
MARGINS = (10, 5, 3)
VALENCES = {
    "H": (1,), "B": (3,), "C": (4,), "N": (3,), "O": (2,), "F": (1,), "Al": (3,), "Si": (4,), "P": (3, 5),
    "S": (4,), "Cl": (1,), "As": (3,), "Br": (1,), "I": (1,), "Hg": (1, 2), "Bi": (3, 5),
}  # fmt: skip

_MAX_ELEMENT = 101
_MAX_VALENCE = 5
_CHUNK = 1 << 18  # squared distances held at once


@dataclass(frozen=True, slots=True)
class MoleculeStability:
    """Which atoms and molecules have the right valences.

    Attributes:
        atoms: (B,) float64, the fraction of stable atoms in each molecule (0 for no atoms).
        molecules: (B,) bool, every atom is stable.
        sizes: (B,) int64, atoms in each molecule.
    """

    atoms: NDArray[np.float64]
    molecules: NDArray[np.bool_]
    sizes: NDArray[np.int64]

    @property
    def atom_stability(self) -> float:
        """Stable atoms among all atoms of all molecules; NaN without atoms."""
        total = int(self.sizes.sum())
        return float((self.atoms * self.sizes).sum() / total) if total else float("nan")

    @property
    def molecule_stability(self) -> float:
        """Stable molecules among all; NaN without molecules."""
        return float(self.molecules.mean()) if len(self.molecules) else float("nan")


def edm_stability(systems: Systems) -> MoleculeStability:
    """Valences of all atoms, from distances alone.

    Two atoms are bonded once if closer than the single-bond length plus 10 pm, twice if also closer
    than the double-bond length plus 5 pm, three times if also closer than the triple-bond length
    plus 3 pm. An atom is stable if its bonds add up to a valence allowed for its element; elements
    outside the tables never are.

    Raises:
        InvalidInputError: a system is a crystal.
    """
    batch = pack(systems)
    if batch.periodic.any():
        index = int(np.flatnonzero(batch.periodic)[0])
        raise InvalidInputError(f"`systems` must be molecules; system {index} is a crystal. Select the molecules first")
    thresholds, allowed = _tables()
    valence = np.zeros(len(batch.numbers), dtype=np.int64)
    for first, second, distance in _close_pairs(batch.positions, batch.offsets, float(thresholds.max())):
        limits = thresholds[:, batch.numbers[first], batch.numbers[second]]
        order = (distance < limits).sum(axis=0)
        valence += np.bincount(first, order, minlength=len(valence)).astype(np.int64)
    stable = allowed[batch.numbers, np.minimum(valence, _MAX_VALENCE + 1)]
    sizes = np.diff(batch.offsets)
    running = np.concatenate([[0], np.cumsum(stable)])
    stable_atoms = running[batch.offsets[1:]] - running[batch.offsets[:-1]]
    return MoleculeStability(stable_atoms / np.maximum(sizes, 1), (stable_atoms == sizes) & (sizes > 0), sizes)


@lru_cache(maxsize=1)
def _tables() -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Distance limits (3, Z, Z) in pm, 0 where there is no such bond; allowed valences (Z, 7) bool."""
    thresholds = np.zeros((3, _MAX_ELEMENT, _MAX_ELEMENT))
    for order, (table, margin) in enumerate(zip((SINGLE, DOUBLE, TRIPLE), MARGINS, strict=True)):
        for left, row in table.items():
            for right, length in row.items():
                thresholds[order, NUMBERS[left], NUMBERS[right]] = length + margin
                thresholds[order, NUMBERS[right], NUMBERS[left]] = length + margin
    allowed = np.zeros((_MAX_ELEMENT, _MAX_VALENCE + 2), dtype=np.bool_)
    for symbol, valences in VALENCES.items():
        allowed[NUMBERS[symbol], list(valences)] = True
    return thresholds, allowed


def _close_pairs(
    positions: NDArray[np.float64], offsets: NDArray[np.int64], limit: float
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]]:
    """Ordered pairs of atoms of one system closer than `limit` pm, as (first, second, distance in pm).

    Systems of one size are taken together: no padding, and no loop over systems.
    """
    sizes = np.diff(offsets)
    for size in np.unique(sizes[sizes > 1]).tolist():
        starts = offsets[:-1][sizes == size]
        step = max(1, _CHUNK // size**2)
        for begin in range(0, len(starts), step):
            atoms = starts[begin : begin + step, None] + np.arange(size)
            xyz = positions[atoms].transpose(2, 0, 1) * 100.0
            squared = np.zeros((len(atoms), size, size))
            for axis in xyz:
                difference = axis[:, :, None] - axis[:, None, :]
                squared += difference * difference
            system, first, second = np.nonzero(squared < limit * limit)
            apart = first != second
            system, first, second = system[apart], first[apart], second[apart]
            yield atoms[system, first], atoms[system, second], np.sqrt(squared[system, first, second])
