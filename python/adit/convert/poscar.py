"""POSCAR and CONTCAR of VASP 5: read through pymatgen, written here."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np

from adit.convert.base import BrokenEntry
from adit.errors import InvalidInputError
from adit.system import AtomicSystem


def parse_poscar(text: str, source: str) -> Iterator[AtomicSystem | BrokenEntry]:
    """The structure of a POSCAR or CONTCAR, through pymatgen; the elements must be named in it (VASP 5)."""
    from pymatgen.io.vasp import Poscar

    from adit.convert.pymatgen import from_pymatgen

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            poscar = Poscar.from_str(text)
        except (ValueError, IndexError, KeyError, TypeError, AttributeError, ZeroDivisionError, Warning) as error:
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


def format_poscar(system: AtomicSystem, name: str = "adit") -> str:
    """The text of a VASP 5 POSCAR: atoms grouped by element, direct coordinates with sixteen digits after the point.

    VASP refuses left-handed cells. One is written with all its vectors reversed: the same lattice and positions.

    Raises:
        InvalidInputError: the system is a molecule.
    """
    if system.cell is None:
        raise InvalidInputError(f"a POSCAR holds a crystal; got the molecule {system.formula}. Write .sdf or .extxyz")
    sign = float(np.sign(np.linalg.det(system.cell)))
    symbols = system.symbols
    kinds = list(dict.fromkeys(symbols))
    order = sorted(range(len(symbols)), key=lambda atom: kinds.index(symbols[atom]))
    rows = [*(sign * system.cell), *(sign * system.fractional[order])]
    numbers = ["".join(f" {value:21.16f}" for value in row) for row in rows]
    counts = "  ".join(str(symbols.count(kind)) for kind in kinds)
    head = [" ".join(name.split()) or "adit", "1.0", *numbers[:3], "  ".join(kinds), counts, "Direct"]
    return "\n".join([*head, *numbers[3:]]) + "\n"
