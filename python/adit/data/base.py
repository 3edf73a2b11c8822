"""What a data set reader is: a description, and a way to cut its source into tasks that run in any process."""

from __future__ import annotations

import bz2
import csv
import gzip
import tarfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from adit.convert.base import BrokenEntry, open_text, reading
from adit.errors import UnreadableFileError
from adit.system import AtomicSystem

Entry = AtomicSystem | BrokenEntry
CHUNK = 1000
"""Entries in one task."""


@dataclass(frozen=True, slots=True)
class Task:
    """A piece of work that a worker process does: `parse` is picklable and gives `size` entries (a guess will do)."""

    parse: Callable[[], list[Entry]]
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """How to read a source.

    Attributes:
        limit: stop after this many entries (of each split file, where there are several).
        allow_pickle: the user agreed to unpickle the source, which runs code that it may hold.
        conformers: for sources with several conformers of a molecule, keep so many of lowest energy.
    """

    limit: int | None = None
    allow_pickle: bool = False
    conformers: int = 5


@dataclass(frozen=True, slots=True)
class Download:
    """An official file; `checksum` is "md5:..." or "sha256:...", None where none was published."""

    url: str
    filename: str
    checksum: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetSpec:
    """One data set by name.

    Attributes:
        tasks: cuts the source (a file or folder) into tasks.
        locate: finds the source on this machine without a download, e.g. in an installed package.
        downloads: the official files, fetched where `locate` finds nothing.
        split: how entries are divided into train, val and test, for people.
        remedy: what to do where there is no source.
        systems: how many it has as published; 0: not known.
    """

    name: str
    description: str
    citation: str
    licence: str
    tasks: Callable[[Path, ReadOptions], Iterator[Task]]
    locate: Callable[[], Path | None] = lambda: None
    downloads: tuple[Download, ...] = ()
    split: str = "none"
    remedy: str = ""
    systems: int = 0


def tar_files(path: Path, suffix: str) -> Iterator[tuple[str, bytes]]:
    """Name and content of each file of an archive (.tar, .tar.gz, .tar.bz2) whose name ends in `suffix`, in its order.

    The archive is unpacked by gzip or bz2 themselves: they notice a torn file, which tarfile's own streams do not.

    Raises:
        UnreadableFileError: the archive is torn, or none.
    """
    name = path.name.lower()
    with ExitStack() as stack:
        stack.enter_context(reading(path))
        if name.endswith((".gz", ".tgz")):
            stream: IO[bytes] = cast(IO[bytes], stack.enter_context(gzip.open(path, "rb")))
        elif name.endswith(".bz2"):
            stream = cast(IO[bytes], stack.enter_context(bz2.open(path, "rb")))
        else:
            stream = stack.enter_context(path.open("rb"))
        archive = stack.enter_context(tarfile.open(fileobj=stream, mode="r|"))
        while (member := archive.next()) is not None:
            file = archive.extractfile(member) if member.name.endswith(suffix) else None
            if file is not None:
                yield member.name, file.read()
            archive.members = []  # type: ignore[attr-defined]  # else it keeps them all


def csv_rows(path: Path, required: tuple[str, ...]) -> Iterator[dict[str, str]]:
    """Rows of a CSV file, plain or gzipped.

    Raises:
        UnreadableFileError: the file is missing, truncated, no text, or lacks one of the `required` columns.
    """
    with reading(path), open_text(path) as file:
        yield from rows_of(file, path, required)


def rows_of(lines: Iterable[str], path: Path, required: tuple[str, ...]) -> Iterator[dict[str, str]]:
    """Rows of a CSV that is given as lines; `path` names it in errors."""
    csv.field_size_limit(2**31 - 1)
    rows = csv.reader(lines)
    try:
        header = next(rows, [])
        missing = [name for name in required if name not in header]
        if missing:
            raise UnreadableFileError(
                f"{path} is not the CSV it should be: expected the columns {', '.join(required)}; "
                f"{', '.join(missing)} not among {', '.join(header)[:200]!r}"
            )
        for row in rows:
            if row:
                yield dict(zip(header, row, strict=False))
    except csv.Error as error:
        raise UnreadableFileError(f"{path} is not a CSV file: line {rows.line_num}: {error}") from error
