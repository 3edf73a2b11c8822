"""What `adit-gen` shows while it works, and at the end."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from adit.cli.common import Log, progress_columns
from adit.cli.gen_filter import within

if TYPE_CHECKING:
    from rich.console import Console

    from adit.cli.gen_options import Options
    from adit.kept import Kept
    from adit.system import AtomicSystem


def open_console(progress: bool | None, quiet: bool) -> Console:
    """Where progress is shown: stderr, as a bar if that is a terminal or one is asked for."""
    from rich.console import Console

    shown = sys.stderr.isatty() if progress is None else progress
    return Console(stderr=True, force_terminal=shown, quiet=quiet or progress is False)


@contextmanager
def status(console: Console, text: str) -> Iterator[None]:
    """A line that says what is being done."""
    if console.quiet or not console.is_terminal:
        yield
    else:
        with console.status(text):
            yield


@contextmanager
def progress_bar(console: Console, done: int, block: int, options: Options) -> Iterator[Callable[[int, int], None]]:
    """A progress bar, or now and then a line; the function it gives takes how many are kept and how many were drawn."""
    from rich.progress import Progress

    start, first = time.perf_counter(), done
    log = Log(on=not (console.quiet or console.is_terminal))
    with Progress(*progress_columns(), console=console, disable=not console.is_terminal or console.quiet) as bar:
        task = bar.add_task(noun(options), total=options.n, completed=done, rate=f"in blocks of {block:,}")

        def advance(kept: int, drawn: int) -> None:
            rate = (kept - first) / (time.perf_counter() - start)
            left = f", {_duration((options.n - kept) / rate)} left" if rate and kept < options.n else ""
            share = f", {kept / drawn:.0%} {asked(options)}" if options.valid_only else ""
            bar.update(task, completed=kept, rate=f"{rate:.3g}/s{share}{left}")
            log.say(f"{kept:,} of {options.n:,} {noun(options)}, {rate:.3g}/s{share}{left}")

        yield advance


def print_table(options: Options, rows: list[tuple[str, str]], files: list[Path]) -> None:
    """The figures and the files, on stdout."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=f"adit-gen: {noun(options)}", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right", overflow="fold")
    for name, value in [*rows, *(("written", str(path)) for path in files)]:
        table.add_row(name, escape(value))
    Console().print(table)


def misfit_rows(systems: list[AtomicSystem], kept: Kept | None) -> list[tuple[str, str]]:
    """How well samples fit the cell or atoms that were known; nothing where their format does not hold it."""
    name, title, form = ("cell_misfit", "misfit of the cell", "{:.2%}")
    if kept is not None:
        name, title, form = ("keep_rmsd", "Angstrom from what is kept", "{:.3f}")
    found = {str(one.info.get("id", "")): float(one.info[name]) for one in systems if name in one.info}
    if not found:
        return []
    best = sorted(found, key=found.__getitem__)[:3]
    rows = [
        (f"{title}: median", form.format(statistics.median(found.values()))),
        (f"{title}: smallest", ", ".join(f"{form.format(found[one])} ({one})" for one in best)),
    ]
    if kept is not None and not systems[0].is_periodic:
        rows.append(("have its bonds", f"{kept.intact(systems).mean():.1%}"))
    return rows


def property_rows(systems: list[AtomicSystem], name: str, wanted: float | tuple[float, float]) -> list[tuple[str, str]]:
    """What the predictor makes of a property of samples; nothing where their format does not hold it."""
    found = [float(system.info[key]) for system in systems if (key := f"predicted_{name}") in system.info]
    if not found:
        return []
    title = f"{name}, predicted:"
    rows = [(f"{title} mean, spread", f"{statistics.fmean(found):.4g}, {statistics.pstdev(found):.3g}")]
    if isinstance(wanted, tuple):
        share = float(within(systems, name, wanted).mean())
        return [*rows, (f"{title} within {wanted[0]:g} to {wanted[1]:g}", f"{share:.1%}")]
    return [
        *rows,
        (f"{title} mean distance from {wanted:g}", f"{statistics.fmean(abs(x - wanted) for x in found):.3g}"),
    ]


def noun(options: Options) -> str:
    """What the options ask for."""
    return "molecules" if options.system == "molecule" else "crystals"


def asked(options: Options) -> str:
    """What the samples that are kept are: "valid", "valid, unique and novel", "valid and within the ranges", ..."""
    ranges = any(isinstance(value, tuple) for value in options.properties.values())
    possible = (("within the ranges", ranges), ("unique", options.unique), ("novel", bool(options.novel)))
    *words, last = ["valid", *(word for word, wanted in possible if wanted)]
    return f"{', '.join(words)} and {last}" if words else last


def _duration(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
