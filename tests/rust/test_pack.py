"""Gathering and batching against plain numpy."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adit import _rust
from adit.errors import InvalidInputError


def pack(sizes, seed=0):
    rng = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    numbers = rng.integers(1, 100, offsets[-1]).astype(np.uint8)
    return offsets, numbers, rng.normal(size=(offsets[-1], 3)).astype(np.float32)


sizes = st.lists(st.integers(0, 9), min_size=1, max_size=12)


@given(sizes, st.lists(st.integers(0, 10**6), max_size=30))
@settings(deadline=None)
def test_gather_is_the_concatenation_of_the_chosen_systems(sizes, picks):
    offsets, numbers, positions = pack(sizes)
    indices = np.array([pick % len(sizes) for pick in picks], dtype=np.int64)
    got_numbers, got_positions, got_offsets = _rust.gather(offsets, indices, numbers, positions)
    atoms = [slice(offsets[k], offsets[k + 1]) for k in indices]
    assert np.array_equal(got_numbers, np.concatenate([np.zeros(0, np.uint8), *(numbers[a] for a in atoms)]))
    assert np.array_equal(got_positions, np.concatenate([np.zeros((0, 3), np.float32), *(positions[a] for a in atoms)]))
    assert np.array_equal(got_offsets, np.cumsum([0, *(sizes[k] for k in indices)]))
    assert (got_numbers.dtype, got_positions.dtype, got_offsets.dtype) == (np.uint8, np.float32, np.int64)


@given(sizes, st.lists(st.integers(0, 10**6), max_size=30), st.integers(0, 5))
@settings(deadline=None)
def test_padded_rows_are_the_systems_and_zeros(sizes, picks, room):
    offsets, numbers, positions = pack(sizes)
    width = max(sizes) + room
    indices = np.array([pick % len(sizes) for pick in picks], dtype=np.int64)
    got_numbers, got_positions, mask = _rust.gather_padded(offsets, indices, numbers, positions, width)
    assert got_numbers.shape == mask.shape == (len(indices), width)
    assert got_positions.shape == (len(indices), width, 3)
    assert mask.dtype == np.bool_
    assert np.array_equal(mask, np.arange(width) < np.array([sizes[k] for k in indices]).reshape(-1, 1))
    flat_numbers, flat_positions, _ = _rust.gather(offsets, indices, numbers, positions)
    assert np.array_equal(got_numbers[mask], flat_numbers)
    assert np.array_equal(got_positions[mask], flat_positions)
    assert not got_numbers[~mask].any()
    assert not got_positions[~mask].any()


def test_memory_mapped_read_only_arrays_are_taken_as_they_are(tmp_path):
    offsets, numbers, positions = pack([3, 0, 5])
    np.save(tmp_path / "positions.npy", positions)
    mapped = np.load(tmp_path / "positions.npy", mmap_mode="r")
    numbers.flags.writeable = False
    got = _rust.gather(offsets, np.array([2]), numbers, mapped)[1]
    assert np.array_equal(got, positions[3:])


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"indices": np.array([3])}, "`indices`"),
        ({"indices": np.array([-1])}, "`indices`"),
        ({"indices": np.array([0], np.int32)}, "`indices`.*int64"),
        ({"indices": np.array([[0]])}, "`indices`"),
        ({"indices": np.arange(6)[::2]}, "`indices`.*contiguous"),
        ({"offsets": np.array([0, 3, 2, 8])}, r"`offsets\[1\]`"),
        ({"offsets": np.array([0, 3, 3, 9])}, r"`offsets\[2\]`"),
        ({"offsets": np.array([-2, 3, 3, 8])}, r"`offsets\[0\]`"),
        ({"offsets": np.array([], np.int64)}, "`indices`"),
        ({"offsets": np.array([0, 2**62, 2**63 - 1, 8])}, r"`offsets\[0\]`"),
        ({"numbers": np.zeros(7, np.uint8)}, "`positions`"),
        ({"numbers": np.zeros(8, np.int64)}, "`numbers`"),
        ({"positions": np.zeros((8, 3), np.float16)}, "`positions`.*float64"),
        ({"positions": np.zeros((8, 2), np.float32)}, "`positions`"),
        ({"positions": None}, "`positions`"),
    ],
)
def test_gather_refuses_by_name(change, named):
    offsets, numbers, positions = pack([3, 0, 5])
    good = {"offsets": offsets, "indices": np.arange(3), "numbers": numbers, "positions": positions}
    with pytest.raises(InvalidInputError, match=named):
        _rust.gather(**{**good, **change})
    with pytest.raises(InvalidInputError, match=named):
        _rust.gather_padded(**{**good, **change}, width=5)


@pytest.mark.parametrize("width", [4, 0, -1, 2**62, 10**30, 2.5, None])
def test_width_is_refused_by_name(width):
    offsets, numbers, positions = pack([3, 0, 5])
    with pytest.raises(InvalidInputError, match=r"`width`|atoms in one batch"):
        _rust.gather_padded(offsets, np.arange(3), numbers, positions, width)


def test_a_batch_beyond_memory_is_refused():
    offsets, numbers, positions = pack([2**20])
    with pytest.raises(InvalidInputError, match="atoms in one batch"):
        _rust.gather(offsets, np.zeros(2**9, np.int64), numbers, positions)


@given(sizes, st.randoms(use_true_random=False), st.integers(9, 40), st.integers(1, 6))
@settings(deadline=None)
def test_batches_keep_order_and_limits_and_are_as_full_as_they_go(sizes, random, budget, most):
    order = [random.randrange(len(sizes)) for _ in range(random.randrange(30))]
    cuts = _rust.plan_batches(np.array(sizes), np.array(order, dtype=np.int64), budget, most)
    assert cuts[0] == 0
    assert cuts[-1] == len(order)
    assert (np.diff(cuts) > 0).all()
    for start, stop in pairwise(cuts):
        atoms = sum(sizes[k] for k in order[start:stop])
        assert atoms <= budget
        assert stop - start <= most
        if stop < len(order):
            assert atoms + sizes[order[stop]] > budget or stop - start == most


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"token_budget": 4}, r"`sizes\[1\]`.*got 5"),
        ({"token_budget": 0}, "`token_budget`"),
        ({"token_budget": 1.5}, "`token_budget`"),
        ({"max_systems": 0}, "`max_systems`"),
        ({"max_systems": -(2**70)}, "`max_systems`"),
        ({"order": np.array([0, 3])}, r"`order\[1\]`"),
        ({"order": np.array([-1])}, r"`order\[0\]`"),
        ({"sizes": np.array([3, -5, 2])}, r"`sizes\[1\]`"),
        ({"sizes": np.array([3, 5, 2], np.int32)}, "`sizes`"),
    ],
)
def test_plan_refuses_by_name(change, named):
    good = {"sizes": np.array([3, 5, 2]), "order": np.arange(3), "token_budget": 8, "max_systems": 2}
    assert _rust.plan_batches(**good).tolist() == [0, 2, 3]
    with pytest.raises(InvalidInputError, match=named):
        _rust.plan_batches(**{**good, **change})


@given(st.lists(st.integers(0, 20), max_size=40), st.permutations([4, 9, 13, 20]))
def test_buckets_are_the_smallest_that_fit(sizes, widths):
    buckets = _rust.bucket_by_size(np.array(sizes, dtype=np.int64), np.array(widths))
    best = [min(width for width in widths if width >= size) for size in sizes]
    for width, bucket in zip(widths, buckets, strict=True):
        assert bucket.dtype == np.int64
        assert bucket.tolist() == [k for k, chosen in enumerate(best) if chosen == width]


def test_buckets_refuse_by_name():
    with pytest.raises(InvalidInputError, match=r"`sizes\[1\]`.*largest.*9.*got 10"):
        _rust.bucket_by_size(np.array([9, 10]), np.array([9, 4]))
    with pytest.raises(InvalidInputError, match=r"`sizes\[0\]`"):
        _rust.bucket_by_size(np.array([1]), np.array([], dtype=np.int64))
    with pytest.raises(InvalidInputError, match=r"`sizes\[0\]`"):
        _rust.bucket_by_size(np.array([-1]), np.array([4]))
    with pytest.raises(InvalidInputError, match=r"`widths\[1\]`"):
        _rust.bucket_by_size(np.array([1]), np.array([4, -4]))
