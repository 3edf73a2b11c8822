"""The training loop: it learns, it stops where it must, and a resumed run is the same run."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from adit.data.packed import PackedDataset
from adit.errors import CheckpointError, InvalidInputError, TrainingDivergedError
from adit.train.checkpoint import list_checkpoints, read_state
from adit.train.loop import Trainer
from adit.train.meter import NO_END, Budget


def rows(folder: Path) -> dict[tuple[int, str, str], str]:
    """The log, but for speed."""
    with (folder / "log.csv").open(newline="") as handle:
        return {
            (int(row["step"]), row["kind"], row["name"]): row["value"]
            for row in csv.DictReader(handle)
            if row["name"] != "atoms_per_second"
        }


def weights(trainer: Trainer) -> list[torch.Tensor]:
    return [tensor.clone() for tensor in trainer.model.state_dict().values()]


@pytest.fixture(scope="module", params=["vae", "dit"])
def whole(request: pytest.FixtureRequest, make_trainer, tmp_path_factory) -> tuple[str, Trainer]:  # type: ignore[no-untyped-def]
    """An uninterrupted run of 30 steps."""
    trainer = make_trainer(request.param, tmp_path_factory.mktemp("whole"), checkpoint_every=15)
    assert trainer.run() == 30
    return request.param, trainer


def test_the_loss_falls_and_the_log_tells_it(whole: tuple[str, Trainer]) -> None:
    stage, trainer = whole
    log = rows(trainer.folder)
    losses = [float(log[step, "train", "loss"]) for step in (10, 20, 30)]
    assert losses[2] < 0.9 * losses[0]
    assert {step for step, _, _ in log} == {10, 20, 30}
    names = {name for _, _, name in log}
    assert {"loss", "gradient", "lr"} <= names
    assert (
        {"molecule/rmsd", "crystal/rmsd", "crystal/length", "molecule/kl"}
        if stage == "vae"
        else {"molecule/error", "crystal/error"}
    ) <= names
    assert [path.name for path in list_checkpoints(trainer.folder)] == ["step-00000015", "step-00000030"]


@pytest.mark.parametrize("stop", [15, 7])
def test_a_resumed_run_is_the_same_run(whole: tuple[str, Trainer], make_trainer, tmp_path: Path, stop: int) -> None:  # type: ignore[no-untyped-def]
    """Same log to the last digit, same weights to the last bit; also when stopped within a log interval."""
    stage, uninterrupted = whole
    changes = {"checkpoint_every": 15}
    assert make_trainer(stage, tmp_path, **changes).run(stop_at=stop) == stop
    second = make_trainer(stage, tmp_path, **changes)
    assert second.run(resume=True) == 30
    assert rows(tmp_path) == rows(uninterrupted.folder)
    for a, b in zip(weights(second), weights(uninterrupted), strict=True):
        assert torch.equal(a, b)
    for name in ("model", "ema", "optimizer"):
        one, two = (t.folder / "step-00000030" / f"{name}.safetensors" for t in (second, uninterrupted))
        assert one.read_bytes() == two.read_bytes()


def test_a_killed_run_repeats_what_came_after_its_checkpoint(make_trainer, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """The log may be ahead of the checkpoint and end in half a line; a resumed run writes those rows again."""
    make_trainer("dit", tmp_path, checkpoint_every=10, log_every=5).run(stop_at=10)
    before = rows(tmp_path)
    with (tmp_path / "log.csv").open("a") as handle:
        handle.write("15,train,loss,123\n20,train,lo")
    trainer = make_trainer("dit", tmp_path, checkpoint_every=10, log_every=5)
    trainer.run(resume=True, stop_at=15)
    after = rows(tmp_path)
    assert {key: after[key] for key in before} == before
    assert after[15, "train", "loss"] != "123" and 20 not in {step for step, _, _ in after}


@pytest.mark.parametrize("content", ["", "st", "step,kind,name,value\n"])
def test_a_torn_log_is_no_obstacle(make_trainer, tmp_path: Path, content: str) -> None:  # type: ignore[no-untyped-def]
    make_trainer("dit", tmp_path).run(stop_at=2)
    (tmp_path / "log.csv").write_text(content)
    make_trainer("dit", tmp_path, steps=3).run(resume=True)
    assert (3, "train", "loss") in rows(tmp_path)


def test_resume_without_a_checkpoint_starts_and_a_finished_run_stays(make_trainer, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    assert make_trainer("dit", tmp_path, steps=3).run(resume=True) == 3
    before = rows(tmp_path)
    trainer = make_trainer("dit", tmp_path, steps=3)
    assert trainer.run(resume=True) == 3
    assert trainer.run(resume=True, stop_at=2) == 3, "the step reached"
    assert rows(tmp_path) == before


def test_resume_refuses_a_damaged_checkpoint(make_trainer, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    make_trainer("dit", tmp_path).run(stop_at=2)
    (tmp_path / "step-00000002" / "model.safetensors").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="step-00000002"):
        make_trainer("dit", tmp_path).run(resume=True)


@pytest.mark.parametrize("stage", ["vae", "dit"])
@pytest.mark.parametrize("kind", [False, True], ids=["molecule", "crystal"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_bad_coordinate_is_named_with_its_step(  # type: ignore[no-untyped-def]
    make_trainer, data: PackedDataset, tmp_path: Path, stage: str, kind: bool, value: float
) -> None:
    part = data.subset(np.flatnonzero(data.periodic == kind)[:12])
    positions = np.array(part.positions)
    positions[part.offsets[7]] = value
    broken = replace(part, positions=positions)
    trainer = make_trainer(stage, tmp_path, broken, tokens_per_step=400)
    with pytest.raises(TrainingDivergedError) as caught:
        trainer.run()
    message = str(caught.value)
    first = next(k for k, groups in enumerate(trainer.sampler()) if 7 in np.concatenate(groups))
    assert f"the loss of step {first} is not finite" in message
    named = message.split("atoms: ")[1].split(". Lower")[0].split(", ")
    assert named == [str(part.properties["id"][7])], "the culprit alone, once"
    assert list_checkpoints(tmp_path) == []


def test_an_infinite_gradient_stops_before_it_does_harm(make_trainer, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """Finite losses may have gradients that are not."""
    trainer = make_trainer("dit", tmp_path)
    inner = trainer.loss

    def steep(batch, generator):  # type: ignore[no-untyped-def]
        loss, terms = inner(batch, generator)
        zero = 0.0 * sum(p.sum() for p in trainer.model.parameters())
        return loss + torch.sqrt(zero), terms

    trainer.loss = steep
    before = weights(trainer)
    with pytest.raises(TrainingDivergedError, match=r"gradient of step 0 is not finite.*Lower the learning rate"):
        trainer.run()
    assert all(torch.equal(a, b) for a, b in zip(before, weights(trainer), strict=True))


def test_groups_weigh_by_their_atoms(make_trainer, data: PackedDataset, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """The gradient of a step in many groups is the one of the mean over atoms."""
    trainer = make_trainer("vae", tmp_path)

    def size(batch, generator):  # type: ignore[no-untyped-def]
        return trainer.model.encoder.out.bias[0] * batch.n_atoms * torch.ones(batch.n_systems), {}

    trainer.loss = size
    chosen = np.array([0, 5, 100, 101])
    groups = [chosen[k : k + 1] for k in range(4)]
    sizes = data.sizes[chosen]
    bias = trainer.model.encoder.out.bias
    grads = []
    optimizer = torch.optim.SGD([bias], lr=0.0)
    optimizer.param_groups[0]["peak_lr"] = 0.0
    optimizer.step = lambda closure=None: grads.append(bias.grad[0].item())  # type: ignore[assignment,method-assign]
    clip = replace(trainer.config, optim=replace(trainer.config.optim, gradient_clip=1e9))
    trainer.config = clip
    trainer._step(0, groups, [optimizer], torch.Generator())
    assert grads[0] == pytest.approx((sizes * sizes).sum() / sizes.sum(), rel=1e-5)
    assert trainer.meter.read()["atoms"] == sizes.sum()


class Clock:
    """Shows what it is set to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_run_by_the_clock_ends_in_time(make_trainer, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """As many steps as fit; the learning rate ends with them."""
    clock = Clock()
    trainer = make_trainer("dit", tmp_path, steps=10**9, log_every=1)
    trainer.budget = Budget(40.0, clock)
    step = trainer._step

    def timed(*arguments) -> None:  # type: ignore[no-untyped-def]
        clock.now += 1.0
        step(*arguments)

    trainer._step = timed
    assert trainer.run() == 40
    rates = {done: float(rows(tmp_path)[done, "train", "lr"]) for done in (20, 27, 34, 40)}
    assert rates == pytest.approx({20: 1.0, 27: 1.0, 34: 7 / 12, 40: 1 / 12}, rel=0.02)
    assert read_state(list_checkpoints(tmp_path)[-1])["step"] == 40


def test_a_run_whose_time_ends_while_it_validates_leaves_its_last_step(make_trainer, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    clock = Clock()
    trainer = make_trainer("dit", tmp_path, steps=10**9, log_every=1, validate_every=3, checkpoint_every=1000)
    trainer.budget = Budget(10.0, clock)
    step = trainer._step

    def timed(*arguments) -> None:  # type: ignore[no-untyped-def]
        clock.now += 1.0
        step(*arguments)

    def validate(_: torch.nn.Module) -> dict[str, float]:
        clock.now += 100.0
        return {"figure": 1.0}

    trainer._step, trainer.validate = timed, validate
    assert trainer.run() == 4, "one more, that the schedule ends with"
    state = read_state(list_checkpoints(tmp_path)[-1])
    assert (state["step"], state["steps"]) == (4, 4)


def test_a_budget_foretells_the_steps_and_ends_with_the_time() -> None:
    clock = Clock()
    budget = Budget(100.0, clock)
    assert budget.steps(0) == NO_END
    clock.now = 25.0
    assert budget.steps(10) == 40
    with budget.paused():
        clock.now += 1000.0
    assert budget.spent() == 25.0
    clock.now += 75.0
    assert budget.steps(30) == 30, "over: what is done is all"
    assert Budget(-1.0, clock).steps(0) == NO_END, "one step at least"
    assert Budget(-1.0, clock).steps(1) == 1, "an earlier stage left no time"


def test_a_budget_tells_each_mark_once_and_not_again_after_a_resume() -> None:
    clock = Clock()
    budget = Budget(100.0, clock, (0.25, 0.5, 1.0))
    told = []
    for second in range(0, 101, 5):
        clock.now = float(second)
        told.append(budget.mark())
    assert [second for second, mark in zip(range(0, 101, 5), told, strict=True) if mark] == [25, 50, 100]
    resumed = Budget(100.0, Clock(), (0.25, 0.5, 1.0))
    resumed.resume(60.0)
    assert resumed.spent() == 60.0 and not resumed.mark()


def test_a_resumed_run_by_the_clock_spends_what_was_left(make_trainer, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """And validates at the marks, in no time."""
    clock = Clock()
    spent: list[float] = []

    def trainer_with(seconds: float) -> Trainer:
        trainer = make_trainer("dit", tmp_path, log_every=2, checkpoint_every=5)
        trainer.budget = Budget(seconds, clock, (0.5, 1.0))
        step, figures = trainer._step, {"figure": 1.0}

        def timed(*arguments) -> None:  # type: ignore[no-untyped-def]
            clock.now += 1.0
            step(*arguments)

        def validate(_: torch.nn.Module) -> dict[str, float]:
            spent.append(trainer.budget.spent())
            clock.now += 100.0
            return figures

        trainer._step, trainer.validate = timed, validate
        return trainer

    assert trainer_with(20.0).run(stop_at=12) == 12
    assert read_state(list_checkpoints(tmp_path)[-1])["seconds"] == 12.0
    clock.now = 0.0
    assert trainer_with(20.0).run(resume=True) == 20
    assert spent == [10.0, 20.0]
    log = rows(tmp_path)
    assert float(log[20, "train", "seconds"]) == 20.0 and float(log[10, "validation", "seconds"]) == 10.0
    assert trainer_with(20.0).run(resume=True) == 20, "nothing is left"


def test_validation_sees_the_average_and_leaves_the_model_alone(make_trainer, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    seen: list[bool] = []
    trainer = make_trainer("vae", tmp_path / "with", steps=4, validate_every=2)

    def validate(model: torch.nn.Module) -> dict[str, float]:
        seen.append(model.training)
        return {"norm": float(sum(p.norm() for p in model.parameters()))}

    trainer.validate = validate
    trainer.run()
    plain = make_trainer("vae", tmp_path / "without", steps=4)
    plain.run()
    assert all(torch.equal(a, b) for a, b in zip(weights(trainer), weights(plain), strict=True))
    assert seen == [False, False] and trainer.model.training
    log = rows(tmp_path / "with")
    from safetensors.torch import load_file

    average = load_file(tmp_path / "with" / "step-00000004" / "ema.safetensors")
    names = {name for name, _ in trainer.model.named_parameters()}
    norm = sum(float(tensor.norm()) for name, tensor in average.items() if name in names)
    assert float(log[4, "validation", "norm"]) == pytest.approx(norm, rel=1e-5)


def test_bfloat16_trains(make_trainer, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """The weights and the loss stay in float32; the loss stays close to that of float32."""
    losses = []
    for bf16 in (False, True):
        trainer = make_trainer("vae", tmp_path / str(bf16), steps=4, log_every=1, bf16=bf16)
        trainer.run()
        assert all(p.dtype == torch.float32 for p in trainer.model.parameters())
        losses.append([float(rows(trainer.folder)[step, "train", "loss"]) for step in range(1, 5)])
    assert losses[0] == pytest.approx(losses[1], rel=0.02)


def test_an_empty_data_set_is_refused(make_trainer, data: PackedDataset, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InvalidInputError, match="the training set is empty"):
        make_trainer("vae", tmp_path, data.subset(np.zeros(0, dtype=np.int64))).run()


def test_the_header_is_kept_in_each_checkpoint(make_trainer, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    trainer = make_trainer("dit", tmp_path)
    trainer.header = {"stage": "dit", "recipe": {"name": "mine"}}
    trainer.run(stop_at=1)
    state = read_state(list_checkpoints(tmp_path)[-1])
    assert state["stage"] == "dit" and state["recipe"] == {"name": "mine"} and state["step"] == 1
