"""Lists of SMILES to structures in 3D: ETKDGv3 embeddings relaxed with MMFF94 by RDKit, one for each SMILES.

They are not the published GEOM, whose conformers come from CREST with GFN2-xTB.
"""

from __future__ import annotations

import csv
import itertools
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np

from adit.convert.base import BrokenEntry, open_text, reading
from adit.convert.files import iread
from adit.convert.writers import open_writer
from adit.data.base import Entry, Task
from adit.data.pool import run_tasks
from adit.errors import InvalidInputError, UnreadableFileError
from adit.system import AtomicSystem

SEED = 0xADF
FORMATS = (".sdf", ".xyz", ".extxyz")
_MAX_STEPS = 2000
_CHUNK = 10
_COLUMNS = ["id", "smiles", "reason"]


@dataclass(frozen=True, slots=True)
class Named:
    """A SMILES and its name: the list's, and its number there, from 1."""

    id: str
    smiles: str


@dataclass(frozen=True, slots=True)
class Made:
    """What `make_conformers` did, in this run and those that it went on with.

    Attributes:
        count: structures in the file.
        failed: how many SMILES gave none, by reason.
        report: the CSV file that names them: id, smiles, reason.
    """

    count: int
    failed: Counter[str]
    report: Path


def read_smiles(path: Path) -> Iterator[Named]:
    """The SMILES of a text file, plain or .gz: a table, or the first word of each line; see `smiles_lines`.

    The column `id` or `name` of a table, where there is one, names them.

    Raises:
        UnreadableFileError: the file is missing, torn, or no text.
    """
    stem = path.name.split(".")[0]
    for number, (_, title, smiles) in enumerate(smiles_lines(path), 1):
        plain = f"{stem}:{title or number}"  # a number alone would be read back as 7.0
        yield Named(plain if re.fullmatch(r"[-+.\deE]*", title) else title, smiles)


def smiles_lines(path: Path, table: bool | None = None) -> Iterator[tuple[int, str, str]]:
    """Line, title ("" for none) and SMILES of each entry of a text file, plain or .gz.

    Args:
        path: a table begins with a line of names, of which one is `smiles` and perhaps one `id` or `name`, in any case,
            between commas, semicolons or tabs. Else the first word of each line counts; empty lines and those that
            begin with # have none.
        table: whether it is one; None if that is to be seen from its first line.

    Raises:
        UnreadableFileError: the file is missing, torn, no text, or no such table.
    """
    with reading(path), open_text(path) as file:
        first = file.readline()
        mark = max(",;\t", key=first.count)
        names = [name.strip() for name in next(csv.reader([first], delimiter=mark), [])]
        lower = [name.lower() for name in names]
        if table and "smiles" not in lower:
            columns = ", ".join(names) or "nothing"
            raise UnreadableFileError(
                f"{path} has no column 'smiles'; its first line names {columns}. Rename the column"
            )
        if table is False or "smiles" not in lower:
            for number, line in enumerate(itertools.chain([first], file), 1):
                if line.strip() and line[0] != "#":
                    yield number, "", re.split(r"[\s,;]", line.strip(), maxsplit=1)[0]
            return
        place, label = lower.index("smiles"), next((lower.index(n) for n in ("id", "name") if n in lower), None)
        rows = csv.reader(file, delimiter=mark)
        try:
            for row in rows:
                if len(row) > place:
                    title = _title(row[label]) if label is not None and label < len(row) else ""
                    yield rows.line_num + 1, title, row[place].strip()
        except csv.Error as error:
            raise UnreadableFileError(f"{path} is not a table from line {rows.line_num + 1} on: {error}") from error


def _title(text: str) -> str:
    """A name as it comes back from any of `FORMATS`."""
    return " ".join(re.sub(r'["{}<>$=]', " ", text).split())[:60].strip("' ")


def embed(named: Named, seed: int = SEED, max_atoms: int | None = None) -> Entry:
    """One ETKDGv3 conformer (Wang et al., JCIM 60, 2044 (2020)), relaxed with MMFF94 until it converges.

    Its `info` holds `id`, `smiles`, `mmff94_energy` in kcal/mol, and `charge` where the molecule has one.
    """
    from rdkit import Chem, rdBase
    from rdkit.Chem import rdDistGeom, rdForceFieldHelpers

    from adit.convert.rdkit import from_rdkit

    broken = partial(BrokenEntry, f"{named.id} {named.smiles}")
    with rdBase.BlockLogs():
        mol = Chem.MolFromSmiles(named.smiles)
        if mol is None or not mol.GetNumAtoms():
            return broken("not a SMILES")
        try:
            mol = Chem.AddHs(mol)
            if max_atoms is not None and mol.GetNumAtoms() > max_atoms:
                return broken(f"more than {max_atoms} atoms")
            parameters: Any = rdDistGeom.ETKDGv3()
            parameters.randomSeed = seed
            parameters.maxIterations = 20
            if rdDistGeom.EmbedMolecule(mol, parameters) < 0:
                parameters.useRandomCoords = True  # slower, and finds most large molecules that fail else
                if rdDistGeom.EmbedMolecule(mol, parameters) < 0:
                    return broken("ETKDGv3 found no conformer")
            if not rdForceFieldHelpers.MMFFHasAllMoleculeParams(mol):
                return broken("MMFF94 lacks parameters for an atom")
            [(unfinished, energy)] = rdForceFieldHelpers.MMFFOptimizeMoleculeConfs(mol, maxIters=_MAX_STEPS)
            if unfinished:
                return broken(f"MMFF94 did not converge in {_MAX_STEPS} steps")
            charge = Chem.GetFormalCharge(mol)
            info = {"id": named.id, "smiles": named.smiles, "mmff94_energy": energy}
            return from_rdkit(mol, info=info | ({"charge": charge} if charge else {}))
        except (InvalidInputError, RuntimeError, ValueError) as error:
            return broken(" ".join(str(error).split())[:200])


def make_conformers(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    limit: int | None = None,
    shuffle: bool = False,
    seed: int = 0,
    max_atoms: int | None = None,
    processes: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Callable[[int, int, int], None] | None = None,
) -> Made:
    """Writes a structure for each SMILES of a list, in the order of the list, each on disk once it is made.

    Args:
        source: one SMILES a line, or a CSV with a column `smiles`, plain or .gz (`read_smiles`).
        out: .sdf, .xyz or .extxyz, as `adit.data.prepare` reads them.
        limit: take so many SMILES: the first, or with `shuffle` so many drawn at random.
        shuffle: take them in random order.
        seed: of the draw and of the embeddings.
        max_atoms: larger molecules, hydrogens counted, are not made but named in the report.
        processes: worker processes; default: one for each core.
        resume: go on with what an interrupted run of the same arguments left.
        overwrite: replace what is there.
        progress: called with (SMILES done, of which failed, SMILES in all).

    Raises:
        InvalidInputError: `out` has another suffix, exists, cannot be written, or is not of the run to go on with.
        UnreadableFileError: `source` is not what it should be, or holds no SMILES.
    """
    target = Path(out)
    report = target.with_suffix(".report.csv")
    _check(target, report, resume, overwrite)
    names = list(_chosen(Path(source), limit, shuffle, seed))
    if not names:
        raise UnreadableFileError(f"{source} holds no SMILES; expected one a line")
    with open_writer(target, append=resume) as writer, _Report(report, resume) as failures:
        done = writer.count + len(failures.rows)
        if resume:
            _same_run(target, [row[0] for row in failures.rows], [named.id for named in names[:done]])
        left = [names[start : start + _CHUNK] for start in range(done, len(names), _CHUNK)]
        tasks = (Task(partial(_embed_all, chunk, seed, max_atoms), len(chunk)) for chunk in left)
        for named, entry in zip(names[done:], _flat(run_tasks(_parse, tasks, processes, _CHUNK)), strict=True):
            if isinstance(entry, AtomicSystem):
                writer.write(entry)
            else:
                failures.add(named, entry.reason)
            done += 1
            if progress is not None:
                progress(done, len(failures.rows), len(names))
        return Made(writer.count, Counter(row[2] for row in failures.rows), report)


def _chosen(source: Path, limit: int | None, shuffle: bool, seed: int) -> Iterator[Named]:
    if not shuffle:
        return itertools.islice(read_smiles(source), limit)
    every = list(read_smiles(source))
    return (every[index] for index in np.random.default_rng(seed).permutation(len(every))[:limit])


def _check(target: Path, report: Path, resume: bool, overwrite: bool) -> None:
    if target.suffix.lower() not in FORMATS:
        raise InvalidInputError(f"{target}: conformers are written as {', '.join(FORMATS)}")
    if resume and overwrite:
        raise InvalidInputError("--resume and --overwrite contradict each other; choose one")
    found = next((path for path in (target, report) if path.exists()), None)
    if found is not None and not (resume or overwrite):
        raise InvalidInputError(
            f"{found} exists already; --resume goes on with it, --overwrite replaces it, --out names another"
        )


def _same_run(target: Path, failed: list[str], expected: list[str]) -> None:
    """What stands in the file and in its report are the first SMILES of this run."""
    entries = iread(target) if target.stat().st_size else ()
    made = [str(entry.info.get("id")) for entry in entries if isinstance(entry, AtomicSystem)]
    if sorted(made + failed) != sorted(expected):
        raise InvalidInputError(
            f"--resume: {target} holds other molecules than the first {len(expected):,} of this run. Give the same "
            "list and options, or start again with --overwrite"
        )


class _Report:
    """The CSV of what failed, a line on disk at a time; with `append` a torn last line is removed, else all."""

    def __init__(self, path: Path, append: bool) -> None:
        self._path = path
        with _writing(path):
            self._file: IO[str] = path.open("a+", newline="", encoding="utf-8")
            self._file.seek(0)
            kept = [line for line in self._file if line.endswith("\n")] if append else []
            self._file.truncate(len("".join(kept).encode()))
        if not kept:
            self._append(_COLUMNS)
        self.rows = [row for row in csv.reader(kept[1:]) if len(row) == len(_COLUMNS)]

    def add(self, named: Named, reason: str) -> None:
        self.rows.append([named.id, named.smiles, reason])
        self._append(self.rows[-1])

    def _append(self, row: list[str]) -> None:
        with _writing(self._path):
            csv.writer(self._file, lineterminator="\n").writerow(row)
            self._file.flush()

    def __enter__(self) -> _Report:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{path} cannot be written: {getattr(error, 'strerror', None) or error}") from error


def _embed_all(names: list[Named], seed: int, max_atoms: int | None) -> list[Entry]:
    return [embed(named, seed, max_atoms) for named in names]


def _parse(task: Task) -> list[Entry]:
    return task.parse()


def _flat(results: Iterator[list[Entry]]) -> Iterator[Entry]:
    for entries in results:
        yield from entries
