"""Symmetry of crystals: space groups, Wyckoff letters, standard cells, and crystals made symmetric.

The search is that of the `moyo` crate (Shinohara, Togo and Tanaka, Acta Cryst. A79, 390, 2023), run on
whole batches in parallel. Lengths are in Angstrom; a cell is three row vectors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, overload

import numpy as np

from adit import _rust
from adit.errors import InvalidInputError
from adit.packing import SystemLike, as_many, as_system, pack_crystals
from adit.system import AtomicSystem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from adit.packing import Packed, Systems

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class SymmetryDataset:
    """The symmetry of one crystal of n atoms.

    Attributes:
        number: of the space group, 1 to 230.
        hall_number: 1 to 530, the setting.
        international: Hermann-Mauguin symbol, short, such as "F d -3 m".
        pearson: Pearson symbol of the conventional cell.
        symprec: the tolerance in Angstrom that was used in the end; at most what was asked for.
        wyckoffs: n Wyckoff letters.
        site_symmetries: n site symmetry symbols, oriented as the conventional cell.
        orbits: (n,) int64; for each atom the first that is symmetrically equivalent (spglib's
            `crystallographic_orbits`).
        rotations: (m, 3, 3) int32, and
        translations: (m, 3) float64 from 0 to 1: operations in the given cell, x -> rotation @ x +
            translation for fractional columns x. Where the given cell is a supercell of a shape that
            breaks some operations of the crystal, those are left out.
        transformation: (3, 3) float64, P, and
        origin_shift: (3,) float64, p: from the given cell to the conventional one, columns of axes
            (a' b' c') = (a b c) P, fractional columns x' = P^-1 (x - p).
        conventional: the standardised conventional cell, exactly symmetric, in standard orientation.
        primitive: the primitive cell of that.
        to_primitive: (n,) int64; for each atom its place in `primitive`.
    """

    number: int
    hall_number: int
    international: str
    pearson: str
    symprec: float
    wyckoffs: list[str]
    site_symmetries: list[str]
    orbits: NDArray[np.int64]
    rotations: NDArray[np.int32]
    translations: NDArray[np.float64]
    transformation: NDArray[np.float64]
    origin_shift: NDArray[np.float64]
    conventional: AtomicSystem
    primitive: AtomicSystem
    to_primitive: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Symmetrized:
    """A crystal made symmetric.

    Attributes:
        system: the same atoms in the same order, each near where it was, `info` kept.
        spacegroup: number of the space group that `system` has at a tolerance of 1e-4 Angstrom; 0 if
            none was found for the crystal as given, which then is unchanged.
        displacement: Angstrom, of the atom that moved most, relative to the cell and to all atoms.
        strain: the largest change of any length in the cell, as a part of it.
    """

    system: AtomicSystem
    spacegroup: int
    displacement: float
    strain: float


@overload
def spacegroups(systems: Systems, symprec: float = ..., *, threads: int | None = ...) -> NDArray[np.int64]: ...
@overload
def spacegroups(systems: SystemLike, symprec: float = ..., *, threads: int | None = ...) -> int: ...
def spacegroups(
    systems: SystemLike | Systems, symprec: float = 0.01, *, threads: int | None = None
) -> int | NDArray[np.int64]:
    """International numbers of the space groups.

    Args:
        systems: a crystal, or many.
        symprec: by how far an operation may miss an atom, Angstrom. Lowered to a tenth of the shortest
            translation that the structure can have, further in long cells, and where the operations
            found form no group.
        threads: None for all cores; the result does not depend on it.

    Returns:
        An int for one crystal, (B,) int64 for many: 1 to 230, or 0 where none is found: no atoms, two
        atoms within `symprec`, edges in a ratio beyond 1e4, or moyo gives up.

    Raises:
        InvalidInputError: a system is a molecule, `symprec` is not positive and finite.
    """
    many, one = as_many(systems)
    found = _rust.spacegroups(*_arrays(pack_crystals(many)), symprec, threads)
    return int(found[0]) if one else found


@overload
def analyse(systems: Systems, symprec: float = ..., *, threads: int | None = ...) -> list[SymmetryDataset | None]: ...
@overload
def analyse(systems: SystemLike, symprec: float = ..., *, threads: int | None = ...) -> SymmetryDataset: ...
def analyse(
    systems: SystemLike | Systems, symprec: float = 0.01, *, threads: int | None = None
) -> SymmetryDataset | list[SymmetryDataset | None]:
    """All that is found about the symmetry: see `SymmetryDataset`.

    Args:
        systems: a crystal, or many.
        symprec: as of `spacegroups`.
        threads: None for all cores; the result does not depend on it.

    Returns:
        For one crystal its dataset; for many a list with None where `spacegroups` says 0 (or where the
        cell is so skewed that its operations are no 32-bit numbers).

    Raises:
        InvalidInputError: as `spacegroups`; nothing is found for a single crystal.
    """
    many, one = as_many(systems)
    found = _rust.analyse(*_arrays(pack_crystals(many)), symprec, threads)
    datasets = [None if fields is None else _dataset(fields) for fields in found]
    return _the_one(datasets) if one else datasets


@overload
def standardize(
    systems: Systems, symprec: float = ..., *, primitive: bool = ..., threads: int | None = ...
) -> list[AtomicSystem | None]: ...
@overload
def standardize(
    systems: SystemLike, symprec: float = ..., *, primitive: bool = ..., threads: int | None = ...
) -> AtomicSystem: ...
def standardize(
    systems: SystemLike | Systems, symprec: float = 0.01, *, primitive: bool = False, threads: int | None = None
) -> AtomicSystem | list[AtomicSystem | None]:
    """The conventional cell of the space group, or its primitive cell, made exactly symmetric.

    In the settings of spglib: of several in the International Tables the first Hall number. The first
    axis lies along x, the second in the plane of x and y. Atoms are inside the cell; `info` is copied.

    Args:
        systems: a crystal, or many.
        symprec: as of `spacegroups`.
        primitive: the primitive cell of the conventional one.
        threads: None for all cores; the result does not depend on it.

    Returns:
        For one crystal the new one; for many a list with None where `spacegroups` says 0.

    Raises:
        InvalidInputError: as `spacegroups`; nothing is found for a single crystal.
    """
    many, one = as_many(systems)
    held = [as_system(system) for system in many]
    arrays = _arrays(pack_crystals(held))
    numbers, positions, cells, offsets = _rust.standardize(*arrays, symprec, primitive, threads)
    made: list[AtomicSystem | None] = []
    for k, system in enumerate(held):
        atoms = slice(offsets[k], offsets[k + 1])
        found = atoms.start < atoms.stop
        kinds = numbers[atoms].astype(np.int64)
        made.append(AtomicSystem(kinds, positions[atoms], cells[k], system.info) if found else None)
    return _the_one(made) if one else made


@overload
def niggli(systems: Systems, *, threads: int | None = ...) -> list[AtomicSystem]: ...
@overload
def niggli(systems: SystemLike, *, threads: int | None = ...) -> AtomicSystem: ...
def niggli(systems: SystemLike | Systems, *, threads: int | None = None) -> AtomicSystem | list[AtomicSystem]:
    """The same crystal in its Niggli-reduced cell, in the same Cartesian frame, atoms wrapped into the cell.

    Krivy and Gruber, Acta Cryst. A32, 297 (1976). Atoms keep their order, the cell its handedness, `info`
    is copied.

    Args:
        systems: a crystal, or many.
        threads: None for all cores; the result does not depend on it.

    Returns:
        A crystal for one; a list for many.

    Raises:
        InvalidInputError: a system is a molecule; a cell cannot be reduced (edges in a ratio beyond 1e4
            when reduced; its index is named).
    """
    many, one = as_many(systems)
    held = [as_system(system) for system in many]
    cells = _rust.niggli_reduce(pack_crystals(held).cells, threads)
    made = [_wrapped(system, cell) for system, cell in zip(held, cells, strict=True)]
    return made[0] if one else made


@overload
def symmetrize(
    systems: Systems, max_displacement: float = ..., *, max_strain: float = ..., threads: int | None = ...
) -> list[Symmetrized]: ...
@overload
def symmetrize(
    systems: SystemLike, max_displacement: float = ..., *, max_strain: float = ..., threads: int | None = ...
) -> Symmetrized: ...
def symmetrize(
    systems: SystemLike | Systems,
    max_displacement: float = 0.1,
    *,
    max_strain: float = 0.05,
    threads: int | None = None,
) -> Symmetrized | list[Symmetrized]:
    """Snaps a crystal to the highest symmetry that moves no atom by more than `max_displacement`.

    The highest is the one with the most operations, pure translations included, so a supercell counts
    as what it repeats. moyo makes the crystal symmetric at a ladder of tolerances, from four times
    `max_displacement` down to 1e-4 Angstrom, and again from what that gave; what counts is the way from
    the crystal given. Displacements are relative to the cell, which is strained without turning, and to
    the mean of all atoms, which stays in its place.

    Applied to its own result it changes nothing, except where a still higher symmetry lies within the
    limits of the result which was beyond those of the crystal given.

    Args:
        systems: a crystal, or many; the larger the noise in it, the larger the limits must be.
        max_displacement: of any atom, Angstrom.
        max_strain: the largest change of any length in the cell, as a part of it; below 1.
        threads: None for all cores; the result does not depend on it.

    Returns:
        For one crystal a `Symmetrized`; for many a list.

    Raises:
        InvalidInputError: a system is a molecule, a limit is out of range.
    """
    many, one = as_many(systems)
    held = [as_system(system) for system in many]
    batch = pack_crystals(held)
    positions, cells, *figures = _rust.symmetrize(*_arrays(batch), max_displacement, max_strain, threads)
    made: list[Symmetrized] = []
    for k, system in enumerate(held):
        atoms = slice(batch.offsets[k], batch.offsets[k + 1])
        number, displacement, strain = (column[k].item() for column in figures)
        changed = displacement > 0 or strain > 0
        new = AtomicSystem(system.numbers, positions[atoms], cells[k], system.info) if changed else system
        made.append(Symmetrized(new, number, displacement, strain))
    return made[0] if one else made


def _arrays(batch: Packed) -> tuple[NDArray[np.uint8], NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    return batch.numbers, batch.positions, batch.cells, batch.offsets


def _dataset(fields: Mapping[str, Any]) -> SymmetryDataset:
    cells = {name: AtomicSystem(*fields[name]) for name in ("conventional", "primitive")}
    return SymmetryDataset(**{**fields, **cells})


def _the_one(found: list[T | None]) -> T:
    if found[0] is None:
        raise InvalidInputError(
            "`systems` must be a crystal whose symmetry can be found; this one has no atoms, atoms within symprec "
            "of each other, or a cell of extreme shape. Check it with adit.validity.structural"
        )
    return found[0]


def _wrapped(system: AtomicSystem, cell: NDArray[np.float64]) -> AtomicSystem:
    fractional = np.linalg.solve(cell.T, system.positions.T).T
    fractional -= np.floor(fractional)
    fractional[fractional >= 1 - 1e-12] = 0  # what rounding left of a small negative number
    return AtomicSystem(system.numbers, fractional @ cell, cell, system.info)
