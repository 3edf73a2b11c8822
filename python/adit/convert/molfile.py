"""Molfiles (CTfile formats, BIOVIA 2020), V2000 and V3000: atoms, the total charge, and hydrogens that are left out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from adit.elements import NUMBERS, SYMBOLS
from adit.errors import InvalidInputError

_ISOTOPES = {"D": 1, "T": 1}
_COUNTS = re.compile(r"([ \d]{2}\d)([ \d]{2}\d)?")
_CHARGES = {"1": 3, "2": 2, "3": 1, "5": -1, "6": -2, "7": -3}
"""Codes of the charge column of an atom line; 4 is a radical."""
_VALENCE = {1: 1, 5: 3, 6: 4, 7: 3, 8: 2, 9: 1, 14: 4, 17: 1, 35: 1}
_VALENCES = {15: (3, 5), 16: (2, 4, 6), 34: (2, 4, 6), 53: (1, 3, 5)}
"""Those of neutral atoms, as RDKit has them."""


class Molfile(NamedTuple):
    """What stands in a molfile.

    Attributes:
        numbers: n atomic numbers.
        positions: 3 n coordinates in Angstrom: x, y, z of the first atom, ...
        charge: the sum of the formal charges.
        bonds: the bond lines, as they are.
        plain: a V2000 file without charges, unpaired electrons, and valences that are given.
        doublets: unpaired electrons by the charge column of the atom lines, which RDKit passes over.
    """

    numbers: list[int]
    positions: list[float]
    charge: int
    bonds: list[str]
    plain: bool
    doublets: int


def element(symbol: str) -> int:
    """Atomic number of a symbol in any case, an atomic number as text, or deuterium and tritium.

    Raises:
        InvalidInputError: no such element.
    """
    name = symbol.capitalize()
    number = NUMBERS.get(name) or _ISOTOPES.get(name)
    if number is None and symbol.isdecimal() and len(symbol) < 4 and 0 < int(symbol) < len(SYMBOLS):
        number = int(symbol)
    if not number:
        raise InvalidInputError(f"{symbol!r} is not an element from 1 to {len(SYMBOLS) - 1}")
    return number


def parse_molfile(lines: Sequence[str]) -> Molfile:
    """The lines of a molfile up to its `M  END`.

    Raises:
        InvalidInputError: it breaks the format, or an atom is no element.
        ValueError, IndexError: it breaks the format.
    """
    return _v3000(lines) if "V3000" in lines[3] else _v2000(lines)


def _v2000(lines: Sequence[str]) -> Molfile:
    """Columns: x, y, z of ten characters each, a space, the symbol, ..., the charge (36), ..., the valence (48)."""
    found = _COUNTS.match(lines[3])
    if found is None:
        raise InvalidInputError(f"line 4 must be the counts line (atoms, bonds, ...); got {lines[3].strip()[:40]!r}")
    last = 4 + int(found[1])
    end = last + int(found[2] or 0)
    rows = lines[4:last]
    if len(rows) < last - 4 or min(map(len, rows), default=32) < 32:
        raise InvalidInputError(f"{last - 4} atoms are announced, but an atom line is missing or short")
    symbols = [row[31:34].strip() for row in rows]
    numbers = [NUMBERS.get(symbol) or element(symbol) for symbol in symbols]
    positions = [float(text) for row in rows for text in (row[0:10], row[10:20], row[20:30])]
    properties = [line.split() for line in lines[end:] if line.startswith(("M  CHG", "M  RAD"))]
    ends = {row[34:] for row in rows}
    plain = not (properties or any(row[2:5].strip(" 0") or row[14:17].strip(" 0") for row in ends))
    codes = [] if properties or plain else [row[36:39].strip() for row in rows]
    charge = sum(_CHARGES.get(code, 0) for code in codes)
    if properties:  # they replace the codes
        charge = sum(int(text) for words in properties if words[1] == "CHG" for text in words[4::2])
    return Molfile(numbers, positions, charge, list(lines[last:end]), plain, codes.count("4"))


def _v3000(lines: Sequence[str]) -> Molfile:
    joined = re.sub(r"-\nM  V30 ", "", "\n".join(lines)).split("\n")  # a hyphen at the end goes on with the next line
    start = joined.index("M  V30 BEGIN ATOM") + 1
    rows = [line[7:].split() for line in joined[start : joined.index("M  V30 END ATOM")]]
    bonds: list[str] = []
    if "M  V30 BEGIN BOND" in joined:
        bonds = joined[joined.index("M  V30 BEGIN BOND") + 1 : joined.index("M  V30 END BOND")]
    charge = sum(int(word[4:]) for row in rows for word in row[6:] if word.startswith("CHG="))
    numbers = [element(row[1]) for row in rows]
    positions = [float(text) for row in rows for text in row[2:5]]
    return Molfile(numbers, positions, charge, bonds, False, 0)


def missing_hydrogens(mol: Molfile, lines: Sequence[str]) -> int:
    """How many hydrogens the bonds leave to be understood, by RDKit's valences; 0 where there are no bonds.

    Atoms with more bonds than their valence count against it: they belong to ions whose charges are not written, and
    the others of these have less. RDKit is asked only where the valences do not add up anyway.

    Args:
        mol: what `parse_molfile` made of the lines.
        lines: with the `M  END`.
    """
    if not mol.bonds or (mol.plain and _balanced(mol)):
        return 0
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        made = Chem.MolFromMolBlock("\n".join(lines), sanitize=False, removeHs=False, strictParsing=False)
        if made is None:
            return 0
        Chem.Cleanup(made)  # nitro groups with a nitrogen of five bonds, and their like
        made.UpdatePropertyCache(strict=False)
    missing = -mol.doublets
    for atom in made.GetAtoms():
        missing += atom.GetTotalNumHs()
        allowed = list(Chem.GetPeriodicTable().GetValenceList(atom.GetAtomicNum()))
        if not atom.GetFormalCharge() and min(allowed) >= 0:
            missing -= max(0, atom.GetValence(Chem.ValenceType.EXPLICIT) - max(allowed))
    return max(0, missing)


def _balanced(mol: Molfile) -> bool:
    """Whether the bonds of a plain file use all valences, as far as that is told at once; False is doubt."""
    try:
        orders = [int(row[6:9]) for row in mol.bonds]
    except ValueError:
        return False
    free = sum([_VALENCE.get(number, 0) for number in mol.numbers]) - 2 * sum(orders)
    others = set(mol.numbers) - _VALENCE.keys()
    if max(orders, default=0) > 3 or others - _VALENCES.keys():
        return False
    for place in [place for place, number in enumerate(mol.numbers) if number in others] if others else ():
        end = f"{place + 1:3d}"
        used = sum([order for row, order in zip(mol.bonds, orders, strict=True) if end in (row[:3], row[3:6])])
        free += next((valence for valence in _VALENCES[mol.numbers[place]] if valence >= used), used)
    return free == 0
