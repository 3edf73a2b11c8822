"""Stages of `adit.eval.evaluate` for the geometry of molecules: PoseBusters' checks, its energy ratio, strain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from adit.errors import InvalidInputError
from adit.eval.posebusters import (
    CHECKS,
    CONFORMERS,
    ENERGY_RATIO,
    PASSED,
    check_posebusters,
    drawn_places,
    energy_check,
    geometry_checks,
)
from adit.eval.results import Kind, Metric
from adit.eval.stages import Figure, Findings, Quantile, Samples
from adit.eval.strain import MMFF_ITERATIONS, Strain, check_tblite, mmff_strain, xtb_strain

if TYPE_CHECKING:
    from adit.eval.workers import Advance

POSEBUSTERS = "posebusters"
POSEBUSTERS_DEFINITION = (
    "PoseBusters' checks of molecules without the energy ratio (mol_fast of 0.6.5, Chem. Sci. 15, 3130 (2024)), with "
    "the bonds of adit.bonds; what cannot be judged has not passed."
)
QUARTILES = ((0.25, "lower quartile"), (0.5, "median"), (0.75, "upper quartile"))
METHODS = ("mmff", "xtb")

_IN_PROCESSES = 500
"""From so many molecules on, the work is done in processes that are stopped when RDKit hangs."""


@dataclass(frozen=True, slots=True)
class PoseBustersStage:
    """PoseBusters' geometry checks of all molecules."""

    kind: Kind = "molecules"
    title: str = "molecules, PoseBusters"

    def steps(self, samples: Samples) -> int:
        return len(samples.systems)

    def __call__(self, samples: Samples, advance: Advance) -> Findings:
        workers = samples.workers.processes if len(samples.systems) >= _IN_PROCESSES else 0
        found = geometry_checks(samples.systems, workers=workers, progress=lambda _: advance(1))
        figures = [Figure(name="all checks", values=found.passed, protocol=POSEBUSTERS)]
        figures += [
            Figure(name=check, values=found.verdicts[:, column] == PASSED, protocol=POSEBUSTERS)
            for column, check in enumerate(CHECKS)
        ]
        rows = [
            {"passed": bool(passed), "why": dict(reasons)}
            for passed, reasons in zip(found.passed, found.reasons, strict=True)
        ]
        return Findings(
            figures=[*figures], columns={"posebusters": rows}, protocols={POSEBUSTERS: POSEBUSTERS_DEFINITION}
        )


@dataclass(frozen=True, slots=True)
class EnergyRatioStage:
    """PoseBusters' energy ratio of some molecules, drawn at random.

    Args:
        sample: how many.
        limit: seconds for each.

    Raises:
        InvalidInputError: `sample` is not positive.
        BackendUnavailableError: posebusters is not installed.
    """

    sample: int
    limit: float = 10.0
    kind: Kind = "molecules"
    title: str = "molecules, energy ratio"

    def __post_init__(self) -> None:
        _check_sample(self.sample)
        check_posebusters()

    def steps(self, samples: Samples) -> int:
        return min(self.sample, len(samples.systems))

    def __call__(self, samples: Samples, advance: Advance) -> Findings:
        found = energy_check(
            samples.systems,
            self.sample,
            seed=samples.seed,
            limit=self.limit,
            workers=samples.workers.processes,
            progress=lambda _: advance(1),
        )
        name, drawn = "energy ratio", len(found.indices)
        judged = np.isfinite(found.ratios)
        rows: list[dict[str, Any] | None] = [None] * len(samples.systems)
        for k, index in enumerate(found.indices.tolist()):
            passed = bool(found.verdicts[k] == PASSED) if judged[k] else None
            rows[index] = {"passed": passed, "ratio": float(found.ratios[k]), "why": found.reasons[k]}
        return Findings(
            figures=[
                Figure(name="passed", values=found.verdicts == PASSED, weights=judged, protocol=name),
                Quantile(name="median ratio", values=found.ratios, protocol=name),
                *_counts(name, drawn, int(judged.sum()), {"out of time": int(found.timed_out.sum())}),
            ],
            columns={"energy_ratio": rows},
            protocols={
                name: f"PoseBusters' energy ratio: UFF energy at most {ENERGY_RATIO:g} times the mean of {CONFORMERS} "
                f"relaxed conformers; {drawn:,} molecules drawn with seed {samples.seed}, {self.limit:g} s for each; "
                "shares of those that could be judged."
            },
        )


@dataclass(frozen=True, slots=True)
class StrainStage:
    """How far molecules are above the nearest minimum of energy.

    Args:
        method: "mmff" or "xtb".
        sample: how many molecules, drawn at random; None for all.

    Raises:
        InvalidInputError: `method` is unknown, or `sample` not positive.
        BackendUnavailableError: method="xtb" and tblite is not installed.
    """

    method: Literal["mmff", "xtb"]
    sample: int | None = None
    kind: Kind = "molecules"

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise InvalidInputError(f"unknown method {self.method!r} of strain; known: {', '.join(METHODS)}")
        if self.sample is not None:
            _check_sample(self.sample)
        if self.method == "xtb":
            check_tblite()

    @property
    def title(self) -> str:
        return f"molecules, strain by {self.method}"

    def steps(self, samples: Samples) -> int:
        return min(self.sample or len(samples.systems), len(samples.systems))

    def __call__(self, samples: Samples, advance: Advance) -> Findings:
        places = drawn_places(samples.systems, self.sample, samples.seed)
        found = self._strain([samples.systems[k] for k in places.tolist()], samples, advance)
        name, judged = f"strain, {found.method}", np.isfinite(found.energies)
        places = places[found.indices]
        rows: list[dict[str, Any] | None] = [None] * len(samples.systems)
        for k, place in enumerate(places.tolist()):
            rows[place] = {
                "energy": float(found.energies[k]),
                "rmsd": float(found.rmsd[k]),
                "converged": bool(found.converged[k]),
                "why": found.reasons[k],
            }
        return Findings(
            figures=[
                *[Quantile(name=word, values=found.energies, share=q, protocol=name, unit="kcal/mol")
                  for q, word in QUARTILES],
                Quantile(name="median RMSD", values=found.rmsd, protocol=name, unit="A"),
                Figure(name="converged", values=found.converged, weights=judged, protocol=name),
                *_counts(name, len(places), int(judged.sum()), {}),
            ],
            columns={f"strain_{self.method}": rows},
            protocols={name: _strain_definition(found, len(places), samples)},
        )  # fmt: skip

    def _strain(self, molecules: list[Any], samples: Samples, advance: Advance) -> Strain:
        processes = samples.workers.processes
        if self.method == "xtb":
            return xtb_strain(molecules, None, workers=processes, progress=lambda _: advance(1))
        workers = processes if len(molecules) >= _IN_PROCESSES else 0
        return mmff_strain(molecules, workers=workers, progress=lambda _: advance(1))


def _strain_definition(found: Strain, drawn: int, samples: Samples) -> str:
    how = f"RDKit, at most {MMFF_ITERATIONS:,} iterations" if found.method == "MMFF94" else "tblite, gas phase"
    which = "all molecules" if drawn == len(samples.systems) else f"{drawn:,} molecules drawn with seed {samples.seed}"
    return (
        f"Energy of the geometry as it is, less that of the nearest minimum, and the RMSD between the two, by "
        f"{found.method} ({how}); {which}; figures of those that could be judged."
    )


def _counts(protocol: str, drawn: int, judged: int, others: dict[str, int]) -> list[Metric]:
    named = {"drawn": drawn, "judged": judged, "not judged": drawn - judged, **others}
    return [
        Metric(kind="molecules", protocol=protocol, name=name, value=value, of=drawn, unit="count")
        for name, value in named.items()
    ]


def _check_sample(sample: int) -> None:
    if sample < 1:
        raise InvalidInputError(f"a sample must hold at least 1 structure; got {sample}")
