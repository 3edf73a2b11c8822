"""Writing of structure files as they are made: after each system, what stands on disk can be read."""

from __future__ import annotations

import os
import re
import shutil
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from adit.bonds import FAULTS, BondFlag, sdf_records
from adit.convert.cif import format_cif
from adit.convert.files import format_of
from adit.convert.poscar import format_poscar
from adit.convert.rdkit import total_charge
from adit.errors import InvalidInputError
from adit.output import writing
from adit.packing import SystemLike, as_system
from adit.system import AtomicSystem

SUFFIXES = (".sdf", ".xyz", ".extxyz", ".cif", ".zip", ".vasp")
_MORE = "write more to an .extxyz, a .zip or a folder/ of CIFs"
_SINGLE = {"ase.atoms", "pymatgen.core.structure"}
"""Where the classes of one structure stand whose instances are collections, of atoms."""


class Writer(ABC):
    """Writes systems one by one; a context manager.

    Attributes:
        path: the file or folder that is written.
        count: complete systems on disk, including those found with `append`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0

    def write(self, system: SystemLike) -> None:
        """Writes and flushes one system, of any class that `adit.packing.as_system` takes.

        Raises:
            InvalidInputError: it is no molecule or crystal, the format cannot hold it, or the disk refuses.
        """
        try:
            held = as_system(system)
        except InvalidInputError as error:
            raise InvalidInputError(f"{self.path}, system {self.count}: {error}") from error
        with writing(self.path):
            self._write(held)
        self.count += 1

    def write_all(self, systems: Sequence[SystemLike]) -> None:
        """Writes systems that are all there already: as `write` one by one, in some formats many times faster.

        Raises:
            InvalidInputError: as `write`; those before the one that cannot be written are on disk.
        """
        for system in systems:
            self.write(system)

    @abstractmethod
    def _write(self, system: AtomicSystem) -> None: ...

    @abstractmethod
    def close(self) -> None:
        """Finishes the file. Calling it again does nothing."""

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def write(path: str | os.PathLike[str], systems: Iterable[SystemLike] | SystemLike) -> int:
    """Writes systems to a file or folder, the format from the name; see `open_writer`. Returns how many.

    Args:
        path: where to.
        systems: one or many, of any class that `adit.packing.as_system` takes.
    """
    single = _SINGLE & {kind.__module__ for kind in type(systems).__mro__}
    many: Iterable[SystemLike] = systems if isinstance(systems, Iterable) and not single else [systems]
    expected = len(many) if isinstance(many, list | tuple) else None
    with open_writer(path, expected=expected) as writer:
        if isinstance(many, list | tuple):
            writer.write_all(many)
        else:
            for system in many:
                writer.write(system)
    return writer.count


def destination(path: str | os.PathLike[str], expected: int | None = None) -> tuple[Path, str]:
    """The file or folder that `open_writer` makes of a path, and its kind: one of `SUFFIXES`, or "folder" (of CIFs).

    Raises:
        InvalidInputError: the suffix is unknown, or several systems are to go into a POSCAR.
    """
    text = os.fspath(path)
    target = Path(text)
    suffix = target.suffix.lower()
    if text.endswith(("/", os.sep)) or target.is_dir():
        return target, "folder"
    if suffix in (*_STREAMS, ".zip"):
        return target, suffix
    if suffix == ".cif":
        return (target, ".cif") if expected == 1 else (target.with_suffix(""), "folder")
    if format_of(target.name) == "poscar" and suffix != ".gz":
        if expected is not None and expected > 1:
            raise InvalidInputError(f"{text}: a POSCAR holds one crystal, not {expected}; {_MORE}")
        return target, ".vasp"
    if suffix:
        known = ", ".join(SUFFIXES)
        raise InvalidInputError(f"{text}: unknown format {suffix!r}; known: {known}, POSCAR, or a folder (of CIFs)")
    return target, "folder"


def open_writer(path: str | os.PathLike[str], *, append: bool = False, expected: int | None = None) -> Writer:
    """A writer for this path.

    | path | what is written |
    |---|---|
    | `x.sdf` | molecules, with bonds |
    | `x.xyz`, `x.extxyz` | molecules and crystals, as extended XYZ |
    | `x.cif` | one crystal, if `expected` is 1; else a folder `x/` of `x_00001.cif`, ... |
    | `x.zip` | a zip of CIFs; until it is closed, a folder `x.zip.partial/` of them |
    | `x.vasp`, `x.poscar`, `POSCAR...`, `CONTCAR...` | one crystal, in the format of VASP 5 |
    | `x/`, `x`, or an existing folder | a folder of CIFs `x_00001.cif`, ... |

    Args:
        path: an existing file of this name is replaced, as are CIFs of an earlier run in the folder.
        append: go on with what is there; a torn last entry is removed, and `count` says how many are complete.
        expected: how many systems will come, if known.

    Raises:
        InvalidInputError: the suffix is unknown, the place cannot be written, or `expected` is more than a POSCAR
            holds.
    """
    target, kind = destination(path, expected)
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        if kind == "folder":
            return CifFolderWriter(target, append)
        if kind == ".zip":
            return CifZipWriter(target, append)
        if kind in (".cif", ".vasp"):
            return CrystalWriter(target, append, format_cif if kind == ".cif" else format_poscar)
        return StreamWriter(target, append, *_STREAMS[kind])


class StreamWriter(Writer):
    """One file with an entry after the other."""

    def __init__(
        self,
        path: Path,
        append: bool,
        texts: Callable[[Sequence[AtomicSystem]], list[str]],
        ends: Callable[[IO[bytes]], Iterator[int]],
    ) -> None:
        super().__init__(path)
        self._texts = texts
        self._file: IO[bytes] = path.open("r+b" if append and path.exists() else "w+b")
        complete = list(ends(self._file))
        self.count = len(complete)
        self._file.seek(complete[-1] if complete else 0)
        self._file.truncate()

    def write_all(self, systems: Sequence[SystemLike]) -> None:
        try:
            texts = self._texts([as_system(system) for system in systems])
        except InvalidInputError:  # which one it is, and those before it, `write` finds
            super().write_all(systems)
            return
        with writing(self.path):
            self._put(texts)
        self.count += len(texts)

    def _write(self, system: AtomicSystem) -> None:
        self._put(self._texts([system]))

    def _put(self, texts: Sequence[str]) -> None:
        self._file.write("".join(texts).encode())
        self._file.flush()

    def close(self) -> None:
        self._file.close()


class CrystalWriter(Writer):
    """One crystal in a file."""

    def __init__(self, path: Path, append: bool, text: Callable[[AtomicSystem, str], str]) -> None:
        super().__init__(path)
        self._text = text
        if append and path.exists():
            self.count = 1
        elif not os.access(path.parent, os.W_OK):
            raise PermissionError(13, "Permission denied", str(path))

    def _write(self, system: AtomicSystem) -> None:
        if self.count:
            raise InvalidInputError(f"{self.path} holds one crystal already; {_MORE}")
        _replace(self.path, self._text(system, str(system.info.get("id", self.path.stem))))

    def close(self) -> None:
        pass


class CifFolderWriter(Writer):
    """A folder of CIFs: NAME_00001.cif, ... Each appears complete or not at all."""

    def __init__(self, path: Path, append: bool, name: str | None = None) -> None:
        super().__init__(path)
        self._name = name or path.resolve().name
        path.mkdir(exist_ok=True)
        if append:
            while self._file(self.count).exists():
                self.count += 1
        else:
            pattern = re.compile(re.escape(self._name) + r"_\d{5,}\.cif")
            for old in path.iterdir():
                if pattern.fullmatch(old.name):
                    old.unlink()

    def _file(self, index: int) -> Path:
        return self.path / f"{self._name}_{index + 1:05d}.cif"

    def _write(self, system: AtomicSystem) -> None:
        target = self._file(self.count)
        _replace(target, format_cif(system, str(system.info.get("id", target.stem))))

    def close(self) -> None:
        pass


class CifZipWriter(Writer):
    """A zip of CIFs, kept as a folder NAME.zip.partial until it is closed."""

    def __init__(self, path: Path, append: bool) -> None:
        super().__init__(path)
        partial = path.with_name(f"{path.name}.partial")
        if append and not partial.exists() and path.exists():
            _unpack(path, partial)
        elif not append:
            shutil.rmtree(partial, ignore_errors=True)
        self._folder = CifFolderWriter(partial, append, path.stem)
        self.count = self._folder.count
        self._open = True

    def _write(self, system: AtomicSystem) -> None:
        self._folder.write(system)

    def close(self) -> None:
        if not self._open:
            return
        self._open = False
        with writing(self.path):
            temporary = self.path.with_name(f".{self.path.name}.tmp")
            with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
                for index in range(self.count):
                    file = self._folder._file(index)
                    # without the file's time: the same structures give the same zip
                    entry = zipfile.ZipInfo(file.name, (1980, 1, 1, 0, 0, 0))
                    entry.external_attr = 0o644 << 16
                    archive.writestr(entry, file.read_bytes(), zipfile.ZIP_DEFLATED)
            temporary.replace(self.path)
            shutil.rmtree(self._folder.path)


def _unpack(path: Path, folder: Path) -> None:
    """The CIFs that an earlier run zipped, back into the partial folder; other names are not touched."""
    pattern = re.compile(re.escape(path.stem) + r"_\d{5,}\.cif")
    try:
        with zipfile.ZipFile(path) as archive:
            folder.mkdir()
            for name in archive.namelist():
                if pattern.fullmatch(name):
                    _replace(folder / name, archive.read(name).decode("utf-8"))
    except zipfile.BadZipFile as error:
        raise InvalidInputError(f"{path} is not a zip file ({error}); remove it or choose another name") from error


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def format_extxyz(system: AtomicSystem) -> str:
    """One frame of extended XYZ, every coordinate with all its digits."""
    words = []
    if system.cell is not None:
        words.append('Lattice="' + " ".join(repr(float(number)) for number in system.cell.ravel()) + '"')
    words.append("Properties=species:S:1:pos:R:3")
    words.append('pbc="T T T"' if system.cell is not None else 'pbc="F F F"')
    words += [f"{re.sub(r'[^A-Za-z0-9_.-]', '_', name)}={_quoted(held)}" for name, held in _simple(system).items()]
    rows = [
        f"{symbol} {x!r} {y!r} {z!r}"
        for symbol, (x, y, z) in zip(system.symbols, system.positions.tolist(), strict=True)
    ]
    return "\n".join([str(len(system)), " ".join(words), *rows]) + "\n"


def _xyz_texts(systems: Sequence[AtomicSystem]) -> list[str]:
    """Of each its `format_extxyz`."""
    return [format_extxyz(system) for system in systems]


def _sdf_texts(systems: Sequence[AtomicSystem]) -> list[str]:
    """Of each its SDF record: bonds from the coordinates, `info` as data items; `adit_bonds` says how bonds were found.

    Raises:
        InvalidInputError: one is a crystal.
    """
    titles, items = [], []
    for system in systems:
        if system.cell is not None:
            raise InvalidInputError(f"an SDF holds molecules; got the crystal {system.formula}. Write .cif or .extxyz")
        titles.append(" ".join(str(system.info.get("id", "")).split())[:80])
        held = _simple(system).items()
        items.append("".join(f"> <{name}>\n{str(value).strip()}\n\n" for name, value in held if name != "id"))
    charges = [total_charge(system) for system in systems]
    records, flags = sdf_records(systems, charges, titles=titles, items=items, threads=1 if len(systems) == 1 else None)
    faults = ["|".join((BondFlag(int(flag)) & FAULTS).names) or "orders" for flag in flags]
    return [
        record.removesuffix("$$$$\n") + f"> <adit_bonds>\n{fault}\n\n$$$$\n"
        for record, fault in zip(records, faults, strict=True)
    ]


def _simple(system: AtomicSystem) -> dict[str, Any]:
    """`info` entries that are one number or one line of text."""
    kinds = (int, float, str)
    return {
        name: " ".join(held.split()) if isinstance(held, str) else held
        for name, held in system.info.items()
        if isinstance(held, kinds) and held not in ("",) and held == held and not re.search(r"[<>\n]", name)
    }


def _quoted(held: float | str) -> str:
    text = str(held)
    return text if re.fullmatch(r"[^\s\"'=,{}\[\]]+", text) else '"' + text.replace('"', "'") + '"'


def _xyz_ends(file: IO[bytes]) -> Iterator[int]:
    """The byte after each complete frame, up to the first that is torn."""
    file.seek(0)
    while (line := file.readline()).endswith(b"\n") and line.strip().isdigit():
        for _ in range(int(line) + 1):
            if not file.readline().endswith(b"\n"):
                return
        yield file.tell()


def _sdf_ends(file: IO[bytes]) -> Iterator[int]:
    """The byte after each `$$$$` line."""
    file.seek(0)
    while line := file.readline():
        if line == b"$$$$\n":
            yield file.tell()


_STREAMS: dict[str, tuple[Callable[[Sequence[AtomicSystem]], list[str]], Callable[[IO[bytes]], Iterator[int]]]] = {
    ".sdf": (_sdf_texts, _sdf_ends),
    ".xyz": (_xyz_texts, _xyz_ends),
    ".extxyz": (_xyz_texts, _xyz_ends),
}
