"""Element symbols by atomic number, and formulas."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from adit import _rust
from adit.errors import InvalidInputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TABLE = (
    "X H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr "
    "Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu "
    "Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm"
)

SYMBOLS = _TABLE.split()
"""`SYMBOLS[z]` is the symbol of atomic number z, from 1 to 100; index 0 is a placeholder."""

NUMBERS = {symbol: number for number, symbol in enumerate(SYMBOLS)}
"""`NUMBERS[symbol]` is the atomic number."""


def hill_formula(counts: Mapping[str, int]) -> str:
    """Element symbols with their numbers of atoms in Hill order: carbon, hydrogen, then alphabetical; e.g. `C2H6O`."""
    first = [symbol for symbol in ("C", "H") if symbol in counts] if "C" in counts else []
    rest = sorted(symbol for symbol in counts if symbol not in first)
    return "".join(f"{symbol}{counts[symbol] if counts[symbol] > 1 else ''}" for symbol in first + rest)


def formula_of(counts: NDArray[np.integer]) -> str:
    """The formula in Hill order of (100,) atoms of each element: the inverse of `composition`."""
    return hill_formula({SYMBOLS[k + 1]: int(counts[k]) for k in np.flatnonzero(counts)})


def composition(formula: str) -> NDArray[np.int64]:
    """(100,) atoms of each element, from hydrogen to fermium, in a formula such as `C2H6O` or `Ca3(PO4)2`.

    Raises:
        InvalidInputError: it is no formula, has no atoms, or an element beyond fermium.
    """
    counts = np.zeros(len(SYMBOLS) - 1, dtype=np.int64)
    for number, count in _rust.parse_formula(formula):
        if not 1 <= number <= len(counts):
            raise InvalidInputError(f"`formula` {formula!r}: the elements go from hydrogen to fermium (100)")
        counts[number - 1] = count
    if not counts.any():
        raise InvalidInputError(f"`formula` {formula!r} has no atoms")
    return counts
