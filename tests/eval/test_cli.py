from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import adit
from adit.cli.eval import app
from adit.errors import AditError

DATA = Path(__file__).parent / "data"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(adit.__file__).parents[1])}


def call(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_molecules_with_all_options(tmp_path):
    out, page = tmp_path / "out.json", tmp_path / "out.html"
    result = call(DATA / "qm9.extxyz", "--json", out, "--report", page, "--bonds", "openbabel", "--reference", DATA)
    assert result.exit_code == 0, result.output
    figures = json.loads(out.read_text())
    assert figures["molecules"]["count"] == 150
    assert figures["molecules"]["bonds"] == "openbabel"
    assert figures["molecules"]["novel"] == 0
    assert "valid (openbabel bonds)" in result.output
    assert "novel molecules" in result.output
    assert page.read_text().startswith("<!DOCTYPE html>")


def test_crystals_are_not_novel_against_themselves(tmp_path):
    out = tmp_path / "out.json"
    result = call(DATA / "mp20.extxyz", "--json", out, "--reference", DATA / "mp20.extxyz")
    assert result.exit_code == 0, result.output
    figures = json.loads(out.read_text())["crystals"]
    assert (figures["count"], figures["structural"], figures["novel"]) == (150, 1, 0)


def test_a_reference_of_the_other_kind(tmp_path):
    result = call(DATA / "qm9.extxyz", "--json", tmp_path / "o.json", "--reference", DATA / "mp20.extxyz")
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "o.json").read_text())["molecules"]["novel"] is None


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["nowhere.xyz"], "nowhere.xyz"),
        ([DATA / "qm9.extxyz", "--json", "/nowhere/x.json"], "/nowhere does not exist"),
        ([DATA / "qm9.extxyz", "--report", DATA], "cannot be written"),
        ([DATA / "qm9.extxyz", "--reference", "qm10"], "qm10"),
    ],
)
def test_wrong_arguments_are_adit_errors(arguments, reason):
    result = call(*arguments)
    assert isinstance(result.exception, AditError)
    assert reason in str(result.exception)


def test_as_a_program_an_error_is_one_line_and_code_2(tmp_path):
    (tmp_path / "bad.sdf").write_text("this is no molecule\n")
    command = [sys.executable, "-c", "from adit.cli.eval import main; main()", str(tmp_path / "bad.sdf")]
    result = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=60)
    assert result.returncode == 2
    assert len(result.stderr.strip().splitlines()) == 1
    assert "bad.sdf" in result.stderr


def test_broken_entries_are_counted_and_named(tmp_path):
    good = (DATA / "qm9.extxyz").read_text().splitlines(keepends=True)[:22]
    path = tmp_path / "some.xyz"
    path.write_text("".join(good) + "2\nbroken\nC 0 0 0\nQq 0 0 1\n" + "".join(good))
    result = call(path, "--json", tmp_path / "o.json")
    assert result.exit_code == 0, result.output
    figures = json.loads((tmp_path / "o.json").read_text())
    assert figures["molecules"]["count"] == 2
    assert len(figures["unreadable"]) == 1


def test_metrics_load_heavy_libraries_only_when_used():
    names = "molecules, crystals, stability, summary, report, pictures, drawing"
    code = (
        f"import sys; from adit.eval import {names}; "
        "print([m for m in ('torch', 'rdkit', 'pymatgen', 'smact', 'openbabel', 'plotly', 'ase', 'matplotlib')"
        " if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=ENVIRONMENT, check=True)
    assert result.stdout.strip() == "[]"
