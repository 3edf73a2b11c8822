"""Neighbour lists with named quantities, as in ASE, matscipy and vesin."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from adit import _rust
from adit.errors import InvalidInputError
from adit.packing import Packed, Store, as_system, is_one, pack
from adit.system import AtomicSystem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from adit.packing import SystemLike, Systems

_NONE, _ALL = (False, False, False), (True, True, True)


@overload
def neighbor_list(
    quantities: str, system: SystemLike, cutoff: float, /, *, half: bool = False, algorithm: str = "auto"
) -> Any: ...
@overload
def neighbor_list(
    quantities: str, system: SystemLike, /, *, cutoff: float, half: bool = False, algorithm: str = "auto"
) -> Any: ...
@overload
def neighbor_list(
    quantities: str,
    positions: ArrayLike,
    cell: ArrayLike | None,
    pbc: bool | Sequence[bool] | NDArray[np.bool_],
    cutoff: float,
    *,
    half: bool = False,
    algorithm: str = "auto",
) -> Any: ...
@overload
def neighbor_list(
    quantities: str, positions: ArrayLike, *, cutoff: float, half: bool = False, algorithm: str = "auto"
) -> Any: ...
def neighbor_list(
    quantities: str,
    positions: Any,
    cell: Any = None,
    pbc: Any = None,
    cutoff: Any = None,
    *,
    half: bool = False,
    algorithm: str = "auto",
) -> Any:
    """Pairs of atoms and periodic images that are closer than `cutoff`, sorted by (i, j, S).

    Call it with a system, `neighbor_list("ijS", atoms, 5.0)`, or with arrays,
    `neighbor_list("ijS", positions, cell, pbc, 5.0)`.

    Args:
        quantities: what to return, in this order: any of
            "i" (m,) int64, first atom;
            "j" (m,) int64, second atom;
            "S" (m, 3) int32, shift of the second atom in cells;
            "d" (m,) float64, distance in Angstrom;
            "D" (m, 3) float64, vector in Angstrom: positions[j] + S @ cell - positions[i].
        positions: (n, 3), Cartesian, Angstrom, inside the cell or not. Or one system: an AtomicSystem,
            ASE Atoms or pymatgen Structure (periodic in the directions that they say, mixed too), a
            pymatgen Molecule, an RDKit Mol with a conformer; `cell` and `pbc` then stay away.
        cell: (3, 3), Angstrom, row vectors; None where nothing is periodic.
        pbc: periodic directions: one bool for all, or three; may stay away together with `cell`.
        cutoff: in Angstrom; a pair is closer than this, strictly.
        half: every pair once (i < j, or i = j and the first nonzero shift positive), not twice.
        algorithm: "brute", "cells" or "auto"; all give the same, bit for bit.

    Returns:
        A tuple of arrays, one for each letter; for a single letter the array itself.

    Raises:
        InvalidInputError: a letter is unknown, a shape is wrong, a number is not finite, the cell
            is flat in a periodic direction, or the list would exceed 2^26 pairs.
    """
    try:
        geometry = _geometry(positions)
    except InvalidInputError as error:
        raise InvalidInputError(f"`positions` must be an array or one system: {error}") from error
    if geometry is not None:
        if cell is not None and cutoff is None:
            cell, cutoff = None, cell
        if cell is not None or pbc is not None:
            raise InvalidInputError(
                f"a {type(positions).__name__} has its own cell and periodic directions. "
                "Leave `cell` and `pbc` away, or pass its positions as an array"
            )
        points, box, three = geometry
    else:
        points, box = _floats("positions", positions), None if cell is None else _floats("cell", cell)
        if points.size == 0:
            points = points.reshape(0, 3)
        three = _NONE if pbc is None and box is None else _three(pbc)
    result = _rust.neighbor_list(quantities, points, box, three, cutoff, half, algorithm)
    return result[0] if len(result) == 1 else result


def neighbor_list_batch(
    quantities: str,
    systems: Systems | Packed,
    cutoff: float,
    *,
    half: bool = False,
    algorithm: str = "auto",
    threads: int | None = None,
) -> tuple[NDArray[Any], ...]:
    """The neighbour lists of many systems at once, in parallel; atoms are counted through all systems.

    Args:
        quantities, cutoff, half, algorithm: as for `neighbor_list`.
        systems: a list of systems (whatever `neighbor_list` takes), an `adit.packing.Packed`, or a
            packed data set.
        threads: worker threads, None for all cores. The result does not depend on it.

    Returns:
        One array for each letter, and behind them `pair_offsets` (N + 1,) int64: the pairs of system k
        are pair_offsets[k] to pair_offsets[k + 1]. Pairs are sorted by (system, i, j, S); i and j count
        the atoms of all systems one after the other, as in a pack.

    Raises:
        InvalidInputError: as `neighbor_list`, naming the system; more than 2^28 pairs in all.
    """
    if not isinstance(systems, Packed | Store) and is_one(systems):
        raise InvalidInputError(f"`systems` must be a list of systems or packed; got {type(systems).__name__}")
    positions, cells, pbc, offsets = _collect(systems)
    return _rust.neighbor_list_batch(quantities, positions, cells, pbc, offsets, cutoff, half, algorithm, threads)


def _geometry(
    thing: Any,
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None, tuple[bool, bool, bool]] | None:
    """Positions, cell and periodic directions of a system; None of what is none."""
    if isinstance(thing, np.ndarray | list | tuple):
        return None
    # Not through AtomicSystem, which has no mixed periodic directions and no partly occupied sites.
    if (ase := sys.modules.get("ase")) and isinstance(thing, ase.Atoms):
        box = _floats("cell", thing.cell.array)
        return _floats("positions", thing.positions), box, _three(thing.pbc)
    if (structure := sys.modules.get("pymatgen.core.structure")) and isinstance(thing, structure.IStructure):
        box = _floats("cell", thing.lattice.matrix)
        return _floats("positions", thing.cart_coords).reshape(-1, 3), box, _three(thing.lattice.pbc)
    if hasattr(thing, "__array__"):
        return None
    system = thing if isinstance(thing, AtomicSystem) else as_system(thing)
    return system.positions, system.cell, _ALL if system.is_periodic else _NONE


def _collect(
    systems: Any,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_], NDArray[np.int64]]:
    """(T, 3) positions, (N, 3, 3) cells, (N, 3) periodic directions and (N + 1,) offsets."""
    if isinstance(systems, Packed | Store):
        packed = pack(systems)
        pbc = np.repeat(packed.periodic[:, None], 3, axis=1)
        return packed.positions, packed.cells, pbc, packed.offsets
    parts = []
    for index, thing in enumerate(systems):
        try:
            geometry = _geometry(thing)
        except InvalidInputError as error:
            raise InvalidInputError(f"system {index}: {error}") from error
        if geometry is None:
            raise InvalidInputError(f"system {index} must be a system; got {type(thing).__name__}")
        parts.append(geometry)
    empty = np.zeros((3, 3))
    return (
        np.concatenate([points for points, _, _ in parts] or [np.zeros((0, 3))]),
        np.stack([empty if box is None else box for _, box, _ in parts] or [empty])[: len(parts)],
        np.array([pbc for _, _, pbc in parts], dtype=np.bool_).reshape(-1, 3),
        np.cumsum([0, *(len(points) for points, _, _ in parts)], dtype=np.int64),
    )


def _floats(name: str, value: ArrayLike) -> NDArray[np.float64]:
    try:
        return np.ascontiguousarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"`{name}` must be an array of numbers in Angstrom; got {value!r:.80}") from error


def _three(pbc: Any) -> tuple[bool, bool, bool]:
    if isinstance(pbc, bool):
        return _ALL if pbc else _NONE
    flags = np.asarray(pbc)
    if flags.shape not in ((), (3,)) or flags.dtype.kind not in "biu":
        raise InvalidInputError(f"`pbc` must be one bool or three; got {pbc!r:.80}")
    a, b, c = np.broadcast_to(flags, 3).astype(bool).tolist()
    return a, b, c
