"""What every reader shares: the record of an entry that could not be read, and reading of plain or gzipped text."""

from __future__ import annotations

import gzip
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from adit.errors import UnreadableFileError


@dataclass(frozen=True, slots=True)
class BrokenEntry:
    """An entry that could not be read: where it stands and why.

    Attributes:
        source: file and place in it.
        reason: in words.
        periodic: whether it would have been a crystal; None if that cannot be told.
    """

    source: str
    reason: str
    periodic: bool | None = None

    def __str__(self) -> str:
        return f"{self.source}: {self.reason}"


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns what goes wrong while reading `path` into an `UnreadableFileError` that names it."""
    try:
        yield
    except FileNotFoundError as error:
        raise UnreadableFileError(f"{path} does not exist") from error
    except (EOFError, zlib.error, gzip.BadGzipFile, tarfile.TarError, zipfile.BadZipFile) as error:
        raise UnreadableFileError(
            f"{path} is not a complete {path.suffix.lstrip('.')} file ({error}); it may be truncated. Fetch it again"
        ) from error
    except UnicodeDecodeError as error:
        raise UnreadableFileError(f"{path} is not a text file (byte {error.start} is not UTF-8)") from error
    except OSError as error:
        raise UnreadableFileError(f"{path} cannot be read: {error.strerror or error}") from error


def open_text(path: Path) -> IO[str]:
    """Opens a UTF-8 text file, through gzip where the name ends in .gz; use within `reading`."""
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")
