"""A forked child has none of its parent's threads, and must not wait for them."""

import multiprocessing
import sys

import numpy as np
import pytest

from adit import _rust

CELLS = np.random.default_rng(0).normal(size=(200, 3, 3))


def reduce_in_child(queue):
    queue.put(_rust.niggli_reduce(CELLS, 2))


@pytest.mark.skipif(sys.platform != "linux", reason="fork is used on Linux only")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_works_after_fork():
    expected = _rust.niggli_reduce(CELLS, 2)
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=reduce_in_child, args=(queue,), daemon=True)
    child.start()
    child.join(20)
    alive = child.is_alive()
    if alive:
        child.kill()
    assert not alive
    assert np.array_equal(queue.get(), expected)
