"""Bonds, bond orders and formal charges from elements and positions, and what follows from them.

    >>> import adit.bonds
    >>> found = adit.bonds.infer_bonds([8, 1, 1], [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
    >>> found.bonds.tolist(), found.orders.tolist(), found.flags.names
    ([[0, 1], [0, 2]], [1, 1], [])

Molecules only; every function takes one system or many, see `adit.packing`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntFlag
from typing import TYPE_CHECKING, Any

import numpy as np

from adit import _rust
from adit.errors import InvalidInputError
from adit.packing import Packed, SystemLike, Systems, as_system, is_one, pack_molecules
from adit.system import AtomicSystem

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray
    from rdkit import Chem


class BondFlag(IntFlag):
    """What is remarkable about the bonds of a molecule; 0 for a whole molecule without faults."""

    RADICAL = 1
    """Some atom has unpaired electrons: its valence is not satisfied."""
    CROWDED = 2
    """Two atoms are within the length of a bond that their valences do not allow."""
    FRAGMENTS = 4
    """There is more than one piece."""
    CHARGE = 8
    """The total charge that was asked for cannot be reached."""
    METAL = 16
    """There is a metal: it has no bonds, and its usual charge."""
    CUT = 32
    """The search was cut short: there may be a better assignment."""
    OVERLAP = 64
    """Two atoms lie on top of each other."""

    @property
    def names(self) -> list[str]:
        """Of the flags that are set, such as ["RADICAL", "FRAGMENTS"]."""
        return [name for name, flag in BondFlag.__members__.items() if flag & self]


FAULTS = BondFlag.RADICAL | BondFlag.CROWDED | BondFlag.CHARGE | BondFlag.OVERLAP
"""With one of these a molecule is not what its valences ask for."""

CHECKS = ("connected", "valences", "bond_lengths", "bond_angles", "clashes", "aromatic_rings", "double_bonds")
"""The checks of `check_geometry`, in this order."""


UNSANITISED = "adit_unsanitised"
"""The property of an RDKit molecule that RDKit refuses to sanitise."""


@dataclass(frozen=True, slots=True, eq=False)
class Bonds:
    """The bonds of one molecule of n atoms.

    Attributes:
        bonds: (m, 2) int64, pairs of atoms, ascending within and among them.
        orders: (m,) uint8, 1 to 3, a Kekule structure.
        charges: (n,) int8, formal charges.
        radicals: (n,) uint8, unpaired electrons.
        fragments: (n,) int64, the piece each atom belongs to, from 0 in the order of their first atoms.
        flags: what is remarkable.
    """

    bonds: NDArray[np.int64]
    orders: NDArray[np.uint8]
    charges: NDArray[np.int8]
    radicals: NDArray[np.uint8]
    fragments: NDArray[np.int64]
    flags: BondFlag

    @property
    def charge(self) -> int:
        """Total charge."""
        return int(self.charges.sum())

    @property
    def n_fragments(self) -> int:
        return int(self.fragments.max()) + 1 if len(self.fragments) else 0


@dataclass(frozen=True, slots=True, eq=False)
class BondsBatch:
    """The bonds of B molecules of T atoms; a sequence of `Bonds`.

    Attributes:
        bonds: (M, 2) int64, pairs of atoms, counted from 0 in each molecule.
        orders: (M,) uint8.
        bond_offsets: (B + 1,) int64; molecule k owns bonds bond_offsets[k] to bond_offsets[k + 1].
        charges: (T,) int8.
        radicals: (T,) uint8.
        fragments: (T,) int64.
        flags: (B,) uint32, see `BondFlag`.
        offsets: (B + 1,) int64; molecule k owns atoms offsets[k] to offsets[k + 1].
    """

    bonds: NDArray[np.int64]
    orders: NDArray[np.uint8]
    bond_offsets: NDArray[np.int64]
    charges: NDArray[np.int8]
    radicals: NDArray[np.uint8]
    fragments: NDArray[np.int64]
    flags: NDArray[np.uint32]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.flags)

    def __getitem__(self, index: int) -> Bonds:
        place = range(len(self))[index]
        atoms = slice(self.offsets[place], self.offsets[place + 1])
        pairs = slice(self.bond_offsets[place], self.bond_offsets[place + 1])
        return Bonds(
            self.bonds[pairs],
            self.orders[pairs],
            self.charges[atoms],
            self.radicals[atoms],
            self.fragments[atoms],
            BondFlag(int(self.flags[place])),
        )

    def __iter__(self) -> Iterator[Bonds]:
        return (self[place] for place in range(len(self)))


@dataclass(frozen=True, slots=True, eq=False)
class MoleculeStability:
    """Which atoms and molecules have the right valences.

    Attributes:
        atoms: (B,) float64, the fraction of stable atoms in each molecule (0 for no atoms).
        molecules: (B,) bool, every atom is stable.
        sizes: (B,) int64, atoms in each molecule.
    """

    atoms: NDArray[np.float64]
    molecules: NDArray[np.bool_]
    sizes: NDArray[np.int64]

    @property
    def atom_stability(self) -> float:
        """Stable atoms among all atoms of all molecules; NaN without atoms."""
        total = int(self.sizes.sum())
        return float((self.atoms * self.sizes).sum() / total) if total else float("nan")

    @property
    def molecule_stability(self) -> float:
        """Stable molecules among all; NaN without molecules."""
        return float(self.molecules.mean()) if len(self.molecules) else float("nan")


def infer_bonds(
    numbers: ArrayLike | SystemLike, positions: ArrayLike | None = None, charge: int | None = None
) -> Bonds:
    """Bonds, orders and formal charges of one molecule.

    Contacts shorter than 1.32 typical single bonds may be bonds. Which of them are, and of which
    order, is the cheapest answer to: satisfied valences, lengths that fit the orders, and few formal
    charges, on electronegative atoms. No valence is ever exceeded: what cannot be satisfied is left
    with unpaired electrons, and flagged.

    Args:
        numbers: (n,) atomic numbers, 1 to 100; or one system in place of both arrays.
        positions: (n, 3), Cartesian, Angstrom; all hydrogens are there.
        charge: total charge. None: what the atoms suggest; of equally good answers the one
            nearest to neutral.

    Raises:
        InvalidInputError: a shape is wrong, a number is not an element, a coordinate is not finite,
            or the system is a crystal.
    """
    system: Any = numbers if positions is None else AtomicSystem(np.asarray(numbers), np.asarray(positions))
    if isinstance(system, np.ndarray | list | tuple):
        raise InvalidInputError("`positions` must be an array (n, 3) in Angstrom where `numbers` is one; got None")
    return infer_bonds_batch([as_system(system)], None if charge is None else [charge], threads=1)[0]


def infer_bonds_batch(
    systems: Systems | Packed | SystemLike, charges: ArrayLike | None = None, *, threads: int | None = None
) -> BondsBatch:
    """`infer_bonds` of many molecules, in parallel; the same result for any number of threads.

    Args:
        systems: molecules, or `Packed` arrays.
        charges: (B,) total charges, or one for all; None: what the atoms suggest.
        threads: None for all cores.

    Raises:
        InvalidInputError: as `infer_bonds`; `charges` does not fit.
    """
    batch = _molecules(systems)
    bonds, orders, ends, charged, radicals, fragments, flags = _rust.infer_bonds(
        batch.numbers, batch.positions, batch.offsets, _charges(charges, len(batch.periodic)), threads
    )
    return BondsBatch(bonds, orders, ends, charged, radicals, fragments, flags, batch.offsets)


def to_rdkit(system: SystemLike, charge: int | None = None, *, stereo: bool = True) -> Chem.Mol:
    """An RDKit molecule with a conformer, bonds, charges and unpaired electrons; see `to_rdkit_batch`."""
    return to_rdkit_batch([system], None if charge is None else [charge], stereo=stereo, threads=1)[0]


def to_rdkit_batch(
    systems: Systems | Packed, charges: ArrayLike | None = None, *, stereo: bool = True, threads: int | None = None
) -> list[Chem.Mol]:
    """RDKit molecules with all hydrogens explicit, in the order of the atoms.

    Each has the property `adit_flags`, the names of its flags ("" for none, "RADICAL|FRAGMENTS"),
    and is sanitised; where RDKit refuses (a valence that it does not know), the property
    `adit_unsanitised` holds its reason, and the molecule is as it was before.

    Args:
        systems: molecules.
        charges: as in `infer_bonds_batch`.
        stereo: assign stereochemistry from the positions, but not that of C=N-H: it would keep RDKit
            from removing the hydrogen.

    Raises:
        InvalidInputError: as `infer_bonds_batch`.
    """
    from rdkit import rdBase

    batch = _molecules(systems)
    found = infer_bonds_batch(batch, charges, threads=threads)
    molecules = []
    with rdBase.BlockLogs():
        for place, bonds in enumerate(found):
            atoms = slice(batch.offsets[place], batch.offsets[place + 1])
            molecules.append(_molecule(batch.numbers[atoms], batch.positions[atoms], bonds, stereo))
    return molecules


def to_sdf(
    systems: Systems | Packed | SystemLike,
    charges: ArrayLike | None = None,
    *,
    titles: Sequence[str] | None = None,
    threads: int | None = None,
) -> str:
    """An SDF of all molecules, with bonds, charges and unpaired electrons; RDKit is not needed.

    The connection tables are V2000, or V3000 beyond 999 atoms or bonds or 9999 Angstrom.

    Args:
        systems: molecules.
        charges: as in `infer_bonds_batch`.
        titles: the first line of each record; empty if None.

    Raises:
        InvalidInputError: as `infer_bonds_batch`.
    """
    records, _ = sdf_records(systems, charges, titles=titles, threads=threads)
    return "".join(records)


def sdf_records(
    systems: Systems | Packed | SystemLike,
    charges: ArrayLike | None = None,
    *,
    titles: Sequence[str] | None = None,
    items: Sequence[str] | None = None,
    threads: int | None = None,
) -> tuple[list[str], NDArray[np.uint32]]:
    """The records of `to_sdf`, each with its data items (`> <name>`, value, empty line), and the flags."""
    batch = _molecules(systems)
    count = len(batch.periodic)
    return _rust.sdf_records(
        batch.numbers,
        batch.positions,
        batch.offsets,
        [""] * count if titles is None else list(titles),
        [""] * count if items is None else list(items),
        _charges(charges, count),
        threads,
    )


def edm_stability(systems: Systems | Packed | SystemLike, *, threads: int | None = None) -> MoleculeStability:
    """Valences of all atoms, from distances alone: the protocol of EDM.

    Two atoms are bonded once if closer than the single-bond length plus 10 pm, twice if also closer
    than the double-bond length plus 5 pm, three times if also closer than the triple-bond length
    plus 3 pm. An atom is stable if its bonds add up to a valence allowed for its element; elements
    outside the tables never are.

    Source: Hoogeboom, Satorras, Vignac & Welling, ICML 2022, arXiv 2203.17003, appendix C.

    Raises:
        InvalidInputError: a system is a crystal.
    """
    batch = _molecules(systems)
    sizes = np.diff(batch.offsets)
    stable = _rust.stable_atoms(batch.numbers, batch.positions, batch.offsets, threads)
    return MoleculeStability(stable / np.maximum(sizes, 1), (stable == sizes) & (sizes > 0), sizes)


def check_geometry(
    systems: Systems | Packed | SystemLike, charges: ArrayLike | None = None, *, threads: int | None = None
) -> list[tuple[str, ...]]:
    """The names of the failed `CHECKS` of each molecule; () for one that passes.

    "connected": one piece. "valences": no unpaired electrons, no crowded atoms, the charge as given.
    "bond_lengths": within 25 % of what is usual for the order. "bond_angles": within 70 to 162
    degrees at an atom with single bonds, 80 to 168 at one with a double bond, beyond 135 at a linear
    one; 42 to 82 and 62 to 118 in rings of three and four. "clashes": atoms more than three bonds
    apart are further from each other than 0.6 of the sum of their van der Waals radii (0.5 from
    hydrogen to N, O, F, S, Cl). "aromatic_rings": no atom of a ring of five or six is more than 0.25
    Angstrom out of its plane. "double_bonds": nor, outside of rings of up to seven, is a neighbour of
    a double bond out of its.

    In the spirit of PoseBusters (Buttenschoen, Morris & Deane, Chem. Sci. 15, 3130 (2024)), whose
    bounds come from RDKit's distance geometry; the verdicts are not the same.

    Raises:
        InvalidInputError: as `infer_bonds_batch`.
    """
    batch = _molecules(systems)
    failed = _rust.check_geometry(
        batch.numbers, batch.positions, batch.offsets, _charges(charges, len(batch.periodic)), threads
    )
    return [tuple(name for bit, name in enumerate(CHECKS) if mask >> bit & 1) for mask in failed.tolist()]


def _molecules(systems: Systems | Packed | SystemLike) -> Packed:
    many: Any = systems if isinstance(systems, Packed) or not is_one(systems) else [systems]
    return pack_molecules(many)


def _charges(charges: ArrayLike | None, count: int) -> NDArray[np.int32] | None:
    if charges is None:
        return None
    given = np.asarray(charges)
    if given.shape not in ((), (count,)) or given.dtype.kind not in "iu" or (abs(given) > 10**6).any():
        raise InvalidInputError(
            f"`charges` must be whole numbers, one for all or {count}, one for each system; "
            f"got dtype {given.dtype}, shape {given.shape}"
        )
    return np.ascontiguousarray(np.broadcast_to(given, count), dtype=np.int32)


def assemble(numbers: NDArray[np.integer[Any]], bonds: Bonds) -> Chem.Mol:
    """An RDKit molecule of atoms and bonds, neither sanitised nor with a conformer."""
    from rdkit import Chem

    kinds = (Chem.BondType.ZERO, Chem.BondType.SINGLE, Chem.BondType.DOUBLE, Chem.BondType.TRIPLE)
    editable = Chem.RWMol()
    for number, charge, radicals in zip(numbers.tolist(), bonds.charges.tolist(), bonds.radicals.tolist(), strict=True):
        atom = Chem.Atom(number)
        atom.SetNoImplicit(True)
        atom.SetFormalCharge(charge)
        atom.SetNumRadicalElectrons(radicals)
        editable.AddAtom(atom)
    for (first, second), order in zip(bonds.bonds.tolist(), bonds.orders.tolist(), strict=True):
        editable.AddBond(first, second, kinds[order])
    return editable.GetMol()


def _molecule(numbers: NDArray[np.uint8], positions: NDArray[np.float64], bonds: Bonds, stereo: bool) -> Chem.Mol:
    from rdkit import Chem

    bare = assemble(numbers, bonds)
    conformer = Chem.Conformer(len(numbers))
    conformer.Set3D(True)
    conformer.SetPositions(np.ascontiguousarray(positions))
    bare.AddConformer(conformer, assignId=True)
    molecule = _sanitised(bare, stereo)
    molecule.SetProp("adit_flags", "|".join(bonds.flags.names))
    return molecule


def _sanitised(molecule: Chem.Mol, stereo: bool) -> Chem.Mol:
    from rdkit import Chem

    before = Chem.Mol(molecule)
    try:
        Chem.SanitizeMol(molecule)
        if stereo:
            _assign_stereo(molecule)
    except (ValueError, RuntimeError) as error:  # its sanitisation errors are ValueError, its invariants RuntimeError
        before.UpdatePropertyCache(strict=False)
        Chem.FastFindRings(before)
        before.SetProp(UNSANITISED, str(error).strip())
        return before
    return molecule


def _assign_stereo(molecule: Chem.Mol) -> None:
    from rdkit import Chem

    Chem.AssignStereochemistryFrom3D(molecule)
    for bond in molecule.GetBonds():
        if bond.GetStereo() != Chem.BondStereo.STEREONONE:
            ends = (bond.GetBeginAtom(), bond.GetEndAtom())
            others = [[near.GetAtomicNum() for near in end.GetNeighbors()] for end in ends]
            if any(max(near, default=1) and sorted(near)[:-1] == [1] for near in others):
                bond.SetStereo(Chem.BondStereo.STEREONONE)
                for end in ends:
                    for side in end.GetBonds():
                        side.SetBondDir(Chem.BondDir.NONE)
