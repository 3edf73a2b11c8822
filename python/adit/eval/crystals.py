"""Uniqueness and novelty of crystals. Their validity: `adit.validity`."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from adit.packing import Systems, as_system, pack
from adit.validity import structural

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pymatgen.analysis.structure_matcher import StructureMatcher
    from pymatgen.core import Structure

    from adit.data.packed import PackedDataset
    from adit.system import AtomicSystem

TOLERANCES = {"stol": 0.5, "ltol": 0.3, "angle_tol": 10.0}
"""Of pymatgen's StructureMatcher, as published since CDVAE (arXiv 2110.06197)."""

# StructureMatcher looks through the lattice points in a sphere; 2,500 crystals of MP-20 have 1,478 at most.
_MAX_LATTICE_POINTS = 20_000


def reduced_formulas(systems: Systems) -> list[bytes]:
    """A key for each system, equal for equal reduced compositions: 101 little-endian uint16 counts by atomic number."""
    batch = pack(systems)
    count = len(batch.offsets) - 1
    owner = np.repeat(np.arange(count), np.diff(batch.offsets))
    counts = np.bincount(owner * 101 + batch.numbers, minlength=count * 101).reshape(count, 101)
    reduced = counts // np.maximum(np.gcd.reduce(counts, axis=1, keepdims=True), 1)
    return [row.tobytes() for row in reduced.astype("<u2")]


@dataclass(frozen=True, slots=True)
class Uniqueness:
    """Which crystals are the first of their kind.

    Attributes:
        first: (B,) bool; False for a repeated crystal and for one that is not structurally valid.
        valid: (B,) bool, structurally valid; only those are compared.
        incomplete: crystals called unique without all comparisons: there were more than `limit`
            different ones of that composition, or the cell is too elongated to match.
    """

    first: NDArray[np.bool_]
    valid: NDArray[np.bool_]
    incomplete: int

    @property
    def rate(self) -> float:
        """Different crystals among the structurally valid ones; NaN if there are none."""
        return float(self.first.sum() / self.valid.sum()) if self.valid.any() else float("nan")


def unique(systems: Systems, limit: int = 100) -> Uniqueness:
    """Different crystals by pymatgen's StructureMatcher, compared in order within equal reduced compositions.

    Args:
        systems: crystals.
        limit: each crystal is compared with at most so many earlier different ones of its composition.

    Raises:
        InvalidInputError: a system is a molecule.
    """
    valid = structural(systems)
    first = np.zeros(len(systems), dtype=np.bool_)
    incomplete = 0
    formulas = reduced_formulas(systems)
    members: dict[bytes, list[int]] = defaultdict(list)
    for index in np.flatnonzero(valid).tolist():
        members[formulas[index]].append(index)
    matcher = _matcher()
    with _quiet_pymatgen():
        for group in members.values():
            kept: list[Structure] = []
            for index in group:
                structure = _reduced(as_system(systems[index])) if len(group) > 1 else None
                if any(_match(matcher, other, structure) for other in kept[:limit]):
                    continue
                first[index] = True
                incomplete += len(group) > 1 and (structure is None or len(kept) > limit)
                if structure is not None:
                    kept.append(structure)
    return Uniqueness(first, valid, incomplete)


def novel(systems: Systems, reference: PackedDataset) -> NDArray[np.bool_]:
    """(B,) bool: structurally valid, and no crystal of `reference` with the same reduced composition matches.

    Raises:
        InvalidInputError: a system is a molecule.
    """
    result = structural(systems)
    known: dict[bytes, list[int]] = defaultdict(list)
    for index, formula in enumerate(reduced_formulas(reference)):
        if reference.periodic[index]:
            known[formula].append(index)
    references = _Memo(lambda index: _reduced(reference[index]))
    matcher = _matcher()
    formulas = reduced_formulas(systems)
    with _quiet_pymatgen():
        for index in np.flatnonzero(result).tolist():
            candidates = known.get(formulas[index], [])
            structure = _reduced(as_system(systems[index])) if candidates else None
            result[index] = not any(_match(matcher, structure, references[other]) for other in candidates)
    return result


class _Memo(dict[int, "Structure | None"]):
    """Remembers what `make(index)` returned."""

    def __init__(self, make: Callable[[int], Structure | None]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, index: int) -> Structure | None:
        value = self[index] = self._make(index)
        return value


def _matcher() -> StructureMatcher:
    from pymatgen.analysis.structure_matcher import StructureMatcher

    return StructureMatcher(**TOLERANCES)


def _reduced(system: AtomicSystem) -> Structure | None:
    """Niggli-reduced and primitive, as StructureMatcher would make it, once; None if it cannot be matched in time."""
    from pymatgen.core import Lattice, Structure

    lattice = Lattice(system.cell)
    try:
        radius = max(lattice.get_lll_reduced_lattice().abc) * (1 + TOLERANCES["ltol"])
        if 4 / 3 * np.pi * radius**3 / lattice.volume > _MAX_LATTICE_POINTS:
            return None
        structure = Structure(lattice, system.numbers.tolist(), system.positions, coords_are_cartesian=True)
        return structure.get_reduced_structure(reduction_algo="niggli").get_primitive_structure()
    except (ValueError, ArithmeticError, np.linalg.LinAlgError):
        return None


def _match(matcher: StructureMatcher, left: Structure | None, right: Structure | None) -> bool:
    if left is None or right is None:
        return False
    return bool(matcher.fit(left, right, skip_structure_reduction=True))


@contextmanager
def _quiet_pymatgen() -> Iterator[Any]:
    """pymatgen warns of every unusual composition."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
