"""The predictor of properties, and how likely what is wanted is."""

from __future__ import annotations

import math

import mpmath
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from adit.config import DiTConfig
from adit.models.dit import MOLECULE
from adit.models.predictor import PropertyPredictor, log_likelihood
from adit.ops.packing import Packing

ENDS = st.floats(-50, 50) | st.sampled_from([-math.inf, math.inf])


def _both(mean: float, spread: float, low: float, high: float) -> tuple[float, float]:
    """The logarithm and its derivative by the mean; that by the spread is finite."""
    middle, width = (torch.tensor([[value]], dtype=torch.float64, requires_grad=True) for value in (mean, spread))
    bounds = (torch.tensor([end], dtype=torch.float64) for end in (low, high))
    out = log_likelihood(middle, width, *bounds).sum()
    slope, by_spread = torch.autograd.grad(out, [middle, width])
    assert by_spread.isfinite().all()
    return float(out.detach()), float(slope)


@given(mean=st.floats(-20, 20), spread=st.floats(0.01, 10), ends=st.tuples(ENDS, ENDS))
@settings(max_examples=200, deadline=None)
def test_a_range_as_mpmath_has_it(mean: float, spread: float, ends: tuple[float, float]) -> None:
    low, high = sorted(ends)
    assume(high - low > 1e-3 * spread)  # of narrower ones rounding leaves fewer digits of the slope
    found, slope = _both(mean, spread, low, high)
    with mpmath.workdps(60):
        # in the tail where the probabilities are small even 60 digits do not cancel
        a, b = ((mpmath.mpf(end) - mean) / mpmath.mpf(spread) for end in (low, high))
        a, b = (-b, -a) if a + b > 0 else (a, b)
        assume(b > -1000)
        expected = float(mpmath.log(mpmath.ncdf(b) - mpmath.ncdf(a)))
        density = float((mpmath.npdf(a) - mpmath.npdf(b)) / (mpmath.ncdf(b) - mpmath.ncdf(a)) / spread)
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-9)
    assert abs(slope) == pytest.approx(abs(density), rel=1e-5, abs=1e-9)


@given(mean=st.floats(-20, 20), spread=st.floats(0.01, 10), value=st.floats(-30, 30))
@settings(max_examples=200, deadline=None)
def test_a_value_has_the_density_of_a_gaussian(mean: float, spread: float, value: float) -> None:
    found, slope = _both(mean, spread, value, value)
    gaussian = torch.distributions.Normal(torch.tensor(mean, dtype=torch.float64), spread)
    assert found == pytest.approx(
        float(gaussian.log_prob(torch.tensor(value, dtype=torch.float64))), rel=1e-9, abs=1e-9
    )
    assert slope == pytest.approx((value - mean) / spread**2, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("ends", [(math.nan, math.nan), (math.nan, 1.0), (-math.inf, math.inf)])
def test_what_is_not_asked_does_not_matter(ends: tuple[float, float]) -> None:
    assert _both(0.3, 0.7, *ends) == (0.0, 0.0)


def _network() -> PropertyPredictor:
    torch.manual_seed(0)
    network = PropertyPredictor(DiTConfig(width=32, heads=2, layers=2, composition=8, qk_norm=True), ["a", "b"])
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    network.mean[:], network.std[:] = torch.tensor([5.0, -1.0]), torch.tensor([2.0, 0.1])
    return network


def test_packed_systems_as_each_alone() -> None:
    network, sizes = _network(), [3, 1, 5]
    latents = [torch.randn(1, size, 8, generator=torch.Generator().manual_seed(size)) for size in sizes]
    counts = torch.zeros(3, 100, dtype=torch.int64)
    counts[torch.arange(3), torch.arange(3)] = torch.tensor(sizes)
    t, label = torch.full((3,), 0.4), torch.full((3,), MOLECULE)
    packed: list[Tensor] = list(
        network.estimate(torch.cat(latents, 1)[0], t, label, counts, Packing.from_lengths(sizes))
    )
    for place, one in enumerate(latents):
        alone = network.estimate(one, t[:1], label[:1], counts[place : place + 1])
        for together, single in zip(packed, alone, strict=True):
            torch.testing.assert_close(together[place : place + 1], single, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(packed[0][0], packed[0][1])
    assert (packed[1] > 0).all()


def test_units_scale_what_the_network_says() -> None:
    network = _network()
    x, t, label, counts = (
        torch.randn(2, 4, 8),
        torch.tensor([0.5]),
        torch.tensor([MOLECULE]),
        torch.zeros(2, 100).long(),
    )
    mean, spread = network.estimate(x, t, label, counts)
    unit = _network()
    unit.mean[:], unit.std[:] = 0.0, 1.0
    raw_mean, raw_spread = unit.estimate(x, t, label, counts)
    torch.testing.assert_close(mean, network.mean + network.std * raw_mean)
    torch.testing.assert_close(spread, network.std * raw_spread)
