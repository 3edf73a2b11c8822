"""The examples of the guides to the Rust core run, and print what their comments say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize(
    ("guide", "blocks", "printed"),
    [
        ("neighbors.md", 2, ["12 2.82", "1"]),
        ("features.md", 1, ["(7, 3, 16) [[0.0, 2.8], [2.8, 0.0]]"]),
    ],
)
def test_examples_run(guide: str, blocks: int, printed: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    found = re.findall(r"```python\n(.*?)```", (DOCS / guide).read_text(), re.DOTALL)
    assert len(found) == blocks
    for block in found:
        exec(compile(block, guide, "exec"), {})
    assert capsys.readouterr().out.splitlines() == printed
