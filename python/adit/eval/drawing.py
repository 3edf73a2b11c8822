"""What to draw of a structure: balls, sticks and the edges of the cell, centred."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from adit.system import AtomicSystem

_BOND_FACTOR = 1.15  # bonded: nearer than this times the sum of covalent radii
_BOUNDARY = 0.02  # fractional: an atom so near to a face of the cell is drawn on the opposite face too
_CORNERS = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)], dtype=np.float64)
_EDGES = [(a, b) for a in range(8) for b in range(a + 1, 8) if np.abs(_CORNERS[a] - _CORNERS[b]).sum() == 1]
_NONMETALS = frozenset((1, 2, 5, 6, 7, 8, 9, 10, 14, 15, 16, 17, 18, 33, 34, 35, 36, 52, 53, 54, 85, 86))


@dataclass(frozen=True, slots=True)
class Drawing:
    """A picture's geometry, in Angstrom, seen along -z with y up.

    Attributes:
        numbers: (n,) int64, atomic numbers; atoms on a face of the cell are repeated on the opposite one.
        positions: (n, 3) float64, centred.
        radii: (n,) float64, covalent radii scaled for balls and sticks.
        bonds: (m, 2) int64, pairs of atoms.
        edges: (12, 2, 3) float64, ends of the edges of the cell; (0, 2, 3) for a molecule.
    """

    numbers: NDArray[np.int64]
    positions: NDArray[np.float64]
    radii: NDArray[np.float64]
    bonds: NDArray[np.int64]
    edges: NDArray[np.float64]

    @property
    def radius(self) -> float:
        """Of a sphere around the origin that holds everything."""
        reach = np.linalg.norm(self.positions, axis=1) + self.radii if len(self.numbers) else np.zeros(1)
        corners = np.linalg.norm(self.edges, axis=2).max() if len(self.edges) else 0.0
        return float(max(reach.max(), corners, 1.0))


def draw(system: AtomicSystem) -> Drawing:
    """A pleasant view: molecules lie flat, crystals show three faces of the cell."""
    from ase.data import covalent_radii

    numbers, positions, edges = system.numbers, system.positions, np.zeros((0, 2, 3))
    if system.cell is not None:
        numbers, fractional = _with_boundary(numbers, system.fractional)
        positions = fractional @ system.cell
        corners = _CORNERS @ system.cell
        edges = np.array([[corners[a], corners[b]] for a, b in _EDGES])
    covalent = covalent_radii[numbers]
    bonds = _bonds(numbers, positions, covalent)
    centre = edges.mean(axis=(0, 1)) if len(edges) else positions.mean(axis=0) if len(positions) else np.zeros(3)
    turn = _view(positions - centre, system.cell)
    radii = 0.4 * covalent if len(edges) else 0.12 + 0.3 * covalent
    return Drawing(numbers, (positions - centre) @ turn.T, radii, bonds, (edges - centre) @ turn.T)


def label(system: AtomicSystem) -> str:
    """A molecule's formula in Hill order; a crystal's reduced formula, cations first, such as `CaTiO3`."""
    if not system.is_periodic or not len(system):
        return system.formula
    from pymatgen.core import Composition

    return str(Composition(system.formula).reduced_formula)


def _with_boundary(
    numbers: NDArray[np.int64], fractional: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Wrapped into the cell, with the atoms on its faces, edges and corners repeated on the opposite ones."""
    wrapped = fractional - np.floor(fractional)
    wrapped = np.where(wrapped > 1 - _BOUNDARY, wrapped - 1, wrapped)
    for axis in range(3):
        on_face = wrapped[:, axis] < _BOUNDARY
        shift = np.zeros(3)
        shift[axis] = 1.0
        numbers = np.concatenate([numbers, numbers[on_face]])
        wrapped = np.concatenate([wrapped, wrapped[on_face] + shift])
    return numbers, wrapped


def _bonds(
    numbers: NDArray[np.int64], positions: NDArray[np.float64], covalent: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Pairs nearer than their covalent radii allow; two metals count as bonded only by their packing, undrawn."""
    first, second = np.triu_indices(len(numbers), 1)
    distance = np.linalg.norm(positions[first] - positions[second], axis=1)
    metal = ~np.isin(numbers, list(_NONMETALS))
    near = (distance < _BOND_FACTOR * (covalent[first] + covalent[second])) & ~(metal[first] & metal[second])
    return np.stack([first[near], second[near]], axis=1)


def _view(centred: NDArray[np.float64], cell: NDArray[np.float64] | None) -> NDArray[np.float64]:
    """(3, 3) rotation to the axes of the screen."""
    if cell is not None:
        right = cell[0] / np.linalg.norm(cell[0])
        up = cell[2] - (cell[2] @ right) * right
        up /= np.linalg.norm(up)
        crystal: NDArray[np.float64] = (
            _rotation(0, 0.28) @ _rotation(1, -0.42) @ np.array([right, up, np.cross(right, up)])
        )
        return crystal
    if len(centred) < 3:
        return np.eye(3)
    axes = np.linalg.svd(centred, full_matrices=False)[2]
    flat = np.array([axes[0], axes[1], np.cross(axes[0], axes[1])])
    molecule: NDArray[np.float64] = _rotation(0, 0.35) @ _rotation(1, 0.25) @ flat
    return molecule


def _rotation(axis: int, angle: float) -> NDArray[np.float64]:
    matrix = np.eye(3)
    a, b = (axis + 1) % 3, (axis + 2) % 3
    matrix[a, a] = matrix[b, b] = np.cos(angle)
    matrix[a, b], matrix[b, a] = -np.sin(angle), np.sin(angle)
    return matrix
