"""What a stage of `adit.eval.evaluate` is, and the stages that it always has.

A stage takes the samples of one kind, and gives figures over them and fields of their rows. To add one, write a class
with the members of `Stage` and pass an instance, `evaluate(path, stages=[MyStage()])`; it runs after these, sees their
rows, and what it finds goes into the tables, the JSON file and `--compare` like theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from adit.eval import crystals, molecules
from adit.eval.protocols import PROTOCOLS
from adit.eval.protocols import Protocol as Bonding
from adit.eval.results import NAN, Kind, Metric
from adit.eval.stability import edm_stability
from adit.eval.statistics import bootstrap, bootstrap_quantile
from adit.symmetry import spacegroups
from adit.validity import compositional_faults

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from adit.eval.reference import Reference
    from adit.eval.workers import Advance, Workers
    from adit.system import AtomicSystem

CRYSTAL_PROTOCOL = "cdvae"
CRYSTAL_DEFINITION = (
    "Structure valid: no two atoms nearer than 0.5 A, in a cell of at least 0.1 A^3; composition valid: SMACT's test "
    "of charge neutrality and electronegativity (smact14 states); the same by StructureMatcher (stol 0.5, ltol 0.3, "
    "angle_tol 10), among the structurally valid (CDVAE, arXiv 2110.06197)."
)
SYMPREC = 0.1
"""Angstrom, of the space groups in the rows: generated crystals are not exact."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """The readable samples of one kind, and what judges them.

    Attributes:
        kind: of all of them.
        systems: B of them.
        indices: (B,) int64, their places among all entries, from 0: what "repeats entry 12" counts.
        rows: B dicts, what earlier stages have found (`row["protocols"]["adit"]["valid"]`, ...); not to be changed.
        reference: what novelty is measured against.
        workers: processes to share work with.
        seed: for whatever is drawn.
    """

    kind: Kind
    systems: list[AtomicSystem]
    indices: NDArray[np.int64]
    rows: Sequence[Mapping[str, Any]]
    reference: Reference | None
    workers: Workers
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A weighted mean over samples, to be given with its interval.

    Attributes:
        name: such as "valid".
        values: (B,) float or bool.
        weights: (B,) float or bool; False leaves a sample out of the mean. None: the mean is over all entries, and one
            that cannot be read counts as 0.
        protocol: see `Metric`.
        unit: see `Metric`.
    """

    name: str
    values: ArrayLike
    weights: ArrayLike | None = None
    protocol: str = ""
    unit: str = "share"

    def metric(self, kind: Kind, unreadable: int, level: float, seed: int) -> Metric:
        """With an interval by the bootstrap over samples."""
        values = np.asarray(self.values, dtype=np.float64)
        if self.weights is None:
            values = np.concatenate([values, np.zeros(unreadable)])
            weights = np.ones_like(values)
        else:
            weights = np.asarray(self.weights, dtype=np.float64)
        total = weights.sum()
        low, high = bootstrap(values, weights, level=level, seed=seed) if total else (NAN, NAN)
        return Metric(
            kind=kind,
            protocol=self.protocol,
            name=self.name,
            value=float((values * weights).sum() / total) if total else NAN,
            low=low,
            high=high,
            of=int((weights > 0).sum()),
            unit=self.unit,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantile:
    """A quantile over samples, to be given with its interval: for what has a few values of any size.

    Attributes:
        name: such as "median".
        values: (B,) float; NaN leaves a sample out.
        share: of the values that lie below; 0.5 for the median.
        protocol: see `Metric`.
        unit: see `Metric`.
    """

    name: str
    values: ArrayLike
    share: float = 0.5
    protocol: str = ""
    unit: str = ""

    def metric(self, kind: Kind, unreadable: int, level: float, seed: int) -> Metric:
        """With an interval by the bootstrap over samples; what cannot be read is left out."""
        values = np.asarray(self.values, dtype=np.float64)
        values = values[np.isfinite(values)]
        low, high = bootstrap_quantile(values, self.share, level=level, seed=seed)
        return Metric(
            kind=kind,
            protocol=self.protocol,
            name=self.name,
            value=float(np.quantile(values, self.share)) if len(values) else NAN,
            low=low,
            high=high,
            of=len(values),
            unit=self.unit,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What a stage gives.

    Attributes:
        figures: means and quantiles over samples (`Figure`, `Quantile`: they get an interval), or finished figures
            (`Metric`).
        columns: name -> B values for the rows.
        verdicts: protocol -> B dicts for `row["protocols"]`.
        protocols: name -> definition, of protocols that the stage brings along.
    """

    figures: list[Figure | Quantile | Metric] = field(default_factory=list)
    columns: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    verdicts: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    protocols: Mapping[str, str] = field(default_factory=dict)


class Stage(Protocol):
    """A part of an evaluation: `title` for its progress bar, the kind that it judges, its work."""

    @property
    def title(self) -> str: ...
    @property
    def kind(self) -> Kind: ...
    def steps(self, samples: Samples) -> int | None:
        """What the calls of `advance` will add up to; None: that is not known."""

    def __call__(self, samples: Samples, advance: Advance) -> Findings: ...


@dataclass(frozen=True, slots=True)
class MoleculeStage:
    """Molecules by one of the three protocols."""

    protocol: Bonding
    kind: Kind = "molecules"

    @property
    def title(self) -> str:
        return f"molecules, {self.protocol}"

    def steps(self, samples: Samples) -> int:
        return len(samples.systems) + (0 if samples.reference is None else len(samples.reference.molecules))

    def __call__(self, samples: Samples, advance: Advance) -> Findings:
        verdicts = molecules.judge(samples.systems, self.protocol, workers=samples.workers, advance=advance)
        known = _known(samples, self.protocol, advance)
        first = _first(verdicts.smiles)
        valid, unique = verdicts.valid, first == np.arange(len(first))
        rows: list[dict[str, Any]] = []
        for place, smiles in enumerate(verdicts.smiles):
            repeats = None if smiles is None or unique[place] else int(samples.indices[first[place]])
            match = None if known is None or smiles is None else known.get(smiles)
            why = [verdicts.reasons[place], *_repeats(repeats, match, samples.reference)]
            rows.append(
                {
                    "valid": smiles is not None,
                    "smiles": smiles,
                    "paired": bool(verdicts.paired[place]),
                    "connected": bool(verdicts.connected[place]),
                    "repeats": repeats,
                    "matches": match,
                    "novel": None if known is None else smiles is not None and match is None,
                    "why": "; ".join(filter(None, why)),
                }
            )
        novel = np.array([bool(row["novel"]) for row in rows], dtype=np.bool_)
        share = _shares(self.protocol)
        figures = [
            share("valid", valid),
            share("no unpaired electrons", verdicts.paired),
            share("connected", verdicts.connected),
            share("unique", unique, valid),
            share("valid & unique", unique),
        ]
        if known is not None:
            figures += [share("novel", novel, unique), share("valid, unique & novel", unique & novel)]
        if self.protocol == "edm":
            figures = [*_stability(samples.systems, rows), *figures]
        return Findings(
            figures=[*figures],
            verdicts={self.protocol: rows},
            protocols={self.protocol: PROTOCOLS[self.protocol]},
        )


@dataclass(frozen=True, slots=True)
class CrystalStage:
    """Crystals by the protocol that is common since CDVAE."""

    kind: Kind = "crystals"
    title: str = "crystals"

    def steps(self, samples: Samples) -> int:
        return len(samples.systems) * (3 if samples.reference is None else 4)

    def __call__(self, samples: Samples, advance: Advance) -> Findings:
        systems, count = samples.systems, len(samples.systems)
        structure, composition = crystals.structural_faults(systems), compositional_faults(systems)
        advance(count)
        groups = spacegroups(systems, SYMPREC)
        advance(count)
        different = crystals.unique(systems)
        advance(count)
        found = np.full(count, -1, dtype=np.int64)
        known = samples.reference is not None and len(samples.reference.crystals) > 0
        if samples.reference is not None:
            found = crystals.matches(systems, samples.reference.data) if known else found
            advance(count)
        sound = np.array([not fault for fault in structure], dtype=np.bool_)
        neutral = np.array([not fault for fault in composition], dtype=np.bool_)
        rows: list[dict[str, Any]] = []
        for place in range(count):
            repeats = (
                int(samples.indices[different.labels[place]]) if sound[place] and not different.first[place] else None
            )
            match = int(found[place]) if found[place] >= 0 else None
            why = [structure[place], composition[place], *_repeats(repeats, match, samples.reference)]
            if sound[place] and not different.comparable[place]:
                why.append("not compared: the cell is too elongated")
            rows.append(
                {
                    "valid": bool(sound[place] and neutral[place]),
                    "structure": bool(sound[place]),
                    "composition": bool(neutral[place]),
                    "repeats": repeats,
                    "matches": match,
                    "novel": bool(sound[place]) and match is None if known else None,
                    "why": "; ".join(filter(None, why)),
                }
            )
        return Findings(
            figures=_crystal_figures(sound, neutral, different, (found < 0) & sound if known else None),
            columns={"spacegroup": groups.tolist()},
            verdicts={CRYSTAL_PROTOCOL: rows},
            protocols={CRYSTAL_PROTOCOL: CRYSTAL_DEFINITION},
        )


def _crystal_figures(
    sound: NDArray[np.bool_],
    neutral: NDArray[np.bool_],
    different: crystals.Uniqueness,
    novel: NDArray[np.bool_] | None,
) -> list[Figure | Quantile | Metric]:
    share, both = _shares(CRYSTAL_PROTOCOL), sound & neutral
    figures: list[Figure | Quantile | Metric] = [
        share("structure valid", sound),
        share("composition valid", neutral),
        share("valid", both),
        share("unique", different.first, sound),
        share("valid & unique", both & different.first),
    ]
    if novel is not None:
        figures += [share("novel", novel, sound), share("valid, unique & novel", both & different.first & novel)]
    figures.append(
        Metric(
            kind="crystals",
            protocol=CRYSTAL_PROTOCOL,
            name="not compared",
            value=different.incomplete,
            of=int(sound.sum()),
            unit="count",
        )
    )
    return figures


def _shares(protocol: str) -> Any:
    def share(name: str, values: NDArray[np.bool_], of: NDArray[np.bool_] | None = None) -> Figure:
        return Figure(name=name, values=values, weights=of, protocol=protocol)

    return share


def _stability(systems: list[AtomicSystem], rows: list[dict[str, Any]]) -> list[Figure]:
    """EDM's atoms and molecules of the right valences; adds the number of stable atoms to the rows."""
    stability = edm_stability(systems)
    counts = np.rint(stability.atoms * stability.sizes).astype(int).tolist()
    for row, count in zip(rows, counts, strict=True):
        row["stable_atoms"] = count
    return [
        Figure(name="stable atoms", values=stability.atoms, weights=stability.sizes, protocol="edm"),
        Figure(name="stable molecules", values=stability.molecules, protocol="edm"),
    ]


def _known(samples: Samples, protocol: Bonding, advance: Advance) -> dict[str, int] | None:
    if samples.reference is None or not len(samples.reference.molecules):
        return None
    return samples.reference.smiles(protocol, samples.workers, advance)


def _first(smiles: Sequence[str | None]) -> NDArray[np.int64]:
    """(B,) the place of the first of each SMILES; -1 where there is none."""
    places: dict[str, int] = {}
    return np.array(
        [-1 if entry is None else places.setdefault(entry, place) for place, entry in enumerate(smiles)], dtype=np.int64
    )


def _repeats(repeats: int | None, match: int | None, reference: Reference | None) -> list[str]:
    words = [] if repeats is None else [f"repeats entry {repeats}"]
    if match is not None and reference is not None:
        words.append(f"matches reference {reference.label(match)}")
    return words
