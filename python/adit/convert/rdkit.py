"""To and from RDKit: bonds and bond orders perceived from the coordinates alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from adit import bonds
from adit.bonds import FAULTS, UNSANITISED, BondFlag
from adit.errors import InvalidInputError
from adit.system import AtomicSystem

if TYPE_CHECKING:
    from rdkit import Chem


def to_rdkit(system: AtomicSystem) -> Chem.Mol:
    """A molecule with a conformer, all hydrogens explicit, and bonds perceived by `adit.bonds`.

    The total charge is 0, or the entry `charge` of `info`. Where no assignment of bond orders fits (a strange
    molecule), valences are left open; this never raises. The property `adit_bonds` of the molecule says which:
    "orders", or the names of the faults, such as "RADICAL" or "RADICAL|CROWDED". See `adit.bonds.BondFlag`.

    Raises:
        InvalidInputError: the system is a crystal.
    """
    if system.cell is not None:
        raise InvalidInputError(f"the crystal {system.formula} has no RDKit molecule; use to_ase or to_pymatgen")
    mol = bonds.to_rdkit(system, total_charge(system))
    faults = [name for name in mol.GetProp("adit_flags").split("|") if name and BondFlag[name] & FAULTS]
    mol.SetProp("adit_bonds", "|".join(faults) or ("unknown valence" if mol.HasProp(UNSANITISED) else "orders"))
    return mol


def bonded(system: AtomicSystem) -> Chem.Mol | None:
    """The sanitised molecule with bond orders and stereochemistry, or None where no bond orders fit. Logs nothing.

    Raises:
        InvalidInputError: the system is a crystal.
    """
    mol = to_rdkit(system)
    return mol if len(system) and mol.GetProp("adit_bonds") == "orders" else None


def total_charge(system: AtomicSystem) -> int:
    """The entry `charge` of `info` if it is a whole number, else 0."""
    charge = system.info.get("charge", 0)
    return int(charge) if isinstance(charge, int | float) and float(charge).is_integer() else 0


def from_rdkit(mol: Chem.Mol, conformer: int = -1, info: Mapping[str, Any] | None = None) -> AtomicSystem:
    """From one conformer of a molecule; `info` defaults to its properties, its name (`id`) and charge, unless 0.

    Args:
        mol: with all hydrogens explicit.
        conformer: its id; -1 is the first.

    Raises:
        InvalidInputError: there is no such conformer, it is flat (2D), or hydrogens are implicit.
    """
    if mol.GetNumConformers() == 0:
        raise InvalidInputError("the molecule has no conformer; make one with rdkit.Chem.AllChem.EmbedMolecule")
    try:
        chosen = mol.GetConformer(conformer)
    except ValueError as error:
        known = [each.GetId() for each in mol.GetConformers()]
        raise InvalidInputError(f"the molecule has no conformer {conformer}; it has {known}") from error
    if not chosen.Is3D() and mol.GetNumAtoms() > 1:
        raise InvalidInputError("the conformer is a 2D drawing; adit needs 3D coordinates")
    missing = sum(atom.GetTotalNumHs() for atom in mol.GetAtoms() if not atom.NeedsUpdatePropertyCache())
    if missing:
        raise InvalidInputError(f"{missing} hydrogens are implicit; add them with Chem.AddHs(mol, addCoords=True)")
    numbers = np.array([atom.GetAtomicNum() for atom in mol.GetAtoms()], dtype=np.int64)
    if info is None:
        charge = sum(atom.GetFormalCharge() for atom in mol.GetAtoms())
        name = mol.GetProp("_Name") if mol.HasProp("_Name") else ""
        info = {**({"id": name} if name else {}), **({"charge": charge} if charge else {}), **mol.GetPropsAsDict()}
    return AtomicSystem(numbers, chosen.GetPositions(), None, info)
