"""Samples that are kept as they are made, verdicts on them, and the curves of a run."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

import judge
from adit.convert import read, write
from adit.elements import SYMBOLS
from adit.eval.molecules import judge as adit_judge
from adit.eval.molecules import uniqueness
from adit.eval.stability import edm_stability
from adit.eval.statistics import bootstrap
from adit.generate import Generator
from adit.output import write_whole
from adit.system import AtomicSystem
from adit.weights import SamplingDefaults

Clock = Callable[[], float]
ANCESTRAL = SamplingDefaults(steps=100, solver="ancestral", cfg=1.0)
"""Of all networks that are compared."""
_BLOCK = 256


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What every comparison says of a network: its budget in minutes, the seconds spent, `verdict` of its samples."""

    parameters: int
    minutes: float
    seconds: float
    samples: int
    stable_atoms: float
    stable_atoms_low: float
    stable_atoms_high: float
    stable_molecules: float
    valid: float
    valid_connected: float
    unique_of_valid: float
    judge_stable_atoms: float
    judge_stable_molecules: float
    judge_valid: float


def clock_of(device: torch.device) -> Clock:
    """What a budget is counted by: CPU time of this process, or wall time where a device does the work."""
    return time.process_time if device.type == "cpu" else time.monotonic


def has_bf16(device: torch.device) -> bool:
    """Whether the hardware multiplies matrices in bfloat16."""
    return device.type == "cuda" or bool(torch.cpu._is_avx512_bf16_supported())


def kept_samples(
    folder: Path, blocks: Iterable[Callable[[], list[AtomicSystem]]], clock: Clock
) -> tuple[list[AtomicSystem], float]:
    """All samples and the seconds that they took; blocks that `folder` holds already are not made again."""
    folder.mkdir(parents=True, exist_ok=True)
    systems: list[AtomicSystem] = []
    seconds = 0.0
    for number, block in enumerate(blocks):
        file, taken = folder / f"{number:04d}.extxyz", folder / f"{number:04d}.json"
        if not taken.exists():
            start = clock()
            made = block()
            spent = clock() - start
            write(file, made)
            save_json(taken, {"seconds": spent})
        systems += read(file)
        seconds += json.loads(taken.read_text())["seconds"]
    return systems, seconds


def generated(generator: Generator, n: int, seed: int, folder: Path, clock: Clock) -> tuple[list[AtomicSystem], float]:
    """`n` molecules of our weights by `ANCESTRAL`, kept in `folder`, and their seconds."""
    size = min(_BLOCK, n)

    def block(start: int) -> list[AtomicSystem]:
        options = {"steps": ANCESTRAL.steps, "solver": ANCESTRAL.solver, "cfg": ANCESTRAL.cfg, "batch_size": size}
        return next(generator.stream(n, "molecule", start=start, seed=seed, **options))

    return kept_samples(folder, [partial(block, start) for start in range(0, n, size)], clock)


def save_json(path: Path, values: dict[str, Any]) -> None:
    """The file appears whole or not at all."""
    write_whole(path, json.dumps(values, indent=1))


def verdict(molecules: list[AtomicSystem]) -> dict[str, float]:
    """Shares by adit.eval (EDM's stability; the ADiT protocol's validity, without unpaired electrons) and by the
    independent `benches/judge.py`."""
    judge.quiet()
    stable, found = edm_stability(molecules), adit_judge(molecules, "adit")
    smiles = [text if paired else None for text, paired in zip(found.smiles, found.paired, strict=True)]
    theirs = judge.judge_molecules([([SYMBOLS[n] for n in m.numbers], m.positions) for m in molecules])
    rows = theirs["rows"]
    low, high = bootstrap([r["stable_atoms"] / r["atoms"] for r in rows], [r["atoms"] for r in rows])
    return {
        "stable_atoms": stable.atom_stability,
        "stable_atoms_low": low,
        "stable_atoms_high": high,
        "stable_molecules": stable.molecule_stability,
        "valid": float(found.paired.mean()),
        "valid_connected": float((found.paired & found.connected).mean()),
        "unique_of_valid": uniqueness(smiles),
        "judge_stable_atoms": theirs["atom_stability"],
        "judge_stable_molecules": theirs["molecule_stability"],
        "judge_valid": theirs["valid"],
    }


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """One entry of the log of a run by the clock.

    Attributes:
        name: of the run.
        stage: of the run.
        seconds: of the whole budget that were over, those of earlier stages included.
        step: of the stage.
        kind: "train" or "validation".
        figure, value: what was measured.
    """

    name: str
    stage: str
    seconds: float
    step: int
    kind: str
    figure: str
    value: float


def curve(name: str, stage: str, folder: Path, before: float, figures: tuple[str, ...]) -> list[CurvePoint]:
    """These figures from a run's `log.csv`, with the seconds at which they were taken."""
    with (folder / "log.csv").open(newline="") as handle:
        rows = [(int(row["step"]), row["kind"], row["name"], float(row["value"])) for row in csv.DictReader(handle)]
    times = {(step, kind): value for step, kind, figure, value in rows if figure == "seconds"}
    return [
        CurvePoint(name=name, stage=stage, seconds=before + times[step, kind], step=step, kind=kind, figure=figure,
                   value=value)
        for step, kind, figure, value in rows
        if figure in figures and (step, kind) in times
    ]  # fmt: skip
