from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import ase.build
import ase.io
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymatgen.core import Molecule
from rdkit import Chem
from rdkit.Chem import rdDistGeom

from adit.convert import open_writer, read, write
from adit.convert.ase import from_ase
from adit.convert.base import BrokenEntry
from adit.convert.files import iread
from adit.convert.writers import format_extxyz
from adit.data.packed import PackedDataset
from adit.errors import InvalidInputError
from adit.packing import SystemLike, as_system
from adit.system import AtomicSystem

FIXTURES = Path(__file__).parents[1] / "fixtures"
NAMES = ["x.sdf", "x.xyz", "x.extxyz", "x.cif", "x.zip", "folder/"]


@pytest.fixture(scope="module")
def tiny() -> PackedDataset:
    return PackedDataset.load(FIXTURES / "tiny_dataset")


def systems_for(name: str, tiny: PackedDataset, count: int) -> list[AtomicSystem]:
    start = 150 if name.endswith(("cif", "zip", "/")) else 0
    return [tiny[index] for index in range(start, start + count)]


def written(folder: Path, name: str) -> Path:
    return folder / ("x" if name == "x.cif" else name)


@pytest.mark.parametrize("name", NAMES)
def test_round_trip(tmp_path: Path, tiny: PackedDataset, name: str) -> None:
    systems = systems_for(name, tiny, 12)
    assert write(f"{tmp_path}/{name}", systems) == 12
    again = read(written(tmp_path, name))
    assert len(again) == 12
    for old, new in zip(systems, again, strict=True):
        assert new.numbers.tolist() == old.numbers.tolist()
        if old.cell is None:
            np.testing.assert_allclose(new.positions, old.positions, atol=1e-4)
        else:
            difference = new.fractional - old.fractional
            assert np.abs(difference - np.round(difference)).max() < 1e-8
            assert new.volume == pytest.approx(old.volume, rel=1e-8)


def test_extxyz_is_exact_and_ase_reads_it(tmp_path: Path, tiny: PackedDataset) -> None:
    systems = [tiny[0], tiny[200]]
    write(tmp_path / "x.extxyz", systems)
    for old, new, atoms in zip(
        systems, read(tmp_path / "x.extxyz"), ase.io.read(tmp_path / "x.extxyz", ":"), strict=True
    ):
        assert new == old
        np.testing.assert_array_equal(atoms.positions, old.positions)
        assert bool(atoms.pbc.all()) == old.is_periodic
        assert new.info["id"] == old.info["id"]


def test_sdf_has_bonds_and_properties(tmp_path: Path, tiny: PackedDataset) -> None:
    write(tmp_path / "x.sdf", [tiny[index] for index in range(20)])
    mols = list(Chem.SDMolSupplier(str(tmp_path / "x.sdf"), removeHs=False))
    assert all(mol is not None and mol.GetNumBonds() >= mol.GetNumAtoms() - 1 for mol in mols)
    assert {mol.GetProp("adit_bonds") for mol in mols} == {"orders"}
    assert mols[0].GetProp("_Name") == tiny[0].info["id"]
    assert float(mols[0].GetProp("homo")) == tiny[0].info["homo"]


def test_strange_molecules_are_written_too(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    blobs = [AtomicSystem(rng.choice([1, 6, 7, 92], n), rng.uniform(0, 3, (n, 3))) for n in (1, 2, 30, 120)]
    start = time.process_time()
    assert write(tmp_path / "x.sdf", blobs) == 4
    assert time.process_time() - start < 10
    assert [len(system) for system in read(tmp_path / "x.sdf")] == [1, 2, 30, 120]


def test_one_crystal_is_one_cif_and_several_a_folder(tmp_path: Path, tiny: PackedDataset) -> None:
    write(tmp_path / "one.cif", [tiny[150]])
    assert (tmp_path / "one.cif").is_file()
    write(tmp_path / "two.cif", [tiny[150], tiny[151]])
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == ["two_00001.cif", "two_00002.cif"]
    with (
        pytest.raises(InvalidInputError, match="one crystal already"),
        open_writer(tmp_path / "s.cif", expected=1) as out,
    ):
        out.write(tiny[150])
        out.write(tiny[151])


@pytest.mark.parametrize(
    ("name", "place", "word"), [("x.sdf", 150, "crystal"), ("x.zip", 0, "molecule"), ("x/", 0, "molecule")]
)
def test_wrong_kind_is_refused(tmp_path: Path, tiny: PackedDataset, name: str, place: int, word: str) -> None:
    with pytest.raises(InvalidInputError, match=f"{word} {tiny[place].formula}"):
        write(f"{tmp_path}/{name}", [tiny[place]])


def test_bad_places_are_refused(tmp_path: Path, tiny: PackedDataset) -> None:
    with pytest.raises(InvalidInputError, match=r"unknown format '\.pdb'"):
        open_writer(tmp_path / "x.pdb")
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInputError, match="cannot be written"):
        open_writer(tmp_path / "file" / "x.sdf")


def test_second_run_replaces_its_own_files_only(tmp_path: Path, tiny: PackedDataset) -> None:
    crystals = [tiny[index] for index in range(150, 155)]
    write(f"{tmp_path}/out/", crystals)
    (tmp_path / "out" / "mine.cif").write_text("kept")
    write(f"{tmp_path}/out/", crystals[:2])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["mine.cif", "out_00001.cif", "out_00002.cif"]


@pytest.mark.parametrize("name", NAMES)
def test_all_at_once_is_one_by_one(tmp_path: Path, tiny: PackedDataset, name: str) -> None:
    systems = systems_for(name, tiny, 7)
    write(f"{tmp_path}/a/{name}", systems)
    write(f"{tmp_path}/b/{name}", iter(systems))
    places = [written(tmp_path / folder, name) for folder in "ab"]
    files = [sorted(place.rglob("*")) if place.is_dir() else [place] for place in places]
    assert [file.read_bytes() for file in files[0]] == [file.read_bytes() for file in files[1]]


def test_those_before_one_that_cannot_be_written_are_kept(tmp_path: Path, tiny: PackedDataset) -> None:
    with pytest.raises(InvalidInputError, match="SDF holds molecules"):
        write(tmp_path / "x.sdf", [tiny[0], tiny[1], tiny[200], tiny[2]])
    assert [len(system) for system in read(tmp_path / "x.sdf")] == [len(tiny[0]), len(tiny[1])]


@pytest.mark.parametrize("name", ["x.sdf", "x.extxyz"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)
@given(cut=st.integers(0, 4000))
def test_append_after_any_cut_gives_the_same_file(tmp_path: Path, tiny: PackedDataset, name: str, cut: int) -> None:
    path = tmp_path / name
    systems = systems_for(name, tiny, 5)
    write(path, systems)
    whole = path.read_bytes()
    path.write_bytes(whole[:cut])
    with open_writer(path, append=True) as writer:
        assert len(whole[:cut].split(b"$$$$\n")) - 1 == writer.count or name != "x.sdf"
        for system in systems[writer.count :]:
            writer.write(system)
    assert writer.count == 5
    assert path.read_bytes() == whole


@pytest.mark.parametrize("name", ["x.cif", "x.zip", "folder/"])
def test_append_to_cifs(tmp_path: Path, tiny: PackedDataset, name: str) -> None:
    systems = systems_for(name, tiny, 6)
    write(f"{tmp_path}/{name}", systems[:4])
    with open_writer(f"{tmp_path}/{name}", append=True) as writer:
        assert writer.count == 4
        for system in systems[4:]:
            writer.write(system)
    assert len(read(written(tmp_path, name))) == 6


@pytest.mark.parametrize("name", ["x.sdf", "x.extxyz", "x.zip", "folder/"])
def test_kill_leaves_only_whole_entries(tmp_path: Path, tiny: PackedDataset, name: str) -> None:
    start = 150 if name in ("x.zip", "folder/") else 0
    script = (
        "import sys\nfrom adit.convert import open_writer\nfrom adit.data.packed import PackedDataset\n"
        f"data = PackedDataset.load({str(FIXTURES / 'tiny_dataset')!r})\n"
        f"writer = open_writer({f'{tmp_path}/{name}'!r})\n"
        f"for index in range(10**6):\n    writer.write(data[{start} + index % 150])\n"
        "    if index == 20:\n        print('go', flush=True)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, env={**os.environ})
    assert child.stdout is not None
    assert child.stdout.readline() == b"go\n"
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    child.stdout.close()
    left = tmp_path / ("x.zip.partial" if name == "x.zip" else name)
    entries = list(iread(left))
    assert sum(isinstance(entry, AtomicSystem) for entry in entries) >= 20
    assert sum(isinstance(entry, BrokenEntry) for entry in entries) <= 1
    with open_writer(f"{tmp_path}/{name}", append=True) as writer:
        assert writer.count >= 20
        writer.write(tiny[start])
    assert len(read(tmp_path / name)) == writer.count


def test_zip_holds_only_plain_names(tmp_path: Path, tiny: PackedDataset) -> None:
    write(tmp_path / "x.zip", [tiny[150]])
    with zipfile.ZipFile(tmp_path / "x.zip") as archive:
        assert archive.namelist() == ["x_00001.cif"]
    assert [path.name for path in tmp_path.iterdir()] == ["x.zip"]


@given(st.dictionaries(st.text(max_size=8), st.one_of(st.text(max_size=20), st.floats(), st.integers()), max_size=4))
def test_any_info_can_be_written(info: dict[str, object]) -> None:
    text = format_extxyz(AtomicSystem([1], [[0, 0, 0]], None, info))
    assert len(text.splitlines()) == 3


def mixed() -> list[SystemLike]:
    """Water and an ion by three libraries, salt by two."""
    water = ase.build.molecule("H2O")
    salt = ase.build.bulk("NaCl", "rocksalt", 5.64)
    ion = Chem.AddHs(Chem.MolFromSmiles("[OH3+]"))
    rdDistGeom.EmbedMolecule(ion, randomSeed=1)
    ion.SetProp("_Name", "hydronium")
    return [water, ion, Molecule(["O", "H"], [[0, 0, 0], [0, 0, 0.97]], charge=-1), salt, from_ase(salt).to_pymatgen()]


def test_objects_of_other_libraries_are_written(tmp_path: Path) -> None:
    things = mixed()
    assert write(tmp_path / "x.extxyz", things) == 5
    for old, new, frame in zip(
        things, read(tmp_path / "x.extxyz"), ase.io.read(tmp_path / "x.extxyz", ":"), strict=True
    ):
        assert new == as_system(old)
        np.testing.assert_array_equal(frame.pbc, new.is_periodic)
    assert [system.info.get("charge", 0) for system in read(tmp_path / "x.extxyz")] == [0, 1, -1, 0, 0]
    assert write(tmp_path / "x.sdf", iter(things[:3])) == 3
    mols = list(Chem.SDMolSupplier(str(tmp_path / "x.sdf")))
    assert [Chem.MolToSmiles(mol) for mol in mols] == ["O", "[OH3+]", "[OH-]"]
    assert mols[1].GetProp("_Name") == "hydronium"


@pytest.mark.parametrize("place", range(5))
def test_one_object_needs_no_list(tmp_path: Path, place: int) -> None:
    thing = mixed()[place]
    name = "x.sdf" if place < 3 else "x.cif"
    assert write(tmp_path / name, thing) == 1
    assert len(read(tmp_path / name)[0]) == len(as_system(thing))
    with open_writer(tmp_path / "y.extxyz") as writer:
        writer.write(thing)
    assert read(tmp_path / "y.extxyz") == [as_system(thing)]


def test_what_is_no_molecule_or_crystal_is_named(tmp_path: Path) -> None:
    slab = ase.build.fcc111("Cu", (1, 1, 2), vacuum=5)
    with pytest.raises(
        InvalidInputError, match=r"x\.extxyz, system 1: atoms are periodic in \[True, True, False\]; adit"
    ):
        write(tmp_path / "x.extxyz", [ase.build.molecule("H2O"), slab])
    with pytest.raises(InvalidInputError, match=r"system 0: atoms are periodic in"):
        write(tmp_path / "x.cif", slab)
    with pytest.raises(InvalidInputError, match=r"system 0: a system must be an AtomicSystem.*got str"):
        write(tmp_path / "x.xyz", "x")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["x.sdf", "x.extxyz"])
def test_whole_numbers_stay_whole(tmp_path: Path, name: str) -> None:
    info = {"id": "a", "index": 0, "seed": 2**63 - 1, "like": -3, "energy": 1.0, "big": 10**40, "code": "1e5x"}
    write(tmp_path / name, AtomicSystem([2], [[0, 0, 0]], None, info))
    [system] = read(tmp_path / name)
    found = {key: system.info[key] for key in info}
    assert found == info
    assert [type(found[key]) for key in info] == [str, int, int, int, float, int, str]
    assert PackedDataset.from_systems([system])[0].info["big"] == 1e40
