"""What every command shares: how errors reach the person, whether outputs can be written."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from adit.errors import AditError, InvalidInputError

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
    except OSError as error:  # a full disk, say, where nobody expected it
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except (KeyboardInterrupt, typer.Abort):
        print("interrupted", file=sys.stderr)
        sys.exit(130)


def check_writable(option: str, path: Path) -> None:
    """Tries it: makes and removes a file in the folder that is or will be around `path`.

    Raises:
        InvalidInputError: it fails.
    """
    if path.is_file() and not os.access(path, os.W_OK):
        raise InvalidInputError(f"{option} {path}: the file is read-only. Choose another name")
    place = path.absolute() if path.is_dir() else path.absolute().parent
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise InvalidInputError(
            f"{option} {path}: {place} is not a folder that can be written ({error.strerror or error}). Choose another"
        ) from error


def places_of(name: str) -> list[Path]:
    """Where an input may stand: the path, or the prepared data set of this name."""
    from adit.data.prepare import prepared_folder

    words = [word for word in (name, name.rpartition(":")[0]) if word]
    places = [place for word in words for place in (Path(word), prepared_folder(word))]
    return [place for place in places if place is not None and place.exists()]


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


class Log:
    """Lines on stderr that say how far a job without a terminal is, now and then, if it is `on`."""

    every = 60.0
    """Seconds."""

    def __init__(self, on: bool) -> None:
        self.on, self._said = on, time.monotonic()

    def say(self, line: str) -> None:
        """The line, if the last is long ago."""
        if self.on and time.monotonic() - self._said >= self.every:
            self._said = time.monotonic()
            print(line, file=sys.stderr, flush=True)
