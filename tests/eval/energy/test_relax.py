"""Relaxations: the same minima as ASE finds, whatever breaks, and whenever the process is killed."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.filters import FrechetCellFilter
from ase.optimize import FIRE

import adit
from adit.errors import BackendUnavailableError, InvalidInputError, UnreadableFileError
from adit.eval.energy.calculators import AsePotential, potential
from adit.eval.energy.chgnet import Chgnet
from adit.eval.energy.relax import energies, relax
from adit.packing import pack
from adit.system import AtomicSystem

EMT_NAME = "ase.calculators.emt:EMT"


def shaken(atoms: Atoms, seed: int, positions: float = 0.1, cell: float = 0.03) -> AtomicSystem:
    rng = np.random.default_rng(seed)
    deform = np.eye(3) + cell * rng.normal(size=(3, 3))
    moved = (atoms.positions + positions * rng.normal(size=atoms.positions.shape)) @ deform
    return AtomicSystem(atoms.numbers, moved, atoms.cell.array @ deform, {"id": f"s{seed}"})


def metals(count: int) -> list[AtomicSystem]:
    """Copper and gold, EMT's own metals, out of equilibrium."""
    return [shaken(bulk(("Cu", "Au")[k % 2], cubic=True), k) for k in range(count)]


def ase_minimum(system: AtomicSystem, calculator: object, fmax: float = 0.05) -> tuple[float, int]:
    """eV per atom and steps, by ASE's optimiser and cell filter."""
    atoms = system.to_ase()
    atoms.calc = calculator
    optimiser = FIRE(FrechetCellFilter(atoms), logfile=None)
    assert optimiser.run(fmax=fmax, steps=500)
    return atoms.get_potential_energy() / len(atoms), optimiser.nsteps


@pytest.fixture(scope="module")
def chgnet() -> Chgnet:
    pytest.importorskip("chgnet")
    return Chgnet()


SALT = bulk("NaCl", "rocksalt", a=5.6)
SOLIDS = [
    SALT,
    bulk("Si", "diamond", a=5.4),
    bulk("Fe", "bcc", a=2.8),
    bulk("Ar", "fcc", a=5.3),
    bulk("GaN", "wurtzite", a=3.2),
]


def test_chgnet_is_the_package_s(chgnet: Chgnet) -> None:
    """Energies, forces and stresses in a batch, with one-atom cells, with no short bonds at all, with many."""
    systems = [shaken(atoms, k, 0.05) for k, atoms in enumerate(SOLIDS)]
    found = chgnet.evaluate(pack(systems))
    expected = [chgnet.net.predict_structure(system.to_pymatgen(), task="efs") for system in systems]
    for k, (system, single) in enumerate(zip(systems, expected, strict=True)):
        forces = found.forces[sum(map(len, systems[:k])) :][: len(system)]
        assert found.energies[k] / len(system) == pytest.approx(float(single["e"]), abs=2e-5)
        assert np.abs(forces - single["f"]).max() < 1e-3
        assert np.abs(found.virials[k] / system.volume * 160.21766 - single["s"]).max() < 5e-3
    alone = chgnet.evaluate(pack(systems[1:2]), forces=False)
    assert alone.energies[0] == pytest.approx(found.energies[1], abs=1e-5)
    assert found.problems == [""] * len(systems)


def test_chgnet_forces_are_the_energy_s_slope(chgnet: Chgnet) -> None:
    """By central differences of positions and cell."""
    system = shaken(SALT, 3, 0.1)
    found = chgnet.evaluate(pack([system]))
    h = 1e-2
    for atom, axis in ((0, 0), (1, 2)):
        step = np.zeros((2, 3))
        step[atom, axis] = h
        ends = [AtomicSystem(system.numbers, system.positions + s * step, system.cell) for s in (1, -1)]
        up, down = chgnet.evaluate(pack(ends), forces=False).energies
        assert found.forces[atom, axis] == pytest.approx(-(up - down) / (2 * h), abs=0.01)
    strain = np.zeros((3, 3))
    strain[0, 1] = strain[1, 0] = h / 2
    ends = [
        AtomicSystem(
            system.numbers, system.positions @ (np.eye(3) + s * strain), system.cell @ (np.eye(3) + s * strain)
        )
        for s in (1, -1)
    ]
    up, down = chgnet.evaluate(pack(ends), forces=False).energies
    assert found.virials[0][0, 1] == pytest.approx((up - down) / (2 * h), abs=0.02)


def test_chgnet_finds_the_minimum_of_ase(chgnet: Chgnet) -> None:
    from chgnet.model.dynamics import CHGNetCalculator

    systems = [shaken(SALT, 1), shaken(SALT, 2)]
    found = relax(systems, chgnet)
    assert found.converged.all() and found.calculator == "chgnet" and "0.3.0" in found.version
    calculator = CHGNetCalculator(use_device="cpu")
    for system, result in zip(systems, found.results, strict=True):
        energy, steps = ase_minimum(system, calculator)
        assert result.energy == pytest.approx(energy, abs=2e-3)
        assert abs(result.steps - steps) <= 5
        assert result.fmax < 0.05 and result.initial_energy > result.energy and result.seconds > 0
        assert result.system.info["id"] == system.info["id"]


@pytest.mark.slow
def test_chgnet_finds_the_minima_of_ase_for_mp20(chgnet: Chgnet, mp20: list[AtomicSystem]) -> None:
    """Ten real crystals, shaken: 2 meV per atom, or lower."""
    from chgnet.model.dynamics import CHGNetCalculator

    small = [system for system in mp20 if 2 <= len(system) <= 8][:10]
    systems = [shaken(system.to_ase(), k) for k, system in enumerate(small)]
    found = relax(systems, chgnet)
    calculator = CHGNetCalculator(use_device="cpu")
    expected = np.array([ase_minimum(system, calculator)[0] for system in systems])
    assert found.converged.all()
    assert (found.energies - expected).max() < 2e-3


def test_any_ase_calculator_finds_the_minimum_of_ase() -> None:
    systems = metals(2)
    found = relax(systems, EMT_NAME, fmax=0.02)
    assert found.converged.all() and found.version.startswith("ase ")
    for system, result in zip(systems, found.results, strict=True):
        assert result.energy == pytest.approx(ase_minimum(system, EMT(), 0.02)[0], abs=1e-3)
        assert result.system.volume == pytest.approx(
            len(system) * {29: 11.6, 79: 16.7}[int(system.numbers[0])], rel=0.02
        )


def test_equal_crystals_are_relaxed_once() -> None:
    calls: list[tuple[int, int]] = []
    system = metals(1)[0]
    found = relax([system, system, metals(2)[1]], EMT_NAME, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(1, 2), (2, 2)]
    assert found.results[0].energy == found.results[1].energy
    assert len(relax([], EMT_NAME)) == 0


CELL = 4.0 * np.eye(3)
BROKEN = {
    "overlap": (AtomicSystem([29, 29], [[0, 0, 0], [0.2, 0, 0]], CELL), "atoms overlap: 0.20 A apart"),
    "one place": (AtomicSystem([29, 29], np.zeros((2, 3)), CELL), "atoms overlap: 0.00 A apart"),
    "collapsed": (AtomicSystem([29], [[0, 0, 0]], 1.1 * np.eye(3)), "atoms overlap: 1.3 A^3 for each"),
    "needle": (AtomicSystem([29], [[0, 0, 0]], np.diag([0.3, 30.0, 30.0])), "atoms overlap: 0.30 A apart"),
    "nothing": (AtomicSystem([], [], CELL), "no atoms"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_crystals_do_not_stop_the_others(name: str, chgnet: Chgnet) -> None:
    broken, reason = BROKEN[name]
    for calculator in (EMT_NAME, chgnet):
        found = relax([broken, metals(1)[0], broken], calculator, steps=2 if calculator is chgnet else 500)
        assert [found.results[0].reason, found.results[2].reason] == [reason, reason]
        assert not found.converged[0] and math.isnan(found.energies[0])
        assert math.isfinite(found.results[1].energy)
        assert np.isnan(energies([broken, metals(1)[0]], calculator)).tolist() == [True, False]


def test_what_chgnet_cannot_do(chgnet: Chgnet) -> None:
    fermium = AtomicSystem([100, 8], [[0, 0, 0], [2, 2, 2]], CELL)
    lonely = AtomicSystem([18], [[0, 0, 0]], 9 * np.eye(3))
    reasons = [result.reason for result in relax([fermium, lonely], chgnet).results]
    assert reasons[0] == "CHGNet does not know Fm"
    assert "no neighbour within 6 A" in reasons[1]


def test_limits() -> None:
    system = metals(1)[0]
    short = relax([system], EMT_NAME, steps=3).results[0]
    assert not short.converged and short.steps == 3 and short.reason.startswith("step limit: 3 steps left a force of ")
    assert math.isfinite(short.energy) and short.energy < short.initial_energy
    assert relax([system], EMT_NAME, seconds=1e-9).results[0].reason.startswith("time limit")
    for options in ({"fmax": 0}, {"steps": 0}, {"seconds": math.inf}, {"fmax": math.nan}):
        with pytest.raises(InvalidInputError, match="must be positive"):
            relax([system], EMT_NAME, **options)
    with pytest.raises(InvalidInputError, match="is a molecule"):
        relax([AtomicSystem([8], [[0, 0, 0]])], EMT_NAME)


class Pulling(EMT):
    """Tears a crystal apart."""

    def calculate(self, *args: object, **kwargs: object) -> None:
        super().calculate(*args, **kwargs)
        self.results["stress"] = np.array([-5.0, -5.0, -5.0, 0, 0, 0])


class Dividing(EMT):
    """Returns no numbers."""

    def calculate(self, *args: object, **kwargs: object) -> None:
        super().calculate(*args, **kwargs)
        self.results["forces"] = np.full_like(self.results["forces"], np.nan)


def test_a_potential_that_goes_wrong() -> None:
    system = metals(1)[0]
    torn = relax([system], AsePotential(Pulling(), "pulling", "1")).results[0]
    assert torn.reason.startswith("the volume changed from") and torn.system.volume < 11 * system.volume
    divided = relax([system], AsePotential(Dividing(), "dividing", "1")).results[0]
    assert divided.reason == "the potential gave infinite forces" and divided.system == system
    carbon = AtomicSystem([92, 92], [[0, 0, 0], [2, 2, 2]], CELL)
    unknown = relax([carbon, system], EMT_NAME)
    assert "failed: NotImplementedError" in unknown.results[0].reason and unknown.results[1].converged


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("quantum", InvalidInputError, "known: chgnet, chgnet-r2scan, sevennet, mace"),
        ("ase.calculators.emt:Nothing", InvalidInputError, "has no 'Nothing'"),
        ("ase.build:bulk", BackendUnavailableError, "cannot be set up"),
        ("collections:OrderedDict", InvalidInputError, "no ASE calculator"),
        ("no_such_package.calc:Calc", BackendUnavailableError, "pip install no_such_package"),
    ],
)
def test_names_of_calculators(name: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        potential(name)
    with pytest.raises(InvalidInputError, match=r"0\.3\.0, r2scan"):
        Chgnet("9.9")


def test_a_missing_package_is_named() -> None:
    code = """
import sys
sys.modules.update(chgnet=None, sevenn=None, mace=None)
from adit.errors import BackendUnavailableError
from adit.eval.energy.calculators import potential
for name in ("chgnet", "sevennet", "mace"):
    try:
        potential(name)
    except BackendUnavailableError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    remedies = [line.split("pip install ")[1] for line in done.stdout.splitlines()]
    assert remedies == ["'adit[mlip]'", "sevenn", "mace-torch"]


def test_a_journal_saves_the_work(tmp_path: Path) -> None:
    systems = metals(3)
    first = relax(systems[:2], EMT_NAME, out=tmp_path)
    calls: list[int] = []
    again = relax(systems, EMT_NAME, out=tmp_path, progress=lambda done, total: calls.append(done))
    assert (first.resumed, again.resumed, calls) == (0, 2, [3])
    for a, b in zip(first.results, again.results, strict=False):
        assert a.system == b.system and (a.energy, a.steps, a.reason) == (b.energy, b.steps, b.reason)
    other = AtomicSystem(systems[0].numbers, systems[0].positions + 1e-12, systems[0].cell)
    assert relax([other], EMT_NAME, out=tmp_path).resumed == 0


@pytest.mark.parametrize("cut", [1, 5, 40, 2000])
def test_a_torn_last_line_is_done_again(cut: int, tmp_path: Path) -> None:
    systems = metals(3)
    whole = relax(systems, EMT_NAME, out=tmp_path)
    file = tmp_path / "relaxations.jsonl"
    content = file.read_bytes()
    last = len(content.splitlines(keepends=True)[-1])
    file.write_bytes(content[: -min(cut, last - 1)])
    again = relax(systems, EMT_NAME, out=tmp_path)
    assert again.resumed == 2
    assert np.allclose(again.energies, whole.energies, atol=1e-12)
    assert len(file.read_bytes().splitlines()) == 4


def test_a_torn_header_is_written_again(tmp_path: Path) -> None:
    file = tmp_path / "relaxations.jsonl"
    file.write_bytes(b'{"format": "adit-rel')
    assert relax(metals(1), EMT_NAME, out=tmp_path).resumed == 0
    assert json.loads(file.read_bytes().splitlines()[0])["settings"]["calculator"] == EMT_NAME


def test_other_settings_are_refused(tmp_path: Path) -> None:
    relax(metals(1), EMT_NAME, out=tmp_path)
    before = (tmp_path / "relaxations.jsonl").read_bytes()
    for options, words in (({"fmax": 0.1}, "fmax 0.05, not 0.1"), ({"steps": 9}, "steps 500, not 9")):
        with pytest.raises(InvalidInputError, match=f"{words}.*another folder"):
            relax(metals(1), EMT_NAME, out=tmp_path, **options)
    with pytest.raises(InvalidInputError, match="what 'relaxation', not 'energy'"):
        energies(metals(1), EMT_NAME, out=tmp_path)
    assert (tmp_path / "relaxations.jsonl").read_bytes() == before


@pytest.mark.parametrize("content", [b"something else\n", b"something else", b'{"format": "other"}\n', b"[1]\n{}\n"])
def test_another_file_is_not_touched(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "relaxations.jsonl"
    file.write_bytes(content)
    with pytest.raises(UnreadableFileError, match="another folder"):
        relax(metals(1), EMT_NAME, out=tmp_path)
    assert file.read_bytes() == content


def test_damage_in_the_middle_is_named(tmp_path: Path) -> None:
    relax(metals(2), EMT_NAME, out=tmp_path)
    file = tmp_path / "relaxations.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(lines[0] + lines[1][:30] + b"\n" + lines[2])
    with pytest.raises(UnreadableFileError, match="line 2, is damaged"):
        relax(metals(2), EMT_NAME, out=tmp_path)


def test_an_unwritable_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInputError, match="cannot be written"):
        relax(metals(1), EMT_NAME, out=tmp_path / "file")


def test_energies_are_kept(tmp_path: Path) -> None:
    systems = metals(3)
    calls: list[int] = []
    first = energies(systems, EMT_NAME, out=tmp_path, progress=lambda done, total: calls.append(done))
    again = energies(systems, EMT_NAME, out=tmp_path, progress=lambda done, total: calls.append(done))
    assert calls == [1, 2, 3] and np.array_equal(first, again)
    atoms = systems[0].to_ase()
    atoms.calc = EMT()
    assert first[0] == pytest.approx(atoms.get_potential_energy() / len(atoms))


SLOW_EMT = """
import time
from ase.calculators.emt import EMT
class SlowEMT(EMT):
    def calculate(self, *args, **kwargs):
        time.sleep(0.004)
        super().calculate(*args, **kwargs)
"""
WORK = """
import sys
import adit
from adit.eval.energy.relax import relax
relax(adit.read(sys.argv[1]), "slow_emt:SlowEMT", out=sys.argv[2])
"""


def lines_in(file: Path) -> int:
    return file.read_bytes().count(b"\n") if file.exists() else 0


def test_a_killed_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGKILL in the middle, twice; in the end the results are those of a run in peace, nothing done twice."""
    (tmp_path / "slow_emt.py").write_text(SLOW_EMT)
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    adit.write(tmp_path / "metals.extxyz", metals(9))
    systems = adit.read(tmp_path / "metals.extxyz")
    file = tmp_path / "out" / "relaxations.jsonl"
    finished: list[list[bytes]] = []
    for _ in range(2):
        target = lines_in(file) + 3
        command = [sys.executable, "-c", WORK, str(tmp_path / "metals.extxyz"), str(file.parent)]
        with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path}) as process:
            deadline = time.monotonic() + 100
            while lines_in(file) < target and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.002)
            assert process.poll() is None, "it ended before it was killed"
            process.send_signal(signal.SIGKILL)
        finished.append(file.read_bytes().splitlines()[: lines_in(file)])
    monkeypatch.syspath_prepend(tmp_path)
    found = relax(systems, "slow_emt:SlowEMT", out=file.parent)
    assert found.resumed == len(finished[1]) - 1 >= 4
    content = file.read_bytes().splitlines()
    assert content[: len(finished[1])] == finished[1] and finished[1][: len(finished[0])] == finished[0]
    keys = [json.loads(line)["key"] for line in content[1:]]
    assert len(keys) == len(set(keys)) == 9
    assert np.allclose(found.energies, relax(systems, EMT_NAME).energies, atol=1e-12)
