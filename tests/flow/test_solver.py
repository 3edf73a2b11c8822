"""Solvers on flows that can be solved by hand.

For data N(m, s^2) the best prediction on the path is linear, E[x_1 | x_t] = m + t s^2 / v (x_t - t m) with
v = (1 - t)^2 + t^2 s^2, and the flow keeps (x_t - t m) / sqrt(v): it maps noise x_0 to m + s x_0.
"""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from scipy.integrate import quad

from adit.errors import InvalidInputError
from adit.flow.solver import SOLVERS, STOCHASTIC, integrate, time_grid

M, S = 1.5, 0.4


def best(x: torch.Tensor, t: float) -> torch.Tensor:
    return M + t * S * S / ((1 - t) ** 2 + (t * S) ** 2) * (x - t * M)


def exact(x_0: torch.Tensor, t: float) -> torch.Tensor:
    return t * M + math.sqrt((1 - t) ** 2 + (t * S) ** 2) * x_0


NOISE = torch.linspace(-2, 2, 5, dtype=torch.float64).view(1, 5, 1)


def error(solver: str, steps: int, first: float, last: float) -> float:
    times = [first + (last - first) * k / steps for k in range(steps + 1)]
    return (integrate(best, exact(NOISE, first), times, solver) - exact(NOISE, last)).abs().max().item()


@pytest.mark.parametrize(
    ("solver", "first", "last", "low", "high"),
    [
        ("euler", 0.0, 1.0, 0.9, 1.1),
        ("euler", 0.2, 0.8, 0.9, 1.1),
        ("heun", 0.0, 1.0, 1.9, 2.2),
        ("heun", 0.2, 0.8, 1.9, 2.2),
        ("dpm++", 0.2, 0.8, 1.9, 2.9),  # of second order where the signal-to-noise ratio is finite
    ],
)
def test_order_of_convergence(solver: str, first: float, last: float, low: float, high: float) -> None:
    errors = [error(solver, steps, first, last) for steps in (40, 80, 160)]
    orders = [math.log2(a / b) for a, b in pairwise(errors)]
    assert all(low < order < high for order in orders), orders


def test_the_whole_path_by_multistep() -> None:
    """From t = 0, where the first steps are of first order, dpm++ still beats euler at the same cost."""
    for steps in (10, 20, 50):
        assert error("dpm++", steps, 0, 1) < 0.35 * error("euler", steps, 0, 1)
    assert math.log2(error("dpm++", 320, 0, 1) / error("dpm++", 640, 0, 1)) > 1.6


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_known_answer_is_reached_whatever_the_steps(solver: str) -> None:
    """If the data is one point, any solver is exact."""
    point = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    for steps in (1, 2, 7):
        made = integrate(lambda x, t: point, torch.randn(2, 3, 4), time_grid(steps), solver)
        torch.testing.assert_close(made, point, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("solver", SOLVERS)
def test_calls(solver: str) -> None:
    """One evaluation a step, two for heun but at the end; never at t = 1, where the velocity has no value."""
    calls: list[float] = []

    def predict(x: torch.Tensor, t: float) -> torch.Tensor:
        calls.append(t)
        return best(x, t)

    made = integrate(predict, NOISE, time_grid(5), solver)
    assert made.isfinite().all() and made.dtype == NOISE.dtype
    assert len(calls) == (9 if solver == "heun" else 5)
    assert min(calls) >= 0 and max(calls) < 1


def test_ancestral_sampling_has_the_right_distribution() -> None:
    """Mean m and spread s, though the prediction is a mean; the spread is approached from below, at first order."""
    generator = torch.Generator().manual_seed(0)

    def noise(x: torch.Tensor) -> torch.Tensor:
        return torch.randn(x.shape, generator=generator, dtype=x.dtype)

    start = torch.randn(5_000, 1, 1, generator=generator, dtype=torch.float64)
    spreads = []
    for steps in (2000, 8000):
        made = integrate(best, start, [k / steps for k in range(steps + 1)], "ancestral", noise)
        assert abs(made.mean().item() - M) < 5 * S / math.sqrt(len(start))
        spreads.append(made.std().item())
        if steps == 2000:
            link = torch.corrcoef(torch.stack([start.flatten(), made.flatten()]))[0, 1]
            assert abs(link) < 0.1, "the start is forgotten: fresh noise came in"
    assert abs(spreads[1] - S) < 0.35 * abs(spreads[0] - S) + 0.01
    assert spreads[1] == pytest.approx(S, rel=0.04)


@pytest.mark.parametrize("solver", STOCHASTIC)
@pytest.mark.parametrize("fresh", [1.0, 7.5, 20.0])
def test_stochastic_steps_keep_the_marginal(solver: str, fresh: float) -> None:
    """One step from s to t with the true data in hand gives x_t of mean t x_1 and spread 1 - t."""
    generator = torch.Generator().manual_seed(0)
    data = torch.full((50_000, 1, 1), 0.7, dtype=torch.float64)
    s, t = 0.48, 0.5
    x_s = s * data + (1 - s) * torch.randn(data.shape, generator=generator, dtype=torch.float64)
    made = integrate(
        lambda x, time: data, x_s, [s, t], solver, lambda x: torch.randn(x.shape, generator=generator), fresh
    )
    assert made.mean().item() == pytest.approx(t * 0.7, abs=0.01)
    assert made.std().item() == pytest.approx(1 - t, rel=0.02)
    # DDPM's step would keep s (1 - t) / (t (1 - s)) of the noise in x_s; n times its noise power the n-th power
    link = torch.corrcoef(torch.stack([x_s.flatten(), made.flatten()]))[0, 1].item()
    assert link == pytest.approx((s * (1 - t) / (t * (1 - s))) ** fresh, abs=0.015)


@pytest.mark.parametrize(("solver", "same"), [("ancestral", "euler"), ("sde-dpm++", "dpm++")])
def test_without_fresh_noise_it_is_the_solver_without(solver: str, same: str) -> None:
    made = [integrate(best, NOISE, time_grid(9), name, fresh=0.0) for name in (solver, same)]
    torch.testing.assert_close(made[0], made[1])


@pytest.mark.parametrize("fresh", [1.0, 10.0])
def test_second_order_with_noise(fresh: float) -> None:
    """The mean of what predictions on a line make (linear in the log signal-to-noise ratio), against the integral in
    SA-Solver's eq. 5, in steps half as long."""
    first, last = 0.3, 0.6
    low, high = (math.log(t / (1 - t)) for t in (first, last))

    def on_a_line(log_snr: float) -> float:
        return 1.5 + 0.7 * log_snr

    def weighted(u: float) -> float:
        return (1 + fresh) * math.exp(-(1 + fresh) * (high - u)) * on_a_line(u)

    faded = (1 - last) / (1 - first) * math.exp(-fresh * (high - low))
    expected = faded * NOISE + last * quad(weighted, low, high)[0]

    def error(solver: str, steps: int) -> float:
        times = [1 / (1 + math.exp(-low - (high - low) * k / steps)) for k in range(steps + 1)]

        def predict(x: torch.Tensor, t: float) -> torch.Tensor:
            return torch.full_like(x, on_a_line(math.log(t / (1 - t))))

        made = integrate(predict, NOISE, times, solver, torch.zeros_like, fresh)
        return (made - expected).abs().max().item()

    orders = {solver: math.log2(error(solver, 200) / error(solver, 400)) for solver in ("ancestral", "sde-dpm++")}
    assert 0.9 < orders["ancestral"] < 1.1 and 1.8 < orders["sde-dpm++"] < 2.6


@pytest.mark.parametrize("fresh", [1.0, 6.0, 10.0, 20.0])
def test_second_order_mends_the_spread(fresh: float) -> None:
    """Samples of data N(0, 1) in as many steps as the shipped weights take."""
    spreads = []
    for solver in ("ancestral", "sde-dpm++"):
        generator = torch.Generator().manual_seed(0)
        start = torch.randn(40_000, 1, 1, generator=generator, dtype=torch.float64)

        def noise(x: torch.Tensor, generator: torch.Generator = generator) -> torch.Tensor:
            return torch.randn(x.shape, generator=generator, dtype=x.dtype)

        made = integrate(lambda x, t: t / ((1 - t) ** 2 + t * t) * x, start, time_grid(36), solver, noise, fresh)
        spreads.append(made.var().item())
    assert abs(spreads[1] - 1) < 0.2 and abs(spreads[1] - 1) < 0.6 * (1 - spreads[0])


def test_fresh_noise_comes_from_the_given_source() -> None:
    asked: list[torch.Size] = []

    def noise(x: torch.Tensor) -> torch.Tensor:
        asked.append(x.shape)
        return torch.zeros_like(x)

    for solver in SOLVERS:
        integrate(best, NOISE, time_grid(4), solver, noise)
    assert asked == [NOISE.shape] * 4, "ancestral and sde-dpm++ alone, but in the first and the last step"


def test_time_grid() -> None:
    middle = 1 / (1 + math.exp(-0.2))
    assert time_grid(1) == [0, 1] and time_grid(2) == [0, pytest.approx(middle), 1]
    for n in (3, 10, 100, 1000):
        grid = time_grid(n)
        assert (grid[0], grid[-1], len(grid)) == (0, 1, n + 1) and all(s < t for s, t in pairwise(grid))
        inside = torch.logit(torch.tensor(grid[1:-1], dtype=torch.float64))
        quantiles = torch.special.ndtri(torch.arange(1, n, dtype=torch.float64) / n)
        torch.testing.assert_close(inside, 0.2 + 0.8 * quantiles, atol=1e-9, rtol=1e-9)
    with pytest.raises(InvalidInputError, match="`steps` must be at least 1; got 0"):
        time_grid(0)


def test_unknown_solver_is_refused_with_the_known_ones() -> None:
    with pytest.raises(
        InvalidInputError, match=r"unknown solver 'rk4'; known: euler, heun, dpm\+\+, ancestral, sde-dpm\+\+"
    ):
        integrate(best, NOISE, time_grid(2), "rk4")
