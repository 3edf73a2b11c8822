from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import ase.io
import numpy as np
import pytest

from adit.system import AtomicSystem

DATA = Path(__file__).parent / "data"
JUDGE = Path(__file__).parents[2] / "benches" / "judge.py"


@pytest.fixture(scope="session")
def judge() -> ModuleType:
    """benches/judge.py, which shares no code with adit."""
    spec = importlib.util.spec_from_file_location("judge", JUDGE)
    module = importlib.util.module_from_spec(spec)
    sys.modules["judge"] = module
    spec.loader.exec_module(module)
    module.quiet()
    return module


@pytest.fixture(scope="session")
def qm9() -> list[AtomicSystem]:
    frames = ase.io.iread(DATA / "qm9.extxyz", index=":")
    return [AtomicSystem(a.numbers, a.positions, info={"smiles": a.info["smiles"]}) for a in frames]


@pytest.fixture(scope="session")
def mp20() -> list[AtomicSystem]:
    return [AtomicSystem(a.numbers, a.positions, a.cell.array) for a in ase.io.iread(DATA / "mp20.extxyz", index=":")]


@pytest.fixture(scope="session")
def damaged(mp20: list[AtomicSystem]) -> list[AtomicSystem]:
    """Real crystals, squeezed, stretched and shaken, some with two atoms on one place."""
    rng = np.random.default_rng(0)
    systems = []
    for k, system in enumerate(mp20):
        cell = system.cell * (1.0, 0.5, 0.25, 0.12)[k % 4]
        fractional = system.fractional + 0.1 * rng.normal(size=(len(system), 3))
        if k % 7 == 0:
            fractional[-1] = fractional[0] + (0, 0, 1)
        systems.append(AtomicSystem.from_fractional(system.numbers, fractional, cell))
    return systems


@pytest.fixture(scope="session")
def shaken(qm9: list[AtomicSystem]) -> list[AtomicSystem]:
    """Molecules from intact to dust."""
    rng = np.random.default_rng(0)
    noise = (0.0, 0.03, 0.08, 0.15, 0.5)
    return [
        AtomicSystem(s.numbers, s.positions + noise[k % 5] * rng.normal(size=s.positions.shape))
        for k, s in enumerate(qm9)
    ]


@pytest.fixture(scope="session")
def nonsense() -> dict[str, AtomicSystem]:
    """Molecules that no generator should make and none of our metrics may choke on."""
    rng = np.random.default_rng(1)
    grid = np.stack(np.meshgrid(*[np.arange(4.0)] * 3), -1).reshape(-1, 3)
    return {
        "no atoms": AtomicSystem([], np.zeros((0, 3))),
        "one carbon": AtomicSystem([6], [[0, 0, 0]]),
        "one helium": AtomicSystem([2], [[0, 0, 0]]),
        "60 hydrogens in one place": AtomicSystem([1] * 60, np.zeros((60, 3))),
        "60 hydrogens in a heap": AtomicSystem([1] * 60, 0.3 * rng.normal(size=(60, 3))),
        "30 carbons in one place": AtomicSystem([6] * 30, np.zeros((30, 3))),
        "100 carbons in a heap": AtomicSystem([6] * 100, rng.normal(size=(100, 3))),
        "carbon as a cubic grid": AtomicSystem([6] * 64, 1.45 * grid),
        "a row of nitrogens": AtomicSystem([7] * 30, [[1.1 * k, 0, 0] for k in range(30)]),
        "a row of sulfurs": AtomicSystem([16] * 60, [[2.0 * k, 0, 0] for k in range(60)]),
        "far apart": AtomicSystem([6, 1], [[0, 0, 0], [1e9, 0, 0]]),
        "far away": AtomicSystem([6, 1], [[1e300, 0, 0], [1e300, 0, 0]]),
        "heavy": AtomicSystem([92, 100, 99, 80], rng.normal(size=(4, 3))),
    }
