"""All quick metrics of a set of samples at once: what `adit-gen` prints and training watches."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from adit import validity as crystal_validity
from adit.eval.crystals import unique
from adit.eval.molecules import judge, uniqueness
from adit.eval.stability import edm_stability
from adit.packing import as_system, is_system

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from adit.packing import SystemLike, Systems
    from adit.system import AtomicSystem


@dataclass(frozen=True, slots=True)
class MoleculeSummary:
    """Shares are of all molecules, but `unique`, which is of the valid ones; NaN where there is nothing to divide.

    Attributes:
        count: molecules.
        mean_atoms: atoms in a molecule.
        valid: by the protocol "adit-rust" of `adit.eval.molecules.PROTOCOLS`.
        unique: different SMILES.
        connected: in one piece.
        atom_stability: atoms of the right valence (EDM's tables), of all atoms.
        molecule_stability: molecules of only such atoms.
    """

    count: int
    mean_atoms: float
    valid: float
    unique: float
    connected: float
    atom_stability: float
    molecule_stability: float


@dataclass(frozen=True, slots=True)
class CrystalSummary:
    """Shares are of all crystals, but `unique`, which is of the structurally valid ones.

    Attributes:
        count: crystals.
        mean_atoms: atoms in a cell.
        structural: no two atoms nearer than 0.5 A, in a cell of at least 0.1 A^3.
        compositional: SMACT's test of charge neutrality and electronegativity.
        valid: both.
        unique: different by StructureMatcher.
        unique_incomplete: crystals called unique without all comparisons.
    """

    count: int
    mean_atoms: float
    structural: float
    compositional: float
    valid: float
    unique: float
    unique_incomplete: int


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures of a set of samples, and the verdict on each.

    Attributes:
        molecules: of the molecules; None without any.
        crystals: of the crystals; None without any.
        valid: (B,) bool, a valid molecule, or a crystal valid in structure and composition.
        notes: a short reason or description for each system: SMILES, "stable", "atoms overlap", ...
    """

    molecules: MoleculeSummary | None
    crystals: CrystalSummary | None
    valid: NDArray[np.bool_]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON: the figures without the verdicts; NaN becomes None."""
        parts = {"molecules": self.molecules, "crystals": self.crystals}
        return {
            name: {key: _json(value) for key, value in asdict(part).items()}
            for name, part in parts.items()
            if part is not None
        }

    def rows(self) -> list[tuple[str, str]]:
        """Names and values for a table on a screen; empty without systems."""
        rows: list[tuple[str, str]] = []
        if (m := self.molecules) is not None:
            rows += [
                ("molecules", f"{m.count:,}"),
                ("atoms in a molecule", f"{m.mean_atoms:.1f}"),
                ("valid (adit-rust bonds)", percent(m.valid)),
                ("unique of valid", percent(m.unique)),
                ("connected", percent(m.connected)),
                ("stable atoms (EDM)", percent(m.atom_stability)),
                ("stable molecules (EDM)", percent(m.molecule_stability)),
            ]
        if (c := self.crystals) is not None:
            rows += [
                ("crystals", f"{c.count:,}"),
                ("atoms in a cell", f"{c.mean_atoms:.1f}"),
                ("valid structure", percent(c.structural)),
                ("valid composition", percent(c.compositional)),
                ("valid, both", percent(c.valid)),
                ("unique of valid structure", percent(c.unique)),
            ]
        return rows


def summarise(systems: SystemLike | Systems) -> Summary:
    """The quick metrics of molecules and crystals, mixed or not; `adit.eval.evaluate` has all of them.

    Args:
        systems: one system or many, of any class that `adit.packing` takes.

    Returns:
        Figures of each kind that there is, and a verdict on each system, in the order given.

    Raises:
        InvalidInputError: an entry is not a system.
    """
    everything = [as_system(system) for system in ([systems] if is_system(systems) else systems)]  # type: ignore
    periodic = np.array([system.is_periodic for system in everything], dtype=np.bool_)
    valid = np.zeros(len(everything), dtype=np.bool_)
    notes = np.full(len(everything), "", dtype=object)
    molecules = crystals = None
    if (~periodic).any():
        molecules, valid[~periodic], notes[~periodic] = _molecules(
            [system for system in everything if not system.is_periodic]
        )
    if periodic.any():
        crystals, valid[periodic], notes[periodic] = _crystals([system for system in everything if system.is_periodic])
    return Summary(molecules, crystals, valid, tuple(notes.tolist()))


def percent(share: float) -> str:
    """`0.9871` as `98.7 %`; `-` for NaN."""
    return "-" if math.isnan(share) else f"{100 * share:.1f} %"


def _molecules(systems: list[AtomicSystem]) -> tuple[MoleculeSummary, NDArray[np.bool_], list[str]]:
    verdicts = judge(systems)
    stability = edm_stability(systems)
    summary = MoleculeSummary(
        count=len(systems),
        mean_atoms=float(np.mean([len(system) for system in systems])),
        valid=float(verdicts.valid.mean()),
        unique=uniqueness(verdicts.smiles),
        connected=float(verdicts.connected.mean()),
        atom_stability=stability.atom_stability,
        molecule_stability=stability.molecule_stability,
    )
    notes = [smiles or reason for smiles, reason in zip(verdicts.smiles, verdicts.reasons, strict=True)]
    return summary, verdicts.valid, notes


def _crystals(systems: list[AtomicSystem]) -> tuple[CrystalSummary, NDArray[np.bool_], list[str]]:
    structural, compositional = crystal_validity.structural(systems), crystal_validity.compositional(systems)
    different = unique(systems)
    summary = CrystalSummary(
        count=len(systems),
        mean_atoms=float(np.mean([len(system) for system in systems])),
        structural=float(structural.mean()),
        compositional=float(compositional.mean()),
        valid=float((structural & compositional).mean()),
        unique=different.rate,
        unique_incomplete=different.incomplete,
    )
    reasons = {
        (True, True): "",
        (True, False): "composition fails SMACT",
        (False, True): "atoms overlap",
        (False, False): "atoms overlap; composition fails SMACT",
    }
    notes = [reasons[pair] for pair in zip(structural.tolist(), compositional.tolist(), strict=True)]
    return summary, structural & compositional, notes


def _json(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value
