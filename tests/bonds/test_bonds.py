"""`adit.bonds` against data sets, RDKit and textbooks."""

from __future__ import annotations

import ase.build
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rdkit import Chem
from rdkit.Chem import AllChem

from adit import bonds
from adit.bonds import BondFlag
from adit.convert.ase import from_ase
from adit.data.packed import PackedDataset
from adit.errors import InvalidInputError
from adit.packing import pack
from adit.system import AtomicSystem

WATER = AtomicSystem([8, 1, 1], [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
# fmt: off
PARTS = [  # nitro, N-oxides, sulfones, phosphates, azides, diazo, isonitriles, zwitterions, ions, the lower rows
    "C[N+](=O)[O-]", "C[n+]1ccccc1", "[O-][n+]1ccccc1", "CS(C)(=O)=O", "CS(C)=O", "COP(=O)(O)OC", "CN=[N+]=[N-]",
    "CC(C)=[N+]=[N-]", "C[N+]#[C-]", "[NH3+]CC(=O)[O-]", "CC(=O)[O-]", "COP(=O)([O-])[O-]", "CS(=O)(=O)[N-]c1ccccc1",
    "CC([NH3+])C", "NC(N)=[NH2+]", "c1c[nH+]c[nH]1", "Nc1cc[nH+]cc1", "C[P+](C)(C)C", "CP(C)(C)=O", "C[S+](C)C",
    "OB(O)c1ccccc1", "C[Si](C)(C)OC", "C[Se]C", "CC(=O)S", "FC(F)(Cl)Br", "c1ccccc1I", "c1nnn[n-]1", "O=C1NC(=O)C=C1",
    "CC#CC=C=C", "Cn1cnc2c1c(=O)n(C)c(=O)n2C", "O=C1C=CC(=O)C=C1", "c1ccc2cc3ccccc3cc2c1", "C1CC2(C1)CC2", "CN=C=S",
    "[O-]c1ccccc1", "CC(=O)/C=C(/C)[O-]", "N#C[S-]", "OO", "CON=O",
]
# fmt: on


def smiles(mol: Chem.Mol) -> str:
    return Chem.CanonSmiles(Chem.MolToSmiles(Chem.RemoveHs(mol), isomericSmiles=False))


def embedded(text: str) -> tuple[AtomicSystem, str, int]:
    mol = Chem.AddHs(Chem.MolFromSmiles(text))
    assert AllChem.EmbedMolecule(mol, randomSeed=1) == 0
    optimise = AllChem.MMFFOptimizeMolecule if AllChem.MMFFHasAllMoleculeParams(mol) else AllChem.UFFOptimizeMolecule
    optimise(mol, maxIters=400)
    numbers = [atom.GetAtomicNum() for atom in mol.GetAtoms()]
    return AtomicSystem(numbers, mol.GetConformer().GetPositions()), smiles(mol), Chem.GetFormalCharge(mol)


@pytest.fixture(scope="module")
def qm9(request: pytest.FixtureRequest) -> PackedDataset:
    data = PackedDataset.load(request.path.parents[1] / "fixtures" / "tiny_dataset")
    return data.subset(np.flatnonzero(~data.periodic))


@pytest.mark.parametrize("text", PARTS)
@pytest.mark.parametrize("given_charge", [True, False])
def test_functional_groups(text: str, given_charge: bool) -> None:
    system, expected, charge = embedded(text)
    mol = bonds.to_rdkit(system, charge if given_charge else None)
    assert smiles(mol) == expected
    assert mol.GetProp("adit_flags") == ""


def test_qm9_gives_the_smiles(qm9: PackedDataset) -> None:
    mols = bonds.to_rdkit_batch(qm9)
    expected = [Chem.CanonSmiles(system.info["smiles"], useChiral=0) for system in qm9]
    assert np.mean([smiles(mol) == text for mol, text in zip(mols, expected, strict=True)]) >= 0.985
    assert all(mol.GetProp("adit_flags") == "" for mol in mols)


def test_poor_geometries_are_forgiven(qm9: PackedDataset) -> None:
    rng = np.random.default_rng(0)
    shaken = [AtomicSystem(s.numbers, s.positions + 0.05 * rng.normal(size=s.positions.shape)) for s in qm9]
    expected = [Chem.CanonSmiles(system.info["smiles"], useChiral=0) for system in qm9]
    found = [smiles(mol) for mol in bonds.to_rdkit_batch(shaken, 0)]
    assert np.mean([ours == text for ours, text in zip(found, expected, strict=True)]) >= 0.97


def test_stereochemistry_survives() -> None:
    mol = Chem.AddHs(Chem.MolFromSmiles("C[C@H](O)/C=C/F"))
    AllChem.EmbedMolecule(mol, randomSeed=1)
    found = bonds.to_rdkit(mol)
    assert Chem.MolToSmiles(Chem.RemoveHs(found)) == Chem.MolToSmiles(Chem.RemoveHs(mol))
    assert "@" not in Chem.MolToSmiles(bonds.to_rdkit(mol, stereo=False))
    imine = Chem.AddHs(Chem.MolFromSmiles("CC(=N)CC"))
    AllChem.EmbedMolecule(imine, randomSeed=1)
    assert Chem.MolToSmiles(Chem.RemoveHs(bonds.to_rdkit(imine))) == "CCC(C)=N"


def test_fullerene_has_all_its_valences() -> None:
    found = bonds.infer_bonds(from_ase(ase.build.molecule("C60")))
    assert len(found.bonds) == 90
    assert found.orders.sum() == 120
    assert not found.flags & ~BondFlag.CUT


def test_one_and_many_agree_for_any_number_of_threads(qm9: PackedDataset) -> None:
    batch = bonds.infer_bonds_batch(qm9, threads=1)
    other = bonds.infer_bonds_batch(pack(qm9), [0] * len(qm9), threads=2)
    assert len(batch) == len(qm9)
    for place in range(0, len(qm9), 17):
        one = bonds.infer_bonds(qm9[place].numbers, qm9[place].positions)
        for found in (batch[place], other[place]):
            np.testing.assert_array_equal(found.bonds, one.bonds)
            np.testing.assert_array_equal(found.orders, one.orders)
            assert (found.charge, found.flags, found.n_fragments) == (0, BondFlag(0), 1)
    assert sum(len(found.bonds) for found in batch) == batch.bond_offsets[-1]


def test_flags_of_broken_molecules() -> None:
    radical = AtomicSystem(WATER.numbers[:2], WATER.positions[:2])
    assert bonds.infer_bonds(radical, charge=0).flags == BondFlag.RADICAL
    assert bonds.infer_bonds(radical).charges.tolist() == [-1, 0]
    both = AtomicSystem([*WATER.numbers, *WATER.numbers], [*WATER.positions, *(WATER.positions + 9)])
    assert bonds.infer_bonds(both).fragments.tolist() == [0, 0, 0, 1, 1, 1]
    assert bonds.infer_bonds(both).flags == BondFlag.FRAGMENTS
    assert BondFlag.OVERLAP in bonds.infer_bonds([6, 6], np.zeros((2, 3))).flags
    assert BondFlag.METAL in bonds.infer_bonds([30], np.zeros((1, 3))).flags
    assert BondFlag.CHARGE in bonds.infer_bonds(WATER, charge=5).flags
    assert BondFlag.CROWDED in bonds.infer_bonds([9, 9, 9], [[0, 0, 0], [1.4, 0, 0], [2.8, 0, 0]], charge=0).flags
    assert "RADICAL" in bonds.to_rdkit(radical, 0).GetProp("adit_flags")


def test_sdf_is_what_rdkit_makes_of_the_molecules(qm9: PackedDataset) -> None:
    rng = np.random.default_rng(0)
    broken = [AtomicSystem(rng.choice([1, 6, 7, 8], 12), rng.uniform(0, 4, (12, 3))) for _ in range(20)]
    charged = [embedded(text)[0] for text in ("CC(=O)[O-]", "C[N+](C)(C)C", "CS(=O)(=O)[N-]C", "[Na+]")]
    row = np.arange(400)[:, None, None] * [4.0, 0, 0]
    large = [AtomicSystem([8, 1, 1] * 400, (WATER.positions + row).reshape(-1, 3))]
    for systems in (list(qm9), broken, charged, large):
        mols = bonds.to_rdkit_batch(systems)
        supplier = Chem.SDMolSupplier()
        supplier.SetData(bonds.to_sdf(systems, titles=[str(k) for k in range(len(systems))]), removeHs=False)
        back = list(supplier)
        assert [mol.GetProp("_Name") for mol in back] == [str(k) for k in range(len(systems))]
        for ours, theirs, system in zip(mols, back, systems, strict=True):
            np.testing.assert_allclose(theirs.GetConformer().GetPositions(), system.positions, atol=6e-5)
            assert theirs.GetNumAtoms() == len(system)
            assert Chem.MolToSmiles(ours, isomericSmiles=False) == Chem.MolToSmiles(theirs, isomericSmiles=False)


def test_real_molecules_pass_the_geometry_checks(qm9: PackedDataset) -> None:
    assert np.mean([failed == () for failed in bonds.check_geometry(qm9)]) > 0.98


@pytest.mark.parametrize(
    ("text", "change", "failed"),
    [
        ("CC", lambda x: x * 1.3, "bond_lengths"),
        ("CCCC", lambda x: np.where(np.arange(len(x))[:, None] == 4, x[0] + (x[1] - x[0]) * 0.7, x), "bond_angles"),
        ("c1ccccc1", lambda x: x + np.outer(np.arange(len(x)) == 0, [0, 0, 0.6]), "aromatic_rings"),
    ],
)
def test_bent_molecules_fail_the_check_of_that_name(text, change, failed) -> None:
    system, _, _ = embedded(text)
    centred = system.positions - system.positions.mean(axis=0)
    flat = centred @ np.linalg.svd(centred)[2].T
    assert bonds.check_geometry(AtomicSystem(system.numbers, flat)) == [()]
    assert failed in bonds.check_geometry(AtomicSystem(system.numbers, change(flat)))[0]


def test_a_twisted_double_bond_fails() -> None:
    def ethene(twist: float) -> AtomicSystem:
        def pair(x: float, angle: float) -> list[list[float]]:
            return [[x, sign * 0.92 * np.cos(angle), sign * 0.92 * np.sin(angle)] for sign in (1, -1)]

        return AtomicSystem([6, 6, 1, 1, 1, 1], [[0, 0, 0], [1.33, 0, 0], *pair(-0.57, 0), *pair(1.90, twist)])

    assert bonds.check_geometry([ethene(0), ethene(0.3), ethene(1.2)]) == [(), (), ("double_bonds",)]


def test_two_pieces_and_a_clash_fail() -> None:
    methane = np.array(
        [[0, 0, 0], [0.63, 0.63, 0.63], [-0.63, -0.63, 0.63], [-0.63, 0.63, -0.63], [0.63, -0.63, -0.63]]
    )
    both = AtomicSystem([6, 1, 1, 1, 1] * 2, [*methane, *(methane * [-1, 1, 1] + [2.5, 0, 0])])
    assert set(bonds.check_geometry(both)[0]) == {"connected", "clashes"}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bonds.infer_bonds([6, 6]), "`positions` must be an array"),
        (lambda: bonds.infer_bonds([6, 6], [[0, 0, 0]]), "`positions` must have shape"),
        (lambda: bonds.infer_bonds([6], [[0, 0, np.nan]]), "must be finite"),
        (lambda: bonds.infer_bonds(AtomicSystem([6], [[0, 0, 0]], np.eye(3))), "system 0 is a crystal"),
        (lambda: bonds.infer_bonds_batch([WATER], [0, 1]), "`charges` must be whole numbers"),
        (lambda: bonds.infer_bonds_batch([WATER], 0.5), "`charges` must be whole numbers"),
        (lambda: bonds.infer_bonds_batch([WATER], threads=0), "`threads` must be 1 to"),
        (lambda: bonds.to_sdf([WATER], titles=["a", "b"]), "`titles` must have one entry"),
        (lambda: bonds.edm_stability(AtomicSystem([6], [[0, 0, 0]], np.eye(3))), "system 0 is a crystal"),
    ],
)
def test_bad_input_is_named(call, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        call()


def test_no_molecules() -> None:
    assert len(bonds.infer_bonds_batch([])) == 0
    assert bonds.to_sdf([]) == ""
    assert bonds.check_geometry([]) == bonds.to_rdkit_batch([]) == []
    empty = bonds.infer_bonds(AtomicSystem([], np.zeros((0, 3))))
    assert (empty.n_fragments, empty.charge, empty.flags) == (0, 0, BondFlag(0))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_rdkit_takes_whatever_comes(data: st.DataObject) -> None:
    count = data.draw(st.integers(0, 14))
    numbers = data.draw(st.lists(st.integers(1, 100), min_size=count, max_size=count))
    flat = data.draw(st.lists(st.floats(-3, 3), min_size=3 * count, max_size=3 * count))
    charge = data.draw(st.none() | st.integers(-3, 3))
    system = AtomicSystem(numbers, np.array(flat).reshape(-1, 3))
    mol = bonds.to_rdkit(system, charge)
    assert mol.GetNumAtoms() == count
    assert bonds.to_sdf(system, charge).endswith("$$$$\n")
    if not bonds.infer_bonds(system, charge=charge).flags & BondFlag.CHARGE and charge is not None:
        assert Chem.GetFormalCharge(mol) == charge
