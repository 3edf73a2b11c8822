"""Which structures of an evaluation are worth a picture, and the most frequent reasons of failure."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np

from adit.eval.results import Kind

_GRAVE = ("valid", "structure")
_ASKED = ("valid", "passed")  # of the flags that a stage leaves in a column; of a protocol, all count
_ENERGIES = ("strain", "hull")  # the lower the better
_PLACES = frozenset(("index", "repeats", "matches"))
_NUMBER = re.compile(r"(valence \d+|\d+ unpaired|\^\d+)|(?<![A-Za-z])\d+(?:\.\d+)?(?: \([^)]*\))?")

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Selection:
    """Places in `Evaluation.rows`, each in one list at most.

    Attributes:
        best: valid, unique, novel and whatever else is asked, by all that judged; the lowest in energy first.
        worst: invalid by most protocols first, then by most of their parts, then the highest in energy.
        others: drawn at random from the rest.
        total: how many there are of this kind.
        energy: the column that was looked at, such as a strain or an energy above the hull; "" where there is none.
    """

    best: list[int]
    worst: list[int]
    others: list[int]
    total: int
    energy: str


def select(rows: Sequence[Row], kind: Kind, limit: int, seed: int, *, skip: Collection[int] = ()) -> Selection:
    """Up to `limit` of the best, of the worst and of the rest; ties are broken by `seed`.

    Args:
        rows: of an evaluation.
        kind: of those wanted.
        limit: entries in each list.
        seed: of what is left to chance.
        skip: places not to choose.
    """
    places = [place for place, row in enumerate(rows) if row["kind"] == kind]
    energy = _energy_column([rows[place] for place in places])
    shuffled = np.random.default_rng(seed).permutation([place for place in places if place not in skip]).tolist()
    values = {place: dict(numbers(rows[place])).get(energy, math.inf) for place in shuffled}
    best = sorted((place for place in shuffled if flawless(rows[place])), key=values.__getitem__)[:limit]
    gravity = {place: _gravity(rows[place]) for place in shuffled}
    known = {place: value if math.isfinite(value) else -math.inf for place, value in values.items()}
    failed = [place for place in shuffled if gravity[place][0]]
    worst = sorted(failed, key=lambda place: (*gravity[place], known[place]), reverse=True)[:limit]
    taken = {*best, *worst}
    return Selection(best, worst, [place for place in shuffled if place not in taken][:limit], len(places), energy)


def flawless(row: Row) -> bool:
    """Nothing that was judged speaks against it, and it repeats nothing."""
    repeats = any(verdict.get("repeats") is not None for verdict in row["protocols"].values())
    return not repeats and all(good for _, _, good in _flags(row))


def reasons(row: Row) -> list[str]:
    """Why an entry failed, or what is odd about it, each with those that say so where several judged."""
    said: dict[str, list[str]] = {}
    for source, words, _ in _remarks(row):
        said.setdefault(words, []).append(source)
    if len(_parts(row)) == 1:
        return list(said)
    return [f"{', '.join(sources)}: {words}" for words, sources in said.items()]


def frequent(rows: Sequence[Row], kind: Kind) -> dict[str, list[tuple[str, int, str]]]:
    """Protocol -> reasons without the numbers in them, how many entries have each, and the name of the first of these.

    In descending order of that number. Where a stage gives its reasons by checks, these are counted.
    """
    counts: dict[str, Counter[str]] = {}
    first: dict[tuple[str, str], str] = {}
    for row in rows:
        if row["kind"] != kind:
            continue
        for source, words in sorted({(source, group) for source, _, group in _remarks(row)}):
            counts.setdefault(source, Counter())[words] += 1
            first.setdefault((source, words), str(row["entry"]))
    return {
        source: [(words, count, first[source, words]) for words, count in counter.most_common()]
        for source, counter in counts.items()
    }


def numbers(row: Row) -> Iterator[tuple[str, float]]:
    """Column and value of what is a finite number in a row; those of protocols and stages as `stable_atoms, edm`."""
    for source, held in [("", row), *_parts(row)]:
        for name, value in held.items():
            if name in _PLACES or isinstance(value, bool) or not isinstance(value, Real):
                continue
            if math.isfinite(value):
                yield f"{name}, {source}" if source else name, float(value)


def _parts(row: Row) -> list[tuple[str, Row]]:
    """The verdicts of protocols, and what stages left in columns of their own, by name."""
    columns = [(name, held) for name, held in row.items() if isinstance(held, Mapping) and name != "protocols"]
    return [*row["protocols"].items(), *columns]


def _flags(row: Row) -> Iterator[tuple[str, str, bool]]:
    """Protocol or column, name, and whether it speaks for the entry."""
    for source, held in _parts(row):
        for name, value in held.items():
            if isinstance(value, bool | np.bool_) and (name in _ASKED or source in row["protocols"]):
                yield source, name, bool(value)


def _remarks(row: Row) -> Iterator[tuple[str, str, str]]:
    """Protocol or column, what it says, and under what that is counted; without a reason, which flags failed."""
    failed: dict[str, list[str]] = {}
    for source, name, good in _flags(row):
        if not good and name != "novel":
            failed.setdefault(source, []).append(name)
    for source, held in _parts(row):
        why = held.get("why") or held.get("reason")
        if isinstance(why, Mapping):
            yield from ((source, f"{check}: {words}", check) for check, words in why.items())
        elif why:
            for words in dict.fromkeys(str(why).split("; ")):
                yield source, words, _NUMBER.sub(lambda match: match[1] or "#", words)
        elif source in failed:
            words = f"not {', '.join(failed[source])}"
            yield source, words, words


def _gravity(row: Row) -> tuple[int, int]:
    failed = [name for _, name, good in _flags(row) if not good and name != "novel"]
    return sum(name in _GRAVE for name in failed), len(failed)


def _energy_column(rows: Sequence[Row]) -> str:
    names = dict.fromkeys(name for row in rows for name, _ in numbers(row))
    return next((name for name in names if "rms" not in name and any(word in name for word in _ENERGIES)), "")
