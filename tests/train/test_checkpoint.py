"""Checkpoints: whole or not at all, and refused by name when damaged."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import pytest
import torch
from torch import nn

from adit.config import OptimConfig
from adit.errors import CheckpointError
from adit.train.checkpoint import Saver, list_checkpoints, load_checkpoint, read_state, save_checkpoint
from adit.train.optim import EMA, make_optimizers
from adit.train.reconstruct import recipe_of


class Net(nn.Module):
    """A matrix inside a block for Muon, others for AdamW, and a buffer."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.Linear(width, width)])
        self.out = nn.Linear(width, 1)
        self.register_buffer("mean", torch.randn(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(torch.tanh(self.blocks[0](x))) + self.mean.sum()


State = tuple[Net, EMA, list[torch.optim.Optimizer]]


def state(width: int = 4, kind: str = "muon") -> State:
    net = Net(width)
    return net, EMA(net, 0.9), make_optimizers(net, OptimConfig(optimizer=kind))


def train(run: State, seeds: range) -> None:
    net, average, optimizers = run
    for seed in seeds:
        x = torch.randn(8, net.out.in_features, generator=torch.Generator().manual_seed(seed))
        net(x).square().mean().backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        average.update(net, seed)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    run = state()
    train(run, range(3))
    return save_checkpoint(tmp_path / "run", 3, *run, {"recipe": {"name": "x"}})


@pytest.mark.parametrize("kind", ["muon", "adamw"])
def test_round_trip_goes_on_as_if_nothing_had_happened(tmp_path: Path, kind: str) -> None:
    first = state(kind=kind)
    train(first, range(3))
    path = save_checkpoint(tmp_path, 3, *first, {"note": "hello"})
    second = state(kind=kind)
    assert load_checkpoint(path, *second) == 3
    for run in (first, second):
        train(run, range(3, 8))
    for a, b in zip(first[0].state_dict().values(), second[0].state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert all(torch.equal(first[1].shadow[name], second[1].shadow[name]) for name in first[1].shadow)
    assert read_state(path)["note"] == "hello"


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    run = state()
    for step in (10, 20, 100_000_000 - 1, 30):
        save_checkpoint(tmp_path, step, *run, {})
    names = [path.name for path in list_checkpoints(tmp_path)]
    assert "step-00000030" in names, "what was just written is never what is thrown away"
    assert names == ["step-00000020", "step-00000030", "step-99999999"]
    for step in (40, 50):
        save_checkpoint(tmp_path, step, *run, {}, keep=1)
    assert "step-00000040" not in [path.name for path in list_checkpoints(tmp_path)]


def test_writing_the_same_step_again_replaces_it(tmp_path: Path) -> None:
    run = state()
    save_checkpoint(tmp_path, 5, *run, {"try": 1})
    path = save_checkpoint(tmp_path, 5, *run, {"try": 2})
    assert read_state(path)["try"] == 2 and len(list_checkpoints(tmp_path)) == 1


def test_what_a_kill_leaves_is_no_checkpoint_and_goes_away(tmp_path: Path) -> None:
    torn = tmp_path / ".partial-12345"
    torn.mkdir()
    (torn / "model.safetensors").write_bytes(b"half")
    (tmp_path / "step-00000009").mkdir()  # torn, too: no state.json
    assert list_checkpoints(tmp_path) == []
    save_checkpoint(tmp_path, 10, *state(), {})
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-00000010"]
    assert not torn.exists()


FILES = ("model.safetensors", "ema.safetensors", "optimizer.safetensors", "state.json")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["missing", "empty", "half", "garbage"])
def test_damage_is_refused_by_name(saved: Path, name: str, damage: str) -> None:
    path = saved / name
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes({"empty": b"", "half": content[: len(content) // 2], "garbage": b"\xff\xfe\x93" * 99}[damage])
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(saved, *state())
    assert str(saved) in str(caught.value)


def test_another_version_is_refused(saved: Path) -> None:
    content = json.loads((saved / "state.json").read_text())
    for change, words in (({"version": 99}, "version 99"), ({"format": "other"}, "'other'")):
        (saved / "state.json").write_text(json.dumps({**content, **change}))
        with pytest.raises(CheckpointError, match=f"{words}.*reads 'adit-checkpoint' version 1"):
            load_checkpoint(saved, *state())


@pytest.mark.parametrize("content", ["[]", "1", "null", "{}"])
def test_another_json_is_refused(saved: Path, content: str) -> None:
    (saved / "state.json").write_text(content)
    with pytest.raises(CheckpointError):
        load_checkpoint(saved, *state())


@pytest.mark.parametrize("name", ["step", "optimizers"])
def test_a_state_that_lacks_something_names_it(saved: Path, name: str) -> None:
    content = json.loads((saved / "state.json").read_text())
    del content[name]
    (saved / "state.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=f"lacks {name}"):
        load_checkpoint(saved, *state())


def test_a_checkpoint_of_another_model_is_refused(saved: Path) -> None:
    with pytest.raises(CheckpointError, match="does not fit the model"):
        load_checkpoint(saved, *state(width=6))


def test_a_checkpoint_of_another_optimiser_is_refused(saved: Path) -> None:
    with pytest.raises(CheckpointError, match="another optimiser"):
        load_checkpoint(saved, *state(kind="adamw"))


def test_an_average_of_another_model_is_refused(saved: Path, tmp_path: Path) -> None:
    other = save_checkpoint(tmp_path / "other", 1, *state(width=6), {})
    shutil.copy(other / "ema.safetensors", saved)
    with pytest.raises(CheckpointError, match="average of another model"):
        load_checkpoint(saved, *state())


def test_shared_and_transposed_tensors_can_be_saved(tmp_path: Path) -> None:
    net, _, _ = run = state()
    with torch.no_grad():
        net.out.weight.set_(torch.randn(1, 8)[:, ::2])
    path = save_checkpoint(tmp_path, 1, *run, {})
    fresh = state()
    load_checkpoint(path, *fresh)
    assert torch.equal(fresh[0].out.weight, net.out.weight)


def test_a_checkpoint_written_in_the_background_is_of_the_moment_it_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import adit.train.checkpoint as module

    run, go_on = state(), threading.Event()
    train(run, range(3))
    save_checkpoint(tmp_path / "truth", 3, *run, {"note": 1})
    inner = module._write
    monkeypatch.setattr(module, "_write", lambda *arguments: go_on.wait(10) and inner(*arguments))
    header = {"note": 1}
    with Saver() as saver:
        saver.save(tmp_path / "run", 3, *run, header)
        train(run, range(3, 6))
        header["note"] = 2
        assert not list_checkpoints(tmp_path / "run")
        go_on.set()
    for name in ("model.safetensors", "ema.safetensors", "optimizer.safetensors", "state.json"):
        one, two = (tmp_path / where / "step-00000003" / name for where in ("truth", "run"))
        assert one.read_bytes() == two.read_bytes()


def test_a_checkpoint_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file where the folder should be")
    with pytest.raises(OSError), Saver() as saver:
        saver.save(tmp_path / "run", 3, *state(), {})


def test_a_checkpoint_without_a_recipe_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"step-1 names no recipe"):
        recipe_of({"stage": "vae"}, tmp_path / "step-1")
