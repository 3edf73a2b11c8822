"""Weights for generation: one folder, checked before use."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from adit.config import DiTConfig, VAEConfig
from adit.errors import CheckpointError
from adit.models.dit import DiT
from adit.weights import Pretrained, SamplingDefaults, load_pretrained, save_pretrained
from adit.weights.files import Undrawn
from adit.weights.store import BUILT_IN, GenerationModel, built_in_names

VAE = VAEConfig(width=16, heads=2, encoder_layers=1, decoder_layers=1, latent_dim=3)
DIT = DiTConfig(width=16, heads=2, layers=1, latent_dim=3)


def pretrained() -> Pretrained:
    torch.manual_seed(0)
    model = GenerationModel(VAE, DIT)
    model.latent_mean.copy_(torch.tensor([0.5, -1.0, 2.0]))
    return Pretrained(
        name="little",
        model=model,
        defaults={"molecule": SamplingDefaults(steps=7, solver="heun", cfg=1.5), "crystal": SamplingDefaults(steps=9)},
        atom_counts={"molecule": {9: 4, 18: 1}, "crystal": {2: 1}},
        formulas={"molecule": {"C2H6O": 4, "C6H12": 1}},
        about={"recipe": {"name": "joint-test"}, "steps": 40},
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_pretrained(tmp_path / "little", pretrained())
    return tmp_path / "little"


def test_round_trip(folder: Path) -> None:
    before, after = pretrained(), load_pretrained(folder)
    for name in ("name", "defaults", "atom_counts", "formulas", "about"):
        assert getattr(after, name) == getattr(before, name)
    assert not after.model.training
    for (name, a), b in zip(before.model.state_dict().items(), after.model.state_dict().values(), strict=True):
        assert b.dtype == torch.float32
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-3, msg=name)  # half precision on disk
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]


def test_loading_draws_no_weights(folder: Path) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    load_pretrained(folder)
    assert torch.equal(torch.get_rng_state(), before)
    with Undrawn():
        embedding, linear = torch.nn.Embedding(3, 4), torch.nn.Linear(3, 4)
    assert torch.equal(torch.get_rng_state(), before) and embedding.weight.shape == linear.weight.T.shape
    assert torch.nn.Linear(3, 4).weight.abs().max() <= 3**-0.5
    assert not torch.equal(torch.get_rng_state(), before), "and beyond the context they are drawn"


def test_a_guide_comes_along(tmp_path: Path) -> None:
    before = pretrained()
    before.model.guide = DiT(DiTConfig(width=8, heads=1, layers=2, latent_dim=3))
    before = replace(before, defaults={**before.defaults, "crystal": SamplingDefaults(guide=1.25)})
    save_pretrained(tmp_path, before)
    after = load_pretrained(tmp_path)
    assert after.defaults["crystal"].guide == 1.25 and after.defaults["molecule"].guide == 1
    assert after.model.guide is not None and after.model.guide.config == before.model.guide.config
    for name, tensor in before.model.guide.state_dict().items():
        torch.testing.assert_close(after.model.guide.state_dict()[name], tensor, atol=1e-4, rtol=1e-3)


def test_saving_what_was_loaded_changes_nothing(folder: Path, tmp_path: Path) -> None:
    save_pretrained(tmp_path / "again", load_pretrained(str(folder)))
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


def test_size_on_disk_is_half_precision(folder: Path) -> None:
    numbers = sum(tensor.numel() for tensor in pretrained().model.state_dict().values())
    assert (folder / "model.safetensors").stat().st_size < 2 * numbers + 20_000


@pytest.mark.parametrize("weights", ["no-such", "no/such/folder"])
def test_unknown_weights_are_refused_with_the_known_ones(weights: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        load_pretrained(weights)
    known = ", ".join(built_in_names()) or "none"
    assert repr(weights) in str(caught.value) and f"known: {known}" in str(caught.value)


@pytest.mark.parametrize("byte", [-1, -1000, 12, 300])
def test_one_wrong_bit_is_noticed(folder: Path, byte: int) -> None:
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[byte] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        load_pretrained(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("damage", ["missing", "empty", "half", "garbage"])
def test_damage_is_refused_by_name(folder: Path, name: str, damage: str) -> None:
    path = folder / name
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes({"empty": b"", "half": content[: len(content) // 2], "garbage": b"\xff\xfe\x93" * 99}[damage])
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        load_pretrained(folder)


def change(folder: Path, **entries: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **entries}))


@pytest.mark.parametrize("version", [4, 99])
def test_another_version_is_refused(folder: Path, version: int) -> None:
    change(folder, version=version)
    with pytest.raises(CheckpointError, match=rf"version {version}; this adit reads 'adit-weights' version 5"):
        load_pretrained(folder)


@pytest.mark.parametrize(
    "entries",
    [
        {"dit": {"width": 32}},
        {"dit": {"depth": 3}},
        {"vae": {"latent_dim": 4}},
        {"vae": 3},
        {"sampling": {"molecule": {"speed": 3}, "crystal": {}}},
        {"sampling": {"molecule": {}}},
        {"atom_counts": {"molecule": {"many": 3}}},
        {"atom_counts": 3},
        {"sha256": "0" * 64},
    ],
)
def test_a_config_that_does_not_fit_is_refused(folder: Path, entries: dict[str, object]) -> None:
    change(folder, **entries)
    with pytest.raises(CheckpointError, match="little"):
        load_pretrained(folder)


@pytest.mark.parametrize(
    "name", ["name", "sha256", "vae", "dit", "guide", "sampling", "atom_counts", "formulas", "about"]
)
def test_a_config_that_lacks_something_names_it(folder: Path, name: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    del config[name]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=f"lacks {name}"):
        load_pretrained(folder)


@pytest.mark.parametrize("value", [1e9, float("nan")])
def test_what_half_precision_cannot_hold_is_not_written(tmp_path: Path, value: float) -> None:
    weights = pretrained()
    with torch.no_grad():
        weights.model.dit.latent.weight[0, 0] = value
    with pytest.raises(CheckpointError, match=r"half precision: dit\.latent\.weight"):
        save_pretrained(tmp_path / "bad", weights)
    assert not (tmp_path / "bad" / "model.safetensors").exists()


@pytest.mark.parametrize("name", built_in_names())
def test_the_weights_in_the_package_load(name: str) -> None:
    weights = load_pretrained(name)
    assert weights.name == name and set(weights.atom_counts) == {"molecule", "crystal"}
    assert sum(path.stat().st_size for path in (BUILT_IN / name).iterdir()) < 60 * 2**20
    assert set(weights.defaults) == {"molecule", "crystal"}
