"""Guidance, without a classifier and by a worse network, and the feedback of predictions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from adit.flow.guidance import guidance_labels, guided
from adit.flow.path import interpolate, to_data
from adit.flow.solver import SOLVERS, Predict, integrate, time_grid

LABEL, NULL = 1, 2
X = torch.randn(3, 4, 2, generator=torch.Generator().manual_seed(0))


class Network:
    """Answers with numbers that tell label, time and self-conditioning apart, and keeps what it was asked."""

    def __init__(self, scale: float) -> None:
        self.labels = guidance_labels(LABEL, NULL, scale)
        self.calls: list[tuple[Tensor, float, Tensor]] = []

    def __call__(self, x: Tensor, time: float, guess: Tensor) -> list[Tensor]:
        self.calls.append((x, time, guess))
        return [raw(label, time, guess) for label in self.labels]


def raw(label: int, time: float, guess: Tensor) -> Tensor:
    return X + 10.0 * label + time + 0.5 * guess


@pytest.mark.parametrize(("scale", "labels"), [(0.0, (NULL,)), (1.0, (LABEL,)), (2.0, (LABEL, NULL))])
def test_one_prediction_is_enough_for_one_side(scale: float, labels: tuple[int, ...]) -> None:
    assert guidance_labels(LABEL, NULL, scale) == labels


@pytest.mark.parametrize("scale", [0.0, 1.0, 2.0, 0.5, -1.0])
def test_formula(scale: float) -> None:
    made = guided(Network(scale), scale)(X, 0.3)
    zero = torch.zeros_like(X)
    conditional, unconditional = raw(LABEL, 0.3, zero), raw(NULL, 0.3, zero)
    expected = to_data(unconditional + scale * (conditional - unconditional), X, torch.full((3,), 0.3))
    torch.testing.assert_close(made, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("scale", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("weak", [1.0, 1.5, 0.0])
def test_away_from_a_worse_network(scale: float, weak: float) -> None:
    """After classifier-free guidance; both networks see the same guess, which is the guided one."""
    guesses: list[Tensor] = []

    def worse(x: Tensor, time: float, guess: Tensor) -> list[Tensor]:
        guesses.append(guess)
        return [x - time + 0.25 * guess]

    network = Network(scale)
    predict, plain, before = guided(network, scale, weak, worse), guided(Network(scale), scale), torch.zeros_like(X)
    for time in (0.3, 0.6):
        made = predict(X, time)
        better = (lambda guess, t=time: raw(NULL, t, guess) + scale * (raw(LABEL, t, guess) - raw(NULL, t, guess)))(
            before
        )
        bad = X - time + 0.25 * before
        expected = to_data(bad + weak * (better - bad), X, torch.full((3,), time))
        torch.testing.assert_close(made, expected, atol=1e-4, rtol=1e-4)
        assert torch.equal(guesses[-1], before) and torch.equal(network.calls[-1][2], before)
        if weak == 1.0:
            torch.testing.assert_close(made, plain(X, time), atol=1e-4, rtol=1e-4)
        before = made


@pytest.mark.parametrize("scale", [0.0, 1.0, 2.0])
def test_the_guided_prediction_is_fed_back(scale: float) -> None:
    network = Network(scale)
    predict = guided(network, scale)
    first, second, _ = (predict(X, time) for time in (0.1, 0.2, 0.3))
    (x, time, guess), *rest = network.calls
    assert torch.equal(x, X) and time == 0.1 and not guess.any()
    assert torch.equal(rest[0][2], first) and torch.equal(rest[1][2], second)


def test_a_new_run_starts_without_a_guess() -> None:
    network = Network(1.0)
    for _ in range(2):
        guided(network, 1.0)(X, 0.5)
    assert not network.calls[1][2].any()


def test_through_a_solver() -> None:
    """Through `integrate`, time rises from 0 and each call sees the last guess."""
    network = Network(1.5)
    made = integrate(guided(network, 1.5), X, time_grid(4), "dpm++")
    assert made.isfinite().all()
    assert [call[1] for call in network.calls] == time_grid(4)[:-1]
    assert all(call[2].any() for call in network.calls[1:])


def _gaussian_posterior(wanted: float, noise: float) -> tuple[Predict, float, float]:
    """Gaussian data of which a noisy measurement is wanted: the gradient of its log-likelihood, and what the data is
    then distributed as (mean and spread)."""

    def toward(x: Tensor, t: float) -> Tensor:
        s = t * t + (1 - t) ** 2
        return (wanted - t / s * x) / ((1 - t) ** 2 / s + noise**2) * t / s

    return toward, wanted / (1 + noise**2), noise / (1 + noise**2) ** 0.5


@pytest.mark.parametrize("time", [0.05, 0.4, 0.9])
def test_toward_what_is_wanted_is_bayes_rule(time: float) -> None:
    toward, *_ = _gaussian_posterior(1.5, 0.5)
    made = guided(lambda x, *_: [torch.zeros_like(x)], 1.0, toward=toward)(X, time)
    s = time**2 + (1 - time) ** 2
    prior, variance = time / s * X, (1 - time) ** 2 / s
    torch.testing.assert_close(made, prior + variance / (variance + 0.25) * (1.5 - prior))


@pytest.mark.parametrize("solver", SOLVERS)
def test_samples_are_those_of_the_posterior(solver: str) -> None:
    """From a time on at which it is asked; ancestral comes to the spread from below (`adit.flow.solver`)."""
    toward, mean, spread = _gaussian_posterior(1.5, 0.5)
    generator = torch.Generator().manual_seed(0)
    noise, data = torch.randn(2, 4000, 1, 1, generator=generator)
    predict, times = (
        guided(lambda x, *_: [torch.zeros_like(x)], 1.0, toward=toward),
        time_grid(4000 if solver == "ancestral" else 400)[1:],
    )
    x = interpolate(noise, mean + spread * data, torch.tensor([times[0]]))
    made = integrate(predict, x, times, solver, lambda x: torch.randn(x.shape, generator=generator))
    assert float(made.mean()) == pytest.approx(mean, abs=0.03)
    assert float(made.std()) == pytest.approx(spread, rel=0.1 if solver == "ancestral" else 0.05)


def test_nothing_is_wanted_of_pure_noise() -> None:
    def toward(x: Tensor, time: float) -> Tensor:
        raise AssertionError("asked at t = 0")

    predict = guided(lambda x, *_: [torch.zeros_like(x)], 1.0, toward=toward)
    torch.testing.assert_close(predict(X, 0.0), torch.zeros_like(X))
