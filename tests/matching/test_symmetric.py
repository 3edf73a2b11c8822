"""The convention "symmetric", and what both have in common."""

from __future__ import annotations

import re
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pymatgen.core import Lattice, Structure

import adit
from adit.errors import InvalidInputError
from adit.matching import StructureMatcher
from adit.packing import pack
from adit.system import AtomicSystem

DOCS = Path(__file__).parents[2] / "docs" / "matching.md"
CONVENTIONS = ("symmetric", "pymatgen")


@pytest.fixture(scope="module")
def matcher():
    return StructureMatcher()


def test_rattled_copies_match(made, mp20, matcher):
    """pymatgen loses some of these, because noise hides the smaller cell."""
    rng = np.random.default_rng(0)
    structures = [made.recelled(structure, rng, 1 + k % 3) for k, structure in enumerate(mp20[:60])]
    copies = [made.recelled(made.rattled(structure, rng, 0.05), rng) for structure in structures]
    assert matcher.fit_pairs(structures, copies).all()
    assert not StructureMatcher(convention="pymatgen").fit_pairs(structures, copies).all()


def test_order_of_arguments(made, mp20, matcher):
    drawn = made.pairs(mp20, 270, seed=1)
    left, right = (matcher.reduce([pair[side] for pair in drawn]) for side in (1, 2))
    there, back = matcher.rms_pairs(left, right), matcher.rms_pairs(right, left)
    np.testing.assert_array_equal(there, back)
    fits = matcher.fit_pairs(left, right)
    assert (fits == ~np.isnan(there[:, 0])).all()
    assert (fits == matcher.fit_pairs(right, left)).all()
    assert 90 < fits.sum() < 210
    old = StructureMatcher(convention="pymatgen")
    left, right = (old.reduce([pair[side] for pair in drawn]) for side in (1, 2))
    assert (old.fit_pairs(left, right) != old.fit_pairs(right, left)).any(), "else there is nothing to mend"


def test_how_it_is_written(made, mp20, matcher):
    rng = np.random.default_rng(2)
    drawn = made.pairs(mp20, 90, seed=2)
    others = [pair[2] for pair in drawn]
    rewritten = [made.recelled(other, rng, 1 + k % 2) for k, other in enumerate(others)]
    one = matcher.reduce([pair[1] for pair in drawn])
    np.testing.assert_allclose(matcher.rms_pairs(one, others), matcher.rms_pairs(one, rewritten), atol=1e-4)


def test_groups_do_not_depend_on_the_order(made, matcher):
    rng = np.random.default_rng(3)
    seeds = [made.carbon(rng, 5) for _ in range(4)]
    structures = [made.rattled(seed, rng, 0.25) for seed in seeds for _ in range(6)]
    groups = {frozenset(map(id, group)) for group in matcher.group_structures(structures)}
    assert 4 <= len(groups) < 24
    for _ in range(3):
        rng.shuffle(structures)
        assert {frozenset(map(id, group)) for group in matcher.group_structures(structures)} == groups


def test_prefilters_change_nothing(made, mp20):
    drawn = made.pairs(mp20, 180, seed=5)
    for convention in CONVENTIONS:
        results = []
        for prefilter in (True, False):
            both = []
            for side in (1, 2):
                batch = pack([pair[side] for pair in drawn])
                both.append(
                    adit.matching._rust.Crystals(
                        *batch[:4],
                        ltol=0.2,
                        stol=0.3,
                        angle_tol=5,
                        primitive_cell=True,
                        scale=True,
                        attempt_supercell=False,
                        convention=convention,
                        prefilter=prefilter,
                    )
                )
            pairs = np.repeat(np.arange(180), 2).reshape(-1, 2)
            results.append((both[0].fit_pairs(both[1], pairs, False), both[0].rms_pairs(both[1], pairs)))
        assert (results[0][0] == results[1][0]).all()
        np.testing.assert_array_equal(results[0][1], results[1][1])


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_batches_lists_and_threads(made, mp20, convention):
    rng = np.random.default_rng(6)
    structures = [made.rattled(structure, rng, 0.1) for structure in (*mp20[:20], *mp20[:10])]
    one, three = (StructureMatcher(convention=convention, threads=threads) for threads in (1, 3))
    held = one.reduce(structures)
    everything = [(i, j) for i in range(30) for j in range(30)]
    fits = one.fit_pairs(held, held, everything)
    assert (fits == three.fit_pairs(structures, structures, everything)).all()
    assert (one.group_labels(held) == three.group_labels(structures)).all()
    first = three.first_matches(structures, structures[:15])
    table = fits.reshape(30, 30)[:, :15]
    assert (first == np.where(table.any(axis=1), table.argmax(axis=1), -1)).all()
    assert (three.novel(held, structures[:15]) == (first < 0)).all()
    assert one.fit(structures[0], structures[20]) == fits[20]
    assert one.novel(structures[0], structures[20:]) is (not one.fit_pairs([structures[0]] * 10, structures[20:]).any())


def test_every_kind_of_input(mp20, matcher):
    structure = mp20[0]
    system = AtomicSystem(structure.atomic_numbers, structure.cart_coords, structure.lattice.matrix)
    forms = [structure, system, system.to_ase()]
    assert all(matcher.fit(one, other) for one in forms for other in forms)
    data = adit.PackedDataset.from_systems([system, system])
    assert matcher.group_labels(data).tolist() == [0, 0]
    assert matcher.get_rms_dist(system, structure) == pytest.approx((0, 0), abs=1e-6)


def test_supercells(matcher):
    salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.6), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    large = salt * (1, 1, 3)
    given_cells = StructureMatcher(primitive_cell=False)
    assert matcher.fit(salt, large) and not given_cells.fit(salt, large)
    supercells = StructureMatcher(primitive_cell=False, attempt_supercell=True)
    assert supercells.fit(salt, large) and supercells.fit(large, salt)


def test_scale():
    salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.6), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    large = Structure(Lattice(1.3 * salt.lattice.matrix), salt.species, salt.frac_coords)
    assert StructureMatcher().fit(salt, large)
    assert not StructureMatcher(scale=False).fit(salt, large)


NASTY = st.one_of(st.floats(-20, 20), st.floats(allow_nan=True, allow_infinity=True), st.sampled_from([0.0, 1e-8, 1e8]))


@settings(max_examples=60, deadline=None)
@given(
    cell=arrays(float, (3, 3), elements=NASTY), places=arrays(float, (4, 3), elements=NASTY), count=st.integers(0, 4)
)
def test_nasty_numbers(cell, places, count):
    for convention in CONVENTIONS:
        matcher = StructureMatcher(convention=convention, threads=1)
        packed = adit.packing.Packed(
            np.full(count, 6, np.uint8),
            np.ascontiguousarray(places[:count]),
            np.ascontiguousarray(cell[None]),
            np.array([0, count]),
            np.array([True]),
        )
        held = matcher.reduce(packed)
        assert matcher.fit_pairs(held, held)[0] <= held.comparable()[0]
        if not np.isfinite(cell).all() or not np.isfinite(places[:count]).all() or count == 0:
            assert not held.comparable()[0]


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_time_is_bounded(convention):
    rng = np.random.default_rng(7)
    matcher = StructureMatcher(convention=convention, threads=1)
    places = rng.random((1000, 3))
    crystals = [
        AtomicSystem.from_fractional([6] * 1000, places, 20 * np.eye(3)),
        AtomicSystem.from_fractional([6] * 8, rng.random((8, 3)), np.diag([1.5, 1.5, 90.0])),
        AtomicSystem.from_fractional([6] * 8, rng.random((8, 3)), np.diag([1.0, 50.0, 50.0])),
        AtomicSystem.from_fractional([6] * 2, rng.random((2, 3)), np.diag([1.0, 1.0, 1e5])),
        AtomicSystem.from_fractional([6], [[0, 0, 0]], 1e3 * np.eye(3)),
    ]
    start = time.perf_counter()
    found = [matcher.fit(crystal, crystal) for crystal in crystals]
    assert time.perf_counter() - start < 20
    assert found == [True, True, True, False, True]
    assert matcher.comparable(crystals).tolist() == found


def test_nothing_to_compare(matcher):
    empty = AtomicSystem.from_fractional([], [], np.eye(3))
    assert matcher.comparable([empty]).tolist() == [False]
    assert not matcher.fit(empty, empty)
    assert matcher.group_structures([]) == []
    assert (
        len(matcher.fit_pairs([], []))
        == len(matcher.novel([], []))
        == len(matcher.rms_pairs([empty], [empty], []))
        == 0
    )


def test_bad_input_is_named(matcher):
    salt = AtomicSystem.from_fractional([11, 17], [[0, 0, 0], [0.5, 0.5, 0.5]], 4 * np.eye(3))
    atom = AtomicSystem([1], [[0, 0, 0]])
    for compare in (matcher.fit, matcher.fit_anonymous, matcher.get_rms_dist):
        for name, pair in (("struct1", (atom, salt)), ("struct2", (salt, atom))):
            with pytest.raises(InvalidInputError, match=f"`{name}` must be a crystal; got the molecule H"):
                compare(*pair)
        with pytest.raises(InvalidInputError, match="`struct2`: a system must be an AtomicSystem"):
            compare(salt, "salt.cif")  # type: ignore[arg-type]
    for name, call in (
        ("systems", lambda: matcher.novel([salt, atom], [salt])),
        ("against", lambda: matcher.novel([salt], [salt, atom])),
        ("left", lambda: matcher.fit_pairs([salt, atom], [salt, salt])),
        ("right", lambda: matcher.rms_pairs([salt, salt], [salt, atom])),
    ):
        with pytest.raises(InvalidInputError, match=f"`{name}` must be crystals; system 1 is a molecule"):
            call()
    with pytest.raises(InvalidInputError, match="`convention` must be one of 'symmetric', 'pymatgen'; got \"mine\""):
        StructureMatcher(convention="mine")  # type: ignore[arg-type]
    for name in ("ltol", "stol", "angle_tol"):
        with pytest.raises(InvalidInputError, match=f"`{name}` must be positive and at most .*; got -1"):
            StructureMatcher(**{name: -1})
    with pytest.raises(InvalidInputError, match="`left` and `right` must be equally long"):
        matcher.fit_pairs([salt], [])
    with pytest.raises(InvalidInputError, match=re.escape("shape (P, 2); got float64 (1, 2)")):
        matcher.fit_pairs([salt], [salt], [[0.5, 0]])
    with pytest.raises(InvalidInputError, match="indices from 0 to 1"):
        matcher.fit_pairs([salt], [salt], [[0, 1]])
    with pytest.raises(InvalidInputError, match="same options"):
        matcher.novel(StructureMatcher(stol=0.5).reduce([salt]), [salt])
    many = AtomicSystem.from_fractional(np.arange(1, 10), np.random.default_rng(0).random((9, 3)), 9 * np.eye(3))
    with pytest.raises(InvalidInputError, match="40320 ways of renaming its elements; got 362880"):
        matcher.fit_anonymous(many, many)


def test_the_guide_runs(capsys):
    blocks = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    for block in blocks:
        exec(compile(block, str(DOCS), "exec"), {})
    assert capsys.readouterr().out.splitlines() == ["True (0.0, 0.0)", "2", "[False False]", "[ True False]"]
