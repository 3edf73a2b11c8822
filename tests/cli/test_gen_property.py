"""`adit-gen --property`: what reaches the files, what is kept, what is refused."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from rdkit import Chem

from adit.config import DiTConfig
from adit.convert import read, write
from adit.data.packed import PackedDataset
from adit.models.predictor import PropertyPredictor
from adit.weights.predictors import Predictor, latent_space, save_predictor
from adit.weights.store import load_pretrained

FIXTURES = Path(__file__).parents[1] / "fixtures"
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def predictor(weights: Path, tmp_path: Path) -> Path:
    """Of "p" and "q", which it was never taught: what it says depends on the latents all the same."""
    torch.manual_seed(2)
    network = PropertyPredictor(DiTConfig(width=32, heads=2, layers=1, composition=8), ["p", "q"])
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    for of_variance in (network.final.linear.weight, network.final.linear.bias):
        of_variance.data[2:] = 0.0
    network.low[:], network.high[:] = -10.0, 10.0
    space = latent_space(load_pretrained(weights).model)
    made = Predictor(network=network, systems=("molecule", "crystal"), latents=space)
    save_predictor(tmp_path / "predictor", made)
    return tmp_path / "predictor"


def test_files_and_table_say_what_is_predicted(gen: Call, predictor: Path) -> None:
    options = ["--property", "p=0.1", "--property", "q=:5", "--predictor", predictor, "--n", 6, "--json", "s.json"]
    code, out, err = gen(*options, "--out", "a.sdf", "--out", "b.extxyz")
    assert (code, err) == (0, "")
    molecules = list(Chem.SDMolSupplier("a.sdf", removeHs=False, sanitize=False))
    predicted = [float(molecule.GetProp("predicted_p")) for molecule in molecules]
    assert predicted == pytest.approx([frame.info["predicted_p"] for frame in ase.io.read("b.extxyz", ":")])
    assert len(set(predicted)) == 6
    assert f"p, predicted: mean, spread │ {np.mean(predicted):.4g}" in " ".join(out.split())
    assert "q, predicted: within -inf to 5 │ 100.0%" in " ".join(out.split())
    held = json.loads(Path("s.json").read_text())["options"]
    assert (held["property"], held["predictor"]) == (["p=0.1", "q=:5"], [str(predictor)])


def test_valid_only_keeps_what_is_predicted_within_the_range(gen: Call, predictor: Path) -> None:
    common = ["--system", "crystal", "--atoms", 1, "--predictor", predictor, "--property-scale", 0]
    assert gen(*common, "--property", "p=0", "--n", 40, "--out", "all.extxyz")[0] == 0
    values = sorted(frame.info["predicted_p"] for frame in ase.io.read("all.extxyz", ":"))
    wanted = f"p={values[20]}:"
    assert gen(*common, "--property", wanted, "--n", 15, "--out", "some.extxyz")[0] == 0
    assert gen(*common, "--property", wanted, "--n", 15, "--valid-only", "--out", "kept.extxyz")[0] == 0
    some, kept = (
        [frame.info["predicted_p"] for frame in ase.io.read(name, ":")] for name in ("some.extxyz", "kept.extxyz")
    )
    assert min(some) < values[20] <= min(kept)
    assert len(kept) == 15


def test_pulled_harder_is_nearer(gen: Call, predictor: Path) -> None:
    distance = []
    for scale in (0, 30):
        options = ["--property", "p=1", "--predictor", predictor, "--property-scale", scale, "--steps", 10, "--n", 20]
        assert gen(*options, "--atoms", 5, "--formula", "any", "--out", f"{scale}.extxyz")[0] == 0
        found = [frame.info["predicted_p"] for frame in ase.io.read(f"{scale}.extxyz", ":")]
        distance.append(np.abs(np.array(found) - 1).mean())
    assert distance[1] < 0.9 * distance[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--property", "p"], "must be NAME=VALUE or NAME=MIN:MAX"),
        (["--property", "p=x"], "must be NAME=VALUE or NAME=MIN:MAX"),
        (["--property", "=1"], "must be NAME=VALUE or NAME=MIN:MAX"),
        (["--property", "p=nan"], "must be NAME=VALUE or NAME=MIN:MAX"),
        (["--property", "p=inf"], "must be NAME=VALUE or NAME=MIN:MAX"),
        (["--property", "p=:"], "must be NAME=VALUE or NAME=MIN:MAX"),
        (["--property", "p=2:1"], "must be NAME=VALUE or NAME=MIN:MAX"),
        (["--property", "p=2:2"], "must be NAME=VALUE or NAME=MIN:MAX"),
        (["--property", "p=1e9"], "is far from all that the predictor has seen, -10 to 10"),
        (["--property", "p=1", "--property-scale", "-1"], "--property-scale must be a finite number, at least 0"),
        (["--property", "p=1", "--property", "p=2"], "--property p: named twice"),
        (["--property", "r=1"], "no predictor knows 'r' of a molecule; known: p, q."),
        (["--property", "p=1", "--property-scale", "inf"], "--property-scale must be a finite number"),
        ([], "--predictor is for --property"),
    ],
)
def test_mistakes_cost_no_sample(gen: Call, predictor: Path, options: list[str], message: str) -> None:
    Path("molecules.sdf").write_text("mine")
    code, out, err = gen(*options, "--predictor", predictor, "--overwrite")
    assert (code, out) == (2, "")
    assert message in err
    assert Path("molecules.sdf").read_text() == "mine"


def test_a_predictor_that_is_not_there(gen: Call) -> None:
    code, _, err = gen("--property", "p=1", "--predictor", "nothing")
    assert code == 2
    assert "--predictor: no predictor in 'nothing'" in err
    code, _, err = gen("--property", "p=1")
    assert code == 2
    assert "known: none" in err


def test_a_resume_knows_another_property_or_predictor(gen: Call, predictor: Path) -> None:
    options = ["--predictor", predictor, "--n", 4, "--out", "a.extxyz"]
    assert gen("--property", "p=1", *options)[0] == 0
    before = Path("a.extxyz").read_bytes()
    assert gen("--property", "p=1", *options, "--resume")[0] == 0
    assert Path("a.extxyz").read_bytes() == before
    code, _, err = gen("--property", "p=2", *options, "--resume")
    assert code == 2
    assert "--property was" in err
    network = PropertyPredictor(DiTConfig(width=32, heads=2, layers=1, composition=8), ["p"])
    save_predictor(predictor, Predictor(network=network, systems=("molecule",), latents="another"))
    code, _, err = gen("--property", "p=1", *options, "--resume")
    assert code == 2
    assert "the predictors are not what they were" in err
    code, _, err = gen("--property", "p=1", *options, "--overwrite")
    assert code == 2
    assert "latents of other weights" in err


def test_the_guide_to_a_property_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its commands as they stand there, with fewer steps and samples."""
    from adit.cli import data, gen, train

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ADIT_DATA_DIR", str(tmp_path / "cache"))
    molecules = [one for one in PackedDataset.load(FIXTURES / "tiny_dataset") if not one.is_periodic]
    write("mine.sdf", [replace(one, info={"logp": 0.1 * k}) for k, one in enumerate(molecules)])
    section = (FIXTURES.parents[1] / "docs" / "properties.md").read_text("utf-8").split("## Your own property")[1]
    lines = re.findall(r"(?m)^(adit-[^#\n]*)", section)[:3]
    fewer = {"adit-train": ["--steps", "3", "--no-compile", "--threads", "1"], "adit-gen": ["--n", "2", "--steps", "3"]}
    mains = {"adit-data": data.main, "adit-train": train.main, "adit-gen": gen.main}
    for line in lines:
        words = shlex.split(line)
        monkeypatch.setattr(sys, "argv", [*words, *fewer.get(words[0], [])])
        with pytest.raises(SystemExit) as stop:
            mains[words[0]]()
        assert stop.value.code in (0, None), capsys.readouterr()
    assert len(lines) == 3
    assert "try: adit-gen --property logp=" in capsys.readouterr().out
    assert all("predicted_logp" in one.info for one in read("molecules.sdf"))
