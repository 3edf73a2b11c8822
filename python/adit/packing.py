"""Any collection of systems as flat arrays: what the Rust core and every metric start from."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np

from adit.elements import SYMBOLS
from adit.errors import InvalidInputError
from adit.system import AtomicSystem

if TYPE_CHECKING:
    import ase
    import pymatgen.core
    from numpy.typing import NDArray
    from rdkit import Chem


@runtime_checkable
class Store(Protocol):
    """Systems that are packed already, such as `adit.PackedDataset`."""

    @property
    def numbers(self) -> Any: ...
    @property
    def positions(self) -> Any: ...
    @property
    def cells(self) -> Any: ...
    @property
    def offsets(self) -> Any: ...
    @property
    def periodic(self) -> Any: ...
    def __iter__(self) -> Iterator[Any]: ...
    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Any: ...


SystemLike: TypeAlias = "AtomicSystem | ase.Atoms | pymatgen.core.IStructure | pymatgen.core.IMolecule | Chem.Mol"
"""One molecule or crystal, in whichever of the usual classes."""

Systems: TypeAlias = "Sequence[SystemLike] | Store"
"""What takes many systems takes a list of them, or a packed data set."""


class Packed(NamedTuple):
    """B systems of T atoms in all.

    Attributes:
        numbers: (T,) uint8, atomic numbers.
        positions: (T, 3) float64, Cartesian, Angstrom.
        cells: (B, 3, 3) float64, Angstrom, row vectors; zeros for a molecule.
        offsets: (B + 1,) int64; system k owns atoms offsets[k] to offsets[k + 1].
        periodic: (B,) bool.
    """

    numbers: NDArray[np.uint8]
    positions: NDArray[np.float64]
    cells: NDArray[np.float64]
    offsets: NDArray[np.int64]
    periodic: NDArray[np.bool_]


def as_system(thing: SystemLike) -> AtomicSystem:
    """An AtomicSystem, ASE Atoms, pymatgen Structure or Molecule, or RDKit Mol with a conformer as AtomicSystem.

    Raises:
        InvalidInputError: it is none of these, or cannot be an AtomicSystem; the message says why.
    """
    if isinstance(thing, AtomicSystem):
        return thing
    kind = _class(thing)
    if kind == "ase":
        from adit.convert.ase import from_ase

        return from_ase(thing)
    if kind == "pymatgen":
        from adit.convert.pymatgen import from_pymatgen

        return from_pymatgen(thing)
    if kind == "rdkit":
        from adit.convert.rdkit import from_rdkit

        return from_rdkit(thing)
    raise InvalidInputError(
        "a system must be an AtomicSystem, ase.Atoms, a pymatgen Structure or Molecule, or an RDKit Mol; "
        f"got {type(thing).__name__}. Files are read by adit.read"
    )


def _class(thing: object) -> str | None:
    """Which library's system it is. An object of a library that is not loaded does not exist."""
    if isinstance(thing, AtomicSystem):
        return "adit"
    if (ase := sys.modules.get("ase")) and isinstance(thing, ase.Atoms):
        return "ase"
    structure = sys.modules.get("pymatgen.core.structure")
    if structure and isinstance(thing, structure.IStructure | structure.IMolecule):
        return "pymatgen"
    return "rdkit" if (chem := sys.modules.get("rdkit.Chem")) and isinstance(thing, chem.Mol) else None


def is_system(thing: object) -> bool:
    """One system that `as_system` takes, as opposed to any iterable of them."""
    return _class(thing) is not None


def is_one(systems: SystemLike | Systems) -> bool:
    """One system, not a collection (ASE Atoms and pymatgen structures are sequences, too)."""
    return not isinstance(systems, list | tuple | Store)


def as_many(systems: SystemLike | Systems) -> tuple[Systems, bool]:
    """A collection of systems, and whether it holds the one system that was given."""
    one = is_one(systems)
    return ([systems] if one else systems), one  # type: ignore[return-value]


def pack(systems: Systems | Packed | Iterable[SystemLike]) -> Packed:
    """One after the other, in double precision.

    Raises:
        InvalidInputError: an entry is not a system (its index is named).
    """
    if isinstance(systems, Packed):
        return systems
    if isinstance(systems, Store):
        return Packed(
            np.ascontiguousarray(systems.numbers, dtype=np.uint8),
            np.ascontiguousarray(systems.positions, dtype=np.float64),
            np.ascontiguousarray(systems.cells, dtype=np.float64),
            np.ascontiguousarray(systems.offsets, dtype=np.int64),
            np.ascontiguousarray(systems.periodic, dtype=np.bool_),
        )
    held = [_entry(index, thing) for index, thing in enumerate(systems)]
    empty = np.zeros((3, 3))
    return Packed(
        np.concatenate([system.numbers for system in held] or [np.zeros(0, np.int64)]).astype(np.uint8),
        np.concatenate([system.positions for system in held] or [np.zeros((0, 3))]),
        np.stack([empty if system.cell is None else system.cell for system in held] or [empty])[: len(held)],
        np.cumsum([0, *map(len, held)], dtype=np.int64),
        np.array([system.is_periodic for system in held], dtype=np.bool_),
    )


def take(batch: Packed, indices: NDArray[np.int64]) -> Packed:
    """The chosen systems, in the order of `indices` (k,)."""
    sizes = np.diff(batch.offsets)[indices]
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    atoms = np.repeat(batch.offsets[:-1][indices] - offsets[:-1], sizes) + np.arange(offsets[-1])
    return Packed(batch.numbers[atoms], batch.positions[atoms], batch.cells[indices], offsets, batch.periodic[indices])


def cut(batch: Packed, size: int) -> Iterator[Packed]:
    """Consecutive pieces of at most `size` systems."""
    count = len(batch.periodic)
    for start in range(0, count, size):
        stop = min(start + size, count)
        first, last = int(batch.offsets[start]), int(batch.offsets[stop])
        yield Packed(
            batch.numbers[first:last],
            batch.positions[first:last],
            batch.cells[start:stop],
            batch.offsets[start : stop + 1] - first,
            batch.periodic[start:stop],
        )


def element_counts(batch: Packed) -> NDArray[np.int64]:
    """(B, 101) int64: how many atoms of each atomic number a system has."""
    count, kinds = len(batch.periodic), len(SYMBOLS)
    owner = np.repeat(np.arange(count), np.diff(batch.offsets))
    return np.bincount(owner * kinds + batch.numbers, minlength=count * kinds).reshape(count, kinds)


def pack_crystals(systems: Systems | Packed | Iterable[SystemLike], argument: str = "systems") -> Packed:
    """As `pack`, of crystals alone; `argument` names them in errors.

    Raises:
        InvalidInputError: an entry is not a system or is a molecule (its index is named).
    """
    batch = pack(systems)
    if not batch.periodic.all():
        index = int(np.flatnonzero(~batch.periodic)[0])
        raise InvalidInputError(
            f"`{argument}` must be crystals; system {index} is a molecule. Select the crystals first"
        )
    return batch


def pack_molecules(systems: Systems | Packed | Iterable[SystemLike]) -> Packed:
    """As `pack`, of molecules alone.

    Raises:
        InvalidInputError: an entry is not a system or is a crystal (its index is named).
    """
    batch = pack(systems)
    if batch.periodic.any():
        index = int(np.flatnonzero(batch.periodic)[0])
        raise InvalidInputError(f"`systems` must be molecules; system {index} is a crystal. Select the molecules first")
    return batch


def _entry(index: int, thing: SystemLike) -> AtomicSystem:
    try:
        return as_system(thing)
    except InvalidInputError as error:
        raise InvalidInputError(f"system {index}: {error}") from error
