"""What `adit-gen` keeps with --valid-only, --unique and --novel."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from adit.packing import element_counts, pack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from adit.cli.gen_options import Given, Options
    from adit.elements import Elements
    from adit.eval.reference import Reference
    from adit.system import AtomicSystem
    from adit.templates import Templates


class Filter:
    """Keeps what is of the formula, has the elements, is predicted within the ranges of properties and has the bonds of
    what it was to hold, if these were given, and then what `adit.eval.sieve.Sieve` keeps."""

    def __init__(self, options: Options, given: Given) -> None:
        """Opens the references.

        Raises:
            UnreadableFileError: there is no such reference, or it holds nothing of the kind.
        """
        self.options, self.kept, self.formulas = options, given.kept, asked_formulas(options, given.templates)
        self._reference = _reference(options.novel, options.system) if options.novel else ()

    def begin(self, kept: Sequence[AtomicSystem]) -> None:
        """Learns what is known: the reference, and what the run has kept before."""
        from adit.eval.sieve import Sieve

        options = self.options
        self._sieve = Sieve(options.system, unique=options.unique, novel=self._reference, kept=kept)

    def __call__(self, systems: list[AtomicSystem]) -> list[AtomicSystem]:
        """Those to keep, in order."""
        from adit.eval.sieve import where

        if self.formulas is not None:
            systems = where(of_formula(systems, self.formulas, self.options.multiples), systems)
        if self.options.wanted is not None:
            systems = where(has(systems, self.options.wanted), systems)
        for name, wanted in self.options.properties.items():
            if isinstance(wanted, tuple):
                systems = where(within(systems, name, wanted), systems)
        if self.kept is not None:
            systems = where(self.kept.intact(systems), systems)
        return self._sieve(systems)


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


def has(systems: list[AtomicSystem], wanted: Elements) -> NDArray[np.bool_]:
    """Which systems have the elements that are wanted."""
    return wanted.fit(element_counts(pack(systems))[:, 1:])


def within(systems: list[AtomicSystem], name: str, ends: tuple[float, float]) -> NDArray[np.bool_]:
    """Of which systems the predictor puts a property between two ends."""
    predicted = np.array([float(system.info.get(f"predicted_{name}", np.nan)) for system in systems])
    return (predicted >= ends[0]) & (predicted <= ends[1])


def snapped(systems: list[AtomicSystem], displacement: float, threads: int | None) -> list[AtomicSystem]:
    """Crystals with the symmetry that `adit.symmetry.symmetrize` finds, and its number in their `info`."""
    from adit.symmetry import symmetrize

    found = symmetrize(systems, displacement, threads=threads)
    return [replace(one.system, info={**one.system.info, "spacegroup": one.spacegroup}) for one in found]


def _reference(names: Sequence[str], system: str) -> Reference:
    from adit.errors import AditError
    from adit.eval.reference import Reference

    try:
        return Reference.open_all(names, "crystals" if system == "crystal" else "molecules")
    except AditError as error:
        raise type(error)(f"--novel: {error}") from error
