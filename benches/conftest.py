"""After `make bench`: one table, ours and each peer side by side, and the same as CSV in benches/results."""

from __future__ import annotations

import csv
import platform
import subprocess
from collections import defaultdict
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import pytest

LIBRARIES = ("numpy", "torch", "rdkit", "pymatgen", "ase", "vesin", "matscipy", "spglib", "moyopy", "smact")
RESULTS = Path(__file__).parent / "results"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    session = getattr(config, "_benchmarksession", None)
    benches = [bench for bench in session.benchmarks if not bench.has_error] if session else []
    if not benches:
        return
    groups: dict[str, list[Any]] = defaultdict(list)
    for bench in benches:
        groups[bench.group or bench.name].append(bench)
    rows = [row for name, members in groups.items() for row in _rows(name, members)]
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / "bench.csv"
    with path.open("w", newline="") as handle:
        handle.writelines(f"# {line}\n" for line in _machine())
        writer = csv.DictWriter(handle, ["what", "who", "ms", "times_ours"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    terminalreporter.section("side by side: least time of each, and its ratio to ours")
    for row in rows:
        terminalreporter.write_line(f"{row['what']:60} {row['who']:44} {row['ms']:>12} ms {row['times_ours']:>8}")
    terminalreporter.write_line(f"written to {path}")


def _rows(group: str, members: list[Any]) -> list[dict[str, str]]:
    """Ours first (the name holds "adit"); the least time, because other programs only ever add to it."""
    ours = [bench.stats.min for bench in members if "adit" in bench.name]
    members = sorted(members, key=lambda bench: ("adit" not in bench.name, bench.stats.min))
    return [
        {
            "what": group,
            "who": bench.name.removeprefix("test_"),
            "ms": f"{1000 * bench.stats.min:.4g}",
            "times_ours": f"{bench.stats.min / min(ours):.2f}" if ours else "",
        }
        for bench in members
    ]


def _machine() -> list[str]:
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, cwd=RESULTS.parent, check=False
    ).stdout.strip()
    installed = {each.metadata["Name"].lower(): each.version for each in distributions()}
    versions = [f"{name} {installed[name]}" for name in LIBRARIES if name in installed]
    return [
        f"machine: {_processor()}, {platform.system()} {platform.machine()}, Python {platform.python_version()}",
        f"versions: {', '.join(versions)}",
        f"commit: {commit}",
    ]


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return platform.processor()
    names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return f"{names[0]}, {len(names)} cores" if names else platform.processor()
