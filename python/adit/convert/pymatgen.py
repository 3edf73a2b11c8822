"""To and from pymatgen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from adit.errors import InvalidInputError
from adit.system import MAX_NUMBER, AtomicSystem

if TYPE_CHECKING:
    from pymatgen.core import Molecule, Structure


def to_pymatgen(system: AtomicSystem) -> Structure | Molecule:
    """A `Structure` (crystal) or `Molecule`; `info` goes to `properties`."""
    from pymatgen.core import Lattice, Molecule, Structure

    properties = dict(system.info)
    if system.cell is None:
        return Molecule(system.symbols, system.positions, properties=properties)
    return Structure(
        Lattice(system.cell),
        system.symbols,
        system.positions,
        coords_are_cartesian=True,
        properties=properties,
    )


def from_pymatgen(structure: Structure | Molecule, info: Mapping[str, Any] | None = None) -> AtomicSystem:
    """From a pymatgen `Structure` or `Molecule`; oxidation states are dropped, deuterium becomes hydrogen.

    `info` defaults to its properties, and the charge of a molecule, unless 0.

    Raises:
        InvalidInputError: a site is disordered (partly occupied or shared), or is no element.
    """
    numbers = []
    for index, site in enumerate(structure):
        if not site.is_ordered:
            raise InvalidInputError(
                f"disordered structure: site {index} holds {site.species_string}. "
                "Order it first, e.g. with pymatgen's OrderDisorderedStructureTransformation"
            )
        number = getattr(site.specie, "Z", 0)
        if not 1 <= number <= MAX_NUMBER:
            raise InvalidInputError(
                f"site {index} holds {site.species_string}; expected an element from 1 to {MAX_NUMBER}"
            )
        numbers.append(number)
    lattice = getattr(structure, "lattice", None)
    if lattice is not None and not all(lattice.pbc):
        raise InvalidInputError(
            f"the lattice is periodic in {lattice.pbc}; expected all three directions, or a Molecule"
        )
    if info is None:
        charge = 0 if lattice is not None else structure.charge
        info = {**({"charge": charge} if charge else {}), **(structure.properties or {})}
    return AtomicSystem(
        np.array(numbers, dtype=np.int64), structure.cart_coords, None if lattice is None else lattice.matrix, info
    )
