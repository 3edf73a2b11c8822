"""The outcomes of `benches/recipe.py` as lines of a CSV file and as the tables of docs/recipe.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from quality.choices import CHOICES, Choice

Outcomes = Mapping[str, Mapping[str, Any]]
"""What `benches/recipe.py` kept of each choice, by its name: `figures` holds (value, low, high) by name."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One figure of one run; see `Choice` for the first names.

    Attributes:
        minutes: the budget; NaN if it was a number of steps.
        seconds: that were trained.
        low, high: of the 95 % interval over samples; NaN for what is not measured on samples.
    """

    name: str
    stage: str
    what: str
    value: str
    minutes: float
    seconds: float
    steps: int
    samples: int
    figure: str
    result: float
    low: float
    high: float


@dataclass(frozen=True)
class Column:
    """Of a table.

    Attributes:
        figure: its name.
        heading: in the table, and in words on what is better.
        better: +1 if more is better, -1 if less is, 0 if the column is not compared.
        percent: the figure is a share.
    """

    figure: str
    heading: str
    better: int
    percent: bool = True


DIT = (
    Column("molecule/unexplained", "error of molecules", -1, False),
    Column("crystal/unexplained", "error of crystals", -1, False),
    Column("molecule/stable_atoms", "stable atoms", 1),
    Column("molecule/stable", "stable molecules", 0),
    Column("molecule/valid", "valid molecules", 0),
    Column("molecule/valid_unique_novel", "V.U.N. molecules", 1),
    Column("crystal/structural", "structurally valid crystals", 0),
    Column("crystal/compositional", "compositionally", 0),
    Column("crystal/valid", "valid crystals", 1),
    Column("crystal/valid_unique_novel", "V.U.N. crystals", 1),
)
VAE = (
    Column("molecule/accuracy", "right types, molecules", 0),
    Column("molecule/rmsd", "RMSD of molecules / Å", -1, False),
    Column("crystal/accuracy", "right types, crystals", 0),
    Column("crystal/rmsd", "RMSD of crystals / Å", -1, False),
    Column("crystal/match_rate", "match rate", 1),
    Column("molecule/stable_atoms@0.0", "stable atoms without noise", 1),
    Column("molecule/stable_atoms@0.1", "at 10 % noise", 1),
    Column("molecule/stable_atoms@0.2", "at 20 % noise", 1),
)
TABLES = (
    ("Stage 2", ("dit", "weights"), DIT),
    ("Guidance, samples of the baseline's weights", ("sampling",), DIT[2:]),
    ("Stage 1", ("vae",), VAE),
    ("Stage 2 on autoencoders of stage 1", ("dit on vae",), DIT[2:]),
)
"""Title, stages, columns."""
SEEDS = {"dit": ("base", "base-1", "base-2"), "vae": ("vae-base", "vae-base-1", "vae-base-2")}
"""Runs of the baseline, by what is compared with them."""
COMPARED_WITH = {"dit": "dit", "weights": "dit", "sampling": "dit", "vae": "vae"}


def lines(found: Outcomes) -> list[Line]:
    """Every figure of every run."""
    return [
        Line(
            name=name, stage=CHOICES[name].stage, what=CHOICES[name].what, value=CHOICES[name].value,
            figure=figure, result=result, low=low, high=high,
            **{key: outcome[key] for key in ("minutes", "seconds", "steps", "samples")},
        )
        for name, outcome in found.items()
        for figure, (result, low, high) in outcome["figures"].items()
    ]  # fmt: skip


def compared(name: str, found: Outcomes, columns: Sequence[Column]) -> str:
    """In which columns a run differs from the baseline by more than chance.

    That is: from the mean of the baseline's seeds (other averages and samples of the first seed's weights: from that
    seed) by more than the largest difference between two of them, and by more than half of the run's own 95 % interval
    over samples. It also says where a run came to fewer or more steps than all seeds. "-" where there are not two seeds
    to compare with.
    """
    kind = COMPARED_WITH.get(CHOICES[name].stage, "")
    seeds = [found[seed]["figures"] for seed in SEEDS.get(kind, ()) if seed in found]
    same = SEEDS[kind][0] if CHOICES[name].stage in ("weights", "sampling") else ""
    if len(seeds) < 2 or name in SEEDS[kind] or (same and same not in found):
        return "-"
    figures = found[name]["figures"]
    better: list[str] = []
    worse: list[str] = []
    for column in columns:
        if not column.better or column.figure not in figures:
            continue
        value, low, high = figures[column.figure]
        of_seeds = [figures[column.figure][0] for figures in seeds]
        chance = max(np.ptp(of_seeds), 0.0 if np.isnan(low) else (high - low) / 2)
        gain = column.better * (value - (found[same]["figures"][column.figure][0] if same else np.mean(of_seeds)))
        if abs(gain) > chance:
            (better if gain > 0 else worse).append(column.heading)
    steps, others = found[name]["steps"], [found[seed]["steps"] for seed in SEEDS[kind] if seed in found]
    pace = ", in fewer steps" if steps < min(others) else ", in more steps" if steps > max(others) else ""
    parts = [f"{word}{pace}: {', '.join(names)}" for word, names in (("better", better), ("worse", worse)) if names]
    return "; ".join(parts) or "no difference seen"


def cell(column: Column, figures: Mapping[str, Sequence[float]]) -> str:
    """A figure, and its interval where it has one that is compared."""
    if column.figure not in figures:
        return "-"
    value, low, high = figures[column.figure]
    if not column.percent:
        return f"{value:.3f}"
    interval = f" ({100 * low:.1f} to {100 * high:.1f})" if column.better and not np.isnan(low) else ""
    return f"{100 * value:.1f} %{interval}"


def table(found: Outcomes, stages: Sequence[str], columns: Sequence[Column]) -> str:
    """Runs of these stages, those of one choice together, the baseline first; "" if there is none."""
    names = [name for name in found if CHOICES[name].stage in stages]
    whats = list(dict.fromkeys(CHOICES[name].what for name in CHOICES))
    names.sort(key=lambda name: whats.index(CHOICES[name].what))
    if not names:
        return ""
    compare = any(stage in COMPARED_WITH for stage in stages)
    headings = ["choice", "", "steps", *(column.heading for column in columns), *["against the baseline"] * compare]
    out = [f"| {' | '.join(headings)} |", "|" + "---|" * len(headings)]
    before = ""
    for name in names:
        choice: Choice = CHOICES[name]
        cells = [choice.what if choice.what != before else "", choice.value, f"{found[name]['steps']:,}",
                 *(cell(column, found[name]["figures"]) for column in columns),
                 *[compared(name, found, columns)] * compare]  # fmt: skip
        before = choice.what
        out.append(f"| {' | '.join(cells)} |")
    return "\n".join(out)


def markdown(found: Outcomes, about: Mapping[str, str]) -> str:
    """The tables for the docs, and what is missing."""
    some = next(iter(found.values()))
    budget = f"{some['steps']} steps" if np.isnan(some["minutes"]) else f"{some['minutes']:g} CPU minutes"
    parts = [
        f"Measured {about['date']} on {about['machine']}, {about['threads']} thread, matrix products in "
        f"{about['products']}, torch {about['torch']}, commit {about['commit']}; {budget} of "
        f"training and {some['samples']} molecules and crystals for each run."
    ]
    for title, stages, columns in TABLES:
        if text := table(found, stages, columns):
            parts += [f"**{title}**", text]
    if missing := [name for name in CHOICES if name not in found]:
        names = ", ".join(f"`{name}`" for name in missing)
        parts.append(f"Not measured yet: {names} (the same command runs them).")
    return "\n\n".join(parts)
