"""How far the distributions of a set of samples are from those of a reference set.

Numbers (atoms in a molecule, density) are compared by the 1-Wasserstein distance, in their own unit; kinds
(elements, space groups, types of bonds) by the Jensen-Shannon divergence of their shares, in bits; bond lengths
and angles by both, type by type. A set against itself gives 0 everywhere. Finite sets drawn from one
distribution do not: to know that floor, compare as many structures of the reference with the reference.

Every structure counts, good or bad: one crushed cell weighs on a density. Published crystal figures (CDVAE,
arXiv 2110.06197) are of valid crystals; select those first to compare.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from adit.elements import SYMBOLS
from adit.errors import InvalidInputError
from adit.eval.quantities import (
    ByType,
    CrystalStatistics,
    MoleculeStatistics,
    bond_name,
    crystal_statistics,
    molecule_statistics,
)
from adit.eval.statistics import jensen_shannon, wasserstein

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from adit.packing import Systems

LENGTH_BIN, ANGLE_BIN = 0.01, 1.0
"""Of the histograms whose Jensen-Shannon divergence is taken: Angstrom, degrees."""


@dataclass(frozen=True, slots=True)
class TypeDistance:
    """One type of bond or angle.

    Attributes:
        name: "C-N", "C=O", "C#N" or "H-C-O".
        samples: how many the samples have.
        reference: how many the reference has.
        jensen_shannon: bits, of histograms of 0.01 Angstrom or 1 degree; NaN if either has none.
        wasserstein: Angstrom or degrees; NaN if either has none.
    """

    name: str
    samples: int
    reference: int
    jensen_shannon: float
    wasserstein: float


@dataclass(frozen=True, slots=True)
class TypeDistances:
    """All types of bonds, or of angles.

    Attributes:
        types: in descending order of their number in the reference.
        shares: Jensen-Shannon divergence of the shares of the types themselves, bits: it sees the types
            that only one of the sets has.
        jensen_shannon: mean over the types that both have, weighted by their number in the reference, bits.
        wasserstein: the same mean, Angstrom or degrees.
        compared: the share of the samples' bonds or angles that belong to such a type.
    """

    types: tuple[TypeDistance, ...]
    shares: float
    jensen_shannon: float
    wasserstein: float
    compared: float


@dataclass(frozen=True, slots=True)
class MoleculeDistances:
    """Samples against a reference; NaN where one is empty.

    Attributes:
        atom_count: Wasserstein, atoms in a molecule.
        elements: Jensen-Shannon, bits.
        bond_lengths: by elements and order.
        bond_angles: by elements.
    """

    atom_count: float
    elements: float
    bond_lengths: TypeDistances
    bond_angles: TypeDistances


@dataclass(frozen=True, slots=True)
class CrystalDistances:
    """Samples against a reference; NaN where one is empty.

    Attributes:
        density: Wasserstein, g/cm^3.
        n_elements: Wasserstein, different elements in a crystal.
        atom_count: Wasserstein, atoms in a cell as it is given.
        volume: Wasserstein, cubic Angstrom per atom.
        elements: Jensen-Shannon, bits.
        spacegroups: Jensen-Shannon, bits; no space group counts as one of its own.
    """

    density: float
    n_elements: float
    atom_count: float
    volume: float
    elements: float
    spacegroups: float


def molecule_distances(
    samples: Systems | MoleculeStatistics, reference: Systems | MoleculeStatistics
) -> MoleculeDistances:
    """Distances of the distributions of molecules.

    Raises:
        InvalidInputError: a system is a crystal.
    """
    found = [x if isinstance(x, MoleculeStatistics) else molecule_statistics(x) for x in (samples, reference)]
    ours, theirs = found
    return MoleculeDistances(
        wasserstein(ours.sizes, theirs.sizes),
        jensen_shannon(_counts(ours.elements), _counts(theirs.elements)),
        _compared(ours.lengths, theirs.lengths, LENGTH_BIN, bond_name),
        _compared(ours.angles, theirs.angles, ANGLE_BIN, _angle_name),
    )


def crystal_distances(samples: Systems | CrystalStatistics, reference: Systems | CrystalStatistics) -> CrystalDistances:
    """Distances of the distributions of crystals.

    Raises:
        InvalidInputError: a system is a molecule; the statistics have different `symprec`.
    """
    found = [x if isinstance(x, CrystalStatistics) else crystal_statistics(x) for x in (samples, reference)]
    ours, theirs = found
    if ours.symprec != theirs.symprec:
        raise InvalidInputError(
            f"the space groups of `samples` and `reference` must have one `symprec`; got {ours.symprec} and "
            f"{theirs.symprec}. Make both with crystal_statistics(..., symprec=...)"
        )
    return CrystalDistances(
        wasserstein(_finite(ours.densities), _finite(theirs.densities)),
        wasserstein(ours.n_elements, theirs.n_elements),
        wasserstein(ours.sizes, theirs.sizes),
        wasserstein(_finite(ours.volumes), _finite(theirs.volumes)),
        jensen_shannon(_counts(ours.elements), _counts(theirs.elements)),
        jensen_shannon(_counts(np.bincount(ours.spacegroups)), _counts(np.bincount(theirs.spacegroups))),
    )


def _compared(
    samples: ByType, reference: ByType, width: float, name: Callable[[tuple[int, int, int]], str]
) -> TypeDistances:
    empty = np.zeros(0)
    types, weights = [], []
    for key in sorted({**samples, **reference}, key=lambda key: (-len(reference.get(key, empty)), key)):
        ours, theirs = samples.get(key, empty), reference.get(key, empty)
        divergence = jensen_shannon(_histogram(ours, width), _histogram(theirs, width))
        types.append(TypeDistance(name(key), len(ours), len(theirs), divergence, wasserstein(ours, theirs)))
        weights.append(len(theirs) if len(ours) else 0)
    total = sum(entry.samples for entry in types)
    return TypeDistances(
        tuple(types),
        jensen_shannon(_sizes(samples), _sizes(reference)),
        _mean([entry.jensen_shannon for entry in types], weights),
        _mean([entry.wasserstein for entry in types], weights),
        sum(entry.samples for entry in types if entry.reference) / total if total else float("nan"),
    )


def _mean(values: list[float], weights: list[int]) -> float:
    some = np.array(weights) > 0
    return float(np.average(np.array(values)[some], weights=np.array(weights)[some])) if some.any() else float("nan")


def _histogram(values: NDArray[np.float64], width: float) -> Mapping[object, float]:
    bins, counts = np.unique(np.floor(values / width).astype(np.int64), return_counts=True)
    return dict(zip(bins.tolist(), counts.tolist(), strict=True))


def _sizes(groups: ByType) -> Mapping[object, float]:
    return {key: float(len(held)) for key, held in groups.items()}


def _counts(counts: NDArray[np.int64]) -> Mapping[object, float]:
    return {place: float(counts[place]) for place in np.flatnonzero(counts).tolist()}


def _finite(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return values[np.isfinite(values)]


def _angle_name(key: tuple[int, int, int]) -> str:
    return "-".join(SYMBOLS[number] for number in key)
