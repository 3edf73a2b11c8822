"""QM9 from the qm9pack package, the official gdb9.sdf with its CSV, or the figshare archive of xyz files.

The split is the one EDM uses (Hoogeboom et al. 2022, as in their public code): the 130,831 molecules that are
left of 133,885 without the 3,054 uncharacterised ones, in the order of their index, are permuted by NumPy's
legacy generator with seed 0; the first 100,000 are train, the next 17,748 val, the last 13,083 test. It depends
on the index of a molecule only, so every source and every part of it gives the same split.
"""

from __future__ import annotations

import io
import itertools
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

import numpy as np

from adit.convert.base import BrokenEntry, open_text, reading
from adit.convert.text import element, parse_sdf, real
from adit.data.base import CHUNK, DatasetSpec, Download, Entry, ReadOptions, Task, csv_rows, rows_of, tar_files
from adit.errors import InvalidInputError, UnreadableFileError
from adit.system import AtomicSystem

MOLECULES = 133_885
PROPERTIES = ("A", "B", "C", "mu", "alpha", "homo", "lumo", "gap", "r2", "zpve", "u0", "u298", "h298", "g298", "cv")
"""Units: GHz (A, B, C), Debye, bohr^3, hartree (homo to gap, zpve to g298), bohr^2 (r2), cal/(mol K) (cv)."""
_PACK = (
    "RotA_GHz",
    "RotB_GHz",
    "RotC_GHz",
    "Dipole_debye",
    "Polarizability_bohr3",
    "HOMO_au",
    "LUMO_au",
    "HOMO_LUMO_gap_au",
    "R2_bohr2",
    "ZPVE_au",
    "InternalEnergy_0K_au",
    "InternalEnergy_298K_au",
    "Enthalphy_298K_au",
    "GibbsFreeEnergy_298K_au",
    "Heatcapacity_Cv_cal_mol_K",
)
"""The same fifteen as qm9pack's columns."""
_PACK_COLUMNS = ("Index", "SMILES", "N_atoms", "Elements", "XYZ_Ang", *_PACK)
_UNCHARACTERISED = "uncharacterised: it failed the consistency check of QM9's authors (their uncharacterized.txt)"
_NO_BRACKETS = str.maketrans("", "", "[]' ")
Table = dict[str, dict[str, float]]


@cache
def splits() -> dict[int, str]:
    """Index (from 1) -> "train", "val" or "test"; the uncharacterised molecules are not in it."""
    steps = (Path(__file__).parent / "qm9_uncharacterized.txt").read_text().split()
    excluded = set(itertools.accumulate(int(step, 36) for step in steps))
    included = [index for index in range(1, MOLECULES + 1) if index not in excluded]
    order = np.random.RandomState(0).permutation(len(included))
    test = len(included) // 10
    names = ["train"] * 100_000 + ["val"] * (len(included) - 100_000 - test) + ["test"] * test
    return {included[place]: name for place, name in zip(order.tolist(), names, strict=True)}


def qm9pack_folder() -> Path | None:
    """The CSV folder of the installed package qm9pack (which is not imported), or None."""
    spec = find_spec("qm9pack")
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(next(iter(spec.submodule_search_locations))) / "data"
    return folder if any(folder.glob("qm9_part*.csv")) else None


def tasks(source: Path, options: ReadOptions) -> Iterator[Task]:
    """Cuts any of the three sources into tasks of a thousand molecules.

    Args:
        source: a qm9pack CSV or a folder of them; gdb9.sdf[.gz] (its gdb9.sdf.csv beside it, else without
            properties), or a folder, .zip or .tar.gz of both; dsgdb9nsd.xyz.tar.bz2, or a folder of its files.

    Raises:
        UnreadableFileError: the source is none of these, or damaged.
    """
    name = source.name.lower()
    if source.is_dir():
        packs = sorted(source.glob("qm9_part*.csv*"))
        xyz = sorted(source.glob("dsgdb9nsd_*.xyz"))
        sdf = [source / file for file in ("gdb9.sdf", "gdb9.sdf.gz") if (source / file).exists()]
        if packs:
            return _pack_tasks(packs, options)
        if xyz:
            return _xyz_tasks((path.read_text("utf-8", errors="replace") for path in xyz), options)
        if sdf:
            return _sdf_tasks(sdf[0], options)
    elif name.endswith((".csv", ".csv.gz")):
        return _pack_tasks([source], options)
    elif name.endswith((".sdf", ".sdf.gz")):
        return _sdf_tasks(source, options)
    elif name.endswith((".tar.bz2", ".xyz.tar", ".xyz.tar.gz")):
        files = tar_files(source, ".xyz")
        return _xyz_tasks((data.decode("utf-8", errors="replace") for _, data in files), options)
    elif name.endswith((".zip", ".tar.gz", ".tgz")):
        return _sdf_tasks(source, options)
    raise UnreadableFileError(
        f"{source} is not QM9: expected qm9pack's qm9_part*.csv, gdb9.sdf (with gdb9.sdf.csv, also in a .zip "
        "or .tar.gz), dsgdb9nsd.xyz.tar.bz2, or a folder of one of these"
    )


def describe(index: int, smiles: str) -> dict[str, float | str]:
    """What is known of a molecule from its place in the data set: `id`, `index`, `split`, `smiles`."""
    return {"id": f"gdb_{index}", "index": float(index), "split": splits()[index], "smiles": smiles}


def _pack_tasks(files: list[Path], options: ReadOptions) -> Iterator[Task]:
    rows = itertools.chain.from_iterable(csv_rows(path, _PACK_COLUMNS) for path in files)
    chosen = ([row.get(name, "") for name in _PACK_COLUMNS] for row in itertools.islice(rows, options.limit))
    while chunk := list(itertools.islice(chosen, CHUNK)):
        yield Task(partial(_parse_pack, chunk), len(chunk))


def _parse_pack(rows: list[list[str]]) -> list[Entry]:
    return [_pack_row(dict(zip(_PACK_COLUMNS, row, strict=True))) for row in rows]


def _pack_row(row: dict[str, str]) -> Entry:
    source = f"gdb_{row['Index']}"
    try:
        symbols = row["Elements"].translate(_NO_BRACKETS).split(",")
        if len(symbols) != int(row["N_atoms"]):
            return BrokenEntry(source, f"{len(symbols)} elements for {row['N_atoms']} atoms")
        coordinates = row["XYZ_Ang"].translate(_NO_BRACKETS).split(",")
        positions = np.array([real(text) for text in coordinates]).reshape(-1, 3)
        values = {name: real(row[column]) for name, column in zip(PROPERTIES, _PACK, strict=True)}
        return _molecule(int(row["Index"]), row["SMILES"], [element(symbol) for symbol in symbols], positions, values)
    except (ValueError, InvalidInputError) as error:
        return BrokenEntry(source, str(error))


def _molecule(
    index: int,
    smiles: str,
    numbers: list[int],
    positions: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    values: dict[str, float],
) -> Entry:
    if index not in splits():
        reason = _UNCHARACTERISED if 0 < index <= MOLECULES else f"QM9 has no molecule {index}"
        return BrokenEntry(f"gdb_{index}", reason)
    return AtomicSystem(np.array(numbers, dtype=np.int64), positions, None, describe(index, smiles) | values)


def _xyz_tasks(texts: Iterable[str], options: ReadOptions) -> Iterator[Task]:
    chosen = itertools.islice(texts, options.limit)
    while chunk := list(itertools.islice(chosen, CHUNK)):
        yield Task(partial(_parse_xyz, chunk), len(chunk))


def _parse_xyz(texts: list[str]) -> list[Entry]:
    return [_xyz_text(text) for text in texts]


def _xyz_text(text: str) -> Entry:
    """One file of the figshare archive: count; `gdb`, index, properties; atoms; frequencies; two SMILES; two InChI."""
    lines = text.splitlines()
    source = " ".join(lines[1].split()[:2]) if len(lines) > 1 else text[:40]
    try:
        count = int(lines[0])
        tag, index, *values = lines[1].split()
        if tag != "gdb" or len(values) != len(PROPERTIES) or len(lines) < count + 5:
            return BrokenEntry(source, "truncated, or not in QM9's xyz format")
        atoms = [line.split() for line in lines[2 : 2 + count]]
        positions = np.array([[real(word) for word in atom[1:4]] for atom in atoms])
        smiles = lines[3 + count].split()[0]
        properties = dict(zip(PROPERTIES, map(real, values), strict=True))
        return _molecule(int(index), smiles, [element(atom[0]) for atom in atoms], positions, properties)
    except (ValueError, IndexError, InvalidInputError) as error:
        return BrokenEntry(source, str(error))


def _sdf_tasks(source: Path, options: ReadOptions) -> Iterator[Task]:
    table = _sdf_table(source)
    with reading(source), ExitStack() as stack:
        records = _records(_open_member(source, "gdb9.sdf", stack))
        chosen = itertools.islice(records, options.limit)
        while chunk := list(itertools.islice(chosen, CHUNK)):
            names = [record.split("\n", 1)[0].strip() for record in chunk]
            yield Task(partial(_parse_sdf, chunk, {name: table[name] for name in names if name in table}), len(chunk))


def _sdf_table(source: Path) -> Table:
    """gdb9.sdf.csv by molecule: the fifteen properties and the atomisation energies (kcal/mol)."""
    with reading(source), ExitStack() as stack:
        if source.name.lower().endswith((".sdf", ".sdf.gz")):
            beside = source.with_name("gdb9.sdf.csv")
            if not beside.exists():
                return {}
            lines: Iterable[str] = stack.enter_context(open_text(beside))
        else:
            lines = _open_member(source, "gdb9.sdf.csv", stack)
        rows = rows_of(lines, Path(f"{source}: gdb9.sdf.csv"), ("mol_id", *PROPERTIES))
        return {row.pop("mol_id"): {name: real(text) for name, text in row.items() if text} for row in rows}


def _open_member(source: Path, name: str, stack: ExitStack) -> Iterable[str]:
    """Lines of a plain or gzipped file, or of the member `name` of an archive."""
    lowered = source.name.lower()
    if lowered.endswith((".sdf", ".sdf.gz")):
        return stack.enter_context(open_text(source))
    if lowered.endswith(".zip"):
        archive = stack.enter_context(zipfile.ZipFile(source))
        found = [member for member in archive.namelist() if PurePosixPath(member).name == name]
        lines: Iterable[bytes] | None = stack.enter_context(archive.open(found[0])) if found else None
    else:
        lines = next((io.BytesIO(data) for _, data in tar_files(source, name)), None)
    if lines is None:
        raise UnreadableFileError(f"{source} is not QM9: it holds no {name}")
    return (line.decode("utf-8", errors="replace") for line in lines)


def _records(lines: Iterable[str]) -> Iterator[str]:
    """SDF records, without their `$$$$`."""
    held: list[str] = []
    for line in lines:
        if line.startswith("$$$$"):
            yield "".join(held)
            held = []
        else:
            held.append(line)
    if any(line.strip() for line in held):
        yield "".join(held)


def _parse_sdf(records: list[str], table: Table) -> list[Entry]:
    entries: list[Entry] = []
    for record in records:
        title = record.split("\n", 1)[0].strip()
        entry = next(parse_sdf(record.splitlines(), title))
        if isinstance(entry, BrokenEntry):
            entries.append(BrokenEntry(title, entry.reason))
        elif not (title.startswith("gdb_") and title[4:].isdecimal()):
            entries.append(BrokenEntry(title, "not a record of gdb9.sdf: the title must be gdb_NUMBER"))
        else:
            entries.append(_molecule(int(title[4:]), "", entry.numbers.tolist(), entry.positions, table.get(title, {})))
    return entries


_FIGSHARE = "https://ndownloader.figshare.com/files"
_MD5 = "md5:ad1ebd51ee7f5b3a6e32e974e5d54012"  # as figshare publishes it; 86,144,227 bytes

SPEC = DatasetSpec(
    name="qm9",
    description="130,831 organic molecules of up to 9 heavy atoms (C, N, O, F) with 15 properties, B3LYP/6-31G(2df,p)",
    citation="Ramakrishnan et al., Scientific Data 1, 140022 (2014)",
    licence="CC0-1.0 (data), MIT (qm9pack)",
    tasks=tasks,
    locate=qm9pack_folder,
    downloads=(Download(f"{_FIGSHARE}/3195389", "dsgdb9nsd.xyz.tar.bz2", _MD5),),
    split="EDM (Hoogeboom et al. 2022): 100,000 / 17,748 / 13,083 of the molecules that are not uncharacterised",
    remedy="pip install qm9pack, or pass --source with gdb9.sdf or dsgdb9nsd.xyz.tar.bz2",
    systems=130_831,
)
