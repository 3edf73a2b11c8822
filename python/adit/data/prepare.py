"""From a source to the packed cache, over a pool of processes; and back from the cache by name."""

from __future__ import annotations

import csv
import hashlib
import json
import logging
import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from adit.convert.base import BrokenEntry
from adit.data import files, geom, qm9
from adit.data.base import DatasetSpec, ReadOptions, Task
from adit.data.mp20 import SPECS as CDVAE_SPECS
from adit.data.packed import SPLITS, PackedDataset
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


def prepared() -> list[str]:
    """Names of the data sets in the cache."""
    base = cache_folder("x").parent
    return [path.name for path in sorted(base.iterdir()) if _header(path)] if base.is_dir() else []


def prepare(
    name: str,
    source: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    *,
    overwrite: bool = False,
    processes: int | None = None,
    options: ReadOptions | None = None,
    progress: Progress | None = None,
) -> PackedDataset:
    """Reads a data set into its cache folder and opens it. Crystals get their Niggli cell and wrapped positions.

    Broken entries are skipped, counted in `meta["skipped"]` and named in the folder's report.csv. A prepared data set
    is never replaced unawares; one that `already_prepared` finds is opened as it is.

    Args:
        name: one of `datasets()`; with a `source`, any name for the user's own files.
        source: file or folder to read; default: an installed package or the official download.
        out: folder to write; default `cache_folder(name)`.
        overwrite: replace what was prepared there before.
        processes: worker processes; default: one for each core.
        options: what to read.
        progress: called after every finished piece with (entries done, of which broken).

    Raises:
        InvalidInputError: the name is unknown, `out` is a folder that holds something else, or there is a data set
            that `overwrite` would replace.
        UnreadableFileError: the source is not what it claims, or more than half of it is broken.
    """
    options = options or ReadOptions()
    spec = _spec(name, source)
    folder = Path(out) if out is not None else cache_folder(name)
    _refuse_folder(folder)
    if not overwrite and (there := already_prepared(name, source, out, options)) is not None:
        return there
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
    read = done - len(broken)
    meta = {
        "name": name,
        "description": spec.description,
        "citation": spec.citation,
        "licence": spec.licence,
        "split": spec.split,
        "limit": options.limit,
        "conformers": options.conformers,
        **origin,
        "read": read,
        "skipped": len(broken),
    }
    if options.limit is None and spec.systems and not spec.systems <= 2 * read <= 2 * spec.systems:
        logging.getLogger("adit").warning(
            f"{path} holds {read:,} systems, {name} as published {spec.systems:,}: is it another data set? It is kept "
            f"with the citation and the licence of {name}; for files of your own choose another name"
        )
    data = merge(parts, meta)
    with writing(folder):
        data.save(folder)
        with (folder / "report.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["entry", "reason"])
            writer.writerows([entry.source, entry.reason] for entry in broken)
    return PackedDataset.load(folder)


def prepared_folder(name: str) -> Path | None:
    """Of a prepared data set, by name or folder; None where there is none."""
    return next((folder for folder in (Path(name), cache_folder(name)) if (folder / "meta.json").exists()), None)


def already_prepared(
    name: str,
    source: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    options: ReadOptions | None = None,
) -> PackedDataset | None:
    """The data set in the way of `prepare`, where the same would come out again; None where nothing is in the way.

    The same are published data sets, read with the same options, from the same source, or from wherever if no `source`
    is asked for. Files of the user may have changed since.

    Raises:
        InvalidInputError: something else is in the way, or what was read from files of the user.
        UnreadableFileError: it is damaged.
    """
    folder = Path(out) if out is not None else cache_folder(name)
    if not (header := _header(folder)):
        return None
    meta, asked = header.get("meta", {}), options or ReadOptions()
    wanted: dict[str, Any] = {"name": name, "limit": asked.limit, "conformers": asked.conformers}
    if source is not None:
        wanted["source"] = str(Path(source).resolve())
    if (
        name in _SPECS
        and _SPECS[name].downloads
        and all(meta.get(key, value) == value for key, value in wanted.items())
    ):
        try:
            return PackedDataset.load(folder)
        except UnreadableFileError as error:
            raise UnreadableFileError(f"{error}, with --overwrite") from error
    raise InvalidInputError(
        f"{folder} holds the data set {meta.get('name', folder.name)} already: {header.get('systems', 0):,} systems "
        f"from {meta.get('source', 'elsewhere')}. Choose another name, or replace it with --overwrite (overwrite=True)"
    )


def load(name_or_path: str | os.PathLike[str]) -> PackedDataset:
    """Opens a prepared data set by name, or any folder that `prepare` wrote; `mp20:val` is one split of it.

    Raises:
        UnreadableFileError: it is not there, damaged, or has nothing in that split.
        InvalidInputError: there is no such split.
    """
    name = os.fspath(name_or_path)
    if (folder := prepared_folder(name)) is not None:
        return PackedDataset.load(folder)
    where, _, split = name.rpartition(":")
    if not where or (folder := prepared_folder(where)) is None:
        raise UnreadableFileError(_not_prepared(name))
    if split not in SPLITS:
        raise InvalidInputError(f"{where} has no split {split!r}; known: {', '.join(SPLITS)}")
    data = PackedDataset.load(folder).split(split)
    if not len(data):
        raise UnreadableFileError(f"{where} has nothing in its split {split!r}")
    return data


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
    if any(folder.iterdir()) and not _header(folder):
        raise InvalidInputError(f"{folder} holds something else than a prepared data set; choose another `out`")


def _header(folder: Path) -> dict[str, Any]:
    """What a prepared data set says of itself; empty for a folder that holds none."""
    try:
        header = json.loads((folder / "meta.json").read_text())
        return header if header["format"] == "adit-dataset" else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _not_prepared(name: str) -> str:
    if known := {name, name.rpartition(":")[0]} & _SPECS.keys():
        return f"the data set {min(known)} is not prepared yet. Run `adit-data prepare {min(known)}`"
    there = f"prepared: {', '.join(prepared()) or 'none'}"
    if Path(name).exists():
        command = f"adit-data prepare NAME --source {shlex.quote(name)}"
        return f"{name} is not a prepared data set; `{command}` makes one; {there}"
    return f"no such file or prepared data set {name!r}; {there}. `adit-data prepare NAME --source PATH` makes one"


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
