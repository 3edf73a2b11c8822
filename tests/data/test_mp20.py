from __future__ import annotations

import csv
import gzip
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from adit.data import PackedDataset
from adit.data.prepare import prepare
from adit.errors import UnreadableFileError

FIXTURES = Path(__file__).parents[1] / "fixtures"


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> PackedDataset:
    return prepare("mp20", FIXTURES / "mp_20", tmp_path_factory.mktemp("mp20") / "out", processes=1)


def rows(split: str) -> list[dict[str, str]]:
    with gzip.open(FIXTURES / "mp_20" / f"{split}.csv.gz", "rt", newline="") as file:
        return list(csv.DictReader(file))


def test_splits_and_properties(packed: PackedDataset) -> None:
    assert len(packed.split("train")) == 150
    assert len(packed.split("val")) == 50
    assert len(packed.split("test")) == 0
    train = rows("train")
    for place, row in enumerate(train):
        assert packed.properties["id"][place] == row["material_id"]
        energy = packed.properties["formation_energy_per_atom"][place]
        assert (
            np.isnan(energy)
            if not row["formation_energy_per_atom"]
            else energy == float(row["formation_energy_per_atom"])
        )
    assert packed.properties["exact"].dtype == np.float64
    assert "pretty_formula" not in packed.properties


def test_crystals_are_those_of_the_file(packed: PackedDataset) -> None:
    for place, row in list(enumerate(rows("train")))[::6]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = Structure.from_str(row["cif"], fmt="cif")
        system = packed[place]
        got = Structure(Lattice(system.cell), system.symbols, system.positions, coords_are_cartesian=True)
        assert got.composition == expected.composition
        assert got.volume == pytest.approx(expected.volume, rel=1e-4)
        np.testing.assert_allclose(
            np.sort(got.distance_matrix.ravel()), np.sort(expected.distance_matrix.ravel()), atol=3e-3
        )


def test_cells_are_niggli_reduced_and_positions_wrapped(packed: PackedDataset) -> None:
    for system in packed:
        fractional = system.fractional
        assert fractional.min() > -1e-5
        assert fractional.max() < 1 + 1e-5
        reference = Lattice(system.cell).get_niggli_reduced_lattice()
        np.testing.assert_allclose(sorted(Lattice(system.cell).abc), sorted(reference.abc), atol=2e-3)


def test_space_groups_agree_with_the_materials_project(packed: PackedDataset, tmp_path: Path) -> None:
    known = [row for row in rows("val") if row["spacegroup.number"]]
    (tmp_path / "val.csv").write_text("")
    with (tmp_path / "val.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["material_id", "cif"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(known)
    found = prepare("mp20", tmp_path / "val.csv", tmp_path / "out").properties["spacegroup"]
    same = sum(float(row["spacegroup.number"]) == number for row, number in zip(known, found, strict=True))
    assert same >= 0.95 * len(known)


def test_plain_single_file_and_limit(tmp_path: Path) -> None:
    text = gzip.decompress((FIXTURES / "mp_20" / "val.csv.gz").read_bytes())
    (tmp_path / "other.csv").write_bytes(text)
    data = prepare("perov5", tmp_path / "other.csv", tmp_path / "out")
    assert len(data) == 50
    assert "split" not in data.properties
    assert len(data.split("train")) == 50


def test_formulas_that_look_like_numbers_stay_text(tmp_path: Path) -> None:
    [row] = rows("val")[:1]
    with (tmp_path / "x.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["material_id", "cif", "formula", "heat", "label"])
        writer.writeheader()
        for formula, heat, label in (("NaN", "1e-3", "InF"), ("InF", "", "x")):
            writer.writerow({"material_id": "1", "cif": row["cif"], "formula": formula, "heat": heat, "label": label})
    data = prepare("perov5", tmp_path / "x.csv", tmp_path / "out")
    np.testing.assert_array_equal(data.properties["heat"], [1e-3, np.nan])
    assert data.properties["id"].tolist() == ["1", "1"]
    assert data.properties["label"].tolist() == ["InF", "x"]
    assert data.properties["formula"].tolist() == ["Hg2MgTm"] * 2


@pytest.mark.parametrize("names", [(), ("id", "gap/eV", "note"), ("split",), ("material_id", "id", "split")])
def test_any_csv_with_cifs_is_read(tmp_path: Path, names: tuple[str, ...]) -> None:
    known = {"id": ["007", "b"], "gap/eV": ["1.5", ""], "note": ["x", "2"], "split": ["val", "train"]}
    known["material_id"] = ["mp-1", "mp-2"]
    with (tmp_path / "mine.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["cif", *names])
        writer.writeheader()
        for k, row in enumerate(rows("val")[:2]):
            writer.writerow({"cif": row["cif"], **{name: known[name][k] for name in names}})
    data = prepare("mine", tmp_path / "mine.csv", tmp_path / "out")
    found = {name: values.tolist() for name, values in data.properties.items()}
    ids = known["material_id"] if "material_id" in names else known["id"]
    assert found["id"] == (ids if "id" in names else ["mine.csv:row 2", "mine.csv:row 3"])
    assert found.get("split") == (known["split"] if "split" in names else None)
    assert found.get("note") == (known["note"] if "note" in names else None)
    if "gap/eV" in names:
        np.testing.assert_array_equal(found["gap_eV"], [1.5, np.nan])


def test_a_column_split_of_other_words_is_left_out(tmp_path: Path) -> None:
    with (tmp_path / "mine.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["cif", "split"])
        writer.writeheader()
        writer.writerows({"cif": row["cif"], "split": "training"} for row in rows("val")[:2])
    data = prepare("mine", tmp_path / "mine.csv", tmp_path / "out")
    assert "split" not in data.properties and len(data.split("train")) == 2


def test_broken_rows_are_named_and_skipped(tmp_path: Path) -> None:
    table = rows("val")[:10]
    table[1]["cif"] = table[1]["cif"][:-60]
    table[2]["cif"] = ""
    table[3]["cif"] = table[3]["cif"].replace("  1\n", "  0.5\n")
    table[4]["cif"] = "<html>"
    with (tmp_path / "val.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    data = prepare("mp20", tmp_path / "val.csv", tmp_path / "out")
    assert len(data) == 6
    with (tmp_path / "out" / "report.csv").open(newline="") as file:
        report = list(csv.DictReader(file))
    assert [entry["entry"] for entry in report] == [f"val.csv:{row['material_id']}" for row in table[1:5]]
    assert data.meta["skipped"] == 4


@pytest.mark.parametrize("kind", ["columns", "binary", "html", "torn", "folder", "suffix"])
def test_what_is_not_a_cdvae_csv_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    path = tmp_path / {"torn": "train.csv.gz", "folder": "empty", "suffix": "x.json"}.get(kind, "train.csv")
    if kind == "folder":
        path.mkdir()
    elif kind == "torn":
        shutil.copy(FIXTURES / "mp_20" / "train.csv.gz", path)
        path.write_bytes(path.read_bytes()[:5000])
    else:
        path.write_bytes({"binary": b"\xff\xfe\x00\x01", "html": b"<!DOCTYPE html><html>"}.get(kind, b"a,b\n1,2\n"))
    with pytest.raises(UnreadableFileError, match=path.name):
        prepare("mp20", path, tmp_path / "out")
