"""Stages of `adit.eval.evaluate` that hold samples against a reference: distributions and coverage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from adit.eval.coverage import neighbour_coverage
from adit.eval.distributions import crystal_distances, molecule_distances
from adit.eval.quantities import crystal_statistics, molecule_statistics
from adit.eval.reference_statistics import known_crystals, known_molecules, sound_crystals
from adit.eval.results import Kind, Metric
from adit.eval.stages import CRYSTAL_PROTOCOL, SYMPREC, Figure, Findings, Samples, Stage
from adit.packing import pack, take

if TYPE_CHECKING:
    from adit.eval.reference import Reference
    from adit.eval.workers import Advance

DISTANCES, COVERAGE, LISTED = "distances", "coverage", "listed"


def reference_stages(reference: Reference | None) -> list[Stage]:
    """What can be held against a reference, which may have nothing of a kind."""
    stages: list[Stage] = []
    if reference is not None and len(reference.molecules_3d):
        stages.append(MoleculeDistancesStage(reference))
    if reference is not None and reference.listed:
        stages.append(ListedStage(reference))
    if reference is not None and len(reference.crystals):
        stages += [CrystalDistancesStage(reference), CoverageStage(reference)]
    return stages


@dataclass(frozen=True, slots=True)
class MoleculeDistancesStage:
    """How far the distributions of molecules are from the reference's."""

    reference: Reference
    kind: Kind = "molecules"
    title: str = "molecules, distributions"

    def steps(self, samples: Samples) -> int:
        return len(samples.systems) + len(self.reference.molecules_3d)

    def __call__(self, samples: Samples, advance: Advance) -> Findings:
        theirs = known_molecules(self.reference)
        advance(len(self.reference.molecules_3d))
        found = molecule_distances(molecule_statistics(samples.systems), theirs)
        advance(len(samples.systems))
        lengths, angles = found.bond_lengths, found.bond_angles
        values = {
            ("atoms in a molecule", "number"): found.atom_count,
            ("elements", "bits"): found.elements,
            ("kinds of bonds", "bits"): lengths.shares,
            ("bond lengths", "A"): lengths.wasserstein,
            ("shape of bond lengths", "bits"): lengths.jensen_shannon,
            ("kinds of angles", "bits"): angles.shares,
            ("bond angles", "degrees"): angles.wasserstein,
            ("shape of bond angles", "bits"): angles.jensen_shannon,
        }
        return _distances("molecules", values, len(samples.systems), self.reference.name)


@dataclass(frozen=True, slots=True)
class ListedStage:
    """Says what the SMILES of a reference serve for."""

    reference: Reference
    kind: Kind = "molecules"
    title: str = "molecules, listed"

    def steps(self, samples: Samples) -> int:
        return 0

    def __call__(self, samples: Samples, advance: Advance) -> Findings:
        count = (
            f"{len(self.reference.listed):,} of {len(self.reference.molecules):,} molecules of {self.reference.name}"
        )
        words = (
            f"{count} have no coordinates, only SMILES: these serve for novelty, best by adit-rust (adit and edm draw "
            f"some known molecules otherwise), not for {DISTANCES}."
        )
        return Findings(protocols={LISTED: words})


@dataclass(frozen=True, slots=True)
class CrystalDistancesStage:
    """How far the distributions of structurally valid crystals are from the reference's."""

    reference: Reference
    kind: Kind = "crystals"
    title: str = "crystals, distributions"

    def steps(self, samples: Samples) -> int:
        return len(samples.systems) + len(self.reference.crystals)

    def __call__(self, samples: Samples, advance: Advance) -> Findings:
        theirs = known_crystals(self.reference, SYMPREC)
        advance(len(self.reference.crystals))
        sound = np.flatnonzero([row["protocols"][CRYSTAL_PROTOCOL]["structure"] for row in samples.rows])
        groups = np.array([row["spacegroup"] for row in samples.rows], dtype=np.int64)[sound]
        ours = crystal_statistics(take(pack(samples.systems), sound), symprec=SYMPREC, groups=groups)
        found = crystal_distances(ours, theirs)
        advance(len(samples.systems))
        values = {
            ("density", "g/cm^3"): found.density,
            ("volume", "A^3 per atom"): found.volume,
            ("atoms in a cell", "number"): found.atom_count,
            ("elements in a crystal", "number"): found.n_elements,
            ("elements", "bits"): found.elements,
            ("space groups", "bits"): found.spacegroups,
        }
        return _distances("crystals", values, len(sound), self.reference.name)


@dataclass(frozen=True, slots=True)
class CoverageStage:
    """How much of the reference crystals have reach, and stay there."""

    reference: Reference
    kind: Kind = "crystals"
    title: str = "crystals, coverage"

    def steps(self, samples: Samples) -> int:
        return len(samples.systems)

    def __call__(self, samples: Samples, advance: Advance) -> Findings:
        found = neighbour_coverage(samples.systems, sound_crystals(self.reference), seed=samples.seed)
        advance(len(samples.systems))
        known = len(found.reference)

        def share(name: str, value: float) -> Metric:
            return Metric(kind="crystals", protocol=COVERAGE, name=name, value=value, of=known)

        return Findings(
            figures=[
                share("coverage", found.coverage),
                share("coverage to be expected", found.expected),
                Figure(name="precision", values=found.within, protocol=COVERAGE),
            ],
            columns={"within_reference": found.within.tolist()},
            protocols={
                COVERAGE: f"Of {known:,} crystals of {self.reference.name}, each with the ball to its "
                f"{found.neighbours}th nearest fellow: balls with a sample in them (coverage; to be expected of as "
                "many samples of the reference's own distribution), samples in a ball (precision). Not CDVAE's COV."
            },
        )


def _distances(kind: Kind, values: dict[tuple[str, str], float], of: int, reference: str) -> Findings:
    what = "structurally valid crystals" if kind == "crystals" else "molecules, good or bad,"
    return Findings(
        figures=[
            Metric(kind=kind, protocol=DISTANCES, name=name, value=value, of=of, unit=unit)
            for (name, unit), value in values.items()
        ],
        protocols={
            DISTANCES: f"Of the distributions of {what} to those of {reference}: Jensen-Shannon divergence in bits "
            "(0 to 1), else Wasserstein distance; 0 for the same."
        },
    )
