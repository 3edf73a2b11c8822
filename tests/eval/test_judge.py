"""The judge of benches/ as a program, on files."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from adit.eval import evaluate

DATA = Path(__file__).parent / "data"


def test_the_judge_and_the_evaluation_agree_on_files(tmp_path, qm9, mp20):
    program = Path(__file__).parents[2] / "benches" / "judge.py"
    out = tmp_path / "out.json"
    command = [sys.executable, program, "--molecules", DATA / "qm9.extxyz", "--crystals", DATA / "mp20.extxyz"]
    result = subprocess.run([*command, "--json", out], capture_output=True, text=True, timeout=120, check=True)
    assert result.stderr == ""
    verdicts, ours = json.loads(out.read_text()), evaluate([*qm9, *mp20])
    m, c = verdicts["molecules"], verdicts["crystals"]
    for theirs, protocol, name in (
        ("atom_stability", "edm", "stable atoms"),
        ("molecule_stability", "edm", "stable molecules"),
        ("sanitised_with_radicals", "adit", "valid"),
        ("valid", "adit", "no unpaired electrons"),
    ):
        assert m[theirs] == pytest.approx(ours.metric("molecules", name, protocol).value), name
    for theirs, name in (
        ("structural", "structure valid"),
        ("compositional", "composition valid"),
        ("overall", "valid"),
        ("unique_of_structural", "unique"),
    ):
        assert c[theirs] == pytest.approx(ours.metric("crystals", name).value), name
    rows = [row["protocols"] for row in ours.rows]
    assert [row["smiles"] for row in m["rows"]] == [row["adit"]["smiles"] for row in rows[: len(qm9)]]
    assert [(row["structural"], row["compositional"]) for row in c["rows"]] == [
        (row["cdvae"]["structure"], row["cdvae"]["composition"]) for row in rows[len(qm9) :]
    ]


def test_the_judge_does_not_know_adit():
    source = (Path(__file__).parents[2] / "benches" / "judge.py").read_text()
    assert not re.search(r"^\s*(import|from) adit", source, re.M)
