"""Tables for a screen: one evaluation, or several side by side with the published figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from adit.errors import InvalidInputError
from adit.eval.protocols import PROTOCOLS
from adit.eval.published import PAPERS, SUMMARY, published
from adit.eval.results import KINDS, NOT_RUN, Evaluation, Kind, Metric
from adit.eval.stages import CRYSTAL_PROTOCOL

if TYPE_CHECKING:
    from rich.table import Table

    from adit.eval.protocols import PROTOCOLS
from adit.eval.published import Published

OF = {
    ("molecules", "unique"): "of valid",
    ("molecules", "novel"): "of unique",
    ("crystals", "unique"): "of valid structures",
    ("crystals", "novel"): "of valid structures",
    ("crystals", "matches its relaxed structure"): "of converged",
}
"""What a share is taken of, where it is not of all entries."""
NO = "not run"
BESIDE = ("", *PROTOCOLS, CRYSTAL_PROTOCOL)
"""Protocols that have a column each in one table."""


def cell(metric: Metric) -> str:
    """`94.5 [93.0, 95.8]` for a share in per cent; `-` for NaN."""
    if math.isnan(metric.value):
        return "-"
    if metric.unit == "count":
        return f"{metric.value:,.0f}"
    interval = "" if math.isnan(metric.low) else f" [{_number(metric, metric.low)}, {_number(metric, metric.high)}]"
    return f"{_number(metric, metric.value)}{interval}"


def _number(metric: Metric, value: float) -> str:
    if metric.unit == "share":
        return f"{100 * value:.1f}" if 0 < value < 1 else f"{100 * value:.0f}"
    return f"{value:.1f}" if metric.unit == "atoms" else f"{value:.3f}"


def label(metric: Metric) -> str:
    """Name, and what a share is taken of; the unit if it is no share."""
    of = OF.get((metric.kind, metric.name), "")
    unit = "" if metric.unit in ("share", "count", "atoms", "number") else metric.unit
    words = ", ".join(filter(None, (of, unit)))
    return f"{metric.name} ({words})" if words else metric.name


def differ(left: Metric, right: Metric) -> bool:
    """Their intervals have nothing in common."""
    return left.low > right.high or right.low > left.high


def tables(evaluation: Evaluation) -> list[Table]:
    """For each kind: the figures that belong to no protocol and a column for each protocol of validity.

    Then a table for each of the other protocols.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    made = []
    for kind in KINDS:
        everything = [metric for metric in evaluation.metrics if metric.kind == kind]
        metrics = [metric for metric in everything if metric.protocol in BESIDE]
        if not everything:
            continue
        missing = [name for name, words in evaluation.protocols.items() if words.startswith(NOT_RUN)]
        columns = list(dict.fromkeys(metric.protocol for metric in metrics if metric.protocol))
        columns += missing if kind == "molecules" else []
        table = Table(
            title=f"{evaluation.counts[kind]:,} {kind}, shares in %",
            title_justify="left",
            box=SIMPLE_HEAD,
            pad_edge=False,
        )
        table.add_column()
        for name in columns or [""]:
            table.add_column(name, justify="right", no_wrap=True)
        for name in dict.fromkeys(metric.name for metric in metrics):
            held = {metric.protocol: metric for metric in metrics if metric.name == name}
            first = next(iter(held.values()))
            texts = [cell(held[column]) if column in held else NO if column in missing else "" for column in columns]
            table.add_row(label(first), *([cell(first)] if "" in held else texts))
        made.append(table)
        for protocol in dict.fromkeys(metric.protocol for metric in everything if metric.protocol not in BESIDE):
            table = Table(title=f"{kind}: {protocol}", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
            table.add_column()
            table.add_column("", justify="right", no_wrap=True)
            table.add_column("of", justify="right", no_wrap=True)
            for metric in (metric for metric in everything if metric.protocol == protocol):
                of = "" if metric.unit == "count" else f"{metric.of:,}"
                table.add_row(label(metric), f"{cell(metric)}{' %' if metric.unit == 'share' else ''}", of)
            made.append(table)
    return made


def side_by_side(runs: Sequence[tuple[str, Evaluation]]) -> list[Table]:
    """For each kind, a row for each metric, a column for each run, and what is published of it.

    `*` marks a figure whose interval does not overlap with that of the first run.

    Raises:
        InvalidInputError: there is no run.
    """
    from rich.table import Table

    if not runs:
        raise InvalidInputError("there is nothing to compare; give files that `adit-eval --json` wrote")
    made = []
    for kind in KINDS:
        metrics = [metric for _, run in runs for metric in run.metrics if metric.kind == kind]
        if not metrics:
            continue
        table = Table(title=f"{kind}, shares in %", title_justify="left")
        table.add_column()
        for name, run in runs:
            table.add_column(f"{name}\n{run.counts[kind]:,} {kind}", justify="right")
        table.add_column("published")
        for protocol in dict.fromkeys(metric.protocol for metric in metrics):
            table.add_section()
            for key in dict.fromkeys(metric.key for metric in metrics if metric.protocol == protocol):
                table.add_row(*_line(kind, key, [run for _, run in runs]))
        made.append(table)
    return made


def _line(kind: Kind, key: tuple[str, str, str], runs: Sequence[Evaluation]) -> list[str]:
    found = [next((metric for metric in run.metrics if metric.key == key), None) for run in runs]
    some = next(metric for metric in found if metric is not None)
    first = found[0]
    texts = [
        "" if metric is None else cell(metric) + (" *" if first is not None and differ(first, metric) else "")
        for metric in found
    ]
    name = f"{key[1]}: {label(some)}" if key[1] else label(some)
    return [name, *texts, "\n".join(map(_known, published(kind, key[1], key[2])))]


def _known(entry: Published) -> str:
    mark = " †" if entry.source == SUMMARY else ""
    return f"{100 * entry.value:.4g} {entry.method} ({entry.data}){mark}"


def notes(runs: Sequence[Evaluation]) -> list[str]:
    """Lines under the tables: what the marks mean, and what the protocols are."""
    lines = [
        f"[low, high]: interval of {runs[0].level:.0%} confidence, from the bootstrap over structures.",
        "* the intervals of this run and of the first do not overlap.",
        f"published: {PAPERS}, each of its own data set; † {SUMMARY}.",
    ]
    definitions = {name: words for run in runs for name, words in run.protocols.items()}
    return lines + [f"{name}: {words}" for name, words in definitions.items()]
