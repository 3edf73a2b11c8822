"""How well an autoencoder gives back what went in: match rate and RMSD, for each size of system.

`adit.train.reconstruct` passes systems through an autoencoder; what comes back is judged here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from adit.eval.crystals import TOLERANCES
from adit.eval.results import Kind, Metric
from adit.eval.stages import Figure, Findings, Quantile, Samples
from adit.eval.strain import superposed_rmsd
from adit.matching import StructureMatcher
from adit.validity import structural

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from adit.eval.workers import Advance
    from adit.system import AtomicSystem

Rebuild: TypeAlias = "Callable[[Sequence[AtomicSystem], Advance], Sequence[AtomicSystem | None]]"
"""Systems to what an autoencoder makes of them, atoms in the same order; None where it cannot take one."""

RECONSTRUCTION = "reconstruction"
TOLERANCE, WIDE_TOLERANCE = 0.01, 0.1
"""Angstrom, of molecules. pymatgen's MoleculeMatcher has the first, but looks for the best order of atoms."""

_SIZES = (1, 6, 11, 16, 21, 31, 51, 101)
"""Where groups of sizes begin."""


@dataclass(frozen=True, slots=True, eq=False)
class Reconstruction:
    """B systems and what came back.

    Attributes:
        accuracy: (B,) float64, share of atoms of the right element; 0 where nothing came back.
        rmsd: (B,) float64: of molecules in Angstrom, atoms in the order given, superposed; of crystals in units of
            the cube root of the volume for an atom, as StructureMatcher's `get_rms_dist`, NaN without a match.
    """

    accuracy: NDArray[np.float64]
    rmsd: NDArray[np.float64]


def molecules(truth: Sequence[AtomicSystem], made: Sequence[AtomicSystem | None]) -> Reconstruction:
    """Molecules and their reconstructions."""
    rmsd = [
        np.nan if b is None else superposed_rmsd(a.positions, b.positions) for a, b in zip(truth, made, strict=True)
    ]
    return Reconstruction(_accuracy(truth, made), np.array(rmsd, dtype=np.float64))


def crystals(truth: Sequence[AtomicSystem], made: Sequence[AtomicSystem | None]) -> Reconstruction:
    """Crystals and their reconstructions, matched with stol 0.5, ltol 0.3, angle_tol 10 (CDVAE, arXiv 2110.06197)."""
    rmsd = np.full(len(truth), np.nan)
    pairs = [(k, system) for k, system in enumerate(made) if system is not None]
    sound = structural([system for _, system in pairs])
    pairs = [pair for pair, good in zip(pairs, sound.tolist(), strict=True) if good]
    if pairs:
        matcher = StructureMatcher(
            TOLERANCES["ltol"], TOLERANCES["stol"], TOLERANCES["angle_tol"], convention="pymatgen"
        )
        places = [k for k, _ in pairs]
        rmsd[places] = matcher.rms_pairs([truth[k] for k in places], [system for _, system in pairs])[:, 0]
    return Reconstruction(_accuracy(truth, made), rmsd)


@dataclass(frozen=True, slots=True)
class ReconstructionStage:
    """Samples of one kind through an autoencoder and back.

    Args:
        rebuild: the autoencoder.
        name: of it.
        kind: of the samples.
    """

    rebuild: Rebuild
    name: str
    kind: Kind

    @property
    def title(self) -> str:
        return f"{self.kind}, reconstruction"

    def steps(self, samples: Samples) -> int:
        return len(samples.systems)

    def __call__(self, samples: Samples, advance: Advance) -> Findings:
        made = self.rebuild(samples.systems, advance)
        found = (crystals if self.kind == "crystals" else molecules)(samples.systems, made)
        right = found.accuracy == 1
        if self.kind == "crystals":
            matched = np.isfinite(found.rmsd)
            rates = {"match rate": matched}
        else:
            matched = right & (found.rmsd <= WIDE_TOLERANCE)
            rates = {f"match rate, {TOLERANCE:g} A": right & (found.rmsd <= TOLERANCE),
                     f"match rate, {WIDE_TOLERANCE:g} A": matched}  # fmt: skip
        unit = "" if self.kind == "crystals" else "A"
        shown = np.where(matched, found.rmsd, np.nan) if self.kind == "crystals" else found.rmsd
        known = np.isfinite(shown)
        figures: list[Figure | Quantile | Metric] = [self._share(name, values) for name, values in rates.items()]
        figures += [
            Figure(name="RMSD", values=np.nan_to_num(shown), weights=known, protocol=RECONSTRUCTION, unit=unit),
            Quantile(name="RMSD, median", values=shown, protocol=RECONSTRUCTION, unit=unit),
            self._share("atoms of the right element", found.accuracy, _sizes(samples)),
        ]
        rows = [
            {"matched": bool(matched[k]), "rmsd": float(found.rmsd[k]), "accuracy": float(found.accuracy[k])}
            for k in range(len(made))
        ]
        return Findings(
            figures=[*figures, *self._by_size(samples, rates, shown, unit)],
            columns={"reconstruction": rows},
            protocols={
                RECONSTRUCTION: f"Through the autoencoder {self.name}, mean latents without noise; match: crystals by "
                "StructureMatcher (stol 0.5, ltol 0.3, angle_tol 10; RMSD in units of (V/n)^(1/3), of matches), "
                "molecules with all elements right and an RMSD within 0.01 or 0.1 A, superposed, atoms in their order."
            },
        )

    def _by_size(
        self, samples: Samples, rates: dict[str, NDArray[np.bool_]], rmsd: NDArray[np.float64], unit: str
    ) -> list[Figure | Quantile | Metric]:
        group = np.searchsorted(_SIZES, _sizes(samples), side="right")
        figures: list[Figure | Quantile | Metric] = []
        for k in np.unique(group).tolist():
            here, words = group == k, _size_words(k)
            figures += [self._share(f"{name}, {words}", values, here) for name, values in rates.items()]
            values = np.where(here, rmsd, np.nan)
            figures.append(Quantile(name=f"RMSD, median, {words}", values=values, protocol=RECONSTRUCTION, unit=unit))
        return figures

    def _share(
        self, name: str, values: NDArray[np.bool_] | NDArray[np.float64], of: NDArray[np.generic] | None = None
    ) -> Figure:
        weights = np.ones(len(values), dtype=np.bool_) if of is None else of
        return Figure(name=name, values=values, weights=weights, protocol=RECONSTRUCTION)


def _size_words(group: int) -> str:
    first = _SIZES[group - 1] if group else 0
    return f"{first} to {_SIZES[group] - 1} atoms" if group < len(_SIZES) else f"{first} atoms or more"


def _sizes(samples: Samples) -> NDArray[np.int64]:
    return np.array([len(system) for system in samples.systems], dtype=np.int64)


def _accuracy(truth: Sequence[AtomicSystem], made: Sequence[AtomicSystem | None]) -> NDArray[np.float64]:
    return np.array(
        [0.0 if b is None else float((a.numbers == b.numbers).mean()) for a, b in zip(truth, made, strict=True)]
    )
