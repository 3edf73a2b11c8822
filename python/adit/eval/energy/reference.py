"""Reference sets of formation energies, and how the energies of a potential are brought to their zero."""

from __future__ import annotations

import csv
import gzip
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from adit.data.packed import PackedDataset
from adit.elements import NUMBERS
from adit.errors import InvalidInputError, UnreadableFileError
from adit.eval.energy.hull import WIDTH, Hull, compositions
from adit.eval.energy.relax import Progress, energies
from adit.system import AtomicSystem

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from adit.eval.energy.fire import Potential

Source: TypeAlias = "str | os.PathLike[str] | PackedDataset"
Energies: TypeAlias = Literal["file", "potential"]

ENERGY = "formation_energy_per_atom"
_ENERGY_COLUMNS = (ENERGY, "formation_energy", "e_form")
_FORMULA_COLUMNS = ("formula", "pretty_formula", "composition")
_EACH = 20
"""So many crystals with each element are enough to fit the elements' energies."""
_NOISE = 0.01
"""eV per atom; smaller deviations count quadratically in the fit, larger ones linearly."""


@dataclass(frozen=True, slots=True)
class Table:
    """What a reference set says.

    Attributes:
        name: of the set.
        compositions: (M, 101), see `adit.eval.energy.hull.compositions`.
        energies: (M,) float64, formation energies, eV per atom; NaN where the set has none.
        structures: the crystals, where the set has them.
        skipped: rows that could not be read.
    """

    name: str
    compositions: NDArray[np.float64]
    energies: NDArray[np.float64]
    structures: PackedDataset | None
    skipped: int

    def hull(self) -> Hull:
        """Of the formation energies that the set has.

        Raises:
            InvalidInputError: it has none.
        """
        count = int(np.isfinite(self.energies).sum())
        if not count:
            raise InvalidInputError(
                f"the reference {self.name} has no formation energies ({ENERGY}, eV per atom). Choose another one, "
                "or let the potential compute them"
            )
        return Hull(self.compositions, self.energies, f"{self.name}, {count:,} formation energies")


@dataclass(frozen=True, slots=True)
class Reference:
    """A hull, and the energies of the elements that turn a potential's energies into formation energies on its scale.

    Attributes:
        hull: of the reference set.
        elements: (101,) float64, eV per atom by atomic number; NaN where unknown.
        calculator: the potential that `elements` belongs to.
        version: of its package and weights.
        energies: "file": the hull is of the set's own formation energies; "potential": of the potential's.
        fitted: crystals that `elements` was fitted to; 0 if it was not.
        error: mean absolute difference of the potential's and the set's formation energies on these, eV per atom,
            each of five parts by a fit to the other four.
    """

    hull: Hull
    elements: NDArray[np.float64]
    calculator: str
    version: str
    energies: Energies
    fitted: int
    error: float

    def formation(self, compositions: NDArray[np.float64], energies: NDArray[np.float64]) -> NDArray[np.float64]:
        """(B,) formation energies of compositions (B, 101) with the potential's energies (B,), all eV per atom."""
        return energies - _weighted(compositions, self.elements)


def read_reference(source: Source) -> Table:
    """A reference set.

    Args:
        source: name of a prepared data set ("mp20") or its folder; a CSV or JSON file with columns `formula` and
            `formation_energy_per_atom` (JSON: a list of such objects, or one object formula -> energy); a CSV of
            CDVAE's layout, with the column `cif`; a file of crystals with that energy among their properties.

    Raises:
        UnreadableFileError: it is not there, or is none of these.
    """
    if isinstance(source, PackedDataset):
        return _from_dataset(source, str(source.meta.get("name", "data set")))
    path = Path(source)
    kind = "".join(path.suffixes[-2:]) if path.suffix == ".gz" else path.suffix
    if path.is_file() and kind in (".csv", ".csv.gz", ".json", ".json.gz"):
        return _from_file(path, kind)
    if path.is_file() or (path.is_dir() and not (path / "meta.json").is_file()):
        from adit.convert.files import read

        return _from_dataset(PackedDataset.from_systems(read(path, on_error="warn")), path.name)
    from adit.data.prepare import load

    return _from_dataset(load(source), path.name)


def reference(
    source: Source | Table,
    calculator: str | Potential = "chgnet",
    *,
    energies: Energies = "file",
    fit: Source | Table | None = None,
    out: str | os.PathLike[str] | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Reference:
    """A hull to hold a potential's energies against.

    With energies="file" the hull is that of the set's formation energies, and the elements' energies are those with
    which the potential's formation energies deviate least (sum of absolute deviations) on some hundred crystals of
    the set: what the potential gets wrong for an element everywhere, and corrections that the set has and the
    potential has not, cancel as far as they are linear in the composition. With "potential" the potential computes
    all crystals of the set, unrelaxed, and hull and samples have its errors in common; an element's zero is then the
    lowest of its crystals, or the fitted value if there is none. docs/stability.md compares the two.

    Args:
        source: the reference set, as `read_reference` takes it.
        calculator: name of a potential, or one that is loaded.
        energies: whose formation energies make the hull.
        fit: crystals with formation energies to fit the elements' energies to, if not those of `source`.
        out: folder for a journal, so that energies are computed once.
        threads, progress: as for `adit.eval.energy.relax.energies`.

    Raises:
        InvalidInputError: the set has no formation energies, or no crystals where they are needed.
        UnreadableFileError, BackendUnavailableError: as `read_reference` and `adit.eval.energy.relax.relax`.
    """
    from adit.eval.energy.calculators import potential

    if energies not in ("file", "potential"):
        raise InvalidInputError(f"`energies` must be 'file' or 'potential'; got {energies!r}")
    table = source if isinstance(source, Table) else read_reference(source)
    base = table if fit is None else fit if isinstance(fit, Table) else read_reference(fit)
    held = table.hull() if energies == "file" else None
    model = potential(calculator) if isinstance(calculator, str) else calculator
    more = {"out": out, "threads": threads, "progress": progress}
    chosen = _choice(base, np.flatnonzero(table.compositions.any(0)))
    crystals = _crystals(base)
    found = _compute(crystals.subset(chosen), model, more)
    shares, deviation = base.compositions[chosen], found - base.energies[chosen]
    elements, error = _fit(shares, deviation), _held_out_error(shares, deviation)
    if held is None:
        held, elements = _potential_hull(table, elements, model, more)
    return Reference(held, elements, model.name, model.version, energies, len(chosen), error)


def _potential_hull(
    table: Table, elements: NDArray[np.float64], model: Potential, more: Mapping[str, Any]
) -> tuple[Hull, NDArray[np.float64]]:
    """The hull of the potential's energies of all crystals of the set, and the elements' energies it counts from."""
    found = _compute(_crystals(table), model, more)
    elements = elements.copy()
    pure = np.flatnonzero((table.compositions.max(1, initial=0) == 1) & np.isfinite(found))
    kinds = table.compositions[pure].argmax(1)
    elements[kinds] = np.inf
    np.minimum.at(elements, kinds, found[pure])
    formation = found - _weighted(table.compositions, elements)
    count = int(np.isfinite(formation).sum())
    name = f"{table.name}, {count:,} energies by {model.name} ({model.version})"
    return Hull(table.compositions, formation, name), elements


def _compute(crystals: PackedDataset, model: Potential, more: Mapping[str, Any]) -> NDArray[np.float64]:
    return energies(crystals, model, **more)


def _crystals(table: Table) -> PackedDataset:
    if table.structures is None:
        raise InvalidInputError(
            f"the reference {table.name} has formulas, no crystals, and so says nothing about the energies of a "
            "potential. Name a set with crystals to fit the elements' energies to, e.g. mp20"
        )
    return table.structures


def _choice(table: Table, wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Crystals with a formation energy, in a random order of fixed seed, until each element occurs in `_EACH`."""
    usable = np.flatnonzero(np.isfinite(table.energies) & (table.compositions.sum(1) > 0))
    needed = np.zeros(WIDTH, dtype=np.int64)
    needed[wanted] = _EACH
    chosen = []
    for index in np.random.default_rng(0).permutation(usable).tolist():
        present = table.compositions[index] > 0
        if (needed[present] > 0).any():
            needed[present] -= 1
            chosen.append(index)
    return np.array(sorted(chosen), dtype=np.int64)


def _fit(shares: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(101,) energies of elements whose mixtures (M, 101) come nearest to values (M,); NaN where none has the element.

    Least absolute deviations, by least squares with weights 1 / |deviation|, thirty times.
    """
    usable = np.isfinite(values)
    shares, values = shares[usable], values[usable]
    weights: NDArray[Any] = np.ones(len(values))
    solution = np.zeros(WIDTH)
    for _ in range(30):
        root = np.sqrt(weights)
        solution = np.linalg.lstsq(shares * root[:, None], values * root, rcond=None)[0]
        weights = 1 / np.maximum(np.abs(values - shares @ solution), _NOISE)
    return np.where(shares.any(0), solution, np.nan)


def _held_out_error(shares: NDArray[np.float64], values: NDArray[np.float64]) -> float:
    part = np.random.default_rng(1).permutation(len(values)) % 5
    errors = [
        np.abs(values[part == k] - _weighted(shares[part == k], _fit(shares[part != k], values[part != k])))
        for k in range(5)
    ]
    known = np.concatenate(errors)[np.isfinite(np.concatenate(errors))]
    return float(known.mean()) if len(known) else math.nan


def _weighted(shares: NDArray[np.float64], elements: NDArray[np.float64]) -> NDArray[np.float64]:
    """(B,) mean of the elements' energies; NaN where one that is needed is unknown."""
    unknown = ~np.isfinite(elements)
    mean: NDArray[np.float64] = shares @ np.where(unknown, 0, elements)
    return np.where((shares[:, unknown] > 0).any(1), np.nan, mean)


def _from_dataset(data: PackedDataset, name: str) -> Table:
    data = data if data.periodic.all() else data.subset(data.periodic)
    if not len(data):
        raise UnreadableFileError(f"the reference {name} holds no crystals")
    values = data.properties.get(ENERGY)
    if values is None or values.dtype.kind != "f":
        values = np.full(len(data), np.nan)
    return Table(name, compositions(data), np.array(values, dtype=np.float64), data, 0)


def _from_file(path: Path, kind: str) -> Table:
    try:
        with gzip.open(path, "rt") if kind.endswith(".gz") else path.open() as file:
            if ".json" in kind:
                rows = _json_rows(json.load(file))
            else:
                csv.field_size_limit(2**31 - 1)
                rows = list(csv.DictReader(file))
    except (OSError, EOFError, UnicodeDecodeError, csv.Error, ValueError) as error:
        raise UnreadableFileError(f"{path} cannot be read as {kind[1:]}: {error}") from error
    if rows and "cif" in rows[0]:
        return _from_cifs(path)
    formula = next((name for name in _FORMULA_COLUMNS if rows and name in rows[0]), None)
    energy = next((name for name in _ENERGY_COLUMNS if rows and name in rows[0]), None)
    if formula is None or energy is None:
        held = ", ".join(map(str, rows[0])) if rows else "nothing"
        raise UnreadableFileError(f"{path} must have the columns formula and {ENERGY} (eV per atom); it has {held}")
    pairs = [(_parse_formula(str(row.get(formula) or "")), _parse_number(row.get(energy))) for row in rows]
    read = [(shares, value) for shares, value in pairs if shares is not None and value is not None]
    if 2 * len(read) < len(rows):
        raise UnreadableFileError(
            f"{path} is refused: of {len(rows)} rows only {len(read)} hold a formula and a number"
        )
    shares = np.array([shares for shares, _ in read])
    return Table(path.name, shares, np.array([value for _, value in read]), None, len(rows) - len(read))


def _from_cifs(path: Path) -> Table:
    from adit.data.base import ReadOptions
    from adit.data.mp20 import tasks

    entries = [entry for task in tasks(path, ReadOptions()) for entry in task.parse()]
    systems = [entry for entry in entries if isinstance(entry, AtomicSystem)]
    table = _from_dataset(PackedDataset.from_systems(systems), path.name)
    return Table(table.name, table.compositions, table.energies, table.structures, len(entries) - len(systems))


def _json_rows(content: Any) -> list[dict[str, Any]]:
    if isinstance(content, dict):
        return [{"formula": formula, ENERGY: value} for formula, value in content.items()]
    if isinstance(content, list) and all(isinstance(row, dict) for row in content):
        return content
    raise ValueError("expected a list of objects, or one object formula -> energy")


def _parse_formula(text: str) -> NDArray[np.float64] | None:
    """(101,) shares of a formula like Ca(OH)2; None if it is none."""
    from pymatgen.core import Composition

    try:
        amounts = Composition(text).get_el_amt_dict() if text.strip() else {}
    except ValueError:
        return None
    if not amounts or not set(amounts) <= set(NUMBERS):
        return None
    shares = np.zeros(WIDTH)
    for symbol, amount in amounts.items():
        shares[NUMBERS[symbol]] = amount
    return shares / shares.sum() if shares.sum() > 0 else None


def _parse_number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
