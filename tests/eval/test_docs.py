from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs" / "stability.md"


def test_examples_run(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("chgnet")
    (block,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    exec(compile(block, str(DOCS), "exec"), {})
    assert capsys.readouterr().out.splitlines() == ["True False True 0.1", "1.0 Not DFT: relaxed with ch"]
