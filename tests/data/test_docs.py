from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs" / "data.md"
DRUGS = DOCS.with_name("drugs.md")


def test_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ADIT_DATA_DIR", str(tmp_path / "cache"))
    blocks = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(compile(block, str(DOCS), "exec"), {})
    assert capsys.readouterr().out.startswith("2 <AtomicSystem molecule H2O (3 atoms)>")
    assert (tmp_path / "long.sdf").read_text().count("$$$$") == 3


def test_conformers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ADIT_DATA_DIR", str(tmp_path / "cache"))
    (block,) = re.findall(r"```python\n(.*?)```", DRUGS.read_text(), re.DOTALL)
    exec(compile(block, str(DRUGS), "exec"), {})
    assert capsys.readouterr().out.splitlines() == [
        "2 {'MMFF94 lacks parameters for an atom': 1}",
        "2 C9H8O4 FC(Cl)Br",
    ]


def test_the_commands_for_larger_molecules_have_their_options() -> None:
    """The demonstration takes half an hour; here its commands are parsed as they are written."""
    from typer.main import get_command

    from adit.cli import data, eval, gen, train

    apps = {"adit-data": data.app, "adit-train": train.app, "adit-gen": gen.app, "adit-eval": eval.app}
    (block, _) = re.findall(r"```bash\n(.*?)```", DRUGS.read_text(), re.DOTALL)
    lines = [shlex.split(line, comments=True) for line in block.splitlines()]
    assert {line[0] for line in lines} == set(apps)
    for program, *words in lines:
        command = get_command(apps[program])
        if program in ("adit-data", "adit-train"):
            command = command.commands[words.pop(0)]
        command.make_context(program, words)
