from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs" / "eval.md"


def test_examples_run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    for block in blocks:
        exec(compile(block, str(DOCS), "exec"), {"__name__": "docs"})
    assert capsys.readouterr().out.splitlines() == [
        "edm 1.0 2",
        "adit-rust 0.5 2",
        "oxygen 0 has 1 unpaired electron | repeats entry 2",
        "0.5",
        "1.0 1",
    ]
    assert len(blocks) == 2
