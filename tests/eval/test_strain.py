"""Strain against RDKit's and tblite's own energies."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from numpy.typing import NDArray
from rdkit import Chem
from rdkit.Chem import AllChem, rdMolAlign
from scipy.optimize import minimize
from tblite.interface import Calculator

from adit.errors import BackendUnavailableError, InvalidInputError
from adit.eval import strain
from adit.eval.posebusters import as_rdkit
from adit.eval.strain import mmff_strain, superposed_rmsd, xtb_strain
from adit.system import AtomicSystem

BOHR, KCAL_PER_HARTREE = 0.529177210903, 627.5094740631


def test_mmff_energies_are_rdkits(qm9: list[AtomicSystem]) -> None:
    found = mmff_strain(qm9[:30])
    assert found.method == "MMFF94" and found.judged == 30 and found.reasons == ("",) * 30
    for place, molecule in enumerate(as_rdkit(qm9[:30])):
        field = AllChem.MMFFGetMoleculeForceField(molecule, AllChem.MMFFGetMoleculeProperties(molecule))
        relaxed = Chem.Mol(molecule)
        [(status, energy)] = AllChem.MMFFOptimizeMoleculeConfs(relaxed, maxIters=2000)
        assert status == 0 and found.converged[place]
        assert found.energies[place] == pytest.approx(field.CalcEnergy() - energy, abs=1e-9)
        same = [(k, k) for k in range(molecule.GetNumAtoms())]
        assert found.rmsd[place] == pytest.approx(rdMolAlign.AlignMol(relaxed, molecule, atomMap=same), abs=1e-6)
    assert found.median == np.median(found.energies) and 0 < found.median_rmsd < 1


def test_a_relaxed_molecule_has_no_strain_and_a_shaken_one_much(qm9: list[AtomicSystem]) -> None:
    molecule = as_rdkit(qm9[:1])[0]
    AllChem.MMFFOptimizeMolecule(molecule, maxIters=5000)
    noise = 0.1 * np.random.default_rng(0).normal(size=(len(qm9[0]), 3))
    shaken = Chem.Mol(molecule)
    shaken.GetConformer().SetPositions(molecule.GetConformer().GetPositions() + noise)
    found = mmff_strain([molecule, shaken])
    assert abs(found.energies[0]) < 1e-3 and found.rmsd[0] < 0.01
    assert found.energies[1] > 20


def test_what_has_no_mmff_energy_says_why(qm9: list[AtomicSystem], nonsense: dict[str, AtomicSystem]) -> None:
    sane = qm9[0]
    boron = Chem.AddHs(Chem.MolFromSmiles("CB(C)C"))
    AllChem.EmbedMolecule(boron, randomSeed=0)
    pentavalent = Chem.MolFromSmiles("CC(C)(C)(C)C", sanitize=False)
    pentavalent.AddConformer(Chem.Conformer(6))
    found = mmff_strain([None, sane, boron, pentavalent, Chem.MolFromSmiles("CC")])
    assert found.indices.tolist() == [1, 2, 3, 4]
    assert np.isfinite(found.energies).tolist() == [True, False, False, False]
    assert found.reasons == (
        "",
        "MMFF94 has no parameters for C3H9B",
        "RDKit cannot sanitise it",
        "no positions",
    )
    assert found.judged == 1
    odd = mmff_strain(list(nonsense.values()), workers=0)
    assert odd.reasons[list(nonsense).index("no atoms")] == "no atoms"
    assert all(
        bool(reason) != bool(np.isfinite(energy)) for reason, energy in zip(odd.reasons, odd.energies, strict=True)
    )
    empty = mmff_strain([])
    assert empty.judged == 0 and np.isnan(empty.median) and np.isnan(empty.median_rmsd)
    with pytest.raises(InvalidInputError, match="crystal"):
        mmff_strain([AtomicSystem([6], [[0, 0, 0]], np.eye(3))])


def test_processes_give_the_same_strain(qm9: list[AtomicSystem], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strain, "_MANY", 10)
    here, there = mmff_strain(qm9[:12], workers=0), mmff_strain(qm9[:12])
    assert np.array_equal(here.energies, there.energies) and np.array_equal(here.rmsd, there.rmsd)


def test_rmsd_is_zero_under_rotation_and_not_under_reflection() -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(7, 3))
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    rotation *= np.sign(np.linalg.det(rotation))
    assert superposed_rmsd(points, points @ rotation + 3) == pytest.approx(0, abs=1e-12)
    assert superposed_rmsd(points, -points) > 0.1
    assert superposed_rmsd(np.array([[0, 0, 0], [2.0, 0, 0]]), np.array([[0, 0, 0], [0, 4.0, 0]])) == pytest.approx(1)
    assert np.isnan(superposed_rmsd(np.zeros((0, 3)), np.zeros((0, 3))))


def test_xtb_strain_is_that_of_tblites_own_energies() -> None:
    water = AtomicSystem([8, 1, 1], [[0, 0, 0], [1.1, 0, 0], [-0.3, 0.95, 0]])
    found = xtb_strain([water], workers=1)

    def energy(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        calculator = Calculator("GFN2-xTB", water.numbers, flat.reshape(-1, 3) / BOHR)
        calculator.set("verbosity", 0)
        result = calculator.singlepoint()
        return result.get("energy"), result.get("gradient").ravel() / BOHR

    start = np.array(water.positions).ravel()
    best = minimize(energy, start, jac=True, method="BFGS", options={"gtol": 1e-5})
    wanted = KCAL_PER_HARTREE * (energy(start)[0] - best.fun)
    assert wanted > 5
    assert found.energies[0] == pytest.approx(wanted, abs=2e-3)
    assert found.rmsd[0] == pytest.approx(superposed_rmsd(start.reshape(-1, 3), best.x.reshape(-1, 3)), abs=2e-3)
    assert found.converged[0] and found.method == "GFN2-xTB"


def test_xtb_minds_charges_and_limits(qm9: list[AtomicSystem]) -> None:
    ammonium = Chem.AddHs(Chem.MolFromSmiles("[NH4+]"))
    AllChem.EmbedMolecule(ammonium, randomSeed=0)
    methyl = AtomicSystem([6, 1, 1, 1], [[0, 0, 0], [1.08, 0, 0], [-0.54, 0.935, 0], [-0.54, -0.935, 0]])
    found = xtb_strain([ammonium, None, methyl], workers=1)
    assert found.indices.tolist() == [0, 2] and found.judged == 2
    assert (found.energies >= 0).all() and found.energies[0] < 5 and found.energies[1] < 1
    hurried = xtb_strain(qm9[:1], limit=0.01, workers=1)
    assert hurried.reasons == ("timed out after 0.01 s",) and hurried.judged == 0 and np.isnan(hurried.median)
    short = xtb_strain(qm9[:1], steps=1, workers=1)
    assert not short.converged[0] and short.energies[0] > 0
    for wrong in ({"sample": -1}, {"steps": 0}, {"fmax": 0.0}):
        with pytest.raises(InvalidInputError):
            xtb_strain(qm9[:1], **wrong)


def test_without_tblite_it_says_what_to_install(qm9: list[AtomicSystem], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tblite.ase", None)
    with pytest.raises(BackendUnavailableError, match=r"pip install adit\[xtb\]"):
        xtb_strain(qm9)
