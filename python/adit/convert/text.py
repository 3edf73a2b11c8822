"""Parsers of the text formats that hold one structure after the other: xyz, extxyz, sdf."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np

from adit.convert.base import BrokenEntry
from adit.convert.molfile import element as element
from adit.convert.molfile import missing_hydrogens, parse_molfile
from adit.errors import InvalidInputError
from adit.system import AtomicSystem

Entry = AtomicSystem | BrokenEntry
_PAIR = re.compile(r"""([A-Za-z_][\w.:\-]*)\s*=\s*("[^"]*"|'[^']*'|\{[^}]*\}|\S+)""")
_INTEGER = re.compile(r"-?(0|[1-9]\d{0,299})")
_NUMERIC = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_STRUCTURAL = {"lattice", "properties", "pbc"}


def value(text: str) -> float | str:
    """A number where the text is one (an int where it is written as one), else the text."""
    stripped = text.strip()
    if _INTEGER.fullmatch(stripped):
        return int(stripped)
    return float(stripped) if _NUMERIC.fullmatch(stripped) else text


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


def parse_sdf(lines: Iterable[str], source: str, *, all_hydrogens: bool = False) -> Iterator[Entry]:
    """Molecules of an SDF or MOL file (V2000 and V3000): atoms, total charge, title and data items; bonds are not kept.

    Args:
        lines: of the file.
        source: its name.
        all_hydrogens: whether a record whose bonds leave hydrogens out is broken. Those that adit wrote never are.
    """
    block: list[str] = []
    number = 0
    for line in lines:
        if line.startswith("$$$$"):
            number += 1
            yield _molecule(block, f"{source}[{number}]", all_hydrogens)
            block = []
        else:
            block.append(line.rstrip())
    if any(line.strip() for line in block):
        yield _molecule(block, f"{source}[{number + 1}]", all_hydrogens)


def _molecule(block: list[str], name: str, all_hydrogens: bool) -> Entry:
    try:
        end = block.index("M  END", 4)
    except ValueError:
        return BrokenEntry(name, "truncated or no molfile: there is no 'M  END'")
    program, dimension = block[1][2:10].strip(), block[1][19:22].upper()  # CTfile header: program, time, dimension
    if "2D" in dimension:
        return BrokenEntry(name, "a 2D drawing; adit needs 3D coordinates")
    try:
        mol = parse_molfile(block[:end])
        if all_hydrogens and program != "adit" and (missing := missing_hydrogens(mol, block[: end + 1])):
            words = f"lacks {missing} hydrogen{'s' * (missing > 1)}"
            return BrokenEntry(name, f"{words}; add them in 3D (RDKit: Chem.AddHs(mol, addCoords=True))")
        items = _items(block[end + 1 :])
        charge = {"charge": mol.charge} if mol.charge and not (program == "adit" and "adit_bonds" in items) else {}
        info: dict[str, Any] = {"id": block[0].strip() or name, **charge, **items}
        return AtomicSystem(np.array(mol.numbers, np.int64), np.array(mol.positions).reshape(-1, 3), None, info)
    except (ValueError, IndexError, InvalidInputError) as error:
        return BrokenEntry(name, " ".join(str(error).split()))


def _items(lines: list[str]) -> dict[str, float | str]:
    """Data items `> <name>`, one line of value each; longer ones are joined by newlines."""
    items: dict[str, float | str] = {}
    name: str | None = None
    held: list[str] = []
    for line in [*lines, "> <>"]:
        header = re.match(r">.*?<([^>]*)>", line) if line.startswith(">") else None
        if header is None:
            held.append(line)
            continue
        if name:
            items[name] = value("\n".join(held).strip())
        name, held = header.group(1), []
    return items
