"""MP-20, its relatives and any CSV with a column `cif`: one CIF a row, plain or gzipped, one file a split."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from adit.convert.cif import parse_cif
from adit.data.base import CHUNK, DatasetSpec, Download, Entry, ReadOptions, Task, csv_rows
from adit.data.packed import SPLITS
from adit.errors import UnreadableFileError

_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|nan|True|False|")
_TEXT = {"material_id", "id"}
_KNOWN = {"formula", "pretty_formula", "elements"}
"""What the structure says itself, and not as a number, whatever it looks like."""
_RENAMED = {"material_id": "id", "spacegroup.number": "spacegroup"}
_SUFFIXES = (".csv", ".csv.gz")


def split_files(source: Path) -> list[tuple[Path, str | None]]:
    """The CSV files of a source and the split each holds (None: not said).

    Raises:
        UnreadableFileError: a folder without train, val or test .csv[.gz], or a file of another kind.
    """
    if source.is_dir():
        found = [(source / f"{name}{suffix}", name) for name in SPLITS for suffix in _SUFFIXES]
        files: list[tuple[Path, str | None]] = [(path, name) for path, name in found if path.exists()]
        if not files:
            raise UnreadableFileError(f"{source} holds no train.csv, val.csv or test.csv (or .csv.gz)")
        return files
    if not source.exists():
        raise UnreadableFileError(f"{source} does not exist")
    if not source.name.endswith(_SUFFIXES):
        raise UnreadableFileError(f"{source} is not a CDVAE data set: expected a .csv or .csv.gz, or a folder of those")
    stem = source.name.split(".")[0]
    return [(source, stem if stem in SPLITS else None)]


def tasks(source: Path, options: ReadOptions) -> Iterator[Task]:
    """One task for every thousand rows. Columns besides `cif` become properties: numbers, `split`, short texts."""
    for path, split in split_files(source):
        rows = list(itertools.islice(csv_rows(path, ("cif",)), options.limit))
        named = [name for name in (rows[0] if rows else {}) if name and name not in _KNOWN]
        names = [name for name in named if not name.startswith("cif") and not (name == "id" and "material_id" in named)]
        if any(row.get("split") not in SPLITS for row in rows):
            names = [name for name in names if name != "split"]
        numeric = {
            name for name in names if name not in _TEXT and all(_NUMBER.fullmatch(row.get(name, "")) for row in rows)
        }
        for start in range(0, len(rows), CHUNK):
            chunk = rows[start : start + CHUNK]
            yield Task(partial(_parse, chunk, names, numeric, path.name, start, split), len(chunk))


def _parse(
    rows: list[dict[str, str]], names: list[str], numeric: set[str], file: str, start: int, split: str | None
) -> list[Entry]:
    entries: list[Entry] = []
    for number, row in enumerate(rows, start + 2):
        info: dict[str, str | float] = {} if split is None else {"split": split}
        for name in names:
            value = row.get(name, "")
            if value:
                info[_RENAMED.get(name, name)] = _number(value) if name in numeric else value
        entries += parse_cif(row.get("cif", ""), f"{file}:{info.get('id', f'row {number}')}", info)
    return entries


def _number(value: str) -> float:
    return {"True": 1.0, "False": 0.0}[value] if value in ("True", "False") else float(value)


def _spec(name: str, systems: int, description: str, citation: str, licence: str, base: str) -> DatasetSpec:
    return DatasetSpec(
        name=name,
        systems=systems,
        description=f"{systems:,} {description}",
        citation=citation,
        licence=licence,
        tasks=tasks,
        downloads=tuple(Download(f"{base}/{split}.csv", f"{split}.csv") for split in SPLITS),
        split="by file: train.csv, val.csv, test.csv",
        remedy="pass --source FOLDER with train.csv, val.csv, test.csv (plain or .gz)",
    )


_CDVAE = "https://raw.githubusercontent.com/txie-93/cdvae/main/data"
_DIFFCSP = "https://raw.githubusercontent.com/jiaor17/DiffCSP/main/data"
_XIE = "Xie et al., Crystal Diffusion Variational Autoencoder, ICLR 2022"
_MP = "Jain et al., APL Materials 1, 011002 (2013)"

SPECS = (
    _spec(
        "mp20",
        45_231,
        "stable or nearly stable crystals of the Materials Project, up to 20 atoms a cell",
        f"{_MP}; {_XIE}",
        "CC-BY-4.0",
        f"{_CDVAE}/mp_20",
    ),
    _spec(
        "mpts52",
        40_476,
        "crystals of the Materials Project in order of discovery, up to 52 atoms a cell",
        f"{_MP}; Baird et al., JOSS 9, 5618 (2024)",
        "CC-BY-4.0",
        f"{_DIFFCSP}/mpts_52",
    ),
    _spec(
        "perov5",
        18_928,
        "perovskites ABX3, 5 atoms a cell",
        f"Castelli et al., Energy Environ. Sci. 5, 5814 (2012); {_XIE}",
        "see the source",
        f"{_CDVAE}/perov_5",
    ),
    _spec(
        "carbon24",
        10_153,
        "carbon crystals, 6 to 24 atoms a cell",
        f"Pickard, AIRSS data for carbon at 10 GPa (2020), 10.24435/materialscloud:2020.0026/v1; {_XIE}",
        "CC-BY-4.0",
        f"{_CDVAE}/carbon_24",
    ),
)
