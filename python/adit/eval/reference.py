"""What novelty is measured against, and the SMILES of its molecules, kept for the next time."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from adit.convert.base import BrokenEntry
from adit.convert.files import iread
from adit.data.packed import SPLITS, PackedDataset
from adit.data.prepare import cache_folder, load, merge
from adit.errors import UnreadableFileError
from adit.eval.molecules import judge
from adit.eval.smiles_list import is_list, known_forms, read_list
from adit.output import write_whole
from adit.packing import pack, take

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from adit.data.conformers import Named
    from adit.eval.protocols import Protocol
    from adit.eval.results import Kind
    from adit.eval.workers import Advance, Workers
    from adit.packing import Packed

_PERCEPTION = 1
"""Counts up when `adit.bonds` or `adit.eval.protocols` says something else of a molecule than before."""
WORTH_KEEPING = 2000  # molecules: fewer take a second
_FORMS = 1
"""Counts up when `adit.eval.smiles_list.known_forms` says something else of a SMILES than before."""
_CHUNK = 250  # SMILES that a process gets at a time
_SHOWN = 3  # SMILES that cannot be read
_LIBRARIES = {"adit": ("rdkit", "openbabel-wheel"), "edm": ("rdkit",), "adit-rust": ("rdkit",)}


@dataclass(frozen=True)
class Reference:
    """Known structures, and known molecules without coordinates.

    Attributes:
        name: for people.
        data: all structures, of both kinds.
        listed: SMILES of further molecules, each with the place where it stands; for novelty alone.
    """

    name: str
    data: PackedDataset
    listed: Sequence[Named] = ()
    _found: list[str] = field(default_factory=list, init=False, repr=False, compare=False)  # see `_forms`

    @classmethod
    def open(cls, name: str) -> Reference:
        """A prepared data set by name or folder, any file of structures, or a list of SMILES.

        `mp20:train` is one split of a data set. Lists: `adit.eval.smiles_list.read_list`.

        Raises:
            UnreadableFileError: there is no such thing, or it holds no structure and no SMILES.
        """
        if is_list(Path(name)):
            return cls(name, PackedDataset.from_systems([]), read_list(Path(name)))
        where, _, split = name.rpartition(":")
        if split in SPLITS and where and not Path(name).exists():
            data = _open(where).split(split)
            if not len(data):
                raise UnreadableFileError(f"{where} has nothing in its split {split!r}")
            return cls(name, data)
        return cls(name, _open(name))

    @classmethod
    def open_all(cls, names: Sequence[str], kind: Kind | None = None) -> Reference:
        """One or several, each as `open` takes it, as one reference: what is in any of them is known.

        Args:
            names: at least one.
            kind: "molecules" or "crystals": what each of them must hold.

        Raises:
            UnreadableFileError: as `open`, or one of them holds nothing of this kind.
        """
        parts = [cls.open(name) for name in names]
        for part in parts:
            if kind is not None and not len(part.molecules if kind == "molecules" else part.crystals):
                raise UnreadableFileError(f"{part.name} holds no {kind[:-1]}")
        if len(parts) == 1:
            return parts[0]
        listed = [entry for part in parts for entry in part.listed]
        return cls(", ".join(names), merge([part.data for part in parts], {}), listed)

    @cached_property
    def molecules(self) -> NDArray[np.int64]:
        """Indices of the molecules; from `len(data)` on they are those of `listed`, which have no coordinates."""
        return np.concatenate([self.molecules_3d, len(self.data) + np.arange(len(self.listed))])

    @cached_property
    def molecules_3d(self) -> NDArray[np.int64]:
        """Indices of the molecules in `data`."""
        return np.flatnonzero(~np.asarray(self.data.periodic))

    @cached_property
    def crystals(self) -> NDArray[np.int64]:
        """Indices of the crystals."""
        return np.flatnonzero(self.data.periodic)

    def label(self, index: int) -> str:
        """`533`, or `533 (mp-1234)` where entries have an id; `533 (library.smi:12)`."""
        if index >= len(self.data):
            return f"{index} ({self.listed[index - len(self.data)].id})"
        ids = self.data.properties.get("id")
        return str(index) if ids is None or not str(ids[index]) else f"{index} ({ids[index]})"

    def smiles(self, protocol: Protocol, workers: Workers, advance: Advance | None = None) -> dict[str, int]:
        """Canonical SMILES of the valid molecules by a protocol -> index of the first that has it.

        Those of `listed` count by every protocol, in each form of `adit.eval.smiles_list.known_forms`; what RDKit
        cannot read is warned of, once.

        All are kept in the cache folder (`adit.data.prepare.cache_folder`) by the checksum of the molecules,
        the protocol and the versions of the libraries.
        """
        entries = [*self._judged(protocol, workers, advance), *self._forms(workers, advance)]
        first: dict[str, int] = {}
        for index, entry in zip(self.molecules.tolist(), entries, strict=True):
            for form in entry.split():
                first.setdefault(form, index)
        return first

    def _judged(self, protocol: Protocol, workers: Workers, advance: Advance | None) -> list[str]:
        """The SMILES of each molecule in `data`; "" of one that is not valid."""
        if not len(self.molecules_3d):
            return []
        molecules = take(pack(self.data), self.molecules_3d)

        def make() -> list[str]:
            return [entry or "" for entry in judge(molecules, protocol, workers=workers, advance=advance).smiles]

        return _lines(_key(molecules, protocol), len(self.molecules_3d), make, advance)

    def _forms(self, workers: Workers, advance: Advance | None) -> list[str]:
        """The `known_forms` of each of `listed`; found once, since they are the same by every protocol."""
        texts = [entry.smiles for entry in self.listed]

        def make() -> list[str]:
            pieces = [texts[start : start + _CHUNK] for start in range(0, len(texts), _CHUNK)]
            found = []
            for part in workers.run(known_forms, pieces, len(texts)):
                found += part
                if advance is not None:
                    advance(len(part))
            return found

        if self._found or not texts:
            if advance is not None:
                advance(len(texts))
            return self._found
        words = "\n".join([f"{_FORMS} rdkit {installed('rdkit')}", *texts])
        key = f"list-{hashlib.sha256(words.encode()).hexdigest()[:32]}"
        self._found.extend(_lines(key, len(texts), make, advance))
        self._warn()
        return self._found

    def _warn(self) -> None:
        bad = [
            f"{named.id} {named.smiles[:60]}"
            for named, forms in zip(self.listed, self._found, strict=True)
            if not forms
        ]
        if bad:
            shown = ", ".join([*bad[:_SHOWN], *["..."] * (len(bad) > _SHOWN)])
            logging.getLogger("adit").warning(
                "%d of %d SMILES skipped, which RDKit cannot read: %s", len(bad), len(self.listed), shown
            )


def _lines(key: str, count: int, make: Callable[[], list[str]], advance: Advance | None) -> list[str]:
    """What `make` gives, `count` SMILES or none in a line each, or gave before under this key."""
    path = cache_folder("smiles") / f"{key}.txt"
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except OSError:
        lines = []
    if len(lines) == count:
        if advance is not None:
            advance(count)
        return lines
    lines = make()
    if count >= WORTH_KEEPING:
        keep(path, "\n".join(lines).encode(), "SMILES")
    return lines


def _open(name: str) -> PackedDataset:
    path = Path(name)
    if (path / "meta.json").is_file() or not path.exists():
        return load(name)
    entries = list(iread(path))
    broken = [entry for entry in entries if isinstance(entry, BrokenEntry)]
    data = PackedDataset.from_systems(entry for entry in entries if not isinstance(entry, BrokenEntry))
    if not len(data):
        detail = f"; the first of {len(broken)} broken entries: {broken[0]}" if broken else ""
        raise UnreadableFileError(f"{path} holds no molecule or crystal that can be read{detail}")
    if broken:
        logging.getLogger("adit").warning("%s: %d broken entries skipped; the first: %s", path, len(broken), broken[0])
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
