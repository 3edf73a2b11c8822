"""Neighbour lists with named quantities, as in matscipy and vesin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from adit import _rust
from adit.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

_QUANTITIES = "ijSdD"


def neighbor_list(
    quantities: str,
    positions: ArrayLike,
    cell: ArrayLike | None,
    pbc: bool | Sequence[bool] | NDArray[np.bool_],
    cutoff: float,
    *,
    half: bool = False,
    algorithm: str = "auto",
) -> Any:
    """Pairs of atoms and periodic images that are closer than `cutoff`, sorted by (i, j, S).

    Args:
        quantities: what to return, in this order: any of
            "i" (m,) int64, first atom;
            "j" (m,) int64, second atom;
            "S" (m, 3) int32, shift of the second atom in cells;
            "d" (m,) float64, distance in Angstrom;
            "D" (m, 3) float64, vector in Angstrom: positions[j] + S @ cell - positions[i].
        positions: (n, 3), Cartesian, Angstrom, inside the cell or not.
        cell: (3, 3), Angstrom, row vectors; None where nothing is periodic.
        pbc: periodic directions: one bool for all, or three.
        cutoff: in Angstrom; a pair is closer than this, strictly.
        half: every pair once (i < j, or i = j and the first nonzero shift positive), not twice.
        algorithm: "brute", "cells" or "auto"; all give the same.

    Returns:
        A tuple of arrays, one for each letter; for a single letter the array itself.

    Raises:
        InvalidInputError: a letter is unknown, a shape is wrong, a number is not finite, the cell
            is flat in a periodic direction, or the list would exceed 2^26 pairs.
    """
    unknown = sorted(set(quantities) - set(_QUANTITIES))
    if unknown or not quantities:
        raise InvalidInputError(
            f"`quantities` must be letters out of {_QUANTITIES!r}; got {quantities!r}. "
            "i, j: atoms, S: shift, d: distance, D: vector"
        )
    points = _floats("positions", positions)
    if points.size == 0:
        points = points.reshape(0, 3)
    box = None if cell is None else _floats("cell", cell)
    i, j, shifts, distances, vectors = _rust.neighbor_list(points, box, _three(pbc), cutoff, half, algorithm)
    named = {"i": i, "j": j, "S": shifts, "d": distances, "D": vectors}
    result = tuple(named[letter] for letter in quantities)
    return result[0] if len(result) == 1 else result


def _floats(name: str, value: ArrayLike) -> NDArray[np.float64]:
    try:
        return np.ascontiguousarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"`{name}` must be an array of numbers in Angstrom; got {value!r:.80}") from error


def _three(pbc: bool | Sequence[bool] | NDArray[np.bool_]) -> tuple[bool, bool, bool]:
    flags = np.asarray(pbc)
    if flags.shape not in ((), (3,)):
        raise InvalidInputError(f"`pbc` must be one bool or three; got {pbc!r:.80}")
    a, b, c = (bool(flag) for flag in np.broadcast_to(flags, 3))
    return a, b, c
