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
_UNDESIRED = ("timed_out",)  # flags that are good when they are not set
_ENERGIES = ("strain", "hull")  # the lower the better
_PLACES = frozenset(("index", "repeats", "matches"))
_NUMBER = re.compile(r"(valence \d+|\d+ unpaired|\^\d+)|\d+(?:\.\d+)?(?: \([^)]*\))?")

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
    """Why an entry failed, or what is odd about it, each with the protocols that say so where there are several."""
    said: dict[str, list[str]] = {}
    for protocol, verdict in row["protocols"].items():
        for words in _words(protocol, verdict):
            said.setdefault(words, []).append(protocol)
    if len(row["protocols"]) == 1:
        return list(said)
    return [f"{', '.join(protocols)}: {words}" for words, protocols in said.items()]


def frequent(rows: Sequence[Row], kind: Kind) -> dict[str, list[tuple[str, int, str]]]:
    """Protocol -> reasons without the numbers in them, how many entries have each, and the name of the first of these.

    In descending order of that number.
    """
    counts: dict[str, Counter[str]] = {}
    first: dict[tuple[str, str], str] = {}
    for row in rows:
        if row["kind"] != kind:
            continue
        for protocol, verdict in row["protocols"].items():
            found = {_NUMBER.sub(lambda match: match[1] or "#", words) for words in _words(protocol, verdict)}
            counts.setdefault(protocol, Counter()).update(sorted(found))
            for words in found:
                first.setdefault((protocol, words), str(row["entry"]))
    return {
        protocol: [(words, count, first[protocol, words]) for words, count in counter.most_common()]
        for protocol, counter in counts.items()
        if counter
    }


def numbers(row: Row) -> Iterator[tuple[str, float]]:
    """Column and value of what is a finite number in a row; those of protocols as `stable_atoms, edm`."""
    for protocol, held in [("", row), *row["protocols"].items()]:
        for name, value in held.items():
            if name in _PLACES or isinstance(value, bool) or not isinstance(value, Real):
                continue
            if math.isfinite(value):
                yield f"{name}, {protocol}" if protocol else name, float(value)


def _words(protocol: str, verdict: Row) -> list[str]:
    """What it says; where it says nothing, which of its parts failed."""
    if why := verdict.get("why"):
        return list(dict.fromkeys(str(why).split("; ")))
    failed = [name for name, good in _judged(verdict) if not good and name != "novel"]
    return [f"not {', '.join(failed)}"] if failed else []


def _judged(held: Row) -> Iterator[tuple[str, bool]]:
    for name, value in held.items():
        if isinstance(value, bool | np.bool_):
            yield name, bool(value) != (name in _UNDESIRED)


def _flags(row: Row) -> Iterator[tuple[str, str, bool]]:
    """Protocol ("" for columns), name and whether it speaks for the entry."""
    for protocol, held in [("", row), *row["protocols"].items()]:
        for name, good in _judged(held):
            yield protocol, name, good


def _gravity(row: Row) -> tuple[int, int]:
    failed = [name for _, name, good in _flags(row) if not good and name != "novel"]
    return sum(name in _GRAVE for name in failed), len(failed)


def _energy_column(rows: Sequence[Row]) -> str:
    names = dict.fromkeys(name for row in rows for name, _ in numbers(row))
    return next((name for name in names if "rms" not in name and any(word in name for word in _ENERGIES)), "")
