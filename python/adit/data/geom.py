"""GEOM from its published RDKit archive (pickles), and conformers made here from lists of SMILES.

The two are different data: `geom` holds the published conformers (CREST, GFN2-xTB; Axelrod and Gomez-Bombarelli
2022); `geom-etkdg` holds ETKDGv3 embeddings relaxed with MMFF94 by RDKit, one for each SMILES.
"""

from __future__ import annotations

import io
import itertools
import pickle
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from adit.convert.base import BrokenEntry
from adit.data.base import DatasetSpec, Download, Entry, ReadOptions, Task, tar_files
from adit.data.conformers import Named, embed, read_smiles
from adit.data.packed import SPLITS
from adit.errors import InvalidInputError, UnreadableFileError
from adit.system import AtomicSystem

_PICKLES = 20
_SMILES = 50


def tasks(source: Path, options: ReadOptions) -> Iterator[Task]:
    """Molecules of `rdkit_folder.tar.gz`, or of a folder of its .pickle files.

    Raises:
        InvalidInputError: `options.allow_pickle` is not set.
        UnreadableFileError: the source holds no .pickle files.
    """
    if not options.allow_pickle:
        raise InvalidInputError(
            f"{source} holds Python pickles, and opening a pickle runs whatever code it holds. If you trust where it "
            "came from, pass --allow-pickle; `geom-etkdg` needs no pickles"
        )
    pickles = itertools.islice(_pickles(source), options.limit)
    found = False
    while chunk := list(itertools.islice(pickles, _PICKLES)):
        found = True
        yield Task(partial(_parse_pickles, chunk, options.conformers), len(chunk) * options.conformers)
    if not found:
        raise UnreadableFileError(f"{source} is not GEOM's RDKit archive: it holds no .pickle files")


def _pickles(source: Path) -> Iterator[tuple[str, bytes]]:
    if source.is_dir():
        for path in sorted(source.rglob("*.pickle")):
            yield str(path.relative_to(source)), path.read_bytes()
        return
    yield from tar_files(source, ".pickle")


def _parse_pickles(pickles: list[tuple[str, bytes]], conformers: int) -> list[Entry]:
    return [entry for name, data in pickles for entry in _molecule(name, data, conformers)]


def _molecule(name: str, data: bytes, conformers: int) -> list[Entry]:
    """The conformers of lowest energy. A pickle holds {"smiles", "conformers": [{"rd_mol", "totalenergy", ...}]}."""
    from adit.convert.rdkit import from_rdkit

    try:
        content: dict[str, Any] = pickle.load(io.BytesIO(data))
        smiles = str(content["smiles"])
        ordered = sorted(content["conformers"], key=lambda each: float(each["totalenergy"]))
        entries: list[Entry] = []
        for number, conformer in enumerate(ordered[:conformers], 1):
            info = {"id": f"{Path(name).stem}:{number}", "smiles": smiles, "charge": float(content.get("charge", 0.0))}
            for key in ("totalenergy", "relativeenergy", "boltzmannweight"):
                info[key] = float(conformer[key])
            entries.append(from_rdkit(conformer["rd_mol"], info=info))
        return entries or [BrokenEntry(name, "no conformers")]
    except (  # RDKit's are RuntimeErrors
        pickle.UnpicklingError, EOFError, AttributeError, ImportError, LookupError, RuntimeError, TypeError, ValueError
    ) as error:  # fmt: skip
        return [BrokenEntry(name, f"not a molecule of GEOM: {type(error).__name__}: {error}")]


def etkdg_tasks(source: Path, options: ReadOptions) -> Iterator[Task]:
    """Conformers for a list of SMILES, one a line (.txt, .smi, each also .gz), or a folder of such lists.

    A file whose name starts with train, val or test gives that split.
    """
    if source.is_dir():
        ends = (".txt", ".smi", ".txt.gz", ".smi.gz")
        files = [path for path in sorted(source.iterdir()) if path.name.lower().endswith(ends)]
    else:
        files = [source]
    if not files:
        raise UnreadableFileError(f"{source} holds no list of SMILES (.txt, .smi, .txt.gz, .smi.gz)")
    for path in files:
        split = next((name for name in SPLITS if path.name.startswith(name)), None)
        names = itertools.islice(read_smiles(path), options.limit)
        while chunk := list(itertools.islice(names, _SMILES)):
            yield Task(partial(_embed_all, chunk, split), len(chunk))


def _embed_all(names: list[Named], split: str | None) -> list[Entry]:
    return [_with_split(embed(named), split) for named in names]


def _with_split(entry: Entry, split: str | None) -> Entry:
    if split is None or not isinstance(entry, AtomicSystem):
        return entry
    return replace(entry, info={**entry.info, "split": split})


_CITATION = "Axelrod and Gomez-Bombarelli, Scientific Data 9, 185 (2022)"

SPECS = (
    DatasetSpec(
        name="geom",
        description="GEOM: conformers of drug-like molecules, CREST with GFN2-xTB; pass --allow-pickle",
        citation=_CITATION,
        licence="CC0-1.0",
        tasks=tasks,
        downloads=(Download("https://dataverse.harvard.edu/api/access/datafile/4327252", "rdkit_folder.tar.gz"),),
        remedy="pass --source rdkit_folder.tar.gz (dataverse.harvard.edu, doi 10.7910/DVN/JNGTDF)",
    ),
    DatasetSpec(
        name="geom-etkdg",
        description="conformers made here from a list of SMILES: ETKDGv3, relaxed with MMFF94; not the published GEOM",
        citation=f"SMILES: {_CITATION}; Wang et al., JCIM 60, 2044 (2020); Halgren, J. Comput. Chem. 17, 490 (1996)",
        licence="that of the SMILES",
        tasks=etkdg_tasks,
        split="by file: names that start with train, val, test",
        remedy="pass --source with a list of SMILES or a folder of such lists",
    ),
)
