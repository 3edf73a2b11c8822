"""Any collection of systems as flat arrays: what every metric starts from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

from adit.data.packed import PackedDataset
from adit.system import AtomicSystem

if TYPE_CHECKING:
    from numpy.typing import NDArray

Systems: TypeAlias = Sequence[AtomicSystem] | PackedDataset
"""What the metrics take: a list of systems, or a packed data set."""


class Packed(NamedTuple):
    """B systems of T atoms in all.

    Attributes:
        numbers: (T,) int64, atomic numbers.
        positions: (T, 3) float64, Cartesian, Angstrom.
        cells: (B, 3, 3) float64, Angstrom, row vectors; zeros for a molecule.
        offsets: (B + 1,) int64; system k owns atoms offsets[k] to offsets[k + 1].
        periodic: (B,) bool.
    """

    numbers: NDArray[np.int64]
    positions: NDArray[np.float64]
    cells: NDArray[np.float64]
    offsets: NDArray[np.int64]
    periodic: NDArray[np.bool_]


def pack(systems: Systems) -> Packed:
    """One after the other, in double precision."""
    if isinstance(systems, PackedDataset):
        return Packed(
            np.asarray(systems.numbers, dtype=np.int64),
            np.asarray(systems.positions, dtype=np.float64),
            np.asarray(systems.cells, dtype=np.float64),
            np.asarray(systems.offsets, dtype=np.int64),
            np.asarray(systems.periodic, dtype=np.bool_),
        )
    empty = np.zeros((3, 3))
    return Packed(
        np.concatenate([system.numbers for system in systems] or [np.zeros(0, np.int64)]),
        np.concatenate([system.positions for system in systems] or [np.zeros((0, 3))]),
        np.stack([empty if system.cell is None else system.cell for system in systems] or [empty])[: len(systems)],
        np.cumsum([0, *map(len, systems)], dtype=np.int64),
        np.array([system.is_periodic for system in systems], dtype=np.bool_),
    )
