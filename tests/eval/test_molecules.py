from __future__ import annotations

import sys
import time

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import AllChem

from adit.errors import BackendUnavailableError, InvalidInputError
from adit.eval import molecules
from adit.eval.molecules import PROTOCOLS, connected, novelty, uniqueness, validity
from adit.system import AtomicSystem

SMILES = ["c1ccccc1", "CC(=O)Oc1ccccc1C(=O)O", "C#CC", "N#Cc1ccncc1", "C1CC2CC1C2", "CS(C)(=O)=O", "FC(F)(F)Br", "CSCC"]


def embed(smiles: str) -> AtomicSystem:
    molecule = Chem.AddHs(Chem.MolFromSmiles(smiles))
    AllChem.EmbedMolecule(molecule, randomSeed=7)
    AllChem.MMFFOptimizeMolecule(molecule)
    numbers = [atom.GetAtomicNum() for atom in molecule.GetAtoms()]
    return AtomicSystem(numbers, molecule.GetConformer().GetPositions())


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_known_molecules_are_recognised(protocol):
    # EDM's tables know no aromatic bond, and not all pairs of elements.
    known = [smiles for smiles in SMILES if protocol != "edm" or not set(smiles) & set("cSB")]
    canonical = [Chem.MolToSmiles(Chem.MolFromSmiles(smiles)) for smiles in known]
    assert validity([embed(smiles) for smiles in known], protocol) == canonical


def test_openbabel_as_the_judge_says_row_by_row(judge, shaken, nonsense):
    systems = [s for s in [*shaken, *nonsense.values()] if abs(s.positions).max(initial=0) < 1e3]  # fit a MOL block
    verdicts = [judge.babel_smiles(system.symbols, system.positions) for system in systems]
    found = molecules.judge(systems, "adit")
    assert found.smiles == [smiles for smiles, _ in verdicts]
    assert found.paired.tolist() == [smiles is not None and paired for smiles, paired in verdicts]
    assert 0.3 < found.paired.mean() < found.valid.mean() < 1


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_real_molecules_are_nearly_all_valid(qm9, protocol):
    found = validity(qm9, protocol)
    right = [Chem.MolToSmiles(Chem.MolFromSmiles(system.info["smiles"]), isomericSmiles=False) for system in qm9]
    assert np.mean([entry is not None for entry in found]) > 0.9
    assert np.mean([a == b for a, b in zip(found, right, strict=True)]) > 0.9


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_nonsense_is_judged_and_quickly(nonsense, protocol):
    start = time.perf_counter()
    verdicts = molecules.judge(list(nonsense.values()), protocol)
    found = dict(zip(nonsense, verdicts.paired.tolist(), strict=True))
    connected(list(nonsense.values()))
    assert time.perf_counter() - start < 10
    for name in (
        "no atoms",
        "one carbon",
        "60 hydrogens in one place",
        "30 carbons in one place",
        "carbon as a cubic grid",
    ):
        assert not found[name], name


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_nothing_is_printed(nonsense, protocol, capfd):
    validity(list(nonsense.values()), protocol)
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_largest_piece_counts(protocol):
    butyne, water = embed("CC#CC"), embed("O")
    both = AtomicSystem(
        np.concatenate([water.numbers, butyne.numbers]), np.concatenate([water.positions + 20, butyne.positions])
    )
    assert validity([both], protocol) == ["CC#CC"]
    assert molecules.judge([both, butyne, water], protocol).connected.tolist() == [False, True, True]
    assert connected([both, butyne, water]).tolist() == [False, True, True]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_radicals_are_valid_where_the_published_protocol_accepts_them(protocol):
    ethane = embed("CC")
    ethyl = AtomicSystem(ethane.numbers[:-1], ethane.positions[:-1])
    found = molecules.judge([ethyl], protocol)
    assert found.smiles == [None if protocol == "adit-rust" else "[CH2]C"]
    assert found.paired.tolist() == [False]
    assert found.reasons == ["carbon 1 has 1 unpaired electron"]


def test_uniqueness_and_novelty():
    smiles = ["C", "C", None, "CC", "O"]
    assert uniqueness(smiles) == 3 / 4
    assert novelty(smiles, {"C", "N"}) == pytest.approx(2 / 3)
    assert novelty(smiles, ["C", "CC", "O"]) == 0
    assert np.isnan(uniqueness([None]))
    assert np.isnan(novelty([None], {"C"}))


def test_unknown_bonds_are_refused():
    with pytest.raises(InvalidInputError, match="adit, edm, adit-rust; got 'xtb'"):
        validity([], "xtb")  # type: ignore[arg-type]


def test_a_crystal_is_refused(mp20):
    with pytest.raises(InvalidInputError, match="system 0 is a crystal"):
        validity([mp20[0]])


def test_openbabel_missing_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "openbabel", None)
    with pytest.raises(BackendUnavailableError, match=r"pip install adit\[eval\]"):
        validity([], "adit")
