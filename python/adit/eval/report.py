"""One self-contained page on a set of samples: figures, histograms and structures to turn by hand."""

from __future__ import annotations

import html
import json
import os
import re
from collections import Counter
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from adit.elements import SYMBOLS
from adit.eval.drawing import draw, label
from adit.eval.summary import Summary, percent, summarise
from adit.packing import as_system

if TYPE_CHECKING:
    from adit.packing import Systems
    from adit.system import AtomicSystem

_MOLECULE, _CRYSTAL = "#3b82c4", "#d98a3d"
_MAX_ELEMENTS = 30


def write_html(
    path: str | os.PathLike[str],
    systems: Systems,
    *,
    title: str = "Generated structures",
    subtitle: str = "",
    summary: Summary | None = None,
    limit: int = 24,
) -> None:
    """Writes a page that works offline, in any browser, on a light or dark screen.

    Args:
        path: of the page.
        systems: samples; the first `limit` molecules and the first `limit` crystals are shown, unselected.
        title: heading.
        subtitle: a line under it, such as the model and the command.
        summary: of the same systems, if at hand; else `summarise(systems)`.
        limit: structures of each kind to show.

    Raises:
        OSError: the page cannot be written.
    """
    everything = [as_system(system) for system in systems]
    summary = summarise(everything) if summary is None else summary
    shown = [
        [index for index, system in enumerate(everything) if system.is_periodic is periodic][:limit]
        for periodic in (False, True)
    ]
    order = shown[0] + shown[1]
    galleries = "".join(
        _gallery(name, [(everything[index], bool(summary.valid[index]), summary.notes[index]) for index in part], total)
        for name, part, total in (
            ("Molecules", shown[0], sum(not system.is_periodic for system in everything)),
            ("Crystals", shown[1], sum(system.is_periodic for system in everything)),
        )
        if part
    )
    structures = [_structure(everything[index]) for index in order]
    plots = _plots(everything, summary)
    cells = "".join(f'<div class="plot"><h3>{html.escape(name)}</h3><div></div></div>' for name in plots)
    scripts = (
        f"const STRUCTURES = {_script_json(structures)};\n"
        f"const COLOURS = {_script_json(_colours(everything[index] for index in order))};\n"
        f"const PLOTS = {_script_json(list(plots.values()))};\n{_asset('viewer.js')}"
    )
    page = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)}</title>
<style>{_asset("report.css")}</style>
{_plotly_script()}
</head>
<body>
<main>
<h1>{html.escape(title)}</h1>
<p class="lead">{html.escape(subtitle or _count(everything))}</p>
{_tiles(summary)}
{galleries}
<h2>Distributions</h2>
<div class="plots">{cells}</div>
{_footer(summary)}
</main>
<dialog><canvas tabindex="0"></canvas><p></p></dialog>
<script>{scripts}</script>
</body>
</html>
"""
    Path(path).write_text(page, encoding="utf-8")


def _asset(name: str) -> str:
    return files("adit.eval").joinpath("assets", name).read_text(encoding="utf-8")


def _script_json(value: Any) -> str:
    """JSON that cannot end the script element around it."""
    return json.dumps(value, separators=(",", ":")).replace("</", "<\\/")


def _count(systems: list[AtomicSystem]) -> str:
    crystals = sum(system.is_periodic for system in systems)
    parts = [(len(systems) - crystals, "molecule"), (crystals, "crystal")]
    return " and ".join(f"{n:,} {name}{'' if n == 1 else 's'}" for n, name in parts if n) or "no structures"


def _structure(system: AtomicSystem) -> dict[str, Any]:
    drawing = draw(system)
    return {
        "z": drawing.numbers.tolist(),
        "x": drawing.positions.round(3).tolist(),
        "r": drawing.radii.round(3).tolist(),
        "b": drawing.bonds.tolist(),
        "e": drawing.edges.round(3).tolist(),
        "R": round(drawing.radius, 3),
    }


def _colours(systems: Any) -> dict[int, list[int]]:
    from ase.data.colors import jmol_colors

    numbers = sorted({number for system in systems for number in system.numbers.tolist()})
    return {number: (255 * jmol_colors[number]).round().astype(int).tolist() for number in numbers}


def _tiles(summary: Summary) -> str:
    groups: list[tuple[str, str, list[tuple[str, str]]]] = []
    if (m := summary.molecules) is not None:
        figures = [
            ("valid", percent(m.valid)),
            ("unique of valid", percent(m.unique)),
            ("connected", percent(m.connected)),
            ("stable atoms", percent(m.atom_stability)),
            ("stable molecules", percent(m.molecule_stability)),
            ("atoms on average", f"{m.mean_atoms:.1f}"),
        ]
        groups.append(("Molecules", f"{m.count:,}", figures))
    if (c := summary.crystals) is not None:
        figures = [
            ("valid, both", percent(c.valid)),
            ("valid structure", percent(c.structural)),
            ("valid composition", percent(c.compositional)),
            ("unique of valid structure", percent(c.unique)),
            ("atoms a cell on average", f"{c.mean_atoms:.1f}"),
        ]
        groups.append(("Crystals", f"{c.count:,}", figures))
    return "".join(
        f'<h2>{name}<small>{count}</small></h2><div class="tiles">'
        + "".join(f'<div class="tile"><b>{value}</b><span>{label}</span></div>' for label, value in figures)
        + "</div>"
        for name, count, figures in groups
    )


def _gallery(name: str, entries: list[tuple[AtomicSystem, bool, str]], total: int) -> str:
    which = "all of them" if len(entries) == total else f"the first {len(entries)} of {total:,}, unselected"
    cards = []
    for system, valid, note in entries:
        formula = re.sub(r"(\d+)", r"<sub>\1</sub>", html.escape(label(system)))
        mark = '<span class="mark good">valid</span>' if valid else '<span class="mark bad">invalid</span>'
        cards.append(
            f'<figure class="structure"><canvas tabindex="0" aria-label="{html.escape(label(system))}, drag to turn">'
            f'</canvas><button type="button" title="Enlarge" aria-label="Enlarge">&#x2922;</button><figcaption>{mark}'
            f'<span class="formula">{formula}</span><span class="note" title="{html.escape(note)}">'
            f"{html.escape(note) or f'{len(system)} atoms'}</span></figcaption></figure>"
        )
    hint = "drag to turn, double-click to reset"
    return f'<h2>{name} in 3D<small>{which}; {hint}</small></h2><div class="grid">{"".join(cards)}</div>'


def _plotly_script() -> str:
    from plotly.offline import get_plotlyjs

    return f"<script>{get_plotlyjs()}</script>"


def _plots(systems: list[AtomicSystem], summary: Summary) -> dict[str, dict[str, Any]]:
    """Figures by title."""
    parts = [
        (name, colour, [system for system in systems if system.is_periodic is periodic])
        for name, colour, periodic in (("molecules", _MOLECULE, False), ("crystals", _CRYSTAL, True))
    ]
    parts = [part for part in parts if part[2]]
    sizes = [
        {"type": "bar", "name": name, "marker": {"color": colour}, **_histogram([len(system) for system in part])}
        for name, colour, part in parts
    ]
    plots = {"Atoms in a structure": _plot(sizes, x="atoms", y="structures")}
    for name, colour, part in parts:
        plots[f"Elements in {name}"] = _plot([_elements(part, colour)], y="atoms")
    plots["Validity"] = _plot(_shares(summary), share=True)
    return plots


def _histogram(values: list[int]) -> dict[str, list[int]]:
    counts = Counter(values)
    keys = sorted(counts)
    return {"x": keys, "y": [counts[key] for key in keys]}


def _elements(systems: list[AtomicSystem], colour: str) -> dict[str, Any]:
    numbers = np.concatenate([system.numbers for system in systems])
    common = Counter(numbers.tolist()).most_common(_MAX_ELEMENTS)
    symbols = [SYMBOLS[number] for number, _ in common]
    return {"type": "bar", "x": symbols, "y": [count for _, count in common], "marker": {"color": colour}}


def _shares(summary: Summary) -> list[dict[str, Any]]:
    rows: list[tuple[str, float, str]] = []
    if (m := summary.molecules) is not None:
        rows += [("valid", m.valid, _MOLECULE), ("unique of valid", m.unique, _MOLECULE)]
        rows += [("stable atoms", m.atom_stability, _MOLECULE), ("stable molecules", m.molecule_stability, _MOLECULE)]
    if (c := summary.crystals) is not None:
        rows += [("valid structure", c.structural, _CRYSTAL), ("valid composition", c.compositional, _CRYSTAL)]
        rows += [("unique crystals", c.unique, _CRYSTAL)]
    rows.reverse()
    known = [(label, share, colour) for label, share, colour in rows if share == share]
    return [
        {
            "type": "bar",
            "orientation": "h",
            "y": [label for label, _, _ in known],
            "x": [share for _, share, _ in known],
            "text": [percent(share) for _, share, _ in known],
            "textposition": "auto",
            "insidetextfont": {"color": "#ffffff"},
            "marker": {"color": [colour for _, _, colour in known]},
        }
    ]


def _plot(traces: list[dict[str, Any]], *, x: str = "", y: str = "", share: bool = False) -> dict[str, Any]:
    """A figure for Plotly.newPlot: transparent, in colours that read on light and dark."""
    grid = {"gridcolor": "rgba(128,134,144,0.2)", "zerolinecolor": "rgba(128,134,144,0.35)", "automargin": True}
    across = (
        {"tickformat": ".0%", "range": [0, 1], "tickvals": [0, 0.25, 0.5, 0.75, 1]} if share else {"showgrid": False}
    )
    layout = {
        "height": 300,
        "margin": {"l": 52, "r": 14, "t": 14, "b": 44},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "Inter, Segoe UI, system-ui, sans-serif", "size": 12, "color": "#7d8797"},
        "bargap": 0.18,
        "showlegend": len(traces) > 1,
        "legend": {"orientation": "h", "x": 1, "xanchor": "right", "y": 1.08},
        "xaxis": {"title": {"text": x}, **grid, **across},
        "yaxis": {"title": {"text": y}, **grid},
    }
    return {"data": traces, "layout": layout}


def _footer(summary: Summary) -> str:
    lines = ["Written by adit (all-atom diffusion transformer), offline, from the samples named above."]
    if summary.molecules is not None:
        lines.append(
            "Molecules: valid means that bonds inferred from the positions alone (adit.bonds) give a "
            "largest fragment that RDKit sanitises, without unpaired electrons; stable means the right valences by the "
            "bond-length tables of EDM (arXiv 2203.17003)."
        )
    if summary.crystals is not None:
        lines.append(
            "Crystals: a valid structure has no two atoms nearer than 0.5 Å and a cell of at least 0.1 Å³; a valid "
            "composition passes SMACT's test of charge neutrality and electronegativity; unique by pymatgen's "
            "StructureMatcher (stol 0.5, ltol 0.3, angle_tol 10)."
        )
    return "<footer>" + "".join(f"<p>{html.escape(line)}</p>" for line in lines) + "</footer>"
