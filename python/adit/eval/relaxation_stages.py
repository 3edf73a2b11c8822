"""Stages of `adit.eval.evaluate` that relax crystals with a potential and hold them against a convex hull."""

from __future__ import annotations

import math
import os
import re
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from adit.errors import InvalidInputError
from adit.eval.energy.calculators import potential
from adit.eval.energy.reference import Reference as Energies
from adit.eval.energy.reference import Table, read_reference, reference
from adit.eval.energy.relax import relax
from adit.eval.energy.stable import METASTABLE, STABLE, Stability, stability
from adit.eval.pose_stages import QUARTILES
from adit.eval.posebusters import drawn_places
from adit.eval.reference import Reference
from adit.eval.results import Kind, Metric
from adit.eval.stages import CRYSTAL_PROTOCOL, Figure, Findings, Quantile, Samples, Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from adit.eval.energy.fire import Potential, Relaxed
    from adit.eval.workers import Advance
    from adit.system import AtomicSystem

_TABLES = (".csv", ".csv.gz", ".json", ".json.gz")


def relaxation_stages(
    calculator: str | Potential,
    hull: str | Sequence[str] | None,
    known: Reference | None,
    work: str | os.PathLike[str],
    *,
    sample: int | None = None,
    steps: int = 500,
) -> list[Stage]:
    """Two stages: the energies that the hull needs, then relaxation and stability.

    Args:
        calculator: name of a potential (see `adit.eval.energy.calculators.potential`), or one that is loaded.
        hull: the reference set of formation energies: a prepared data set by name, `mp20:train` for a split of it, a
            file of crystals, a CSV or JSON of formulas; several together; None for the crystals of `known`.
        known: what novelty is measured against; formulas alone are calibrated on its crystals.
        work: folder of the journals; with the same folder, what has been computed is not computed again.
        sample: crystals to relax, drawn at random; None for all.
        steps: of a relaxation, at most.

    Raises:
        InvalidInputError: there are no formation energies, or no crystals that have them; the calculator is unknown;
            `sample` is not positive; `work` cannot be written.
        UnreadableFileError: `hull` is not there, or is something else.
        BackendUnavailableError: the calculator's package is not installed.
    """
    if sample is not None and sample < 1:
        raise InvalidInputError(f"a sample must hold at least 1 crystal; got {sample}")
    names: Sequence[str | None] = [hull] if hull is None or isinstance(hull, str) else hull
    tables = [_table(name, known) for name in names or [None]]
    table = tables[0] if len(tables) == 1 else _together(tables)
    of_crystals = [one for one in tables if one.structures is not None]
    fit = max(of_crystals, key=lambda one: len(one.energies)) if of_crystals else _calibration(table, known)
    model = potential(calculator) if isinstance(calculator, str) else calculator
    folder = Path(work) / re.sub(r"[^A-Za-z0-9.-]+", "-", model.name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInputError(f"{folder} cannot be written: {error.strerror or error}. Choose another one") from error
    first = HullStage(model, table, fit, folder)
    return [first, StabilityStage(first, sample, steps)]


@dataclass(slots=True)
class HullStage:
    """The potential's energies of crystals of the reference set, to which its zeros are fitted.

    Attributes:
        held: what came of it.
    """

    potential: Potential
    table: Table
    fit: Table
    folder: Path
    kind: Kind = "crystals"
    held: Energies | None = field(default=None, init=False)

    @property
    def title(self) -> str:
        return f"crystals, reference by {self.potential.name}"

    def steps(self, samples: Samples) -> None:
        """How many are needed is found out on the way."""

    def __call__(self, samples: Samples, advance: Advance) -> Findings:
        self.held = reference(
            self.table,
            self.potential,
            fit=None if self.fit is self.table else self.fit,
            out=self.folder / "reference",
            threads=samples.workers.processes,
            progress=_counted(advance),
        )
        return Findings()


@dataclass(slots=True)
class StabilityStage:
    """Relaxation, energy above the hull, S.U.N. and M.S.U.N.

    Attributes:
        relaxed: what came of those that converged and have a hull, the lowest above it first; `info` has
            `energy_above_hull` and `formation_energy_per_atom` (eV per atom), and `msun` if novelty is known.
    """

    hull: HullStage
    sample: int | None = None
    most_steps: int = 500
    kind: Kind = "crystals"
    relaxed: list[AtomicSystem] = field(default_factory=list, init=False)

    @property
    def protocol(self) -> str:
        return f"relaxed, {self.hull.potential.name}"

    @property
    def title(self) -> str:
        return f"crystals, relaxation by {self.hull.potential.name}"

    def steps(self, samples: Samples) -> int:
        return min(self.sample or len(samples.systems), len(samples.systems))

    def __call__(self, samples: Samples, advance: Advance) -> Findings:
        if self.hull.held is None:
            raise InvalidInputError("a StabilityStage needs its HullStage to run before it")
        places = drawn_places(samples.systems, self.sample, samples.seed)
        chosen = [samples.systems[k] for k in places.tolist()]
        relaxed = relax(
            chosen,
            self.hull.potential,
            steps=self.most_steps,
            out=self.hull.folder / "relaxed",
            threads=samples.workers.processes,
            progress=_counted(advance),
        )
        unique, novel = _flags([samples.rows[k]["protocols"][CRYSTAL_PROTOCOL] for k in places.tolist()])
        judged = stability(chosen, relaxed, self.hull.held, unique=unique, novel=novel)
        self.relaxed = _best(relaxed.results, judged)
        rows: list[dict[str, Any] | None] = [None] * len(samples.systems)
        for place, row in zip(places.tolist(), judged.rows, strict=True):
            rows[place] = {name: value for name, value in asdict(row).items() if value is not None}
        return Findings(
            figures=self._figures(judged, places, len(samples.systems)),
            columns={"stability": rows},
            protocols={self.protocol: self._definition(judged, novel is not None, len(samples.systems), samples.seed)},
        )

    def _figures(self, judged: Stability, places: NDArray[np.int64], count: int) -> list[Figure | Quantile | Metric]:
        drawn = np.zeros(count, dtype=np.bool_)
        drawn[places] = True

        def spread(name: str) -> NDArray[np.float64]:
            values = np.full(count, np.nan)
            values[places] = [math.nan if (held := getattr(row, name)) is None else held for row in judged.rows]
            return values

        def share(name: str, values: NDArray[Any], of: NDArray[np.bool_] | None) -> Figure:
            return Figure(name=name, values=np.nan_to_num(values) > 0, weights=of, protocol=self.protocol)

        of = None if drawn.all() else drawn  # all entries, unreadable ones too, unless a sample was drawn
        above, rmsd, converged = spread("above_hull"), spread("rmsd"), spread("converged") > 0
        names = ["converged", "stable", "metastable"]
        figures: list[Figure | Quantile | Metric] = [share(name, spread(name), of) for name in names]
        if judged.sun is not None:
            figures += [share("S.U.N.", spread("sun"), of), share("M.S.U.N.", spread("msun"), of)]
        matched = np.isfinite(rmsd)

        def quantile(word: str, part: float) -> Quantile:
            name = f"energy above hull, {word}"
            return Quantile(name=name, values=above, share=part, protocol=self.protocol, unit="eV/atom")

        return [
            *figures,
            *(quantile(word, part) for part, word in QUARTILES),
            share("matches its relaxed structure", matched, converged),
            Figure(name="RMSD to it", values=np.nan_to_num(rmsd), weights=matched, protocol=self.protocol, unit="A"),
            *(
                Metric(kind="crystals", protocol=self.protocol, name=name, value=value, of=len(places), unit="count")
                for name, value in {
                    "relaxed": len(places),
                    "judged": int(np.isfinite(above).sum()),
                    "no hull": judged.no_hull,
                }.items()
            ),
        ]

    def _definition(self, judged: Stability, novelty: bool, count: int, seed: int) -> str:
        whole = len(judged.rows) == count
        which = "" if whole else f" {len(judged.rows):,} of {count:,} readable crystals, drawn with seed {seed}."
        sun = "" if novelty else " No S.U.N.: it needs a --reference with crystals."
        return (
            f"{judged.note}. Stable: at most {STABLE:g}, metastable: at most {METASTABLE:g} eV/atom above it; what "
            f"does not converge or has no hull counts as neither.{which}{sun} Kept in {self.hull.folder}."
        )


def _best(results: Sequence[Relaxed], judged: Stability) -> list[AtomicSystem]:
    """As `StabilityStage.relaxed`."""
    pairs = [(row, result) for row, result in zip(judged.rows, results, strict=True) if math.isfinite(row.above_hull)]
    found = []
    for row, result in sorted(pairs, key=lambda pair: pair[0].above_hull):
        own = {"energy_above_hull": row.above_hull, "formation_energy_per_atom": row.formation_energy}
        if row.msun is not None:
            own["msun"] = row.msun
        found.append(replace(result.system, info={**result.system.info, **own}))
    return found


def _flags(verdicts: list[dict[str, Any]]) -> tuple[list[bool], list[bool] | None]:
    """Unique and novel, by the verdicts of the protocol of crystals; None where nothing is known of novelty."""
    unique = [bool(verdict["structure"]) and verdict["repeats"] is None for verdict in verdicts]
    novel = [verdict["novel"] for verdict in verdicts]
    return unique, None if any(entry is None for entry in novel) else novel


def _counted(advance: Advance) -> Callable[[int, int], None]:
    """Told how many are done in all, it tells how many more."""
    before = 0

    def progress(done: int, _: int) -> None:
        nonlocal before
        advance(done - before)
        before = done

    return progress


def _table(hull: str | None, known: Reference | None) -> Table:
    """The reference set, with formation energies."""
    if hull is None and known is None:
        raise InvalidInputError(
            "relaxed crystals are held against the formation energies of a reference set; name one with --hull or "
            "--reference, e.g. mp20"
        )
    if hull is not None and Path(hull).is_file() and hull.endswith(_TABLES):
        table = read_reference(hull)
    else:
        held = known if hull is None or (known is not None and known.name == hull) else Reference.open(hull)
        assert held is not None
        if not len(held.crystals):
            raise InvalidInputError(f"the reference {held.name} holds no crystals; name one that does with --hull")
        table = replace(read_reference(held.data), name=held.name)
    if not np.isfinite(table.energies).any():
        raise InvalidInputError(
            f"the reference {table.name} has no formation energies (formation_energy_per_atom, eV per atom); name a "
            "set that has them with --hull, e.g. mp20"
        )
    return table


def _together(tables: list[Table]) -> Table:
    """All formation energies, for one hull."""
    return Table(
        " and ".join(table.name for table in tables),
        np.concatenate([table.compositions for table in tables]),
        np.concatenate([table.energies for table in tables]),
        structures=None,
        skipped=sum(table.skipped for table in tables),
    )


def _calibration(table: Table, known: Reference | None) -> Table:
    """Crystals with formation energies, for a reference set that has formulas alone."""
    if known is not None and len(known.crystals):
        found = replace(read_reference(known.data), name=known.name)
        if np.isfinite(found.energies).any():
            return found
    raise InvalidInputError(
        f"{table.name} has formulas, no crystals to calibrate a potential on; name a set of crystals with formation "
        "energies with --reference, e.g. mp20"
    )
