"""To and from RDKit: bonds and bond orders perceived from the coordinates alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from adit.errors import InvalidInputError
from adit.system import AtomicSystem

if TYPE_CHECKING:
    from rdkit import Chem

MAX_ITERATIONS = 1000
"""Valence assignments that the search for bond orders may try; it is exponential on broken molecules."""
MAX_ATOMS = 300
"""Larger molecules get connectivity only."""
MOST_BONDS = 6
"""An atom keeps so many of its shortest bonds where there is connectivity only."""


def to_rdkit(system: AtomicSystem) -> Chem.Mol:
    """A molecule with a conformer, all hydrogens explicit, and bonds perceived for a total charge of 0.

    Where no assignment of bond orders fits (a strange molecule), atoms that are close get single bonds (an atom
    its six shortest) and the molecule is not sanitised; this never raises. The property `adit_bonds` of the
    molecule says which: "orders" or "connectivity".

    Raises:
        InvalidInputError: the system is a crystal.
    """
    mol = bonded(system)
    if mol is not None:
        return mol
    from rdkit import Chem, rdBase
    from rdkit.Chem import rdDetermineBonds

    bare = _atoms(system)
    with rdBase.BlockLogs():
        try:
            mol = Chem.Mol(bare)
            rdDetermineBonds.DetermineConnectivity(mol)
            mol = _pruned(mol, system)
        except (ValueError, RuntimeError):
            mol = Chem.Mol(bare)
        for atom in mol.GetAtoms():
            atom.SetNoImplicit(True)
        mol.UpdatePropertyCache(strict=False)
        Chem.FastFindRings(mol)
    mol.SetProp("adit_bonds", "connectivity")
    return mol


def bonded(system: AtomicSystem) -> Chem.Mol | None:
    """The sanitised molecule with bond orders and stereochemistry, or None where no bond orders fit. Logs nothing.

    Raises:
        InvalidInputError: the system is a crystal.
    """
    from rdkit import Chem, rdBase
    from rdkit.Chem import rdDetermineBonds

    mol = _atoms(system)
    if not 0 < len(system) <= MAX_ATOMS:
        return None
    with rdBase.BlockLogs():
        try:
            rdDetermineBonds.DetermineConnectivity(mol)
            if not _plausible(mol):
                return None
            rdDetermineBonds.DetermineBondOrders(mol, charge=0, embedChiral=False, maxIterations=MAX_ITERATIONS)
            Chem.SanitizeMol(mol)
            Chem.AssignStereochemistryFrom3D(mol)
        except (ValueError, RuntimeError):  # RDKit's sanitisation errors are ValueError, its invariants RuntimeError
            return None
    mol.SetProp("adit_bonds", "orders")
    return mol


def from_rdkit(mol: Chem.Mol, conformer: int = -1, info: Mapping[str, Any] | None = None) -> AtomicSystem:
    """From one conformer of a molecule; `info` defaults to the molecule's properties.

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
    extra = mol.GetPropsAsDict() if info is None else info
    return AtomicSystem(numbers, chosen.GetPositions(), None, extra)


def _atoms(system: AtomicSystem) -> Chem.Mol:
    """The atoms and the conformer, no bonds."""
    from rdkit import Chem
    from rdkit.Geometry import Point3D

    if system.cell is not None:
        raise InvalidInputError(f"the crystal {system.formula} has no RDKit molecule; use to_ase or to_pymatgen")
    mol = Chem.RWMol()
    conformer = Chem.Conformer(len(system))
    conformer.Set3D(True)
    for index, (number, position) in enumerate(zip(system.numbers.tolist(), system.positions.tolist(), strict=True)):
        atom = Chem.Atom(number)
        atom.SetNoImplicit(True)
        mol.AddAtom(atom)
        conformer.SetAtomPosition(index, Point3D(*position))
    mol.AddConformer(conformer, assignId=True)
    return mol.GetMol()


_MAX_BONDS = {1: 1, 6: 4, 7: 4, 8: 3, 9: 1}


def _pruned(mol: Chem.Mol, system: AtomicSystem) -> Chem.Mol:
    """Drops the longest bonds of atoms with more than `MOST_BONDS`: ring search in a dense clump takes minutes."""
    from rdkit import Chem

    if all(atom.GetDegree() <= MOST_BONDS for atom in mol.GetAtoms()):
        return mol
    pairs = np.array([(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()) for bond in mol.GetBonds()])
    lengths = np.linalg.norm(system.positions[pairs[:, 0]] - system.positions[pairs[:, 1]], axis=1)
    free = [MOST_BONDS] * len(system)
    smaller = Chem.RWMol(mol)
    for first, second in pairs[np.argsort(lengths, kind="stable")].tolist():
        if free[first] and free[second]:
            free[first] -= 1
            free[second] -= 1
        else:
            smaller.RemoveBond(first, second)
    return smaller.GetMol()


def _plausible(mol: Chem.Mol) -> bool:
    """False where a common element has more neighbours than any valence allows: the search could not succeed."""
    return all(atom.GetDegree() <= _MAX_BONDS.get(atom.GetAtomicNum(), 8) for atom in mol.GetAtoms())
