"""`TokenBudgetSampler`: which systems make a step."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adit.data.sampler import TokenBudgetSampler
from adit.errors import InvalidInputError


def sampler(sizes, periodic, step=300, group=60, fraction=0.5, seed=0) -> TokenBudgetSampler:  # type: ignore[no-untyped-def]
    return TokenBudgetSampler(np.asarray(sizes), np.asarray(periodic), step, group, fraction, seed)


RNG = np.random.default_rng(0)
SIZES = RNG.integers(1, 40, size=500)
PERIODIC = np.arange(500) % 5 == 0


@given(
    st.lists(st.tuples(st.integers(1, 90), st.booleans()), min_size=1, max_size=30),
    st.integers(1, 400),
    st.integers(1, 100),
    st.floats(0, 1),
)
@settings(max_examples=50, deadline=None)
def test_groups_are_of_one_size_and_steps_meet_the_budget(systems, step, group, fraction) -> None:  # type: ignore[no-untyped-def]
    sizes, periodic = (np.array(column) for column in zip(*systems, strict=True))
    for groups in islice(sampler(sizes, periodic, step, group, fraction), 20):
        tokens = [int(sizes[members].sum()) for members in groups]
        assert all(len(set(sizes[members])) == 1 for members in groups)
        assert all(total <= group or len(members) == 1 for total, members in zip(tokens, groups, strict=True))
        assert sum(tokens) >= step > sum(tokens[:-1])


def test_groups_of_one_size_have_one_shape() -> None:
    """So that a compiled or captured step meets few shapes; and no size is left out."""
    counts: dict[int, set[int]] = {}
    for groups in islice(sampler(SIZES, PERIODIC), 400):
        for members in groups:
            counts.setdefault(int(SIZES[members[0]]), set()).add(len(members))
    assert all(len(found) == 1 for found in counts.values())
    assert set(counts) == set(SIZES.tolist())


def test_the_same_seed_gives_the_same_steps_and_another_seed_others() -> None:
    def first(seed: int) -> list[list[list[int]]]:
        return [[group.tolist() for group in groups] for groups in islice(sampler(SIZES, PERIODIC, seed=seed), 100)]

    one = sampler(SIZES, PERIODIC, seed=3)
    twice = [[[group.tolist() for group in groups] for groups in islice(one, 100)] for _ in range(2)]
    assert twice[0] == twice[1] == first(3) != first(4)


def test_a_resumed_run_sees_the_steps_it_has_not_seen() -> None:
    whole = [np.concatenate(groups).tolist() for groups in islice(sampler(SIZES, PERIODIC), 80)]
    rest = [np.concatenate(groups).tolist() for groups in islice(sampler(SIZES, PERIODIC), 50, 80)]
    assert rest == whole[50:]


def test_every_system_has_its_turn_before_any_has_two_more() -> None:
    """Drawn without replacement: between any two systems of a kind the number of turns differs by little."""
    steps = list(islice(sampler(SIZES, PERIODIC, step=2000), 400))
    turns = np.bincount(np.concatenate([np.concatenate(groups) for groups in steps]), minlength=500)
    for kind in (PERIODIC, ~PERIODIC):
        assert turns[kind].min() > 10
        # what is drawn in a chunk comes out in any order: up to two chunks of 160 groups of 60 atoms are under way
        assert turns[kind].max() - turns[kind].min() <= 2 + np.ceil(2 * 160 * 60 * 0.5 / SIZES[kind].sum())


@pytest.mark.parametrize("fraction", [0.0, 0.2, 0.5, 1.0])
def test_the_share_of_crystals(fraction: float) -> None:
    steps = islice(sampler(SIZES, PERIODIC, step=1000, fraction=fraction), 400)
    drawn = PERIODIC[np.concatenate([np.concatenate(groups) for groups in steps])]
    # binomial: five standard deviations
    assert abs(drawn.mean() - fraction) <= 5 * np.sqrt(fraction * (1 - fraction) / len(drawn)) + 1e-9


@pytest.mark.parametrize("kind", [True, False])
def test_one_kind_alone_needs_no_fraction(kind: bool) -> None:
    steps = list(islice(sampler([3, 4, 5], [kind] * 3, fraction=0.0 if kind else 1.0), 3))
    assert len(steps) == 3


def test_groups_of_a_step_vary_in_size() -> None:
    """Sorted groups would make one step all of small systems and the next all of large ones."""
    means = [np.mean(SIZES[np.concatenate(groups)]) for groups in islice(sampler(SIZES, PERIODIC), 200)]
    assert np.std(means) < 0.6 * np.std(SIZES)
    blocks = np.array(means[:200]).reshape(10, 20).mean(1)
    assert np.std(blocks) < 0.25 * np.std(SIZES)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"sizes": [], "periodic": []}, "the training set is empty"),
        ({"fraction": 1.5}, "`crystal_fraction` must lie between 0 and 1; got 1.5"),
        ({"fraction": float("nan")}, "`crystal_fraction`"),
        ({"sizes": [3, 0], "periodic": [True, False]}, "at least one atom; the smallest has 0"),
        ({"step": 0}, "must be positive"),
        ({"group": 0}, "must be positive"),
    ],
)
def test_bad_arguments_are_refused_by_name(arguments, words: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InvalidInputError, match=words):
        sampler(**{"sizes": [3, 4], "periodic": [True, False], **arguments})
