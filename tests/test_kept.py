"""Samples that hold atoms that are known beforehand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Lattice, Structure
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer
from scipy.spatial.transform import Rotation

from adit.batch import SystemBatch
from adit.data.prepare import load
from adit.data.standard import standardise
from adit.elements import composition
from adit.errors import InvalidInputError
from adit.generate import Generator
from adit.kept import fit_rigid, fit_shift, kept_from
from adit.packing import element_counts, pack
from adit.system import AtomicSystem

TINY = Path(__file__).parent / "fixtures" / "tiny_dataset"
METHYL = AtomicSystem(
    [6, 1, 1, 1], [[5, 5, 5], [5.63, 5.63, 5.63], [4.37, 4.37, 5.63], [5.63, 4.37, 4.37]]
)  # as one of methane's hydrogens leaves it
SPINEL = Structure.from_spacegroup(
    "Fd-3m", Lattice.cubic(8.1), ["Li", "Mn", "O"], [[0, 0, 0], [0.625, 0.625, 0.625], [0.3875, 0.3875, 0.3875]]
).get_primitive_structure()
HOST = Structure.from_sites([site for site in SPINEL if site.specie.symbol != "Li"])


@pytest.fixture(scope="module")
def generator() -> Generator:
    return Generator.from_pretrained("joint-tiny", device="cpu")


def batch_of(systems: list[AtomicSystem]) -> SystemBatch:
    return SystemBatch.from_arrays(
        np.stack([one.numbers for one in systems]),
        np.stack([one.positions for one in systems]),
        np.stack([np.eye(3) if one.cell is None else one.cell for one in systems]),
        np.array([one.is_periodic for one in systems]),
    )


@pytest.mark.filterwarnings("ignore:Optimal rotation")  # of one or two atoms
@settings(deadline=None)
@given(st.integers(1, 8), st.integers(0, 10**6))
def test_the_rigid_fit_is_scipys(atoms: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    known, made = rng.normal(size=(atoms, 3)), rng.normal(size=(2, atoms, 3)) + 3
    turn, centre = fit_rigid(torch.tensor(known), torch.tensor(made))
    assert torch.linalg.det(turn).numpy() == pytest.approx([1, 1])
    torch.testing.assert_close(turn @ turn.mT, torch.eye(3, dtype=turn.dtype).expand(2, 3, 3), atol=1e-9, rtol=0)
    for k in range(2):
        moved = (known - known.mean(0)) @ turn[k].numpy() + centre[k].numpy()
        own = ((moved - made[k]) ** 2).sum()
        _, rssd = Rotation.align_vectors(made[k] - made[k].mean(0), known - known.mean(0)) if atoms > 1 else (0, 0.0)
        assert own == pytest.approx(rssd**2, abs=1e-7)


@given(st.integers(1, 8), st.integers(0, 10**6))
def test_a_shift_along_the_edges_is_found(atoms: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    known, shift = rng.random((atoms, 3)), rng.random((3, 1, 3))
    made = (known + shift + rng.integers(-2, 3, (3, atoms, 3))) % 1
    apart = fit_shift(torch.tensor(known), torch.tensor(made)).numpy() - shift
    np.testing.assert_allclose(apart, np.round(apart), atol=1e-9)


@settings(deadline=None, max_examples=30)
@given(st.data())
def test_parts_find_their_places(data: Any) -> None:
    """In structures of the data set any part of a crystal is of the elements that stand where it is put, and the first
    heavy atoms of a molecule are the first; hydrogens come after all heavy atoms."""
    systems = [one for one in standardise(list(load(TINY))) if isinstance(one, AtomicSystem) and len(one) > 3]
    whole = data.draw(st.sampled_from(systems))
    (counts,) = element_counts(pack([whole]))[:, 1:]
    if whole.is_periodic:
        rows = data.draw(st.permutations(range(len(whole))))[: data.draw(st.integers(1, len(whole) - 1))]
        part = AtomicSystem(whole.numbers[rows], whole.positions[rows], whole.cell)
        slots = kept_from("crystal", part, None).slots(0, counts)
        assert len(set(slots.tolist())) == len(rows)
        assert whole.numbers[slots].tolist() == part.numbers.tolist()
    else:
        heavy = np.flatnonzero(whole.numbers != 1)
        rows = heavy[: data.draw(st.integers(1, len(heavy)))]
        kept = kept_from("molecule", AtomicSystem(whole.numbers[rows], whole.positions[rows]), None)
        assert sorted(kept.slots(0, counts)) == list(range(len(rows)))
        both = kept_from("molecule", METHYL, None)
        assert both.slots(7, composition("C3H8")).tolist() == [0, 3, 4, 5]


def test_what_is_in_its_place_stays_there() -> None:
    """Whole structures, turned and shifted, that hold their own part; and one whose part is 0.3 Angstrom away."""
    for periodic in (False, True):
        whole = next(one for one in load(TINY) if one.is_periodic == periodic and len(one) > 4)
        (counts,) = element_counts(pack([whole]))[:, 1:]
        rows = [0, 1]
        turned = whole.positions @ Rotation.from_euler("xyz", [0.3, 1, 2]).as_matrix().T
        part = AtomicSystem(whole.numbers[rows], whole.positions[rows] if periodic else turned[rows], whole.cell)
        shifted = AtomicSystem(whole.numbers, whole.positions + 0.7, whole.cell)
        farther = whole.positions.copy()
        along = farther[1] - farther[0]
        farther[1] += 0.6 * along / np.linalg.norm(along)  # half of it, 0.3, for each of the two
        batch = batch_of([shifted, AtomicSystem(whole.numbers, farther, whole.cell)])
        kept = kept_from("crystal" if periodic else "molecule", part, None)
        assert kept.slots(0, counts).tolist() == rows
        placed, apart = kept.place(batch, [0, 5], [kept.slots(0, counts), kept.slots(5, counts)])
        assert apart == pytest.approx([0, 0.3], abs=2e-3)
        torch.testing.assert_close(placed.cartesian[0], batch.cartesian[0], atol=1e-4, rtol=0)
        move = placed.fractional[0] - batch.fractional[0]
        torch.testing.assert_close(move, move.round(), atol=1e-4, rtol=0)
        assert (placed.numbers == batch.numbers).all()


def test_lithium_finds_its_place_in_spinel(generator: Generator) -> None:
    made = generator.sample(6, "crystal", keep=HOST, formula="Li2Mn4O8", steps=25)
    matcher = StructureMatcher()
    good = 0
    for one in made:
        np.testing.assert_array_equal(one.numbers[:12], [site.specie.Z for site in HOST])
        assert one.formula == "Li2Mn4O8" and one.info["keep_rmsd"] < 0.2 and "cell_misfit" in one.info
        crystal = one.to_pymatgen()
        assert abs(crystal.volume - HOST.volume) < 1e-6
        apart = (one.positions[:12] - HOST.cart_coords) @ np.linalg.inv(HOST.lattice.matrix)
        np.testing.assert_allclose(apart, np.round(apart), atol=1e-9)
        if matcher.fit(crystal, SPINEL):
            good += 1
            assert SpacegroupAnalyzer(crystal, symprec=0.3).get_space_group_number() == 227
    assert good >= 4


def test_molecules_hold_the_scaffold_where_it_is(generator: Generator) -> None:
    made = generator.sample(12, keep=METHYL, steps=20)
    for one in made:
        np.testing.assert_array_equal(one.numbers[:4], METHYL.numbers)
        np.testing.assert_allclose(one.positions[:4], METHYL.positions, atol=1e-9)
        assert len(one) > 4 and one.info["keep_rmsd"] < 1
    assert len({one.formula for one in made}) > 6
    kept = kept_from("molecule", METHYL, None)
    assert kept.intact(made).mean() > 0.6
    squeezed = AtomicSystem([6, 1, 1, 1, 6], [*METHYL.positions, METHYL.positions[0] + [0.9, -0.9, 0.9]])
    torn = AtomicSystem([6, 1, 1, 1], METHYL.positions * [[1], [1], [1], [2]])
    assert kept.intact([squeezed, torn]).tolist() == [True, False]


def test_several_come_one_after_the_other_whatever_the_blocks(generator: Generator) -> None:
    hydroxyl = AtomicSystem([8, 1], [[0, 0, 0], [0.96, 0, 0]])
    made = generator.sample(6, keep=[METHYL, hydroxyl], steps=3)
    alone = generator.sample(6, keep=[METHYL, hydroxyl], steps=3, batch_size=2)
    for k, (one, other) in enumerate(zip(made, alone, strict=True)):
        part = (METHYL, hydroxyl)[k % 2]
        np.testing.assert_array_equal(one.numbers[: len(part)], part.numbers)
        assert one.formula == other.formula and one.info["id"] == other.info["id"]
    for one, other in zip(made, generator.sample(6, keep=[METHYL, hydroxyl], steps=3), strict=True):
        np.testing.assert_array_equal(one.positions, other.positions)


def test_it_goes_with_properties_sizes_and_elements(generator: Generator) -> None:
    for more in (
        {"atoms": (10, 14)}, {"formula": "C3H8O"}, {"elements": "O"}, {"properties": {"gap": 0.25}},
    ):  # fmt: skip
        made = generator.sample(3, keep=METHYL, steps=3, **more)
        for one in made:
            np.testing.assert_allclose(one.positions[:4], METHYL.positions, atol=1e-9)
            assert 10 <= len(one) <= 14 or "atoms" not in more
            assert len(one) == 12 or "formula" not in more
    cells = generator.sample(4, "crystal", keep=HOST, formula="LiMn2O4", atoms=(13, 15), steps=2)
    assert {one.formula for one in cells} == {"Li2Mn4O8"}


def test_what_runs_to_infinity_is_refused(generator: Generator) -> None:
    for part, more in ((METHYL, {}), (HOST, {"system": "crystal", "formula": "Li2Mn4O8"})):
        with pytest.raises(InvalidInputError, match="ran to infinity"):
            generator.sample(2, keep=part, steps=4, cfg=1e30, **more)


@pytest.mark.filterwarnings("ignore:nothing in the training set")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keep": []}, "`keep` holds no structure"),
        ({"keep": HOST}, "`keep`, structure 0 is a crystal; `system` is 'molecule'"),
        ({"keep": METHYL, "system": "crystal", "formula": "CH4"}, "structure 0 is a molecule; `system` is 'crystal'"),
        ({"keep": [METHYL, AtomicSystem([], np.zeros((0, 3)))]}, "`keep`, structure 1 has 0 atoms"),
        ({"keep": AtomicSystem([6], [[1e6, 0, 0]])}, "more than 100000 Angstrom from the origin"),
        ({"keep": METHYL, "formula": "any"}, "`keep` needs a `formula`, that of the whole; got 'any'"),
        ({"keep": HOST, "system": "crystal"}, "`keep` needs a `formula`, that of the whole; got 'new'"),
        ({"keep": METHYL, "formula": "CH2O"}, "`formula` CH2O has not all of CH3"),
        ({"keep": METHYL, "formula": "CH3"}, "`formula` CH3 leaves no atom to be found"),
        ({"keep": METHYL, "atoms": 4}, "no formula that can be drawn has CH3 and more"),
        ({"keep": METHYL, "atoms": (200, 300)}, "no formula that can be drawn has CH3 and more"),
        ({"keep": HOST, "system": "crystal", "formula": "Li2Mn4O8", "cell": "4,4,4,90,90,90"}, "a cell of its own"),
        ({"keep": METHYL, "like": METHYL, "strength": 0.5}, "`strength` 1"),
        ({"keep": METHYL, "like": METHYL, "strength": 1.0}, "leaves no atom to be found"),
    ],
)  # fmt: skip
def test_what_cannot_be_kept_is_refused(generator: Generator, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=re.escape(message)):
        generator.stream(1, **options)
