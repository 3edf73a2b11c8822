"""Verdicts against the package posebusters, row by row; its energies under a limit that holds."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from rdkit import Chem, rdBase
from rdkit.Chem import AllChem

import adit
from adit.data.prepare import load
from adit.errors import BackendUnavailableError, InvalidInputError
from adit.eval import posebusters
from adit.eval.posebusters import CHECKS, as_rdkit, drawn_places, energy_check, geometry_checks
from adit.system import AtomicSystem

DRUGS = (
    "CC(=O)Oc1ccccc1C(=O)O",
    "O=C([O-])c1ccc([N+](=O)[O-])cc1",
    "NC(=N)c1ccccc1",
    "C1CCC(CC1)N1CCOCC1",
    "CC1=CCCCC1",
    "C/C=C/c1cccs1",
    "c1ccc2[nH]ccc2c1",
    "CS(=O)(=O)NC1=NCCC1",
    "C[N+](C)(C)CC([O-])=O",
    "ClC(Cl)=C(Br)I",
    "OP(=O)(O)OCC1CC2CC1C2",
    "N#CC#CC#N",
    "[Na+].[Cl-]",
    "O",
)


@pytest.fixture
def quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    with rdBase.BlockLogs():
        yield
    logging.disable(logging.NOTSET)


def by_the_package(molecules: Sequence[Chem.Mol]) -> NDArray[np.int8]:
    from posebusters import PoseBusters

    table = PoseBusters("mol_fast").bust([Chem.Mol(molecule) for molecule in molecules])  # it changes what it gets
    rows = table[list(CHECKS)].to_numpy().tolist()
    return np.array([[-1 if x is None or x != x else int(x) for x in row] for row in rows], dtype=np.int8)


def noisy(molecule: Chem.Mol, noise: float, rng: np.random.Generator) -> Chem.Mol:
    copy = Chem.Mol(molecule)
    conformer = copy.GetConformer()
    conformer.SetPositions(conformer.GetPositions() + noise * rng.normal(size=(copy.GetNumAtoms(), 3)))
    return copy


def drugs() -> list[Chem.Mol]:
    molecules = []
    for smiles in DRUGS:
        molecule = Chem.AddHs(Chem.MolFromSmiles(smiles))
        AllChem.EmbedMolecule(molecule, randomSeed=7)
        molecules.append(molecule)
    return molecules


def oddities() -> list[Chem.Mol]:
    """Valences that do not exist, rings that cannot be Kekule, no conformer, one atom, a flat ring, none bonded."""
    pentavalent = Chem.MolFromSmiles("CC(C)(C)(C)C", sanitize=False)
    ring = Chem.MolFromSmiles("c1cccc1", sanitize=False)
    flat = Chem.AddHs(Chem.MolFromSmiles("C1CCCCC1"))
    AllChem.EmbedMolecule(flat, randomSeed=1)
    conformer = flat.GetConformer()
    conformer.SetPositions(conformer.GetPositions() * (1, 1, 0.01))
    apart = Chem.MolFromSmiles("C.C.[O]")
    for molecule in (pentavalent, ring, apart):
        conformer = Chem.Conformer(molecule.GetNumAtoms())
        conformer.SetPositions(np.random.default_rng(0).normal(size=(molecule.GetNumAtoms(), 3)))
        molecule.AddConformer(conformer)
    helium = as_rdkit([AtomicSystem([2], [[0, 0, 0]])])
    return [pentavalent, ring, flat, apart, Chem.MolFromSmiles("CCO"), *helium]


@pytest.mark.usefixtures("quiet")
def test_verdicts_are_those_of_the_package(shaken: list[AtomicSystem]) -> None:
    rng = np.random.default_rng(3)
    embedded = [noisy(molecule, noise, rng) for molecule in drugs() for noise in (0.0, 0.2)]
    molecules = [*as_rdkit(shaken[:25]), *embedded, *oddities()]
    found = geometry_checks(molecules)
    assert np.array_equal(found.verdicts, by_the_package(molecules))
    assert (found.verdicts == 0).any(0)[1:].sum() >= 9, "hardly a check ever fails here"
    for row, reasons in zip(found.verdicts, found.reasons, strict=True):
        assert set(reasons) == {name for name, verdict in zip(CHECKS, row, strict=True) if verdict == 0}


@pytest.mark.slow
@pytest.mark.usefixtures("quiet")
def test_verdicts_on_two_thousand_molecules_are_those_of_the_package() -> None:
    data = load("qm9")
    rng = np.random.default_rng(0)
    real = list(data.subset(rng.choice(len(data), 1000, replace=False)))
    broken = [
        AtomicSystem(s.numbers, s.positions + rng.choice([0.05, 0.15, 0.3]) * rng.normal(size=s.positions.shape))
        for s in real[:250]
    ]
    generated = adit.Generator.from_pretrained("joint-tiny").sample(1000, "molecule", seed=0, steps=10)
    molecules = as_rdkit([*broken, *real[250:], *generated])
    assert np.array_equal(geometry_checks(molecules).verdicts, by_the_package(molecules))


def test_processes_give_the_same_verdicts(shaken: list[AtomicSystem], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posebusters, "_PART", 7)
    molecules = [*shaken[:20], None]
    here, there = geometry_checks(molecules, workers=0), geometry_checks(molecules, workers=2)
    assert np.array_equal(here.verdicts, there.verdicts) and here.reasons == there.reasons
    assert here.verdicts[-1].tolist() == [0] + 10 * [-1] and here.reasons[-1] == {"mol_pred_loaded": "no molecule"}
    assert not here.passed[-1]
    assert here.rate == pytest.approx(here.passed.sum() / 21)
    assert here.rates["mol_pred_loaded"] == pytest.approx(20 / 21)


def test_what_hangs_is_not_judged_and_costs_only_itself(
    qm9: list[AtomicSystem], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit that no molecule can keep stands for molecules on which RDKit hangs."""
    monkeypatch.setattr(posebusters, "_PART_SECONDS", 1e-6)
    monkeypatch.setattr(posebusters, "_SECONDS", 1e-6)
    found = geometry_checks(qm9[:2], workers=1)
    assert found.verdicts.tolist() == [[1] + 10 * [-1]] * 2
    assert not found.passed.any() and found.rate == 0
    assert found.reasons[0]["not_judged"].startswith("timed out")
    monkeypatch.setattr(posebusters, "_SECONDS", 20)
    assert np.array_equal(geometry_checks(qm9[:2], workers=1).verdicts, geometry_checks(qm9[:2]).verdicts)


def test_reasons_name_atoms_and_lengths() -> None:
    propanol = Chem.AddHs(Chem.MolFromSmiles("CCCO"))
    AllChem.EmbedMolecule(propanol, randomSeed=0)
    conformer = propanol.GetConformer()
    points = conformer.GetPositions()
    points[0] += 0.6 * (points[0] - points[1])
    conformer.SetPositions(points)
    reason = geometry_checks([propanol]).reasons[0]["bond_lengths"]
    length = np.linalg.norm(points[0] - points[1])
    assert reason.startswith(f"C0-C1 {length:.2f} A, not 1.5")


def test_nothing_of_nonsense_raises(nonsense: dict[str, AtomicSystem]) -> None:
    found = geometry_checks(list(nonsense.values()))
    assert len(found.reasons) == len(nonsense)
    assert not found.passed[list(nonsense).index("60 hydrogens in one place")]
    assert not found.passed[list(nonsense).index("no atoms")]
    far = Chem.AddHs(Chem.MolFromSmiles("c1ccccc1"))
    AllChem.EmbedMolecule(far, randomSeed=0)
    far.GetConformer().SetPositions(far.GetConformer().GetPositions() * 1e200)
    assert {"bond_lengths", "aromatic_ring_flatness"} <= set(geometry_checks([far]).reasons[0])
    assert np.isnan(geometry_checks([]).rate)
    with pytest.raises(InvalidInputError, match="crystal"):
        geometry_checks([AtomicSystem([6], [[0, 0, 0]], np.eye(3))])


@pytest.mark.usefixtures("quiet")
def test_energy_ratios_are_those_of_the_package() -> None:
    from posebusters.modules.energy_ratio import check_energy_ratio

    rng = np.random.default_rng(0)
    propane, ethanol = small("CCC"), small("CCO")
    molecules = [propane, ethanol, None, noisy(ethanol, 1.0, rng), oddities()[0]]
    found = energy_check(molecules, seed=1, limit=60, workers=1)
    assert found.indices.tolist() == [0, 1, 3, 4]
    for place, index in enumerate(found.indices.tolist()):
        wanted = check_energy_ratio(Chem.Mol(molecules[index]), 100.0, 50, num_threads=1)["results"]
        np.testing.assert_allclose(found.ratios[place], wanted["energy_ratio"], rtol=1e-6)
        passes = wanted["energy_ratio_passes"]
        assert found.verdicts[place] == (int(passes) if isinstance(passes, bool) else -1)
    assert found.verdicts.tolist()[2:] == [0, -1]
    assert found.judged == 3 and found.rate == pytest.approx(2 / 3)
    assert found.reasons[2].endswith("times that of relaxed conformers") and "sanitize" in found.reasons[3]


def test_a_molecule_that_takes_too_long_is_neither_passed_nor_failed() -> None:
    big = Chem.AddHs(Chem.MolFromSmiles("C" * 150))
    conformer = Chem.Conformer(big.GetNumAtoms())
    conformer.SetPositions(np.random.default_rng(0).normal(size=(big.GetNumAtoms(), 3)) * 20)
    big.AddConformer(conformer)
    found = energy_check([big, small("CCO")], limit=2.0, workers=1)
    assert found.verdicts.tolist() == [-1, 1]
    assert found.timed_out.tolist() == [True, False]
    assert found.reasons[0] == "timed out after 2 s"
    assert 2 <= found.seconds[0] < 6
    assert found.judged == 1 and found.rate == 1


def test_the_sample_is_drawn_by_its_seed(qm9: list[AtomicSystem]) -> None:
    entries = [*qm9[:20], None]
    draws = [drawn_places(entries, 5, seed).tolist() for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]
    assert all(len(set(draw)) == 5 and draw == sorted(draw) for draw in draws)
    assert drawn_places(entries, None, 0).tolist() == drawn_places(entries, 50, 0).tolist() == list(range(20))
    empty = energy_check([None])
    assert len(empty.indices) == 0 and np.isnan(empty.rate)
    with pytest.raises(InvalidInputError, match="must not be negative"):
        energy_check(qm9, -1)
    with pytest.raises(InvalidInputError, match="must be positive"):
        energy_check(qm9, 1, limit=0)


def test_without_the_package_it_says_what_to_install(qm9: list[AtomicSystem], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "posebusters.modules.energy_ratio", None)
    with pytest.raises(BackendUnavailableError, match=r"pip install adit\[eval\]"):
        energy_check(qm9)


def small(smiles: str) -> Chem.Mol:
    molecule = Chem.AddHs(Chem.MolFromSmiles(smiles))
    AllChem.EmbedMolecule(molecule, randomSeed=5)
    AllChem.UFFOptimizeMolecule(molecule)
    return molecule
