"""Confidence intervals, and distances between the distributions of samples and of a reference."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from adit.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray

RESAMPLES = 1000
_CHUNK = 2**22
_REPEATS = 8
"""From so many structures for each different value, on average, it is quicker to draw how often each value comes."""


def bootstrap(
    values: ArrayLike, weights: ArrayLike | None = None, *, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """The percentile bootstrap interval of a (weighted) mean over structures (Efron 1979), 1,000 resamples.

    Args:
        values: (B,) a figure of each structure; 0 and 1 for a share.
        weights: (B,) e.g. the numbers of atoms, for a share of atoms; None for equal weights.
        level: of confidence.
        seed: of the resamples; the same seed gives the same interval.

    Returns:
        Lower and upper bound; NaN without structures.

    Raises:
        InvalidInputError: the shapes differ, or `level` is not between 0 and 1.
    """
    value_B = np.asarray(values, dtype=np.float64)
    weight_B = np.ones_like(value_B) if weights is None else np.asarray(weights, dtype=np.float64)
    if value_B.ndim != 1 or value_B.shape != weight_B.shape:
        raise InvalidInputError(
            f"`values` and `weights` must have one shape (B,); got {value_B.shape} and {weight_B.shape}"
        )
    if not 0 < level < 1:
        raise InvalidInputError(f"`level` must lie between 0 and 1; got {level}")
    count = len(value_B)
    if count == 0:
        return float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    kinds, times = np.unique(np.stack([value_B, weight_B], axis=1), axis=0, return_counts=True)
    if count >= _REPEATS * len(kinds):  # how often each comes is multinomial: the same law, without drawing each
        drawn_RK = rng.multinomial(count, times / count, RESAMPLES)
        totals_R = drawn_RK @ kinds[:, 1]
        means_R = (drawn_RK @ kinds.prod(1)) / np.where(totals_R > 0, totals_R, np.nan)
        return _interval(means_R, level)
    means: list[NDArray[np.float64]] = []
    step = max(1, _CHUNK // count)
    for begin in range(0, RESAMPLES, step):
        drawn = rng.integers(count, size=(min(step, RESAMPLES - begin), count))
        totals = weight_B[drawn].sum(1)
        means.append((value_B * weight_B)[drawn].sum(1) / np.where(totals > 0, totals, np.nan))
    return _interval(np.concatenate(means), level)


def bootstrap_quantile(values: ArrayLike, share: float, *, level: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """The percentile bootstrap interval of a quantile, 1,000 resamples.

    Args:
        values: (B,) a figure of each structure.
        share: 0.5 for the median.
        level, seed: as in `bootstrap`.

    Returns:
        Lower and upper bound; NaN without structures.

    Raises:
        InvalidInputError: `share` or `level` is not between 0 and 1.
    """
    if not (0 < share < 1 and 0 < level < 1):
        raise InvalidInputError(f"`share` and `level` must lie between 0 and 1; got {share} and {level}")
    value_B = np.asarray(values, dtype=np.float64).ravel()
    count = len(value_B)
    if count == 0:
        return float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    step = max(1, _CHUNK // count)
    found = [
        np.quantile(value_B[rng.integers(count, size=(min(step, RESAMPLES - begin), count))], share, axis=1)
        for begin in range(0, RESAMPLES, step)
    ]
    return _interval(np.concatenate(found), level)


def _interval(means: NDArray[np.float64], level: float) -> tuple[float, float]:
    """NaN if every mean is."""
    known = means[~np.isnan(means)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def wasserstein(samples: ArrayLike, reference: ArrayLike) -> float:
    """The 1-Wasserstein distance of two sets of numbers, in their unit: the area between their distribution functions.

    NaN if one is empty.
    """
    left, right = (np.sort(np.asarray(values, dtype=np.float64).ravel()) for values in (samples, reference))
    if not len(left) or not len(right):
        return float("nan")
    places = np.sort(np.concatenate([left, right]))
    below = [np.searchsorted(values, places[:-1], side="right") / len(values) for values in (left, right)]
    return float((np.abs(below[0] - below[1]) * np.diff(places)).sum())


def jensen_shannon(samples: Mapping[object, float], reference: Mapping[object, float]) -> float:
    """The Jensen-Shannon divergence of two histograms in bits: 0 for equal shares, 1 for nothing in common.

    J. Lin, IEEE Trans. Inf. Theory 37, 145 (1991), eq. 4.1. NaN if one is empty.
    """
    keys = list({**samples, **reference})
    p, q = (np.array([counts.get(key, 0.0) for key in keys], dtype=np.float64) for counts in (samples, reference))
    if not p.sum() or not q.sum():
        return float("nan")
    p, q = p / p.sum(), q / q.sum()
    middle = (p + q) / 2

    def bits(share: NDArray[np.float64]) -> float:
        some = share > 0
        return float((share[some] * np.log2(share[some] / middle[some])).sum())

    return max(0.0, (bits(p) + bits(q)) / 2)
