from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FIXTURES = Path(__file__).parents[1] / "fixtures"


def adit_data(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from adit.cli.data import main; main()", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "ADIT_DATA_DIR": str(folder / "cache"), "COLUMNS": "160"},
        check=False,
    )


def test_prepare_info_and_list(tmp_path: Path) -> None:
    done = adit_data(
        tmp_path, "prepare", "mp20", "--source", str(FIXTURES / "mp_20"), "--limit", "20", "--processes", "2"
    )
    assert done.returncode == 0, done.stderr
    assert "40 systems" in done.stdout
    assert "0 broken entries" in done.stdout
    shown = adit_data(tmp_path, "info", "mp20")
    assert shown.returncode == 0, shown.stderr
    for words in ("train 20, val 20, test 0", "formation_energy_per_atom", "CC-BY-4.0", "█"):
        assert words in shown.stdout
    listed = adit_data(tmp_path, "list")
    assert "qm9" in listed.stdout
    assert "40" in listed.stdout


def test_what_is_prepared_is_kept(tmp_path: Path) -> None:
    command = ("prepare", "mp20", "--source", str(FIXTURES / "mp_20"), "--limit", "20")
    assert adit_data(tmp_path, *command).returncode == 0
    for again in (command, ("prepare", "mp20", "--limit", "20")):
        done = adit_data(tmp_path, *again)
        assert done.returncode == 0, done.stderr
        assert (
            "mp20 is prepared already: 40 systems of 45,231 published, from" in done.stdout
            and "--overwrite reads" in done.stdout
        )
    mine = ("prepare", "mine", "--source", str(FIXTURES / "odd" / "two_blocks.cif"))
    assert adit_data(tmp_path, *mine).returncode == 0
    refused = adit_data(tmp_path, *mine)
    assert refused.returncode == 2 and "data set mine already: 2 systems" in refused.stderr
    assert adit_data(tmp_path, *mine, "--overwrite").returncode == 0
    assert "no split 'foo'; known: train, val, test" in adit_data(tmp_path, "info", "mp20:foo").stderr
    assert "40 of 45,231 published" in " ".join(adit_data(tmp_path, "list").stdout.split())


def test_splits_are_said(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    said = {}
    for name in ("extra", "train", "val"):
        shutil.copy(FIXTURES / "odd" / "water.xyz", tmp_path / "in" / f"{name}.xyz")
        done = adit_data(tmp_path, "prepare", name, "--source", str(tmp_path / "in"))
        said[name] = done.stdout
    assert "no splits: all are for training\n" in said["extra"]
    assert "since extra.xyz is not named train, val or test (1 of 3 files or folders are not)" in said["val"]
    (tmp_path / "in" / "extra.xyz").unlink()
    done = adit_data(tmp_path, "prepare", "split", "--source", str(tmp_path / "in"))
    assert "splits: train 1, val 1, test 0" in done.stdout


def test_report_is_named_and_shown(tmp_path: Path) -> None:
    done = adit_data(tmp_path, "prepare", "mine", "--source", str(FIXTURES / "odd" / "torn.xyz"))
    assert done.returncode == 0, done.stderr
    assert "report.csv" in done.stdout
    assert "truncated: 2 atom lines" in adit_data(tmp_path, "info", "mine").stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["prepare", "nosuch"], "unknown data set 'nosuch'"),
        (["prepare", "mp20", "--source", "/no/such/place"], "/no/such/place does not exist"),
        (["prepare", "mine", "--source", str(FIXTURES / "odd" / "page.cif")], "page.cif is a web page"),
        (["prepare", "geom", "--source", str(FIXTURES)], "--allow-pickle"),
        (["info", "nosuch"], "no such file or prepared data set 'nosuch'; prepared: none"),
        (["info", "qm9"], "adit-data prepare qm9"),
        (["conformers", "/no/such/list.smi", "--out", "x.sdf"], "/no/such/list.smi does not exist"),
        (["conformers", str(FIXTURES / "README.md"), "--out", "x.cif"], "x.cif: conformers are written as .sdf"),
        (
            ["conformers", str(FIXTURES / "README.md"), "--out", "/proc/adit/x.sdf"],
            "/proc/adit/x.sdf cannot be written",
        ),
        (["prepare", "mp20", "--source", str(FIXTURES / "mp_20"), "--out", "/proc/adit"], "/proc/adit"),
    ],
)
def test_errors_are_one_line_and_exit_code_2(tmp_path: Path, arguments: list[str], words: str) -> None:
    done = adit_data(tmp_path, *arguments)
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()
    assert words in last[-1]
    assert last[-1].startswith("error: ")
    assert "Traceback" not in done.stderr


def test_conformers(tmp_path: Path) -> None:
    (tmp_path / "list.smi").write_text("CCO ethanol\nnonsense\nCCN\nOCC\n")
    out = tmp_path / "made" / "train.sdf"
    command = ("conformers", str(tmp_path / "list.smi"), "--out", str(out))
    done = adit_data(tmp_path, *command, "--limit", "2")
    assert done.returncode == 0, done.stderr
    assert "1 conformers, 1 SMILES without" in done.stdout
    assert "1: not a SMILES" in done.stdout and "train.report.csv" in done.stdout.replace("\n", "")
    refused = adit_data(tmp_path, *command)
    assert refused.returncode == 2 and "--resume goes on with it" in refused.stderr
    assert "3 conformers, 1 SMILES without" in adit_data(tmp_path, *command, "--resume").stdout
    prepared = adit_data(tmp_path, "prepare", "mine", "--source", str(out.parent))
    assert "3 systems, 28 atoms" in prepared.stdout, prepared.stderr


def test_conformers_of_a_csv_and_of_nothing(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("smiles,name\nCCO,ethanol\n")
    done = adit_data(tmp_path, "conformers", str(tmp_path / "l.csv"), "--out", str(tmp_path / "l.sdf"))
    assert done.returncode == 0 and (tmp_path / "l.sdf").read_text().startswith("ethanol\n")
    (tmp_path / "k.csv").write_text("molecule,name\nethanol,x\nethane,y\n")
    done = adit_data(tmp_path, "conformers", str(tmp_path / "k.csv"), "--out", str(tmp_path / "k.sdf"))
    assert done.returncode == 1
    assert "error: no conformer could be made: not a SMILES (3 of 3 SMILES)" in done.stderr
    assert "or a column smiles" in done.stderr


@pytest.mark.parametrize(
    "arguments", [["prepare"], ["prepare", "qm9", "--limit", "0"], ["prepare", "qm9", "--processes", "x"]]
)
def test_bad_options_exit_with_2(tmp_path: Path, arguments: list[str]) -> None:
    assert adit_data(tmp_path, *arguments).returncode == 2


def test_import_is_light() -> None:
    heavy = ("torch", "rdkit", "pymatgen", "ase", "spglib", "pooch", "requests")
    code = f"import sys, adit.cli.data, adit.convert, adit.data; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
