"""What to keep of samples as they are made: valid ones, each once, those that are not known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from adit import validity as crystal_validity
from adit.errors import InvalidInputError
from adit.eval.crystals import novel, reduced_formulas, unique
from adit.eval.molecules import connected, validity
from adit.eval.reference import Reference
from adit.eval.workers import Workers

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from adit.system import AtomicSystem


class Sieve:
    """A function that keeps the valid ones of systems, in order, and remembers.

    Molecules: in one piece, with bonds (`adit.bonds`) that RDKit can sanitise and no unpaired electrons; the same if
    their SMILES without stereochemistry are. Crystals: valid in structure and composition (`adit.validity`); the same
    if pymatgen's StructureMatcher says so. As `adit-eval` counts them.
    """

    def __init__(
        self, system: str, *, unique: bool = False, novel: str | Sequence[str] | Reference = (),
        kept: Sequence[AtomicSystem] = (),
    ) -> None:  # fmt: skip
        """What is known is read here.

        Args:
            system: "molecule" or "crystal".
            unique: whether each is kept once, by this call or one before it.
            novel: prepared data sets, files or lists of SMILES, of which nothing is kept; as `Reference.open_all` takes
                them.
            kept: with `unique`, what was kept before.

        Raises:
            InvalidInputError: another `system`.
            UnreadableFileError: there is no such reference, or it holds nothing of the kind.
        """
        if system not in ("molecule", "crystal"):
            raise InvalidInputError(f"`system` must be 'molecule' or 'crystal'; got {system!r}")
        self.system, self.unique = system, unique
        self.known: Reference | None = None
        if isinstance(novel, Reference):
            self.known = novel
        elif novel:
            names = [novel] if isinstance(novel, str) else novel
            self.known = Reference.open_all(names, "crystals" if system == "crystal" else "molecules")
        self._smiles: set[str] = set()
        self._crystals: dict[bytes, list[AtomicSystem]] = {}  # kept, by reduced formula
        if system == "molecule":
            if self.known is not None:
                with Workers(None) as workers:
                    self._smiles |= set(self.known.smiles("adit-rust", workers))
            if unique and kept:
                self._smiles |= {entry for entry in validity(kept) if entry is not None}
        elif unique and kept:
            self._remember(kept)

    def __call__(self, systems: Sequence[AtomicSystem]) -> list[AtomicSystem]:
        """Those to keep, in order."""
        if not systems:
            return []
        return self._molecules(systems) if self.system == "molecule" else self._periodic(systems)

    def _molecules(self, systems: Sequence[AtomicSystem]) -> list[AtomicSystem]:
        kept = []
        for system, smiles, whole in zip(systems, validity(systems), connected(systems).tolist(), strict=True):
            if smiles is not None and whole and smiles not in self._smiles:
                kept.append(system)
                if self.unique:
                    self._smiles.add(smiles)
        return kept

    def _periodic(self, systems: Sequence[AtomicSystem]) -> list[AtomicSystem]:
        good = where(crystal_validity.structural(systems) & crystal_validity.compositional(systems), systems)
        if self.known is not None:
            good = where(novel(good, self.known.data), good)
        if self.unique:
            formulas = set(reduced_formulas(good))
            before = [one for formula in sorted(formulas) for one in self._crystals.get(formula, ())]
            good = where(unique([*before, *good]).first[len(before) :], good)
            self._remember(good)
        return good

    def _remember(self, crystals: Sequence[AtomicSystem]) -> None:
        for formula, crystal in zip(reduced_formulas(crystals), crystals, strict=True):
            self._crystals.setdefault(formula, []).append(crystal)


def where(good: NDArray[np.bool_], systems: Sequence[AtomicSystem]) -> list[AtomicSystem]:
    """Those of `systems` for which `good` is True."""
    return [entry for entry, keep in zip(systems, good.tolist(), strict=True) if keep]
