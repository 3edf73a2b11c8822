"""Conformers of lists of SMILES: what is made, what is named as failed, and going on after a kill."""

from __future__ import annotations

import csv
import gzip
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from adit.convert import read
from adit.data.conformers import make_conformers, read_smiles
from adit.data.prepare import prepare
from adit.errors import InvalidInputError, UnreadableFileError

SMILES = [
    "CCO",
    "nonsense",
    "c1ccccc1Br benzene",
    "",
    "# comment",
    "C[NH3+]",
    "[He]",
    "CC(=O)[O-]",
    "FC(Cl)I",
    "C" * 12,
]
CHAINS = "\n".join("C" * n + end for n in range(2, 14) for end in ("", "O", "N", "Br"))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "train_smiles.txt.gz"
    with gzip.open(path, "wt") as file:
        file.write("\n".join(SMILES) + "\n")
    return path


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("name", ["train.sdf", "train.extxyz"])
def test_all_smiles_are_made_or_named_and_prepare_reads_them(source: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "made"
    seen: list[tuple[int, int, int]] = []
    made = make_conformers(source, folder / name, max_atoms=30, progress=lambda *counts: seen.append(counts))
    assert (made.count, made.failed.total(), seen[-1]) == (5, 3, (8, 3, 8))
    assert made.report == folder / "train.report.csv"
    assert [(row["id"], row["smiles"], row["reason"]) for row in rows(made.report)] == [
        ("train_smiles:2", "nonsense", "not a SMILES"),
        ("train_smiles:5", "[He]", "MMFF94 lacks parameters for an atom"),
        ("train_smiles:8", "C" * 12, "more than 30 atoms"),
    ]
    data = prepare("mine", folder, tmp_path / "cache")
    assert data.properties["formula"].tolist() == ["C2H6O", "C6H5Br", "CH6N", "C2H3O2", "CHClFI"]
    assert data.properties["smiles"].tolist()[2] == "C[NH3+]"
    np.testing.assert_array_equal(data.properties["charge"][[2, 3]], [1, -1])
    assert set(data.properties["split"]) == {"train"}
    if name.endswith(".sdf"):
        assert set(data.properties["adit_bonds"]) == {"orders"}, "bonds fit, of the ions too"
    ring = data[1].positions[:6]
    np.testing.assert_allclose(np.linalg.norm(ring - np.roll(ring, 1, axis=0), axis=1), 1.395, atol=0.02)


def test_the_same_seed_gives_the_same_file_from_any_number_of_processes(tmp_path: Path) -> None:
    (tmp_path / "chains.smi").write_text(CHAINS)
    files = [tmp_path / f"{k}.extxyz" for k in range(3)]
    for path, seed, processes in zip(files, (1, 1, 2), (1, 2, 1), strict=True):
        make_conformers(
            tmp_path / "chains.smi", path, limit=24, shuffle=True, seed=seed, processes=processes
        )  # fmt: skip
    assert files[0].read_bytes() == files[1].read_bytes()
    first, other = ([str(system.info["id"]) for system in read(path)] for path in (files[0], files[2]))
    assert len(set(first)) == 24 and first != other, "drawn without repeats, by the seed"
    known = {named.id: named.smiles for named in read_smiles(tmp_path / "chains.smi")}
    assert all(known[str(system.info["id"])] == system.info["smiles"] for system in read(files[0]))


def test_a_killed_run_goes_on_and_ends_as_if_it_had_not_been_killed(tmp_path: Path) -> None:
    (tmp_path / "chains.smi").write_text("\n".join(f"{chain}\nbroken{k}" for k, chain in enumerate(CHAINS.split())))
    code = "from adit.cli.data import main; main()"
    command = [sys.executable, "-c", code, "conformers", str(tmp_path / "chains.smi"), "--out"]
    whole = make_conformers(tmp_path / "chains.smi", tmp_path / "whole.sdf", processes=1)
    process = subprocess.Popen([*command, str(tmp_path / "x.sdf"), "--processes", "2"], start_new_session=True)
    deadline = time.monotonic() + 100
    while not (tmp_path / "x.sdf").exists() or (tmp_path / "x.sdf").read_bytes().count(b"$$$$") < 5:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with (tmp_path / "x.sdf").open("ab") as file, (tmp_path / "x.report.csv").open("ab") as report:
        file.write(b"torn:1\n  adit\n")
        report.write(b"torn:2,CC")
    left = make_conformers(tmp_path / "chains.smi", tmp_path / "x.sdf", resume=True)
    assert (left.count, left.failed) == (whole.count, whole.failed) == (48, {"not a SMILES": 48})
    for suffix in (".sdf", ".report.csv"):
        assert (tmp_path / f"x{suffix}").read_bytes() == (tmp_path / f"whole{suffix}").read_bytes()
    while subprocess.run(["pgrep", "-s", str(process.pid)], capture_output=True, check=False).stdout:
        assert time.monotonic() < deadline, "the workers end with their parent"
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("smiles\nCCO\n\nCC\n", {"l:1": "CCO", "l:2": "CC"}),
        ("Name,SMILES\r\nethanol,CCO\r\n,CC\r\n007,C\r\n", {"ethanol": "CCO", "l:2": "CC", "l:007": "C"}),
        ('smiles;id;name\n"CCO";"a ""b"" {c}";x\nCC\n', {"a b c": "CCO", "l:2": "CC"}),
        ("id\tsmiles\n'5e3'\tCCO\n\"2'-x\"\tCC\n", {"l:5e3": "CCO", "2'-x": "CC"}),
        ("CCO,ethanol\nCC;ethane\nC methane\n# c\n", {"l:1": "CCO", "l:2": "CC", "l:3": "C"}),
    ],
)
def test_tables_of_smiles(tmp_path: Path, text: str, expected: dict[str, str]) -> None:
    (tmp_path / "l.csv").write_text(text, newline="")
    assert {named.id: named.smiles for named in read_smiles(tmp_path / "l.csv")} == expected
    for name in ("x.sdf", "x.extxyz"):
        make_conformers(tmp_path / "l.csv", tmp_path / name, limit=len(expected) - 1)
        (tmp_path / "x.report.csv").unlink()
        made = make_conformers(tmp_path / "l.csv", tmp_path / name, resume=True)
        assert (made.count, made.failed) == (len(expected), {})
        (tmp_path / "x.report.csv").unlink()
        assert [str(system.info["id"]) for system in read(tmp_path / name)] == list(expected)


def test_nothing_is_overwritten_or_mixed(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.sdf"
    make_conformers(source, out, limit=3)
    before = out.read_bytes()
    with pytest.raises(InvalidInputError, match=r"x\.sdf exists already; --resume goes on"):
        make_conformers(source, out)
    with pytest.raises(InvalidInputError, match="holds other molecules than the first 3 of this run"):
        make_conformers(source, out, shuffle=True, seed=1, resume=True)
    with pytest.raises(InvalidInputError, match="contradict"):
        make_conformers(source, out, resume=True, overwrite=True)
    (tmp_path / "empty.smi").write_text("# nothing\n")
    with pytest.raises(UnreadableFileError, match="holds no SMILES"):
        make_conformers(tmp_path / "empty.smi", out, overwrite=True)
    with pytest.raises(UnreadableFileError, match="does not exist"):
        make_conformers(tmp_path / "none.txt", out, overwrite=True)
    assert out.read_bytes() == before
    assert make_conformers(source, out, limit=5, resume=True).count == 3
    assert make_conformers(source, out, limit=1, overwrite=True).count == 1
    (tmp_path / "begun.sdf").touch()
    assert make_conformers(source, tmp_path / "begun.sdf", limit=1, resume=True).count == 1
    os.truncate(source, source.stat().st_size // 2)
    with pytest.raises(UnreadableFileError, match="may be truncated"):
        make_conformers(source, out, overwrite=True)
    assert len(read(out)) == 1
    with pytest.raises(InvalidInputError, match=r"x\.cif: conformers are written as \.sdf, \.xyz, \.extxyz"):
        make_conformers(source, tmp_path / "x.cif")
