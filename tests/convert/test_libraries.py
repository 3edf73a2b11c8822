from __future__ import annotations

import time
from pathlib import Path

import ase.build
import numpy as np
import pytest
from pymatgen.core import Lattice, Molecule, Structure
from rdkit import Chem
from rdkit.Chem import AllChem

from adit.bonds import FAULTS
from adit.convert.ase import from_ase, to_ase
from adit.convert.pymatgen import from_pymatgen, to_pymatgen
from adit.convert.rdkit import bonded, from_rdkit, to_rdkit
from adit.data.packed import PackedDataset
from adit.errors import InvalidInputError
from adit.system import AtomicSystem

FIXTURES = Path(__file__).parents[1] / "fixtures"


@pytest.fixture(scope="module")
def tiny() -> PackedDataset:
    return PackedDataset.load(FIXTURES / "tiny_dataset")


@pytest.mark.parametrize("place", [0, 149, 150, 299])
def test_ase_and_pymatgen_round_trips(tiny: PackedDataset, place: int) -> None:
    system = tiny[place]
    assert from_ase(to_ase(system)) == system
    again = from_pymatgen(to_pymatgen(system))
    assert again.numbers.tolist() == system.numbers.tolist()
    np.testing.assert_allclose(again.positions, system.positions, atol=1e-10)
    assert again.info["id"] == system.info["id"]


def test_kinds() -> None:
    assert isinstance(to_pymatgen(AtomicSystem([8], [[0, 0, 0]])), Molecule)
    assert isinstance(to_pymatgen(AtomicSystem([8], [[0, 0, 0]], np.eye(3) * 4)), Structure)
    assert not to_ase(AtomicSystem([8], [[0, 0, 0]])).pbc.any()


def test_refused_structures() -> None:
    with pytest.raises(InvalidInputError, match=r"disordered.*Fe:0\.500, Ni:0\.500|disordered.*Fe.*Ni"):
        from_pymatgen(Structure(Lattice.cubic(3), [{"Fe": 0.5, "Ni": 0.5}], [[0, 0, 0]]))
    with pytest.raises(InvalidInputError, match="3D-periodic"):
        from_ase(ase.build.fcc111("Cu", (1, 1, 2), vacuum=5))


def test_oxidation_states_and_deuterium() -> None:
    structure = Structure(Lattice.cubic(4), ["Na+", "D-"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    assert from_pymatgen(structure).numbers.tolist() == [11, 1]


def test_qm9_bond_orders_give_the_smiles(tiny: PackedDataset) -> None:
    right = 0
    for place in range(150):
        mol = bonded(tiny[place])
        if mol is not None:
            smiles = Chem.MolToSmiles(Chem.RemoveHs(mol), isomericSmiles=False)
            right += smiles == Chem.CanonSmiles(tiny[place].info["smiles"], useChiral=0)
    assert right >= 0.985 * 150


def test_rdkit_round_trip(tiny: PackedDataset) -> None:
    for place in range(0, 150, 10):
        system = tiny[place]
        mol = to_rdkit(system)
        assert mol.GetNumConformers() == 1
        assert all(atom.GetTotalNumHs() == 0 for atom in mol.GetAtoms())
        assert from_rdkit(mol) == system


@pytest.mark.parametrize("elements", [(1, 6, 7, 8, 9), (7,), (16, 15, 7), (92, 26), (6, 1, 1, 17)])
def test_random_blobs_end_quickly_and_never_raise(elements: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    for count in (0, 1, 40, 181, 400):
        for density in (0.5, 2.0):
            positions = rng.uniform(0, (count * density * 8) ** (1 / 3), (count, 3))
            start = time.process_time()
            mol = to_rdkit(AtomicSystem(rng.choice(elements, count), positions))
            assert time.process_time() - start < 5
            assert mol.GetNumAtoms() == count
            assert set(mol.GetProp("adit_bonds").split("|")) <= {"orders", *FAULTS.names}


def test_bare_carbon_frames_end_quickly() -> None:
    for atoms in (ase.build.molecule("C60"), ase.build.graphene(size=(6, 6, 1))):
        atoms.pbc = False
        start = time.process_time()
        mol = to_rdkit(from_ase(atoms))
        assert time.process_time() - start < 5
        assert mol.GetNumBonds() > len(atoms)


def test_atoms_at_one_place() -> None:
    mol = to_rdkit(AtomicSystem([1, 1, 6], np.zeros((3, 3))))
    assert mol.GetProp("adit_bonds") == "RADICAL|OVERLAP"
    assert bonded(AtomicSystem([1, 1, 6], np.zeros((3, 3)))) is None


def test_rdkit_is_silent(capfd: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(3)
    for _ in range(5):
        bonded(AtomicSystem([6] * 10, rng.uniform(0, 3, (10, 3))))
    assert capfd.readouterr() == ("", "")


def test_what_rdkit_molecules_are_refused() -> None:
    mol = Chem.MolFromSmiles("CCO")
    with pytest.raises(InvalidInputError, match="no conformer"):
        from_rdkit(mol)
    AllChem.Compute2DCoords(mol)
    with pytest.raises(InvalidInputError, match="2D drawing"):
        from_rdkit(mol)
    AllChem.EmbedMolecule(mol, randomSeed=1)
    with pytest.raises(InvalidInputError, match="6 hydrogens are implicit"):
        from_rdkit(mol)
    full = Chem.AddHs(mol, addCoords=True)
    assert len(from_rdkit(full)) == 9
    with pytest.raises(InvalidInputError, match="no conformer 7"):
        from_rdkit(full, conformer=7)
    with pytest.raises(InvalidInputError, match="crystal"):
        to_rdkit(AtomicSystem([6], [[0, 0, 0]], np.eye(3) * 3))


def test_charges_and_names_come_along() -> None:
    ion = Chem.AddHs(Chem.MolFromSmiles("CC(=O)[O-]"))
    AllChem.EmbedMolecule(ion, randomSeed=1)
    ion.SetProp("_Name", "acetate")
    system = from_rdkit(ion)
    assert dict(system.info) == {"id": "acetate", "charge": -1}
    assert Chem.MolToSmiles(Chem.RemoveHs(to_rdkit(system))) == "CC(=O)[O-]"
    assert from_rdkit(ion, info={}).info == {}
    assert from_pymatgen(Molecule(["O", "H"], [[0, 0, 0], [0, 0, 1]], charge=-1)).info == {"charge": -1}
    assert from_pymatgen(Molecule(["He"], [[0, 0, 0]])).info == {}
