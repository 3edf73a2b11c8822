"""Predictors of properties: trained, resumed, kept, and refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from adit.config import DiTConfig, PredictorRecipe, VAEConfig
from adit.data.packed import PackedDataset
from adit.errors import CheckpointError, InvalidInputError
from adit.models.predictor import PropertyPredictor
from adit.recipes.predictor import predictor
from adit.train import property
from adit.train.latents import PropertyPool
from adit.train.property import PropertyLoss, train_property
from adit.weights.predictors import Predictor, latent_space, load_predictor, save_predictor
from adit.weights.store import GenerationModel, Pretrained, SamplingDefaults, load_pretrained, save_pretrained

RECIPE = replace(
    predictor(),
    network=DiTConfig(width=32, heads=2, layers=1, qk_norm=True, composition=8),
    train=replace(
        predictor().train, steps=60, tokens_per_step=128, tokens_per_group=64, compile=False, bf16=False, log_every=5,
        checkpoint_every=20, validate_every=60,
    ),
)  # fmt: skip


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    vae = VAEConfig(width=32, heads=2, encoder_layers=1, decoder_layers=1)
    model = GenerationModel(vae, DiTConfig(width=32, heads=2, layers=1, composition=8))
    model.latent_std[:] = 1.0
    counts = {"molecule": {5: 1}, "crystal": {5: 1}}
    made = Pretrained(
        name="untrained", model=model, defaults=dict.fromkeys(counts, SamplingDefaults(steps=2)), atom_counts=counts
    )
    folder = tmp_path_factory.mktemp("weights")
    save_pretrained(folder, made)
    return folder


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, data: PackedDataset) -> Path:
    """The fixture's systems, all with a property that follows from the composition, some with another, unknown."""
    carbons = np.array([(system.numbers == 6).sum() for system in data], dtype=np.float64)
    rare = np.where(np.arange(len(data)) % 3 == 0, 100 + len(data) - carbons, np.nan)
    split = np.where(np.arange(len(data)) % 5 == 0, "val", "train")
    columns = {
        "carbons": carbons,
        "rare": rare,
        "same": np.ones(len(data)),
        "offset": carbons - 4e7,
        "split": split,
        "text": split,
    }
    folder = tmp_path_factory.mktemp("data") / "made"
    replace(data, properties=columns).save(folder)
    return folder


def _train(
    recipe: PredictorRecipe, folder: Path, weights: Path, data: Path, *names: str, resume: bool = False
) -> Predictor:
    return train_property(recipe, folder, weights, data, names, torch.device("cpu"), resume)


def test_it_learns_what_there_is_to_learn(
    tmp_path: Path, weights: Path, prepared: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = _train(RECIPE, tmp_path, weights, prepared, "carbons", "rare")
    held = PackedDataset.load(prepared).split("val").properties["carbons"]
    guessing = float(np.abs(held - PackedDataset.load(prepared).split("train").properties["carbons"].mean()).mean())
    assert made.about["errors"]["carbons@0.95"] < 0.5 * guessing
    assert np.isfinite(list(made.about["errors"].values())).all()
    assert "have a known carbons or rare: expect little" in caplog.text  # the fixture is small
    assert set(made.systems) == {"molecule", "crystal"}
    assert made.latents == latent_space(load_pretrained(weights).model)
    train = PackedDataset.load(prepared).split("train").properties["rare"]
    np.testing.assert_allclose(made.network.low[1], np.nanmin(train))
    np.testing.assert_allclose(made.network.std[1], np.nanstd(train), rtol=1e-6)


def test_a_tenth_is_held_out_where_nothing_is(
    tmp_path: Path, weights: Path, prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = PackedDataset.load(prepared)
    columns = {"number": np.arange(len(data), dtype=np.float64)}
    replace(data, properties=columns).save(tmp_path / "data")
    seen: list[np.ndarray] = []
    pool = property.PropertyPool

    def spied(vae: object, part: PackedDataset, *rest: object) -> PropertyPool:
        seen.append(np.asarray(part.properties["number"]))
        return pool(vae, part, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(property, "PropertyPool", spied)
    made = _train(RECIPE, tmp_path / "run", weights, tmp_path / "data", "number")
    held, train = sorted(seen, key=len)
    assert len(held) == len(data) // 10
    assert sorted([*held, *train]) == list(range(len(data)))
    assert set(made.about["errors"]) == {"number@0.0", "number@0.5", "number@0.95"}


def test_a_resumed_run_is_the_same_run(tmp_path: Path, weights: Path, prepared: Path) -> None:
    whole = _train(RECIPE, tmp_path / "whole", weights, prepared, "carbons")
    halved = replace(RECIPE, train=replace(RECIPE.train, validate_every=1000))
    _train(halved, tmp_path / "parts", weights, prepared, "carbons")
    for step in ("step-00000060",):  # as if it had been cut off
        for file in (tmp_path / "parts" / "property" / step).iterdir():
            file.unlink()
        (tmp_path / "parts" / "property" / step).rmdir()
    parts = _train(halved, tmp_path / "parts", weights, prepared, "carbons", resume=True)
    for name, tensor in whole.network.state_dict().items():
        torch.testing.assert_close(parts.network.state_dict()[name], tensor, rtol=0, atol=0)
    with pytest.raises(InvalidInputError, match=r"names of this run is \['carbons'\], not \['rare'\]"):
        _train(halved, tmp_path / "parts", weights, prepared, "rare", resume=True)
    with pytest.raises(InvalidInputError, match="already holds checkpoints"):
        _train(RECIPE, tmp_path / "whole", weights, prepared, "carbons")


def test_unknown_values_give_no_gradient(weights: Path, data: PackedDataset) -> None:
    sizes = np.asarray(data.sizes)
    size = int(np.bincount(sizes).argmax())
    members = np.flatnonzero(sizes == size)
    column = np.where(np.arange(len(data)) % 2 == 0, 1.5, np.nan)
    known = replace(data, properties={"a": column, "b": np.full(len(data), np.nan)})
    pool = PropertyPool(load_pretrained(weights).model, known, ["a", "b"], 2, 0)
    network = PropertyPredictor(RECIPE.network, ["a", "b"])
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    batch = pool.batch(members, torch.Generator().manual_seed(0))
    loss, _ = PropertyLoss(network, 0.9)(batch, torch.Generator().manual_seed(0))
    assert (loss[batch.targets[:, 0].isnan()] == 0).all()
    assert (loss[~batch.targets[:, 0].isnan()] != 0).all()
    loss.sum().backward()
    gradient = network.final.linear.weight.grad
    assert gradient is not None
    assert gradient.isfinite().all()
    assert (gradient[[1, 3]] == 0).all()  # of "b"
    assert (gradient[[0, 2]] != 0).any()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["nothing"], "no column of numbers 'nothing'; it has carbons, offset, rare, same"),
        (["text"], "no column of numbers 'text'"),
        ([], "no column of numbers"),
        (["carbons", "carbons"], "a column is named twice"),
        (["offset"], "the column offset .* single precision cannot resolve"),
        (["same"], "the column same .* must hold finite numbers that differ"),
    ],
)
def test_columns_that_cannot_be_learnt(
    tmp_path: Path, weights: Path, prepared: Path, names: list[str], message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        _train(RECIPE, tmp_path, weights, prepared, *names)
    assert not list(tmp_path.iterdir())


def _kept(folder: Path) -> Predictor:
    torch.manual_seed(0)
    network = PropertyPredictor(RECIPE.network, ["a", "b"])
    network.mean[:] = torch.tensor([1e-9, 1e9])  # not for half precision
    network.std[:] = torch.tensor([1e-9, 1e9])
    made = Predictor(network=network, systems=("crystal",), latents="x", about={"data": "mine"})
    save_predictor(folder, made)
    return made


def test_kept_in_half_precision_but_for_its_units(tmp_path: Path) -> None:
    made, again = _kept(tmp_path), load_predictor(tmp_path)
    assert (again.systems, again.latents, again.about) == (made.systems, made.latents, made.about)
    assert again.network.names == ("a", "b")
    for name, tensor in made.network.state_dict().items():
        expected = tensor if name in ("mean", "std", "low", "high") else tensor.half().float()
        torch.testing.assert_close(again.network.state_dict()[name], expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda config: config | {"sha256": "0"}, "is damaged: its sha256"),
        (lambda config: config | {"version": 99}, "version 99; this adit reads 1"),
        (lambda config: config | {"format": "x"}, "describes no predictor"),
        (lambda config: config | {"properties": ["a"]}, "do not fit together"),
        (lambda config: {k: v for k, v in config.items() if k != "latents"}, "lacks latents"),
        (lambda config: [config], "describes no predictor"),
    ],
)
def test_damaged_ones_are_refused(tmp_path: Path, change: object, message: str) -> None:
    _kept(tmp_path)
    path = tmp_path / "predictor.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))  # type: ignore[operator]
    with pytest.raises(CheckpointError, match=message):
        load_predictor(tmp_path)


def test_none_there_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="adit-train property"):
        load_predictor(tmp_path / "nothing")


def test_weights_bring_theirs(tmp_path: Path, weights: Path) -> None:
    import shutil

    shutil.copytree(weights, tmp_path / "weights")
    _kept(tmp_path / "weights" / "more")
    (found,) = load_pretrained(tmp_path / "weights").predictors
    assert found.network.names == ("a", "b")


def test_latent_spaces_are_told_apart(weights: Path) -> None:
    model = load_pretrained(weights).model
    before = latent_space(model)
    model.dit.latent.weight.data += 1.0
    model.decoder.load_state_dict({k: v + 1.0 for k, v in model.decoder.state_dict().items()})
    assert latent_space(model) == before  # trained on in the same latents
    model.latent_mean += 1.0
    assert latent_space(model) != before
