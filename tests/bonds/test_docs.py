from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs" / "bonds.md"


def test_examples_run(capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    exec(compile(block, str(DOCS), "exec"), {})
    assert capsys.readouterr().out.splitlines() == [
        "[[0, 1], [0, 2]] [1, 1] [0, 0, 0] []",
        "3 1",
        "2 3 3",
        "1.0 [()]",
    ]
