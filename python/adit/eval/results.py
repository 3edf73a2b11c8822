"""What an evaluation found, and the JSON file that keeps it."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from adit.errors import InvalidInputError, UnreadableFileError
from adit.output import write_whole, writing

FORMAT, FORMAT_VERSION = "adit-eval", 1

Kind = Literal["molecules", "crystals"]
KINDS: tuple[Kind, ...] = ("molecules", "crystals")
NAN = float("nan")
NOT_RUN = "Not run"
"""How the entry in `Evaluation.protocols` begins of one that could not be run; the reason follows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One figure with its interval.

    Attributes:
        kind: of what.
        protocol: by which protocol; "" where all would say the same.
        name: such as "valid".
        value: NaN where there is nothing to divide by.
        low: of the interval of confidence; NaN where there is none.
        high: as `low`.
        of: how many structures it was taken over.
        unit: "share" (0 to 1), "count", "atoms", "A", "eV/atom", ...
    """

    kind: Kind
    protocol: str
    name: str
    value: float
    low: float = NAN
    high: float = NAN
    of: int
    unit: str = "share"

    @property
    def key(self) -> tuple[str, str, str]:
        """Kind, protocol and name."""
        return self.kind, self.protocol, self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What `adit.eval.evaluate` gives. docs/eval.md has the fields of its JSON.

    Attributes:
        file: what was judged.
        created: ISO 8601.
        versions: package -> version, of what took part.
        machine: system and cores.
        seed: of the intervals.
        level: of confidence.
        reference: name and numbers of molecules and crystals of what novelty was measured against; None for nothing.
        counts: entries, molecules, crystals (each with the unreadable ones of that kind), unreadable.
        unreadable: index, entry, kind (None if it cannot be told) and why, of each entry that cannot be read.
        protocols: name -> what it is, in one sentence.
        metrics: the figures.
        rows: a dict for each entry that can be read, in the order of the file.
        seconds: stage -> time.
    """

    file: str
    created: str
    versions: Mapping[str, str]
    machine: str
    seed: int
    level: float
    reference: Mapping[str, Any] | None
    counts: Mapping[str, int]
    unreadable: list[dict[str, Any]]
    protocols: Mapping[str, str]
    metrics: list[Metric]
    rows: list[dict[str, Any]]
    seconds: Mapping[str, float] = field(default_factory=dict)

    def metric(self, kind: Kind, name: str, protocol: str | None = None) -> Metric:
        """The one figure of this name.

        Raises:
            InvalidInputError: there is none, or several protocols have it and none is chosen.
        """
        found = [m for m in self.metrics if m.kind == kind and m.name == name and protocol in (None, m.protocol)]
        if len(found) == 1:
            return found[0]
        known = ", ".join(f"{m.name!r} ({m.protocol or 'any protocol'})" for m in self.metrics if m.kind == kind)
        raise InvalidInputError(
            f"{'several' if found else 'no'} metrics of {kind} are called {name!r} (protocol {protocol!r}); "
            f"there are {known or 'none'}"
        )

    def to_dict(self) -> dict[str, Any]:
        """For JSON: NaN and infinity become None."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        fields["metrics"] = [
            {name: getattr(metric, name) for name in metric.__dataclass_fields__} for metric in self.metrics
        ]
        made: dict[str, Any] = plain({"format": FORMAT, "format_version": FORMAT_VERSION, **fields})
        return made

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a JSON file, which appears whole or not at all.

        Raises:
            InvalidInputError: it cannot be written.
        """
        path = Path(path)
        with writing(path):
            write_whole(path, dumps(self.to_dict()))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Evaluation:
        """Reads what `save` wrote.

        Raises:
            UnreadableFileError: it is missing, is something else, or of another format version.
        """
        path = Path(path)
        try:
            held = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise UnreadableFileError(f"{path} cannot be read: {error.strerror or error}") from error
        except ValueError as error:
            raise UnreadableFileError(
                f"{path} is not JSON ({error}); expected what `adit-eval --json` writes"
            ) from error
        if not isinstance(held, dict) or held.get("format") != FORMAT:
            found = held.get("format") if isinstance(held, dict) else type(held).__name__
            raise UnreadableFileError(f"{path} is not a file of `adit-eval --json`: its format is {found!r}")
        if held.get("format_version") != FORMAT_VERSION:
            raise UnreadableFileError(
                f"{path} has format version {held.get('format_version')!r}; this adit reads {FORMAT_VERSION}. "
                "Judge the structures again with `adit-eval --json`"
            )
        try:
            metrics = [Metric(**{**entry, **_numbers(entry)}) for entry in held["metrics"]]
            fields = {name: held[name] for name in cls.__dataclass_fields__}
        except (KeyError, TypeError, ValueError) as error:
            raise UnreadableFileError(f"{path} is damaged: {type(error).__name__} {error}. Judge again") from error
        return cls(**{**fields, "metrics": metrics})


def dumps(held: Mapping[str, Any]) -> str:
    """JSON that a person can read and that stays small: one line for each metric and each row."""
    parts = []
    for name, value in held.items():
        if isinstance(value, list) and value:
            lines = ",\n".join(f"  {json.dumps(entry, allow_nan=False)}" for entry in value)
            parts.append(f" {json.dumps(name)}: [\n{lines}\n ]")
        else:
            parts.append(f" {json.dumps(name)}: {json.dumps(value, allow_nan=False)}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _numbers(entry: Mapping[str, Any]) -> dict[str, float]:
    return {name: NAN if entry[name] is None else float(entry[name]) for name in ("value", "low", "high")}


def plain(value: Any) -> Any:
    """Nested lists and dicts of what JSON knows; numpy's numbers as Python's."""
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value
