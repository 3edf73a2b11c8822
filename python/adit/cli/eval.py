"""`adit-eval`: judges the molecules and crystals of a file."""

from __future__ import annotations

import json
import os
import time
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adit.cli.common import run
from adit.errors import InvalidInputError

if TYPE_CHECKING:
    from adit.data.packed import PackedDataset
    from adit.eval.molecules import Bonds
    from adit.system import AtomicSystem


class BondChoice(str, Enum):
    rdkit = "rdkit"
    openbabel = "openbabel"
    adit_rust = "adit-rust"


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def evaluate(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="cif, xyz, extxyz, sdf or POSCAR; a folder or zip.")],
    reference: Annotated[
        str | None,
        typer.Option(metavar="NAME_OR_PATH", help="Measure novelty against this: a prepared data set, or a file."),
    ] = None,
    json_path: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="Write the figures as JSON."),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(metavar="FILE.html", help="Write a page with histograms and structures in 3D."),
    ] = None,
    bonds: Annotated[BondChoice, typer.Option(help="How to infer the bonds of molecules.")] = BondChoice.rdkit,
) -> None:
    """Judges generated molecules and crystals: validity, uniqueness, stability and novelty."""
    from adit.convert.files import iread
    from adit.eval.summary import summarise
    from adit.system import AtomicSystem

    for name, file in (("--json", json_path), ("--report", report)):
        if file is not None:
            _check_writable(name, file)
    start = time.perf_counter()
    entries = list(iread(path))
    systems = [entry for entry in entries if isinstance(entry, AtomicSystem)]
    broken = [str(entry) for entry in entries if not isinstance(entry, AtomicSystem)]
    if not systems:
        detail = f": {len(broken)} broken entries, the first: {broken[0]}" if broken else ""
        raise InvalidInputError(f"{path} holds no molecule or crystal that can be read{detail}")
    choice: Bonds = bonds.value
    summary = summarise(systems, choice)
    rows, figures = summary.rows(), summary.to_dict()
    if reference is not None:
        novelty = _novelty(systems, _reference(reference), choice)
        rows += [(f"novel {name}", text) for name, text, _ in novelty]
        for name, _, share in novelty:
            figures[name]["novel"] = share
    if broken:
        rows.append(("unreadable entries", f"{len(broken):,}"))
    seconds = time.perf_counter() - start
    _print_table(path, [*rows, ("seconds", f"{seconds:.1f}")])
    for entry in broken[:5]:
        typer.echo(f"unreadable: {entry}", err=True)
    if json_path is not None:
        result = {"file": str(path), "reference": reference, **figures, "unreadable": broken, "seconds": seconds}
        json_path.write_text(json.dumps(result, indent=1) + "\n")
    if report is not None:
        from adit.eval.report import write_html

        write_html(report, systems, title=path.name, summary=summary)


def _check_writable(option: str, file: Path) -> None:
    """Before the work, not after it."""
    folder = file.resolve().parent
    if not folder.is_dir():
        raise InvalidInputError(f"{option} {file}: the folder {folder} does not exist. Create it first")
    if file.is_dir() or not os.access(file if file.exists() else folder, os.W_OK):
        raise InvalidInputError(f"{option} {file}: cannot be written. Choose another path")


def _novelty(systems: list[AtomicSystem], known: PackedDataset, bonds: Bonds) -> list[tuple[str, str, float | None]]:
    """Kind of system, text for the table, share (None where the reference has none of the kind)."""
    import numpy as np

    from adit.eval.crystals import novel
    from adit.eval.molecules import novelty, validity
    from adit.eval.summary import percent
    from adit.validity import structural

    found: list[tuple[str, str, float | None]] = []
    molecules = [system for system in systems if not system.is_periodic]
    crystals = [system for system in systems if system.is_periodic]
    for name, part, total in (
        ("molecules", molecules, int((~known.periodic).sum())),
        ("crystals", crystals, int(known.periodic.sum())),
    ):
        if not part:
            continue
        if not total:
            found.append((name, f"- (the reference holds no {name})", None))
            continue
        if name == "molecules":
            reference = validity(known.subset(np.flatnonzero(~known.periodic)), bonds)
            share = novelty(validity(part, bonds), {smiles for smiles in reference if smiles is not None})
        else:
            valid = structural(part).sum()
            share = float(novel(part, known).sum() / valid) if valid else float("nan")
        found.append((name, f"{percent(share)} (against {total:,})", None if share != share else share))
    return found


def _reference(name: str) -> PackedDataset:
    """A prepared data set by name or folder, or any file of structures."""
    from adit.convert.files import read
    from adit.data.packed import PackedDataset

    path = Path(name)
    if (path / "meta.json").is_file():
        return PackedDataset.load(path)
    if path.exists():
        return PackedDataset.from_systems(read(path, on_error="warn"))
    from adit.data.prepare import load

    return load(name)


def _print_table(path: Path, rows: list[tuple[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=str(path), title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, value in rows:
        table.add_row(name, str(value))
    Console().print(table)


def main() -> None:
    """Entry point of `adit-eval`."""
    run(app)
