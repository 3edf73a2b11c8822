"""Validity, uniqueness and novelty of molecules, from coordinates alone."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from adit.bonds import BondFlag, assemble, infer_bonds
from adit.errors import BackendUnavailableError, InvalidInputError
from adit.packing import Systems, as_system

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from rdkit import Chem

    from adit.system import AtomicSystem

Bonds = Literal["rdkit", "openbabel", "adit-rust"]
BONDS: tuple[Bonds, ...] = ("rdkit", "openbabel", "adit-rust")

_MAX_ITERATIONS = 1000  # of RDKit's search for bond orders; real molecules of 100 atoms need fewer


def validity(systems: Systems, bonds: Bonds = "rdkit", *, radicals: bool = False) -> list[str | None]:
    """Canonical SMILES without stereochemistry of each valid molecule, None of each invalid one.

    Bonds and their orders are inferred from the positions, the largest fragment is taken, RDKit
    sanitises it, and no electron may be left unpaired: RDKit's sanitisation alone would pass
    almost any cloud of atoms as a radical. A molecule in several pieces can be valid, as in the
    ADiT protocol (arXiv 2503.03965); see `connected`.

    Args:
        systems: molecules.
        bonds: "openbabel" is the ADiT protocol (ConnectTheDots and PerceiveBondOrders of Open Babel);
            "rdkit" is rdDetermineBonds, which needs no other package; "adit-rust" is
            `adit.bonds.infer_bonds`, neutral; crowded and overlapping atoms are invalid too.
        radicals: accept unpaired electrons too.

    Raises:
        InvalidInputError: `bonds` is unknown, or a system is a crystal.
        BackendUnavailableError: bonds="openbabel" and Open Babel is not installed.
    """
    perceive = _perception(bonds)
    with _quiet_rdkit():
        return [_smiles(perceive, system, radicals) for system in _molecules(systems)]


def connected(systems: Systems) -> NDArray[np.bool_]:
    """(B,) bool: the molecule is in one piece, by RDKit's connect-the-dots bonds. False without atoms."""
    from rdkit import Chem

    with _quiet_rdkit():
        return np.array(
            [len(system) > 0 and len(Chem.GetMolFrags(_connectivity(system))) == 1 for system in _molecules(systems)],
            dtype=np.bool_,
        )


def uniqueness(smiles: Sequence[str | None]) -> float:
    """Different SMILES among the valid ones; NaN if none is valid."""
    valid = [entry for entry in smiles if entry is not None]
    return len(set(valid)) / len(valid) if valid else float("nan")


def novelty(smiles: Sequence[str | None], reference: Collection[str]) -> float:
    """Share of the different valid SMILES that are not in `reference`; NaN if none is valid.

    `reference` must hold canonical SMILES without stereochemistry, best made by `validity` itself
    with the same `bonds`.
    """
    known = reference if isinstance(reference, set | frozenset) else set(reference)
    unique = {entry for entry in smiles if entry is not None}
    return len(unique - known) / len(unique) if unique else float("nan")


def _molecules(systems: Systems) -> Iterator[AtomicSystem]:
    for index, system in enumerate(map(as_system, systems)):
        if system.is_periodic:
            raise InvalidInputError(f"`systems` must be molecules; system {index} is a crystal: {system!r}")
        yield system


def _perception(bonds: str) -> Callable[[AtomicSystem], Chem.Mol | None]:
    if bonds == "rdkit":
        return _rdkit_bonds
    if bonds == "openbabel":
        return _openbabel_bonds()
    if bonds == "adit-rust":
        return _adit_bonds
    raise InvalidInputError(f"`bonds` must be one of {', '.join(BONDS)}; got {bonds!r}")


def _smiles(perceive: Callable[[AtomicSystem], Chem.Mol | None], system: AtomicSystem, radicals: bool) -> str | None:
    from rdkit import Chem

    molecule = perceive(system) if len(system) else None
    if molecule is None:
        return None
    try:
        Chem.SanitizeMol(molecule)
        if not radicals and any(atom.GetNumRadicalElectrons() for atom in molecule.GetAtoms()):
            return None
        return str(Chem.MolToSmiles(Chem.RemoveHs(molecule), isomericSmiles=False))
    except Chem.MolSanitizeException:
        return None


def _rdkit_bonds(system: AtomicSystem) -> Chem.Mol | None:
    """The largest fragment with the bond orders of rdDetermineBonds, neutral; None if it finds none."""
    from rdkit import Chem
    from rdkit.Chem import rdDetermineBonds

    molecule = _largest_fragment(_connectivity(system))
    try:
        rdDetermineBonds.DetermineBondOrders(
            molecule, charge=0, allowChargedFragments=True, embedChiral=False, maxIterations=_MAX_ITERATIONS
        )
    except (ValueError, RuntimeError, Chem.MolSanitizeException):
        return None
    return molecule


def _adit_bonds(system: AtomicSystem) -> Chem.Mol | None:
    """The largest fragment with the bonds of `adit.bonds`; None if atoms are too close to each other."""
    found = infer_bonds(system, charge=0)
    if found.flags & (BondFlag.CROWDED | BondFlag.OVERLAP | BondFlag.CHARGE):
        return None
    return _largest_fragment(assemble(system.numbers, found))


def _connectivity(system: AtomicSystem) -> Any:
    from rdkit import Chem
    from rdkit.Chem import rdDetermineBonds

    molecule = _bare(system)
    conformer = Chem.Conformer(len(system))
    conformer.SetPositions(np.array(system.positions))
    molecule.AddConformer(conformer)
    rdDetermineBonds.DetermineConnectivity(molecule)
    return molecule


def _openbabel_bonds() -> Callable[[AtomicSystem], Chem.Mol]:
    """The largest fragment with the bond orders of Open Babel, as a function of the system."""
    try:
        from openbabel import openbabel
    except ImportError as error:
        raise BackendUnavailableError(
            f'bonds="openbabel" needs Open Babel ({error}): `pip install adit[eval]`, or choose bonds="rdkit"'
        ) from error
    from rdkit import Chem

    openbabel.obErrorLog.StopLogging()
    orders = {
        1: Chem.BondType.SINGLE,
        2: Chem.BondType.DOUBLE,
        3: Chem.BondType.TRIPLE,
        4: Chem.BondType.QUADRUPLE,
    }

    def perceive(system: AtomicSystem) -> Chem.Mol:
        source = openbabel.OBMol()
        source.BeginModify()
        for number, (x, y, z) in zip(system.numbers.tolist(), system.positions.tolist(), strict=True):
            atom = source.NewAtom()
            atom.SetAtomicNum(number)
            atom.SetVector(x, y, z)
        source.EndModify()
        source.ConnectTheDots()
        source.PerceiveBondOrders()
        molecule = _bare(system)
        for bond in openbabel.OBMolBondIter(source):
            molecule.AddBond(bond.GetBeginAtomIdx() - 1, bond.GetEndAtomIdx() - 1, orders[bond.GetBondOrder()])
        return _largest_fragment(molecule)

    return perceive


def _bare(system: AtomicSystem) -> Any:
    """An editable RDKit molecule of the atoms alone; hydrogens are only those that are there."""
    from rdkit import Chem

    molecule = Chem.RWMol()
    for number in system.numbers.tolist():
        atom = Chem.Atom(number)
        atom.SetNoImplicit(True)
        molecule.AddAtom(atom)
    return molecule


def _largest_fragment(molecule: Chem.Mol) -> Chem.Mol:
    from rdkit import Chem

    fragments = Chem.GetMolFrags(molecule, asMols=True, sanitizeFrags=False)
    largest: Chem.Mol = max(fragments, key=lambda fragment: fragment.GetNumAtoms())
    return largest


@contextmanager
def _quiet_rdkit() -> Iterator[None]:
    """RDKit writes a line for each molecule it refuses."""
    from rdkit import rdBase

    with rdBase.BlockLogs():
        yield
