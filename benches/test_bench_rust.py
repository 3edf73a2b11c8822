"""Smallest distances and Niggli reduction of `adit._rust`.

One thread. Compare within a group of one run only: absolute times drift with the machine.
"""

import numpy as np
import pytest

from adit import _rust


@pytest.mark.parametrize("kind", ["molecules", "crystals"])
def test_min_distances(benchmark, kind):
    benchmark.group = f"smallest distance, 20,000 {kind}"
    rng = np.random.default_rng(3)
    offsets = np.concatenate([[0], np.cumsum(rng.integers(2, 21, 20_000))])
    cells = (np.eye(3) * 8 + rng.normal(size=(20_000, 3, 3))).astype(np.float32)
    positions = rng.uniform(0, 8, size=(offsets[-1], 3)).astype(np.float32)
    periodic = np.full(20_000, kind == "crystals")
    assert np.isfinite(benchmark(_rust.min_distances, positions, cells, periodic, offsets, 1)).all()


def test_niggli(benchmark):
    benchmark.group = "Niggli reduction, 2,000 cells"
    cells = np.random.default_rng(4).normal(size=(2000, 3, 3)) * 5
    assert benchmark(_rust.niggli_reduce, cells, 1).shape == (2000, 3, 3)
