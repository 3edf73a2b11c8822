"""Row by row what RDKit, Open Babel, smact and pymatgen say; of some hundred structures, of 2,000 in the slow run."""

from __future__ import annotations

import warnings
from types import ModuleType

import numpy as np
import pytest
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Structure
from rdkit import Chem

import crystal_pairs
from adit.data import qm9 as qm9_data
from adit.data.base import ReadOptions
from adit.data.packed import PackedDataset
from adit.eval import evaluate
from adit.eval.reference import Reference
from adit.system import AtomicSystem

ORDERS = (None, Chem.BondType.SINGLE, Chem.BondType.DOUBLE, Chem.BondType.TRIPLE)


def molecules(held: list[AtomicSystem], count: int) -> list[AtomicSystem]:
    """Intact and shaken ones, some with an atom less or another element."""
    rng = np.random.default_rng(count)
    made = []
    for k in range(count):
        system = held[k % len(held)]
        numbers, positions = system.numbers.copy(), system.positions.copy()
        if k % 4:
            positions += (0.03, 0.08, 0.2)[k % 4 - 1] * rng.normal(size=positions.shape)
        if k % 5 == 0:
            gone = rng.integers(len(numbers))
            numbers, positions = np.delete(numbers, gone), np.delete(positions, gone, axis=0)
        if k % 7 == 0:
            numbers[rng.integers(len(numbers))] = rng.choice([1, 6, 7, 8, 9])
        made.append(AtomicSystem(numbers, positions))
    return made


def crystals(held: list[AtomicSystem], count: int) -> list[AtomicSystem]:
    """Intact, rattled, squeezed, in other cells, some with another element or two atoms in one place."""
    rng = np.random.default_rng(count)
    made = []
    for k in range(count):
        structure = held[k % len(held)].to_pymatgen()
        if k % 3 == 0:
            structure = crystal_pairs.rattled(structure, rng, 0.1 * (k % 2))
        if k % 5 == 0:
            structure = crystal_pairs.recelled(structure, rng)
        numbers, cell = np.array(structure.atomic_numbers), structure.lattice.matrix
        fractional = structure.frac_coords.copy()
        if k % 4 == 1:
            numbers[rng.integers(len(numbers))] = rng.integers(1, 95)
        if k % 9 == 2 and len(numbers) > 1:
            fractional[-1] = fractional[0] + rng.normal(scale=0.05, size=3)
        if k % 11 == 3:
            cell = 0.2 * cell
        made.append(AtomicSystem.from_fractional(numbers, fractional, cell))
    return made


def edm_smiles(judge: ModuleType, system: AtomicSystem) -> str | None:
    """As EDM does it: bonds pair by pair, RDKit on the whole, the largest fragment; hydrogens are atoms throughout."""
    molecule = Chem.RWMol()
    for symbol in system.symbols:
        atom = Chem.Atom(symbol)
        atom.SetNoImplicit(True)
        molecule.AddAtom(atom)
    for i in range(len(system)):
        for j in range(i):
            distance = float(np.linalg.norm(system.positions[i] - system.positions[j]))
            if order := judge.bond_order(system.symbols[i], system.symbols[j], distance):
                molecule.AddBond(i, j, ORDERS[order])
    try:
        Chem.SanitizeMol(molecule)
        largest = max(Chem.GetMolFrags(molecule, asMols=True), key=lambda part: part.GetNumAtoms())
        return str(Chem.MolToSmiles(Chem.RemoveHs(largest), isomericSmiles=False))
    except Chem.MolSanitizeException:
        return None


def check_molecules(judge: ModuleType, systems: list[AtomicSystem]) -> None:
    found = evaluate(systems, protocols=["adit", "edm"])
    expected = [judge.babel_smiles(system.symbols, system.positions) for system in systems]
    rows = [row["protocols"] for row in found.rows]
    assert [(row["adit"]["smiles"], row["adit"]["paired"]) for row in rows] == [
        (smiles, smiles is not None and paired) for smiles, paired in expected
    ]
    assert [row["edm"]["smiles"] for row in rows] == [edm_smiles(judge, system) for system in systems]
    assert [row["edm"]["stable_atoms"] for row in rows] == [
        judge.stable_atoms(system.symbols, system.positions) for system in systems
    ]
    for protocol in ("adit", "edm"):
        valid = [row[protocol]["smiles"] for row in rows if row[protocol]["valid"]]
        assert 0.2 < len(valid) / len(systems) < 0.99
        assert found.metric("molecules", "unique", protocol).value == len(set(valid)) / len(valid)
        assert all(row[protocol]["why"] for row in rows if not row[protocol]["valid"])


def check_crystals(judge: ModuleType, systems: list[AtomicSystem], known: list[AtomicSystem]) -> None:
    found = evaluate(systems, reference=Reference("known", PackedDataset.from_systems(known)))
    rows = [row["protocols"]["cdvae"] for row in found.rows]
    structures = [
        Structure(system.cell, system.symbols, system.positions, coords_are_cartesian=True) for system in systems
    ]
    cache: dict[str, bool] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sound = [judge.structural(structure) for structure in structures]
        assert [row["structure"] for row in rows] == sound
        assert [row["composition"] for row in rows] == [judge.compositional(s, cache) for s in structures]
    matcher = StructureMatcher(stol=0.5, ltol=0.3, angle_tol=10)
    held = [system.to_pymatgen() for system in known]
    formulas = [structure.composition.reduced_formula for structure in held]
    for structure, row, valid in zip(structures, rows, sound, strict=True):
        same = [k for k, formula in enumerate(formulas) if formula == structure.composition.reduced_formula]
        expected = next((k for k in same if matcher.fit(structure, held[k])), None) if valid else None
        assert row["matches"] == expected
    groups = matcher.group_structures([s for s, valid in zip(structures, sound, strict=True) if valid])
    assert found.metric("crystals", "unique").value == len(groups) / sum(sound)
    assert 0.3 < np.mean(sound) < 0.95
    assert 0.1 < np.mean([row["matches"] is not None for row in rows]) < 0.95


def test_a_hundred_molecules(judge: ModuleType, qm9: list[AtomicSystem]) -> None:
    check_molecules(judge, molecules(qm9, 100))


def test_a_hundred_crystals(judge: ModuleType, mp20: list[AtomicSystem]) -> None:
    check_crystals(judge, crystals(mp20[:40], 60), mp20[:30])


@pytest.fixture(scope="module")
def all_qm9() -> PackedDataset:
    folder = qm9_data.qm9pack_folder()
    if folder is None:
        pytest.skip("qm9pack is not installed")
    entries = [entry for task in qm9_data.SPEC.tasks(folder, ReadOptions()) for entry in task.parse()]
    return PackedDataset.from_systems(entry for entry in entries if isinstance(entry, AtomicSystem))


@pytest.mark.slow
def test_two_thousand_molecules(judge: ModuleType, all_qm9: PackedDataset) -> None:
    drawn = np.random.default_rng(0).permutation(len(all_qm9))[:2000]
    check_molecules(judge, molecules([all_qm9[k] for k in drawn.tolist()], 2000))


@pytest.mark.slow
def test_two_thousand_crystals(judge: ModuleType, mp20: list[AtomicSystem]) -> None:
    check_crystals(judge, crystals(mp20, 2000), mp20[:100])


@pytest.mark.slow
def test_the_truth_about_qm9(all_qm9: PackedDataset) -> None:
    """A thousand drawn: what the protocols say of real molecules."""
    for seed in range(3):
        drawn = np.random.default_rng(seed).permutation(len(all_qm9))[:1000]
        found = evaluate(all_qm9.subset(drawn))
        assert 0.992 <= found.metric("molecules", "stable atoms", "edm").value <= 0.996
        assert 0.94 <= found.metric("molecules", "stable molecules", "edm").value <= 0.965
        assert 0.98 <= found.metric("molecules", "valid", "adit").value <= 0.996
        assert 0.94 <= found.metric("molecules", "no unpaired electrons", "adit").value <= 0.965
        assert found.metric("molecules", "valid", "adit-rust").value >= 0.998
