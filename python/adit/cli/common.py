"""What every command shares: how errors reach the person."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from adit.errors import AditError

if TYPE_CHECKING:
    import typer


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
