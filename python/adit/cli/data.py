"""adit-data: prepares data sets, and shows what is in them."""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from adit.cli.common import progress_columns, run
from adit.data.base import ReadOptions
from adit.data.packed import SPLITS, PackedDataset
from adit.data.prepare import already_prepared, cache_folder, datasets, load, prepared
from adit.data.prepare import prepare as prepare_dataset
from adit.elements import SYMBOLS

app = typer.Typer(
    help="Prepares data sets of molecules and crystals for training, and shows what is in them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_SHOWN = 20


@app.command()
def prepare(
    name: Annotated[str, typer.Argument(help="qm9, mp20, ... (see `adit-data list`), or any name with --source")],
    source: Annotated[Path | None, typer.Option(help="file or folder to read in place of the official source")] = None,
    out: Annotated[Path | None, typer.Option(help="folder to write; default: the cache")] = None,
    processes: Annotated[int | None, typer.Option(min=1, help="worker processes; default: one for each core")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace what was prepared under this name")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="read only the first N entries (of each split)")] = None,
    conformers: Annotated[int, typer.Option(min=1, help="geom: conformers of lowest energy for each molecule")] = 5,
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="geom: open its pickles, which can run code; only if you trust them")
    ] = False,
) -> None:
    """Reads a data set once and writes it as a packed, memory-mapped cache.

    One that is there is not replaced: what is known by name (`adit-data list`) is left as it is, and that is said;
    your own files under a name that is taken are refused.
    """
    console = Console()
    start = time.perf_counter()
    options = ReadOptions(limit=limit, allow_pickle=allow_pickle, conformers=conformers)
    folder = out if out is not None else cache_folder(name)
    if not overwrite and (there := already_prepared(name, source, out, options)) is not None:
        words = f"{name} is prepared already: {len(there):,} systems{_published(name, there)}"
        console.print(escape(f"{words}, from {there.meta['source']}; --overwrite reads it again"), soft_wrap=True)
        console.print(escape(str(folder)), soft_wrap=True)
        return
    # No refresh thread: the workers are forked from this process.
    with Progress(*progress_columns(), console=Console(stderr=True), transient=True, auto_refresh=False) as bar:
        task = bar.add_task(f"preparing {name}", total=None, rate="")

        def show(done: int, broken: int) -> None:
            rate = f"{done / (time.perf_counter() - start):,.0f}/s" + (f", {broken} broken" if broken else "")
            bar.update(task, completed=done, rate=rate, refresh=True)

        data = prepare_dataset(
            name, source, out, overwrite=overwrite, processes=processes, options=options, progress=show
        )
    for record in data.meta.get("downloads", []):
        state = "as published" if record["checked"] else "no checksum is published; keep this one"
        console.print(f"sha256 {record['sha256']} {escape(record['url'])} ({state})", soft_wrap=True)
    console.print(
        f"{len(data):,} systems{_published(name, data)}, {len(data.numbers):,} atoms, "
        f"{data.meta['skipped']:,} broken entries skipped, {time.perf_counter() - start:.1f} s"
    )
    console.print(escape(_splits(data)), soft_wrap=True)
    console.print(escape(str(folder)), soft_wrap=True)
    if data.meta["skipped"]:
        console.print(escape(f"skipped entries and reasons: {folder / 'report.csv'}"), soft_wrap=True)


@app.command()
def conformers(
    smiles: Annotated[Path, typer.Argument(help="list of SMILES, one a line, or CSV with a column smiles; or .gz")],
    out: Annotated[Path, typer.Option(help="file to write: .sdf, .xyz or .extxyz, for `adit-data prepare`")],
    limit: Annotated[int | None, typer.Option(min=1, help="take only N SMILES")] = None,
    shuffle: Annotated[bool, typer.Option("--shuffle", help="take them in random order")] = False,
    max_atoms: Annotated[int | None, typer.Option(min=1, help="leave out larger molecules")] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="of the order and of the embeddings")] = 0,
    processes: Annotated[int | None, typer.Option(min=1, help="worker processes; default: one for each core")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on with an interrupted run")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace existing files")] = False,
) -> None:
    """Makes one conformer for each SMILES of a list: RDKit's ETKDGv3, relaxed with MMFF94.

    Each is on disk once it is made. Ctrl-C keeps what is finished; the same command with --resume goes on. The exit
    code is 1 if none could be made.
    """
    from adit.data.conformers import make_conformers

    console = Console()
    start = time.perf_counter()
    first: int | None = None
    # No refresh thread: the workers are forked from this process.
    with Progress(*progress_columns(), console=Console(stderr=True), transient=True, auto_refresh=False) as bar:
        task = bar.add_task("conformers", total=None, rate="")

        def show(done: int, failed: int, total: int) -> None:
            nonlocal first
            first = done - 1 if first is None else first
            rate = f"{(done - first) / (time.perf_counter() - start):,.1f}/s" + (f", {failed} failed" if failed else "")
            bar.update(task, completed=done, total=total, rate=rate, refresh=True)

        try:
            made = make_conformers(
                smiles, out, limit=limit, shuffle=shuffle, seed=seed, max_atoms=max_atoms,
                processes=processes, resume=resume, overwrite=overwrite, progress=show,
            )  # fmt: skip
        except KeyboardInterrupt:
            print(f"interrupted: what was made is in {out}; the same command with --resume goes on", file=sys.stderr)
            raise typer.Exit(130) from None
    console.print(
        f"{made.count:,} conformers, {made.failed.total():,} SMILES without, {time.perf_counter() - start:.1f} s"
    )
    for reason, count in made.failed.most_common(_SHOWN):
        console.print(escape(f"  {count:,}: {reason}"), soft_wrap=True)
    console.print(escape(str(out)), soft_wrap=True)
    if made.failed:
        console.print(escape(f"SMILES without a conformer: {made.report}"), soft_wrap=True)
    if not made.count:
        [(reason, count)] = made.failed.most_common(1)
        words = f"no conformer could be made: {reason} ({count:,} of {made.failed.total():,} SMILES)"
        print(f"error: {words}. {smiles} must hold one SMILES a line, or a column smiles", file=sys.stderr)
        raise typer.Exit(1)


@app.command("list")
def list_datasets() -> None:
    """Shows the data sets known by name, and which are prepared."""
    table = Table("name", "what", "licence", "prepared")
    here = prepared()
    for name, spec in datasets().items():
        data = PackedDataset.load(cache_folder(name)) if name in here else None
        ready = "no" if data is None else f"{len(data):,}{_published(name, data)}"
        table.add_row(name, spec.description, spec.licence, ready)
    for name in here:
        if name not in datasets():
            table.add_row(name, "your own files", "", f"{len(PackedDataset.load(cache_folder(name))):,}")
    Console().print(table)


@app.command()
def info(
    name_or_path: Annotated[
        str, typer.Argument(help="name of a prepared data set (or mp20:val, a split), or its folder")
    ],
) -> None:
    """Shows what a prepared data set holds."""
    data = load(name_or_path)
    console = Console()
    meta = data.meta
    rows: list[tuple[str, Any]] = [
        ("name", meta.get("name", "")),
        ("description", meta.get("description", "")),
        ("source", meta.get("source", "")),
        ("citation", meta.get("citation", "")),
        ("licence", meta.get("licence", "")),
        ("systems", f"{len(data):,}{_published(meta.get('name', ''), data)}"),
        ("molecules", f"{int((~data.periodic).sum()):,}"),
        ("crystals", f"{int(data.periodic.sum()):,}"),
        ("atoms", f"{len(data.numbers):,}"),
        ("skipped", f"{meta.get('skipped', 0):,}"),
    ]
    rows.append(("splits", _splits(data).removeprefix("splits: ")))
    _print(console, "data set", ("", ""), rows)
    _print(console, "atoms in a system", ("atoms", "systems", ""), _histogram(data.sizes))
    numbers = np.bincount(data.numbers, minlength=len(SYMBOLS))
    order = [int(number) for number in np.argsort(-numbers, kind="stable")[:_SHOWN] if numbers[number]]
    _print(console, "elements", ("element", "atoms"), [(SYMBOLS[number], f"{numbers[number]:,}") for number in order])
    _print(
        console, "properties", ("property", "known", "values"), [_summary(*item) for item in data.properties.items()]
    )
    report = _report(Path(name_or_path), cache_folder(name_or_path))
    if report:
        _print(console, "skipped, by reason", ("reason", "entries"), report)


def _published(name: str, data: PackedDataset) -> str:
    """Of how many systems, where that is known and there are not as many."""
    published = datasets()[name].systems if name in datasets() else 0
    return "" if published in (0, len(data)) else f" of {published:,} published"


def _splits(data: PackedDataset) -> str:
    """One line: how many systems each split has; why there are none, where some files name one."""
    if "split" in data.properties:
        counts = ((split, int((data.properties["split"] == split).sum())) for split in SPLITS)
        return "splits: " + ", ".join(f"{split} {count:,}" for split, count in counts)
    files = {Path(file).parts[0] for file in np.unique(data.properties.get("file", np.array([], str))).tolist() if file}
    unnamed = sorted(file for file in files if file.split(".")[0] not in SPLITS)
    if len(unnamed) == len(files):
        return "no splits: all are for training"
    return (
        f"no splits: all are for training, since {unnamed[0]} is not named train, val or test "
        f"({len(unnamed)} of {len(files)} files or folders are not)"
    )


def _print(console: Console, title: str, columns: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> None:
    table = Table(*columns, title=title, title_justify="left", show_header=any(columns))
    for row in rows:
        table.add_row(*(escape(str(cell)) for cell in row))
    console.print(table)


def _histogram(sizes: np.ndarray[Any, np.dtype[np.int64]]) -> list[tuple[str, str, str]]:
    """Rows of (range of sizes, count, bar)."""
    if len(sizes) == 0:
        return []
    edges = np.unique(np.linspace(sizes.min(), sizes.max() + 1, _SHOWN + 1).astype(int))
    counts, _ = np.histogram(sizes, bins=edges)
    rows = []
    for low, high, count in zip(edges[:-1], edges[1:] - 1, counts, strict=True):
        label = f"{low}" if low == high else f"{low}-{high}"
        rows.append((label, f"{count:,}", "█" * round(40 * count / counts.max())))
    return rows


def _summary(name: str, values: np.ndarray[Any, Any]) -> tuple[str, str, str]:
    if values.dtype.kind == "U":
        known = values[values != ""]
        return name, f"{len(known):,}", f"e.g. {known[0]}" if len(known) else ""
    known = values[~np.isnan(values)]
    span = f"{known.min():.6g} to {known.max():.6g}, mean {known.mean():.6g}" if len(known) else ""
    return name, f"{len(known):,}", span


def _report(*folders: Path) -> list[tuple[str, str]]:
    """The commonest reasons for skipping, from report.csv."""
    for folder in folders:
        if (folder / "report.csv").exists():
            with (folder / "report.csv").open(newline="", encoding="utf-8") as file:
                reasons = [row["reason"][:100] for row in csv.DictReader(file)]
            common = sorted(
                {reason: reasons.count(reason) for reason in set(reasons)}.items(), key=lambda item: -item[1]
            )
            return [(reason, f"{count:,}") for reason, count in common[:_SHOWN]]
    return []


def main() -> None:
    """Entry point of `adit-data`."""
    run(app)
