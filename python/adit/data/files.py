"""The user's own files: anything that `adit.read` reads, or a CSV with a CIF in each row."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from adit.convert.files import iread, iread_tolerant, structure_files
from adit.data import mp20
from adit.data.base import CHUNK, DatasetSpec, Entry, ReadOptions, Task
from adit.data.packed import SPLITS
from adit.system import AtomicSystem

_FILES = 200
"""Files in one task."""


def tasks(source: Path, options: ReadOptions) -> Iterator[Task]:
    """Cuts a file, zip or folder into tasks.

    Where every file of a folder lies under train, val or test (`train.sdf`, `val/1.cif`), this becomes `split`.
    """
    if source.name.endswith((".csv", ".csv.gz")):
        yield from mp20.tasks(source, options)
    elif not source.is_dir():
        entries = itertools.islice(iread(source), options.limit)
        while chunk := list(itertools.islice(entries, CHUNK)):
            yield Task(partial(list, chunk), len(chunk))
    elif any((source / f"{split}.csv{end}").exists() for split in SPLITS for end in ("", ".gz")):
        yield from mp20.tasks(source, options)
    else:
        files = structure_files(source)
        split = [path.relative_to(source).parts[0].split(".")[0] for path in files]
        named = all(name in SPLITS for name in split)
        pairs = list(zip(files, split if named else [None] * len(files), strict=True))
        left = options.limit
        for start in range(0, len(pairs), _FILES):
            chosen = pairs[start : start + _FILES]
            if left is None:
                yield Task(partial(_parse, source, chosen), len(chosen))
                continue
            found = list(itertools.islice(_entries(source, chosen), left))
            yield Task(partial(list, found), len(found))
            left -= len(found)
            if left == 0:
                return


def _parse(source: Path, pairs: list[tuple[Path, str | None]]) -> list[Entry]:
    return list(_entries(source, pairs))


def _entries(source: Path, pairs: list[tuple[Path, str | None]]) -> Iterator[Entry]:
    for path, split in pairs:
        yield from _file(source, path, split)


def _file(source: Path, path: Path, split: str | None) -> Iterator[Entry]:
    extra = {"file": str(path.relative_to(source)), **({} if split is None else {"split": split})}
    for entry in iread_tolerant(path):
        if isinstance(entry, AtomicSystem):
            yield AtomicSystem(entry.numbers, entry.positions, entry.cell, {**entry.info, **extra})
        else:
            yield entry


def spec(name: str) -> DatasetSpec:
    """A data set of the user's own, under any name."""
    return DatasetSpec(
        name=name,
        description="files of the user: cif, xyz, extxyz, sdf, POSCAR, zip, or CSV with a column of CIFs",
        citation="",
        licence="",
        tasks=tasks,
        split="train, val, test where files or folders are named so",
        remedy="pass --source PATH",
    )
