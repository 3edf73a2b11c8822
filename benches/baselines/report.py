"""The measurements as a table on the terminal, as CSV, as plots and inside docs/benchmarks.md."""

from __future__ import annotations

import csv
import platform
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from baselines.timing import Bench


@dataclass(frozen=True, kw_only=True)
class Row:
    """One network on one workload with one number of evaluations.

    Attributes:
        workload, network, source: names.
        parameters: of the network.
        gflop: of one evaluation of 64 systems of the mean size, guidance included.
        evaluations: for one sample.
        batch: systems in the batch of `milliseconds`.
        milliseconds: of one evaluation of that batch, run as published.
        decoding: seconds for 10,000 samples, in the following two included.
        seconds: for 10,000 samples, run as published.
        best: how it is fastest.
        best_seconds: for 10,000 samples, run like that.
        ratio, best_ratio: of both to ours, end to end.
        note: what failed or limits the comparison.
    """

    workload: str
    network: str
    source: str
    parameters: int
    gflop: float
    evaluations: int
    batch: int
    milliseconds: float
    decoding: float
    seconds: float
    best: str
    best_seconds: float
    ratio: float = float("nan")
    best_ratio: float = float("nan")
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Point:
    """One point of a plot: network seconds for 10,000 samples at a size and a batch."""

    network: str
    against: str
    atoms: int
    batch: int
    seconds: float


def machine(bench: Bench) -> dict[str, str]:
    """What was measured on, with which versions."""
    here = Path(__file__).parent
    describe = ["git", "-C", str(here), "describe", "--always", "--dirty", "--exclude", "*"]
    commit = subprocess.run(describe, capture_output=True, text=True, check=False).stdout.strip()
    return {
        "date": date.today().isoformat(),
        "machine": torch.cuda.get_device_name() if bench.device.type == "cuda" else processor(),
        "device": bench.device.type,
        "threads": str(torch.get_num_threads()),
        "products": "bfloat16" if bench.bf16 else "float32",
        "compile": "tried" if bench.compiles else "not tried",
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "commit": commit or "unknown",
    }


def processor() -> str:
    """The CPU's name where the system says it, else its architecture."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]} ({len(names)} cores)" if names else platform.processor() or platform.machine()


HEADINGS = (
    "network", "parameters", "GFLOP per evaluation", "evaluations", "ms per evaluation", "s per 10,000",
    "best s per 10,000", "best way", "ratio to ours", "ratio at best",
)  # fmt: skip


def cells(row: Row) -> list[str]:
    """A row of the table, as text."""
    return [
        row.network,
        f"{row.parameters / 1e6:.2f} M",
        f"{row.gflop:.0f}",
        f"{row.evaluations:,}",
        f"{row.milliseconds:,.1f}",
        seconds(row.seconds),
        seconds(row.best_seconds),
        row.best + (f"; {row.note}" if row.note else ""),
        f"{row.ratio:.2f}" if row.ratio < 10 else f"{row.ratio:,.0f}",
        f"{row.best_ratio:.2f}" if row.best_ratio < 10 else f"{row.best_ratio:,.0f}",
    ]


def seconds(took: float) -> str:
    return f"{took:,.0f}" if took >= 20 else f"{took:.1f}"


def by_workload(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Rows of each workload, in their order."""
    out: dict[str, list[Row]] = {}
    for row in rows:
        out.setdefault(row.workload, []).append(row)
    return out


def print_tables(rows: Sequence[Row], console: Console) -> None:
    """One table for each workload."""
    for title, some in by_workload(rows).items():
        table = Table(title=f"{title}, evaluations of {some[0].batch} systems", title_justify="left")
        for k, heading in enumerate(HEADINGS):
            table.add_column(heading, justify="left" if k in (0, 7) else "right")
        for row in some:
            table.add_row(*cells(row))
        console.print(table)


def write_csv(path: Path, rows: Sequence[Any], about: dict[str, str]) -> None:
    """All fields of the rows, and the machine in each line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*asdict(rows[0]), *about], lineterminator="\n")
        writer.writeheader()
        for row in rows:
            values = {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in asdict(row).items()}
            writer.writerow({**values, **about})


def markdown(rows: Sequence[Row], about: dict[str, str]) -> str:
    """The tables for the docs."""
    parts = [
        f"Measured {about['date']} on {about['machine']}, {about['device']}, {about['threads']} threads, matrix "
        f"products in {about['products']}, torch {about['torch']}, Python {about['python']}, commit {about['commit']}."
    ]
    if about["compile"] != "tried":
        parts[0] += " torch.compile was not tried."
    for title, some in by_workload(rows).items():
        lines = [f"**{title}**, evaluations of {some[0].batch} systems", ""]
        lines += [f"| {' | '.join(HEADINGS)} |", "|" + "---|" * len(HEADINGS)]
        lines += [f"| {' | '.join(cells(row))} |" for row in some]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def fill(path: Path, name: str, text: str) -> None:
    """Replaces what stands between the two markers `name` of a document.

    Raises:
        SystemExit: the markers are not there.
    """
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    whole = path.read_text()
    if begin not in whole or end not in whole.split(begin, 1)[1]:
        raise SystemExit(f"{path} has no place for the tables: it needs the lines {begin} and {end}")
    before, rest = whole.split(begin, 1)
    path.write_text(f"{before}{begin}\n{text}\n{end}{rest.split(end, 1)[1]}")


def plot(path: Path, points: Sequence[Point], against: str, about: dict[str, str]) -> None:
    """Network seconds for 10,000 samples against "atoms" or "batch", logarithmic."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    some = [point for point in points if point.against == against]
    for name in dict.fromkeys(point.network for point in some):
        mine = [point for point in some if point.network == name]
        own = name.startswith("adit")
        axes.plot(
            [getattr(point, against) for point in mine],
            [point.seconds for point in mine],
            marker="o",
            linewidth=2.5 if own else 1.2,
            linestyle="-" if own else "--",
            label=name,
        )
    fixed = f"batch {some[0].batch}" if against == "atoms" else f"{some[0].atoms} atoms"
    axes.set(xscale="log", yscale="log")
    axes.set_xlabel({"atoms": "atoms in a molecule", "batch": "molecules in a batch"}[against])
    axes.set_ylabel(f"seconds for 10,000 samples, networks alone, {fixed}")
    ticks = sorted({getattr(point, against) for point in some})
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_title(f"{about['machine']}, {about['threads']} threads, {about['date']}", fontsize=9)
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def say(text: str) -> None:
    """Progress, on stderr."""
    print(text, file=sys.stderr, flush=True)
