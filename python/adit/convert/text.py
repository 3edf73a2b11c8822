"""Parsers of the text formats that hold one structure after the other: xyz, extxyz, sdf; and POSCAR."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np

from adit.convert.base import BrokenEntry
from adit.elements import NUMBERS, SYMBOLS
from adit.errors import InvalidInputError
from adit.system import AtomicSystem

Entry = AtomicSystem | BrokenEntry
_ISOTOPES = {"D": 1, "T": 1}
_PAIR = re.compile(r"""([A-Za-z_][\w.:\-]*)\s*=\s*("[^"]*"|'[^']*'|\{[^}]*\}|\S+)""")
_NUMERIC = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_STRUCTURAL = {"lattice", "properties", "pbc"}


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


def value(text: str) -> float | str:
    """A number where the text is one, else the text."""
    return float(text) if _NUMERIC.fullmatch(text.strip()) else text


def real(text: str) -> float:
    """A number, also as Fortran (1.0D-3) and Mathematica (1.*^-6) write it."""
    try:
        return float(text)
    except ValueError:
        return float(text.replace("*^", "e").replace("D", "e").replace("d", "e"))


def parse_xyz(lines: Iterable[str], source: str) -> Iterator[Entry]:
    """Frames of an xyz or extxyz file. A frame with a `Lattice` is a crystal.

    A frame that cannot be used is a `BrokenEntry`, and reading goes on with the next.
    """
    iterator = iter(lines)
    frame = 0
    lost = False
    for line in iterator:
        if not line.strip():
            continue
        if not line.strip().isdecimal():
            if not lost:
                frame += 1
                yield BrokenEntry(f"{source}[{frame}]", f"expected a number of atoms; got {line.strip()[:60]!r}")
            lost = True
            continue
        count, name = int(line), f"{source}[{frame + 1}]"
        frame, lost = frame + 1, False
        comment = next(iterator, "").strip()
        atoms = list(islice(iterator, count))
        periodic = bool(re.search(r"\blattice\s*=", comment, re.IGNORECASE))
        if len(atoms) < count or (atoms and not atoms[-1].strip()):
            yield BrokenEntry(name, f"truncated: {len(atoms)} atom lines where {count} atoms are announced", periodic)
            continue
        try:
            yield _frame(comment, atoms, name)
        except (ValueError, IndexError, InvalidInputError) as error:
            yield BrokenEntry(name, " ".join(str(error).split()), periodic)


def _frame(comment: str, atoms: list[str], name: str) -> AtomicSystem:
    pairs = {key: text.strip("\"'{}") for key, text in _PAIR.findall(comment)}
    keys = {key.lower(): text for key, text in pairs.items() if key.lower() in _STRUCTURAL}
    species, first = _columns(keys.get("properties"))
    words = [line.split() for line in atoms]
    numbers = [element(row[species]) for row in words]
    positions = np.array([[real(text) for text in row[first : first + 3]] for row in words], dtype=np.float64)
    if positions.shape != (len(atoms), 3) and atoms:
        raise InvalidInputError("expected three coordinates on each atom line")
    info: dict[str, Any] = {key: value(text) for key, text in pairs.items() if key.lower() not in _STRUCTURAL}
    if comment and not pairs:
        info["comment"] = comment
    info.setdefault("id", name)
    return AtomicSystem(np.array(numbers, dtype=np.int64), positions, _lattice(keys), info)


def _columns(properties: str | None) -> tuple[int, int]:
    """Where the species and the first coordinate stand; `properties` is extxyz's name:type:width:..."""
    if properties is None:
        return 0, 1
    words = properties.split(":")
    places, column = {}, 0
    for name, width in zip(words[::3], words[2::3], strict=True):
        places[name.lower()] = column
        column += int(width)
    species = places.get("species", places.get("z"))
    if species is None or "pos" not in places:
        raise InvalidInputError(f"Properties={properties} names no species or no pos")
    return species, places["pos"]


def _lattice(keys: dict[str, str]) -> np.ndarray[Any, np.dtype[np.float64]] | None:
    flags = re.findall(r"[TF10]", keys.get("pbc", "").upper().replace("TRUE", "T").replace("FALSE", "F"))
    periodic = {flag in "T1" for flag in flags} or {"lattice" in keys}
    if len(periodic) == 2:
        raise InvalidInputError(
            f"periodic in some directions only (pbc={keys['pbc']!r}); adit knows molecules and 3D-periodic crystals"
        )
    if not periodic.pop():
        return None
    if "lattice" not in keys:
        raise InvalidInputError("periodic (pbc) without a Lattice")
    cell = np.array([real(text) for text in keys["lattice"].replace(",", " ").split()])
    if cell.size != 9:
        raise InvalidInputError(f"Lattice must hold 9 numbers; got {cell.size}")
    return cell.reshape(3, 3)


def parse_sdf(lines: Iterable[str], source: str) -> Iterator[Entry]:
    """Molecules of an SDF or MOL file (V2000 and V3000): atoms, title and data items; bonds are not kept."""
    block: list[str] = []
    number = 0
    for line in lines:
        if line.startswith("$$$$"):
            number += 1
            yield _molecule(block, f"{source}[{number}]")
            block = []
        else:
            block.append(line.rstrip("\r\n"))
    if any(line.strip() for line in block):
        yield _molecule(block, f"{source}[{number + 1}]")


def _molecule(block: list[str], name: str) -> Entry:
    try:
        end = next((place for place, line in enumerate(block) if line.startswith("M  END")), None)
        if end is None or len(block) < 4:
            return BrokenEntry(name, "truncated or no molfile: there is no 'M  END'")
        if "2D" in block[1][19:22].upper():  # CTfile header: program, time, then the dimension
            return BrokenEntry(name, "a 2D drawing; adit needs 3D coordinates")
        atoms = _v3000(block[:end]) if "V3000" in block[3] else _v2000(block)
        info: dict[str, Any] = {"id": block[0].strip() or name, **_items(block[end + 1 :])}
        numbers = np.array([element(symbol) for symbol, _ in atoms], dtype=np.int64)
        return AtomicSystem(numbers, np.array([xyz for _, xyz in atoms], dtype=np.float64), None, info)
    except (ValueError, IndexError, InvalidInputError) as error:
        return BrokenEntry(name, " ".join(str(error).split()))


def _v2000(block: list[str]) -> list[tuple[str, list[float]]]:
    """Columns of CTfile formats, BIOVIA 2020: x, y, z of ten characters each, a space, the symbol."""
    if not re.match(r"[ \d]{2}\d", block[3]):
        raise InvalidInputError(f"line 4 must be the counts line (atoms, bonds, ...); got {block[3].strip()[:40]!r}")
    count = int(block[3][:3])
    rows = block[4 : 4 + count]
    if any(len(row) < 32 for row in rows) or len(rows) < count:
        raise InvalidInputError(f"{count} atoms are announced, but an atom line is missing or short")
    return [(row[31:34].strip(), [float(row[0:10]), float(row[10:20]), float(row[20:30])]) for row in rows]


def _v3000(block: list[str]) -> list[tuple[str, list[float]]]:
    start = block.index("M  V30 BEGIN ATOM") + 1
    rows = [line[7:].split() for line in block[start : block.index("M  V30 END ATOM")]]
    return [(row[1], [float(text) for text in row[2:5]]) for row in rows]


def _items(lines: list[str]) -> dict[str, float | str]:
    """Data items `> <name>`, one line of value each; longer ones are joined by newlines."""
    items: dict[str, float | str] = {}
    name: str | None = None
    held: list[str] = []
    for line in [*lines, "> <>"]:
        header = re.match(r">.*?<([^>]*)>", line)
        if header is None:
            held.append(line)
            continue
        if name:
            items[name] = value("\n".join(held).strip())
        name, held = header.group(1), []
    return items


def parse_poscar(text: str, source: str) -> Iterator[Entry]:
    """The structure of a POSCAR or CONTCAR, through pymatgen; the elements must be named in it (VASP 5)."""
    from pymatgen.io.vasp import Poscar

    from adit.convert.pymatgen import from_pymatgen

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            poscar = Poscar.from_str(text)
        except (ValueError, IndexError, KeyError, TypeError, AttributeError, ZeroDivisionError) as error:
            yield BrokenEntry(source, f"not a POSCAR: {' '.join(str(error).split())[:160]}")
            return
    if not poscar.true_names:
        yield BrokenEntry(source, "the elements are not named (VASP 4 format); add the line of symbols")
        return
    try:
        comment = poscar.comment.strip()
        yield from_pymatgen(poscar.structure, {"id": source, **({"comment": comment} if comment else {})})
    except InvalidInputError as error:
        yield BrokenEntry(source, str(error))
