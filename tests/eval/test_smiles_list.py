"""A list of SMILES as what is known: however it is written, RDKit's own reading of it is the judge."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import EnumerateStereoisomers
from typer.testing import CliRunner

from adit.cli.eval import app
from adit.data.conformers import read_smiles
from adit.data.packed import PackedDataset
from adit.data.prepare import prepare
from adit.errors import UnreadableFileError
from adit.eval import evaluate, reference
from adit.eval.molecules import validity
from adit.eval.protocols import PROTOCOLS
from adit.eval.reference import Reference
from adit.eval.smiles_list import known_forms, read_list
from adit.eval.workers import Workers
from adit.system import AtomicSystem

FIXTURES = Path(__file__).parents[1] / "fixtures"
DATA = Path(__file__).parent / "data"


def plain(smiles: str) -> str:
    return Chem.MolToSmiles(Chem.MolFromSmiles(smiles), isomericSmiles=False)


def shuffled(mol: Chem.Mol) -> str:
    return Chem.MolToRandomSmilesVect(mol, 1, randomSeed=7)[0]


def kekulised(mol: Chem.Mol) -> str:
    Chem.Kekulize(mol, clearAromaticFlags=True)
    return Chem.MolToSmiles(mol, kekuleSmiles=True)


def stereo(mol: Chem.Mol) -> str:
    return Chem.MolToSmiles(next(iter(EnumerateStereoisomers.EnumerateStereoisomers(mol))))


def with_hydrogens(mol: Chem.Mol, isotope: int = 0) -> str:
    """All of them written out, those of imines with their side of the double bond."""
    mol = Chem.AddHs(next(iter(EnumerateStereoisomers.EnumerateStereoisomers(Chem.AddHs(mol)))))
    for atom in mol.GetAtoms():
        atom.SetIsotope(isotope if atom.GetAtomicNum() == 1 else 0)
    return Chem.MolToSmiles(mol)


def mapped(mol: Chem.Mol) -> str:
    for atom in mol.GetAtoms():
        atom.SetAtomMapNum(atom.GetIdx() + 1)
    return Chem.MolToSmiles(mol)


WRITERS = {
    "canonical": Chem.MolToSmiles,
    "shuffled": shuffled,
    "kekulised": kekulised,
    "stereo": stereo,
    "all hydrogens": with_hydrogens,
    "deuterated": lambda mol: with_hydrogens(mol, 2),
    "mapped": mapped,
    "a salt": lambda mol: f"Cl.{Chem.MolToSmiles(mol)}.Br",
}


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> PackedDataset:
    """300 molecules of QM9 in 3D, with the SMILES that were published for them."""
    return prepare("qm9", FIXTURES / "qm9", tmp_path_factory.mktemp("data") / "qm9", processes=1)


@pytest.fixture(scope="module")
def smiles_3d(known: PackedDataset) -> dict[str, list[str | None]]:
    return {protocol: validity(known, protocol) for protocol in PROTOCOLS}


@pytest.mark.parametrize("way", WRITERS)
def test_what_is_listed_is_known_in_3d(
    known: PackedDataset, smiles_3d: dict[str, list[str | None]], tmp_path: Path, way: str
) -> None:
    texts = [WRITERS[way](Chem.MolFromSmiles(str(smiles))) for smiles in known.properties["smiles"]]
    (tmp_path / "library.smi").write_text("\n".join(texts))
    listed = Reference.open(str(tmp_path / "library.smi"))
    canonical = [plain(str(smiles)) for smiles in known.properties["smiles"]]
    assert len(listed.molecules) == len(texts) == 300
    for protocol in PROTOCOLS:
        found = listed.smiles(protocol, Workers(1))
        right = [smiles for smiles in smiles_3d[protocol] if smiles in set(canonical)]
        assert len(right) >= {"adit-rust": 299, "adit": 280, "edm": 280}[protocol]  # the 300th: an odd zwitterion
        assert {smiles: found.get(smiles) for smiles in right} == {s: canonical.index(s) for s in right}
    half = Reference("half", listed.data, listed.listed[:150]).smiles("adit-rust", Workers(1))
    assert not any(smiles in half for smiles in smiles_3d["adit-rust"][150:] if smiles not in canonical[:150])


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("CC[NH3+].[Cl-]", "CCN"),
        ("CC(=O)[O-].[Na+]", "CC(=O)O"),
        ("CC(=O)O.NCCc1ccccc1", "NCCc1ccccc1"),
        ("CC(=O)O.NCCc1ccccc1", "CC(=O)O"),
        ("[NH3+]CC(=O)[O-]", "[NH3+]CC(=O)[O-]"),
        ("[NH3+]CC(=O)[O-]", "NCC(=O)O"),
        ("C[N+](C)(C)CC(=O)[O-]", "C[N+](C)(C)CC(=O)[O-]"),
        ("c1cc[nH+]cc1", "c1ccncc1"),
        ("C[S+]([O-])c1ccccc1", "CS(=O)c1ccccc1"),
        ("C[S+2]([O-])([O-])N", "CS(=O)(=O)N"),
        ("C[P+](C)(C)[O-]", "CP(C)(C)=O"),
        ("CN(=O)=O", "C[N+](=O)[O-]"),
        ("CN=N#N", "CN=[N+]=[N-]"),
        ("C1.C1", "CC"),
        ("[13CH3]/C=C/[C@H](F)[2H]", "CC=CCF"),
        ("[CH3:1][OH:2]", "CO"),
    ],
)
def test_what_a_chemist_takes_for_the_same(text: str, known: str) -> None:
    assert plain(known) in known_forms([text])[0].split()


def test_what_is_not_the_same() -> None:
    assert known_forms(["C1CC", "C(C)(C)(C)(C)C", "Oc1ccccn1"]) == ["", "", "Oc1ccccn1"]  # tautomers are two


def test_text_is_read_as_for_conformers(tmp_path: Path) -> None:
    text = "# mine\nCCO ethanol\r\n\n  \nc1ccccc1\tbenzene\n#C\n  CN\n"
    for name in ("a.smi", "a.SMILES", "a.txt", "a.smi.gz"):
        (tmp_path / name).write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
        found = read_list(tmp_path / name)
        assert [named.smiles for named in found] == [named.smiles for named in read_smiles(tmp_path / name)]
        assert [named.id for named in found] == [f"{name}:{line}" for line in (2, 5, 7)]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", 'id,SMILES,note\n1,CCO,"two\nlines, here"\n2,,none\n3,"CN |c|",\n4\n'),
        ("a.csv.gz", '\ufeff"Smiles";"id"\r\n"CCO";"1"\r\n\r\n\r\nCN;"2;3"\r\n'),
        ("a.tsv", "id\t smiles \n1\tCCO\n2\n\n3\tCN\n"),
        ("a.csv", "smiles\nCCO\n\n\nCN\n"),
    ],
)
def test_tables(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    found = read_list(path)
    assert [named.smiles for named in found] == ["CCO", "CN"]
    assert found[1].id == f"{name}:5"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", b"name,structure\nx,CCO\n", "no column 'smiles'; its first line names name, structure. Rename"),
        ("a.csv", b"", "first line names nothing"),
        ("a.csv", b"smiles\nCCO\n" + b"C" * 2000, "not a table from line 3 on: field larger"),
        ("a.smi", b"smiles\nnot this\n", "no SMILES that RDKit can read.*the first of 2: a.smi:1 smiles"),
        ("a.smi", b"\n", "no SMILES"),
        ("a.smi", b"\xd0\xcf\x11\xe0", "not a text file"),
        ("a.smi.gz", b"CCO", "not a complete gz file"),
        ("a.smi", None, "a.smi does not exist"),
    ],
)
def test_what_is_no_list_is_refused(tmp_path: Path, name: str, content: bytes | None, words: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    limit = csv.field_size_limit(1000)
    try:
        with pytest.raises(UnreadableFileError, match=words):
            Reference.open(str(tmp_path / name))
    finally:
        csv.field_size_limit(limit)


def test_samples_against_a_list(
    qm9: list[AtomicSystem], mp20: list[AtomicSystem], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = ["# ours", "C1CC", *(system.info["smiles"] for system in qm9[:3]), "xyz"]
    (tmp_path / "library.smi").write_text("\n".join(lines))
    name = str(tmp_path / "library.smi")
    found = evaluate([mp20[0], qm9[1], qm9[100], qm9[2]], reference=name)
    for protocol in PROTOCOLS:
        rows = [row["protocols"][protocol] for row in found.rows[1:]]
        assert [(row["matches"], row["why"]) for row in rows] == [
            (2, "matches reference 2 (library.smi:4)"), (None, ""), (3, "matches reference 3 (library.smi:5)")
        ]  # fmt: skip
        assert found.metric("molecules", "novel", protocol).value == pytest.approx(1 / 3)
    assert found.reference == {"name": name, "molecules": 5, "crystals": 0}
    assert found.protocols["listed"].startswith(f"5 of 5 molecules of {name} have no coordinates")
    assert not [metric for metric in found.metrics if metric.protocol in ("distances", "coverage")]
    assert found.rows[0]["protocols"]["cdvae"]["novel"] is None
    no_crystals, warned = caplog.messages  # once, not by every protocol
    assert "holds no crystals" in no_crystals
    assert warned == "2 of 5 SMILES skipped, which RDKit cannot read: library.smi:2 C1CC, library.smi:6 xyz"


def test_the_command(qm9: list[AtomicSystem], tmp_path: Path) -> None:
    (tmp_path / "library.csv").write_text("\n".join(["smiles", *(system.info["smiles"] for system in qm9)]))
    done = CliRunner().invoke(
        app, [str(DATA / "qm9.extxyz"), "--reference", str(tmp_path / "library.csv"), "--protocol", "adit-rust"]
    )
    assert done.exit_code == 0, done.output
    assert "150 of 150 molecules" in done.output and "Wasserstein" not in done.output
    (line,) = (line for line in done.output.splitlines() if line.strip().startswith("novel ("))
    assert " 0 [0, 0]" in line


def test_several_references_are_one(
    qm9: list[AtomicSystem], mp20: list[AtomicSystem], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name, systems in (("a", [mp20[0], qm9[0]]), ("b", [qm9[1], mp20[1]])):
        named = [AtomicSystem(s.numbers, s.positions, s.cell, {"id": f"{name}{k}"}) for k, s in enumerate(systems)]
        PackedDataset.from_systems(named).save(tmp_path / name)
    (tmp_path / "c.smi").write_text(f"{qm9[1].info['smiles']}\n{qm9[2].info['smiles']}\n")
    names = [str(tmp_path / name) for name in ("c.smi", "a", "b")]
    both = Reference.open_all(names)
    assert (both.molecules.tolist(), both.molecules_3d.tolist(), both.crystals.tolist()) == (
        [1, 2, 4, 5],
        [1, 2],
        [0, 3],
    )
    assert [both.label(index) for index in (0, 3, 4, 5)] == ["0 (a0)", "3 (b1)", "4 (c.smi:1)", "5 (c.smi:2)"]
    found = evaluate([qm9[0], qm9[1], qm9[2], qm9[3], mp20[1], mp20[2]], protocols=["adit-rust"], reference=both)
    matched = [next(iter(row["protocols"].values()))["matches"] for row in found.rows]
    assert matched == [1, 2, 5, None, 3, None]
    assert found.metric("molecules", "bond lengths", "distances").of == 4
    assert found.protocols["listed"].startswith("2 of 4 molecules of ")
    assert Reference.open_all(names[1:2], "crystals").name == names[1]
    with pytest.raises(UnreadableFileError, match=r"c\.smi holds no crystal"):
        Reference.open_all(names, "crystals")


def test_forms_are_kept_by_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADIT_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(reference, "WORTH_KEEPING", 1)
    path, done = tmp_path / "a.smi", []
    path.write_text("CCO\nCC[S+](C)[O-].Cl\nxyz")
    first = Reference.open(str(path)).smiles("adit-rust", Workers(1), done.append)
    assert first == {"CCO": 0, "CC[S+](C)[O-]": 1, "CCS(C)=O": 1, "Cl": 1}
    (file,) = (tmp_path / "smiles").iterdir()
    file.write_text(file.read_text().replace("CCO", "kept"))
    path.rename(tmp_path / "b.txt")
    again = Reference.open(str(tmp_path / "b.txt"))
    assert "kept" in again.smiles("adit-rust", Workers(1), done.append)
    assert "kept" in again.smiles("edm", Workers(1), done.append)
    assert sum(done) == 9
    path.write_text("CCO\nCC[S+](C)[O-].Br\nxyz")
    assert "CCO" in Reference.open(str(path)).smiles("edm", Workers(1))


def test_processes_share_a_long_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "long.smi"
    path.write_text("\n".join("C" * n + "O" * (k % 2) for k, n in enumerate(np.arange(2500) % 30 + 1)))
    found = []
    for processes in (1, 2):
        monkeypatch.setenv("ADIT_DATA_DIR", str(tmp_path / str(processes)))
        with Workers(processes) as workers:
            found.append(Reference.open(str(path)).smiles("adit-rust", workers))
    assert found[0] == found[1] and len(found[0]) == 30


def test_why_nothing_can_be_read(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    with pytest.raises(
        UnreadableFileError, match=r"can be read; the first of 1 broken entries: partial\.cif: disordered"
    ):
        Reference.open(str(FIXTURES / "odd" / "partial.cif"))
    for name in ("partial.cif", "plain.cif"):
        (tmp_path / name).write_bytes((FIXTURES / "odd" / name).read_bytes())
    assert len(Reference.open(str(tmp_path)).crystals) == 1
    assert "1 broken entries skipped; the first: partial.cif" in caplog.text
