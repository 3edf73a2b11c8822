"""Element symbols by atomic number, and formulas."""

from __future__ import annotations

from collections.abc import Mapping

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
