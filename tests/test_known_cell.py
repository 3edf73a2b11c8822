"""Crystals in a cell that is known beforehand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Lattice, Structure

from adit.blocks import Group, Run
from adit.decoding import Decoding
from adit.errors import InvalidInputError
from adit.generate import Generator
from adit.known_cell import known_cells
from adit.ops.packing import Packing
from adit.weights.store import SamplingDefaults

RUTILE, ANATASE = "4.594,4.594,2.959,90,90,90", "I, 3.785, 3.785, 9.514, 90, 90, 90"
POINTS = {
    "P": [], "A": [(0, 0.5, 0.5)], "B": [(0.5, 0, 0.5)], "C": [(0.5, 0.5, 0)], "I": [(0.5, 0.5, 0.5)],
    "F": [(0, 0.5, 0.5), (0.5, 0, 0.5), (0.5, 0.5, 0)], "R": [(2 / 3, 1 / 3, 1 / 3), (1 / 3, 2 / 3, 2 / 3)],
}  # fmt: skip


@pytest.fixture(scope="module")
def generator() -> Generator:
    return Generator.from_pretrained("joint-tiny", device="cpu")


@settings(deadline=None)
@given(st.tuples(*[st.floats(1.5, 30)] * 3), st.tuples(*[st.floats(40, 140)] * 3))
def test_cells_are_pymatgens_niggli_cells(lengths: Sequence[float], angles: Sequence[float]) -> None:
    cosines = np.cos(np.deg2rad(angles))
    assume(1 + 2 * cosines.prod() - (cosines**2).sum() > 0.02)
    lattice = Lattice.from_parameters(*lengths, *angles)
    (cell,) = known_cells(",".join(map(repr, (*lengths, *angles))))
    expected = lattice.get_niggli_reduced_lattice(tol=1e-5)
    assert abs(np.linalg.det(cell)) == pytest.approx(lattice.volume, rel=1e-6)
    np.testing.assert_allclose(sorted(np.linalg.norm(cell, axis=1)), sorted(expected.abc), rtol=1e-3)
    np.testing.assert_allclose(known_cells([*lengths, *angles])[0], cell)
    (other,) = known_cells(lattice.matrix)
    np.testing.assert_allclose(other @ other.T, cell @ cell.T, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize(("letter", "points"), POINTS.items())
def test_a_centred_cell_becomes_a_primitive_one(letter: str, points: list[tuple[float, float, float]]) -> None:
    """Of a crystal with an atom at each lattice point pymatgen finds the same cell."""
    lengths = (4.1, 4.1, 6.3) if letter == "R" else (4.1, 5.2, 6.3)
    angles = (90, 90, 120) if letter == "R" else (90, 90, 90)
    whole = Structure(Lattice.from_parameters(*lengths, *angles), ["Po"] * (1 + len(points)), [(0, 0, 0), *points])
    expected = whole.get_primitive_structure().lattice.get_niggli_reduced_lattice()
    (cell,) = known_cells(f"{letter.lower()} {' '.join(map(str, (*lengths, *angles)))}")
    np.testing.assert_allclose(Lattice(cell).parameters, expected.parameters, atol=1e-4)
    assert abs(np.linalg.det(cell)) * (1 + len(points)) == pytest.approx(whole.volume)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("", "`cell` must be a, b, c in Angstrom and alpha, beta, gamma in degrees, such as"),
        ("4,4,4,90,90", "`cell` must be"),
        ("X,4,4,4,90,90,90", "`cell` must be"),
        ("4,4,4,90,90,nan", "`cell` must be"),
        ("4,4,-4,90,90,90", "`cell` must be"),
        (None, "`cell` must be"),
        ([], "`cell` must be"),
        (np.zeros((0, 3, 3)), "`cell` must be"),
        ([4, 4, 4, 90, 90, 90, 1], "`cell` must be"),
        (object(), "`cell` must be"),
        ("4,4,4,60,60,170", "no cell has lengths"),
        ("0.4,4,4,90,90,90", "edges must be 1 to 1,000 Angstrom long; got 0.4 to 4"),
        ("4,4,4e6,90,90,90", "edges must be 1 to 1,000 Angstrom long"),
        (np.ones((3, 3)) * 4, "`cell`: "),
    ],
)  # fmt: skip
def test_what_is_no_cell_is_refused(cell: object, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message.replace("(", r"\(")):
        known_cells(cell)  # type: ignore[arg-type]


def test_samples_have_the_cell_and_the_structure_that_goes_with_it(generator: Generator) -> None:
    """The same formula in the cells of rutile and of anatase."""
    matcher, found = StructureMatcher(), {}
    for name, cell, points in (
        ("P4_2/mnm", RUTILE, [("Ti", (0, 0, 0)), ("O", (0.3053, 0.3053, 0))]),
        ("I4_1/amd", ANATASE, [("Ti", (0, 0, 0)), ("O", (0, 0, 0.2081))]),
    ):
        lengths = [float(word) for word in cell.split(",")[-6:]]
        symbols, places = zip(*points, strict=True)
        real = Structure.from_spacegroup(name, Lattice.from_parameters(*lengths), symbols, places)
        made = generator.sample(8, "crystal", formula="Ti2O4", cell=cell)
        for one in made:
            np.testing.assert_allclose(one.cell, known_cells(cell)[0], atol=1e-12)
        misfits = [one.info["cell_misfit"] for one in made]
        likeliest = made[int(np.argmin(misfits))].to_pymatgen()
        found[name] = [matcher.fit(real, one.to_pymatgen()) for one in made]
        assert matcher.fit(real, likeliest) and min(misfits) < 0.03 and {one.formula for one in made} == {"O4Ti2"}
    assert all(sum(some) >= 4 for some in found.values())


def test_several_cells_come_one_after_the_other(generator: Generator) -> None:
    cells = np.concatenate([known_cells(RUTILE), known_cells(ANATASE)])
    made = generator.sample(5, "crystal", formula="Ti2O4", cell=cells, steps=3)
    for k, one in enumerate(made):
        np.testing.assert_allclose(one.cell, cells[k % 2], atol=1e-12)
    alone = generator.sample(5, "crystal", formula="Ti2O4", cell=cells, steps=3, batch_size=2)
    for one, other in zip(made, alone, strict=True):
        np.testing.assert_allclose(one.fractional, other.fractional, atol=0.02)


def test_it_goes_with_templates_and_sizes_and_not_with_molecules(generator: Generator) -> None:
    (template,) = generator.sample(1, "crystal", formula="NaCl", steps=5)
    (cell,) = known_cells("F,5.64,5.64,5.64,90,90,90")
    for more in ({"like": template}, {"formula": "NaCl", "atoms": (2, 6)}, {"formula": "any"}):
        made = generator.sample(4, "crystal", cell=cell, steps=4, **more)
        assert all(np.array_equal(one.cell, cell) and one.info["cell_misfit"] >= 0 for one in made)
    with pytest.raises(InvalidInputError, match="`cell` is for crystals; leave it out"):
        generator.sample(1, cell=cell)
    with pytest.raises(InvalidInputError, match="`cell` must be"):
        generator.sample(1, "crystal", cell="cubic")


def test_latents_whose_cell_is_the_known_one_do_not_move(generator: Generator) -> None:
    """Two groups packed together: with their own decoded cells nothing moves, with longer ones what is read moves
    there."""
    torch.manual_seed(0)
    groups = [Group(4, [0, 1], [None, None], []), Group(7, [2], [None], [])]
    packing = Packing.from_lengths([4, 4, 7])
    latents = torch.randn(15, generator.model.config.latent_dim)

    def decoding(cells: np.ndarray | None) -> Decoding:
        run = Run("crystal", 0, SamplingDefaults(), lambda *_: [], None, None, cells, None, [0.0, 1.0], [])
        return Decoding(generator.model, run, groups, packing, None)

    with torch.no_grad():
        free = [one for some in decoding(None).systems(latents) for one in some]
        own = np.stack([one.cell for one in free])
        still = decoding(own)
        torch.testing.assert_close(still.as_known(latents[None])[0], latents, atol=2e-3, rtol=0)
        assert max(one.info["cell_misfit"] for some in still.systems(latents) for one in some) < 1e-4
        longer = decoding(own * 1.1)
        early = longer.as_known(latents[None], 0.5)[0]
        moved = longer.as_known(latents[None])[0]
        torch.testing.assert_close(early - latents, 1.5 * (moved - latents))
        assert [one.info["cell_misfit"] for some in longer.systems(latents) for one in some] == pytest.approx(
            [(0.5 * (0.1 / 1.1) ** 2) ** 0.5] * 3, rel=1e-2
        )
        after = [one for some in decoding(None).systems(moved) for one in some]
    for one, before in zip(after, free, strict=True):
        assert np.linalg.norm(one.cell, axis=1).mean() / np.linalg.norm(before.cell, axis=1).mean() > 1.04
