from __future__ import annotations

import gzip
import hashlib
import json
import pickle
import re
import shutil
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import AllChem

from adit.convert import write
from adit.convert.base import BrokenEntry
from adit.data import PackedDataset, load
from adit.data import prepare as module
from adit.data.base import DatasetSpec, Download, ReadOptions, Task
from adit.data.prepare import cache_folder, datasets, merge, prepare
from adit.data.standard import standardise
from adit.errors import InvalidInputError, UnreadableFileError
from adit.system import AtomicSystem

FIXTURES = Path(__file__).parents[1] / "fixtures"


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADIT_DATA_DIR", str(tmp_path / "cache"))


def test_prepare_and_load_by_name_and_by_folder() -> None:
    calls: list[tuple[int, int]] = []
    data = prepare(
        "mine", FIXTURES / "odd" / "two_blocks.cif", progress=lambda done, broken: calls.append((done, broken))
    )
    assert len(data) == 2
    assert calls == [(2, 0)]
    assert len(load("mine")) == 2
    assert len(load(cache_folder("mine"))) == 2
    start = time.perf_counter()
    load("mine")
    assert time.perf_counter() - start < 1


@pytest.mark.parametrize("name", ["qm9", "qm9:val"])
def test_missing_data_set_says_how_to_prepare_it(name: str) -> None:
    with pytest.raises(UnreadableFileError, match=r"data set qm9 is not prepared yet\. Run `adit-data prepare qm9`"):
        load(name)


def test_what_is_no_data_set_is_named_with_those_that_are_prepared(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError, match=r"no such file or prepared data set 'gone\.sdf'; prepared: none"):
        load("gone.sdf")
    prepare("mine", FIXTURES / "odd" / "two_blocks.cif")
    with pytest.raises(UnreadableFileError, match=r"no such file or prepared data set 'gone\.sdf'; prepared: mine"):
        load("gone.sdf")
    file = FIXTURES / "odd" / "plain.cif"
    with pytest.raises(UnreadableFileError, match=rf"plain\.cif is not a prepared .*--source {re.escape(str(file))}`"):
        load(file)


def test_a_split_by_name(tmp_path: Path) -> None:
    data = prepare("mp20", FIXTURES / "mp_20", processes=1)
    assert len(load("mp20:val")) == len(data.split("val")) == 50
    with pytest.raises(InvalidInputError, match="mp20 has no split 'foo'; known: train, val, test"):
        load("mp20:foo")
    with pytest.raises(UnreadableFileError, match="nothing in its split 'test'"):
        load(f"{cache_folder('mp20')}:test")


def test_files_of_the_user_are_never_replaced_unawares(tmp_path: Path) -> None:
    prepare("mine", FIXTURES / "odd" / "two_blocks.cif")
    for source in ("two_blocks.cif", "plain.cif"):
        with pytest.raises(InvalidInputError, match=r"data set mine already: 2 systems from .*two_blocks.*--overwrite"):
            prepare("mine", FIXTURES / "odd" / source)
    assert len(load("mine")) == 2
    with pytest.raises(InvalidInputError, match="data set mine already: 2 systems"):
        prepare("mp20", FIXTURES / "mp_20", cache_folder("mine"))
    assert len(prepare("mine", FIXTURES / "odd" / "plain.cif", overwrite=True)) == 1


def test_a_known_data_set_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = prepare("mp20", FIXTURES / "mp_20", processes=1)
    with monkeypatch.context() as patch:
        patch.setattr(module, "run_tasks", None)
        patch.setattr(module, "_download", None)
        assert len(prepare("mp20", FIXTURES / "mp_20")) == len(prepare("mp20")) == len(first)
        for options in (ReadOptions(limit=1), ReadOptions(conformers=1)):
            with pytest.raises(InvalidInputError, match=f"mp20 already: {len(first)} systems"):
                prepare("mp20", options=options)
    shutil.copytree(FIXTURES / "mp_20", tmp_path / "other")
    with pytest.raises(InvalidInputError, match="mp20 already"):
        prepare("mp20", tmp_path / "other")
    (cache_folder("mp20") / "cells.npy").unlink()
    with pytest.raises(UnreadableFileError, match="with --overwrite"):
        prepare("mp20")
    assert len(prepare("mp20", FIXTURES / "mp_20", processes=1, overwrite=True)) == len(first)


def test_another_data_set_under_a_known_name_is_said(caplog: pytest.LogCaptureFixture) -> None:
    prepare("perov5", FIXTURES / "mp_20", options=ReadOptions(limit=2), processes=1)
    assert not caplog.messages, "a part was asked for"
    prepare("perov5", FIXTURES / "mp_20", processes=1, overwrite=True)
    assert "perov5 as published 18,928: is it another data set?" in caplog.messages[0]


@pytest.mark.parametrize(
    ("name", "words"), [("nosuch", "known: qm9, mp20"), ("../x", "letters, digits"), ("", "letters")]
)
def test_bad_names(name: str, words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        prepare(name)


def test_foreign_folders_are_never_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "thesis"
    folder.mkdir()
    (folder / "chapter1.tex").write_text("years of work")
    (folder / "meta.json").write_text("[]")
    with pytest.raises(InvalidInputError, match=r"thesis holds something else"):
        prepare("mine", FIXTURES / "odd" / "plain.cif", folder)
    assert (folder / "chapter1.tex").exists()
    with pytest.raises(InvalidInputError, match="is a file"):
        prepare("mine", FIXTURES / "odd" / "plain.cif", folder / "meta.json")
    (tmp_path / "empty").mkdir()
    prepare("mine", FIXTURES / "odd" / "plain.cif", tmp_path / "empty")
    prepare("mine", FIXTURES / "odd" / "two_blocks.cif", tmp_path / "empty", overwrite=True)
    assert len(load(tmp_path / "empty")) == 2


def test_folder_of_strange_files(tmp_path: Path) -> None:
    good = tmp_path / "in"
    shutil.copytree(FIXTURES / "odd", good)
    for number in range(8):
        shutil.copy(FIXTURES / "odd" / "plain.cif", good / f"more{number}.cif")
    data = prepare("mine", good)
    assert len(data) == 19
    assert data.meta["skipped"] == 11
    report = (cache_folder("mine") / "report.csv").read_text()
    for name in ("partial.cif", "truncated.cif", "page.cif", "empty.cif", "binary.cif", "nan.cif", "slab.extxyz"):
        assert name in report
    assert (
        set(data.properties["formula"].tolist()) >= {"Cl4Na4", "H2O"} or "ClNa" in data.properties["formula"].tolist()
    )


def test_splits_by_name_of_folder_or_file(tmp_path: Path) -> None:
    for split, count in (("train", 3), ("test", 2)):
        (tmp_path / "in" / split).mkdir(parents=True)
        for number in range(count):
            shutil.copy(FIXTURES / "odd" / "water.xyz", tmp_path / "in" / split / f"{number}.xyz")
    shutil.copy(FIXTURES / "odd" / "plain.cif", tmp_path / "in" / "val.cif")
    data = prepare("mine", tmp_path / "in")
    assert [len(data.split(split)) for split in ("train", "val", "test")] == [3, 1, 2]
    assert len(prepare("mine", tmp_path / "in", options=ReadOptions(limit=4), overwrite=True)) == 4


def test_many_processes_give_the_same_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_INLINE", 10)
    monkeypatch.setattr("adit.data.qm9.CHUNK", 40)
    one = prepare("qm9", FIXTURES / "qm9", tmp_path / "one", processes=1)
    two = prepare("qm9", FIXTURES / "qm9", tmp_path / "two", processes=2)
    np.testing.assert_array_equal(one.positions, two.positions)
    assert one.properties["id"].tolist() == two.properties["id"].tolist()


def test_names_of_properties_cannot_leave_the_folder(tmp_path: Path) -> None:
    text = (FIXTURES / "files" / "drugs.sdf").read_text().replace("M  END\n", "M  END\n> <../../evil>\n1.5\n\n")
    (tmp_path / "x.sdf").write_text(text)
    data = prepare("mine", tmp_path / "x.sdf")
    assert data.properties["_.._evil"].tolist() == [1.5] * 5
    assert not list(tmp_path.rglob("evil*"))


def test_merge_fills_what_is_missing() -> None:
    water = AtomicSystem([8], [[0, 0, 0]], None, {"a": 1.0, "s": "x", "mixed": 2})
    other = AtomicSystem([1], [[0, 0, 0]], None, {"b": 2.0, "mixed": "text"})
    data = merge([PackedDataset.from_systems([water]), PackedDataset.from_systems([other])], {"k": 1})
    np.testing.assert_array_equal(data.properties["a"], [1, np.nan])
    np.testing.assert_array_equal(data.properties["b"], [np.nan, 2])
    assert data.properties["s"].tolist() == ["x", ""]
    assert data.properties["mixed"].tolist() == ["2.0", "text"]
    assert data.meta == {"k": 1}


def test_standard_form_of_a_skewed_cell() -> None:
    cell = np.array([[3.0, 0, 0], [30, 3.1, 0], [-17, 9, 3.2]])
    system = AtomicSystem([1, 2], [[10, 20, 30], [10.5, 20.5, 30.5]], cell)
    [entry, empty, broken] = standardise([system, AtomicSystem([], [], cell), BrokenEntry("a", "b")])
    assert isinstance(entry, AtomicSystem)
    assert entry.cell is not None
    combination = entry.cell @ np.linalg.inv(cell)
    np.testing.assert_allclose(combination, np.round(combination), atol=1e-9)
    shift = (entry.positions - system.positions) @ np.linalg.inv(cell)
    np.testing.assert_allclose(shift, np.round(shift), atol=1e-9)
    assert np.linalg.norm(entry.cell, axis=1).max() < 5
    assert isinstance(empty, BrokenEntry)
    assert broken == BrokenEntry("a", "b")


def test_space_groups_are_added_where_missing() -> None:
    cube = np.eye(3) * 3.0
    molecule = AtomicSystem([1], [[0, 0, 0]])
    kept = AtomicSystem([55], [[0, 0, 0]], cube, {"spacegroup": 1.0})
    found = AtomicSystem([55, 17], [[7, 0, 0], [8.5, 1.5, 1.5]], cube)
    overlapping = AtomicSystem([55, 17], [[0, 0, 0], [0, 0, 3.01]], cube)
    result = standardise([molecule, kept, BrokenEntry("a", "b"), found, overlapping])
    groups = [entry.info.get("spacegroup") for entry in result if isinstance(entry, AtomicSystem)]
    assert groups[:3] == [None, 1.0, 221.0]
    assert np.isnan(groups[3])


def test_spec_of_every_data_set_is_complete() -> None:
    for name, spec in datasets().items():
        assert spec.name == name
        assert spec.description
        assert spec.citation
        assert spec.licence
        assert spec.remedy
        for file in spec.downloads:
            assert file.url.startswith("https://")
            assert file.checksum is None or re.fullmatch(r"sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}", file.checksum)


@pytest.mark.parametrize("checksum", ["none", "right", "wrong"])
def test_download_records_or_checks_the_sum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checksum: str) -> None:
    import http.server
    import threading

    shutil.copytree(FIXTURES / "odd", tmp_path / "www")
    right = "md5:" + hashlib.md5((tmp_path / "www" / "plain.cif").read_bytes()).hexdigest()
    known = {"none": None, "right": right, "wrong": "md5:" + 32 * "0"}[checksum]

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(tmp_path / "www"))  # type: ignore[arg-type]

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/plain.cif"

        def tasks(source: Path, options: ReadOptions):  # type: ignore[no-untyped-def]
            from adit.data import files

            return files.tasks(source, options)

        spec = DatasetSpec(
            name="web",
            description="",
            citation="",
            licence="",
            tasks=tasks,
            downloads=(Download(url, "plain.cif", known),),
            remedy="pass --source",
        )
        monkeypatch.setitem(module._SPECS, "web", spec)
        if checksum != "wrong":
            data = prepare("web")
            [record] = data.meta["downloads"]
            assert record["checked"] == (checksum == "right")
            assert len(record["sha256"]) == 64
        else:
            with pytest.raises(UnreadableFileError, match=r"could not be fetched.*hash.*pass --source"):
                prepare("web")
        server.shutdown()


def geom_archive(path: Path) -> None:
    """The layout of rdkit_folder.tar.gz."""
    folder = path.parent / "rdkit_folder" / "drugs"
    folder.mkdir(parents=True)
    for smiles in ("CCO", "c1ccccc1N"):
        mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
        AllChem.EmbedMultipleConfs(mol, 3, randomSeed=1)
        conformers = []
        for number in range(3):
            single = Chem.Mol(mol, False, number)
            energy = {"totalenergy": -10.0 + number, "relativeenergy": float(number), "boltzmannweight": 0.3}
            conformers.append({"rd_mol": single, "geom_id": number, **energy})
        content = {"smiles": smiles, "charge": 0, "conformers": conformers[::-1]}
        (folder / f"{smiles}.pickle").write_bytes(pickle.dumps(content))
    (folder / "bad.pickle").write_bytes(b"\x80\x04no pickle")
    inner = mol.ToBinary()
    torn = pickle.dumps(content).replace(inner[:40], bytes(40))  # RDKit's own part of the pickle
    (folder / "torn.pickle").write_bytes(torn)
    (folder.parent / "summary_drugs.json").write_text(json.dumps({}))
    with tarfile.open(path, "w:gz") as tar:
        tar.add(folder.parent, "rdkit_folder")


def test_geom_archive_needs_consent(tmp_path: Path) -> None:
    path = tmp_path / "rdkit_folder.tar.gz"
    geom_archive(path)
    with pytest.raises(InvalidInputError, match=r"runs whatever code.*--allow-pickle"):
        prepare("geom", path)
    for source in (path, tmp_path / "rdkit_folder"):
        data = prepare("geom", source, options=ReadOptions(allow_pickle=True, conformers=2), overwrite=True)
        assert sorted(data.properties["formula"].tolist()) == ["C2H6O"] * 2 + ["C6H7N"] * 2
        assert sorted(set(data.properties["relativeenergy"].tolist())) == [0.0, 1.0]
        assert data.meta["skipped"] == 2
    (tmp_path / "torn.tar.gz").write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UnreadableFileError, match=r"torn\.tar\.gz"):
        prepare("geom", tmp_path / "torn.tar.gz", options=ReadOptions(allow_pickle=True), overwrite=True)


def test_conformers_of_smiles(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("CCO\nnonsense\nc1ccccc1 benzene\n\n# comment\n")
    with gzip.open(tmp_path / "val_smiles.txt.gz", "wt") as file:
        file.write("CC(=O)O\n")
    data = prepare("geom-etkdg", tmp_path)
    assert data.properties["formula"].tolist() == ["C2H6O", "C6H6", "C2H4O2"]
    assert data.properties["split"].tolist() == ["train", "train", "val"]
    assert data.meta["skipped"] == 1
    benzene = data[1]
    lengths = np.linalg.norm(benzene.positions[:6] - np.roll(benzene.positions[:6], 1, axis=0), axis=1)
    np.testing.assert_allclose(lengths, 1.395, atol=0.02)
    again = prepare("geom-etkdg", tmp_path, overwrite=True)
    np.testing.assert_array_equal(again.positions, data.positions)


def test_extxyz_written_by_adit_prepares(tmp_path: Path) -> None:
    tiny = PackedDataset.load(FIXTURES / "tiny_dataset")
    write(tmp_path / "x.extxyz", list(tiny))
    data = prepare("mine", tmp_path / "x.extxyz")
    assert len(data) == 300
    np.testing.assert_allclose(data.sizes, tiny.sizes)
    np.testing.assert_array_equal(data.properties["homo"], tiny.properties["homo"])


def test_tasks_are_picklable() -> None:
    for name, source in (("qm9", FIXTURES / "qm9"), ("mp20", FIXTURES / "mp_20")):
        for task in datasets()[name].tasks(source, ReadOptions()):
            copy: Task = pickle.loads(pickle.dumps(task))
            assert len(copy.parse()) == task.size
