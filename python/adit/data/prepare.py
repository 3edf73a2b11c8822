"""From a source to the packed cache, over a pool of processes; and back from the cache by name."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from adit.convert.base import BrokenEntry
from adit.data import files, geom, qm9
from adit.data.base import DatasetSpec, ReadOptions, Task
from adit.data.mp20 import SPECS as CDVAE_SPECS
from adit.data.packed import PackedDataset
from adit.data.pool import run_tasks
from adit.data.standard import standardise
from adit.errors import InvalidInputError, UnreadableFileError
from adit.output import writing
from adit.system import AtomicSystem

Progress = Callable[[int, int], None]
"""Called with (entries done, of which broken)."""
Result = tuple[PackedDataset, list[BrokenEntry]]
_SPECS = {spec.name: spec for spec in (qm9.SPEC, *CDVAE_SPECS, *geom.SPECS)}
_INLINE = 2000
"""Up to this many entries a pool of processes is not worth its start."""


def datasets() -> dict[str, DatasetSpec]:
    """Every data set known by name."""
    return dict(_SPECS)


def cache_folder(name: str) -> Path:
    """Where the data set of this name is kept: $ADIT_DATA_DIR/name, or the user's cache."""
    if base := os.environ.get("ADIT_DATA_DIR"):
        return Path(base) / name
    import platformdirs

    return platformdirs.user_cache_path("adit") / "datasets" / name


def prepare(
    name: str,
    source: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    *,
    processes: int | None = None,
    options: ReadOptions | None = None,
    progress: Progress | None = None,
) -> PackedDataset:
    """Reads a data set into its cache folder and opens it. Crystals get their Niggli cell and wrapped positions.

    Broken entries are skipped, counted in `meta["skipped"]` and named in the folder's report.csv.

    Args:
        name: one of `datasets()`; with a `source`, any name for the user's own files.
        source: file or folder to read; default: an installed package or the official download.
        out: folder to write; default `cache_folder(name)`.
        processes: worker processes; default: one for each core.
        options: what to read.
        progress: called after every finished piece with (entries done, of which broken).

    Raises:
        InvalidInputError: the name is unknown, or `out` is a folder that holds something else.
        UnreadableFileError: the source is not what it claims, or more than half of it is broken.
    """
    options = options or ReadOptions()
    spec = _spec(name, source)
    folder = Path(out) if out is not None else cache_folder(name)
    _refuse_folder(folder)
    path, origin = _find(spec, source)
    parts: list[PackedDataset] = []
    broken: list[BrokenEntry] = []
    done = 0
    for part, failed in run_tasks(_work, spec.tasks(path, options), processes, _INLINE):
        parts.append(part)
        broken += failed
        done += len(part) + len(failed)
        if progress is not None:
            progress(done, len(broken))
    if done == 0:
        raise UnreadableFileError(f"{path} holds no molecules or crystals")
    if 2 * len(broken) > done:
        raise UnreadableFileError(
            f"{path} is refused: {len(broken)} of {done} entries are broken. The first: {broken[0]}"
        )
    meta = {
        "name": name,
        "description": spec.description,
        "citation": spec.citation,
        "licence": spec.licence,
        "split": spec.split,
        "limit": options.limit,
        **origin,
        "read": done - len(broken),
        "skipped": len(broken),
    }
    data = merge(parts, meta)
    with writing(folder):
        data.save(folder)
        with (folder / "report.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["entry", "reason"])
            writer.writerows([entry.source, entry.reason] for entry in broken)
    return PackedDataset.load(folder)


def load(name_or_path: str | os.PathLike[str]) -> PackedDataset:
    """Opens a prepared data set by name, or any folder that `prepare` wrote.

    Raises:
        UnreadableFileError: it is not there, or damaged.
    """
    folder = Path(name_or_path)
    if (folder / "meta.json").exists():
        return PackedDataset.load(folder)
    cached = cache_folder(str(name_or_path))
    if (cached / "meta.json").exists():
        return PackedDataset.load(cached)
    raise UnreadableFileError(
        f"no prepared data set {str(name_or_path)!r}: neither {folder} nor {cached} holds one. "
        f"Run `adit-data prepare {folder.name}`"
    )


def merge(parts: list[PackedDataset], meta: dict[str, Any]) -> PackedDataset:
    """One data set after the other; a property that a part lacks is NaN or '' there."""
    names = sorted(set().union(*(part.properties for part in parts)))
    joined = PackedDataset.concatenate(parts)
    properties = {}
    for name in names:
        columns = [part.properties.get(name) for part in parts]
        text = any(column is not None and column.dtype.kind == "U" for column in columns)
        filled = []
        for part, column in zip(parts, columns, strict=True):
            if column is None:
                column = np.full(len(part), "" if text else np.nan)
            filled.append(column.astype(str) if text else column)
        properties[name] = np.concatenate(filled)
    return PackedDataset(
        joined.numbers, joined.positions, joined.cells, joined.offsets, joined.periodic, properties, meta
    )


def _spec(name: str, source: str | os.PathLike[str] | None) -> DatasetSpec:
    if name in _SPECS:
        return _SPECS[name]
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
        raise InvalidInputError(f"a data set's name is made of letters, digits, '_', '-' and '.'; got {name!r}")
    if source is None:
        raise InvalidInputError(
            f"unknown data set {name!r}; known: {', '.join(_SPECS)}. For your own files pass --source PATH"
        )
    return files.spec(name)


def _refuse_folder(folder: Path) -> None:
    """`save` replaces its folder; so it must be absent, empty, or an earlier data set, and its place writable."""
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
    if not folder.exists():
        if not os.access(folder.parent, os.W_OK):
            raise InvalidInputError(f"{folder} cannot be written: {folder.parent} is read-only")
        return
    if not folder.is_dir():
        raise InvalidInputError(f"{folder} is a file; `out` must be a folder")
    if not any(folder.iterdir()):
        return
    try:
        if json.loads((folder / "meta.json").read_text())["format"] == "adit-dataset":
            return
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise InvalidInputError(f"{folder} holds something else than a prepared data set; choose another `out`")


def _find(spec: DatasetSpec, source: str | os.PathLike[str] | None) -> tuple[Path, dict[str, Any]]:
    """The source on disk, and where it came from, for `meta`."""
    if source is not None:
        path = Path(source)
        if not path.exists():
            raise UnreadableFileError(f"{path} does not exist")
        return path, {"source": str(path.resolve())}
    located = spec.locate()
    if located is not None:
        return located, {"source": str(located)}
    if not spec.downloads:
        raise UnreadableFileError(f"{spec.name} has no source on this machine: {spec.remedy}")
    return _download(spec)


def _download(spec: DatasetSpec) -> tuple[Path, dict[str, Any]]:
    """Fetches the official files; says the sha256 of each where none was published."""
    import pooch
    import requests

    folder = cache_folder("downloads") / spec.name
    records = []
    for file in spec.downloads:
        try:
            fetched = pooch.retrieve(file.url, file.checksum, fname=file.filename, path=folder, progressbar=False)
        except (requests.RequestException, OSError, ValueError) as error:
            raise UnreadableFileError(f"{file.url} could not be fetched ({error}). Or: {spec.remedy}") from error
        digest = hashlib.sha256(Path(fetched).read_bytes()).hexdigest()
        records.append({"url": file.url, "sha256": digest, "checked": file.checksum is not None})
    path = folder / spec.downloads[0].filename if len(spec.downloads) == 1 else folder
    return path, {"source": spec.downloads[0].url, "downloads": records}


def _work(task: Task) -> Result:
    """Done in a worker: parse, bring to standard form, pack."""
    entries = standardise(task.parse())
    broken = [entry for entry in entries if isinstance(entry, BrokenEntry)]
    return PackedDataset.from_systems(entry for entry in entries if isinstance(entry, AtomicSystem)), broken
