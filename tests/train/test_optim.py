"""Schedule, optimisers and moving average."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from adit.config import OptimConfig
from adit.errors import InvalidInputError
from adit.models.dit import DiT
from adit.models.vae import VAE
from adit.recipes import get_recipe
from adit.train.optim import EMA, Muon, make_optimizers, schedule

RECIPE = get_recipe("joint-test")


def test_schedule_rises_stays_and_falls() -> None:
    config = OptimConfig(warmup_steps=10, decay_fraction=0.4)
    factors = [schedule(step, 100, config) for step in range(100)]
    assert factors[:3] == pytest.approx([0.1, 0.2, 0.3])
    assert all(factor == 1 for factor in factors[9:61])
    assert factors[80] == pytest.approx(0.5)
    assert factors[-1] == pytest.approx(1 / 40) and min(factors) > 0


@pytest.mark.parametrize(
    "config", [OptimConfig(warmup_steps=0, decay_fraction=0.0), OptimConfig(warmup_steps=50, decay_fraction=1.0)]
)
@pytest.mark.parametrize("steps", [1, 2, 30])
def test_odd_schedules_stay_in_range(config: OptimConfig, steps: int) -> None:
    assert all(0 < schedule(step, steps, config) <= 1 for step in range(steps))


@pytest.mark.parametrize("kind", ["adamw", "muon"])
@pytest.mark.parametrize("model", [VAE(RECIPE.vae), DiT(RECIPE.dit)], ids=["vae", "dit"])
def test_every_parameter_is_in_exactly_one_optimiser(kind: str, model: nn.Module) -> None:
    optimizers = make_optimizers(model, OptimConfig(optimizer=kind))
    owned = [id(p) for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]]
    assert len(owned) == len(set(owned))
    assert set(owned) == {id(p) for p in model.parameters()}
    if kind == "muon":
        muon = {id(p) for group in optimizers[1].param_groups for p in group["params"]}
        names = {name for name, p in model.named_parameters() if id(p) in muon}
        assert names and all(
            "blocks." in name and name.endswith("weight") and "modulation" not in name for name in names
        )
        assert all(p.ndim == 2 for p in model.parameters() if id(p) in muon)
    assert all(group["peak_lr"] == group["lr"] for optimizer in optimizers for group in optimizer.param_groups)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_matrices_of_one_shape_together_are_as_one_by_one(weight_decay: float) -> None:
    """torch's own Muon is the oracle; one matrix without a gradient stays as it is."""
    shapes = [(24, 8), (8, 24), (8, 8)] * 3
    both = []
    for kind in (torch.optim.Muon, Muon):
        torch.manual_seed(0)
        matrices = [nn.Parameter(torch.randn(shape)) for shape in shapes]
        optimizer = kind(matrices, lr=0.02, weight_decay=weight_decay, momentum=0.95)
        for _ in range(5):
            for matrix in matrices[:-1]:
                matrix.grad = torch.randn(matrix.shape)
            optimizer.step()
        both.append((matrices, optimizer.state_dict()["state"]))
    for one, two in zip(both[0][0], both[1][0], strict=True):
        torch.testing.assert_close(one, two, atol=1e-6, rtol=1e-6)
    assert both[0][1].keys() == both[1][1].keys(), "checkpoints of either fit"


def test_frozen_parameters_are_left_out() -> None:
    model = DiT(RECIPE.dit)
    model.label.requires_grad_(False)
    owned = [p for o in make_optimizers(model, OptimConfig()) for group in o.param_groups for p in group["params"]]
    assert all(p is not model.label.weight for p in owned)


def test_unknown_optimiser_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"`optimizer` must be 'adamw' or 'muon'; got 'sgd'"):
        make_optimizers(nn.Linear(1, 1), OptimConfig(optimizer="sgd"))


def test_average_against_the_formula() -> None:
    model = nn.Linear(2, 2)
    model.register_buffer("statistics", torch.zeros(3))
    average = EMA(model, decay=0.9)
    expected = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for step in range(200):
        with torch.no_grad():
            for tensor in model.state_dict().values():
                tensor.add_(torch.randn(tensor.shape))
        average.update(model, step)
        decay = min(0.9, (1 + step) / (10 + step))
        for name, tensor in model.state_dict().items():
            expected[name] = decay * expected[name] + (1 - decay) * tensor
            torch.testing.assert_close(average.shadow[name], expected[name], atol=1e-4, rtol=1e-4)
    assert set(average.shadow) == set(expected)
    average.copy_to(model)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, average.shadow[name])


def test_the_average_is_its_own_copy() -> None:
    model = nn.Linear(2, 2)
    average = EMA(model, 0.5)
    with torch.no_grad():
        model.weight.fill_(7)
    assert not (average.shadow["weight"] == 7).any()
