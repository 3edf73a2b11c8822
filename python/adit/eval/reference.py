"""What novelty is measured against, and the SMILES of its molecules, kept for the next time."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from adit.convert.base import BrokenEntry
from adit.convert.files import iread
from adit.data.packed import SPLITS, PackedDataset
from adit.data.prepare import cache_folder, load
from adit.errors import UnreadableFileError
from adit.eval.molecules import judge
from adit.output import write_whole
from adit.packing import pack, take

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from adit.eval.protocols import Protocol
    from adit.eval.workers import Advance, Workers
    from adit.packing import Packed

_PERCEPTION = 1
"""Counts up when `adit.bonds` or `adit.eval.protocols` says something else of a molecule than before."""
WORTH_KEEPING = 2000  # molecules: fewer take a second
_LIBRARIES = {"adit": ("rdkit", "openbabel-wheel"), "edm": ("rdkit",), "adit-rust": ("rdkit",)}


@dataclass(frozen=True)
class Reference:
    """Known structures.

    Attributes:
        name: for people.
        data: all of them, of both kinds.
    """

    name: str
    data: PackedDataset

    @classmethod
    def open(cls, name: str) -> Reference:
        """A prepared data set by name or folder, or any file of structures; `mp20:train` is one split of it.

        Raises:
            UnreadableFileError: there is no such thing, or it holds no structure.
        """
        where, _, split = name.rpartition(":")
        if split in SPLITS and where and not Path(name).exists():
            data = _open(where).split(split)
            if not len(data):
                raise UnreadableFileError(f"{where} has nothing in its split {split!r}")
            return cls(name, data)
        return cls(name, _open(name))

    @cached_property
    def molecules(self) -> NDArray[np.int64]:
        """Indices of the molecules."""
        return np.flatnonzero(~np.asarray(self.data.periodic))

    @cached_property
    def crystals(self) -> NDArray[np.int64]:
        """Indices of the crystals."""
        return np.flatnonzero(self.data.periodic)

    def label(self, index: int) -> str:
        """`533`, or `533 (mp-1234)` where entries have an id."""
        ids = self.data.properties.get("id")
        return str(index) if ids is None or not str(ids[index]) else f"{index} ({ids[index]})"

    def smiles(self, protocol: Protocol, workers: Workers, advance: Advance | None = None) -> dict[str, int]:
        """Canonical SMILES of the valid molecules by a protocol -> index of the first that has it.

        They are kept in the cache folder (`adit.data.prepare.cache_folder`) by the checksum of the molecules,
        the protocol and the versions of the libraries.
        """
        molecules = take(pack(self.data), self.molecules)
        path = cache_folder("smiles") / f"{_key(molecules, protocol)}.txt"
        try:
            lines = path.read_text(encoding="utf-8").split("\n")
        except OSError:
            lines = []
        if len(lines) == len(self.molecules) > 0:
            if advance is not None:
                advance(len(lines))
        else:
            lines = [entry or "" for entry in judge(molecules, protocol, workers=workers, advance=advance).smiles]
            if len(lines) >= WORTH_KEEPING:
                keep(path, "\n".join(lines).encode(), "SMILES")
        first: dict[str, int] = {}
        for index, entry in zip(self.molecules.tolist(), lines, strict=True):
            if entry:
                first.setdefault(entry, index)
        return first


def _open(name: str) -> PackedDataset:
    path = Path(name)
    if (path / "meta.json").is_file() or not path.exists():
        return load(name)
    entries = list(iread(path))
    data = PackedDataset.from_systems(entry for entry in entries if not isinstance(entry, BrokenEntry))
    if not len(data):
        raise UnreadableFileError(f"{path} holds no molecule or crystal that can be read")
    if len(data) < len(entries):
        logging.getLogger("adit").warning("%s: %d broken entries skipped", path, len(entries) - len(data))
    return data


def checksum(systems: Packed, words: str) -> str:
    """32 hexadecimal digits for systems, what is found of them (`words`), and how bonds are perceived."""
    digest = hashlib.sha256()
    for array in (systems.numbers, systems.positions, systems.offsets):
        digest.update(np.ascontiguousarray(array).tobytes())
    if systems.periodic.any():
        digest.update(np.ascontiguousarray(systems.cells).tobytes())
    digest.update(f"{_PERCEPTION} {words}".encode())
    return digest.hexdigest()[:32]


def _key(molecules: Packed, protocol: Protocol) -> str:
    libraries = [f"{name} {installed(name)}" for name in _LIBRARIES[protocol]]
    return f"{protocol}-{checksum(molecules, f'{protocol} {libraries}')}"


def installed(package: str) -> str:
    """Its version, or "unknown"."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def keep(path: Path, content: bytes, what: str) -> None:
    """Writes a file of the cache, which appears whole or not at all; says where it cannot be written."""
    try:
        write_whole(path, content)
    except OSError as error:
        logging.getLogger("adit").warning(
            "%s cannot be written, so %s are found again each time: %s", path, what, error
        )
