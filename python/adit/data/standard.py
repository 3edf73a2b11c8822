"""The standard form in which a data set is kept: Niggli cells, atoms sorted, formula and space group known."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from adit.convert.base import BrokenEntry
from adit.data.base import Entry
from adit.elements import ELECTRONEGATIVITY_RANKS
from adit.errors import InvalidInputError
from adit.system import AtomicSystem

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

LONGEST_TEXT = 200
"""Longer texts in `info` are not kept."""


SYMPREC = 0.1
"""Tolerance of the space groups in Angstrom: that of the Materials Project."""


def standardise(entries: list[Entry]) -> list[Entry]:
    """Crystals in their Niggli cell, positions wrapped into it, the Cartesian frame kept.

    Their atoms are sorted by `adit.elements.ELECTRONEGATIVITY_RANKS`, those of one element as given: networks know
    atoms by their places, too, and those of MP-20 stand so.

    `info` gets `formula`, and for a crystal `spacegroup` where it lacks one: the international number that moyo
    finds at 0.1 Angstrom, NaN where it finds none. A system without atoms, or with a cell that cannot be reduced,
    becomes a `BrokenEntry`.
    """
    cells = [entry.cell for entry in entries if isinstance(entry, AtomicSystem) and entry.cell is not None]
    reduced = iter(_reduce(cells))
    result: list[Entry] = []
    for entry in entries:
        if isinstance(entry, AtomicSystem):
            cell = None if entry.cell is None else next(reduced)
            result.append(_standard(entry, cell))
        else:
            result.append(entry)
    return _with_spacegroups(result)


def _standard(system: AtomicSystem, cell: Array | str | None) -> Entry:
    """One system in its reduced cell; `cell` is None for a molecule, a reason where there is no such cell."""
    info = {"formula": system.formula, **_columns(system)}
    if len(system) == 0:
        return BrokenEntry(str(info.get("id", "?")), "no atoms")
    if isinstance(cell, str):
        return BrokenEntry(str(info.get("id", system.formula)), cell)
    if cell is None:
        return AtomicSystem(system.numbers, system.positions, None, info)
    fractional: Array = np.linalg.solve(cell.T, system.positions.T).T.astype(np.float64)
    fractional -= np.floor(fractional)
    order = np.argsort(ELECTRONEGATIVITY_RANKS[system.numbers], kind="stable")
    return AtomicSystem(system.numbers[order], fractional[order] @ cell, cell, info)


def _columns(system: AtomicSystem) -> dict[str, Any]:
    """`info` as it becomes columns: names are plain file names, long texts are left out."""
    return {
        re.sub(r"[^A-Za-z0-9_.-]", "_", name)[:100].lstrip(".") or "unnamed": value
        for name, value in system.info.items()
        if not (isinstance(value, str) and len(value) > LONGEST_TEXT)
    }


def _reduce(cells: list[Array]) -> list[Array | str]:
    """Niggli cells, or for one that cannot be reduced the reason."""
    from adit._rust import niggli_reduce

    if not cells:
        return []
    try:
        return list(niggli_reduce(np.stack(cells), threads=1))
    except InvalidInputError as error:
        if len(cells) == 1:
            return [f"no Niggli cell: {error}"]
    return [result for cell in cells for result in _reduce([cell])]


def _with_spacegroups(entries: list[Entry]) -> list[Entry]:
    """The entries, in which every crystal has `spacegroup` in its `info`."""
    from adit.symmetry import spacegroups

    result = list(entries)
    crystals = [
        (place, entry)
        for place, entry in enumerate(entries)
        if isinstance(entry, AtomicSystem) and entry.is_periodic and "spacegroup" not in entry.info
    ]
    found = spacegroups([crystal for _, crystal in crystals], SYMPREC, threads=1)
    for (place, crystal), group in zip(crystals, found, strict=True):
        number = float(group) if group else float("nan")
        result[place] = replace(crystal, info={**crystal.info, "spacegroup": number})
    return result
