"""A data set as a few flat arrays: memory-mapped, so that opening it costs nothing."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from adit.errors import InvalidInputError, UnreadableFileError
from adit.packing import SystemLike, as_system
from adit.system import AtomicSystem

if TYPE_CHECKING:
    from numpy.typing import NDArray

FORMAT_VERSION = 1
SPLITS = ("train", "val", "test")
_MISSING = {"", "none", "null", "na", "n/a", "nan", "inf", "+inf", "-inf"}
_FIELDS = ("numbers", "positions", "cells", "offsets", "periodic")


@dataclass(frozen=True, slots=True)
class PackedDataset:
    """N systems of T atoms in all, one after the other.

    Attributes:
        numbers: (T,) uint8, atomic numbers.
        positions: (T, 3) float32, Cartesian, Angstrom.
        cells: (N, 3, 3) float32, Angstrom, row vectors; zeros for a molecule.
        offsets: (N + 1,) int64; system k owns atoms offsets[k] to offsets[k + 1].
        periodic: (N,) bool.
        properties: name -> (N,) float64 (NaN = missing) or unicode array. `split`, where present,
            is one of "train", "val", "test"; `id` names the entry in its source.
        meta: source, licence, counts of skipped entries; JSON.
    """

    numbers: NDArray[np.uint8]
    positions: NDArray[np.float32]
    cells: NDArray[np.float32]
    offsets: NDArray[np.int64]
    periodic: NDArray[np.bool_]
    properties: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> AtomicSystem:
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} is out of range for {len(self)} systems")
        index %= len(self)
        atoms = slice(int(self.offsets[index]), int(self.offsets[index + 1]))
        info = {name: values[index].item() for name, values in self.properties.items()}
        cell = self.cells[index].astype(np.float64) if self.periodic[index] else None
        return AtomicSystem(self.numbers[atoms].astype(np.int64), self.positions[atoms].astype(np.float64), cell, info)

    def __iter__(self) -> Iterator[AtomicSystem]:
        return (self[index] for index in range(len(self)))

    @property
    def sizes(self) -> NDArray[np.int64]:
        """(N,) atoms in each system."""
        return np.diff(self.offsets)

    def split(self, name: str) -> PackedDataset:
        """The systems of one split; all of them for "train" if the data set has no splits."""
        if name not in SPLITS:
            raise InvalidInputError(f"`split` must be one of {', '.join(SPLITS)}; got {name!r}")
        if "split" not in self.properties:
            return self if name == "train" else self.subset(np.zeros(0, dtype=np.int64))
        return self.subset(np.flatnonzero(self.properties["split"] == name))

    def subset(self, indices: NDArray[np.int64] | NDArray[np.bool_]) -> PackedDataset:
        """The chosen systems, in the order of `indices` (k,); or those where a mask (N,) is True."""
        chosen = np.asarray(indices)
        indices = np.flatnonzero(chosen) if chosen.dtype == np.bool_ else chosen.astype(np.int64)
        sizes = self.sizes[indices]
        offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        atoms = np.repeat(self.offsets[:-1][indices] - offsets[:-1], sizes) + np.arange(offsets[-1])
        return PackedDataset(
            self.numbers[atoms],
            self.positions[atoms],
            self.cells[indices],
            offsets,
            self.periodic[indices],
            {name: values[indices] for name, values in self.properties.items()},
            self.meta,
        )

    @classmethod
    def from_systems(cls, systems: Iterable[SystemLike], meta: Mapping[str, Any] | None = None) -> PackedDataset:
        """Packs systems of any class that `as_system` takes; entries of `info` that are numbers or strings are kept.

        Raises:
            InvalidInputError: an entry is not a system (its index is named).
        """
        numbers, positions, cells, periodic, infos = [], [], [], [], []
        for index, thing in enumerate(systems):
            try:
                system = as_system(thing)
            except InvalidInputError as error:
                raise InvalidInputError(f"system {index}: {error}") from error
            numbers.append(system.numbers.astype(np.uint8))
            positions.append(system.positions.astype(np.float32))
            cells.append(np.zeros((3, 3), np.float32) if system.cell is None else system.cell.astype(np.float32))
            periodic.append(system.is_periodic)
            infos.append(system.info)
        return cls(
            np.concatenate(numbers) if numbers else np.zeros(0, np.uint8),
            np.concatenate(positions) if positions else np.zeros((0, 3), np.float32),
            np.stack(cells) if cells else np.zeros((0, 3, 3), np.float32),
            np.cumsum([0, *map(len, numbers)], dtype=np.int64),
            np.array(periodic, dtype=np.bool_),
            _columns(infos),
            dict(meta or {}),
        )

    @classmethod
    def concatenate(cls, parts: Iterable[PackedDataset]) -> PackedDataset:
        """One data set after the other. Properties that not every part has are dropped."""
        parts = list(parts)
        if not parts:
            return cls.from_systems([])
        names = set.intersection(*(set(part.properties) for part in parts))
        sizes = np.concatenate([part.sizes for part in parts])
        return cls(
            np.concatenate([part.numbers for part in parts]),
            np.concatenate([part.positions for part in parts]),
            np.concatenate([part.cells for part in parts]),
            np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
            np.concatenate([part.periodic for part in parts]),
            {name: np.concatenate([part.properties[name] for part in parts]) for name in sorted(names)},
            {"parts": [dict(part.meta) for part in parts]},
        )

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes the data set as a folder of .npy files; the folder appears at once or not at all.

        An earlier data set there is replaced.

        Raises:
            InvalidInputError: the folder holds something else, or a property's name cannot be a file's.
        """
        folder = Path(folder)
        free = not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
        if not free and not (folder / "meta.json").is_file():
            raise InvalidInputError(
                f"{folder} exists and is not a prepared data set; choose another folder or remove it"
            )
        if bad := [name for name in self.properties if not name or Path(name).name != name or name.startswith(".")]:
            raise InvalidInputError(f"property names must be plain file names; got {bad[0]!r}")
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = folder.with_name(f".{folder.name}.partial-{os.getpid()}")
        shutil.rmtree(partial, ignore_errors=True)
        (partial / "properties").mkdir(parents=True)
        for name in _FIELDS:
            np.save(partial / f"{name}.npy", getattr(self, name))
        for name, values in self.properties.items():
            np.save(partial / "properties" / f"{name}.npy", values)
        header = {"format": "adit-dataset", "version": FORMAT_VERSION, "systems": len(self), "atoms": len(self.numbers)}
        (partial / "meta.json").write_text(json.dumps({**header, "meta": dict(self.meta)}, indent=1))
        if folder.exists():
            shutil.rmtree(folder)
        partial.rename(folder)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> PackedDataset:
        """Opens a folder written by `save`, memory-mapped, read-only.

        Raises:
            UnreadableFileError: the folder is missing, incomplete or of another format version.
        """
        folder = Path(folder)
        try:
            header = json.loads((folder / "meta.json").read_text())
            if not isinstance(header, dict):
                raise UnreadableFileError(f"{folder / 'meta.json'} is not a data set's description. Prepare it again")
            if header.get("format") != "adit-dataset" or header.get("version") != FORMAT_VERSION:
                raise UnreadableFileError(
                    f"{folder} holds format {header.get('format')!r} version {header.get('version')!r}; this adit "
                    f"reads 'adit-dataset' version {FORMAT_VERSION}. Prepare it again with `adit-data prepare`"
                )
            arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in _FIELDS}
            properties = {
                path.stem: np.load(path, mmap_mode="r") for path in sorted((folder / "properties").glob("*.npy"))
            }
        except (OSError, json.JSONDecodeError, EOFError) as error:
            raise UnreadableFileError(
                f"{folder} is not a prepared data set ({error}). Prepare it with `adit-data prepare`"
            ) from error
        except ValueError as error:
            if isinstance(error, UnreadableFileError):
                raise
            raise UnreadableFileError(f"{folder} is damaged ({error}). Prepare it again") from error
        data = cls(**arrays, properties=properties, meta=header.get("meta", {}))
        if len(data) != header.get("systems") or len(data.numbers) != header.get("atoms"):
            raise UnreadableFileError(
                f"{folder} holds {len(data)} systems of {len(data.numbers)} atoms in all, its meta.json says "
                f"{header.get('systems')} of {header.get('atoms')}. Prepare it again"
            )
        if problem := _inconsistency(data):
            raise UnreadableFileError(f"{folder} is damaged: {problem}. Prepare it again")
        return data


def _inconsistency(data: PackedDataset) -> str | None:
    """What of the arrays does not fit together, if anything."""
    systems, atoms = len(data), len(data.numbers)
    expected = {
        "numbers": (np.uint8, (atoms,)),
        "positions": (np.float32, (atoms, 3)),
        "cells": (np.float32, (systems, 3, 3)),
        "offsets": (np.int64, (systems + 1,)),
        "periodic": (np.bool_, (systems,)),
    }
    for name, (dtype, shape) in expected.items():
        array = getattr(data, name)
        if array.dtype != dtype or array.shape != shape:
            return f"{name}.npy must be {np.dtype(dtype)} {shape}; it is {array.dtype} {array.shape}"
    if data.offsets[0] != 0 or data.offsets[-1] != atoms or (data.sizes < 0).any():
        return f"offsets.npy must ascend from 0 to {atoms}"
    for name, values in data.properties.items():
        if values.shape != (systems,):
            return f"the property {name!r} must have shape ({systems},); it has {values.shape}"
    return None


def _columns(infos: list[Mapping[str, Any]]) -> dict[str, NDArray[Any]]:
    """Properties as columns: numbers to float64, with NaN also for N/A and its like; all else to strings with ''."""
    infos = [{name: _plain(value) for name, value in info.items()} for info in infos]
    names = sorted({name for info in infos for name, value in info.items() if isinstance(value, int | float | str)})
    columns: dict[str, NDArray[Any]] = {}
    for name in names:
        values = [info.get(name) for info in infos]
        known = [None if str(value).strip().lower() in _MISSING else value for value in values]
        numbers = [value for value in values if isinstance(value, int | float)]
        if numbers and all(value is None or isinstance(value, int | float) for value in known):
            columns[name] = np.array([np.nan if value is None else value for value in known], dtype=np.float64)
        else:
            columns[name] = np.array(["" if value is None else str(value) for value in values])
    return columns


def _plain(value: Any) -> Any:
    """A numpy scalar as a Python number; anything else as it is."""
    return value.item() if isinstance(value, np.generic) else value
