"""The examples of the guides to evaluation run as they are written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


def run(guide: str) -> int:
    """All Python blocks, each by itself; how many there are."""
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / guide).read_text(), re.DOTALL)
    for block in blocks:
        exec(compile(block, guide, "exec"), {"__name__": "docs"})
    return len(blocks)


def test_eval(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("eval.md") == 2
    assert capsys.readouterr().out.splitlines() == [
        "edm 1.0 2",
        "adit-rust 0.5 2",
        "oxygen 0 has 1 unpaired electron | repeats entry 2",
        "0.5",
        "1.0 1",
    ]


def test_stability(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("chgnet")
    assert run("stability.md") == 1
    assert capsys.readouterr().out.splitlines() == ["True False True 0.1", "1.0 Not DFT: relaxed with ch"]
