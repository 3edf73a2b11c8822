"""To and from ASE."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from adit.errors import InvalidInputError
from adit.system import AtomicSystem

if TYPE_CHECKING:
    import ase


def to_ase(system: AtomicSystem) -> ase.Atoms:
    """`ase.Atoms`, periodic in all directions for a crystal and in none for a molecule; `info` is copied."""
    import ase

    periodic = system.cell is not None
    return ase.Atoms(system.numbers, system.positions, cell=system.cell, pbc=periodic, info=dict(system.info))


def from_ase(atoms: ase.Atoms, info: Mapping[str, Any] | None = None) -> AtomicSystem:
    """From `ase.Atoms`; `info` defaults to `atoms.info`.

    Raises:
        InvalidInputError: periodic in one or two directions only, or periodic without a cell, or an
            atomic number outside 1 to 100.
    """
    periodic = atoms.pbc.tolist()
    if any(periodic) and not all(periodic):
        raise InvalidInputError(f"atoms are periodic in {periodic}; adit knows molecules and 3D-periodic crystals")
    cell = atoms.cell.array if all(periodic) else None
    return AtomicSystem(atoms.numbers, atoms.positions, cell, dict(atoms.info) if info is None else info)
