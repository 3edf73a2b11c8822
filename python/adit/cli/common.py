"""What every command shares: how errors reach the person."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from adit.errors import AditError

if TYPE_CHECKING:
    from rich.progress import ProgressColumn


_UsageError: type[Exception] = typer.BadParameter.__bases__[0]  # click's, which recent versions of typer carry inside


def run(app: typer.Typer) -> None:
    """Runs a command line and exits: 2 with one line on stderr for every mistake, 130 for Ctrl-C."""
    try:
        sys.exit(app(standalone_mode=False))
    except AditError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except _UsageError as error:  # words that cannot be parsed; or none at all, for which it has the help
        if type(error).__name__ == "NoArgsIsHelpError":
            error.show()  # type: ignore[attr-defined]
        else:
            words = f"{error.format_message().rstrip('.')}. See {Path(sys.argv[0]).name} --help"  # type: ignore[attr-defined]
            print(f"error: {' '.join(words.split())}", file=sys.stderr)
        sys.exit(2)
    except (KeyboardInterrupt, typer.Abort):
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
