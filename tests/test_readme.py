"""The README's Python runs, with the weights in the package."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

BLOCKS = re.findall(r"```python\n(.*?)```", (Path(__file__).parents[1] / "README.md").read_text("utf-8"), re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS)
def test_python_block(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(block, {})
    assert ("molecules.sdf" in block) == (tmp_path / "molecules.sdf").exists()


def test_there_are_blocks() -> None:
    assert len(BLOCKS) == 2
