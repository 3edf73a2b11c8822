"""Relaxation as a stage of an evaluation, and what a kill leaves of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import bulk
from typer.testing import CliRunner

import adit
from adit.cli.eval import app
from adit.convert import read, write
from adit.data.packed import PackedDataset
from adit.errors import AditError, InvalidInputError
from adit.eval import evaluate
from adit.eval.energy.relax import relax
from adit.eval.energy.stable import judge
from adit.eval.reference import Reference
from adit.eval.relaxation_stages import StabilityStage, relaxation_stages
from adit.eval.results import Evaluation
from adit.system import AtomicSystem

EMT_NAME = "ase.calculators.emt:EMT"
NAMES = ("Cu4", "Ag4", "Au4", "CuAu3", "Cu3Au", "Cu2Au2", "CuAg3", "Cu3Ag", "AgAu3")


def alloy(symbols: str, edge: float) -> AtomicSystem:
    atoms = bulk("Cu", cubic=True, a=edge)
    atoms.symbols[:] = symbols
    return AtomicSystem(atoms.numbers, atoms.positions, atoms.cell.array)


@pytest.fixture(scope="module")
def known() -> Reference:
    """Relaxed alloys with their formation energies, all by EMT."""
    relaxed = relax([alloy(name, 3.9) for name in NAMES], EMT_NAME, fmax=0.01)
    elements = dict(zip([29, 47, 79], relaxed.energies[:3], strict=True))
    systems = []
    for result in relaxed.results:
        s = result.system
        energy = result.energy - np.mean([elements[z] for z in s.numbers.tolist()])
        systems.append(AtomicSystem(s.numbers, s.positions, s.cell, {"formation_energy_per_atom": float(energy)}))
    return Reference("alloys", PackedDataset.from_systems(systems))


@pytest.fixture
def samples() -> list[AtomicSystem]:
    """New, known, repeated, and of an element that is not in the reference."""
    return [alloy("Ag2Au2", 4.2), alloy("Cu3Au", 3.8), alloy("Ag2Au2", 4.2), alloy("Ni4", 3.6)]


def test_figures_are_those_of_judge(known: Reference, samples: list[AtomicSystem], tmp_path: Path) -> None:
    stages = relaxation_stages(EMT_NAME, None, known, tmp_path)
    found = evaluate(samples, reference=known, stages=stages)
    flags = {"unique": [True, True, False, True], "novel": [True, False, True, True]}
    expected = judge(samples, known.data, EMT_NAME, **flags)  # type: ignore[arg-type]
    protocol = f"relaxed, {EMT_NAME}"
    held = {metric.name: metric for metric in found.metrics if metric.protocol == protocol}
    for name, value in (
        ("converged", expected.converged),
        ("stable", expected.stable),
        ("metastable", expected.metastable),
        ("S.U.N.", expected.sun),
        ("M.S.U.N.", expected.msun),
        ("energy above hull, median", expected.above_hull),
        ("matches its relaxed structure", expected.matched),
        ("RMSD to it", expected.rmsd),
        ("judged", 3),
        ("no hull", 1),
    ):
        assert held[name].value == pytest.approx(value), name
    assert held["M.S.U.N."].value == 0.25 and held["metastable"].low < 0.75
    assert [row["stability"]["above_hull"] for row in found.rows] == pytest.approx(
        [row.above_hull for row in expected.rows], nan_ok=True
    )
    words = found.protocols[protocol]
    assert words.startswith("Not DFT: relaxed with ase.calculators.emt:EMT (ase ") and "alloys, 9 formation" in words
    assert (tmp_path / "ase.calculators.emt-EMT" / "relaxed" / "relaxations.jsonl").is_file()
    found.save(tmp_path / "x.json")
    assert "Infinity" not in (tmp_path / "x.json").read_text()
    (made,) = (stage.relaxed for stage in stages if isinstance(stage, StabilityStage))
    above = [one.info["energy_above_hull"] for one in made]
    assert above == sorted(row.above_hull for row in expected.rows if np.isfinite(row.above_hull))
    again = judge(made, known.data, EMT_NAME, **{name: [True] * 3 for name in flags})  # type: ignore[arg-type]
    assert [row.above_hull for row in again.rows] == pytest.approx(above, abs=1e-3)
    assert all(row.steps <= 2 and row.rmsd < 0.01 for row in again.rows), "they are relaxed"
    assert [one.info["msun"] for one in made] == [
        row.msun for row in sorted(expected.rows, key=lambda row: row.above_hull) if np.isfinite(row.above_hull)
    ]


def test_relaxed_crystals_are_written(
    known: Reference, samples: list[AtomicSystem], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write("known.extxyz", list(known.data))
    write("samples.extxyz", samples)
    common = ["samples.extxyz", "--relax", EMT_NAME, "--reference", "known.extxyz", "--work", "work"]
    for name in ("best.extxyz", "best.zip"):
        done = CliRunner().invoke(app, [*common, "--relaxed", name])
        assert done.exit_code == 0, done.output
        made = read(name)
        assert sorted(one.formula for one in made) == ["Ag2Au2", "Ag2Au2", "AuCu3"], "nickel has no hull"
    above = [one.info["energy_above_hull"] for one in read("best.extxyz")]
    assert above == sorted(above) and all("formation_energy_per_atom" in one.info for one in read("best.extxyz"))
    write("nickel.extxyz", samples[3:])
    done = CliRunner().invoke(app, ["nickel.extxyz", *common[1:-1], "other", "--relaxed", "none.extxyz"])
    assert done.exit_code == 0 and "none.extxyz is not written" in done.stderr and not Path("none.extxyz").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--relaxed", "x.extxyz"], "--relaxed goes with --relax; add e.g. --relax chgnet"),
        (["--relaxed", "x.sdf", "--relax", EMT_NAME], "must end in .extxyz, .xyz or .zip"),
        (["--relaxed", "s.extxyz", "--relax", EMT_NAME], "would replace what is to be judged"),
    ],
)
def test_what_relaxed_cannot_be(
    options: list[str], words: str, samples: list[AtomicSystem], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write("s.extxyz", samples)
    done = CliRunner().invoke(app, ["s.extxyz", *options])
    assert isinstance(done.exception, AditError) and words in str(done.exception)


def test_a_sample_and_no_novelty(known: Reference, samples: list[AtomicSystem], tmp_path: Path) -> None:
    hull = tmp_path / "hull.extxyz"
    ase.io.write(hull, [s.to_ase() for s in known.data])
    stages = relaxation_stages(EMT_NAME, str(hull), None, tmp_path, sample=2)
    found = evaluate(samples, stages=stages, seed=3)
    held = {metric.name: metric for metric in found.metrics if metric.protocol.startswith("relaxed")}
    assert "S.U.N." not in held and "it needs a --reference" in found.protocols[f"relaxed, {EMT_NAME}"]
    assert held["relaxed"].value == held["stable"].of == 2
    assert sum(row["stability"] is not None for row in found.rows) == 2
    assert "2 of 4 readable crystals, drawn with seed 3" in found.protocols[f"relaxed, {EMT_NAME}"]


def test_formulas_are_calibrated_on_the_reference(known: Reference, tmp_path: Path) -> None:
    path = tmp_path / "formulas.json"
    formulas = {s.formula: float(s.info["formation_energy_per_atom"]) for s in known.data}
    path.write_text(json.dumps(formulas))
    samples = [alloy("Cu3Au", 3.8)]
    above = [
        evaluate(samples, reference=known, stages=relaxation_stages(EMT_NAME, hull, known, tmp_path / name)).rows[0]
        for name, hull in (("a", None), ("b", str(path)))
    ]
    assert above[0]["stability"]["above_hull"] == pytest.approx(above[1]["stability"]["above_hull"], abs=1e-4)
    with pytest.raises(InvalidInputError, match="formulas, no crystals"):
        relaxation_stages(EMT_NAME, str(path), None, tmp_path)


def test_hulls_together_are_one(known: Reference, tmp_path: Path) -> None:
    """As of all phases in one set; those known by formula alone count, and the larger set of crystals calibrates."""
    phases = list(known.data)
    write(tmp_path / "most.extxyz", phases[:-2])
    write(tmp_path / "one.extxyz", phases[-2:-1])
    (tmp_path / "formula.json").write_text(json.dumps({phases[-1].formula: -0.5}))
    deeper = [*phases[:-1], replace(phases[-1], info={"formation_energy_per_atom": -0.5})]
    write(tmp_path / "all.extxyz", deeper)
    sample, rows = [alloy("AgAu3", 4.0), alloy("Cu2Au2", 3.9)], []
    for names in (["one.extxyz", "formula.json", "most.extxyz"], ["all.extxyz"]):
        hull = [str(tmp_path / name) for name in names]
        stages = relaxation_stages(EMT_NAME, hull, None, tmp_path / f"{len(names)}")
        rows.append([row["stability"] for row in evaluate(sample, stages=stages).rows])
    assert rows[0][0]["above_hull"] > 0.2, "above the phase that is known by its formula"
    for ours, theirs in zip(*rows, strict=True):
        assert ours["above_hull"] == pytest.approx(theirs["above_hull"], abs=0.01), "calibrations differ"


def test_what_is_wrong_is_said_before_any_work(known: Reference, mp20: list[AtomicSystem], tmp_path: Path) -> None:
    bare = Reference("bare", PackedDataset.from_systems(mp20[:3]))
    molecules = Reference("m", PackedDataset.from_systems([AtomicSystem([2], [[0, 0, 0]])]))
    (tmp_path / "file").write_text("")
    for arguments, words in (
        ((EMT_NAME, None, None, tmp_path), "name one with --hull"),
        ((EMT_NAME, None, bare, tmp_path), "bare has no formation energies"),
        ((EMT_NAME, None, molecules, tmp_path), "holds no crystals"),
        ((EMT_NAME, "nowhere", known, tmp_path), "nowhere"),
        (("chgnot", None, known, tmp_path), "unknown calculator 'chgnot'"),
        (("nothere:Calc", None, known, tmp_path), "pip install nothere"),
        ((EMT_NAME, None, known, tmp_path / "file"), "cannot be written"),
    ):
        with pytest.raises(AditError, match=words):
            relaxation_stages(*arguments)
    with pytest.raises(InvalidInputError, match="at least 1"):
        relaxation_stages(EMT_NAME, None, known, tmp_path, sample=0)


SLOW = """
import os, time
from ase.calculators.emt import EMT

class Slow(EMT):
    def calculate(self, *arguments):
        time.sleep(float(os.environ.get("SLOW", 0)))
        with open(os.environ["CALLS"], "a") as file:
            file.write("x")
        super().calculate(*arguments)
"""


@pytest.mark.slow
def test_a_kill_loses_nothing(known: Reference, tmp_path: Path) -> None:
    (tmp_path / "slowemt.py").write_text(SLOW)
    ase.io.write(tmp_path / "hull.extxyz", [s.to_ase() for s in known.data])
    ase.io.write(tmp_path / "s.extxyz", [alloy(n, 3.7 + 0.1 * k).to_ase() for k, n in enumerate(NAMES[3:7])])
    path = os.pathsep.join([str(tmp_path), str(Path(adit.__file__).parents[1])])
    environment = {**os.environ, "PYTHONPATH": path, "CALLS": str(tmp_path / "calls")}
    command = [sys.executable, "-c", "from adit.cli.eval import main; main()", "s.extxyz", "--reference",
               "hull.extxyz", "--relax", "slowemt:Slow", "--json", "out.json"]  # fmt: skip
    journal = tmp_path / "out-work" / "slowemt-Slow" / "relaxed" / "relaxations.jsonl"

    process = subprocess.Popen(command, cwd=tmp_path, env={**environment, "SLOW": "0.05"}, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not (journal.is_file() and journal.read_bytes().count(b"\n") >= 2) and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.stderr.close()
    before = journal.read_bytes()
    done = before.count(b"\n") - 1
    assert 1 <= done < 4 and not (tmp_path / "out.json").exists()
    (tmp_path / "calls").write_text("")

    again = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert again.returncode == 0, again.stderr
    assert "relaxations are kept in out-work; after a kill the same command goes on" in again.stderr
    assert "Not DFT" in again.stdout
    lines = journal.read_bytes().splitlines()
    assert lines[: done + 1] == before.splitlines()[: done + 1] and len(lines) == 5
    calls = len((tmp_path / "calls").read_text())

    (tmp_path / "calls").write_text("")
    fresh = [*command[:-1], "fresh.json"]
    assert subprocess.run(fresh, cwd=tmp_path, env=environment, capture_output=True, timeout=120).returncode == 0
    assert calls < len((tmp_path / "calls").read_text())
    one, two = (Evaluation.load(tmp_path / f"{name}.json") for name in ("out", "fresh"))
    assert [row["stability"] for row in one.rows] == [row["stability"] for row in two.rows]
    assert [m.value for m in one.metrics] == pytest.approx([m.value for m in two.metrics], nan_ok=True)
