"""Structural and compositional validity, uniqueness and novelty of crystals."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np

from adit.elements import SYMBOLS
from adit.errors import InvalidInputError
from adit.matching import StructureMatcher
from adit.packing import Packed, Systems, as_system, pack

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from adit.data.packed import PackedDataset

OxidationStates = Literal["smact14", "icsd16", "icsd24"]
OXIDATION_STATES: tuple[OxidationStates, ...] = ("smact14", "icsd16", "icsd24")

MIN_DISTANCE = 0.5
"""Angstrom: atoms nearer than this are no crystal (CDVAE)."""
MIN_VOLUME = 0.1
"""Cubic Angstrom: a smaller cell is no crystal (CDVAE)."""
TOLERANCES = {"stol": 0.5, "ltol": 0.3, "angle_tol": 10.0}
"""Of pymatgen's StructureMatcher, as published since CDVAE (arXiv 2110.06197)."""


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
        incomplete: crystals called unique without a comparison, because the cell is too elongated to match.
    """

    first: NDArray[np.bool_]
    valid: NDArray[np.bool_]
    incomplete: int

    @property
    def rate(self) -> float:
        """Different crystals among the structurally valid ones; NaN if there are none."""
        return float(self.first.sum() / self.valid.sum()) if self.valid.any() else float("nan")


def unique(systems: Systems) -> Uniqueness:
    """Different crystals as pymatgen's StructureMatcher groups them: each is compared with the first of each group.

    Args:
        systems: crystals.

    Raises:
        InvalidInputError: a system is a molecule.
    """
    valid = structural_validity(systems)
    indices = np.flatnonzero(valid)
    matcher = _matcher()
    crystals = matcher.reduce([as_system(systems[index]) for index in indices.tolist()])
    first = np.zeros(len(systems), dtype=np.bool_)
    first[indices[np.unique(matcher.group_labels(crystals))]] = True
    return Uniqueness(first, valid, int((~matcher.comparable(crystals)).sum()))


def novel(systems: Systems, reference: PackedDataset) -> NDArray[np.bool_]:
    """(B,) bool: structurally valid, and no crystal of `reference` with the same reduced composition matches.

    Raises:
        InvalidInputError: a system is a molecule.
    """
    result = structural_validity(systems)
    indices = np.flatnonzero(result)
    formulas = reduced_formulas(systems)
    wanted = {formulas[index] for index in indices.tolist()}
    known = [
        reference[index]
        for index, formula in enumerate(reduced_formulas(reference))
        if reference.periodic[index] and formula in wanted
    ]
    result[indices] = _matcher().novel([as_system(systems[index]) for index in indices.tolist()], known)
    return result


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
    return StructureMatcher(TOLERANCES["ltol"], TOLERANCES["stol"], TOLERANCES["angle_tol"], convention="pymatgen")
