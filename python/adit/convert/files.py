"""Reading of structure files: cif, xyz, extxyz, sdf, POSCAR, each plain or gzipped; folders and zips of those."""

from __future__ import annotations

import gzip
import itertools
import os
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath, PurePosixPath
from typing import BinaryIO, Literal, cast

from adit.convert.base import BrokenEntry, reading
from adit.convert.cif import parse_cif
from adit.convert.poscar import parse_poscar
from adit.convert.text import Entry, parse_sdf, parse_xyz
from adit.errors import InvalidInputError, UnreadableFileError
from adit.system import AtomicSystem

MAX_MEMBER = 4 << 30
"""Largest file inside a zip that is read, in bytes once unpacked."""
_SUFFIXES = {
    ".cif": "cif",
    ".mcif": "cif",
    ".xyz": "xyz",
    ".extxyz": "xyz",
    ".exyz": "xyz",
    ".sdf": "sdf",
    ".sd": "sdf",
    ".mol": "sdf",
    ".poscar": "poscar",
    ".contcar": "poscar",
    ".vasp": "poscar",
}
_WHOLE: dict[str, Callable[[str, str], Iterator[Entry]]] = {"cif": parse_cif, "poscar": parse_poscar}
_PERIODIC = {"cif": True, "poscar": True, "sdf": False}
_KNOWN = (
    "cif, xyz, extxyz, sdf, mol, vasp, POSCAR and CONTCAR (each also .gz), zip, a folder of those, "
    "or a prepared data set"
)
_MAGIC = {b"\x1f\x8b": "a gzip file (name it .gz)", b"PK\x03\x04": "a zip file (name it .zip)", b"BZh": "a bzip2 file"}


def format_of(name: str) -> str | None:
    """The format of a file by its name: "cif", "xyz", "sdf" or "poscar"; None if it is none of these."""
    path = PurePosixPath(name.lower())
    if path.suffix == ".gz":
        path = path.with_suffix("")
    if path.name.startswith(("poscar", "contcar")) and path.suffix not in (".xyz", ".cif", ".sdf", ".extxyz"):
        return "poscar"
    return _SUFFIXES.get(path.suffix)


def read(
    path: str | os.PathLike[str],
    *,
    on_error: Literal["raise", "warn", "skip"] = "raise",
    all_hydrogens: bool = True,
) -> list[AtomicSystem]:
    """Every molecule and crystal of a file, folder or zip.

    Args:
        path: see `iread`.
        on_error: what to do about a broken entry: "raise"; "warn" once, with their number and the first
            reason; or "skip" without a word.
        all_hydrogens: as for `iread`.

    Raises:
        UnreadableFileError: a broken entry (with "raise"), a file that is not what its name claims, or
            not one entry that can be used (always). The message names the first broken entry, its reason, and
            how many there are.
    """
    if on_error not in ("raise", "warn", "skip"):
        raise InvalidInputError(f"`on_error` must be 'raise', 'warn' or 'skip'; got {on_error!r}")
    systems: list[AtomicSystem] = []
    broken: list[BrokenEntry] = []
    for entry in iread(path, all_hydrogens=all_hydrogens):
        if isinstance(entry, AtomicSystem):
            systems.append(entry)
        else:
            broken.append(entry)
    total = len(systems) + len(broken)
    if broken and on_error == "raise":
        several = f" ({len(broken):,} of {total:,} entries cannot be read)" if total > 1 else ""
        raise UnreadableFileError(f"{broken[0]}{several}")
    if not systems:
        detail = f"; the first of {len(broken)} broken entries: {broken[0]}" if broken else ""
        raise UnreadableFileError(f"{path} holds no molecule or crystal that can be read{detail}")
    if broken and on_error == "warn":
        warnings.warn(f"{path}: {len(broken)} broken entries skipped; the first: {broken[0]}", stacklevel=2)
    return systems


def iread(path: str | os.PathLike[str], *, all_hydrogens: bool = True) -> Iterator[AtomicSystem | BrokenEntry]:
    """Every entry of a file, folder or zip, one after the other, broken ones included. Nothing is unpacked to disk.

    A folder is read with its subfolders, in the order of the names; hidden files and files of other kinds
    are passed over. `info["id"]` names the entry. A folder that `PackedDataset.save` wrote is read as that.

    Args:
        path: of a file, folder or zip.
        all_hydrogens: whether a record of an SDF is broken whose bonds leave hydrogens out. Without, it is read as it
            is: a scaffold, say.

    Raises:
        UnreadableFileError: the path does not exist; a single file is empty, binary, a web page, truncated
            (gzip, zip), or of an unknown kind; a folder or zip holds no file of a known kind.
    """
    path = Path(path)
    if (path / "meta.json").is_file() and (path / "offsets.npy").is_file():
        yield from _dataset(path)
    elif path.is_dir():
        yield from _folder(path, all_hydrogens)
    elif path.suffix.lower() == ".zip":
        yield from _zip(path, all_hydrogens)
    else:
        kind = format_of(path.name)
        if kind is None and path.exists():
            raise UnreadableFileError(f"{path} is of an unknown kind; known: {_KNOWN}")
        with reading(path), path.open("rb") as file:
            yield from _stream(file, kind or "", path.name, str(path), all_hydrogens)


def structure_files(folder: Path) -> list[Path]:
    """The files of a known kind below a folder, sorted; hidden ones are passed over.

    Raises:
        UnreadableFileError: there is none.
    """
    files = [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and format_of(path.name) is not None and not _hidden(path.relative_to(folder))
    ]
    if not files:
        raise UnreadableFileError(f"{folder} holds no file of a known kind: {_KNOWN}")
    return files


def _hidden(path: PurePath) -> bool:
    return any(part != ".." and part.startswith((".", "__MACOSX")) for part in path.parts)


def _dataset(folder: Path) -> Iterator[Entry]:
    from adit.data.packed import PackedDataset

    data = PackedDataset.load(folder)
    for index in range(len(data)):
        name = f"{folder.name}[{index + 1}]"
        try:
            system = data[index]
        except InvalidInputError as error:
            yield BrokenEntry(name, str(error), bool(data.periodic[index]))
            continue
        yield AtomicSystem(system.numbers, system.positions, system.cell, {"id": name, **system.info})


def _folder(folder: Path, all_hydrogens: bool) -> Iterator[Entry]:
    for path in structure_files(folder):
        yield from iread_tolerant(path, all_hydrogens=all_hydrogens)


def iread_tolerant(path: Path, *, all_hydrogens: bool = True) -> Iterator[AtomicSystem | BrokenEntry]:
    """As `iread`, with a `BrokenEntry` for a file that cannot be read at all."""
    try:
        yield from iread(path, all_hydrogens=all_hydrogens)
    except UnreadableFileError as error:
        yield BrokenEntry(str(path), str(error), _PERIODIC.get(format_of(path.name) or ""))


def _zip(path: Path, all_hydrogens: bool) -> Iterator[Entry]:
    try:
        with reading(path), zipfile.ZipFile(path) as archive:
            members = [
                member
                for member in archive.infolist()
                if not member.is_dir()
                and format_of(member.filename) is not None
                and not _hidden(PurePosixPath(member.filename))
            ]
            if not members:
                raise UnreadableFileError(f"{path} holds no file of a known kind: {_KNOWN}")
            for member in members:
                yield from _member(archive, member, f"{path.name}/{member.filename}", all_hydrogens)
    except zipfile.BadZipFile as error:
        raise UnreadableFileError(f"{path} is not a complete zip file ({error}); it may be truncated") from error


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str, all_hydrogens: bool) -> Iterator[Entry]:
    kind = format_of(member.filename) or ""
    periodic = _PERIODIC.get(kind)
    if member.flag_bits & 1:
        yield BrokenEntry(name, "encrypted", periodic)
        return
    if member.file_size > MAX_MEMBER:
        yield BrokenEntry(name, f"{member.file_size >> 30} GiB unpacked; the limit is {MAX_MEMBER >> 30} GiB", periodic)
        return
    try:
        with archive.open(member) as file:
            yield from _stream(cast(BinaryIO, file), kind, name, name, all_hydrogens)
    except (UnreadableFileError, zipfile.BadZipFile, NotImplementedError, zlib.error, EOFError) as error:
        yield BrokenEntry(name, str(error), periodic)


def _stream(file: BinaryIO, kind: str, name: str, full: str, all_hydrogens: bool) -> Iterator[Entry]:
    """Entries of one open file; `name` goes into ids, `full` into errors."""
    if name.lower().endswith(".gz"):
        with reading(Path(full)), gzip.GzipFile(fileobj=file) as unpacked:
            yield from _stream(cast(BinaryIO, unpacked), kind, name[:-3], full, all_hydrogens)
        return
    head = file.read(1024)
    _refuse(head, full, kind)
    if kind in _WHOLE:
        entries = _WHOLE[kind](_decode(head + file.read(), full), name)
    else:
        lines = _lines(head, file, full)
        entries = parse_xyz(lines, name) if kind == "xyz" else parse_sdf(lines, name, all_hydrogens=all_hydrogens)
    found = False
    for entry in entries:
        found = True
        if isinstance(entry, BrokenEntry) and kind in _PERIODIC:
            entry = BrokenEntry(entry.source, entry.reason, _PERIODIC[kind])
        yield entry
    if not found:
        raise UnreadableFileError(f"{full} holds no molecule or crystal")


def _lines(head: bytes, file: BinaryIO, name: str) -> Iterator[str]:
    """Lines of the rest of a file, whose first bytes are `head`."""
    first = head + (b"" if head.endswith(b"\n") else file.readline())
    for line in itertools.chain(first.removeprefix(b"\xef\xbb\xbf").splitlines(keepends=True), file):
        if b"\0" in line:
            raise UnreadableFileError(f"{name} holds binary data (a NUL byte); it may be damaged")
        yield line.decode("utf-8", errors="replace")


def _refuse(head: bytes, name: str, kind: str) -> None:
    """Raises where the first bytes cannot be those of a structure file."""
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not start:
        raise UnreadableFileError(f"{name} is empty")
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        raise UnreadableFileError(f"{name} is a web page (HTML or XML), not {kind}; the download may have failed")
    for magic, words in _MAGIC.items():
        if head.startswith(magic):
            raise UnreadableFileError(f"{name} is {words}, not {kind}")
    if b"\0" in head or sum(byte < 9 for byte in head) > 0:
        raise UnreadableFileError(f"{name} is binary, not {kind}")


def _decode(data: bytes, name: str) -> str:
    """UTF-8, or Latin-1 as older CIFs have it."""
    if b"\0" in data:
        raise UnreadableFileError(f"{name} holds binary data (a NUL byte at {data.index(0)}); it may be damaged")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")
