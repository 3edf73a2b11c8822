"""Stability against a reference, with a potential whose truth is known: EMT on copper, silver and gold."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from pymatgen.analysis.structure_matcher import StructureMatcher

from adit.data.packed import PackedDataset
from adit.errors import InvalidInputError, UnreadableFileError
from adit.eval.energy.calculators import potential
from adit.eval.energy.fire import Limits, Relaxed
from adit.eval.energy.hull import WIDTH, Hull, compositions
from adit.eval.energy.reference import Reference, Table, reference
from adit.eval.energy.relax import Relaxations, relax
from adit.eval.energy.stable import distances, judge, stability
from adit.system import AtomicSystem

EMT_NAME = "ase.calculators.emt:EMT"


def alloy(symbols: str, edge: float = 3.9) -> Atoms:
    atoms = bulk("Cu", cubic=True, a=edge)
    atoms.symbols[:] = symbols
    return atoms


def as_crystal(atoms: Atoms, **info: float) -> AtomicSystem:
    return AtomicSystem(atoms.numbers, atoms.positions, atoms.cell.array, info)


def emt(system: AtomicSystem) -> float:
    atoms = system.to_ase()
    atoms.calc = EMT()
    return float(atoms.get_potential_energy() / len(atoms))


METALS = [29, 47, 79]


@pytest.fixture(scope="module")
def alloys() -> PackedDataset:
    """Relaxed alloys with their formation energies, all by EMT."""
    names = ["Cu4", "Ag4", "Au4", "CuAu3", "Cu3Au", "Cu2Au2", "CuAg3", "Cu3Ag", "AgAu3", "Ag3Au", "Ag2Au2", "Cu2AgAu"]
    relaxed = relax([as_crystal(alloy(name)) for name in names], EMT_NAME, fmax=0.01)
    elements = dict(zip(METALS, relaxed.energies[:3], strict=True))
    systems = []
    for result in relaxed.results:
        formation = result.energy - np.mean([elements[z] for z in result.system.numbers.tolist()])
        systems.append(as_crystal(result.system.to_ase(), formation_energy_per_atom=float(formation)))
    return PackedDataset.from_systems(systems, {"name": "alloys"})


def test_the_elements_energies_are_found(alloys: PackedDataset) -> None:
    found = reference(alloys, EMT_NAME)
    assert np.allclose(found.elements[METALS], [emt(system) for system in list(alloys)[:3]], atol=1e-4)
    assert np.isnan(found.elements[[1, 6, 92]]).all()
    assert found.fitted == 12
    energies = np.array([emt(system) for system in alloys])
    formation = found.formation(compositions(alloys), energies)
    assert np.allclose(formation, alloys.properties["formation_energy_per_atom"], atol=1e-4)


def test_a_few_wrong_energies_do_not_move_the_fit(alloys: PackedDataset) -> None:
    values = np.array(alloys.properties["formation_energy_per_atom"])
    values[[4, 9]] += (0.8, -0.5)
    found = reference(Table("spoilt", compositions(alloys), values, alloys, 0), EMT_NAME)
    assert np.allclose(found.elements[METALS], [emt(system) for system in list(alloys)[:3]], atol=0.03)


@pytest.mark.parametrize("energies", ["file", "potential"])
def test_energy_above_the_hull_is_emt_s(alloys: PackedDataset, energies: str) -> None:
    """Two polymorphs of an entry and one of an element, and a crystal of an element that the reference lacks."""
    found = reference(alloys, EMT_NAME, energies=energies)
    layered = alloy("Cu2Au2", 3.9)
    layered.set_positions(layered.positions[[0, 2, 1, 3]])
    needle = bulk("Au", "bcc", a=3.3)
    samples = [as_crystal(atoms) for atoms in (alloy("Cu3Au", 3.8), layered, needle, alloy("Ni4", 3.5))]
    relaxed = relax(samples, EMT_NAME, fmax=0.01)
    judged = stability(samples, relaxed, found)
    own, wanted = compositions(alloys), compositions(samples[:3])
    truth = Hull(own, alloys.properties["formation_energy_per_atom"], "EMT")
    elements = np.zeros(WIDTH)
    elements[METALS] = [emt(system) for system in list(alloys)[:3]]
    expected = relaxed.energies[:3] - wanted @ elements - truth.energies(wanted)
    assert np.allclose([row.above_hull for row in judged.rows[:3]], expected, atol=2e-4)
    assert abs(judged.rows[0].above_hull) < 2e-3 and judged.rows[2].above_hull > 0.01
    last = judged.rows[3]
    assert last.reason == "no hull: the reference lacks an element" and math.isnan(last.above_hull)
    assert not last.metastable and judged.no_hull == 1 and judged.judged == 0.75
    assert "alloys" in judged.reference and EMT_NAME in judged.potential


def test_formulas_alone_need_crystals_to_fit_to(alloys: PackedDataset) -> None:
    shares, values = compositions(alloys), np.array(alloys.properties["formation_energy_per_atom"])
    bare = Table("formulas", shares, values, None, 0)
    with pytest.raises(InvalidInputError, match="formulas has formulas, no crystals"):
        reference(bare, EMT_NAME)
    found = reference(bare, EMT_NAME, fit=alloys)
    assert np.allclose(found.elements, reference(alloys, EMT_NAME).elements, equal_nan=True)
    with pytest.raises(InvalidInputError, match="'file' or 'potential'"):
        reference(alloys, EMT_NAME, energies="dft")


def test_in_one_call(alloys: PackedDataset, tmp_path: Path) -> None:
    samples = [as_crystal(alloy("Cu3Au", 3.8)), as_crystal(alloy("Ag4", 4.3))]
    stages: list[tuple[str, int, int]] = []
    options = {"unique": [True, True], "novel": [False, True], "out": tmp_path}
    judged = judge(samples, alloys, EMT_NAME, **options, progress=lambda *args: stages.append(args))
    held = reference(alloys, EMT_NAME)
    apart = stability(samples, relax(samples, EMT_NAME), held, unique=[True, True], novel=[False, True])
    assert [row.above_hull for row in judged.rows] == [row.above_hull for row in apart.rows]
    assert (judged.sun, judged.msun) == (apart.sun, apart.msun) and judged.note == apart.note
    assert stages[0] == ("reference", 1, 12) and stages[-1] == ("relaxation", 2, 2)
    del stages[:]
    judge(samples, alloys, EMT_NAME, **options, progress=lambda *args: stages.append(args))
    assert stages == []
    with pytest.raises(InvalidInputError, match="`unique` must have one entry for each of 2"):
        judge(samples, alloys, EMT_NAME, unique=[True])


SALT = AtomicSystem([11, 17], [[0, 0, 0], [2.8, 2.8, 2.8]], 5.6 * np.eye(3))
ABOVE = (-0.05, 0.0, 0.05, 0.1, 0.15, math.nan)


@pytest.fixture
def six() -> tuple[list[AtomicSystem], Relaxations, Reference]:
    """Salt that relaxed to six energies above the hull; the last one did not converge."""
    results = tuple(
        Relaxed(SALT, not math.isnan(e), "step limit" if math.isnan(e) else "", -3.0 + e, -2.0, 0.01, 5, 0.1)
        for e in ABOVE
    )
    elements = np.full(WIDTH, np.nan)
    elements[[11, 17]] = (-1.5, -2.5)
    hull = Hull(compositions([SALT]), [-1.0], "salt")
    held = Reference(hull, elements, "emt", "1", "file", 10, 0.02)
    return [SALT] * 6, Relaxations(results, "emt", "1", Limits(), 0), held


def test_thresholds_and_shares(six: tuple[list[AtomicSystem], Relaxations, Reference]) -> None:
    systems, relaxed, held = six
    unique, novel = [True, True, True, False, True, True], [True, False, True, True, True, True]
    judged = stability(systems, relaxed, held, unique=unique, novel=novel)
    assert [row.stable for row in judged.rows] == [True, True, False, False, False, False]
    assert [row.metastable for row in judged.rows] == [True, True, True, True, False, False]
    assert [row.sun for row in judged.rows] == [True, False, False, False, False, False]
    assert [row.msun for row in judged.rows] == [True, False, True, False, False, False]
    assert np.allclose([row.above_hull for row in judged.rows], ABOVE, equal_nan=True)
    assert judged.rows[5].reason == "step limit" and math.isnan(judged.rows[5].energy)
    shares = (judged.converged, judged.judged, judged.stable, judged.metastable, judged.sun, judged.msun)
    assert shares == pytest.approx((5 / 6, 5 / 6, 2 / 6, 4 / 6, 1 / 6, 2 / 6))
    assert judged.above_hull == pytest.approx(0.05) and judged.no_hull == 0
    assert judged.note.startswith("Not DFT") and "20 meV/atom" in judged.note and "salt" in judged.note


def test_without_flags_there_is_no_sun(six: tuple[list[AtomicSystem], Relaxations, Reference]) -> None:
    judged = stability(*six, unique=[True] * 6)
    assert judged.sun is None and judged.msun is None and judged.rows[0].sun is None


def test_json(six: tuple[list[AtomicSystem], Relaxations, Reference]) -> None:
    plain = json.loads(json.dumps(stability(*six).to_dict(), allow_nan=False))
    assert plain["rows"][5]["above_hull"] is None and plain["rows"][0]["stable"] is True
    nothing = stability([], Relaxations((), "emt", "1", Limits(), 0), six[2])
    assert nothing.count == 0 and math.isnan(nothing.stable) and nothing.to_dict()["stable"] is None


def test_mismatches_are_refused(six: tuple[list[AtomicSystem], Relaxations, Reference]) -> None:
    systems, relaxed, held = six
    with pytest.raises(InvalidInputError, match="`relaxed` must have one entry for each of 5"):
        stability(systems[:5], relaxed, held)
    with pytest.raises(InvalidInputError, match="`novel` must have one entry"):
        stability(systems, relaxed, held, unique=[True] * 6, novel=[True])
    with pytest.raises(InvalidInputError, match="Make both with the same potential"):
        stability(systems, Relaxations(relaxed.results, "emt", "2", Limits(), 0), held)
    with pytest.raises(InvalidInputError, match="is a molecule"):
        stability([AtomicSystem([8], [[0, 0, 0]])] * 6, relaxed, held)


def test_distances_are_those_of_pymatgen() -> None:
    rng = np.random.default_rng(0)
    systems = []
    for name in ("Cu3Au", "Cu2Au2", "Ag4"):
        atoms = alloy(name)
        atoms.rattle(0.15, rng=rng)
        systems.append(as_crystal(atoms))
    relaxed = relax(systems, EMT_NAME)
    rms, rmsd = distances(systems, relaxed)
    matcher = StructureMatcher(ltol=0.3, stol=0.5, angle_tol=10, primitive_cell=False)
    for k, (system, result) in enumerate(zip(systems, relaxed.results, strict=True)):
        expected = matcher.get_rms_dist(system.to_pymatgen(), result.system.to_pymatgen())
        assert expected is not None and rms[k] == pytest.approx(expected[0], abs=1e-6)
        assert 0.05 < rmsd[k] < 0.3 and rmsd[k] == pytest.approx(
            rms[k] * (result.system.volume / 4) ** (1 / 3), rel=0.05
        )


@pytest.mark.slow
def test_chgnet_finds_stable_crystals_stable(mp20: list[AtomicSystem]) -> None:
    """MP-20 lies within 0.1 eV/atom of its hull; so does what CHGNet says of it, but for a few."""
    pytest.importorskip("chgnet")
    from adit.data.prepare import load

    try:
        data = load("mp20")
    except UnreadableFileError as error:
        pytest.skip(str(error))
    small = np.flatnonzero((data.properties["split"] == "val") & (data.sizes <= 6))
    samples = data.subset(np.random.default_rng(0).permutation(small)[:40])
    model = potential("chgnet")
    judged = stability(samples, relax(samples, model), reference(data.split("train"), model))
    assert judged.metastable > 0.9 and judged.converged == 1 and judged.matched > 0.95
    found = np.array([row.formation_energy for row in judged.rows])
    assert np.abs(found - samples.properties["formation_energy_per_atom"]).mean() < 0.04
