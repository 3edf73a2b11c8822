"""Element symbols by atomic number, and formulas."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
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


_FROM_THE_LEAST_ELECTRONEGATIVE = (
    "Fr Cs K Rb Ba Ra Na Sr Li Ca Ac La Tb Yb Ce Pm Pr Nd Sm Eu Gd Dy Y Ho Er Tm Lu Pu Am Bk Cf Cm Es Fm Hf Th Mg Zr "
    "Np Sc U Pa Ta Ti Mn Be Nb Al Tl V Zn Cr Cd In Ga Fe Co Cu Re Si Tc Ni Ag Sn Hg Po Ge Bi B Sb Te Mo As P At H Ir "
    "Os Pd Rn Ru Pt Rh Pb W Au C Se S Xe I Br Kr N Cl O F Ar He Ne"
)

ELECTRONEGATIVITY_RANKS = np.zeros(len(SYMBOLS), dtype=np.int64)
"""Of each atomic number its place by Pauling's electronegativity, those that share one by symbol and those without one
last: the order in which pymatgen sorts elements, and in which the atoms of the Materials Project's cells stand."""
ELECTRONEGATIVITY_RANKS[[NUMBERS[symbol] for symbol in _FROM_THE_LEAST_ELECTRONEGATIVE.split()]] = range(100)


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


@dataclass(frozen=True)
class Elements:
    """Which elements a composition shall have.

    Attributes:
        present, absent: (100,) from hydrogen on, those that it has and those that it has not.
        words: the same for a message: "exactly Li-P-S", "with F, without N-O".
    """

    present: NDArray[np.bool_]
    absent: NDArray[np.bool_]
    words: str

    def fit(self, counts: NDArray[np.integer]) -> NDArray[np.bool_]:
        """(K,) which of the compositions (K, 100) have these elements."""
        there = counts > 0
        wrong = (self.present & ~there) | (self.absent & there)
        fitting: NDArray[np.bool_] = np.logical_not(wrong.any(1))
        return fitting


Symbols = str | Iterable[str]
"""Elements as in "Li-P-S", "Li,P,S" or ["Li", "P", "S"]."""


def wanted_elements(
    chemical_system: Symbols | None = None,
    elements: Symbols | None = None,
    exclude_elements: Symbols | None = None,
    names: Sequence[str] = ("`chemical_system`", "`elements`", "`exclude_elements`"),
) -> Elements | None:
    """All elements of a chemical system and no others; or at least some, and none of others. None if nothing is given.

    Args:
        names: what messages call the arguments.

    Raises:
        InvalidInputError: what is given names no elements, or contradicts itself.
    """
    given = zip(names, (chemical_system, elements, exclude_elements), strict=True)
    exactly, some, others = ([] if what is None else _symbols(name, what) for name, what in given)
    if exactly:
        if some or others:
            raise InvalidInputError(
                f"{names[0]} names all elements that there are; leave out {' and '.join(names[1:])}"
            )
        return Elements(_mask(exactly), ~_mask(exactly), f"exactly {'-'.join(exactly)}")
    if both := [symbol for symbol in some if symbol in others]:
        raise InvalidInputError(f"{names[1]} and {names[2]} both name {'-'.join(both)}")
    if not (some or others):
        return None
    words = ", ".join(f"{word} {'-'.join(these)}" for word, these in (("with", some), ("without", others)) if these)
    return Elements(_mask(some), _mask(others), words)


def _symbols(name: str, given: Symbols) -> list[str]:
    symbols = re.split(r"[-,\s]+", given.strip()) if isinstance(given, str) else list(given)
    for symbol in symbols:
        if not isinstance(symbol, str) or symbol not in SYMBOLS[1:]:
            raise InvalidInputError(f"{name} must be elements from H to Fm, such as Li-P-S; got {symbol!r}")
    if not symbols:
        raise InvalidInputError(f"{name} names no element; leave it out")
    return list(dict.fromkeys(symbols))


def _mask(symbols: Sequence[str]) -> NDArray[np.bool_]:
    return np.isin(SYMBOLS[1:], symbols)
