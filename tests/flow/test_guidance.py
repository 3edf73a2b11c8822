"""Classifier-free guidance and the feedback of predictions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from adit.flow.guidance import guided
from adit.flow.path import to_data
from adit.flow.solver import integrate, time_grid

NULL = 2
LABEL = torch.tensor([0, 1, 0])
X = torch.randn(3, 4, 2, generator=torch.Generator().manual_seed(0))


class Network:
    """Answers with numbers that tell label, time and self-conditioning apart, and keeps what it was asked."""

    def __init__(self) -> None:
        self.calls: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []

    def __call__(self, x: Tensor, t: Tensor, label: Tensor, guess: Tensor) -> Tensor:
        self.calls.append((x, t, label, guess))
        return x + 10.0 * label[:, None, None] + t[:, None, None] + 0.5 * guess


def raw(label: Tensor, time: float, guess: Tensor) -> Tensor:
    return X + 10.0 * label[:, None, None] + time + 0.5 * guess


@pytest.mark.parametrize("scale", [0.0, 1.0, 2.0, 0.5, -1.0])
def test_formula(scale: float) -> None:
    network = Network()
    made = guided(network, LABEL, NULL, scale)(X, 0.3)
    zero = torch.zeros_like(X)
    conditional, unconditional = raw(LABEL, 0.3, zero), raw(torch.full_like(LABEL, NULL), 0.3, zero)
    expected = to_data(unconditional + scale * (conditional - unconditional), X, torch.full((3,), 0.3))
    torch.testing.assert_close(made, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("scale", "label"), [(1.0, LABEL), (0.0, torch.full_like(LABEL, NULL))])
def test_one_pass_is_enough_for_one_side(scale: float, label: Tensor) -> None:
    network = Network()
    guided(network, LABEL, NULL, scale)(X, 0.3)
    ((x, t, asked, guess),) = network.calls
    assert torch.equal(asked, label) and torch.equal(x, X) and not guess.any()
    assert torch.equal(t, torch.full((3,), 0.3))


def test_guidance_asks_with_and_without_the_label() -> None:
    network = Network()
    guided(network, LABEL, NULL, 2.0)(X, 0.3)
    assert [call[2].tolist() for call in network.calls] == [LABEL.tolist(), [NULL] * 3]
    assert all(torch.equal(call[0], X) and torch.equal(call[1], torch.full((3,), 0.3)) for call in network.calls)


def test_one_label_for_all_is_the_same_as_one_for_each() -> None:
    each, shared = (guided(Network(), torch.ones(count, dtype=torch.long), NULL, 2.0) for count in (3, 1))
    assert torch.equal(each(X, 0.3), shared(X, 0.3))


@pytest.mark.parametrize("scale", [0.0, 1.0, 2.0])
def test_the_guided_prediction_is_fed_back(scale: float) -> None:
    network = Network()
    predict = guided(network, LABEL, NULL, scale)
    first = predict(X, 0.1)
    second = predict(X, 0.2)
    passes = 1 if scale in (0.0, 1.0) else 2
    assert all(torch.equal(call[3], first) for call in network.calls[passes:])
    network.calls.clear()
    predict(X, 0.3)
    assert all(torch.equal(call[3], second) for call in network.calls)


def test_a_new_run_starts_without_a_guess() -> None:
    network = Network()
    for _ in range(2):
        guided(network, LABEL, NULL, 1.0)(X, 0.5)
    assert not network.calls[1][3].any()


def test_through_a_solver() -> None:
    """Through `integrate`, time rises from 0 and each call sees the last guess."""
    network = Network()
    made = integrate(guided(network, LABEL, NULL, 1.5), X, time_grid(4), "dpm++")
    assert made.isfinite().all()
    assert [call[1][0].item() for call in network.calls[::2]] == [0, 0.25, 0.5, 0.75]
    assert all(call[3].any() for call in network.calls[2:])
