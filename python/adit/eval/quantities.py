"""The quantities of molecules and crystals whose distributions are compared in `adit.eval.distributions`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from adit.bonds import infer_bonds_batch
from adit.elements import SYMBOLS
from adit.packing import Packed, cut, element_counts, pack_crystals, pack_molecules
from adit.symmetry import spacegroups

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from adit.packing import Systems

SYMPREC = 0.1
"""Angstrom: generated crystals are noisy."""

DALTON_PER_A3 = 1.66053906660
"""g/cm^3 (CODATA 2018)."""

_CHUNK = 20_000  # molecules: some 100 MB of angles
_KINDS = len(SYMBOLS)

_Typed: TypeAlias = "tuple[NDArray[np.int64], NDArray[np.float64]]"
ByType: TypeAlias = "Mapping[tuple[int, int, int], NDArray[np.float64]]"


@dataclass(frozen=True, slots=True, eq=False)
class MoleculeStatistics:
    """What molecules are compared by; of a reference, to be made once.

    Attributes:
        sizes: (B,) int64, atoms in each.
        elements: (101,) int64, atoms of each atomic number.
        lengths: (Z, Z', order) with Z <= Z' -> bond lengths, Angstrom.
        angles: (Z, Z of the middle, Z') with Z <= Z' -> degrees.
    """

    sizes: NDArray[np.int64]
    elements: NDArray[np.int64]
    lengths: ByType
    angles: ByType


@dataclass(frozen=True, slots=True, eq=False)
class CrystalStatistics:
    """What crystals are compared by.

    Attributes:
        sizes: (B,) int64, atoms in each cell.
        elements: (101,) int64, atoms of each atomic number.
        n_elements: (B,) int64, different elements in each.
        volumes: (B,) float64, cubic Angstrom per atom; NaN without atoms.
        densities: (B,) float64, g/cm^3; NaN for a cell without volume.
        spacegroups: (B,) int64, 1 to 230; 0 where none was found.
        symprec: the tolerance for these, Angstrom.
    """

    sizes: NDArray[np.int64]
    elements: NDArray[np.int64]
    n_elements: NDArray[np.int64]
    volumes: NDArray[np.float64]
    densities: NDArray[np.float64]
    spacegroups: NDArray[np.int64]
    symprec: float


def molecule_statistics(systems: Systems | Packed, *, threads: int | None = None) -> MoleculeStatistics:
    """Sizes, elements, bond lengths and angles of molecules, with the bonds of `adit.bonds.infer_bonds`.

    Aromatic bonds alternate between orders 1 and 2, in samples and reference by the same rule.

    Raises:
        InvalidInputError: a system is a crystal.
    """
    batch = pack_molecules(systems)
    parts = [_geometry(piece, threads) for piece in cut(batch, _CHUNK)]
    lengths, angles = ([part[k] for part in parts] for k in range(2))
    elements = np.bincount(batch.numbers, minlength=_KINDS)
    return MoleculeStatistics(np.diff(batch.offsets), elements, _by_type(lengths, False), _by_type(angles, True))


def crystal_statistics(
    systems: Systems | Packed,
    *,
    symprec: float = SYMPREC,
    groups: NDArray[np.int64] | None = None,
    threads: int | None = None,
) -> CrystalStatistics:
    """Sizes, elements, densities and space groups of crystals.

    Args:
        systems: B crystals.
        symprec: tolerance of the space groups, Angstrom.
        groups: (B,) the space groups, where they are known.
        threads: processor cores to use.

    Raises:
        InvalidInputError: a system is a molecule, or `symprec` is not positive.
    """
    batch = pack_crystals(systems)
    sizes = np.diff(batch.offsets)
    counts = element_counts(batch)
    volumes = np.abs(np.linalg.det(batch.cells))
    masses = counts @ _masses()
    return CrystalStatistics(
        sizes,
        counts.sum(0),
        (counts > 0).sum(1),
        _ratio(volumes, sizes),
        DALTON_PER_A3 * _ratio(masses, volumes),
        _groups(batch, symprec, threads) if groups is None else groups,
        symprec,
    )


def _groups(batch: Packed, symprec: float, threads: int | None) -> NDArray[np.int64]:
    return spacegroups(batch, symprec, threads=threads) if len(batch.periodic) else np.zeros(0, dtype=np.int64)


def _geometry(batch: Packed, threads: int | None) -> tuple[_Typed, _Typed]:
    """The type and value of each bond length and each angle."""
    found = infer_bonds_batch(batch, threads=threads)
    first, second = (found.bonds + np.repeat(batch.offsets[:-1], np.diff(found.bond_offsets))[:, None]).T
    vectors = batch.positions[second] - batch.positions[first]
    lengths = np.linalg.norm(vectors, axis=1)
    numbers = batch.numbers.astype(np.int64)
    bonds = _ordered(numbers[first], numbers[second], found.orders.astype(np.int64))

    units = vectors / np.maximum(lengths, 1e-12)[:, None]
    centre = np.concatenate([first, second])
    order = np.argsort(centre, kind="stable")
    centre, end = centre[order], np.concatenate([second, first])[order]
    units = np.concatenate([units, -units])[order]
    keys, angles = [np.zeros(0, np.int64)], [np.zeros(0)]
    for shift in range(1, len(centre)):  # the k-th bond of an atom with the (k + shift)-th
        left = np.flatnonzero(centre[shift:] == centre[:-shift])
        if not len(left):
            break
        right = left + shift
        cosines = np.einsum("ij,ij->i", units[left], units[right])
        angles.append(np.degrees(np.arccos(np.clip(cosines, -1, 1))))
        keys.append(_ordered(numbers[end[left]], numbers[end[right]], numbers[centre[left]]))
    return (bonds, lengths), (np.concatenate(keys), np.concatenate(angles))


def _ordered(left: NDArray[np.int64], right: NDArray[np.int64], third: NDArray[np.int64]) -> NDArray[np.int64]:
    """One number for (lesser, greater, third)."""
    return (np.minimum(left, right) * _KINDS + np.maximum(left, right)) * _KINDS + third


def _by_type(parts: list[_Typed], middle: bool) -> dict[tuple[int, int, int], NDArray[np.float64]]:
    """Ascending values of each type; the third of its numbers is put in the middle on request."""
    keys = np.concatenate([key for key, _ in parts] or [np.zeros(0, np.int64)])
    values = np.concatenate([value for _, value in parts] or [np.zeros(0)])
    order = np.lexsort((values, keys))
    kinds, begins = np.unique(keys[order], return_index=True)
    held = {}
    for kind, group in zip(kinds.tolist(), np.split(values[order], begins[1:]), strict=False):
        low, high, third = kind // _KINDS**2, kind // _KINDS % _KINDS, kind % _KINDS
        held[(low, third, high) if middle else (low, high, third)] = group
    return held


def _ratio(upper: NDArray[np.generic], lower: NDArray[np.generic]) -> NDArray[np.float64]:
    result = np.full(len(upper), np.nan)
    np.divide(upper, lower, out=result, where=lower != 0)
    return result


def bond_name(key: tuple[int, int, int]) -> str:
    """Of a type of bond, such as "C=O"."""
    return f"{SYMBOLS[key[0]]}{'?-=#'[key[2]]}{SYMBOLS[key[1]]}"


@cache
def _masses() -> NDArray[np.float64]:
    """Standard atomic weights by atomic number."""
    from rdkit.Chem import GetPeriodicTable

    table = GetPeriodicTable()
    return np.array([0.0, *(table.GetAtomicWeight(number) for number in range(1, _KINDS))])
