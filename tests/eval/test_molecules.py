from __future__ import annotations

import sys
import time

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import AllChem

from adit.errors import BackendUnavailableError, InvalidInputError
from adit.eval.molecules import BONDS, connected, novelty, uniqueness, validity
from adit.system import AtomicSystem

SMILES = ["c1ccccc1", "CC(=O)Oc1ccccc1C(=O)O", "C#CC", "N#Cc1ccncc1", "C1CC2CC1C2", "CS(C)(=O)=O", "FC(F)(F)Br", "CSCC"]


def embed(smiles: str) -> AtomicSystem:
    molecule = Chem.AddHs(Chem.MolFromSmiles(smiles))
    AllChem.EmbedMolecule(molecule, randomSeed=7)
    AllChem.MMFFOptimizeMolecule(molecule)
    numbers = [atom.GetAtomicNum() for atom in molecule.GetAtoms()]
    return AtomicSystem(numbers, molecule.GetConformer().GetPositions())


@pytest.mark.parametrize("bonds", BONDS)
def test_known_molecules_are_recognised(bonds):
    canonical = [Chem.MolToSmiles(Chem.MolFromSmiles(smiles)) for smiles in SMILES]
    assert validity([embed(smiles) for smiles in SMILES], bonds) == canonical


def test_openbabel_as_the_judge_says_row_by_row(judge, shaken, nonsense):
    systems = [s for s in [*shaken, *nonsense.values()] if abs(s.positions).max(initial=0) < 1e3]  # fit a MOL block
    verdicts = [judge.babel_smiles(system.symbols, system.positions) for system in systems]
    expected = [smiles if paired else None for smiles, paired in verdicts]
    assert validity(systems, "openbabel") == expected
    assert 0.3 < np.mean([entry is not None for entry in expected]) < 0.8
    assert [entry is None for entry in validity(systems, "openbabel", radicals=True)] == [
        smiles is None for smiles, _ in verdicts
    ]


@pytest.mark.parametrize("bonds", BONDS)
def test_real_molecules_are_nearly_all_valid(qm9, bonds):
    found = validity(qm9, bonds)
    right = [Chem.MolToSmiles(Chem.MolFromSmiles(system.info["smiles"]), isomericSmiles=False) for system in qm9]
    assert np.mean([entry is not None for entry in found]) > 0.9
    assert np.mean([a == b for a, b in zip(found, right, strict=True)]) > 0.9


@pytest.mark.parametrize("bonds", BONDS)
def test_nonsense_is_judged_and_quickly(nonsense, bonds):
    start = time.perf_counter()
    found = dict(zip(nonsense, validity(list(nonsense.values()), bonds), strict=True))
    connected(list(nonsense.values()))
    assert time.perf_counter() - start < 10
    for name in (
        "no atoms",
        "one carbon",
        "60 hydrogens in one place",
        "30 carbons in one place",
        "carbon as a cubic grid",
    ):
        assert found[name] is None, name


@pytest.mark.parametrize("bonds", BONDS)
def test_nothing_is_printed(nonsense, bonds, capfd):
    validity(list(nonsense.values()), bonds)
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


@pytest.mark.parametrize("bonds", BONDS)
def test_the_largest_piece_counts(bonds):
    benzene, water = embed("c1ccccc1"), embed("O")
    both = AtomicSystem(
        np.concatenate([water.numbers, benzene.numbers]), np.concatenate([water.positions + 20, benzene.positions])
    )
    assert validity([both], bonds) == ["c1ccccc1"]
    assert connected([both, benzene, water]).tolist() == [False, True, True]


def test_radicals_are_invalid_unless_accepted():
    benzene = embed("c1ccccc1")
    phenyl = AtomicSystem(benzene.numbers[:-1], benzene.positions[:-1])
    assert validity([phenyl], "openbabel") == [None]
    assert validity([phenyl], "openbabel", radicals=True) == ["[c]1ccccc1"]


def test_uniqueness_and_novelty():
    smiles = ["C", "C", None, "CC", "O"]
    assert uniqueness(smiles) == 3 / 4
    assert novelty(smiles, {"C", "N"}) == pytest.approx(2 / 3)
    assert novelty(smiles, ["C", "CC", "O"]) == 0
    assert np.isnan(uniqueness([None]))
    assert np.isnan(novelty([None], {"C"}))


def test_unknown_bonds_are_refused():
    with pytest.raises(InvalidInputError, match="rdkit, openbabel, adit-rust; got 'xtb'"):
        validity([], "xtb")  # type: ignore[arg-type]


def test_a_crystal_is_refused(mp20):
    with pytest.raises(InvalidInputError, match="system 0 is a crystal"):
        validity([mp20[0]])


def test_openbabel_missing_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "openbabel", None)
    with pytest.raises(BackendUnavailableError, match=r"pip install adit\[eval\]"):
        validity([], "openbabel")
