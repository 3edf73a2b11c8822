"""Structures that samples are variations of: encoded, noised in part, and made clean again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from adit.batch import SystemBatch
from adit.bonds import infer_bonds
from adit.convert.base import BrokenEntry
from adit.data.augment import moved, rotations_of
from adit.data.standard import standardise
from adit.elements import SYMBOLS, composition
from adit.errors import InvalidInputError
from adit.packing import SystemLike, Systems, as_many, as_system, element_counts, pack
from adit.prior import MAX_ATOMS
from adit.system import AtomicSystem

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FAR = 1e5
_VACUUM = 8.0
"""Angstrom; 0.8 % of MP-20's crystals have more than 5, nearly all of these more than 12."""
DEFAULT_STRENGTH = 0.55
"""Three of four molecules come back as others then, half like the template on average (docs/generate.md)."""


@dataclass(frozen=True)
class Templates:
    """Sample number k is a variation of template number k modulo K.

    Attributes:
        systems: the K templates: molecules with their atoms in the order of `molecule_order`, crystals in their Niggli
            cells; `info` holds their `id` and `charge` where they have one.
        counts: (K, 100) atoms of each element, from hydrogen on, that the network is told; None if it is not.
        begin: the time that they are noised to; 0 leaves nothing of them.
    """

    systems: Sequence[AtomicSystem]
    counts: NDArray[np.int64] | None
    begin: float

    def choice(self, index: int) -> tuple[int, NDArray[np.int64] | None]:
        """Of sample number `index` the number of atoms, and the composition (100,) if the network is told it."""
        place = index % len(self.systems)
        return len(self.systems[place]), None if self.counts is None else self.counts[place]

    @property
    def named(self) -> Iterator[tuple[str, NDArray[np.int64]]]:
        """As `named_compositions` of the templates."""
        return named_compositions(self.systems)

    def origin(self, index: int) -> dict[str, Any]:
        """Which template sample number `index` is a variation of, for its `info`."""
        place = index % len(self.systems)
        known = self.systems[place].info
        return {"like": place} | ({"like_id": known["id"]} if "id" in known else {})

    @property
    def charged(self) -> str:
        """The first template with a charge, which nothing is told of; "" if none has one."""
        found = ((place, one) for place, one in enumerate(self.systems) if one.info.get("charge"))
        return next((f"structure {place} has a charge of {one.info['charge']:+g}" for place, one in found), "")

    @property
    def hollow(self) -> str:
        """The first crystal with a layer without atoms that is thicker than those of layered ones; "" if none has."""
        for place, system in enumerate(self.systems):
            if system.cell is not None and (gap := _widest_gap(system)) > _VACUUM:
                return f"structure {place} ({system.formula}) has {gap:.0f} Angstrom of vacuum"
        return ""

    def batch(self, indices: Sequence[int], streams: Sequence[np.random.Generator]) -> SystemBatch:
        """The templates of samples of one size, each turned (a molecule) or shifted (a crystal) at random."""
        systems = [self.systems[index % len(self.systems)] for index in indices]
        cells = [np.eye(3) if system.cell is None else system.cell for system in systems]
        batch = SystemBatch.from_arrays(
            np.stack([system.numbers for system in systems]),
            np.stack([system.positions for system in systems]),
            np.stack(cells),
            np.array([system.is_periodic for system in systems]),
        )
        quaternions = np.stack([stream.standard_normal(4, np.float32) for stream in streams])
        shifts = np.stack([stream.random((1, 3), np.float32) for stream in streams])
        return moved(batch, rotations_of(torch.from_numpy(quaternions)), torch.from_numpy(shifts))


def templates_from(
    system: str,
    like: SystemLike | Systems,
    strength: float | None = None,
    formula: str | None = None,
    atoms: object = None,
) -> Templates:
    """Checked; see `adit.Generator.stream`.

    Raises:
        InvalidInputError: a template is of the other kind, empty, too large, or has a cell that cannot be reduced; an
            option is out of range or contradicts `like`. Names the template, counted from 0.
    """
    given = structures_of("like", like, system)
    strength = DEFAULT_STRENGTH if strength is None else strength
    if not isinstance(strength, int | float) or not 0 < strength <= 1:
        raise InvalidInputError(f"`strength` must lie above 0 and be at most 1; got {strength!r}")
    if atoms is not None:
        raise InvalidInputError(
            "`atoms` and `like` contradict each other: a variation has as many atoms as its template"
        )
    if formula in ("training", "new"):
        raise InvalidInputError(
            f"`formula` {formula!r} and `like` contradict each other; leave it out for that of the template, or give "
            "one of as many atoms, or 'any'"
        )
    standard = _standard(given)
    counts = None
    if formula is None:
        counts = element_counts(pack(standard))[:, 1:]
    elif formula != "any":
        counts = np.stack([_fitting(formula, item) for item in standard])
    return Templates(standard, counts, 1.0 - float(strength))


def unfamiliar(named: Iterable[tuple[str, NDArray[np.int64]]], formulas: Iterable[str]) -> str:
    """What the first composition (100,) has that none of the training set, by its formulas, has; "" if none does.

    Each comes with what it is called.
    """
    known = np.stack([composition(name) for name in formulas])
    elements: NDArray[np.bool_] = known.sum(0) > 0
    most_heavy, most = int(known[:, 1:].sum(1).max()), int(known.sum(1).max())
    for name, counts in named:
        if strange := [SYMBOLS[place + 1] for place in np.flatnonzero((counts > 0) & ~elements)]:
            return f"{name} has {', '.join(strange)}, which none has that the weights were trained on"
        if (heavy := int(counts[1:].sum())) > most_heavy:
            return (
                f"{name} has {heavy} atoms besides hydrogen; what the weights were trained on has at most {most_heavy}"
            )
        if (atoms := int(counts.sum())) > most:
            return f"{name} has {atoms} atoms; what the weights were trained on has at most {most}"
    return ""


def structures_of(option: str, given: SystemLike | Systems, system: str) -> list[AtomicSystem]:
    """The structures that an option gives, all of the kind `system`.

    Raises:
        InvalidInputError: there is none, or one is of the other kind, too large or too far away; names it, from 0.
    """
    found = [as_system(item) for item in as_many(given)[0]]
    if not found:
        raise InvalidInputError(f"`{option}` holds no structure; give at least one")
    for place, item in enumerate(found):
        name = f"`{option}`, structure {place}"
        if item.is_periodic != (system == "crystal"):
            kind = "crystal" if item.is_periodic else "molecule"
            raise InvalidInputError(f"{name} is a {kind}; `system` is {system!r}")
        if len(item) > MAX_ATOMS:
            raise InvalidInputError(f"{name} has {len(item)} atoms; at most {MAX_ATOMS} can be made")
        if len(item) and not np.abs(item.positions).max() < _FAR:
            raise InvalidInputError(f"{name} has an atom more than {_FAR:g} Angstrom from the origin")
    return found


def named_compositions(systems: Sequence[AtomicSystem]) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """Each structure's composition, (100,), with what a message calls it."""
    for place, (system, counts) in enumerate(zip(systems, element_counts(pack(systems))[:, 1:], strict=True)):
        yield f"structure {place} ({system.formula})", counts


def _standard(given: list[AtomicSystem]) -> list[AtomicSystem]:
    """As `Templates.systems` are."""
    made = []
    for place, entry in enumerate(standardise(list(given))):
        if isinstance(entry, BrokenEntry):
            raise InvalidInputError(f"`like`, structure {place}: {entry.reason}")
        order = slice(None) if entry.is_periodic else molecule_order(entry)
        info = {name: entry.info[name] for name in ("id", "charge") if entry.info.get(name)}
        made.append(AtomicSystem(entry.numbers[order], entry.positions[order], entry.cell, info))
    return made


def _widest_gap(crystal: AtomicSystem) -> float:
    """Between the planes of a cell that pass through its atoms, in Angstrom."""
    assert crystal.cell is not None
    inverse = np.linalg.inv(crystal.cell)
    places = np.sort((crystal.positions @ inverse) % 1, axis=0)
    gaps = np.diff(places, axis=0, append=places[:1] + 1).max(0)
    return float((gaps / np.linalg.norm(inverse, axis=0)).max())


def molecule_order(molecule: AtomicSystem) -> list[int]:
    """The atoms in an order that the network knows: its molecules stand as SMILES do, which walk from bond to bond.

    Heavy atoms as given if that is such a walk, depth first, else as RDKit writes them; then the hydrogens, those of
    the first heavy atom first. Out of this order molecules do not even survive a little noise (docs/generate.md).
    """
    heavy = np.flatnonzero(molecule.numbers != 1).tolist()
    bonded: list[list[int]] = [[] for _ in molecule.numbers]
    for a, b in infer_bonds(molecule).bonds.tolist():
        bonded[a].append(b)
        bonded[b].append(a)
    skeleton = {atom: [other for other in bonded[atom] if molecule.numbers[other] != 1] for atom in heavy}
    if not _is_walk(heavy, skeleton):
        heavy = _written(molecule, skeleton)
    hydrogens = [other for atom in heavy for other in bonded[atom] if molecule.numbers[other] == 1]
    order = dict.fromkeys(heavy + hydrogens)
    return [*order, *(atom for atom in range(len(molecule)) if atom not in order)]


def _is_walk(atoms: list[int], bonded: dict[int, list[int]]) -> bool:
    """Whether a walk through all bonds, depth first, can meet the atoms in this order."""
    seen: set[int] = set()
    path: list[int] = []
    for atom in atoms:
        while path and atom not in bonded[path[-1]]:
            if any(other not in seen for other in bonded[path.pop()]):
                return False
        seen.add(atom)
        path.append(atom)
    return True


def _written(molecule: AtomicSystem, skeleton: dict[int, list[int]]) -> list[int]:
    """The heavy atoms as RDKit's SMILES of them, all bonds single, has them."""
    from rdkit import Chem

    drawing, places = Chem.RWMol(), {}
    for atom in skeleton:
        drawn = Chem.Atom(int(molecule.numbers[atom]))
        drawn.SetNoImplicit(True)
        places[atom] = drawing.AddAtom(drawn)
    for atom, others in skeleton.items():
        for other in others:
            if atom < other:
                drawing.AddBond(places[atom], places[other], Chem.BondType.SINGLE)
    drawing.UpdatePropertyCache(strict=False)
    Chem.MolToSmiles(drawing)
    atoms = list(skeleton)
    return [atoms[place] for place in drawing.GetPropsAsDict(True, True)["_smilesAtomOutputOrder"]]


def _fitting(formula: str, item: AtomicSystem) -> NDArray[np.int64]:
    counts = composition(formula)
    if counts.sum() != len(item):
        raise InvalidInputError(
            f"`formula` {formula} has {counts.sum()} atoms, a template {len(item)}: a variation has as many as it"
        )
    return counts
