from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from pymatgen.core import Lattice, Structure

from adit.errors import InvalidInputError
from adit.eval.drawing import draw, label
from adit.eval.pictures import render, write_grid_png
from adit.system import AtomicSystem


def crystal(*arguments) -> AtomicSystem:
    structure = Structure.from_spacegroup(*arguments)
    return AtomicSystem(structure.atomic_numbers, structure.cart_coords, structure.lattice.matrix)


SALT = crystal("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def test_boundary_atoms_are_repeated():
    drawing = draw(SALT)
    assert (drawing.numbers == 11).sum() == 14  # 8 corners, 6 faces
    assert (drawing.numbers == 17).sum() == 13  # 12 edges, the centre
    assert len(drawing.edges) == 12
    assert np.allclose(np.linalg.norm(drawing.edges[:, 0] - drawing.edges[:, 1], axis=1), 5.64)


def test_bonds_join_neighbours_of_the_salt():
    drawing = draw(SALT)
    left, right = drawing.bonds.T
    lengths = np.linalg.norm(drawing.positions[left] - drawing.positions[right], axis=1)
    assert np.allclose(lengths, 2.82)
    assert (drawing.numbers[left] != drawing.numbers[right]).all()
    assert len(drawing.bonds) == 54  # all contacts inside a cell with its boundary


def test_molecules_keep_their_shape_and_hand(qm9):
    for system in qm9[:20]:
        drawing = draw(system)
        turned, original = drawing.positions, system.positions - system.positions.mean(axis=0)
        fit, *_ = np.linalg.lstsq(original, turned, rcond=None)
        assert np.allclose(original @ fit, turned, atol=1e-8)
        if np.linalg.matrix_rank(original, tol=0.1) == 3:
            assert np.isclose(np.linalg.det(fit), 1)
        assert np.linalg.norm(turned, axis=1).max() <= drawing.radius


def test_crystal_is_centred_and_rigid(mp20):
    for system in mp20[:20]:
        drawing = draw(system)
        assert np.allclose(drawing.edges.mean(axis=(0, 1)), 0, atol=1e-8)
        lengths = np.linalg.norm(drawing.edges[:, 0] - drawing.edges[:, 1], axis=1)
        assert np.allclose(np.sort(lengths)[::4], np.sort(np.linalg.norm(system.cell, axis=1)))


def test_nonsense_can_be_drawn(nonsense):
    for name, system in nonsense.items():
        drawing = draw(system)
        assert np.isfinite(drawing.positions).all(), name


def test_labels():
    assert label(SALT) == "NaCl"
    assert label(AtomicSystem([6, 1, 1], np.zeros((3, 3)))) == "CH2"


def test_the_nearer_ball_is_seen():
    pair = AtomicSystem([8, 7], [[0, 0, 0], [0, 0, 0]])
    drawing = draw(pair)
    front = np.array([[0, 0, 1.0], [0, 0, -1.0]])
    for sign, (red, blue) in ((1, (1, 0)), (-1, (0, 1))):
        view = type(drawing)(drawing.numbers, sign * front, drawing.radii + 0.3, np.zeros((0, 2), int), drawing.edges)
        middle = render(view, 60)[30, 30]
        assert (middle[0] > middle[2]) == bool(red)
        assert (middle[2] > middle[0]) == bool(blue)


def test_grid(tmp_path, qm9, mp20):
    path = tmp_path / "grid.png"
    write_grid_png(path, [*qm9[:3], *mp20[:2]], columns=3, size=80)
    picture = np.asarray(Image.open(path).convert("RGB"))
    assert picture.shape[1] == 240
    assert abs(picture.shape[0] - 2 * 1.16 * 80) <= 1
    for row in range(2):
        for column in range(3):
            cell = picture[int(row * 92.8) : int(row * 92.8) + 80, column * 80 : (column + 1) * 80]
            assert (cell.min() < 200) == (3 * row + column < 5)


def test_an_empty_grid_is_refused(tmp_path, qm9):
    with pytest.raises(InvalidInputError, match="0 systems"):
        write_grid_png(tmp_path / "x.png", [])
    with pytest.raises(InvalidInputError, match="columns=0"):
        write_grid_png(tmp_path / "x.png", qm9[:1], columns=0)
