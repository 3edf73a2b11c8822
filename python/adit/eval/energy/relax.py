"""Relaxation of crystals with a machine-learned potential: many at once, and resumable."""

from __future__ import annotations

import contextlib
import math
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from adit.errors import InvalidInputError
from adit.eval.energy.calculators import potential
from adit.eval.energy.fire import Limits, Potential, Relaxed, Run, relax_together
from adit.eval.energy.journal import Journal, key
from adit.packing import as_system, pack, pack_crystals
from adit.system import AtomicSystem

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from adit.packing import Systems

__all__ = ["Limits", "Relaxations", "Relaxed", "energies", "relax"]

Progress = Callable[[int, int], None]
"""Called with (crystals finished, of how many)."""


@dataclass(frozen=True, slots=True)
class Relaxations:
    """What became of each crystal.

    Attributes:
        results: one for each crystal given, in the same order.
        calculator: name of the potential.
        version: of its package and weights.
        limits: when relaxations ended.
        resumed: how many results were found in the journal.
    """

    results: tuple[Relaxed, ...]
    calculator: str
    version: str
    limits: Limits
    resumed: int

    def __len__(self) -> int:
        return len(self.results)

    @property
    def converged(self) -> NDArray[np.bool_]:
        """(B,) bool."""
        return np.array([result.converged for result in self.results], dtype=np.bool_)

    @property
    def energies(self) -> NDArray[np.float64]:
        """(B,) float64, eV per atom; NaN where the relaxation is not converged."""
        return np.array([result.energy if result.converged else math.nan for result in self.results])


def relax(
    systems: Systems,
    calculator: str | Potential = "chgnet",
    *,
    fmax: float = 0.05,
    steps: int = 500,
    seconds: float | None = None,
    out: str | os.PathLike[str] | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Relaxations:
    """Relaxes cells and positions by FIRE until the forces are small. A crystal that fails does not stop the others.

    Args:
        systems: crystals.
        calculator: name of a potential, see `adit.eval.energy.calculators.potential`, or one that is loaded.
        fmax: converged when no force exceeds this, eV / Angstrom; see `Limits` for the cell.
        steps: at most so many for each crystal.
        seconds: at most so much processing time for each crystal.
        out: folder for a journal; if it holds results of the same settings, the crystals in it are not done again.
        threads: processor cores to use; None: as torch is set up.
        progress: called after each crystal.

    Raises:
        InvalidInputError: a system is no crystal, a limit is not positive, the calculator is unknown, or `out` holds
            results of other settings.
        BackendUnavailableError: the calculator's package is not installed.
        UnreadableFileError: the journal is damaged.
    """
    for name, value in (("fmax", fmax), ("steps", steps), ("seconds", seconds)):
        if value is not None and not 0 < value < math.inf:
            raise InvalidInputError(f"`{name}` must be positive; got {value!r}")
    limits = Limits(fmax, steps, seconds)
    task = _Task(systems, calculator, "relaxation", {"fmax": fmax, "steps": steps, "seconds": seconds})
    with task.open(out, threads, progress):
        for index, result in relax_together(task.model, task.waiting(), limits, threads=threads):
            task.finish({index: _to_json(result)})
    results = tuple(_from_json(entry, system) for entry, system in zip(task.entries(), task.crystals, strict=True))
    return Relaxations(results, task.model.name, task.model.version, limits, task.resumed)


def energies(
    systems: Systems,
    calculator: str | Potential = "chgnet",
    *,
    out: str | os.PathLike[str] | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> NDArray[np.float64]:
    """(B,) float64, eV per atom of crystals as they are; NaN where the potential cannot say. As `relax` otherwise."""
    task = _Task(systems, calculator, "energy", {})
    with task.open(out, threads, progress):
        for batch in _batches(task.waiting(), task.model):
            crystals = [system for _, system in batch]
            found = task.model.evaluate(pack(crystals), forces=False, threads=threads)
            task.finish(
                {
                    index: {"energy": None if found.problems[k] else _finite(found.energies[k] / len(system))}
                    for k, (index, system) in enumerate(batch)
                }
            )
    values = [entry["energy"] if entry else None for entry in task.entries()]
    return np.array([math.nan if value is None else value for value in values], dtype=np.float64)


class _Task:
    """Crystals to be worked on, each different one once, and the results so far, in a journal or in memory."""

    def __init__(self, systems: Systems, calculator: str | Potential, what: str, settings: dict[str, Any]) -> None:
        pack_crystals(systems)
        self.crystals = [as_system(system) for system in systems]
        self.model = potential(calculator) if isinstance(calculator, str) else calculator
        self.settings = {"what": what, "calculator": self.model.name, "version": self.model.version, **settings}
        self.names = [key(system) for system in self.crystals]
        self.first = {name: index for index, name in reversed(list(enumerate(self.names)))}
        self.done: dict[str, dict[str, Any]] = {}
        self.journal: Journal | None = None
        self.progress: Progress | None = None
        self.resumed = 0

    @contextlib.contextmanager
    def open(
        self, out: str | os.PathLike[str] | None, threads: int | None, progress: Progress | None
    ) -> Iterator[None]:
        self.progress = progress
        with contextlib.ExitStack() as stack:
            if out is not None:
                self.journal = stack.enter_context(Journal(out, self.settings))
                self.done = {name: self.journal.done[name] for name in self.first if name in self.journal.done}
                self.resumed = sum(name in self.done for name in self.names)
            stack.enter_context(_threads(threads))
            yield

    def waiting(self) -> list[tuple[int, AtomicSystem]]:
        return [
            (index, self.crystals[index]) for index in sorted(self.first.values()) if self.names[index] not in self.done
        ]

    def finish(self, entries: dict[int, dict[str, Any]]) -> None:
        named = {self.names[index]: entry for index, entry in entries.items()}
        self.done.update(named)
        if self.journal is not None:
            self.journal.add(named)
        if self.progress is not None:
            self.progress(len(self.done), len(self.first))

    def entries(self) -> Iterator[dict[str, Any]]:
        """The result of each crystal, in order."""
        return (self.done.get(name, {}) for name in self.names)


def _batches(waiting: list[tuple[int, AtomicSystem]], model: Potential) -> Iterator[list[tuple[int, AtomicSystem]]]:
    """Of similar size, small ones first; crystals that cannot be looked at are left out."""
    batch: list[tuple[int, AtomicSystem]] = []
    for index, system in sorted(waiting, key=lambda pair: len(pair[1])):
        if Run(system, Limits()).problem() or model.refuses(system.numbers):
            continue
        if batch and sum(len(held) for _, held in batch) + len(system) > model.batch_atoms:
            yield batch
            batch = []
        batch.append((index, system))
    if batch:
        yield batch


@contextlib.contextmanager
def _threads(count: int | None) -> Iterator[None]:
    torch = sys.modules.get("torch")  # a potential that uses it has loaded it
    if torch is None or count is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


_NUMBERS = ("energy", "initial_energy", "fmax")


def _to_json(result: Relaxed) -> dict[str, Any]:
    system = result.system
    assert system.cell is not None
    return {
        **{name: _finite(getattr(result, name)) for name in _NUMBERS},
        "converged": result.converged,
        "reason": result.reason,
        "steps": result.steps,
        "seconds": round(result.seconds, 4),
        "cell": system.cell.tolist(),
        "positions": system.positions.tolist(),
    }


def _from_json(entry: dict[str, Any], origin: AtomicSystem) -> Relaxed:
    energy, initial, fmax = (math.nan if entry[name] is None else float(entry[name]) for name in _NUMBERS)
    system = AtomicSystem(origin.numbers, entry["positions"], entry["cell"], origin.info)
    return Relaxed(system, entry["converged"], entry["reason"], energy, initial, fmax, entry["steps"], entry["seconds"])


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
