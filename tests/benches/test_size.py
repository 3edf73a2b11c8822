"""Time and memory against size: what is counted, and the command in small."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

import size
from adit.models.dit import ELEMENTS
from adit.recipes import get_recipe


@pytest.mark.parametrize("work", list(size.WORK))
def test_flops_are_those_of_the_networks(work: str) -> None:
    """At equal atoms in a batch only attention grows; a gradient costs two passes, self-conditioning half of one."""
    recipe = get_recipe("joint-test")
    words = ["--recipe", "joint-test", "--tokens", "256", "--repeats", "1"]
    rows = [size.measure(work, atoms, size.arguments(words)) for atoms in (8, 64)]
    assert [row.molecules for row in rows] == [32, 4]
    assert all(row.milliseconds > 0 for row in rows)
    passes = {"vae": 3 * 2, "dit": 3.5 * recipe.dit.layers + 1, "sample": recipe.dit.layers}[work]
    width, layers = recipe.dit.width, recipe.dit.layers
    # per atom: 2 x 12 width^2 a layer, and 4 x width x atoms of attention; embeddings and heads left out
    linear, attention = (256 * passes * part / 1e9 for part in (24 * width**2, 4 * width * (64 - 8)))
    # per molecule: AdaLN of each layer and of the end, and the time's two matrices; a sample has them beforehand
    condition = (32 - 4) * 3.5 * 2 * (6 * layers * width**2 + 2 * width**2 + (256 + width) * width) / 1e9
    # its composition, which asks for no gradient of its own
    condition += (32 - 4) * 2.5 * 2 * ELEMENTS * recipe.dit.composition * width / 1e9
    grown = attention - (condition if work == "dit" else 0)
    assert rows[1].gflop - rows[0].gflop == pytest.approx(grown, abs=0.1 * attention)
    assert rows[0].gflop == pytest.approx(linear, rel=0.5)


@pytest.mark.slow
def test_the_command_goes_from_nothing_to_the_document(tmp_path: Path) -> None:
    document = tmp_path / "drugs.md"
    document.write_text("# x\n\n<!-- size cpu: begin -->\n<!-- size cpu: end -->\n")
    size.main(["--quick", "--out", str(tmp_path), "--docs", str(document)])
    with (tmp_path / "size-cpu.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["work"], row["atoms"], row["molecules"]) for row in rows] == [(w, "9", "7") for w in size.WORK]
    assert all(float(row["milliseconds"]) > 0 and float(row["mebibytes"]) > 0 for row in rows)
    assert "| 9 | 7 | " in document.read_text() and "not compiled" in document.read_text()
    assert (tmp_path / "images" / "size-cpu.png").stat().st_size > 5_000
