"""Many crystals relaxed together, cell and positions, by FIRE."""

from __future__ import annotations

import math
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from adit.packing import Packed
from adit.system import AtomicSystem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

CLOSEST = 0.5
"""Angstrom; atoms nearer than this overlap, as in the test of structural validity."""
DENSEST = 2.0
"""Cubic Angstrom for an atom, a third of diamond's; with less, a crystal has collapsed."""
GROWTH = 10.0
"""The volume may grow or shrink by this factor."""


@dataclass(frozen=True, slots=True)
class Limits:
    """When a relaxation ends.

    Attributes:
        fmax: converged when no force on an atom (eV / Angstrom), and no row of the virial divided by the number of
            atoms (eV), is longer than this; so does ASE's FrechetCellFilter.
        steps: after so many steps at the latest.
        seconds: after so much time of this one crystal at the latest; of a batch, each atom has an equal share.
    """

    fmax: float = 0.05
    steps: int = 500
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Relaxed:
    """How the relaxation of one crystal ended.

    Attributes:
        system: the relaxed crystal, or where it was when it was given up; `info` of the input.
        converged: the forces are small enough.
        reason: why it is not converged; empty if it is.
        energy: eV per atom of `system`; NaN if there is none.
        initial_energy: eV per atom before the first step; NaN if there is none.
        fmax: the largest force left, as in `Limits`; NaN if there is none.
        steps: steps made.
        seconds: processing time, see `Limits`.
    """

    system: AtomicSystem
    converged: bool
    reason: str
    energy: float
    initial_energy: float
    fmax: float
    steps: int
    seconds: float


class Evaluation(NamedTuple):
    """What a potential says of B crystals of T atoms in all.

    Attributes:
        energies: (B,) float64, eV.
        forces: (T, 3) float64, eV / Angstrom.
        virials: (B, 3, 3) float64, eV: the derivative of the energy by strain, that is stress times volume; symmetric.
        problems: for each crystal why the rest means nothing; mostly empty.
    """

    energies: NDArray[np.float64]
    forces: NDArray[np.float64]
    virials: NDArray[np.float64]
    problems: list[str]


class Potential(Protocol):
    """What gives energies: `adit.eval.energy.chgnet.Chgnet`, `adit.eval.energy.calculators.AsePotential`.

    Attributes:
        name: as the user gave it.
        version: of the package and the weights.
        batch_atoms: so many atoms are looked at together.
    """

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def batch_atoms(self) -> int: ...
    def refuses(self, numbers: NDArray[np.int64]) -> str: ...
    def evaluate(self, crystals: Packed, *, forces: bool = True, threads: int | None = None) -> Evaluation: ...


def overlap(closest: float) -> str:
    """Says so where atoms overlap; empty where the shortest distance, in Angstrom, is long enough."""
    return f"atoms overlap: {closest:.2f} A apart" if closest < CLOSEST else ""


def relax_together(
    potential: Potential,
    crystals: Iterable[tuple[int, AtomicSystem]],
    limits: Limits,
    *,
    threads: int | None = None,
) -> Iterator[tuple[int, Relaxed]]:
    """Relaxes crystals as they come; yields each, with its number, as soon as it is finished.

    Args:
        potential: gives energies, forces and virials.
        crystals: numbered; taken when there is room.
        limits: when to stop.
        threads: for neighbour lists.
    """
    waiting = deque(crystals)
    active: list[tuple[int, Run]] = []
    while waiting or active:
        room = potential.batch_atoms - sum(len(run.numbers) for _, run in active)
        while waiting and (not active or len(waiting[0][1]) <= room):
            number, system = waiting.popleft()
            run = Run(system, limits)
            if reason := run.problem() or potential.refuses(system.numbers):
                yield number, run.result(reason)
            else:
                active.append((number, run))
                room -= len(system)
        if not active:
            continue
        start = time.perf_counter()
        batch = _pack([run for _, run in active])
        found = potential.evaluate(batch, threads=threads)
        share = (time.perf_counter() - start) / len(batch.numbers)
        still: list[tuple[int, Run]] = []
        for k, (number, run) in enumerate(active):
            run.seconds += share * len(run.numbers)
            forces = found.forces[batch.offsets[k] : batch.offsets[k + 1]]
            end = run.advance(float(found.energies[k]), forces, found.virials[k], found.problems[k])
            if end is None:
                still.append((number, run))
            else:
                yield number, run.result(end)
        active = still


class Run:
    """One crystal on its way down.

    Coordinates are the atoms' positions and n times the strain of the cell (n atoms), Angstrom both, so that the
    force on the latter is minus the virial / n: the metric of ASE's FrechetCellFilter, here about the present cell.
    """

    def __init__(self, system: AtomicSystem, limits: Limits) -> None:
        assert system.cell is not None
        self.origin, self.limits = system, limits
        self.numbers, self.positions, self.cell = system.numbers, system.positions, system.cell
        self.volume = system.volume
        self.energy = self.initial = self.fmax = math.nan
        self.steps, self.seconds = 0, 0.0
        self.fire = Fire(len(system) + 3)

    def problem(self) -> str:
        """What is wrong with the present geometry, before a potential has seen it; empty: nothing."""
        if len(self.numbers) == 0:
            return "no atoms"
        if not (np.isfinite(self.positions).all() and np.isfinite(self.cell).all()):
            return "positions became infinite"
        volume = float(abs(np.linalg.det(self.cell)))
        if not self.volume / GROWTH <= volume <= self.volume * GROWTH:
            return f"the volume changed from {self.volume:.4g} to {volume:.4g} A^3"
        if volume < DENSEST * len(self.numbers):
            return f"atoms overlap: {volume / len(self.numbers):.2g} A^3 for each"
        return ""

    def advance(
        self, energy: float, forces: NDArray[np.float64], virial: NDArray[np.float64], problem: str
    ) -> str | None:
        """Takes what the potential says of the present geometry and makes a step.

        Returns:
            None to go on; otherwise why it ended, empty if converged.
        """
        count = len(self.numbers)
        if problem:
            return problem
        if not (math.isfinite(energy) and np.isfinite(forces).all() and np.isfinite(virial).all()):
            return "the potential gave infinite forces"
        self.energy = energy / count
        if math.isnan(self.initial):
            self.initial = self.energy
        gradient = np.concatenate([forces, -virial / count])
        self.fmax = float(np.linalg.norm(gradient, axis=1).max())
        if self.fmax < self.limits.fmax:
            return ""
        if self.steps >= self.limits.steps:
            return f"step limit: {self.limits.steps} steps left a force of {self.fmax:.3g} eV/A"
        if self.limits.seconds is not None and self.seconds > self.limits.seconds:
            return f"time limit: {self.limits.seconds:g} s left a force of {self.fmax:.3g} eV/A"
        before = self.positions, self.cell
        step = self.fire(gradient)
        deform = np.eye(3) + step[count:] / count
        self.positions, self.cell = (self.positions + step[:count]) @ deform, self.cell @ deform
        if reason := self.problem():
            self.positions, self.cell = before
            return reason
        self.steps += 1
        return None

    def result(self, reason: str) -> Relaxed:
        """The present state as the end; `reason` is empty if it is converged."""
        system = AtomicSystem(self.numbers, self.positions, self.cell, self.origin.info)
        return Relaxed(system, not reason, reason, self.energy, self.initial, self.fmax, self.steps, self.seconds)


class Fire:
    """The fast inertial relaxation engine: Bitzek et al., Phys. Rev. Lett. 97, 170201 (2006), their constants.

    Args:
        rows: of the coordinates (rows, 3), in Angstrom, unit mass.
    """

    START, LONGEST = 0.1, 1.0
    """First and longest time step."""
    MAX_STEP = 0.2
    """Angstrom; the length of a step over all coordinates, as in ASE."""

    def __init__(self, rows: int) -> None:
        self.velocity = np.zeros((rows, 3))
        self.dt, self.mixing, self.downhill = self.START, 0.1, 0

    def __call__(self, forces: NDArray[np.float64]) -> NDArray[np.float64]:
        """The step (rows, 3) to make where forces (rows, 3) act."""
        power = float(np.vdot(forces, self.velocity))
        if power > 0:
            speed = np.linalg.norm(self.velocity) / np.linalg.norm(forces)
            self.velocity = (1 - self.mixing) * self.velocity + self.mixing * speed * forces
            if self.downhill > 5:
                self.dt, self.mixing = min(1.1 * self.dt, self.LONGEST), 0.99 * self.mixing
            self.downhill += 1
        elif self.velocity.any():
            self.velocity[:] = 0
            self.dt, self.mixing, self.downhill = 0.5 * self.dt, 0.1, 0
        self.velocity += self.dt * forces
        step = self.dt * self.velocity
        return step * min(1.0, self.MAX_STEP / max(float(np.linalg.norm(step)), 1e-300))


def _pack(runs: list[Run]) -> Packed:
    return Packed(
        np.concatenate([run.numbers for run in runs]).astype(np.uint8),
        np.concatenate([run.positions for run in runs]),
        np.stack([run.cell for run in runs]),
        np.cumsum([0, *(len(run.numbers) for run in runs)], dtype=np.int64),
        np.ones(len(runs), dtype=np.bool_),
    )
