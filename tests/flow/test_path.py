"""The straight path and what the network's output means on it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from adit.errors import InvalidInputError
from adit.flow.path import flow_loss, interpolate, preconditioning, sample_times, to_data

TIME = st.floats(0, 1)


@given(TIME)
@settings(max_examples=100, deadline=None)
def test_the_network_s_target_has_unit_variance(time: float) -> None:
    """F = (data - skip x_t) / out; with data and noise of unit variance Var F = ((1 - skip t)^2 + skip^2 (1 - t)^2)
    / out^2 = 1, and F is uncorrelated with x_t: what is left to predict is no rescaled input (Karras 2022, B.6)."""
    t = torch.tensor(time, dtype=torch.float64)
    skip, out = preconditioning(t)
    if time > 0.999:
        return
    variance = ((1 - skip * t) ** 2 + (skip * (1 - t)) ** 2) / out**2
    covariance = (1 - skip * t) * t - skip * (1 - t) ** 2
    assert variance.item() == pytest.approx(1, rel=1e-6)
    assert covariance.item() == pytest.approx(0, abs=1e-12)


def test_the_ends_of_the_path() -> None:
    generator = torch.Generator().manual_seed(0)
    noise, data, raw = torch.randn(3, 2, 4, 5, generator=generator).unbind(0)
    zero, one = torch.zeros(2), torch.ones(2)
    torch.testing.assert_close(interpolate(noise, data, zero), noise)
    torch.testing.assert_close(interpolate(noise, data, one), data)
    torch.testing.assert_close(to_data(raw, noise, zero), raw)  # at t = 0 the network predicts the data
    torch.testing.assert_close(to_data(raw, data, one), data)  # at t = 1 it has nothing to say
    # near t = 1 data = x + (1 - t) (F + ...): F is minus the noise
    t = torch.full((2,), 1 - 1e-3)
    x = interpolate(noise, data, t)
    torch.testing.assert_close(to_data(-noise, x, t), data, atol=1e-4, rtol=1e-3)


@given(TIME, st.integers(0, 2**31))
@settings(max_examples=50, deadline=None)
def test_to_data_inverts_the_target(time: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    noise, data = torch.randn(2, 1, 3, 2, generator=generator, dtype=torch.float64).unbind(0)
    t = torch.tensor([min(time, 0.999)], dtype=torch.float64)
    x = interpolate(noise, data, t)
    skip, out = preconditioning(t[:, None, None])
    torch.testing.assert_close(to_data((data - skip * x) / out, x, t), data)


def test_each_system_has_its_own_time() -> None:
    t = torch.tensor([0.2, 0.7])
    noise, data = torch.zeros(2, 3, 4), torch.ones(2, 3, 4)
    assert torch.equal(interpolate(noise, data, t)[:, 0, 0], t)
    both = to_data(data, data, t)
    alone = torch.cat([to_data(data[k : k + 1], data[k : k + 1], t[k : k + 1]) for k in range(2)])
    torch.testing.assert_close(both, alone)


@pytest.mark.parametrize("time", [0.01, 0.3, 0.5, 0.8, 0.9])
def test_the_loss_of_an_untrained_network_is_one_at_every_time(time: float) -> None:
    count = 400
    generator = torch.Generator().manual_seed(0)
    noise, data = torch.randn(2, count, 20, 8, generator=generator).unbind(0)
    t = torch.full((count,), time)
    x = interpolate(noise, data, t)
    loss = flow_loss(to_data(torch.zeros_like(x), x, t), data, t, weight_cap=0.9)
    assert loss.shape == (count,)
    assert loss.mean().item() == pytest.approx(1, abs=0.03)


def test_beyond_the_cap_the_weight_stays() -> None:
    predicted, data = torch.zeros(3, 2, 2), torch.ones(3, 2, 2)
    loss = flow_loss(predicted, data, torch.tensor([0.9, 0.95, 0.999]), weight_cap=0.9)
    out = preconditioning(torch.tensor(0.9))[1]
    torch.testing.assert_close(loss, (1 / out**2).expand(3))
    assert (flow_loss(predicted, data, torch.full((3,), 0.8), 0.9) < loss).all()


def test_uniform_times() -> None:
    t = sample_times(20_000, "uniform", torch.Generator().manual_seed(0), None).numpy()
    assert t.min() >= 0.01 and t.max() <= 0.99
    assert stats.kstest(t, stats.uniform(0.01, 0.98).cdf).pvalue > 1e-3


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (0.5, 1.2)])
def test_logit_normal_times(mean: float, std: float) -> None:
    generator = torch.Generator().manual_seed(0)
    t = sample_times(20_000, "logit-normal", generator, None, mean, std).double().numpy()
    assert t.min() >= 0.01 and t.max() <= 0.99
    inner = (t - 0.01) / 0.98
    assert stats.kstest(np.log(inner / (1 - inner)), stats.norm(mean, std).cdf).pvalue > 1e-3


def test_unknown_kinds_of_times_are_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"`time_sampling` must be 'uniform' or 'logit-normal'; got 'cosine'"):
        sample_times(3, "cosine", None, None)
