"""`adit-gen --chemical-system`, `--elements`, `--exclude-elements`: what is drawn, kept and refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from pymatgen.core import Composition

from adit.convert import read

Call = Callable[..., tuple[int, str, str]]


def test_crystals_of_a_chemical_system(gen: Call) -> None:
    options = ["--system", "crystal", "--weights", "joint-tiny", "--steps", 2, "--n", 8, "--json", "s.json"]
    code, out, err = gen(*options, "--chemical-system", "Li-P-S")
    assert (code, err) == (0, "")
    assert {Composition(one.formula).chemical_system for one in read("crystals.extxyz")} == {"Li-P-S"}
    assert "are exactly Li-P-S │ 100.0%" in " ".join(out.split())
    assert json.loads(Path("s.json").read_text())["options"]["chemical_system"] == "Li-P-S"
    assert gen(*options, "--elements", "Li,O", "--exclude-elements", "Fe Co Ni Mn", "--overwrite")[0] == 0
    for one in read("crystals.extxyz"):
        symbols = Composition(one.formula).chemical_system.split("-")
        assert {"Li", "O"} <= set(symbols) and not {"Fe", "Co", "Ni", "Mn"} & set(symbols)


def test_molecules_that_have_an_element(gen: Call) -> None:
    """What the untrained network makes of its formulas need not have it: the table says how many do."""
    options = ["--formula", "training", "--elements", "O", "--exclude-elements", "Xe"]
    code, out, _ = gen("--n", 30, *options, "--out", "m.extxyz")
    assert code == 0
    made = read("m.extxyz")
    assert {len(one) for one in made} == {3, 9}, "those of H2O and C2H6O"
    share = sum(8 in one.numbers and 54 not in one.numbers for one in made) / 30
    assert re.search(rf"are with O, without Xe │ {share:.1%}", " ".join(out.split()))


def test_valid_only_keeps_what_has_the_elements(gen: Call) -> None:
    """Of four steps few molecules come out as they should; none without fluorine is kept."""
    options = ["--weights", "joint-tiny", "--steps", 4, "--solver", "euler", "--elements", "F", "--batch-size", 64]
    code, out, _ = gen("--n", 64, *options, "--out", "all.extxyz")
    assert code == 0
    right = [one.info["id"] for one in read("all.extxyz") if 9 in one.numbers]
    assert 0 < len(right) < 64, "the test needs both"
    code, out, _ = gen("--n", 8, *options, "--valid-only", "--out", "kept.extxyz")
    assert code == 0 and "are with F │ 100.0%" in " ".join(out.split())
    kept = [one.info["id"] for one in read("kept.extxyz")]
    assert len(kept) == 8 and {name for name in kept if int(name.rsplit("-")[-1]) < 64} <= set(right)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--chemical-system", "Li-Q"], "--chemical-system must be elements from H to Fm, such as Li-P-S; got 'Q'"),
        (["--chemical-system", "C-H", "--elements", "C"], "leave out --elements and --exclude-elements"),
        (["--elements", "C-O", "--exclude-elements", "O"], "--elements and --exclude-elements both name O"),
        (["--elements", "O", "--formula", "CH4"], "--formula CH4: leaves no room for formulas with O"),
        (["--elements", "O", "--formula", "any"], "--formula any: leaves no room for formulas with O"),
        (["--elements", "O", "--like", "x.sdf"], "--like: leaves no room for formulas with O"),
        (["--elements", "S", "--formula", "training"], "the training set has no formula with S"),
        (
            ["--system", "crystal", "--weights", "joint-tiny", "--chemical-system", "O-Ar"],
            "no new formula exactly O-Ar",
        ),
    ],
)
def test_what_is_refused(gen: Call, options: list[str], message: str) -> None:
    code, out, err = gen(*options, "--n", 1)
    assert (code, out) == (2, "") and message in err and err.count("\n") == 1
    assert not list(Path().iterdir())
