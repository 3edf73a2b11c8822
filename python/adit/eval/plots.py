"""Figures of an evaluation for Plotly: plain dicts, small whatever the number of structures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from adit.elements import SYMBOLS
from adit.eval.quantities import bond_name, crystal_statistics, molecule_statistics
from adit.eval.selection import numbers
from adit.packing import pack, take

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from adit.eval.quantities import ByType, CrystalStatistics, MoleculeStatistics
    from adit.eval.reference import Reference
    from adit.eval.results import Evaluation, Kind, Metric
    from adit.packing import Packed
    from adit.system import AtomicSystem

Figures: TypeAlias = "dict[str, dict[str, Any]]"
"""By title: data and layout for `Plotly.newPlot`."""

REFERENCE_SAMPLE: Mapping[Kind, int] = {"molecules": 5_000, "crystals": 2_000}
"""Structures of a reference whose distributions are shown: enough for a histogram; space groups take time."""
_COLOURS: Mapping[Kind, str] = {"molecules": "#3b82c4", "crystals": "#d98a3d"}
_GREY, _DARK = "#8a94a6", "#555c68"
_BARS, _BINS, _TYPES = 30, 60, 6
_HUGE = 1e100  # so that widths of bins are finite
_SHOWN = frozenset(("atoms", "spacegroup"))  # columns with figures of their own


def figures(
    evaluation: Evaluation, systems: Sequence[AtomicSystem], kind: Kind, reference: Reference | None
) -> Figures:
    """All of one kind: shares with intervals, distributions, and a histogram of each column of numbers in the rows.

    Args:
        evaluation: of `systems`.
        systems: those that can be read, one for each row.
        kind: of what.
        reference: whose distributions stand beside those of the samples.
    """
    places = [place for place, row in enumerate(evaluation.rows) if row["kind"] == kind]
    rows, part = [evaluation.rows[place] for place in places], [systems[place] for place in places]
    known = _known(reference, kind, evaluation.seed)
    made: Figures = {}
    if shares := [metric for metric in evaluation.metrics if metric.kind == kind and metric.unit == "share"]:
        made[f"Shares of {kind}, with intervals"] = _shares(shares, _COLOURS[kind])
    if kind == "molecules":
        made |= _molecules([molecule_statistics(held) for held in (part, *known)])
    else:
        groups = np.array([row["spacegroup"] for row in rows], dtype=np.int64)
        made |= _crystals([crystal_statistics(part, groups=groups), *map(crystal_statistics, known)])
    columns: dict[str, list[float]] = {}
    for row in rows:
        for name, value in numbers(row):
            columns.setdefault(name, []).append(value)
    for name, values in columns.items():
        if name not in _SHOWN:
            made[f"{name} of {kind}"] = _histogram([np.array(values)], _COLOURS[kind], name)
    return made


def _known(reference: Reference | None, kind: Kind, seed: int) -> list[Packed]:
    """Some structures of the reference; nothing if it has none of this kind."""
    if reference is None:
        return []
    places = reference.molecules_3d if kind == "molecules" else reference.crystals
    if not len(places):
        return []
    drawn = np.random.default_rng(seed).permutation(places)[: REFERENCE_SAMPLE[kind]]
    return [take(pack(reference.data), np.sort(drawn))]


def _molecules(sets: Sequence[MoleculeStatistics]) -> Figures:
    """Of the samples, and of the reference if there is one."""
    colour, none = _COLOURS["molecules"], np.zeros(0)
    made = {
        "Atoms in a molecule": _histogram([held.sizes for held in sets], colour, "atoms"),
        "Elements in molecules": _categories([held.elements for held in sets], SYMBOLS, colour, ("", "atoms")),
    }
    for key in _common(sets[0].lengths):
        lengths = [held.lengths.get(key, none) for held in sets]
        made[f"{bond_name(key)} bonds"] = _histogram(lengths, colour, "Å", of="bonds")
    return made


def _crystals(sets: Sequence[CrystalStatistics]) -> Figures:
    """As `_molecules`."""
    colour = _COLOURS["crystals"]
    groups = [np.bincount(held.spacegroups, minlength=231) for held in sets]
    names = ["none", *map(str, range(1, 231))]
    return {
        "Atoms in a cell": _histogram([held.sizes for held in sets], colour, "atoms"),
        "Elements in crystals": _categories([held.elements for held in sets], SYMBOLS, colour, ("", "atoms")),
        "Different elements in a crystal": _histogram([held.n_elements for held in sets], colour, "elements"),
        "Density": _histogram([held.densities for held in sets], colour, "g/cm³"),
        "Volume of an atom": _histogram([held.volumes for held in sets], colour, "Å³"),
        "Space groups": _categories(groups, names, colour, ("space group", "crystals")),
    }


def _common(groups: ByType) -> list[tuple[int, int, int]]:
    return sorted(groups, key=lambda key: (-len(groups[key]), key))[:_TYPES]


def _categories(
    counts: Sequence[NDArray[np.int64]], names: Sequence[str], colour: str, titles: tuple[str, str]
) -> dict[str, Any]:
    """Shares of what is most frequent among the samples or in the reference, side by side."""
    both = [part / max(part.sum(), 1) for part in counts]
    order = np.argsort(-np.max(both, axis=0), kind="stable")[:_BARS]
    order = order[np.max(both, axis=0)[order] > 0]
    labels = [names[place] for place in order.tolist()]
    traces = [
        {"type": "bar", "name": name, "x": labels, "y": _rounded(shares[order]), "marker": {"color": tone}}
        for shares, name, tone in zip(both, ("samples", "reference"), (colour, _GREY), strict=False)
    ]
    plot = _plot(traces, x=titles[0], y=f"share of {titles[1]}")
    plot["layout"]["xaxis"]["type"] = "category"
    return plot


def _histogram(sets: Sequence[NDArray[Any]], colour: str, unit: str, of: str = "structures") -> dict[str, Any]:
    """Shares in up to 60 bins, that of the reference as a line; the hundredths at both ends go into the outer bins."""
    values = [np.asarray(part, dtype=np.float64) for part in sets]
    values = [part[np.isfinite(part)].clip(-_HUGE, _HUGE) for part in values]
    whole = all((part == np.rint(part)).all() for part in values)
    edges = _edges(np.concatenate([_core(part) for part in values]), whole)
    middles, width = (edges[:-1] + edges[1:]) / 2, float(edges[1] - edges[0])
    heights = [np.histogram(np.clip(part, edges[0], edges[-1]), edges)[0] / max(len(part), 1) for part in values]
    traces: list[dict[str, Any]] = [
        {"type": "bar", "name": "samples", "x": _rounded(middles), "y": _rounded(heights[0]), "width": width,
         "marker": {"color": colour, "line": {"width": 0}}}
    ]  # fmt: skip
    if len(heights) > 1:
        traces.append(
            {"type": "scatter", "mode": "lines", "name": "reference", "x": _rounded(middles), "y": _rounded(heights[1]),
             "line": {"color": _GREY, "width": 2, "shape": "hvh"}}
        )  # fmt: skip
    return _plot(traces, x=unit, y=f"share of {of}")


def _core(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The smallest and the largest without the outer hundredths, if these are far out."""
    if not len(values):
        return values
    low, first, last, high = np.quantile(values, [0, 0.01, 0.99, 1])
    reach = last - first
    ends = (low if first - low <= reach else first, high if high - last <= reach else last)
    return np.array(ends)


def _edges(ends: NDArray[np.float64], whole: bool) -> NDArray[np.float64]:
    low, high = (float(ends.min()), float(ends.max())) if len(ends) else (0.0, 1.0)
    if whole:
        step = max(1, math.ceil((high - low + 1) / _BINS))
        return np.arange(math.floor(low) - 0.5, math.ceil(high) + step + 0.5, step)
    if not high - low > 1e-9 * max(abs(low), abs(high), 1e-3):
        low, high = low - 0.5 * max(abs(low), 1), high + 0.5 * max(abs(high), 1)
    return np.linspace(low, high, _BINS + 1)


def _shares(metrics: Sequence[Metric], colour: str) -> dict[str, Any]:
    """Bars with their intervals, the first on top."""
    known = [metric for metric in reversed(metrics) if math.isfinite(metric.value)]
    spans = [(0.0, 0.0) if math.isnan(m.low) else (m.high - m.value, m.value - m.low) for m in known]
    trace = {
        "type": "bar",
        "orientation": "h",
        "y": [f"{metric.protocol}: {metric.name}" if metric.protocol else metric.name for metric in known],
        "x": _rounded([metric.value for metric in known]),
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": _rounded([up for up, _ in spans]),
            "arrayminus": _rounded([down for _, down in spans]),
            "color": _DARK,
        },
        "marker": {"color": colour},
    }
    plot = _plot([trace])
    plot["layout"]["height"] = max(300, 60 + 20 * len(known))
    plot["layout"]["xaxis"] |= {"tickformat": ".0%", "range": [0, 1.02], "showgrid": True}
    plot["layout"]["yaxis"] |= {"tickfont": {"size": 11}, "dtick": 1}
    return plot


def _rounded(values: Any) -> list[float]:
    return [float(f"{value:.5g}") for value in np.asarray(values, dtype=np.float64).tolist()]


def _plot(traces: list[dict[str, Any]], *, x: str = "", y: str = "") -> dict[str, Any]:
    """Transparent, in colours that read on light and dark."""
    grid = {"gridcolor": "rgba(128,134,144,0.2)", "zerolinecolor": "rgba(128,134,144,0.35)", "automargin": True}
    layout = {
        "height": 300,
        "margin": {"l": 52, "r": 14, "t": 14, "b": 44},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "Inter, Segoe UI, system-ui, sans-serif", "size": 12, "color": "#7d8797"},
        "bargap": 0.18,
        "showlegend": len(traces) > 1,
        "legend": {"orientation": "h", "x": 1, "xanchor": "right", "y": 1.08},
        "xaxis": {"title": {"text": x}, "showgrid": False, **grid},
        "yaxis": {"title": {"text": y}, "tickformat": ".3~%" if y else "", **grid},
    }
    return {"data": traces, "layout": layout}
