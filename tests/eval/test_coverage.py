"""Neighbour coverage: the closed form of its expectation, fingerprints by hand, crystals shaken and swapped."""

from __future__ import annotations

import numpy as np
import pytest

from adit.errors import InvalidInputError
from adit.eval.coverage import _balls, _properties, expected_coverage, fingerprints, neighbour_coverage
from adit.symmetry import niggli
from adit.system import AtomicSystem


def cubic(number: int, edge: float) -> AtomicSystem:
    return AtomicSystem([number], [[0, 0, 0]], edge * np.eye(3))


@pytest.mark.parametrize(("reference", "samples", "neighbours"), [(200, 200, 5), (300, 60, 3), (50, 400, 1)])
def test_samples_of_the_same_distribution_cover_as_expected(reference: int, samples: int, neighbours: int) -> None:
    rng = np.random.default_rng(0)
    shares = [
        _balls(rng.normal(size=(samples, 2)), rng.normal(size=(reference, 2)), neighbours)[1].mean() for _ in range(60)
    ]
    error = np.std(shares) / len(shares) ** 0.5
    assert np.mean(shares) == pytest.approx(expected_coverage(reference, samples, neighbours), abs=4 * error)


def test_balls_are_those_of_brute_force() -> None:
    rng = np.random.default_rng(1)
    ours, theirs = rng.normal(size=(700, 3)), rng.normal(1, 1, size=(600, 3))
    within, covered = _balls(ours, theirs, 4)
    radii = np.sort(np.linalg.norm(theirs[:, None] - theirs[None], axis=-1), axis=1)[:, 4]
    inside = np.linalg.norm(theirs[:, None] - ours[None], axis=-1) <= radii[:, None]
    assert np.array_equal(within, inside.any(0)) and np.array_equal(covered, inside.any(1))


def test_the_fingerprint_of_a_cubic_crystal_is_counted_by_hand() -> None:
    [found] = fingerprints([cubic(26, 2.5)])
    assert found[[0, 4, 8]].tolist() == [4, 4, 4] and found[[1, 2]].tolist() == [8, 1.83]
    assert (found[12:16] == 0).all()
    assert found[16] == pytest.approx(3 * np.log(2.5))
    radii = np.linspace(0.5, 2.2, 35)
    shells = {1.0: 6, 2**0.5: 12, 3**0.5: 8, 2.0: 6}
    for place, radius in enumerate(radii):
        count = sum(number * np.clip((radius - shell) / 0.05, 0, 1) for shell, number in shells.items())
        assert found[17 + place] == pytest.approx(count / (4 / 3 * np.pi * radius**3))


def test_composition_is_that_of_the_atoms() -> None:
    salt = AtomicSystem.from_fractional([11, 17, 17], [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0, 0]], 5 * np.eye(3))
    rows = _properties()[[11, 17, 17]]
    wanted = np.concatenate([rows.min(0), rows.max(0), rows.mean(0), rows.std(0)])
    np.testing.assert_allclose(fingerprints([salt])[0, :16], wanted, atol=1e-12)
    assert rows[0].tolist()[:3] == [3, 1, 0.93]


def test_fingerprints_do_not_depend_on_cell_rotation_or_order(mp20: list[AtomicSystem]) -> None:
    rng = np.random.default_rng(0)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    for system in mp20[:10]:
        order = rng.permutation(len(system))
        turned = AtomicSystem(system.numbers[order], system.positions[order] @ rotation, system.cell @ rotation)
        doubled = AtomicSystem(
            np.tile(system.numbers, 2),
            np.concatenate([system.positions, system.positions + system.cell[1]]),
            system.cell * np.array([[1], [2], [1]]),
        )
        found = fingerprints([system, turned, doubled, niggli(system)])
        np.testing.assert_allclose(found - found[0], 0, atol=1e-7)


def test_a_set_covers_itself_and_swapped_elements_do_not(mp20: list[AtomicSystem]) -> None:
    same = neighbour_coverage(mp20, mp20)
    assert same.coverage == 1 and same.precision == 1 and same.within.all() and same.covered.all()
    assert len(same.reference) == len(mp20)
    rng = np.random.default_rng(0)
    swapped = [AtomicSystem(rng.permutation(np.arange(1, 90))[: len(s)], s.positions, s.cell) for s in mp20]
    other = neighbour_coverage(swapped, mp20)
    assert other.coverage < 0.6 and other.expected == same.expected
    half = neighbour_coverage(mp20[::2], mp20[1::2])
    assert other.precision < half.precision


def test_bad_crystals_are_outside(mp20: list[AtomicSystem]) -> None:
    crushed = AtomicSystem([26, 26], [[0, 0, 0], [0.1, 0, 0]], 4 * np.eye(3))
    sheet = AtomicSystem([6], [[0, 0, 0]], np.diag([0.6, 0.6, 1e7]))
    found = neighbour_coverage([*mp20, crushed, sheet], mp20)
    assert found.within.tolist() == [True] * len(mp20) + [False, False]
    assert found.precision == pytest.approx(len(mp20) / (len(mp20) + 2))
    assert found.expected == expected_coverage(len(mp20), len(mp20))


def test_the_reference_is_drawn_by_its_seed(mp20: list[AtomicSystem]) -> None:
    drawn = [neighbour_coverage(mp20[:3], mp20, most=20, seed=seed).reference.tolist() for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2] and len(drawn[0]) == 20


def test_too_little_is_no_figure(mp20: list[AtomicSystem], qm9: list[AtomicSystem]) -> None:
    few = neighbour_coverage(mp20, mp20[:5])
    assert np.isnan(few.coverage) and np.isnan(few.expected) and np.isnan(few.precision)
    none = neighbour_coverage([], mp20)
    assert none.coverage == 0 and none.expected == 0 and np.isnan(none.precision)
    with pytest.raises(InvalidInputError, match="must be positive"):
        neighbour_coverage(mp20, mp20, neighbours=0)
    with pytest.raises(InvalidInputError, match="is a molecule"):
        neighbour_coverage(qm9, mp20)
