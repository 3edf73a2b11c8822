"""What `adit-gen` keeps with --valid-only, --unique and --novel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from adit.packing import element_counts, pack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from adit.cli.gen_options import Options
    from adit.eval.reference import Reference
    from adit.system import AtomicSystem
    from adit.templates import Templates


class Filter:
    """Keeps what is valid, of the formula and predicted within the ranges of properties if these were given, and by
    option new to the run or to a reference.

    Molecules are the same if their SMILES (`adit.bonds`, without stereochemistry) are, crystals if pymatgen's
    StructureMatcher says so: as `adit-eval` counts them.
    """

    def __init__(self, options: Options, templates: Templates | None = None) -> None:
        """Opens the references; `templates` are the structures of --like.

        Raises:
            UnreadableFileError: there is no such reference, or it holds nothing of the kind.
        """
        self.options, self.formulas = options, asked_formulas(options, templates)
        self._reference = _reference(options.novel, options.system) if options.novel else None
        self._smiles: set[str] = set()
        self._crystals: dict[bytes, list[AtomicSystem]] = {}  # kept, by reduced formula

    def begin(self, kept: Sequence[AtomicSystem]) -> None:
        """Learns what is known: the reference, and what the run has kept before."""
        if self.options.unique and self.options.system == "crystal":
            self._remember(kept)
        elif self.options.system == "molecule":
            from adit.eval.molecules import validity
            from adit.eval.workers import Workers

            if self._reference is not None:
                with Workers(None) as workers:
                    self._smiles |= set(self._reference.smiles("adit-rust", workers))
            if self.options.unique:
                self._smiles |= {entry for entry in validity(kept) if entry is not None}

    def __call__(self, systems: list[AtomicSystem]) -> list[AtomicSystem]:
        """Those to keep, in order."""
        if self.formulas is not None:
            systems = _where(of_formula(systems, self.formulas, self.options.multiples), systems)
        for name, wanted in self.options.properties.items():
            if isinstance(wanted, tuple):
                systems = _where(within(systems, name, wanted), systems)
        return self._molecules(systems) if self.options.system == "molecule" else self._periodic(systems)

    def _remember(self, crystals: Sequence[AtomicSystem]) -> None:
        from adit.eval.crystals import reduced_formulas

        for formula, crystal in zip(reduced_formulas(crystals), crystals, strict=True):
            self._crystals.setdefault(formula, []).append(crystal)

    def _molecules(self, systems: list[AtomicSystem]) -> list[AtomicSystem]:
        """In one piece, with bonds that RDKit accepts."""
        from adit.eval.molecules import connected, validity

        kept = []
        for system, smiles, whole in zip(systems, validity(systems), connected(systems).tolist(), strict=True):
            if smiles is not None and whole and smiles not in self._smiles:
                kept.append(system)
                if self.options.unique:
                    self._smiles.add(smiles)
        return kept

    def _periodic(self, systems: list[AtomicSystem]) -> list[AtomicSystem]:
        """Valid in structure and composition."""
        from adit.eval.crystals import novel, reduced_formulas, unique
        from adit.validity import compositional, structural

        systems = _where(structural(systems) & compositional(systems), systems)
        if self._reference is not None:
            systems = _where(novel(systems, self._reference.data), systems)
        if self.options.unique:
            formulas = set(reduced_formulas(systems))
            before = [one for formula in sorted(formulas) for one in self._crystals.get(formula, ())]
            systems = _where(unique([*before, *systems]).first[len(before) :], systems)
            self._remember(systems)
        return systems


def asked_formulas(options: Options, templates: Templates | None) -> NDArray[np.int64] | None:
    """(K, 100) the composition that sample k modulo K should have; None if they may differ."""
    if options.composition is not None:
        return options.composition[None]
    if templates is None or options.formula is not None:
        return None
    return np.stack([counts for _, counts in templates.named])


def of_formula(systems: list[AtomicSystem], formulas: NDArray[np.int64], multiples: bool = False) -> NDArray[np.bool_]:
    """Which systems have the composition (K, 100) that was asked for, by the `index` of the sample; or a multiple."""
    places = np.array([int(system.info.get("index", 0)) for system in systems], dtype=np.int64) % len(formulas)
    counts, asked = element_counts(pack(systems))[:, 1:], formulas[places]
    if multiples:
        asked = asked * (counts.sum(1) // asked.sum(1))[:, None]
    same: NDArray[np.bool_] = (counts == asked).all(1)
    return same


def within(systems: list[AtomicSystem], name: str, ends: tuple[float, float]) -> NDArray[np.bool_]:
    """Of which systems the predictor puts a property between two ends."""
    predicted = np.array([float(system.info.get(f"predicted_{name}", np.nan)) for system in systems])
    return (predicted >= ends[0]) & (predicted <= ends[1])


def _where(good: NDArray[np.bool_], systems: list[AtomicSystem]) -> list[AtomicSystem]:
    return [entry for entry, keep in zip(systems, good.tolist(), strict=True) if keep]


def _reference(names: Sequence[str], system: str) -> Reference:
    from adit.errors import AditError
    from adit.eval.reference import Reference

    try:
        return Reference.open_all(names, "crystals" if system == "crystal" else "molecules")
    except AditError as error:
        raise type(error)(f"--novel: {error}") from error
