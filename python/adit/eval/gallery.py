"""Pictures of structures on a page, to turn by hand: cards for `assets/viewer.js`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from adit.eval.drawing import draw, label
from adit.eval.selection import Selection, numbers, reasons

if TYPE_CHECKING:
    from adit.eval.results import Evaluation, Kind
    from adit.system import AtomicSystem

_LETTERS = 240


def galleries(kind: Kind, chosen: Selection, evaluation: Evaluation, systems: Sequence[AtomicSystem]) -> str:
    asked = "valid by all that judged, nothing against them, no repeats"
    if evaluation.reference is not None and evaluation.reference[kind]:
        asked += ", novel"
    lowest, highest = (f", {word} {chosen.energy} first" if chosen.energy else "" for word in ("lowest", "highest"))
    parts = [
        ("The best", chosen.best, asked + lowest),
        ("The worst", chosen.worst, f"invalid by most, then with most against them{highest}"),
        ("Other", chosen.others, "drawn at random from the rest"),
    ]
    made = ""
    for name, places, words in parts:
        if not places and name == "Other":
            continue
        cards = "".join(_card(systems[place], evaluation.rows[place], chosen.energy) for place in places)
        shown = f"{len(places)} of {chosen.total:,}" if places else "none"
        made += f"<h2>{name} {kind}<small>{shown}: {escape(words)}</small></h2>"
        made += f'<div class="grid">{cards}</div>' if places else ""
    return made


def _card(system: AtomicSystem, row: dict[str, Any], energy: str) -> str:
    name = escape(label(system))
    formula = re.sub(r"(\d+)", r"<sub>\1</sub>", name)
    verdicts = [bool(verdict["valid"]) for verdict in row["protocols"].values() if "valid" in verdict]
    mark, words = ("good", "valid") if all(verdicts) else ("part", f"valid by {sum(verdicts)} of {len(verdicts)}")
    if not any(verdicts):
        mark, words = "bad", "invalid"
    smiles = next((verdict["smiles"] for verdict in row["protocols"].values() if verdict.get("smiles")), "")
    values = {column: value for column, value in numbers(row) if column == energy}
    facts = [smiles or f"{row['atoms']} atoms", *(f"{column} {value:.3g}" for column, value in values.items())]
    why = "".join(f"<li>{escape(clip(reason))}</li>" for reason in reasons(row))
    return (
        f'<figure class="structure"><canvas tabindex="0" aria-label="{name}, drag to turn"></canvas>'
        '<button type="button" title="Enlarge" aria-label="Enlarge">&#x2922;</button><figcaption>'
        f'<span class="mark {mark}">{words}</span><span class="formula">{formula}</span>'
        f'<span class="note" title="{escape(clip(row["entry"]))}">{escape(clip(row["entry"]))}</span>'
        f'<span class="note full">{escape(clip("; ".join(facts)))}</span>'
        f"{f'<ul>{why}</ul>' if why else ''}</figcaption></figure>"
    )


def structure(system: AtomicSystem) -> dict[str, Any]:
    drawing = draw(system)
    return {
        "z": drawing.numbers.tolist(),
        "x": drawing.positions.round(3).tolist(),
        "r": drawing.radii.round(3).tolist(),
        "b": drawing.bonds.tolist(),
        "e": drawing.edges.round(3).tolist(),
        "R": round(drawing.radius, 3),
    }


def colours(systems: Sequence[AtomicSystem]) -> dict[int, list[int]]:
    from ase.data.colors import jmol_colors

    numbers = sorted({number for system in systems for number in system.numbers.tolist()})
    return {number: (255 * jmol_colors[number]).round().astype(int).tolist() for number in numbers}


def clip(text: str) -> str:
    return text if len(text) <= _LETTERS else text[: _LETTERS - 3] + "..."
