"""The profile of a training step, on a small network and data set."""

import csv
from pathlib import Path

import pytest

import train_profile

TESTS = Path(__file__).parents[1]


def test_profile_goes_from_data_to_the_document(tmp_path: Path) -> None:
    document = tmp_path / "training.md"
    document.write_text("<!-- train-profile cpu: begin -->\n<!-- train-profile cpu: end -->\n")
    data = str(TESTS / "fixtures" / "tiny_dataset")
    train_profile.main(
        ["--recipe", "joint-test", "--data", data, "--steps", "2", "--out", str(tmp_path), "--docs", str(document)]
    )
    with (tmp_path / "train-profile-cpu.csv").open() as file:
        rows = {row["part"]: row for row in csv.DictReader(file)}
    assert set(rows) == {*train_profile.PARTS, "the rest"} - {"graph"}
    assert sum(float(row["share"]) for row in rows.values()) == pytest.approx(1, abs=1e-4)
    # the pass for self-conditioning is on half of the systems and keeps nothing for a gradient
    milliseconds = {part: float(row["milliseconds"]) for part, row in rows.items()}
    assert 0 < milliseconds["self-conditioning"] < milliseconds["forward"] + milliseconds["backward"]
    assert all(value > 0 for value in milliseconds.values())
    assert "| backward |" in document.read_text() and "recipe joint-test" in document.read_text()


def test_the_step_is_left_as_it_was(tmp_path: Path) -> None:
    import torch

    from adit.data.packed import PackedDataset
    from adit.recipes import get_recipe

    data = PackedDataset.load(TESTS / "fixtures" / "tiny_dataset")
    step = train_profile.Step(get_recipe("joint-test"), data, torch.device("cpu"))
    backward = torch.Tensor.backward
    with step.parts() as seconds:
        step.run(1)
    assert set(seconds) == set(train_profile.PARTS) - {"graph"} and torch.Tensor.backward is backward
    before = dict(seconds)
    step.run(1)
    assert seconds == before
