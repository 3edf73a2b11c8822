"""Three ways from coordinates to bonds and a verdict on a molecule; see `PROTOCOLS`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from adit import _rust
from adit.bonds import BondFlag, infer_bonds_batch
from adit.elements import SYMBOLS
from adit.errors import BackendUnavailableError, InvalidInputError
from adit.eval.stability import tables
from adit.neighbors import neighbor_list_batch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from adit.packing import Packed

Protocol = Literal["adit", "edm", "adit-rust"]

PROTOCOLS: dict[Protocol, str] = {
    "adit": (
        "Open Babel finds bonds and orders (ConnectTheDots, PerceiveBondOrders); valid if RDKit sanitises the largest "
        "fragment; unpaired electrons are accepted (ADiT, arXiv 2503.03965)."
    ),
    "edm": (
        "Bonds and orders from EDM's tables of lengths; valid if RDKit sanitises the whole molecule, of which the "
        "largest fragment counts; unpaired electrons are accepted (EDM, arXiv 2203.17003)."
    ),
    "adit-rust": (
        "Bonds, orders and charges of a neutral molecule by adit.bonds; valid if RDKit sanitises the largest fragment, "
        "which is neutral and has no unpaired electron, and no atoms overlap (0.5 A) or crowd each other."
    ),
}
"""What each protocol is, in one sentence."""

OVERLAP = 0.5
"""Angstrom: atoms of an invalid molecule nearer than this are named as the reason; by "adit-rust" they are one."""
_FAR = 1e9  # Angstrom
_REACH = 2.9  # Angstrom, beyond the longest bond of EDM's tables


@dataclass(frozen=True, slots=True, eq=False)
class Verdicts:
    """What a protocol says of B molecules.

    Attributes:
        smiles: canonical SMILES without stereochemistry of each valid one, None of each invalid one.
        paired: (B,) bool, valid, and no electron is unpaired.
        connected: (B,) bool, in one piece by the bonds of the protocol. False without atoms.
        reasons: why each invalid one is so, or what is unpaired in a valid one, in words that count atoms from 0;
            "" for one without fault.
    """

    smiles: list[str | None]
    paired: NDArray[np.bool_]
    connected: NDArray[np.bool_]
    reasons: list[str]

    @property
    def valid(self) -> NDArray[np.bool_]:
        """(B,) bool."""
        return np.array([entry is not None for entry in self.smiles], dtype=np.bool_)

    @classmethod
    def join(cls, parts: Sequence[Verdicts]) -> Verdicts:
        """One after the other."""
        none = np.zeros(0, dtype=np.bool_)
        return cls(
            [entry for part in parts for entry in part.smiles],
            np.concatenate([none, *(part.paired for part in parts)]),
            np.concatenate([none, *(part.connected for part in parts)]),
            [reason for part in parts for reason in part.reasons],
        )


class _Graph(NamedTuple):
    """A molecule of n atoms with all hydrogens; `fault` is set where it is invalid before RDKit has seen it."""

    numbers: list[int]
    bonds: list[list[int]]
    orders: list[int]
    charges: list[int]
    fault: str = ""


def check_protocol(protocol: str) -> None:
    """Raises where a protocol is unknown, or needs a library that is not installed.

    Raises:
        InvalidInputError: it is unknown.
        BackendUnavailableError: it is "adit", and Open Babel is not installed.
    """
    if protocol not in PROTOCOLS:
        raise InvalidInputError(f"`protocol` must be one of {', '.join(PROTOCOLS)}; got {protocol!r}")
    if protocol == "adit":
        _openbabel()


def judge_packed(batch: Packed, protocol: Protocol) -> Verdicts:
    """The verdicts on packed molecules, in this process.

    Raises:
        InvalidInputError: the protocol is unknown.
        BackendUnavailableError: as `check_protocol`.
    """
    check_protocol(protocol)
    perceive = {"adit": _by_openbabel, "edm": _by_tables, "adit-rust": _by_adit}[protocol]
    judged = []
    with quiet_rdkit():
        for place, graph in enumerate(perceive(batch)):
            atoms = slice(batch.offsets[place], batch.offsets[place + 1])
            judged.append(_judge(graph, batch.positions[atoms], protocol))
    columns = list(zip(*judged, strict=True)) or [(), (), (), ()]
    flags = [np.array(column, dtype=np.bool_) for column in columns[1:3]]
    return Verdicts(list(columns[0]), flags[0], flags[1], list(columns[3]))


@contextmanager
def quiet_rdkit() -> Iterator[None]:
    """RDKit writes a line for each molecule it refuses."""
    from rdkit import rdBase

    with rdBase.BlockLogs():
        yield


def _judge(graph: _Graph, positions: NDArray[np.float64], protocol: Protocol) -> tuple[str | None, bool, bool, str]:
    """SMILES, paired, connected, reason."""
    if not graph.numbers:
        return None, False, False, "no atoms"
    labels = _fragments(len(graph.numbers), graph.bonds)
    connected = max(labels) == 0
    whole = connected or protocol == "edm"
    atoms = list(range(len(labels))) if whole else _largest(labels)
    fault = graph.fault
    if not fault:
        molecule, origin = _assemble(graph, atoms)
        fault = _sanitise(molecule, origin, graph)
        if not fault and whole and not connected:
            molecule, origin = _assemble(graph, _largest(labels))
            fault = _sanitise(molecule, origin, graph)
    if fault:
        return None, False, connected, _overlap(graph.numbers, positions) or fault
    unpaired = _unpaired(molecule, origin, graph)
    charge = sum(graph.charges[atom] for atom in atoms)
    if protocol == "adit-rust" and (unpaired or charge):
        return None, False, connected, unpaired or f"the largest fragment has charge {charge:+d}"
    from rdkit import Chem

    return str(Chem.MolToSmiles(molecule, isomericSmiles=False)), not unpaired, connected, unpaired


def _fragments(count: int, bonds: list[list[int]]) -> list[int]:
    """The piece each atom belongs to, from 0 in the order of their first atoms."""
    root = list(range(count))

    def find(atom: int) -> int:
        while root[atom] != atom:
            root[atom] = root[root[atom]]
            atom = root[atom]
        return atom

    for first, second in bonds:
        a, b = find(first), find(second)
        root[max(a, b)] = min(a, b)
    names: dict[int, int] = {}
    return [names.setdefault(find(atom), len(names)) for atom in range(count)]


def _largest(labels: list[int]) -> list[int]:
    """Atoms of the largest piece, of equals the first."""
    counts = np.bincount(labels)
    best = int(counts.argmax())
    return [atom for atom, label in enumerate(labels) if label == best]


def _assemble(graph: _Graph, atoms: list[int]) -> tuple[Any, list[int]]:
    """An RDKit molecule of some atoms, and for each of its atoms the place in `graph`.

    Hydrogens with one single bond, not to hydrogen, become a number on their neighbour: what
    `RemoveHs` would do later, for the price of a smaller molecule. No other hydrogen is implied.
    """
    from rdkit import Chem

    numbers = graph.numbers
    degree, partner, fold = [0] * len(numbers), [-1] * len(numbers), [False] * len(numbers)
    for (first, second), order in zip(graph.bonds, graph.orders, strict=True):
        degree[first] += order
        degree[second] += order
        partner[first], partner[second] = second, first
    hydrogens = [0] * len(numbers)
    for atom, number in enumerate(numbers):
        if number == 1 and degree[atom] == 1 and numbers[partner[atom]] != 1 and not graph.charges[atom]:
            fold[atom] = True
            hydrogens[partner[atom]] += 1
    molecule = Chem.RWMol()
    place, origin = [-1] * len(numbers), []
    for atom in atoms:
        if not fold[atom]:
            made = Chem.Atom(numbers[atom])
            made.SetNoImplicit(True)
            if hydrogens[atom]:
                made.SetNumExplicitHs(hydrogens[atom])
            if graph.charges[atom]:
                made.SetFormalCharge(graph.charges[atom])
            place[atom] = molecule.AddAtom(made)
            origin.append(atom)
    kinds = _bond_kinds()
    for (first, second), order in zip(graph.bonds, graph.orders, strict=True):
        if place[first] >= 0 and place[second] >= 0:
            molecule.AddBond(place[first], place[second], kinds[order])
    return molecule, origin


def _sanitise(molecule: Any, origin: list[int], graph: _Graph) -> str:
    """What RDKit objects to, in words; "" if it sanitised the molecule."""
    from rdkit import Chem

    try:
        if Chem.SanitizeMol(molecule, catchErrors=True) == Chem.SanitizeFlags.SANITIZE_NONE:
            return ""
        molecule.UpdatePropertyCache(strict=False)
        problems = Chem.DetectChemistryProblems(molecule)
    except RuntimeError:  # one of its invariants
        return "RDKit gives up on it"
    valences = [0] * len(graph.numbers)
    for (first, second), order in zip(graph.bonds, graph.orders, strict=True):
        valences[first] += order
        valences[second] += order
    for problem in problems:
        if problem.GetType() == "AtomValenceException":
            atom = origin[problem.GetAtomIdx()]
            return f"{name(graph.numbers[atom])} {atom} has valence {valences[atom]}"
    return "the orders of the bonds in a ring contradict each other"


def _unpaired(molecule: Any, origin: list[int], graph: _Graph) -> str:
    """Names the first atom with unpaired electrons; "" if there is none."""
    for atom in molecule.GetAtoms():
        if count := atom.GetNumRadicalElectrons():
            place = origin[atom.GetIdx()]
            return f"{name(graph.numbers[place])} {place} has {count} unpaired electron{'s' if count > 1 else ''}"
    return ""


def _overlap(numbers: list[int], positions: NDArray[np.float64]) -> str:
    """Names the two nearest atoms if they overlap; "" if none do."""
    if len(numbers) < 2:
        return ""
    first, second, distance = nearest(positions)
    return f"atoms {first} and {second} are {distance:.2f} A apart" if distance < OVERLAP else ""


def nearest(positions: NDArray[np.float64]) -> tuple[int, int, float]:
    """The two nearest of at least two points, and their distance."""
    first, second = np.triu_indices(len(positions), 1)
    distances = np.linalg.norm(positions[first] - positions[second], axis=1)
    best = int(distances.argmin())
    return int(first[best]), int(second[best]), float(distances[best])


@lru_cache
def name(number: int) -> str:
    """Of an element, in small letters."""
    from rdkit import Chem

    return str(Chem.GetPeriodicTable().GetElementName(number)).lower()


@lru_cache
def _bond_kinds() -> tuple[Any, ...]:
    from rdkit.Chem import BondType

    return (BondType.ZERO, BondType.SINGLE, BondType.DOUBLE, BondType.TRIPLE, BondType.QUADRUPLE)


def _by_adit(batch: Packed) -> Iterator[_Graph]:
    found = infer_bonds_batch(batch, 0, threads=1)
    near = _rust.min_distances(batch.positions, batch.cells, batch.periodic, batch.offsets, 1) < OVERLAP
    numbers, bonds, orders, charges = (
        array.tolist() for array in (batch.numbers, found.bonds, found.orders, found.charges)
    )
    for place, flags in enumerate(found.flags.tolist()):
        atoms = slice(int(batch.offsets[place]), int(batch.offsets[place + 1]))
        pairs = slice(int(found.bond_offsets[place]), int(found.bond_offsets[place + 1]))
        fault = ""
        if near[place] or flags & BondFlag.OVERLAP:
            fault = "atoms overlap"
        elif flags & BondFlag.CROWDED:
            fault = _crowded(numbers[atoms], batch.positions[atoms], bonds[pairs])
        elif flags & BondFlag.CHARGE:
            fault = "no neutral choice of bonds and charges"
        yield _Graph(numbers[atoms], bonds[pairs], orders[pairs], charges[atoms], fault)


def _crowded(numbers: list[int], positions: NDArray[np.float64], bonds: list[list[int]]) -> str:
    """Names the two atoms that are not bonded and yet nearest for their covalent radii."""
    from rdkit import Chem

    radii = np.array([Chem.GetPeriodicTable().GetRcovalent(number) for number in numbers])
    first, second = np.triu_indices(len(numbers), 1)
    distances = np.linalg.norm(positions[first] - positions[second], axis=1)
    ratio = distances / (radii[first] + radii[second])
    held = {(min(pair), max(pair)) for pair in bonds}
    ratio[[pair in held for pair in zip(first.tolist(), second.tolist(), strict=True)]] = np.inf
    best = int(ratio.argmin())
    return (
        f"atoms {first[best]} and {second[best]} are {distances[best]:.2f} A apart, "
        "within a bond that their valences do not allow"
    )


def _by_tables(batch: Packed) -> Iterator[_Graph]:
    """Bonds of EDM: appendix C of arXiv 2203.17003."""
    lengths = _lengths()
    far = _far(batch)
    batch = batch._replace(positions=np.where(np.repeat(far, np.diff(batch.offsets))[:, None], 0.0, batch.positions))
    first, second, distance, ends = neighbor_list_batch("ijd", batch, _REACH, half=True, threads=1)
    limits = lengths[batch.numbers[first], batch.numbers[second]]
    below = 100 * distance[:, None] < limits
    order = np.where(below[:, 0], 1 + np.where(below[:, 1], 1 + below[:, 2], 0), 0)
    numbers = batch.numbers.tolist()
    for place in range(len(batch.periodic)):
        start, stop = int(batch.offsets[place]), int(batch.offsets[place + 1])
        pairs = slice(int(ends[place]), int(ends[place + 1]))
        bonded = order[pairs] > 0
        ij = np.stack([first[pairs][bonded], second[pairs][bonded]], axis=1) - start
        orders = order[pairs][bonded].tolist()
        fault = "the coordinates are too large for distances" if far[place] else ""
        yield _Graph(numbers[start:stop], ij.tolist(), orders, [0] * (stop - start), fault)


def _far(batch: Packed) -> NDArray[np.bool_]:
    """(B,) bool: an atom is so far from the origin that `adit.neighbors` refuses the molecule."""
    far = np.abs(batch.positions).max(axis=1, initial=0) >= _FAR
    return np.bincount(np.repeat(np.arange(len(batch.periodic)), np.diff(batch.offsets)), far, len(batch.periodic)) > 0


@lru_cache
def _lengths() -> NDArray[np.float64]:
    """(101, 101, 3) in pm: below these a bond is single, double, triple; 0 where there is none."""
    table = tables()
    limits = np.zeros((len(SYMBOLS), len(SYMBOLS), 3))
    for order, (lengths, margin) in enumerate(zip(table.lengths, table.margins, strict=True)):
        for pair, length in lengths.items():
            ends = [SYMBOLS.index(symbol) for symbol in pair]
            limits[ends[0], ends[-1], order] = limits[ends[-1], ends[0], order] = length + margin
    return limits


def _by_openbabel(batch: Packed) -> Iterator[_Graph]:
    openbabel = _openbabel()
    numbers, positions = batch.numbers.tolist(), batch.positions.tolist()
    for place in range(len(batch.periodic)):
        atoms = slice(int(batch.offsets[place]), int(batch.offsets[place + 1]))
        source = openbabel.OBMol()
        source.BeginModify()
        for number, (x, y, z) in zip(numbers[atoms], positions[atoms], strict=True):
            atom = source.NewAtom()
            atom.SetAtomicNum(number)
            atom.SetVector(x, y, z)
        source.EndModify()
        source.ConnectTheDots()
        source.PerceiveBondOrders()
        found = [
            (bond.GetBeginAtomIdx() - 1, bond.GetEndAtomIdx() - 1, bond.GetBondOrder())
            for bond in openbabel.OBMolBondIter(source)
        ]
        bonds, orders = [[first, second] for first, second, _ in found], [order for *_, order in found]
        yield _Graph(numbers[atoms], bonds, orders, [0] * len(numbers[atoms]))


def _openbabel() -> Any:
    try:
        from openbabel import openbabel
    except ImportError as error:
        raise BackendUnavailableError(
            f"the protocol 'adit' needs Open Babel ({error}): `pip install adit[eval]`, or choose 'edm' or 'adit-rust'"
        ) from error
    openbabel.obErrorLog.StopLogging()
    return openbabel
