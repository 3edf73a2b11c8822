"""CIF: a fast reader of the plain P1 layout that pymatgen writes, pymatgen itself for every other file, a P1 writer."""

from __future__ import annotations

import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from adit.convert.base import BrokenEntry
from adit.elements import NUMBERS
from adit.errors import InvalidInputError
from adit.system import AtomicSystem

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NUMBER = r"\s+([-+0-9.eE]+)\s*\n"
_PLAIN = re.compile(
    r"\A(?:\#[^\n]*\n)?data_[^\n]*\n"
    r"_symmetry_space_group_name_H-M\s+'P\ 1'\s*\n"
    + "".join(rf"_cell_length_{name}{_NUMBER}" for name in "abc")
    + "".join(rf"_cell_angle_{name}{_NUMBER}" for name in ("alpha", "beta", "gamma"))
    + r"_symmetry_Int_Tables_number\s+1\s*\n"
    r"_chemical_formula_structural[^\n]*\n"
    r"_chemical_formula_sum\s+(?:'([^'\n]*)'|(\w+))\s*\n"
    r"_cell_volume[^\n]*\n_cell_formula_units_Z[^\n]*\n"
    r"loop_\n _symmetry_equiv_pos_site_id\n _symmetry_equiv_pos_as_xyz\n  1  'x, y, z'\n"
    r"loop_\n _atom_site_type_symbol\n _atom_site_label\n _atom_site_symmetry_multiplicity\n"
    r" _atom_site_fract_x\n _atom_site_fract_y\n _atom_site_fract_z\n _atom_site_occupancy\n"
    r"([^#;_']*)\Z"
)
_COUNT = re.compile(r"[A-Z][a-z]?(\d*)")


def cell_matrix(lengths: NDArray[np.float64], angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cell (3, 3) of row vectors, Angstrom, from lengths (3,) and angles alpha, beta, gamma (3,) in degrees.

    a lies along x and b in the xy plane (International Tables for Crystallography B, section 3.3).

    Raises:
        InvalidInputError: no cell has these angles.
    """
    a, b, c = (float(value) for value in lengths)
    cosines = np.cos(np.deg2rad(angles))
    cosines[np.abs(cosines) < 1e-15] = 0.0
    cos_alpha, cos_beta, cos_gamma = (float(value) for value in cosines)
    sin_gamma = float(np.sin(np.deg2rad(angles[2])))
    square = 1 - cos_alpha**2 - cos_beta**2 - cos_gamma**2 + 2 * cos_alpha * cos_beta * cos_gamma
    if not (min(a, b, c) > 0 and square > 0 and sin_gamma > 0):
        raise InvalidInputError(f"no cell has lengths {lengths.tolist()} and angles {angles.tolist()}")
    y = (cos_alpha - cos_beta * cos_gamma) / sin_gamma
    return np.array(
        [[a, 0, 0], [b * cos_gamma, b * sin_gamma, 0], [c * cos_beta, c * y, c * np.sqrt(square) / sin_gamma]]
    )


def parse_cif(text: str, source: str, info: Mapping[str, Any] | None = None) -> Iterator[AtomicSystem | BrokenEntry]:
    """Every structure in the text of a CIF; a structure that cannot be used comes as a `BrokenEntry`.

    Args:
        text: one or several data blocks.
        source: name of the entry, for `BrokenEntry`.
        info: goes to each system's `info`; without an `id`, the source is it.
    """
    info = info or {}
    plain = _PLAIN.match(text)
    if plain is not None:
        entry = _parse_plain(plain, source, {"id": source, **info})
        if entry is not None:
            yield entry
            return
    yield from _parse_any(text, source, info)


def _parse_plain(match: re.Match[str], source: str, info: Mapping[str, Any]) -> AtomicSystem | BrokenEntry | None:
    """The plain layout; None where it holds anything unusual (species with charges, partial occupancy)."""
    *cell, quoted, bare, body = match.groups()
    words = body.split()
    expected = sum(int(count or 1) for count in _COUNT.findall(quoted or bare))
    symbols = words[::7]
    if len(words) % 7 == 0:
        unusual = any(symbol not in NUMBERS for symbol in symbols) or {_real(word) for word in words[6::7]} != {1.0}
        if unusual or len(symbols) > expected:
            return None
        if reason := _lacking_hydrogens(Counter(symbols), _formula(quoted or bare)):
            return BrokenEntry(source, reason)
    if len(words) % 7 or len(symbols) != expected:
        return BrokenEntry(source, f"truncated: {len(words) // 7} atom lines where the formula has {expected} atoms")
    try:
        parameters = np.array(cell, dtype=np.float64)
        fractional = np.array([words[3::7], words[4::7], words[5::7]], dtype=np.float64).T
        matrix = cell_matrix(parameters[:3], parameters[3:])
        return AtomicSystem.from_fractional([NUMBERS[symbol] for symbol in symbols], fractional, matrix, info)
    except (ValueError, InvalidInputError) as error:
        return BrokenEntry(source, str(error))


def _parse_any(text: str, source: str, info: Mapping[str, Any]) -> Iterator[AtomicSystem | BrokenEntry]:
    """Any CIF, through pymatgen; several data blocks are read one by one, so that one bad block costs only itself."""
    if "_atom_site_" not in text:
        yield BrokenEntry(source, "not a CIF with atoms: no _atom_site_ loop")
        return
    blocks = re.split(r"(?mi)^(?=data_)", text)
    for number, block in enumerate(blocks):
        if "_atom_site_" in block:
            several = sum("_atom_site_" in other for other in blocks) > 1
            yield _parse_block(block, f"{source}[{number}]" if several else source, info)


def _parse_block(block: str, source: str, info: Mapping[str, Any]) -> AtomicSystem | BrokenEntry:
    from pymatgen.core import Structure
    from pymatgen.io.cif import CifParser

    from adit.convert.pymatgen import from_pymatgen

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            parser = CifParser.from_str(block)
            structures: list[Structure] = parser.parse_structures(primitive=False, check_occu=True)
        except (ValueError, KeyError, IndexError, AssertionError, TypeError, ZeroDivisionError, StopIteration) as error:
            return BrokenEntry(source, _torn(error))
    try:
        system = from_pymatgen(structures[0], {"id": source, **info})
    except InvalidInputError as error:
        return BrokenEntry(source, str(error))
    reason = _incomplete(system, block)
    return BrokenEntry(source, reason) if reason else system


def _incomplete(system: AtomicSystem, block: str) -> str:
    """Why the atoms are not a multiple of _chemical_formula_sum, within 1 %, where the file has one; "" if they are."""
    found = re.search(r"""(?m)^_chemical_formula_sum\s+(?:'([^'\n]*)'|"([^"\n]*)"|(\S+))""", block)
    wanted, held = _formula("".join(found.groups("")) if found else ""), Counter(system.symbols)
    if not wanted or _spread(held, wanted) <= 1.01:
        return ""
    return _lacking_hydrogens(held, wanted) or (
        f"the atoms add up to {system.formula}, not to the formula of the file; it may be truncated"
    )


def _formula(text: str) -> dict[str, float]:
    """How many atoms of each element; deuterium is hydrogen."""
    counts: dict[str, float] = defaultdict(float)
    for symbol, count in re.findall(r"([A-Z][a-z]?)(\d*\.?\d*)", text):
        counts["H" if symbol in ("D", "T") else symbol] += float(count or 1)
    return counts


def _spread(held: Mapping[str, float], wanted: Mapping[str, float]) -> float:
    """How far two compositions are from being proportional: 1 if they are, infinite if their elements differ."""
    ratios = [held[symbol] / wanted[symbol] for symbol in held if wanted.get(symbol)]
    return max(ratios) / min(ratios) if ratios and set(held) == set(wanted) else np.inf


def _lacking_hydrogens(held: Mapping[str, float], wanted: Mapping[str, float]) -> str:
    """The reason, if nothing but hydrogens keeps the atoms from the formula; else ""."""
    rest, full = ({name: count for name, count in each.items() if name != "H"} for each in (held, wanted))
    if _spread(rest, full) > 1.01:
        return ""
    expected = wanted.get("H", 0) * sum(rest.values()) / sum(full.values())
    missing = round(expected - held.get("H", 0))
    doubt = " (or the file is truncated)" if held.get("H") else ""
    words = f"{missing} of {round(expected)} hydrogens of the formula are not located{doubt}; add them"
    return words if missing > 0 else ""


def _torn(error: Exception) -> str:
    """What pymatgen says; for a loop that breaks off this speaks of its code."""
    if isinstance(error, ZeroDivisionError) or str(error).startswith("zip() argument"):
        return "a loop_ breaks off or has rows of different lengths; the file may be truncated"
    return _one_line(error)


def _real(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return np.nan


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def format_cif(system: AtomicSystem, name: str = "adit") -> str:
    """The text of a P1 CIF with ten digits after the point.

    Raises:
        InvalidInputError: the system is a molecule.
    """
    if system.cell is None:
        raise InvalidInputError(f"a CIF holds a crystal; got the molecule {system.formula}. Write .sdf or .extxyz")
    lengths = np.linalg.norm(system.cell, axis=1)
    unit = system.cell / lengths[:, None]
    angles = np.rad2deg(np.arccos(np.clip([unit[1] @ unit[2], unit[0] @ unit[2], unit[0] @ unit[1]], -1, 1)))
    counts = {symbol: system.symbols.count(symbol) for symbol in sorted(set(system.symbols))}
    formula = " ".join(f"{symbol}{count}" for symbol, count in counts.items())
    lines = [
        f"data_{re.sub(r'[^A-Za-z0-9_.-]', '_', name) or 'adit'}",
        "_symmetry_space_group_name_H-M   'P 1'",
        *(f"_cell_length_{axis}   {value:.10f}" for axis, value in zip("abc", lengths, strict=True)),
        *(f"_cell_angle_{axis}   {value:.10f}" for axis, value in zip(("alpha", "beta", "gamma"), angles, strict=True)),
        "_symmetry_Int_Tables_number   1",
        f"_chemical_formula_structural   {system.formula}",
        f"_chemical_formula_sum   '{formula}'",
        f"_cell_volume   {system.volume:.10f}",
        "_cell_formula_units_Z   1",
        "loop_",
        " _symmetry_equiv_pos_site_id",
        " _symmetry_equiv_pos_as_xyz",
        "  1  'x, y, z'",
        "loop_",
        " _atom_site_type_symbol",
        " _atom_site_label",
        " _atom_site_symmetry_multiplicity",
        " _atom_site_fract_x",
        " _atom_site_fract_y",
        " _atom_site_fract_z",
        " _atom_site_occupancy",
    ]
    for index, (symbol, (x, y, z)) in enumerate(zip(system.symbols, system.fractional, strict=True)):
        lines.append(f"  {symbol}  {symbol}{index}  1  {x:.10f}  {y:.10f}  {z:.10f}  1")
    return "\n".join(lines) + "\n"
