from __future__ import annotations

import gzip
import shutil
import zipfile
from pathlib import Path

import ase.io
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rdkit import Chem

from adit.convert.base import BrokenEntry
from adit.convert.files import format_of, iread, read
from adit.convert.text import parse_sdf, parse_xyz
from adit.data.packed import PackedDataset
from adit.errors import InvalidInputError, UnreadableFileError
from adit.system import AtomicSystem

FIXTURES = Path(__file__).parents[1] / "fixtures"
ODD = FIXTURES / "odd"


@pytest.mark.parametrize(
    ("name", "formulas"),
    [
        ("plain.cif", ["Cl4Na4"]),
        ("symmetric.cif", ["Cl4Na4"]),
        ("latin1.cif", ["Cl4Na4"]),
        ("two_blocks.cif", ["Cl4Na4", "Cl4Na4"]),
        ("deuterium.cif", ["Cl4HNa3"]),
        ("POSCAR", ["Cl4Na4"]),
        ("crystals.extxyz", ["ClCs", "Po"]),
        ("water.xyz", ["H2O"]),
    ],
)
def test_files_that_can_be_read(name: str, formulas: list[str]) -> None:
    assert [system.formula for system in read(ODD / name)] == formulas


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("partial.cif", "disordered.*Na:0.5"),
        ("truncated.cif", "truncated: 5 atom lines.*8 atoms"),
        ("truncated_symmetric.cif", "add up to Na4"),
        ("truncated_header.cif", "no _atom_site_ loop"),
        ("page.cif", "web page"),
        ("empty.cif", "is empty"),
        ("binary.cif", "is binary"),
        ("nan.cif", "finite"),
        ("POSCAR_vasp4", "elements are not named"),
        ("slab.extxyz", "some directions only"),
        ("torn.xyz", "truncated: 2 atom lines where 3"),
    ],
)
def test_files_that_are_refused_by_name(name: str, words: str) -> None:
    with pytest.raises(UnreadableFileError, match=f"(?s){name}.*{words}"):
        read(ODD / name)


def test_on_error() -> None:
    assert len(read(ODD / "torn.xyz", on_error="skip")) == 1
    with pytest.warns(UserWarning, match="1 broken entries skipped; the first: .*truncated"):
        assert len(read(ODD / "torn.xyz", on_error="warn")) == 1
    with pytest.raises(UnreadableFileError, match="no molecule or crystal that can be read"):
        read(ODD / "slab.extxyz", on_error="skip")
    with pytest.raises(InvalidInputError, match="'ignore'"):
        read(ODD / "torn.xyz", on_error="ignore")  # type: ignore[arg-type]


def test_values_of_an_extxyz() -> None:
    first, second = read(ODD / "crystals.extxyz")
    assert first.info["energy"] == -1.5
    assert first.info["name"] == "a b"
    np.testing.assert_array_equal(first.cell, np.eye(3) * 4)
    assert second.numbers.tolist() == [84]


def test_folder_gives_every_file_and_names_the_broken() -> None:
    entries = list(iread(ODD))
    broken = {
        Path(entry.source.split(":")[0].split("[")[0]).name for entry in entries if isinstance(entry, BrokenEntry)
    }
    assert {"page.cif", "empty.cif", "binary.cif", "partial.cif", "slab.extxyz", "torn.xyz"} <= broken
    assert sum(isinstance(entry, AtomicSystem) for entry in entries) == 11


def test_zip_is_read_without_unpacking(tmp_path: Path) -> None:
    path = tmp_path / "all.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(ODD / "plain.cif", "../../evil.cif")
        archive.write(ODD / "page.cif", "page.cif")
        archive.write(ODD / "water.xyz", "sub/water.xyz")
        archive.writestr("readme.md", "no structure")
    entries = list(iread(path))
    assert [type(entry) for entry in entries] == [AtomicSystem, BrokenEntry, AtomicSystem]
    assert list(tmp_path.iterdir()) == [path]


def test_truncated_archives_are_named(tmp_path: Path) -> None:
    whole = gzip.compress((FIXTURES / "files" / "drugs.sdf").read_bytes())
    (tmp_path / "torn.sdf.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UnreadableFileError, match=r"torn\.sdf\.gz is not a complete gz file.*truncated"):
        read(tmp_path / "torn.sdf.gz", on_error="skip")
    (tmp_path / "torn.zip").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(UnreadableFileError, match=r"torn\.zip is not a complete zip"):
        read(tmp_path / "torn.zip")
    (tmp_path / "not.sdf.gz").write_text("plain text")
    with pytest.raises(UnreadableFileError, match=r"not\.sdf\.gz"):
        read(tmp_path / "not.sdf.gz")


def test_gzipped_files(tmp_path: Path) -> None:
    for name in ("symmetric.cif", "water.xyz", "POSCAR"):
        with (ODD / name).open("rb") as source, gzip.open(tmp_path / f"{name}.gz", "wb") as target:
            shutil.copyfileobj(source, target)
        assert len(read(tmp_path / f"{name}.gz")) == 1


@pytest.mark.parametrize("name", ["gone.cif", "structure.pdb", "folder"])
def test_what_cannot_be_a_source(tmp_path: Path, name: str) -> None:
    (tmp_path / "structure.pdb").write_text("ATOM")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UnreadableFileError, match=name):
        read(tmp_path / name)


def test_mislabelled_compression_says_so(tmp_path: Path) -> None:
    (tmp_path / "x.cif").write_bytes(gzip.compress(b"data_x"))
    with pytest.raises(UnreadableFileError, match=r"gzip file \(name it \.gz\)"):
        read(tmp_path / "x.cif")


def test_sdf_agrees_with_rdkit() -> None:
    path = FIXTURES / "files" / "drugs.sdf"
    for system, mol in zip(read(path), Chem.SDMolSupplier(str(path), removeHs=False, sanitize=False), strict=True):
        assert system.numbers.tolist() == [atom.GetAtomicNum() for atom in mol.GetAtoms()]
        np.testing.assert_allclose(system.positions, mol.GetConformer().GetPositions(), atol=1e-9)


def test_v3000_agrees_with_v2000() -> None:
    mol = next(iter(Chem.SDMolSupplier(str(FIXTURES / "files" / "drugs.sdf"), removeHs=False)))
    [old] = parse_sdf(Chem.MolToMolBlock(mol).splitlines(), "x")
    [new] = parse_sdf(Chem.MolToV3KMolBlock(mol).splitlines(), "x")
    assert isinstance(old, AtomicSystem)
    assert isinstance(new, AtomicSystem)
    assert old.numbers.tolist() == new.numbers.tolist()
    np.testing.assert_allclose(old.positions, new.positions, atol=1e-4)


def test_sdf_data_items_and_drawings() -> None:
    head = "title\n  prog    0101240000{}\n\n  1  0  0  0  0  0  0  0  0  0999 V2000\n"
    atom = "    0.0000    0.0000    0.0000 C   0  0\n"
    text = head.format("3D") + atom + "M  END\n> <energy>\n-1.5\n\n>  25  <note>\ntwo\nlines\n\n$$$$\n"
    [system] = parse_sdf(text.splitlines(), "x")
    assert isinstance(system, AtomicSystem)
    assert system.info == {"id": "title", "energy": -1.5, "note": "two\nlines"}
    [flat] = parse_sdf((head.format("2D") + atom + "M  END\n").splitlines(), "x")
    assert isinstance(flat, BrokenEntry)
    assert "2D drawing" in flat.reason


def test_extxyz_agrees_with_ase(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    cell = rng.normal(size=(3, 3)) + np.eye(3) * 5
    atoms = ase.Atoms("SiO2", positions=rng.normal(size=(3, 3)), cell=cell, pbc=True, info={"energy": -2.5})
    ase.io.write(tmp_path / "x.extxyz", [atoms, atoms], format="extxyz")
    for system in read(tmp_path / "x.extxyz"):
        np.testing.assert_allclose(system.positions, atoms.positions, atol=1e-8)
        np.testing.assert_allclose(system.cell, atoms.cell.array, atol=1e-8)
        assert system.info["energy"] == -2.5


def test_reading_goes_on_after_a_broken_frame() -> None:
    text = "1\na\nXx 0 0 0\nrubbish\nmore rubbish\n1\nb\nH 0 0 0\n1\nc\nH 0 zero 0\n1\nd\nHe 1.*^-6 1D-3 0\n"
    kinds = [type(entry).__name__ for entry in parse_xyz(text.splitlines(), "x")]
    assert kinds == ["BrokenEntry", "BrokenEntry", "AtomicSystem", "BrokenEntry", "AtomicSystem"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.CIF", "cif"),
        ("a.cif.gz", "cif"),
        ("POSCAR", "poscar"),
        ("CONTCAR_relaxed", "poscar"),
        ("POSCAR.gz", "poscar"),
        ("a.vasp", "poscar"),
        ("poscar_1.cif", "cif"),
        ("a.mol", "sdf"),
        ("a.txt", None),
        ("a.gz", None),
    ],
)
def test_format_of(name: str, kind: str | None) -> None:
    assert format_of(name) == kind


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(data=st.binary(max_size=300), suffix=st.sampled_from(["cif", "xyz", "sdf", "vasp", "zip", "sdf.gz"]))
def test_garbage_is_refused_with_its_name(tmp_path: Path, data: bytes, suffix: str) -> None:
    path = tmp_path / f"garbage.{suffix}"
    path.write_bytes(data)
    with pytest.raises(UnreadableFileError, match="garbage"):
        read(path)


def test_a_prepared_data_set_is_read(tmp_path: Path) -> None:
    water = AtomicSystem([8, 1, 1], [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
    silicon = AtomicSystem([14], [[0, 0, 0]], 3 * np.eye(3), {"id": "mp-149"})
    data = PackedDataset.from_systems([water, silicon])
    data.positions[0, 0] = np.nan
    data.save(tmp_path / "mine")
    broken, found = iread(tmp_path / "mine")
    assert isinstance(broken, BrokenEntry)
    assert (broken.source, broken.periodic) == ("mine[1]", False)
    assert "must be finite" in broken.reason
    assert found == silicon
    assert found.info["id"] == "mp-149"


def test_a_folder_with_a_meta_json_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "meta.json").write_text("{}")
    shutil.copy(ODD / "plain.cif", tmp_path)
    assert len(read(tmp_path)) == 1


@pytest.mark.parametrize(
    ("name", "text", "periodic"),
    [
        ("a.cif", "no cif", True),
        ("a.sdf", "no\nsdf\n\n$$$$\n", False),
        ("POSCAR", "no poscar", True),
        ("a.xyz", "2\n\nC 0 0 0\n", False),
        ("a.xyz", '1\nLattice="1 0 0 0 1 0 0 0 0"\nC 0 0 0\n', True),
        ("a.xyz", "what\n", None),
    ],
)
def test_what_a_broken_entry_would_have_been(tmp_path: Path, name: str, text: str, periodic: bool | None) -> None:
    (tmp_path / name).write_text(text)
    (entry,) = iread(tmp_path)
    assert isinstance(entry, BrokenEntry)
    assert entry.periodic is periodic


def test_the_error_says_how_much_is_broken(tmp_path: Path) -> None:
    with pytest.raises(
        UnreadableFileError, match=r"torn\.xyz\[2\]: truncated: .* \(1 of 2 entries cannot be read\)$"
    ) as info:
        read(ODD / "torn.xyz")
    assert "on_error" not in str(info.value), "not every reader writes Python"
    with pytest.raises(UnreadableFileError, match=r"only$|crystals$"):
        read(ODD / "slab.extxyz")
