"""Cells that are known before the atoms in them are, such as those that a powder pattern was indexed with."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from adit import _rust
from adit.convert.cif import cell_matrix
from adit.errors import InvalidInputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

KnownCell: TypeAlias = "str | ArrayLike"
"""What `known_cells` reads."""

_CENTRED = {
    "P": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "A": [[1, 0, 0], [0, 0.5, 0.5], [0, -0.5, 0.5]],
    "B": [[0.5, 0, 0.5], [0, 1, 0], [-0.5, 0, 0.5]],
    "C": [[0.5, 0.5, 0], [-0.5, 0.5, 0], [0, 0, 1]],
    "I": [[-0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.5, 0.5, -0.5]],
    "F": [[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]],
    "R": [[2 / 3, 1 / 3, 1 / 3], [-1 / 3, 1 / 3, 1 / 3], [-1 / 3, -2 / 3, 1 / 3]],
}
"""Primitive vectors by those of the conventional cell; R of hexagonal axes, obverse."""

_LEAST, _MOST = 1.0, 1e3
_SHAPE = (
    "a, b, c in Angstrom and alpha, beta, gamma in degrees, such as 4.59,4.59,2.96,90,90,90; of a centred lattice its "
    "letter first, I,3.78,3.78,9.51,90,90,90"
)


def known_cells(given: KnownCell) -> NDArray[np.float64]:
    """(K, 3, 3) row vectors in Angstrom: the Niggli cells of primitive ones, in which the networks know crystals.

    Args:
        given: of one cell the text "a,b,c,alpha,beta,gamma" (Angstrom, degrees; blanks will do), with the letter of a
            centred lattice in front (A, B, C, I, F, or R with hexagonal axes); or the six numbers; or (3, 3) row
            vectors; or (K, 3, 3) of several.

    Raises:
        InvalidInputError: it is nothing of these, no cell has these angles, or an edge is not 1 to 1,000 Angstrom long.
    """
    letter, values = "P", given
    if isinstance(given, str):
        first, *rest = re.split(r"[\s,;]+", given.strip())
        letter, values = (first.upper(), rest) if first.upper() in _CENTRED else ("P", [first, *rest])
    try:
        numbers = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        numbers = np.full(1, np.nan)
    if numbers.shape == (6,) and np.isfinite(numbers).all() and (numbers > 0).all():
        try:
            numbers = np.asarray(_CENTRED[letter]) @ cell_matrix(numbers[:3], numbers[3:])
        except InvalidInputError as error:
            raise InvalidInputError(f"`cell`: {error}") from error
    if numbers.ndim not in (2, 3) or numbers.shape[-2:] != (3, 3) or not numbers.size or not np.isfinite(numbers).all():
        raise InvalidInputError(f"`cell` must be {_SHAPE}; got {given!r}")
    cells = numbers.reshape(-1, 3, 3)
    lengths = np.linalg.norm(cells, axis=-1)
    if lengths.min() < _LEAST or lengths.max() > _MOST:
        found = f"{lengths.min():.4g} to {lengths.max():.4g}"
        raise InvalidInputError(f"`cell`: edges must be {_LEAST:g} to {_MOST:,g} Angstrom long; got {found}")
    try:
        reduced: NDArray[np.float64] = _rust.niggli_reduce(cells, threads=1)
    except InvalidInputError as error:
        raise InvalidInputError(f"`cell`: {error}") from error
    return reduced
