"""One self-contained page on an evaluation: figures, reasons, histograms and structures to turn by hand."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adit.errors import InvalidInputError
from adit.eval.compare import cell, label, notes, side_by_side, tables
from adit.eval.gallery import clip, colours, galleries, structure
from adit.eval.plots import REFERENCE_SAMPLE, Figures, figures
from adit.eval.results import KINDS, Evaluation, Kind
from adit.eval.selection import frequent, select
from adit.output import write_whole
from adit.packing import as_system

if TYPE_CHECKING:
    from rich.table import Table

    from adit.eval.reference import Reference
    from adit.packing import Systems

LARGEST = 1_000
"""Atoms: larger structures have no picture."""
_HEADLINES = ("valid", "stable molecules", "valid & unique", "valid, unique & novel")
_TILES, _REASONS, _UNREADABLE = 8, 12, 50


def write_html(
    path: str | os.PathLike[str],
    evaluation: Evaluation,
    systems: Systems,
    *,
    title: str = "",
    subtitle: str = "",
    reference: Reference | None = None,
    limit: int = 12,
) -> None:
    """Writes a page that works offline, in any browser, on a light or dark screen.

    Nothing is judged here. The page has pictures of at most 3 x `limit` structures of each kind, and histograms of at
    most 60 bins, so that it does not grow with the number of structures.

    Args:
        path: of the page.
        evaluation: what was found; its seed decides which structures are shown, where chance has to.
        systems: those that it judged and that can be read, in its order.
        title: heading; "" for the name of what was judged.
        subtitle: a line under it, such as the model and the command.
        reference: whose distributions stand beside those of the samples.
        limit: pictures of the best, of the worst and of the others, of each kind.

    Raises:
        InvalidInputError: `systems` are not as many as `evaluation` has rows.
        OSError: the page cannot be written.
    """
    everything = [as_system(system) for system in systems]
    if len(everything) != len(evaluation.rows):
        raise InvalidInputError(
            f"the evaluation has rows of {len(evaluation.rows):,} structures; got {len(everything):,} systems. Give "
            "those that it was made of, without the ones that cannot be read"
        )
    kinds = [kind for kind in KINDS if any(row["kind"] == kind for row in evaluation.rows)]
    large = {place for place, system in enumerate(everything) if len(system) > LARGEST}
    plots: Figures = {}
    shown: list[int] = []
    pictures = ""
    for kind in kinds:
        chosen = select(evaluation.rows, kind, limit, evaluation.seed, skip=large)
        shown += [*chosen.best, *chosen.worst, *chosen.others]
        pictures += galleries(kind, chosen, evaluation, everything)
        plots |= figures(evaluation, everything, kind, reference)
    if large:
        pictures += f'<p class="lead">Of {len(large):,} structures with more than {LARGEST:,} atoms: no pictures.</p>'
    cells = "".join(f'<div class="plot"><h3>{escape(name)}</h3><div></div></div>' for name in plots)
    heading = title or Path(evaluation.file).name
    body = f"""<h1>{escape(heading)}</h1>
<p class="lead">{escape(subtitle or f"{_count(evaluation)}, judged {evaluation.created}")}</p>
{"".join(_tiles(evaluation, kind) for kind in kinds)}
<h2>Figures</h2>
{"".join(map(_table, tables(evaluation)))}
{_definitions(evaluation)}
{"".join(_reasons(evaluation, kind) for kind in kinds)}
{_unreadable(evaluation)}
{pictures}
<h2>Distributions<small>{escape(_beside(reference, kinds))}</small></h2>
<div class="plots">{cells}</div>
{_footer(evaluation)}
<dialog><canvas tabindex="0"></canvas><p></p></dialog>"""
    scripts = (
        f"const STRUCTURES = {_script_json([structure(everything[place]) for place in shown])};\n"
        f"const COLOURS = {_script_json(colours([everything[place] for place in shown]))};\n"
        f"const PLOTS = {_script_json(list(plots.values()))};\n{_asset('viewer.js')}"
    )
    _write(path, heading, body, [_plotly(), scripts])


def write_comparison(path: str | os.PathLike[str], runs: Sequence[tuple[str, Evaluation]]) -> None:
    """Writes a page of runs side by side, with published figures: what `adit-eval --compare` shows.

    Args:
        path: of the page.
        runs: name and evaluation of each.

    Raises:
        InvalidInputError: there is no run.
        OSError: the page cannot be written.
    """
    found = side_by_side(runs)
    heading = " and ".join(name for name, _ in runs)
    body = "".join(
        [
            f"<h1>{escape(heading)}</h1>",
            '<p class="lead">marked: the interval does not overlap with that of the first run</p>',
            *map(_table, found),
            "<footer>",
            *(f"<p>{escape(line)}</p>" for line in notes([run for _, run in runs])),
            *(f"<p>{escape(name)}: {escape(_made_by(run))}</p>" for name, run in runs),
            "</footer>",
        ]
    )
    _write(path, heading, body, [])


def _write(path: str | os.PathLike[str], title: str, body: str, scripts: Sequence[str]) -> None:
    first, *rest = scripts or [""]
    page = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{_asset("report.css")}</style>
{_script(first)}
</head>
<body>
<main>
{body}
</main>
{"".join(map(_script, rest))}
</body>
</html>
"""
    write_whole(Path(path), page.encode("utf-8", errors="replace"))


def _script(text: str) -> str:
    return f"<script>{text}</script>" if text else ""


def _asset(name: str) -> str:
    return files("adit.eval").joinpath("assets", name).read_text(encoding="utf-8")


def _script_json(value: Any) -> str:
    """JSON that no parser of HTML takes for a tag."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")


def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    script: str = get_plotlyjs()
    return script


def _count(evaluation: Evaluation) -> str:
    parts = [(evaluation.counts[kind], kind) for kind in KINDS]
    return " and ".join(f"{n:,} {kind[:-1] if n == 1 else kind}" for n, kind in parts if n)


def _beside(reference: Reference | None, kinds: Sequence[Kind]) -> str:
    if reference is None:
        return ""
    sizes = {"molecules": len(reference.molecules_3d), "crystals": len(reference.crystals)}
    parts = [f"{min(sizes[kind], REFERENCE_SAMPLE[kind]):,} {kind}" for kind in kinds if sizes[kind]]
    return f"the reference: {' and '.join(parts)} of {reference.name}, drawn at random" if parts else ""


def _tiles(evaluation: Evaluation, kind: Kind) -> str:
    chosen = [m for m in evaluation.metrics if m.kind == kind and m.name in _HEADLINES and m.value == m.value]
    cells = "".join(
        f'<div class="tile"><b>{escape(cell(metric).split(" [")[0])} %</b>'
        f"<span>{escape(', '.join(filter(None, (label(metric), metric.protocol))))}</span></div>"
        for metric in sorted(chosen, key=lambda metric: _HEADLINES.index(metric.name))[:_TILES]
    )
    return f'<h2>{kind.capitalize()}<small>{evaluation.counts[kind]:,}</small></h2><div class="tiles">{cells}</div>'


def _table(table: Table) -> str:
    """A table for a screen as one of HTML; a cell that ends with ` *` is marked."""
    head = "".join(f"<th>{escape(str(column.header))}</th>" for column in table.columns)
    lines = []
    for row, cells in zip(table.rows, zip(*(column.cells for column in table.columns), strict=True), strict=True):
        parts = "".join(
            f'<td class="differs">{escape(str(text))}</td>'
            if str(text).endswith(" *")
            else f"<td>{escape(str(text))}</td>"
            for text in cells
        )
        lines.append(f'<tr class="end">{parts}</tr>' if row.end_section else f"<tr>{parts}</tr>")
    title = f"<h3>{escape(str(table.title))}</h3>" if table.title else ""
    return f'{title}<div class="scroll"><table><tr>{head}</tr>{"".join(lines)}</table></div>'


def _words(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table whose last column is text; everything is escaped here."""
    rows = "".join(f"<tr>{''.join(f'<td>{escape(text)}</td>' for text in line)}</tr>" for line in lines)
    names = "".join(f"<th>{escape(name)}</th>" for name in head)
    return f'<div class="scroll"><table class="words"><tr>{names}</tr>{rows}</table></div>'


def _definitions(evaluation: Evaluation) -> str:
    entries = dict(evaluation.protocols)
    if (reference := evaluation.reference) is not None:
        sizes = " and ".join(f"{reference[kind]:,} {kind}" for kind in KINDS if reference[kind])
        entries["novel"] = f"not in {reference['name']} ({sizes})."
    entries["[low, high]"] = (
        f"interval of {evaluation.level:.0%} confidence, from the bootstrap over structures, seed {evaluation.seed}."
    )
    return "<dl>" + "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in entries.items()) + "</dl>"


def _reasons(evaluation: Evaluation, kind: Kind) -> str:
    total = evaluation.counts[kind]
    lines = [
        (protocol, f"{count:,}", f"{100 * count / total:.1f}", clip(first), clip(words))
        for protocol, found in frequent(evaluation.rows, kind).items()
        for words, count, first in found[:_REASONS]
    ]
    if not lines:
        return ""
    head = ("protocol", kind, "%", "the first", "reason")
    small = "the most frequent remarks; # stands for a number"
    return f"<h2>What is wrong with {kind}<small>{small}</small></h2>{_words(head, lines)}"


def _unreadable(evaluation: Evaluation) -> str:
    if not (entries := evaluation.unreadable):
        return ""
    unknown = sum(entry["kind"] is None for entry in entries)
    tail = f"{unknown:,} of unknown kind count nowhere" if unknown else "counted as invalid"
    which = "" if len(entries) <= _UNREADABLE else f"; the first {_UNREADABLE}"
    lines = [(clip(str(entry["entry"])), clip(str(entry["why"]))) for entry in entries[:_UNREADABLE]]
    return f"<h2>Unreadable entries<small>{len(entries):,}, {tail}{which}</small></h2>{_words(('entry', 'why'), lines)}"


def _made_by(evaluation: Evaluation) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in evaluation.versions.items())
    return f"{evaluation.file}, judged {evaluation.created} on {evaluation.machine} with {versions}."


def _footer(evaluation: Evaluation) -> str:
    seconds = ", ".join(f"{name} {value:.1f} s" for name, value in evaluation.seconds.items())
    lines = [
        "Written by adit; works offline. Drag a structure to turn it, double-click to reset.",
        _made_by(evaluation),
        f"Time: {seconds}.",
    ]
    return "<footer>" + "".join(f"<p>{escape(line)}</p>" for line in lines) + "</footer>"
