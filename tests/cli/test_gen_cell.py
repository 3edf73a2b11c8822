"""`adit-gen --cell`: crystals of a cell that is known."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from adit.convert import read
from adit.known_cell import known_cells

Call = Callable[..., tuple[int, str, str]]
ROCK_SALT = "F,5.64,5.64,5.64,90,90,90"
ASK = ["--system", "crystal", "--weights", "joint-tiny", "--formula", "NaCl", "--steps", 8]


def test_crystals_have_the_cell_and_say_how_well_it_fits(gen: Call) -> None:
    code, out, err = gen(*ASK, "--n", 6, "--cell", ROCK_SALT, "--json", "s.json")
    assert (code, err) == (0, "")
    made = read("crystals.extxyz")
    for one in made:
        np.testing.assert_allclose(one.cell, known_cells(ROCK_SALT)[0], atol=1e-6)
    best = min(made, key=lambda one: one.info["cell_misfit"])
    words = " ".join(out.split())
    assert f"misfit of the cell: smallest │ {best.info['cell_misfit']:.2%} ({best.info['id']})" in words
    assert json.loads(Path("s.json").read_text())["options"]["cell"] == ROCK_SALT
    code, _, err = gen(*ASK, "--n", 8, "--cell", "4,4,4,90,90,90", "--resume")
    assert code == 2 and "cell" in err
    code, out, err = gen(*ASK, "--n", 8, "--cell", ROCK_SALT, "--resume")
    assert (code, len(read("crystals.extxyz"))) == (0, 8)


def test_formats_without_the_misfit_go_without_its_rows(gen: Call) -> None:
    code, out, _ = gen(*ASK, "--n", 2, "--cell", ROCK_SALT, "--out", "cifs/")
    assert code == 0 and "misfit" not in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--cell", "5,5,5,90,90,90"], "--cell is for crystals; leave it out, or add --system crystal"),
        (["--system", "crystal", "--cell", "5,5,5"], "--cell must be a, b, c in Angstrom and alpha, beta, gamma"),
        (["--system", "crystal", "--cell", "5,5,5,10,10,90"], "--cell: no cell has lengths"),
        (["--system", "crystal", "--cell", "5,5,0.1,90,90,90"], "--cell: edges must be 1 to 1,000 Angstrom long"),
    ],
)
def test_wrong_cells_are_refused(gen: Call, options: list[str], message: str) -> None:
    code, out, err = gen(*options)
    assert (code, out) == (2, "") and message in err and err.count("\n") == 1
