"""What has been relaxed, line by line on disk: a killed run goes on where it was."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from adit.errors import InvalidInputError, UnreadableFileError
from adit.output import writing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from adit.system import AtomicSystem

FORMAT = "adit-relaxations"
VERSION = 1
FILE = "relaxations.jsonl"


def key(system: AtomicSystem) -> str:
    """32 hexadecimal digits for the numbers, positions and cell of a system, bit by bit."""
    digest = hashlib.sha256()
    for array in (system.numbers, system.positions, np.zeros(0) if system.cell is None else system.cell):
        digest.update(np.ascontiguousarray(array).tobytes())
        digest.update(b"|")
    return digest.hexdigest()[:32]


class Journal:
    """One JSON object a line: first the settings, then a result for each structure, on disk when `add` returns.

    A last line that was cut off by a crash is dropped. Use it in a `with` statement.

    Args:
        folder: made if it is not there.
        settings: what the results depend on.

    Attributes:
        done: the results in the file, by key.

    Raises:
        InvalidInputError: the folder holds results of other settings, or cannot be written.
        UnreadableFileError: the file is none of ours, or damaged elsewhere than at its end.
    """

    def __init__(self, folder: str | os.PathLike[str], settings: Mapping[str, Any]) -> None:
        self.path = Path(folder) / FILE
        self.done: dict[str, dict[str, Any]] = {}
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("a+b")
        try:
            self._open(dict(settings))
        except BaseException:
            self._file.close()
            raise

    def _open(self, settings: dict[str, Any]) -> None:
        self._file.seek(0)
        content = self._file.read()
        whole = content.rfind(b"\n") + 1
        lines = content[:whole].splitlines()
        if lines:
            self._check(lines[0], settings)
            for number, line in enumerate(lines[1:], 2):
                entry = _parse(line)
                if entry is None or "key" not in entry:
                    raise UnreadableFileError(f"{self.path}, line {number}, is damaged. Delete that line, or the file")
                self.done[entry.pop("key")] = entry
        elif content and not b'{"format": "adit'.startswith(content[:15]):
            raise UnreadableFileError(f"{self.path} is no journal of relaxations; choose another folder")
        if whole < len(content):
            self._file.truncate(whole)
        if not lines:
            self._write({"format": FORMAT, "version": VERSION, "settings": settings})

    def _check(self, line: bytes, settings: dict[str, Any]) -> None:
        header = _parse(line)
        if header is None or header.get("format") != FORMAT or header.get("version") != VERSION:
            raise UnreadableFileError(
                f"{self.path} is no journal of relaxations of version {VERSION}; choose another folder"
            )
        held = header.get("settings")
        if not isinstance(held, dict):
            raise UnreadableFileError(f"{self.path} does not say its settings. Delete the file")
        settings = json.loads(json.dumps(settings))
        if held != settings:
            names = [name for name in {**held, **settings} if held.get(name) != settings.get(name)]
            changed = ", ".join(f"{name} {held.get(name)!r}, not {settings.get(name)!r}" for name in names)
            raise InvalidInputError(
                f"{self.path} holds results with {changed}. Choose the same settings to go on, or another folder"
            )

    def add(self, entries: Mapping[str, Mapping[str, Any]]) -> None:
        """Writes results, by key, and waits until they are on the disk."""
        self.done.update((name, dict(entry)) for name, entry in entries.items())
        self._write(*({"key": name, **entry} for name, entry in entries.items()))

    def _write(self, *things: dict[str, Any]) -> None:
        self._file.write(b"".join(json.dumps(thing, allow_nan=False).encode() + b"\n" for thing in things))
        self._file.flush()
        os.fsync(self._file.fileno())

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
