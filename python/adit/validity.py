"""Whether a crystal can be one: no atoms in one place, and a composition that charges can balance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, overload

import numpy as np

from adit import _rust
from adit.elements import SYMBOLS
from adit.errors import InvalidInputError
from adit.packing import SystemLike, as_many, pack, pack_crystals

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from adit.packing import Systems

OxidationStates = Literal["smact14", "icsd16", "icsd24"]
OXIDATION_STATES: tuple[OxidationStates, ...] = ("smact14", "icsd16", "icsd24")

MIN_DISTANCE = 0.5
"""Angstrom: atoms nearer than this are no crystal (CDVAE)."""
MIN_VOLUME = 0.1
"""Cubic Angstrom: a smaller cell is no crystal (CDVAE)."""


@overload
def structural(systems: Systems, *, threads: int | None = ...) -> NDArray[np.bool_]: ...
@overload
def structural(systems: SystemLike, *, threads: int | None = ...) -> bool: ...
def structural(systems: SystemLike | Systems, *, threads: int | None = None) -> bool | NDArray[np.bool_]:
    """Whether no two atoms are nearer than 0.5 A, periodic images included, in a cell of at least 0.1 A^3.

    CDVAE's rule (Xie et al. 2022, arXiv 2110.06197, section 5.2), and stricter in one point: an atom too
    near to its own image counts as well. False without atoms.

    Args:
        systems: a crystal, or many.
        threads: None for all cores; the result does not depend on it.

    Returns:
        A bool for one crystal; (B,) bool for many.

    Raises:
        InvalidInputError: a system is a molecule.
    """
    many, one = as_many(systems)
    batch = pack_crystals(many)
    nearest = _rust.min_distances(batch.positions, batch.cells, batch.periodic, batch.offsets, threads)
    volume = np.abs(np.linalg.det(batch.cells))
    valid: NDArray[np.bool_] = (nearest >= MIN_DISTANCE) & (volume >= MIN_VOLUME) & (np.diff(batch.offsets) > 0)
    return bool(valid[0]) if one else valid


@overload
def compositional(
    systems: Systems | list[str] | tuple[str, ...],
    oxidation_states: OxidationStates = ...,
    *,
    threads: int | None = ...,
) -> NDArray[np.bool_]: ...
@overload
def compositional(
    systems: SystemLike | str, oxidation_states: OxidationStates = ..., *, threads: int | None = ...
) -> bool: ...
def compositional(
    systems: SystemLike | Systems | str | list[str] | tuple[str, ...],
    oxidation_states: OxidationStates = "smact14",
    *,
    threads: int | None = None,
) -> bool | NDArray[np.bool_]:
    """Whether some choice of oxidation states is neutral and gives the electrons to the more electronegative.

    The test of SMACT (Davies et al. 2019, doi 10.21105/joss.01361) as used since CDVAE: one oxidation
    state for each element; every cation less electronegative (Pauling) than every anion; elements and
    alloys of metals pass. Equal to `smact.screening.smact_validity(..., oxidation_states_set=...)` of
    smact 4.0.2, whose tables are built in, but its time does not explode with the number of elements.

    Args:
        systems: a system or a formula such as "Ca3(PO4)2", or many of either kind; of a system only the
            composition matters. False without atoms. D and T are hydrogen.
        oxidation_states: the table. "smact14" is the one behind the published figures; "icsd16" and
            "icsd24" hold what the Inorganic Crystal Structure Database had in 2016 and 2024.
        threads: None for all cores; the result does not depend on it.

    Returns:
        A bool for one; (B,) bool for many.

    Raises:
        InvalidInputError: `oxidation_states` is unknown; a formula is none, or has parts of atoms; a
            reduced composition has more than 2^24 atoms.
    """
    if isinstance(systems, str):
        return bool(_rust.compositional_of_formulas([systems], oxidation_states, threads)[0])
    if isinstance(systems, list | tuple) and any(isinstance(entry, str) for entry in systems):
        return _rust.compositional_of_formulas(_formulas(systems), oxidation_states, threads)
    many, one = as_many(systems)
    batch = pack(many)
    valid = _rust.compositional(batch.numbers, batch.offsets, oxidation_states, threads)
    return bool(valid[0]) if one else valid


def compositional_faults(systems: Systems, oxidation_states: OxidationStates = "smact14") -> list[str]:
    """Why `compositional` says no to each system, in words; "" where it says yes.

    Raises:
        InvalidInputError: as `compositional`.
    """
    batch = pack(systems)
    faults = [""] * len(batch.periodic)
    table = _rust.oxidation_state_tables(oxidation_states)
    for index in np.flatnonzero(~_rust.compositional(batch.numbers, batch.offsets, oxidation_states)).tolist():
        numbers = batch.numbers[batch.offsets[index] : batch.offsets[index + 1]]
        faults[index] = _compositional_fault(np.bincount(numbers, minlength=len(table)), table)
    return faults


def _compositional_fault(counts: NDArray[np.int64], table: Sequence[tuple[float, list[int]]]) -> str:
    present = np.flatnonzero(counts).tolist()
    if not present:
        return "no atoms"
    for number in present:
        electronegativity, states = table[number]
        if np.isnan(electronegativity) or not states:
            return f"SMACT knows no {'oxidation state' if not states else 'electronegativity'} of {SYMBOLS[number]}"
    charges = {0}
    divisor = np.gcd.reduce(counts)
    for number in present:
        charges = {charge + int(counts[number] // divisor) * state for charge in charges for state in table[number][1]}
    if 0 in charges:
        return "charge neutral only with electrons on the less electronegative element"
    return "not charge neutral"


def _formulas(entries: Sequence[object]) -> list[str]:
    found = [entry for entry in entries if isinstance(entry, str)]
    if len(found) < len(entries):
        stranger = next(k for k, entry in enumerate(entries) if not isinstance(entry, str))
        raise InvalidInputError(
            f"`systems` must be formulas only, or systems only; got formulas and, at {stranger}, "
            f"{type(entries[stranger]).__name__}. Judge them one kind at a time"
        )
    return found
