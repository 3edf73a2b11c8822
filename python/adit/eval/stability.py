"""Atom and molecule stability: `adit.bonds.edm_stability`, and the tables it works with."""

from __future__ import annotations

from typing import NamedTuple

from adit import _rust
from adit.bonds import MoleculeStability, edm_stability
from adit.elements import SYMBOLS

__all__ = ["MoleculeStability", "Tables", "edm_stability", "tables"]


class Tables(NamedTuple):
    """Appendix C of EDM (arXiv 2203.17003), by element symbols, each pair once.

    Attributes:
        lengths: for orders 1 to 3, the length of such a bond in pm.
        margins: for orders 1 to 3, what is added before comparing, in pm.
        valences: sums of bond orders with which an atom is stable.
    """

    lengths: tuple[dict[frozenset[str], int], ...]
    margins: tuple[int, ...]
    valences: dict[str, tuple[int, ...]]


def tables() -> Tables:
    """The tables as they are compiled into `adit._rust`."""
    rows, margins, valences = _rust.stability_tables()
    lengths: tuple[dict[frozenset[str], int], ...] = ({}, {}, {})
    for first, second, row in rows:
        for held, length in zip(lengths, row, strict=True):
            if length:
                held[frozenset((SYMBOLS[first], SYMBOLS[second]))] = length
    return Tables(lengths, tuple(margins), {SYMBOLS[number]: tuple(held) for number, held in valences})
