"""Everything about a file of samples: the stages run one after the other, and their findings put together."""

from __future__ import annotations

import logging
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from adit.convert.base import BrokenEntry
from adit.convert.files import iread
from adit.data.packed import PackedDataset
from adit.data.prepare import load
from adit.errors import BackendUnavailableError, InvalidInputError, UnreadableFileError
from adit.eval.limits import cores
from adit.eval.pose_stages import PoseBustersStage
from adit.eval.protocols import PROTOCOLS, Protocol, check_protocol
from adit.eval.reference import Reference, installed
from adit.eval.reference_stages import reference_stages
from adit.eval.results import KINDS, NOT_RUN, Evaluation, Kind, Metric
from adit.eval.stages import CRYSTAL_PROTOCOL, CrystalStage, Figure, Findings, MoleculeStage, Samples, Stage
from adit.eval.workers import Advance, Workers
from adit.packing import as_system, is_system

if TYPE_CHECKING:
    from adit.packing import SystemLike, Systems
    from adit.system import AtomicSystem

Progress = Callable[[str, int | None], AbstractContextManager[Advance]]
"""Called with the title of a stage and its number of steps (None: unknown); gives what to call with the steps done."""
Source = str | os.PathLike[str]

LEVEL = 0.95
_LIBRARIES = ("adit", "numpy", "rdkit", "openbabel-wheel")
_MANY = 100


def evaluate(
    source: Source | SystemLike | Systems | Iterable[AtomicSystem | BrokenEntry],
    *,
    protocols: Sequence[Protocol | Literal["cdvae"]] | None = None,
    reference: Reference | Source | SystemLike | Systems | None = None,
    seed: int = 0,
    level: float = LEVEL,
    processes: int | None = 1,
    posebusters: bool = True,
    stages: Sequence[Stage] = (),
    progress: Progress | None = None,
    name: str = "",
) -> Evaluation:
    """Judges molecules and crystals, mixed or not, with every quick metric of the field.

    An entry that cannot be read counts as invalid among those of its kind: the one its format tells, or else the only
    kind that there is.

    Args:
        source: whatever `adit.read` reads, a prepared data set by name (`mp20:val` for a split of it), or one system or
            many (and broken entries of `iread`).
        protocols: for molecules; None for all that can run here. See `adit.eval.PROTOCOLS`. Crystals always go by
            "cdvae", which may be named, too.
        reference: for novelty, distributions and coverage: a prepared data set by name, `mp20:train` for a split of
            it, a file, systems; None: none of these.
        seed: of the intervals, at least 0.
        level: of confidence, between 0 and 1.
        processes: that share the work of RDKit and Open Babel; None for one for each core. See `Workers`.
        posebusters: whether molecules go through PoseBusters' checks of geometry, which take the longest.
        stages: further ones, run after those that are always there; `adit.eval` has some that take their time.
        progress: shows each stage.
        name: of what is judged, if `source` is not a path.

    Raises:
        InvalidInputError: a protocol is unknown, `seed` or `level` is out of range, an entry is not a system, or the
            reference holds nothing of the kinds to be judged.
        UnreadableFileError: the source or the reference is not there, or nothing in it can be read.
        BackendUnavailableError: a protocol in `protocols` needs a library that is not installed.
    """
    progress = progress or _silent
    chosen, missing = _available(protocols)
    if seed < 0 or not 0 < level < 1:
        raise InvalidInputError(f"`seed` must be at least 0, `level` between 0 and 1; got {seed} and {level}")
    if reference is not None:
        reference = _reference(reference)
    seconds: dict[str, float] = {}
    with _timed(seconds, "reading"), progress("reading", None) as advance:
        entries = list(_entries(source, advance))
    if not any(not isinstance(entry, BrokenEntry) for entry in entries):
        detail = f": {len(entries)} broken entries, the first: {entries[0]}" if entries else ""
        raise UnreadableFileError(f"{name or _name(source)} holds no molecule or crystal that can be read{detail}")
    kinds = _kinds(entries)
    if reference is not None:
        _check_kinds(reference, {k for k, e in zip(kinds, entries, strict=True) if not isinstance(e, BrokenEntry)})
    rows = {k: _row(k, entry, kinds[k]) for k, entry in enumerate(entries) if not isinstance(entry, BrokenEntry)}
    metrics: list[Metric] = []
    definitions: dict[str, str] = {}
    always: list[Stage] = [*map(MoleculeStage, chosen), *([PoseBustersStage()] if posebusters else []), CrystalStage()]
    with Workers(processes) as workers:
        for stage in (*always, *reference_stages(reference), *stages):
            places = [k for k in rows if kinds[k] == stage.kind]
            if not places:
                continue
            samples = Samples(
                kind=stage.kind,
                systems=[entries[k] for k in places],  # type: ignore[misc]
                indices=np.array(places, dtype=np.int64),
                rows=[rows[k] for k in places],
                reference=reference,
                workers=workers,
                seed=seed,
            )
            with _timed(seconds, stage.title), progress(stage.title, stage.steps(samples)) as advance:
                found = stage(samples, advance)
            broken = sum(kind == stage.kind for kind in kinds) - len(places)
            metrics += [
                figure if isinstance(figure, Metric) else figure.metric(stage.kind, broken, level, seed)
                for figure in found.figures
            ]
            definitions |= dict(found.protocols)
            _merge([rows[k] for k in places], found)
    if "molecules" in kinds:
        definitions |= missing
    return Evaluation(
        file=name or _name(source),
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        versions={"python": platform.python_version(), **{name: installed(name) for name in _LIBRARIES}},
        machine=f"{platform.system()} {platform.machine()}, {cores()} cores",
        seed=seed,
        level=level,
        reference=_describe(reference),
        counts=_counts(entries, kinds),
        unreadable=[
            {"index": k, "entry": entry.source, "kind": kinds[k], "why": entry.reason}
            for k, entry in enumerate(entries)
            if isinstance(entry, BrokenEntry)
        ],
        protocols=definitions,
        metrics=[*_sizes(rows.values(), level, seed), *metrics],
        rows=list(rows.values()),
        seconds={name: round(value, 3) for name, value in seconds.items()},
    )


def read(source: Source) -> Iterator[AtomicSystem | BrokenEntry]:
    """The entries of a file or folder, or of a prepared data set by name, `mp20:val` for a split of it.

    Raises:
        AditError: there is no such thing, or it cannot be read.
    """
    return iread(source) if Path(source).exists() else iter(load(source))


def _reference(given: Any) -> Reference:
    if isinstance(given, Reference):
        return given
    if isinstance(given, str | os.PathLike):
        return Reference.open(os.fspath(given))
    if isinstance(given, PackedDataset):
        return Reference(str(given.meta.get("name", "a data set")), given)
    systems = [given] if is_system(given) else given
    return Reference("systems in memory", PackedDataset.from_systems(map(as_system, systems)))


def _check_kinds(reference: Reference, present: set[Kind | None]) -> None:
    """What a reference lacks of the kinds that are there is said; if it lacks all, that is a mistake."""
    held = {"molecules": reference.molecules, "crystals": reference.crystals}
    lacking = [kind for kind in KINDS if kind in present and not len(held[kind])]
    words = f"the reference {reference.name} holds no {' and no '.join(lacking)}"
    if lacking and len(lacking) == len(present):
        raise InvalidInputError(f"{words}, and nothing else is to be judged. Name another one, or none")
    if lacking:
        logging.getLogger("adit").warning("%s: nothing is said of their novelty and distributions", words)


def _available(protocols: Sequence[Protocol | Literal["cdvae"]] | None) -> tuple[list[Protocol], dict[str, str]]:
    """What to run, and for what cannot run here why not. What was asked for by name must run."""
    if protocols is not None:
        named: list[Any] = [protocol for protocol in dict.fromkeys(protocols) if protocol != CRYSTAL_PROTOCOL]
        for protocol in named:
            check_protocol(protocol)
        return named, {}
    chosen: list[Protocol] = []
    missing: dict[str, str] = {}
    for protocol in PROTOCOLS:
        if reason := _unavailable(protocol):
            missing[protocol] = f"{NOT_RUN}: {reason}"
        else:
            chosen.append(protocol)
    return chosen, missing


def _unavailable(protocol: Protocol) -> str:
    try:
        check_protocol(protocol)
    except BackendUnavailableError as error:
        return str(error)
    return ""


def _entries(source: Any, advance: Advance) -> Iterator[AtomicSystem | BrokenEntry]:
    if isinstance(source, str | os.PathLike):
        found: Iterable[AtomicSystem | BrokenEntry] = read(source)
    else:
        many = [source] if is_system(source) else source
        found = (entry if isinstance(entry, BrokenEntry) else as_system(entry) for entry in many)
    for count, entry in enumerate(found, 1):
        yield entry
        if count % _MANY == 0:
            advance(_MANY)


def _kinds(entries: Sequence[AtomicSystem | BrokenEntry]) -> list[Kind | None]:
    """Of each entry; one that cannot be read is of the kind its format tells, or else of the only one there is."""
    periodic = [entry.periodic if isinstance(entry, BrokenEntry) else entry.is_periodic for entry in entries]
    kinds = [None if one is None else KINDS[one] for one in periodic]
    present = {kind for kind in kinds if kind is not None}
    return [*present] * len(entries) if len(present) == 1 else kinds


def _row(index: int, system: Any, kind: Kind | None) -> dict[str, Any]:
    name = system.info.get("id", index)
    return {
        "index": index,
        "entry": str(name),
        "kind": kind,
        "formula": system.formula,
        "atoms": len(system),
        "protocols": {},
    }


def _merge(rows: list[dict[str, Any]], found: Findings) -> None:
    for name, column in found.columns.items():
        for row, value in zip(rows, column, strict=True):
            row[name] = value
    for protocol, verdicts in found.verdicts.items():
        for row, verdict in zip(rows, verdicts, strict=True):
            row["protocols"].setdefault(protocol, {}).update(verdict)


def _sizes(rows: Iterable[dict[str, Any]], level: float, seed: int) -> list[Metric]:
    """Atoms in a system of each kind."""
    held = list(rows)
    sizes = {kind: [row["atoms"] for row in held if row["kind"] == kind] for kind in KINDS}
    return [
        Figure(name="atoms", values=values, weights=np.ones(len(values)), unit="atoms").metric(kind, 0, level, seed)
        for kind, values in sizes.items()
        if values
    ]


def _counts(entries: Sequence[object], kinds: Sequence[Kind | None]) -> dict[str, int]:
    return {
        "entries": len(entries),
        "molecules": kinds.count("molecules"),
        "crystals": kinds.count("crystals"),
        "unreadable": sum(isinstance(entry, BrokenEntry) for entry in entries),
    }


def _describe(reference: Reference | None) -> dict[str, Any] | None:
    if reference is None:
        return None
    return {"name": reference.name, "molecules": len(reference.molecules), "crystals": len(reference.crystals)}


def _name(source: object) -> str:
    return os.fspath(source) if isinstance(source, str | os.PathLike) else "systems in memory"


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - start


@contextmanager
def _silent(title: str, steps: int | None) -> Iterator[Advance]:
    yield lambda count: None
