"""Neighbour coverage and precision: does a set of crystals reach all of a reference, and does it stay there?

Not COV-R and COV-P of CDVAE (arXiv 2110.06197), which take CrystalNN and Magpie fingerprints of matminer, minutes
to hours for 10,000 crystals, and fixed cut-offs: the figures cannot be compared. Here fingerprints are fast, and
the cut-off is the reference's own: each reference crystal owns the ball that reaches to its k-th nearest fellow.

- coverage: the share of these balls that hold at least one sample (M. F. Naeem et al., ICML 2020, arXiv
  2002.09797, eq. 4, k = 5 as there). For samples from the distribution of the reference itself, its expected
  value is known exactly and is reported beside it: a bit below 1.
- precision: the share of samples in at least one ball (T. Kynkaanniemi et al., NeurIPS 2019, arXiv 1904.06991).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from adit.elements import SYMBOLS
from adit.errors import InvalidInputError
from adit.neighbors import neighbor_list_batch
from adit.packing import Packed, cut, pack_crystals, take
from adit.validity import structural

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from adit.packing import Systems

NEIGHBOURS = 5
MOST = 10_000
"""Reference crystals that are used; drawn at random from more."""

_RADII = np.linspace(0.5, 2.2, 35)  # in units of the cube root of the volume per atom
_CHUNK = 4096
_ROWS = 512
_CROWD = 20_000
_KINDS = len(SYMBOLS)


@dataclass(frozen=True, slots=True, eq=False)
class NeighbourCoverage:
    """Samples beside a reference of R crystals.

    Attributes:
        coverage: share of the reference with a sample in its ball; NaN with at most k reference crystals.
        expected: what coverage would be, on average, if the samples came from the reference's distribution.
        precision: share of all B samples that are in a ball; one that is structurally invalid is not.
        within: (B,) bool, the sample is in a ball.
        covered: (R,) bool, the reference crystal has a sample in its ball.
        reference: (R,) int64, which crystals of the reference were used.
        neighbours: k.
        seed: of the draw of the reference.
    """

    coverage: float
    expected: float
    precision: float
    within: NDArray[np.bool_]
    covered: NDArray[np.bool_]
    reference: NDArray[np.int64]
    neighbours: int
    seed: int


def neighbour_coverage(
    samples: Systems | Packed,
    reference: Systems | Packed,
    *,
    neighbours: int = NEIGHBOURS,
    most: int = MOST,
    seed: int = 0,
    threads: int | None = None,
) -> NeighbourCoverage:
    """Coverage and precision of crystals, by k nearest neighbours in the space of `fingerprints`.

    Every feature is divided by its standard deviation over the reference; composition and structure weigh
    the same. Crystals that are not structurally valid (`adit.validity.structural`), or are sheets or chains
    of atoms far from each other, with thousands of neighbours at the distances of a solid, take no part.

    Args:
        samples, reference: crystals.
        neighbours: k.
        most: reference crystals to use; drawn at random if there are more.
        seed: of that draw.

    Raises:
        InvalidInputError: a system is a molecule, or `neighbours` or `most` is not positive.
    """
    if neighbours < 1 or most < 1:
        raise InvalidInputError(f"`neighbours` and `most` must be positive; got {neighbours} and {most}")
    ours, theirs = pack_crystals(samples), pack_crystals(reference)
    valid = structural(ours, threads=threads) & _compact(ours)
    used = np.flatnonzero(structural(theirs, threads=threads) & _compact(theirs))
    used = np.sort(np.random.default_rng(seed).permutation(used)[:most])
    points = fingerprints(take(theirs, used), threads=threads)
    scale = _scale(points)
    found = _balls(fingerprints(take(ours, np.flatnonzero(valid)), threads=threads) / scale, points / scale, neighbours)
    within = np.zeros(len(valid), dtype=np.bool_)
    within[valid], covered = found
    enough = len(used) > neighbours
    return NeighbourCoverage(
        float(covered.mean()) if enough else float("nan"),
        expected_coverage(len(used), int(valid.sum()), neighbours),
        float(within.mean()) if enough and len(within) else float("nan"),
        within,
        covered,
        used,
        neighbours,
        seed,
    )


def expected_coverage(reference: int, samples: int, neighbours: int = NEIGHBOURS) -> float:
    """The mean coverage of `reference` points by `samples` points of the same distribution.

    A ball is empty if the k nearest of the other points, R - 1 of the reference and M samples, are all of
    the reference; in any order of them alike, so with probability prod_i (R - 1 - i) / (R - 1 + M - i),
    i = 0 to k - 1. NaN with R <= k.
    """
    if reference <= neighbours:
        return float("nan")
    steps = reference - 1.0 - np.arange(neighbours)
    return float(1 - np.prod(steps / (steps + samples)))


def fingerprints(systems: Systems | Packed, *, threads: int | None = None) -> NDArray[np.float64]:
    """Composition and structure of crystals, unchanged by choice of cell, rotation and order of atoms.

    Composition: least, greatest, mean and standard deviation over the atoms of period, group, Pauling's
    electronegativity and covalent radius. Structure: the logarithm of the volume per atom, v, and the mean
    number of atoms within 35 distances from 0.5 to 2.2 v^(1/3), smoothed over 0.05, over that of an ideal gas.

    Args:
        systems: structurally valid crystals.

    Returns:
        (B, 52) float64: 16 of composition, 36 of structure.

    Raises:
        InvalidInputError: a system is a molecule, or too flat a crystal for a list of neighbours.
    """
    batch = pack_crystals(systems)
    parts = [_structure(piece, threads) for piece in cut(batch, _CHUNK)]
    return np.hstack([_composition(batch), np.concatenate(parts or [np.zeros((0, len(_RADII) + 1))])])


def _composition(batch: Packed) -> NDArray[np.float64]:
    if not len(batch.periodic):
        return np.zeros((0, 16))
    values = _properties()[batch.numbers]
    starts, sizes = batch.offsets[:-1], np.diff(batch.offsets)[:, None]
    mean = np.add.reduceat(values, starts) / sizes
    spread = np.add.reduceat((values - np.repeat(mean, sizes[:, 0], axis=0)) ** 2, starts) / sizes
    return np.hstack([np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts), mean, np.sqrt(spread)])


def _structure(batch: Packed, threads: int | None) -> NDArray[np.float64]:
    sizes = np.diff(batch.offsets)
    volume = np.abs(np.linalg.det(batch.cells)) / sizes
    unit = np.cbrt(volume)
    scaled = batch._replace(
        positions=batch.positions / np.repeat(unit, sizes)[:, None], cells=batch.cells / unit[:, None, None]
    )
    distances, ends = neighbor_list_batch("d", scaled, float(_RADII[-1]), threads=threads)
    # A neighbour counts in full one step beyond its distance, in part before: no jump at any distance.
    step = (distances - _RADII[0]) / (_RADII[1] - _RADII[0])
    shell = np.clip(np.floor(step) + 1, 0, len(_RADII) - 1).astype(np.int64)
    late = np.clip(step + 1 - shell, 0, 1)
    width = len(_RADII) + 1
    place = np.repeat(np.arange(len(sizes)), np.diff(ends)) * width + shell
    counts = np.bincount(place, 1 - late, len(sizes) * width) + np.bincount(place + 1, late, len(sizes) * width)
    within = counts.reshape(-1, width)[:, :-1].cumsum(1)
    return np.hstack([np.log(volume)[:, None], within / sizes[:, None] / (4 / 3 * np.pi * _RADII**3)])


def _compact(batch: Packed) -> NDArray[np.bool_]:
    """(B,) bool: the cell and its images make no more than some `_CROWD` neighbours of an atom."""
    sizes = np.maximum(np.diff(batch.offsets), 1)
    volume = np.abs(np.linalg.det(batch.cells))
    faces = np.linalg.norm(np.cross(batch.cells[:, [1, 2, 0]], batch.cells[:, [2, 0, 1]]), axis=2)
    with np.errstate(divide="ignore", invalid="ignore"):
        images = 1 + 2 * _RADII[-1] * (np.cbrt(volume / sizes) / volume)[:, None] * faces
        compact: NDArray[np.bool_] = sizes * images.prod(1) < _CROWD
    return compact


def _scale(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """What to divide each feature by; a feature that never varies counts for nothing but as it is."""
    spread = points.std(0) if len(points) else np.ones(points.shape[1])
    weight = np.sqrt(np.repeat([16, points.shape[1] - 16], [16, points.shape[1] - 16]))
    scale: NDArray[np.float64] = np.where(spread > 1e-9, spread, 1.0) * weight
    return scale


def _balls(
    samples: NDArray[np.float64], reference: NDArray[np.float64], neighbours: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which samples are in a ball, and which balls hold one."""
    within, covered = np.zeros(len(samples), np.bool_), np.zeros(len(reference), np.bool_)
    if len(reference) <= neighbours or not len(samples):
        return within, covered
    for rows in _blocks(len(reference)):
        # Column 0 of the sorted distances is the crystal itself, or a copy of it.
        radius = np.partition(_squared(reference[rows], reference), neighbours, axis=1)[:, neighbours]
        inside = _squared(reference[rows], samples) <= radius[:, None] + 1e-9
        covered[rows] = inside.any(1)
        within |= inside.any(0)
    return within, covered


def _squared(left: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    squares: NDArray[np.float64] = (left**2).sum(1)[:, None] + (right**2).sum(1) - 2 * left @ right.T
    return squares


def _blocks(count: int) -> Iterator[slice]:
    return (slice(begin, min(begin + _ROWS, count)) for begin in range(0, count, _ROWS))


@cache
def _properties() -> NDArray[np.float64]:
    """(101, 4): period, group, electronegativity (0 where there is none) and covalent radius (Angstrom)."""
    from ase.data import covalent_radii
    from pymatgen.core import Element

    elements = [Element.from_Z(number) for number in range(1, _KINDS)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that some have no electronegativity
        negativities = [0.0 if np.isnan(element.X) else float(element.X) for element in elements]
    held = [[0.0] * 4]
    for element, negativity in zip(elements, negativities, strict=True):
        held.append([float(element.row), float(element.group), negativity, float(covalent_radii[element.Z])])
    return np.array(held)
