"""adit-train as a person runs it: both stages, a kill in the middle, export, and samples from the result."""

from __future__ import annotations

import csv
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

DATA = Path(__file__).parents[1] / "fixtures" / "tiny_dataset"


def start(*arguments: str | Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", "from adit.cli.train import main; main()", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def train(*arguments: str | Path) -> tuple[int, str, str]:
    process = start(*arguments)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def losses(folder: Path) -> list[tuple[int, float]]:
    with (folder / "log.csv").open() as handle:
        return [(int(row["step"]), float(row["value"])) for row in csv.DictReader(handle) if row["name"] == "loss"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("train") / "run"
    for stage in ("vae", "dit"):
        code, _, err = train(stage, "--recipe", "joint-test", "--data", DATA, "--out", run)
        assert code == 0, err
    return run


def test_both_stages_learn_and_validate(finished: Path) -> None:
    vae = losses(finished / "vae")
    assert vae[-1][0] == 40
    assert vae[-1][1] < vae[0][1]
    names = {row["name"] for row in csv.DictReader((finished / "dit" / "log.csv").open())}
    assert {"molecule/valid_unique_novel", "crystal/valid_unique_novel", "molecule/stable_atoms"} <= names


def test_what_is_said_to_come_next_can_be_run_as_it_is(tmp_path: Path) -> None:
    from adit.data.prepare import load
    from adit.weights import load_pretrained

    data, run = tmp_path / "no splits", tmp_path / "my run"
    crystals = load(DATA).subset(np.arange(150, 300))
    replace(crystals, properties={k: v for k, v in crystals.properties.items() if k != "split"}).save(data)
    options = ("--recipe", "joint-test", "--data", data, "--out", run, "--steps", "2")
    for stage in ("vae", "decoder", "dit"):
        code, out, err = train(stage, *options)
        assert code == 0, err
        assert out.count("no split val, so nothing is held out") == 1
        words = shlex.split(out.rsplit("next: ")[-1])
        if stage != "dit":
            assert words == ["adit-train", "dit", *map(str, options[:-2])]
    code, out, err = train(*words[1:])
    assert code == 0, err
    assert load_pretrained(shlex.split(out.rsplit("try: ")[-1])[-1]).name == "my run"
    code, out, err = train("decoder", *options, "--resume")
    assert code == 0 and out.splitlines()[-1].endswith(f"next: adit-train export '{run}'")
    other = tmp_path / "other"
    code, out, err = train("dit", *options[:5], other, "--vae", run / "vae", "--steps", "2")
    assert code == 0, err
    code, _, err = train(*shlex.split(out.rsplit("next: ")[-1])[1:])
    assert code == 0, err


def test_export_then_generate(finished: Path) -> None:
    from adit.generate import Generator
    from adit.weights import SamplingDefaults

    code, out, err = train("export", finished, "--sampling", "crystal=euler:4:1.5")
    assert code == 0, err
    assert "adit-gen --weights" in out
    generator = Generator.from_pretrained(finished / "weights", device="cpu")
    assert generator.defaults["crystal"] == SamplingDefaults(steps=4, solver="euler", cfg=1.5)
    assert generator.defaults["molecule"] == SamplingDefaults(formula="training")
    assert all(sum(generator.weights.formulas[kind].values()) for kind in ("molecule", "crystal"))
    crystals = generator.sample(3, "crystal", formula="new")
    assert [crystal.is_periodic for crystal in crystals] == [True] * 3


def test_export_with_a_guide(finished: Path, tmp_path: Path) -> None:
    from adit.generate import Generator

    settings = "molecule=ancestral:4:1:training:1.5:7"
    code, _, err = train("export", finished, "--out", tmp_path / "no", "--sampling", settings)
    assert code == 2 and "needs --guide RUN" in err and not (tmp_path / "no").exists()
    code, _, err = train("export", finished, "--out", tmp_path / "yes", "--sampling", settings, "--guide", finished)
    assert code == 0, err
    generator = Generator.from_pretrained(tmp_path / "yes", device="cpu")
    weights = generator.weights
    assert (weights.defaults["molecule"].guide, weights.defaults["molecule"].noise) == (1.5, 7.0)
    assert weights.about["guide"]["steps"] == 40
    for name, tensor in weights.model.dit.state_dict().items():
        assert torch.equal(tensor, weights.model.guide.state_dict()[name]), name
    made, plain = generator.sample(4), generator.sample(4, guide=1.0)
    for a, b in zip(made, plain, strict=True):  # away from itself leads nowhere
        assert abs(a.positions - b.positions).max() < 1e-3
    code, _, err = train("export", finished, "--out", tmp_path / "again", "--guide", tmp_path / "yes")
    assert code == 0, err
    again = Generator.from_pretrained(tmp_path / "again", device="cpu").weights
    assert again.model.guide.config == weights.model.guide.config and again.about["guide"] == weights.about["guide"]
    assert train("export", finished, "--out", tmp_path / "plain")[0] == 0
    code, _, err = train("export", finished, "--out", tmp_path / "none", "--guide", tmp_path / "plain")
    assert code == 2 and "have no guide" in err and "Traceback" not in err


def test_a_decoder_trained_on_fits_the_finished_model(finished: Path, tmp_path: Path) -> None:
    from adit.train.reconstruct import load_vae
    from adit.weights import load_pretrained

    run = shutil.copytree(finished, tmp_path / "run")
    exports = []
    for stage in ("export", "decoder", "export"):
        arguments = (run,) if stage == "export" else ("--recipe", "joint-test", "--data", DATA, "--out", run)
        code, _, err = train(stage, *arguments)
        assert code == 0, err
        if stage == "export":
            exports.append(load_pretrained(run / "weights"))
    before, after = (weights.model for weights in exports)
    assert exports[1].about["steps"] == {"vae": 40, "decoder": 40, "dit": 40}
    for name, tensor in before.state_dict().items():
        same = torch.equal(tensor, after.state_dict()[name])
        assert same == (not name.startswith("decoder.")), name
    here, stage = torch.device("cpu"), run / "decoder"
    found = [load_vae(place, here).state_dict() for place in (run, stage, max(stage.glob("step-*")), run / "weights")]
    for name, tensor in found[0].items():
        assert torch.equal(tensor, found[1][name]) and torch.equal(tensor, found[2][name]), name
        torch.testing.assert_close(found[3][name], tensor, rtol=2e-3, atol=1e-5)  # in half precision
    figures = {row["name"] for row in csv.DictReader((run / "decoder" / "log.csv").open())}
    assert "molecule/position" in figures


def test_a_finished_network_is_trained_on_by_the_clock(finished: Path, tmp_path: Path) -> None:
    from adit.data.prepare import load
    from adit.recipes import get_recipe
    from adit.train.stages import _trained_dit, train_dit
    from adit.weights import load_pretrained

    code, _, err = train("export", finished, "--out", tmp_path / "weights")
    assert code == 0, err
    data = load(DATA)
    data.subset(np.arange(0, len(data), 2)).save(tmp_path / "other data")
    common = ("--data", tmp_path / "other data", "--vae", finished, "--start", tmp_path / "weights")
    run = tmp_path / "run"
    code, _, err = train("dit", "--recipe", "joint-test", *common, "--out", run, "--minutes", "0.05")
    assert code == 0, err
    assert losses(run / "dit")[0][1] < losses(finished / "dit")[0][1], "it knew something"
    code, _, err = train("export", run)
    assert code == 2 and "holds no checkpoint of an autoencoder" in err
    code, _, err = train("export", run, "--vae", finished)
    assert code == 0, err
    assert (run / "weights" / "config.json").exists()
    options = ("--vae", finished, "--average-with", tmp_path / "weights", "--out", tmp_path / "mean")
    code, _, err = train("export", run, *options)
    assert code == 0, err
    begin, mean, end = (
        load_pretrained(folder) for folder in (tmp_path / "weights", tmp_path / "mean", run / "weights")
    )
    for name in ("latent_mean", "latent_std"):  # as the network knows them, whatever the data
        assert torch.equal(getattr(end.model, name), getattr(begin.model, name))
    for name, tensor in mean.model.dit.state_dict().items():
        both = (begin.model.dit.state_dict()[name] + end.model.dit.state_dict()[name]) / 2
        torch.testing.assert_close(tensor, both, rtol=2e-3, atol=1e-5)
    assert mean.about["averaged_with"] == {"name": begin.name, "steps": begin.about["steps"]}
    recipe = get_recipe("joint-test")
    recipe = replace(recipe, data=(str(tmp_path / "other data"),), dit=replace(recipe.dit, layers=3))
    deep = train_dit(recipe, tmp_path / "deep", finished, torch.device("cpu"), stop_at=20, start=tmp_path / "weights")
    assert losses(deep)[0][1] == pytest.approx(losses(run / "dit")[0][1], rel=0.3), "it knew as much"
    assert _trained_dit(tmp_path / "deep")[1].config.layers == 3
    code, _, err = train("dit", "--recipe", "joint-gpu", *common, "--out", tmp_path / "other", "--steps", "1")
    assert code == 2 and "does not fit recipe joint-gpu" in err and "Traceback" not in err


def test_speedrun_goes_from_data_to_weights_by_the_clock(tmp_path: Path) -> None:
    from adit.generate import Generator

    run = tmp_path / "run"
    command = ("speedrun", "--recipe", "joint-test", "--data", DATA, "--out", run, "--minutes", "0.1")
    code, out, err = train(*command)
    assert code == 0, err
    assert f"weights in {run / 'weights'}" in out.replace("\n", "")
    assert {path.name for path in run.iterdir()} == {"vae", "decoder", "dit", "weights"}
    first = (run / "weights" / "model.safetensors").read_bytes()
    generator = Generator.from_pretrained(run / "weights", device="cpu")
    assert generator.sample(2) and generator.weights.name == "run", "not the recipe's"
    code, out, err = train(*command)
    assert code == 2 and "--resume" in err, "nothing is overwritten by accident"
    code, out, err = train(*command[:-1], "0.2", "--resume", "--cpu-time")
    assert code == 0, err
    assert (run / "weights" / "model.safetensors").read_bytes() != first, "the second stage went on"


def test_kill_and_resume_is_the_same_run(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "killed"
    process = start("vae", "--recipe", "joint-test", "--data", DATA, "--out", run)
    deadline = time.monotonic() + 200
    while not (run / "vae" / "step-00000020").exists():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    code, _, err = train("vae", "--recipe", "joint-test", "--data", DATA, "--out", run, "--resume")
    assert code == 0, err
    assert losses(run / "vae") == losses(finished / "vae")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["vae", "--recipe", "nope"], "unknown recipe 'nope'; known: joint-tiny"),
        (["vae", "--recipe", "joint-test", "--data", "no-such-data"], "adit-data prepare"),
        (["dit", "--recipe", "joint-test", "--data", str(DATA), "--out", "no-such-run"], "holds no checkpoint"),
        (["export", "no-such-run"], "holds no checkpoint"),
        (["vae", "--recipe", "joint-test", "--data", str(DATA), "--out", str(DATA / "meta.json")], "be written"),
        (["vae", "--recipe", "joint-test", "--steps", "5", "--minutes", "1"], "contradict each other"),
        (["speedrun", "--vae-share", "0.8", "--decoder-share", "0.3"], "leave no time for the Diffusion Transformer"),
        (
            ["export", "no-such-run", "--sampling", "molecule=rk4:100:1"],
            ":50:1:training:1.3:10; got 'molecule=rk4",
        ),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], message: str, tmp_path: Path) -> None:
    code, _, err = train(*arguments)
    assert code == 2
    assert message in err
    assert len(err.strip().splitlines()) == 1


def test_an_earlier_run_is_not_overwritten(finished: Path) -> None:
    code, _, err = train("vae", "--recipe", "joint-test", "--data", DATA, "--out", finished)
    assert code == 2
    assert "--resume" in err


def test_fewer_tokens_make_smaller_groups() -> None:
    from adit.cli.train import _recipe

    small = _recipe("joint-tiny-gpu", None, "dit", None, 4096, None, None, None).dit_train
    assert (small.tokens_per_step, small.tokens_per_group) == (4096, 4096)
    large = _recipe("joint-tiny-gpu", None, "dit", None, 10**6, None, None, None).dit_train
    assert (large.tokens_per_step, large.tokens_per_group) == (10**6, 49_152)


@pytest.mark.parametrize(("name", "index"), [("cuda", 0), ("cuda:1", 1)])
def test_the_gpu_that_is_named_becomes_the_current_one(name: str, index: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from adit.cli.train import _device

    chosen: list[int] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch._C, "_cuda_setDevice", chosen.append, raising=False)
    assert _device(name, None) == torch.device(name) and chosen == [index]
