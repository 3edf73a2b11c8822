"""What every command shares: how errors reach the person."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from adit.errors import AditError

if TYPE_CHECKING:
    import typer
    from rich.progress import ProgressColumn


def run(app: typer.Typer) -> None:
    """Runs a command line and exits: 2 with one line on stderr for an `AditError`, 130 for Ctrl-C."""
    try:
        app()
    except AditError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


def progress_columns() -> tuple[ProgressColumn, ...]:
    """What a progress bar shows: the task's name, how many of how many, its field `rate`, the time."""
    from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn

    return (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
    )
