"""Charges and hydrogens of SDF records, against the RDKit molecules that they were made from."""

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import rdDistGeom

from adit.bonds import to_sdf
from adit.convert import BrokenEntry, iread, read, write
from adit.convert.molfile import _balanced, missing_hydrogens, parse_molfile
from adit.data.packed import PackedDataset
from adit.errors import UnreadableFileError
from adit.system import AtomicSystem

FIXTURES = Path(__file__).parents[1] / "fixtures"
IONS = {"CC(=O)[O-]": -1, "C[NH3+]": 1, "[NH3+]CC(=O)[O-]": 0, "[O-]S(=O)(=O)[O-]": -2, "C[N+](=O)[O-]": 0}
WHOLE = ["CCO", "CS(C)(=O)=O", "CSC", "CP(=O)(O)O", "FS(F)(F)(F)(F)F", "C[N+](=O)[O-]", "CC(=O)[O-]", "C[Si](C)(C)Cl"]
WHOLE += [
    "c1cc[nH]c1",
    "CCN=[N+]=[N-]",
    "C[CH2]",
    "CB(O)O",
    "BrCI",
    "C[Se]C",
    "[Na+].CC(=O)[O-]",
    "[C-]#[O+]",
    "C[Mg]Br",
]


def made(smiles: str) -> Chem.Mol:
    """With hydrogens and a conformer."""
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert rdDistGeom.EmbedMolecule(mol, randomSeed=1) == 0
    Chem.Kekulize(mol, clearAromaticFlags=True)
    return mol


def without(mol: Chem.Mol, count: int) -> Chem.Mol:
    """The last `count` hydrogens are left to be understood."""
    edited = Chem.RWMol(mol)
    for atom in reversed([atom.GetIdx() for atom in mol.GetAtoms() if atom.GetAtomicNum() == 1][-count:]):
        edited.RemoveAtom(atom)
    for atom in edited.GetAtoms():
        if not atom.GetNumRadicalElectrons():
            atom.SetNoImplicit(False)
    return edited.GetMol()


def record(mol: Chem.Mol, version: str) -> str:
    return (Chem.MolToMolBlock if version == "V2000" else Chem.MolToV3KMolBlock)(mol) + "$$$$\n"


def missing(text: str) -> tuple[int, bool]:
    """As the first record of a text says, and whether RDKit was not needed."""
    lines = text.split("M  END")[0].splitlines()
    mol = parse_molfile(lines)
    return missing_hydrogens(mol, [*lines, "M  END"]), mol.plain and _balanced(mol)


@pytest.mark.parametrize("version", ["V2000", "V3000"])
@pytest.mark.parametrize("smiles", IONS)
def test_the_total_charge_is_read(tmp_path: Path, smiles: str, version: str) -> None:
    (tmp_path / "ion.sdf").write_text(record(made(smiles), version))
    [system] = read(tmp_path / "ion.sdf")
    charge = IONS[smiles]
    assert system.info.get("charge", 0) == charge and ("charge" in system.info) == (charge != 0)
    assert Chem.MolToSmiles(Chem.RemoveHs(system.to_rdkit())) == Chem.CanonSmiles(smiles)
    write(tmp_path / "again.sdf", system)
    [again] = read(tmp_path / "again.sdf")
    assert again.info.get("charge", 0) == charge
    [mol] = Chem.SDMolSupplier(str(tmp_path / "again.sdf"))
    assert Chem.MolToSmiles(mol) == Chem.CanonSmiles(smiles)


@pytest.mark.parametrize(("code", "charge"), [(1, 3), (2, 2), (3, 1), (4, None), (5, -1), (6, -2), (7, -3)])
def test_the_charge_column(tmp_path: Path, code: int, charge: int | None) -> None:
    atom = "    0.0000    0.0000    {}.0000 N   0{:3d}\n"
    text = "\n  x\n\n  2  0\n" + atom.format(0, code) + atom.format(1, 0)
    (tmp_path / "a.mol").write_text(text + "M  END\n")
    assert read(tmp_path / "a.mol")[0].info.get("charge") == charge
    (tmp_path / "a.mol").write_text(text + "M  CHG  2   1   2   2  -1\nM  END\n")  # it replaces the column
    assert read(tmp_path / "a.mol")[0].info["charge"] == 1


def test_a_data_item_says_the_charge(tmp_path: Path) -> None:
    (tmp_path / "a.sdf").write_text(record(made("CC(=O)[O-]"), "V2000").replace("$$$$", "> <charge>\n-3\n\n$$$$"))
    assert read(tmp_path / "a.sdf")[0].info["charge"] == -3


def test_a_charge_that_adit_could_not_reach_is_not_read_as_given(tmp_path: Path) -> None:
    uranyl = AtomicSystem([92, 8, 8], [[0, 0, 0], [0, 0, 1.8], [0, 0, -1.8]])
    write(tmp_path / "a.sdf", uranyl)
    assert "M  CHG" in (tmp_path / "a.sdf").read_text()
    assert "charge" not in read(tmp_path / "a.sdf")[0].info


@pytest.mark.parametrize("smiles", WHOLE)
def test_hydrogens_left_out_are_counted(smiles: str) -> None:
    mol = made(smiles)
    hydrogens = sum(atom.GetAtomicNum() == 1 for atom in mol.GetAtoms())
    for version in ("V2000", "V3000"):
        assert missing(record(mol, version))[0] == 0
        for count in range(1, hydrogens + 1):
            assert missing(record(without(mol, count), version)) == (count, False)


def test_of_aromatic_bonds() -> None:
    mol = made("Cc1ccncc1")
    Chem.SanitizeMol(mol)
    assert missing(Chem.MolToMolBlock(mol, kekulize=False))[0] == 0
    assert missing(Chem.MolToMolBlock(Chem.RemoveHs(mol), kekulize=False))[0] == 7


@pytest.mark.parametrize(
    ("symbols", "bonds", "lines", "expected"),
    [
        ("N H H H C H H H", "121 131 141 151 561 571 581", "", 0),  # an ammonium ylide without its charges
        ("N O O C", "122 132 141", "", 3),  # a nitro group without its charges
        ("C H H H", "121 131 141", "", 1),
        ("C H H H", "121 131 141", "M  RAD  1   1   2\n", 0),
        ("C H H H", "121 131 141", "M  CHG  1   1  -1\n", 0),
        ("C O", "122", "", 2),
        ("C O", "", "", 0),
    ],
)
def test_records_by_hand(symbols: str, bonds: str, lines: str, expected: int) -> None:
    atoms = "".join(f"{k:10.4f}    0.0000    0.0000 {symbol}\n" for k, symbol in enumerate(symbols.split()))
    rows = "".join(f"  {a}  {b}  {order}\n" for a, b, order in bonds.split())
    counts = f"{len(symbols.split()):3d}{len(bonds.split()):3d}"
    assert missing(f"\n\n\n{counts}\n{atoms}{rows}{lines}M  END")[0] == expected


def test_unpaired_electrons_and_valences_of_the_atom_lines() -> None:
    text = record(made("[CH3]"), "V2000").replace("M  RAD  1   1   2\n", "")
    assert missing(text)[0] == 0, "a valence is given"
    assert missing(text.replace("C   0  0  0  0  0  3", "C   0  0  0  0  0  0"))[0] == 1
    assert missing(text.replace("C   0  0  0  0  0  3", "C   0  4  0  0  0  0"))[0] == 0


def test_common_records_are_judged_without_rdkit() -> None:
    for name in ("files/drugs.sdf", "qm9_sdf/gdb9.sdf"):
        records = (FIXTURES / name).read_text().split("$$$$\n")[:-1]
        assert {missing(text) for text in records} == {(0, True)}
        assert len(read(FIXTURES / name)) == len(records)


def test_a_record_that_lacks_hydrogens_is_broken(tmp_path: Path) -> None:
    path = tmp_path / "x.sdf"
    path.write_text(
        record(made("CCO"), "V2000") + record(without(made("CCO"), 1), "V2000") + record(made("C"), "V2000")
    )
    with pytest.raises(
        UnreadableFileError, match=r"x\.sdf\[2\]: lacks 1 hydrogen; add them .* \(1 of 3 entries cannot"
    ):
        read(path)
    path.write_text(record(without(made("CCO"), 6), "V3000"))
    words = r"lacks 6 hydrogens; add them in 3D \(RDKit: Chem\.AddHs\(mol, addCoords=True\)\)$"
    with pytest.raises(UnreadableFileError, match=words):
        read(path)
    assert read(path, all_hydrogens=False)[0].numbers.tolist() == [6, 6, 8]
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "y.sdf.gz").write_bytes(gzip.compress(path.read_bytes()))
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.write(path, "in/z.sdf")
    for place in (tmp_path / "sub", tmp_path / "z.zip"):
        assert [len(one) for one in read(place, all_hydrogens=False)] == [3]
        with pytest.raises(UnreadableFileError, match="lacks 6 hydrogens"):
            read(place)


def test_what_adit_wrote_is_read_however_odd(tmp_path: Path) -> None:
    """Its own hydrogens stripped by RDKit are missed all the same, though data items go along."""
    rng = np.random.default_rng(0)
    odd = [AtomicSystem(rng.choice([1, 6, 7, 8, 16], 12), rng.uniform(0, 4, (12, 3))) for _ in range(20)]
    write(tmp_path / "odd.sdf", odd)
    (tmp_path / "plain.sdf").write_text(to_sdf(odd))
    assert len(read(tmp_path / "odd.sdf")) == len(read(tmp_path / "plain.sdf")) == 20
    tiny = PackedDataset.load(FIXTURES / "tiny_dataset")
    write(tmp_path / "whole.sdf", [tiny[k] for k in range(60, 80)])
    with Chem.SDWriter(str(tmp_path / "stripped.sdf")) as writer:
        for mol in Chem.SDMolSupplier(str(tmp_path / "whole.sdf")):
            assert mol.GetProp("adit_bonds") == "orders"
            writer.write(mol)
    assert all(isinstance(entry, BrokenEntry) for entry in iread(tmp_path / "stripped.sdf"))
