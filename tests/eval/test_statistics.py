"""Intervals against theory, distances against scipy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import wasserstein_distance

from adit.errors import InvalidInputError
from adit.eval import statistics
from adit.eval.statistics import bootstrap, jensen_shannon, wasserstein

NUMBERS = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40)


def test_the_interval_of_a_share_is_that_of_the_binomial() -> None:
    share, count = 0.3, 4000
    low, high = bootstrap(np.arange(count) < share * count)
    half = 1.96 * (share * (1 - share) / count) ** 0.5
    assert low == pytest.approx(share - half, abs=0.1 * half)
    assert high == pytest.approx(share + half, abs=0.1 * half)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for trial in range(200):
        low, high = bootstrap(rng.normal(5, 2, 80), level=0.8, seed=trial)
        covered += low <= 5 <= high
    assert 0.8 * 200 - 5 * (0.16 * 200) ** 0.5 <= covered <= 0.8 * 200 + 5 * (0.16 * 200) ** 0.5


def test_weights_and_seeds_count() -> None:
    values, weights = [0.0, 1.0] * 50, [1.0, 9.0] * 50
    assert np.mean(bootstrap(values)) == pytest.approx(0.5, abs=0.03)
    assert np.mean(bootstrap(values, weights)) == pytest.approx(0.9, abs=0.03)
    rng = np.random.default_rng(0).random(50)
    assert bootstrap(rng, seed=1) == bootstrap(rng, seed=1) != bootstrap(rng, seed=2)


@pytest.mark.parametrize("kinds", [2, 40])
def test_few_different_values_are_drawn_at_once_by_the_same_law(kinds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    values, weights = rng.integers(kinds, size=2000) / kinds, rng.integers(1, 3, size=2000)
    quick = bootstrap(values, weights, seed=1)
    monkeypatch.setattr(statistics, "_REPEATS", 10**9)
    assert quick == pytest.approx(bootstrap(values, weights, seed=1), abs=0.15 * (quick[1] - quick[0]))


def test_resamples_of_no_weight_are_left_out() -> None:
    low, high = bootstrap([1.0, 0.0, 0.0], [1.0, 0.0, 0.0])
    assert (low, high) == (1, 1)
    assert all(np.isnan(bootstrap([1.0, 0.0], [0.0, 0.0])))


def test_one_value_and_none() -> None:
    assert bootstrap([0.7]) == (0.7, 0.7)
    assert all(np.isnan(bootstrap([])))


@pytest.mark.parametrize(("arguments", "words"), [
    ({"values": [[1.0]]}, "one shape"),
    ({"values": [1.0], "weights": [1.0, 2.0]}, "one shape"),
    ({"values": [1.0], "level": 1.0}, "`level` must lie between 0 and 1; got 1.0"),
])  # fmt: skip
def test_bad_arguments_are_refused(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        bootstrap(**arguments)  # type: ignore[arg-type]


@given(NUMBERS, NUMBERS)
@settings(max_examples=100, deadline=None)
def test_wasserstein_is_that_of_scipy(left: list[float], right: list[float]) -> None:
    assert wasserstein(left, right) == pytest.approx(wasserstein_distance(left, right), rel=1e-9, abs=1e-6)


COUNTS = st.dictionaries(st.integers(0, 9), st.integers(0, 1000), min_size=1).filter(lambda c: sum(c.values()) > 0)


@given(COUNTS, COUNTS)
@settings(max_examples=100, deadline=None)
def test_jensen_shannon_is_that_of_scipy(left: dict[int, int], right: dict[int, int]) -> None:
    p, q = ([counts.get(key, 0) for key in range(10)] for counts in (left, right))
    assert jensen_shannon(left, right) == pytest.approx(jensenshannon(p, q, base=2) ** 2, abs=1e-7)


def test_distances_of_nothing() -> None:
    assert np.isnan(wasserstein([], [1.0])) and np.isnan(jensen_shannon({}, {1: 2.0}))
    assert jensen_shannon({"C": 1.0}, {"H": 5.0}) == 1.0 and jensen_shannon({"C": 2.0}, {"C": 7.0}) == 0.0
