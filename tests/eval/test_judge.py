"""The judge of benches/ as a program, on files."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from adit.eval.summary import summarise

DATA = Path(__file__).parent / "data"


def test_the_judge_and_the_summary_agree_on_files(tmp_path, qm9, mp20):
    program = Path(__file__).parents[2] / "benches" / "judge.py"
    out = tmp_path / "out.json"
    command = [sys.executable, program, "--molecules", DATA / "qm9.extxyz", "--crystals", DATA / "mp20.extxyz"]
    result = subprocess.run([*command, "--json", out], capture_output=True, text=True, timeout=120, check=True)
    assert result.stderr == ""
    verdicts, ours = json.loads(out.read_text()), summarise([*qm9, *mp20], "openbabel")
    m, c = verdicts["molecules"], verdicts["crystals"]
    assert m["atom_stability"] == pytest.approx(ours.molecules.atom_stability)
    assert (m["molecule_stability"], m["valid"], m["unique_of_valid"]) == pytest.approx(
        (ours.molecules.molecule_stability, ours.molecules.valid, ours.molecules.unique)
    )
    assert (c["structural"], c["compositional"], c["overall"], c["unique_of_structural"]) == pytest.approx(
        (ours.crystals.structural, ours.crystals.compositional, ours.crystals.valid, ours.crystals.unique)
    )
    assert [row["structural"] and row["compositional"] for row in c["rows"]] == ours.valid[len(qm9) :].tolist()


def test_the_judge_does_not_know_adit():
    source = (Path(__file__).parents[2] / "benches" / "judge.py").read_text()
    assert not re.search(r"^\s*(import|from) adit", source, re.M)
