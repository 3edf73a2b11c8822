"""Which crystals are stable: energy above the hull, distance to the relaxed structure, S.U.N. and M.S.U.N."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from adit.errors import InvalidInputError
from adit.eval.crystals import TOLERANCES
from adit.eval.energy.calculators import potential
from adit.eval.energy.hull import compositions
from adit.eval.energy.reference import Reference, reference
from adit.eval.energy.relax import Relaxations, relax
from adit.eval.results import plain
from adit.matching import StructureMatcher
from adit.packing import as_system, pack_crystals

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from adit.eval.energy.fire import Potential
    from adit.eval.energy.reference import Energies, Source, Table
    from adit.packing import Systems

STABLE, METASTABLE = 0.0, 0.1
"""eV per atom above the hull, at most: recipe of MatterGen and ADiT (arXiv 2312.03687, 2503.03965)."""
StageProgress = Callable[[str, int, int], None]
"""Called with (stage, crystals finished, of how many)."""
_ROUNDING = 1e-6
"""eV per atom; single precision of a potential."""


@dataclass(frozen=True, slots=True)
class StabilityRow:
    """One crystal.

    Attributes:
        converged: the relaxation is.
        reason: why nothing is said of it: the relaxation's reason, or that there is no hull; else empty.
        energy: of the relaxed crystal by the potential, eV per atom; NaN where the relaxation is not converged.
        formation_energy: the same from the elements.
        above_hull: formation energy above the hull of the reference, eV per atom; negative below it.
        stable: `above_hull` <= 0.
        metastable: `above_hull` <= 0.1 eV per atom; stable crystals are metastable, too.
        rms: root mean square distance of the atoms to the relaxed crystal as StructureMatcher has it, in units of
            the cube root of the volume for an atom; NaN if they do not match or nothing was relaxed.
        rmsd: the same in Angstrom, with the mean volume for an atom of the two.
        sun: stable, unique and novel; None where `unique` or `novel` was not given.
        msun: metastable, unique and novel.
        steps: of the relaxation.
    """

    converged: bool
    reason: str
    energy: float
    formation_energy: float
    above_hull: float
    stable: bool
    metastable: bool
    rms: float
    rmsd: float
    sun: bool | None
    msun: bool | None
    steps: int


@dataclass(frozen=True, slots=True)
class Stability:
    """Shares are of all crystals: one that fails counts as not stable.

    Attributes:
        count: crystals.
        converged: share whose relaxation converged.
        judged: share with an energy above the hull.
        no_hull: crystals whose elements the reference does not all have.
        stable, metastable: shares.
        above_hull: median, eV per atom, of the judged ones.
        rmsd: mean in Angstrom, of those that match their relaxed structure.
        matched: share of the converged ones that match their relaxed structure.
        sun, msun: shares; None without `unique` and `novel`.
        rows: the crystals.
        reference: what the hull is made of.
        potential: name and version.
        note: what these figures are worth, in one line.
    """

    count: int
    converged: float
    judged: float
    no_hull: int
    stable: float
    metastable: float
    above_hull: float
    rmsd: float
    matched: float
    sun: float | None
    msun: float | None
    rows: tuple[StabilityRow, ...]
    reference: str
    potential: str
    note: str

    def to_dict(self) -> dict[str, Any]:
        """For JSON: NaN becomes None."""
        return plain(asdict(self))  # type: ignore[no-any-return]


def judge(
    systems: Systems,
    source: Source | Table,
    calculator: str | Potential = "chgnet",
    *,
    energies: Energies = "file",
    fit: Source | Table | None = None,
    unique: ArrayLike | None = None,
    novel: ArrayLike | None = None,
    fmax: float = 0.05,
    steps: int = 500,
    seconds: float | None = None,
    out: str | os.PathLike[str] | None = None,
    threads: int | None = None,
    progress: StageProgress | None = None,
) -> Stability:
    """All of it in one call: `adit.eval.energy.reference.reference`, `adit.eval.energy.relax.relax`, then `stability`.

    Args:
        systems: B crystals as generated.
        source, energies, fit: the reference set, see `reference`.
        calculator: name of a potential, or one that is loaded.
        unique, novel: (B,) bool, see `stability`.
        fmax, steps, seconds: see `relax`.
        out: folder for the journals, in `reference` and `relaxed`; the same call again goes on where it was.
        threads: processor cores to use.
        progress: called with ("reference" or "relaxation", crystals finished, of how many).

    Raises:
        InvalidInputError, UnreadableFileError, BackendUnavailableError: as these three, before any relaxation.
    """
    _check(systems, {"unique": unique, "novel": novel})
    model = potential(calculator) if isinstance(calculator, str) else calculator
    folder = None if out is None else Path(out)
    first = functools.partial(progress, "reference") if progress else None
    second = functools.partial(progress, "relaxation") if progress else None
    held = reference(
        source,
        model,
        energies=energies,
        fit=fit,
        out=folder and folder / "reference",
        threads=threads,
        progress=first,
    )
    relaxed = relax(
        systems,
        model,
        fmax=fmax,
        steps=steps,
        seconds=seconds,
        out=folder and folder / "relaxed",
        threads=threads,
        progress=second,
    )
    return stability(systems, relaxed, held, unique=unique, novel=novel)


def stability(
    systems: Systems,
    relaxed: Relaxations,
    reference: Reference,
    *,
    unique: ArrayLike | None = None,
    novel: ArrayLike | None = None,
) -> Stability:
    """Judges relaxed crystals by a reference set, in which they are not themselves.

    Args:
        systems: B crystals as generated.
        relaxed: of these, by `adit.eval.energy.relax.relax`.
        reference: hull and elements' energies for the same potential.
        unique: (B,) bool, see `adit.eval.crystals.unique`.
        novel: (B,) bool, see `adit.eval.crystals.novel`.

    Raises:
        InvalidInputError: lengths differ, a system is a molecule, or the reference is for another potential.
    """
    _check(systems, {"relaxed": relaxed, "unique": unique, "novel": novel})
    if (relaxed.calculator, relaxed.version) != (reference.calculator, reference.version):
        raise InvalidInputError(
            f"the crystals were relaxed with {relaxed.calculator} ({relaxed.version}), the reference is for "
            f"{reference.calculator} ({reference.version}). Make both with the same potential"
        )
    shares = compositions(systems)
    formation = reference.formation(shares, relaxed.energies)
    above = reference.hull.above(shares, formation)
    uncovered = np.isnan(reference.hull.energies(shares)) | np.isnan(reference.formation(shares, np.zeros(len(shares))))
    rounded = np.where(np.isnan(above), np.inf, above - _ROUNDING)
    stable, metastable = rounded <= STABLE, rounded <= METASTABLE
    rms, rmsd = distances(systems, relaxed)
    chosen = None
    if unique is not None and novel is not None:
        chosen = np.asarray(unique, dtype=np.bool_) & np.asarray(novel, dtype=np.bool_)
    rows = tuple(
        StabilityRow(
            converged=result.converged,
            reason=result.reason or ("no hull: the reference lacks an element" if uncovered[k] else ""),
            energy=float(relaxed.energies[k]) if result.converged else math.nan,
            formation_energy=float(formation[k]),
            above_hull=float(above[k]),
            stable=bool(stable[k]),
            metastable=bool(metastable[k]),
            rms=float(rms[k]),
            rmsd=float(rmsd[k]),
            sun=None if chosen is None else bool(stable[k] & chosen[k]),
            msun=None if chosen is None else bool(metastable[k] & chosen[k]),
            steps=result.steps,
        )
        for k, result in enumerate(relaxed.results)
    )
    return _summarise(rows, relaxed, reference, int(uncovered.sum()), chosen is not None)


def distances(systems: Systems, relaxed: Relaxations) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How far the atoms of B crystals moved when they were relaxed, cells laid over each other.

    Returns:
        (B,) root mean square distance as pymatgen's `StructureMatcher.get_rms_dist` has it, in units of the cube root
        of the volume for an atom, with ltol 0.3, stol 0.5, angle_tol 10 and the cells as they are: relaxed crystals
        often have a smaller primitive cell, and would then not match. And (B,) in Angstrom. NaN where the two do not
        match or the relaxation is not converged.
    """
    rms, rmsd = np.full(len(relaxed), np.nan), np.full(len(relaxed), np.nan)
    done = np.flatnonzero(relaxed.converged)
    if not len(done):
        return rms, rmsd
    before = [as_system(systems[index]) for index in done.tolist()]
    after = [relaxed.results[index].system for index in done.tolist()]
    matcher = StructureMatcher(TOLERANCES["ltol"], TOLERANCES["stol"], TOLERANCES["angle_tol"], primitive_cell=False)
    rms[done] = matcher.rms_pairs(before, after)[:, 0]
    volumes = [(a.volume + b.volume) / (2 * len(a)) for a, b in zip(before, after, strict=True)]
    rmsd[done] = rms[done] * np.cbrt(volumes)
    return rms, rmsd


def _check(systems: Systems, lists: Mapping[str, Any]) -> None:
    pack_crystals(systems)
    for name, values in lists.items():
        if values is not None and len(values) != len(systems):
            raise InvalidInputError(
                f"`{name}` must have one entry for each of {len(systems)} systems; got {len(values)}"
            )


def _summarise(
    rows: tuple[StabilityRow, ...], relaxed: Relaxations, reference: Reference, no_hull: int, selected: bool
) -> Stability:
    above = np.array([row.above_hull for row in rows])
    rmsd = np.array([row.rmsd for row in rows])
    judged, matched = np.isfinite(above), np.isfinite(rmsd)
    converged = sum(row.converged for row in rows)
    return Stability(
        count=len(rows),
        converged=_share(converged, len(rows)),
        judged=_share(int(judged.sum()), len(rows)),
        no_hull=no_hull,
        stable=_share(sum(row.stable for row in rows), len(rows)),
        metastable=_share(sum(row.metastable for row in rows), len(rows)),
        above_hull=float(np.median(above[judged])) if judged.any() else math.nan,
        rmsd=float(rmsd[matched].mean()) if matched.any() else math.nan,
        matched=_share(int(matched.sum()), converged),
        sun=_share(sum(bool(row.sun) for row in rows), len(rows)) if selected else None,
        msun=_share(sum(bool(row.msun) for row in rows), len(rows)) if selected else None,
        rows=rows,
        reference=reference.hull.name,
        potential=f"{relaxed.calculator} ({relaxed.version})",
        note=_note(relaxed, reference),
    )


def _note(relaxed: Relaxations, reference: Reference) -> str:
    error = (
        ""
        if math.isnan(reference.error)
        else (
            f"; its formation energies differ from the reference's by {1000 * reference.error:.0f} meV/atom on average"
        )
    )
    return (
        f"Not DFT: relaxed with {relaxed.calculator} ({relaxed.version}) to {relaxed.limits.fmax:g} eV/A, held against "
        f"the hull of {reference.hull.name}{error}"
    )


def _share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
