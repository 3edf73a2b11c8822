"""Structural and compositional validity, uniqueness and novelty of crystals."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from adit.elements import SYMBOLS
from adit.errors import InvalidInputError
from adit.packing import Packed, Systems, as_system, pack

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pymatgen.analysis.structure_matcher import StructureMatcher
    from pymatgen.core import Structure

    from adit.data.packed import PackedDataset
    from adit.system import AtomicSystem

OxidationStates = Literal["smact14", "icsd16", "icsd24"]
OXIDATION_STATES: tuple[OxidationStates, ...] = ("smact14", "icsd16", "icsd24")

MIN_DISTANCE = 0.5
"""Angstrom: atoms nearer than this are no crystal (CDVAE)."""
MIN_VOLUME = 0.1
"""Cubic Angstrom: a smaller cell is no crystal (CDVAE)."""
TOLERANCES = {"stol": 0.5, "ltol": 0.3, "angle_tol": 10.0}
"""Of pymatgen's StructureMatcher, as published since CDVAE (arXiv 2110.06197)."""

# StructureMatcher looks through the lattice points in a sphere; 2,500 crystals of MP-20 have 1,478 at most.
_MAX_LATTICE_POINTS = 20_000


def structural_validity(systems: Systems) -> NDArray[np.bool_]:
    """(B,) bool: no two atoms nearer than 0.5 A, periodic images included, in a cell of at least 0.1 A^3.

    CDVAE's rule (Xie et al. 2022, arXiv 2110.06197, section 5.2), and stricter in one point: an atom too
    near to its own image counts as well. False without atoms.

    Raises:
        InvalidInputError: a system is a molecule.
    """
    from adit._rust import min_distances

    batch = _crystals(systems)
    nearest = min_distances(batch.positions, batch.cells, batch.periodic, batch.offsets)
    volume = np.abs(np.linalg.det(batch.cells))
    valid: NDArray[np.bool_] = (nearest >= MIN_DISTANCE) & (volume >= MIN_VOLUME) & (np.diff(batch.offsets) > 0)
    return valid


def compositional_validity(systems: Systems, oxidation_states: OxidationStates = "smact14") -> NDArray[np.bool_]:
    """(B,) bool: some choice of oxidation states is neutral and gives the electrons to the more electronegative.

    The test of SMACT (Davies et al. 2019, doi 10.21105/joss.01361) as used since CDVAE: one oxidation
    state for each element; every cation less electronegative (Pauling) than every anion; elements and
    alloys of metals pass. Equal to `smact.screening.smact_validity(..., oxidation_states_set=...)`, but
    its time does not explode with the number of elements.

    Args:
        systems: crystals; only their compositions matter. False without atoms.
        oxidation_states: the table. "smact14" is the one behind the published figures.

    Raises:
        InvalidInputError: `oxidation_states` is unknown.
    """
    if oxidation_states not in OXIDATION_STATES:
        raise InvalidInputError(
            f"`oxidation_states` must be one of {', '.join(OXIDATION_STATES)}; got {oxidation_states!r}"
        )
    return np.array([_neutral(formula, oxidation_states) for formula in reduced_formulas(systems)], dtype=np.bool_)


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
    valid = structural_validity(systems)
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
    result = structural_validity(systems)
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


def _crystals(systems: Systems) -> Packed:
    batch = pack(systems)
    if not batch.periodic.all():
        index = int(np.flatnonzero(~batch.periodic)[0])
        raise InvalidInputError(f"`systems` must be crystals; system {index} is a molecule. Select the crystals first")
    return batch


@lru_cache(maxsize=1 << 16)
def _neutral(formula: bytes, table: str) -> bool:
    """SMACT's test of one reduced composition.

    Fixing the most electronegative cation splits the elements by electronegativity into those that
    may give and those that may take electrons. The charges that each side can reach are the set bits
    of an integer, so that adding an element is a few shifts; neutral means a bit in common.
    """
    from smact import metals

    counts = np.frombuffer(formula, dtype="<u2")
    numbers = np.flatnonzero(counts).tolist()
    if len(numbers) < 2:
        return len(numbers) == 1
    if all(SYMBOLS[number] in metals for number in numbers):
        return True
    elements = []
    for number in numbers:
        electronegativity, states = _element(number, table)
        if electronegativity is None or not states:
            return False
        elements.append((electronegativity, [state * int(counts[number]) for state in states]))
    for border in {electronegativity for electronegativity, _ in elements}:
        given, taken = 1, 1
        for electronegativity, charges in elements:
            if electronegativity <= border:
                given = _reach(given, [charge for charge in charges if charge >= 0])
            else:
                taken = _reach(taken, [-charge for charge in charges if charge <= 0])
        if given & taken:
            return True
    return False


def _reach(sums: int, charges: list[int]) -> int:
    """The bit set of all sums of one member of `sums` and one of `charges`."""
    reached = 0
    for charge in charges:
        reached |= sums << charge
    return reached


@lru_cache(maxsize=512)
def _element(number: int, table: str) -> tuple[float | None, tuple[int, ...]]:
    """Pauling electronegativity and oxidation states of an element, from SMACT's tables."""
    import smact

    element = smact.Element(SYMBOLS[number])
    return element.pauling_eneg, tuple(getattr(element, f"oxidation_states_{table}") or ())


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
