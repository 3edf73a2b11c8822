"""The Python of docs/model.md runs, and prints what it says."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs" / "model.md"


def test_examples_run(capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL)
    exec(compile(block, str(DOCS), "exec"), {})
    assert capsys.readouterr().out == "True\n"
