"""Quality at equal budget and scaling: the parts, and both commands in small."""

from __future__ import annotations

import csv
import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import equal_budget
import scaling
from adit.data.packed import PackedDataset
from adit.errors import UnreadableFileError
from adit.models.dit import DiT
from adit.models.vae import VAE
from adit.recipes import get_recipe
from adit.system import AtomicSystem
from adit.train.checkpoint import list_checkpoints, read_state
from quality import edm
from quality.keep import curve, kept_samples, verdict

TESTS = Path(__file__).parents[1]
DOCS = TESTS.parent / "docs" / "benchmarks.md"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def molecules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared data set of molecules alone."""
    data = PackedDataset.load(TESTS / "fixtures" / "tiny_dataset")
    folder = tmp_path_factory.mktemp("data") / "molecules"
    data.subset(~np.asarray(data.periodic)).save(folder)
    return folder


def test_equal_budget_goes_from_data_to_the_document(molecules: Path, tmp_path: Path) -> None:
    document = tmp_path / "benchmarks.md"
    document.write_text(DOCS.read_text())
    words = ["--quick", "--data", str(molecules), "--runs", str(tmp_path / "runs"), "--out", str(tmp_path)]
    equal_budget.main([*words, "--only", "edm", "--docs", str(document)])
    outcome = json.loads((tmp_path / "runs" / "edm" / "outcome.json").read_text())
    assert outcome["seconds"] >= 60 * 0.03 and outcome["samples"] == 8 and outcome["evaluations"] == 4
    begun = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs" / "edm").rglob("*")}
    equal_budget.main([*words, "--docs", str(document)])
    assert {path: path.stat().st_mtime_ns for path in begun} == begun, "what is done is not done again"
    text = document.read_text().split("equal-budget: begin")[1].split("equal-budget: end")[0]
    assert "| EDM | 0.0" in text and "| adit (VAE + DiT) | " in text and "Not measured" not in text
    with (tmp_path / "equal_budget.csv").open() as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    for row in rows.values():
        assert float(row["seconds"]) == pytest.approx(60 * float(row["minutes"]), rel=0.6), "same budget, same time"
        assert float(row["stable_atoms"]) == pytest.approx(float(row["judge_stable_atoms"]))
    with (tmp_path / "equal_budget_curves.csv").open() as file:
        points = list(csv.DictReader(file))
    assert {point["stage"] for point in points} == {"edm", "vae", "dit"}
    dit = [float(p["seconds"]) for p in points if (p["stage"], p["kind"]) == ("dit", "validation")]
    vae = read_state(list_checkpoints(tmp_path / "runs" / "adit" / "vae")[-1])["seconds"]
    assert dit == sorted(dit) and dit[0] >= vae, "the second stage follows the first"
    assert (tmp_path / "images" / "equal-budget.png").stat().st_size > 5_000


def test_equal_budget_refuses_what_edm_cannot_make(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="tiny_dataset holds crystals"):
        equal_budget.main(["--quick", "--data", str(TESTS / "fixtures" / "tiny_dataset"), "--runs", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"no run in .* has ended"):
        equal_budget.main(["--report", "--runs", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"no run in .* has ended"):
        scaling.main(["--report", "--runs", str(tmp_path)])


def test_scaling_goes_from_data_to_the_document(molecules: Path, tmp_path: Path) -> None:
    document = tmp_path / "benchmarks.md"
    document.write_text(DOCS.read_text())
    words = ["--quick", "--data", str(molecules), "--runs", str(tmp_path / "runs"), "--out", str(tmp_path)]
    scaling.main([*words, "--only", "0.5M", "--docs", str(document)])
    text = document.read_text().split("scaling: begin")[1].split("scaling: end")[0]
    assert text.count("| 0.5M | 0.56 M |") == 2 and "held-out loss against FLOPs, all runs" in text
    with (tmp_path / "scaling.csv").open() as file:
        short, long = csv.DictReader(file)
    assert int(short["steps"]) <= int(long["steps"]) and float(short["pflop"]) <= float(long["pflop"])
    assert 0.5 < float(long["loss"]) < 2
    assert (tmp_path / "images" / "scaling.png").stat().st_size > 5_000


def test_power_laws() -> None:
    x = [1e6, 3e6, 5e6, 1e7]
    fit = scaling.power_law(x, [2.5 * value**-0.3 for value in x])
    assert fit is not None
    assert (fit.factor, fit.exponent, fit.r_squared, fit.points) == pytest.approx((2.5, -0.3, 1.0, 4))
    assert "2.5 x^-0.300 (R^2 1.00, 4 points)" in str(fit)
    noisy = scaling.power_law(x, [1.0, 3.0, 1.0, 3.0])
    assert noisy is not None and noisy.r_squared < 0.5
    assert scaling.power_law([1.0, 1.0], [2.0, 3.0]) is None
    assert scaling.power_law([1.0, 2.0], [0.0, 3.0]) is None


def test_flops_of_training_are_three_and_a_half_passes_and_the_encoder(molecules: Path) -> None:
    """A backward pass costs two forward ones; half of the systems get a first pass for self-conditioning."""
    recipe, data = get_recipe("joint-test"), PackedDataset.load(molecules)
    flop = scaling.flop_of_an_atom(DiT(recipe.dit), VAE(recipe.vae), recipe, data)
    # per atom: 2 x (12 width^2 a layer), attention and the narrow layers left out
    forward, encoder = (2 * 12 * c.width**2 * n for c, n in ((recipe.dit, recipe.dit.layers), (recipe.vae, 1)))
    assert flop == pytest.approx(3.5 * forward + encoder, rel=0.25)


def test_samples_are_kept_and_half_a_block_is_made_again(tmp_path: Path) -> None:
    made: list[int] = []

    def block(n: int) -> list[AtomicSystem]:
        made.append(n)
        return [AtomicSystem([1, 1], [[0, 0, 0], [0, 0, 0.7 + n / 10]])] * n

    blocks = [partial(block, n) for n in (2, 1)]
    systems, _ = kept_samples(tmp_path, blocks, lambda: 0.0)
    assert [s.positions[1, 2] for s in systems] == pytest.approx([0.9, 0.9, 0.8]) and made == [2, 1]
    (tmp_path / "0001.json").unlink()
    (tmp_path / "0001.extxyz").write_text("2\nproperties=spec")
    again, _ = kept_samples(tmp_path, blocks, lambda: 0.0)
    assert len(again) == 3 and made == [2, 1, 1]
    (tmp_path / "0000.extxyz").write_text("2\nproperties=spec")
    with pytest.raises(UnreadableFileError, match=r"0000\.extxyz"):
        kept_samples(tmp_path, blocks, lambda: 0.0)


def test_verdicts_of_both_judges_on_real_molecules(molecules: Path) -> None:
    found = verdict(list(PackedDataset.load(molecules)))
    assert found["valid"] > 0.9 and found["valid_connected"] == found["valid"]
    assert found["stable_atoms_low"] <= found["stable_atoms"] <= found["stable_atoms_high"]
    for name in ("stable_atoms", "stable_molecules", "valid"):
        assert found[f"judge_{name}"] == pytest.approx(found[name])


def test_edm_makes_sizes_of_the_training_set_the_same_each_time(molecules: Path) -> None:
    data = PackedDataset.load(molecules)
    diffusion = edm.build(16, 1, 0, CPU)

    def made(seed: int) -> list[AtomicSystem]:
        return [item for block in edm.blocks(diffusion, data, 9, 2, seed, bf16=False, most=2) for item in block()]

    first, again, other = made(0), made(0), made(1)
    assert len(first) == 9 and {len(item) for item in first} <= set(data.sizes.tolist())
    assert all(np.array_equal(a.positions, b.positions) for a, b in zip(first, again, strict=True))
    assert any(
        len(a) != len(b) or not np.array_equal(a.positions, b.positions) for a, b in zip(first, other, strict=True)
    )
    assert {number for item in first for number in item.numbers.tolist()} <= {1, 6, 7, 8, 9}
    torch.nn.init.constant_(diffusion.network.egnn.out.bias, float("nan"))
    assert all(np.isfinite(item.positions).all() for item in made(0)), "a broken network still counts"


def test_curves_are_what_was_logged_with_its_time(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(
        "step,kind,name,value\n20,train,loss,0.5\n20,train,seconds,30\n20,train,lr,1\n"
        "40,validation,loss,0.4\n40,validation,seconds,60\n50,validation,loss,0.3\n"
    )
    points = curve("A", "dit", tmp_path, 100.0, ("loss",))
    assert [(p.step, p.kind, p.seconds, p.value) for p in points] == [
        (20, "train", 130.0, 0.5), (40, "validation", 160.0, 0.4)
    ]  # fmt: skip
