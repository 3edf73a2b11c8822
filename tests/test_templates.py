"""Variations of structures: what they start from, and how near they stay."""

from __future__ import annotations

import re
import warnings
from dataclasses import replace
from pathlib import Path

import ase.build
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adit.convert import read
from adit.data.prepare import load
from adit.errors import InvalidInputError
from adit.eval.molecules import validity
from adit.flow.solver import SOLVERS
from adit.generate import Generator
from adit.matching import StructureMatcher
from adit.packing import as_system
from adit.system import AtomicSystem
from adit.templates import DEFAULT_STRENGTH, molecule_order, templates_from

TINY = Path(__file__).parent / "fixtures" / "tiny_dataset"
WATER = AtomicSystem([1, 8, 1], [[0.76, 0.59, 0.0], [0.0, 0.0, 0.0], [-0.76, 0.59, 0.0]])
ETHANOL = AtomicSystem(
    [6, 6, 8, 1, 1, 1, 1, 1, 1],
    [[-0.89, -0.2, 0], [0.47, 0.45, 0], [1.5, -0.5, 0], [-1, -0.84, 0.88], [-1, -0.84, -0.88], [-1.68, 0.56, 0],
     [0.58, 1.09, 0.88], [0.58, 1.09, -0.88], [2.36, -0.06, 0]],
)  # fmt: skip
SALT = AtomicSystem.from_fractional(
    [11, 17], [[0, 0, 0], [0.5, 0.5, 0.5]], [[0, 2.8, 2.8], [2.8, 0, 2.8], [2.8, 2.8, 0]]
)


@pytest.fixture(scope="module")
def generator() -> Generator:
    threads = torch.get_num_threads()
    made = Generator.from_pretrained(device="cpu", threads=1)
    torch.set_num_threads(threads)
    return made


def held_out(periodic: bool, n: int) -> list[AtomicSystem]:
    return [system for system in load(TINY) if system.is_periodic == periodic][:n]


def test_a_little_noise_gives_molecules_back_and_much_gives_others(generator: Generator) -> None:
    templates = held_out(False, 30)
    known, shares = validity(templates), {}
    for strength in (0.2, 1.0):
        made = generator.sample(len(templates), like=templates, strength=strength)
        assert [one.info["like"] for one in made] == list(range(len(templates)))
        shares[strength] = np.mean([a == b for a, b in zip(validity(made), known, strict=True)])
    assert shares[0.2] > 0.8 and shares[1.0] < 0.4


def test_a_little_noise_gives_crystals_back(generator: Generator) -> None:
    templates = held_out(True, 20)
    matcher = StructureMatcher(ltol=0.3, stol=0.5, angle_tol=10)
    near = generator.sample(20, "crystal", like=templates, strength=0.2)
    assert [one.formula for one in near] == [one.formula for one in templates]
    assert np.mean([matcher.fit(a, b) for a, b in zip(near, templates, strict=True)]) > 0.8


def test_crystals_come_back_whatever_the_order_of_their_atoms(generator: Generator) -> None:
    """Elements by turns and not one after the other: exactly the same variations."""
    crystals = [one for one in held_out(True, 20) if len(set(one.numbers.tolist())) > 1]
    mixed = []
    for one in crystals:
        turn = [int((one.numbers[:k] == number).sum()) for k, number in enumerate(one.numbers)]
        order = np.lexsort((one.numbers, turn))
        mixed.append(AtomicSystem(one.numbers[order], one.positions[order], one.cell))
    assert any((a.numbers != b.numbers).any() for a, b in zip(crystals, mixed, strict=True))
    near, nearer = (generator.sample(len(mixed), "crystal", like=given, strength=0.2) for given in (crystals, mixed))
    for a, b in zip(near, nearer, strict=True):
        np.testing.assert_array_equal(a.numbers, b.numbers)
        np.testing.assert_allclose(a.positions, b.positions, atol=1e-4)


def test_a_crystal_is_given_another_composition(generator: Generator) -> None:
    made = generator.sample(4, "crystal", like=SALT, strength=0.5, formula="KBr")
    assert [one.formula for one in made] == [
        AtomicSystem.from_fractional([19, 35], [[0] * 3, [0.5] * 3], SALT.cell).formula
    ] * 4


def test_full_strength_forgets_the_template(generator: Generator) -> None:
    stretched = replace(ETHANOL, positions=3 * ETHANOL.positions)
    first, second = (generator.sample(4, like=one, strength=1.0, seed=3) for one in (ETHANOL, stretched))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.positions, b.positions)
    first, second = (generator.sample(4, like=one, strength=0.3, seed=3) for one in (ETHANOL, stretched))
    assert not any(np.allclose(a.positions, b.positions, atol=0.1) for a, b in zip(first, second, strict=True))


def test_a_sample_does_not_depend_on_its_company(generator: Generator) -> None:
    options = {"like": [ETHANOL, WATER], "seed": 5, "steps": 8, "batch_size": 4}
    whole = generator.sample(8, **options)
    rest = [one for block in generator.stream(8, start=4, **options) for one in block]
    assert whole[4:] == rest
    assert [len(one) for one in whole] == [9, 3] * 4 and [one.info["like"] for one in rest] == [0, 1, 0, 1]
    assert len({one.positions.tobytes() for one in whole}) == 8
    calm = options | {"solver": "euler", "guide": 1.0, "strength": 0.3}  # rounding differs with the company
    alone, among = generator.sample(1, **calm)[0], generator.sample(8, **calm)[0]
    assert np.abs(alone.positions - among.positions).max() < 0.1


@pytest.mark.parametrize("solver", SOLVERS)
def test_every_solver_starts_in_between(generator: Generator, solver: str) -> None:
    made = generator.sample(4, like=ETHANOL, strength=0.15, solver=solver, guide=1.0)
    assert validity(made) == validity([ETHANOL]) * 4


def test_what_templates_become() -> None:
    found = templates_from("molecule", [WATER, ETHANOL], None)
    assert found.begin == 1 - DEFAULT_STRENGTH
    assert (
        found.systems[0].numbers.tolist() == [8, 1, 1] and found.systems[1].numbers.tolist() == ETHANOL.numbers.tolist()
    )
    size, counts = found.choice(7)
    assert size == 9 and counts is not None and counts[[0, 5, 7]].tolist() == [6, 2, 1] and counts.sum() == 9
    assert templates_from("molecule", WATER, 0.5, "any").choice(0) == (3, None)
    told = templates_from("molecule", WATER, 0.5, "H2S").choice(1)[1]
    assert told is not None and told[[0, 15]].tolist() == [2, 1]
    assert templates_from("molecule", WATER.to_ase()).systems == templates_from("molecule", [WATER]).systems
    skewed = AtomicSystem(SALT.numbers, SALT.positions + 50, np.array([[1, 3, 0], [0, 1, 0], [0, 0, 1]]) @ SALT.cell)
    (reduced,) = templates_from("crystal", skewed, 0.5).systems
    assert StructureMatcher().fit(reduced, SALT)
    np.testing.assert_allclose(np.linalg.norm(reduced.cell, axis=1), 2.8 * 2**0.5, atol=1e-6)


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ([16, 1, 1], "structure 1 (H2S) has S, which none has"),
        ([6] * 10 + [1] * 8, "has 10 atoms besides hydrogen; what"),
    ],
)
def test_what_the_network_does_not_know_is_warned_of(generator: Generator, numbers: list[int], words: str) -> None:
    strange = AtomicSystem(numbers, 1.3 * np.arange(3 * len(numbers)).reshape(-1, 3) % 7)
    with pytest.warns(UserWarning, match=re.escape(words)):
        generator.stream(1, like=[WATER, strange])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        generator.stream(1, like=[WATER, ETHANOL])
        generator.stream(1, "crystal", like=SALT)


def test_molecules_stand_as_their_smiles_do() -> None:
    for molecule in held_out(False, 40):
        given = molecule_order(molecule)
        assert given == list(range(len(molecule))), "as the data set has them"
        mixed = np.random.default_rng(len(molecule)).permutation(len(molecule))
        other = AtomicSystem(molecule.numbers[mixed], molecule.positions[mixed])
        order = molecule_order(other)
        assert sorted(order) == list(range(len(molecule)))
        again = AtomicSystem(other.numbers[order], other.positions[order])
        assert molecule_order(again) == list(range(len(molecule))), "which is such an order"
        heavy = int((molecule.numbers != 1).sum())
        assert (again.numbers[:heavy] != 1).all() and (again.numbers[heavy:] == 1).all()


def test_the_order_of_a_file_does_not_matter(generator: Generator) -> None:
    templates = held_out(False, 30)
    rng = np.random.default_rng(0)
    mixed = [AtomicSystem(t.numbers[o], t.positions[o]) for t in templates for o in [rng.permutation(len(t))]]
    made = validity(generator.sample(30, like=mixed, strength=0.2))
    assert np.mean([a == b for a, b in zip(made, validity(templates), strict=True)]) > 0.8


@pytest.mark.parametrize(
    ("system", "like", "options", "words"),
    [
        ("molecule", [], {}, "holds no structure"),
        ("molecule", [WATER, SALT], {}, "structure 1 is a crystal; `system` is 'molecule'"),
        ("crystal", WATER, {}, "structure 0 is a molecule"),
        ("molecule", AtomicSystem([], np.zeros((0, 3))), {}, "structure 0: no atoms"),
        ("molecule", AtomicSystem([6] * 2049, np.arange(6147.0).reshape(-1, 3)), {}, "has 2049 atoms; at most 2048"),
        ("molecule", WATER, {"strength": 0}, "`strength` must lie above 0"),
        ("molecule", WATER, {"strength": 1.01}, "`strength` must lie above 0"),
        ("molecule", WATER, {"strength": float("nan")}, "`strength` must lie above 0"),
        ("molecule", WATER, {"strength": "much"}, "`strength` must lie above 0"),
        ("molecule", WATER, {"atoms": 3}, "`atoms` and `like` contradict"),
        ("molecule", WATER, {"formula": "training"}, "`formula` 'training' and `like` contradict"),
        ("molecule", [ETHANOL, WATER], {"formula": "C2H6O"}, "has 9 atoms, a template 3"),
        ("molecule", WATER, {"formula": "Xx"}, "Xx"),
        ("molecule", "mine.sdf", {}, r"got str. Files are read by adit\.read"),
        ("molecule", None, {"strength": 0.5}, "`strength` says how far from the structures of `like`"),
    ],
)
def test_what_cannot_be_a_template_is_refused(
    generator: Generator, system: str, like: object, options: dict[str, object], words: str
) -> None:
    with pytest.raises(InvalidInputError, match=words):
        generator.stream(1, system, like=like, **options)  # type: ignore[arg-type]


def test_vacuum_is_warned_of(generator: Generator) -> None:
    """Slabs have it, crystals have not, layered ones neither, however the cell is put."""
    slab = as_system(ase.build.fcc111("Cu", (1, 1, 3), a=3.6, vacuum=6.0, periodic=True))
    graphite = AtomicSystem.from_fractional(
        [6] * 4, [[0, 0, 0], [1 / 3, 2 / 3, 0], [0, 0, 0.5], [2 / 3, 1 / 3, 0.5]],
        [[2.46, 0, 0], [-1.23, 2.13, 0], [0, 0, 6.7]],
    )  # fmt: skip
    assert slab.cell is not None
    skewed = AtomicSystem(slab.numbers, slab.positions + 7.3, [[1, 0, 0], [3, 1, 0], [1, -2, 1]] @ slab.cell)
    assert templates_from("crystal", [graphite]).hollow == ""
    assert templates_from("crystal", [graphite, skewed]).hollow == "structure 1 (Cu3) has 12 Angstrom of vacuum"
    with pytest.warns(UserWarning, match=r"`like`, structure 0 \(Cu3\) has 12 Angstrom of vacuum, which hardly any"):
        generator.stream(1, "crystal", like=slab)


@settings(deadline=None)
@given(
    st.integers(1, 6),
    st.sampled_from([1e-3, 1.0, 1e4]),
    st.floats(0.01, 3.0),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_any_structure_becomes_a_finite_batch_or_is_refused(
    n: int, size: float, skew: float, periodic: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    cell = size * (np.eye(3) + np.triu(rng.normal(size=(3, 3)) * skew, 1))
    numbers, positions = rng.integers(1, 101, n), size * rng.normal(size=(n, 3)) * 10
    try:
        one = AtomicSystem(numbers, positions, cell if periodic else None)
    except InvalidInputError:
        return  # flat
    try:
        found = templates_from("crystal" if periodic else "molecule", [one, one], 0.3)
    except InvalidInputError as error:
        assert "structure 0" in str(error)
        return
    batch = found.batch([0, 1, 2], [np.random.default_rng(k) for k in range(3)])
    assert batch.n_systems == 3 and batch.n_atoms == n
    assert all(tensor.isfinite().all() for tensor in (batch.cartesian, batch.fractional, batch.lattice))
    distances = torch.cdist(batch.cartesian.double(), batch.cartesian.double())
    torch.testing.assert_close(distances[0], distances[2], atol=1e-5 * max(1, 100 * size), rtol=1e-4)


def test_reading_from_a_file_that_was_written(generator: Generator, tmp_path: Path) -> None:
    from adit.convert import write

    write(tmp_path / "v.extxyz", generator.sample(3, like=[ETHANOL, WATER], strength=0.3))
    assert [one.info["like"] for one in read(tmp_path / "v.extxyz")] == [0, 1, 0]
