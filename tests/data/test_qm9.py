from __future__ import annotations

import bz2
import gzip
import io
import shutil
import tarfile
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from adit.data import PackedDataset, qm9
from adit.data.prepare import prepare
from adit.errors import UnreadableFileError

FIXTURES = Path(__file__).parents[1] / "fixtures"


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> PackedDataset:
    return prepare("qm9", FIXTURES / "qm9", tmp_path_factory.mktemp("qm9") / "out", processes=1)


def test_split_is_that_of_edm() -> None:
    splits = qm9.splits()
    assert Counter(splits.values()) == {"train": 100_000, "val": 17_748, "test": 13_083}
    # The first of NumPy's seed-0 permutation of the 130,831 is a training molecule; recomputed here from the package.
    included = np.array(sorted(splits))
    order = np.random.RandomState(0).permutation(130_831)
    assert {splits[index] for index in included[order[:100_000]].tolist()} == {"train"}
    assert {splits[index] for index in included[order[100_000:117_748]].tolist()} == {"val"}
    assert {splits[index] for index in included[order[117_748:]].tolist()} == {"test"}
    assert 58 not in splits
    assert 1 in splits


def test_uncharacterised_are_those_that_qm9pack_lacks() -> None:
    folder = qm9.qm9pack_folder()
    if folder is None:
        pytest.skip("qm9pack is not installed")
    indices = set()
    for path in sorted(folder.glob("qm9_part*.csv")):
        with path.open() as file:
            next(file)
            indices |= {int(line.split(",", 2)[1]) for line in file}
    assert indices == set(qm9.splits())


def test_methane(packed: PackedDataset) -> None:
    methane = packed[0]
    assert methane.formula == "CH4"
    assert methane.cell is None
    assert methane.info["id"] == "gdb_1"
    assert methane.info["smiles"] == "C"
    assert methane.info["u0"] == -40.47893
    assert methane.info["cv"] == 6.469
    assert methane.info["mu"] == 0.0
    np.testing.assert_allclose(methane.positions[0], [-0.0126981359, 1.0858041578, 0.0080009958], atol=1e-6)
    assert set(qm9.PROPERTIES) <= set(packed.properties)
    assert packed.meta["skipped"] == 0


def sources(folder: Path) -> dict[str, Path]:
    """The twenty molecules in every form in which they are published."""
    sdf = FIXTURES / "qm9_sdf"
    with zipfile.ZipFile(folder / "qm9.zip", "w") as archive:
        for name in ("gdb9.sdf", "gdb9.sdf.csv"):
            archive.write(sdf / name, name)
    with tarfile.open(folder / "gdb9.tar.gz", "w:gz") as tar:
        for name in ("gdb9.sdf", "gdb9.sdf.csv"):
            tar.add(sdf / name, name)
    archive_path = FIXTURES / "qm9_xyz" / "dsgdb9nsd.xyz.tar.bz2"
    with tarfile.open(archive_path) as tar:
        tar.extractall(folder / "xyz", filter="data")
    return {
        "sdf": sdf / "gdb9.sdf",
        "folder": sdf,
        "zip": folder / "qm9.zip",
        "tar": folder / "gdb9.tar.gz",
        "figshare": archive_path,
        "figshare folder": folder / "xyz",
    }


def test_every_source_gives_the_same(packed: PackedDataset, tmp_path: Path) -> None:
    rows = {packed.properties["id"][place]: place for place in range(len(packed))}
    for name, source in sources(tmp_path).items():
        data = prepare("qm9", source, tmp_path / "out", processes=1, overwrite=True)
        assert len(data) == 20, name
        for system in data:
            expected = packed[rows[system.info["id"]]]
            assert system.numbers.tolist() == expected.numbers.tolist()
            np.testing.assert_allclose(system.positions, expected.positions, atol=6e-5)
            for key in (*qm9.PROPERTIES, "split"):
                assert system.info[key] == expected.info[key], (name, key)
            if "figshare" in name:
                assert system.info["smiles"] == expected.info["smiles"]


def test_mathematica_numbers(tmp_path: Path) -> None:
    text = (
        "2\ngdb 4\t"
        + "\t".join(["1.*^-6"] * 15)
        + "\nH\t1*^-6\t 0.\t -2.5*^-3\t0.1\nC\t0.\t1.\t0.\t-.1\n1.\nC\tC\nI\tI\n"
    )
    folder = tmp_path / "xyz"
    folder.mkdir()
    (folder / "dsgdb9nsd_000004.xyz").write_text(text)
    (folder / "dsgdb9nsd_000005.xyz").write_bytes(b"1\n\xff\xfe broken\n")
    [system] = prepare("qm9", folder, tmp_path / "out")
    np.testing.assert_allclose(system.positions[0], [1e-6, 0, -2.5e-3])
    assert system.info["mu"] == 1e-6


def test_uncharacterised_and_broken_records_are_named(tmp_path: Path) -> None:
    records = (FIXTURES / "qm9_sdf" / "gdb9.sdf").read_text()
    records = records.replace("gdb_3\n", "gdb_58\n", 1).replace("gdb_5\n", "gdb_999999\n", 1)
    records = records.replace("gdb_6\n", "ethane\n", 1)
    (tmp_path / "gdb9.sdf").write_text(records)
    data = prepare("qm9", tmp_path / "gdb9.sdf", tmp_path / "out")
    assert len(data) == 17
    report = (tmp_path / "out" / "report.csv").read_text()
    assert "gdb_58,uncharacterised" in report
    assert "QM9 has no molecule 999999" in report
    assert "ethane,not a record of gdb9.sdf" in report


@pytest.mark.parametrize(
    "place", ["torn.csv.gz", "torn.tar.bz2", "torn.zip", "other.csv", "other.sdf", "x.txt", "empty"]
)
def test_what_is_not_qm9_is_refused_by_name(tmp_path: Path, place: str) -> None:
    path = tmp_path / place
    whole = {
        "torn.csv.gz": FIXTURES / "qm9" / "qm9_part1.csv.gz",
        "torn.tar.bz2": FIXTURES / "qm9_xyz" / "dsgdb9nsd.xyz.tar.bz2",
    }
    if place in whole:
        path.write_bytes(whole[place].read_bytes()[:-3000])
    elif place == "empty":
        path.mkdir()
    elif place == "other.sdf":
        shutil.copy(FIXTURES / "files" / "drugs.sdf", path)
    else:
        path.write_text("a,b\n1,2\n")
    with pytest.raises(UnreadableFileError, match=place.replace(".", r"\.")):
        prepare("qm9", path, tmp_path / "out", processes=1)
    assert not (tmp_path / "out").exists()


def test_more_than_half_broken_is_refused(tmp_path: Path) -> None:
    text = gzip.decompress((FIXTURES / "qm9" / "qm9_part1.csv.gz").read_bytes()).decode()
    lines = text.splitlines()[:11]
    broken = [line.replace("'H'", "'Q'") if place > 3 else line for place, line in enumerate(lines)]
    (tmp_path / "qm9_part1.csv").write_text("\n".join(broken) + "\n")
    with pytest.raises(UnreadableFileError, match=r"7 of 10 entries are broken.*'Q' is not an element"):
        prepare("qm9", tmp_path, tmp_path / "out")


def test_archive_torn_inside_a_member(tmp_path: Path) -> None:
    tar = bz2.decompress((FIXTURES / "qm9_xyz" / "dsgdb9nsd.xyz.tar.bz2").read_bytes())
    (tmp_path / "torn.xyz.tar").write_bytes(io.BytesIO(tar[:1200]).getvalue())
    with pytest.raises(UnreadableFileError, match=r"torn\.xyz\.tar"):
        prepare("qm9", tmp_path / "torn.xyz.tar", tmp_path / "out")
