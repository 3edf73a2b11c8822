"""`PackedDataset`: flat arrays in memory and in a folder."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import ase.build
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adit.data.packed import PackedDataset
from adit.errors import InvalidInputError, UnreadableFileError
from adit.system import AtomicSystem

FIXTURE = Path(__file__).parents[1] / "fixtures" / "tiny_dataset"


def systems() -> list[AtomicSystem]:
    cell = np.diag([3.0, 4.0, 5.0])
    return [
        AtomicSystem([8, 1, 1], [[0, 0, 0], [1, 0, 0], [0, 1, 0]], None, {"id": "a", "gap": 1.5, "split": "train"}),
        AtomicSystem([26], [[1, 1, 1]], cell, {"id": "b", "gap": 2, "split": "val"}),
        AtomicSystem([6, 6], [[0, 0, 0], [1.5, 0, 0]], None, {"id": "c", "split": "train", "note": "odd"}),
    ]


def same(a: PackedDataset, b: PackedDataset) -> bool:
    fields = ("numbers", "positions", "cells", "offsets", "periodic")
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in fields) and {
        name: values.tolist() for name, values in a.properties.items() if name != "gap"
    } == {name: values.tolist() for name, values in b.properties.items() if name != "gap"}


def test_systems_go_in_and_come_out() -> None:
    data = PackedDataset.from_systems(systems(), {"source": "here"})
    assert len(data) == 3 and data.sizes.tolist() == [3, 1, 2]
    assert data.offsets.tolist() == [0, 3, 4, 6]
    assert data.periodic.tolist() == [False, True, False]
    assert list(data) == systems() == [data[k] for k in range(3)]
    assert data[-1] == data[2] and data[np.int64(1)].cell is not None
    assert not data.cells[0].any()
    for index in (3, -4):
        with pytest.raises(IndexError, match=f"{index} is out of range for 3"):
            data[index]


@pytest.mark.parametrize("missing", ["N/A", "nan", "inf", "", None, float("inf")])
def test_what_is_missing_leaves_a_column_of_numbers(missing: object) -> None:
    atom = [AtomicSystem([1], [[0, 0, 0]], info={} if value is None else {"a": value}) for value in (1.5, missing, 2)]
    column = PackedDataset.from_systems(atom).properties["a"]
    np.testing.assert_array_equal(column, [1.5, np.nan, 2.0])
    named = [AtomicSystem([1], [[0, 0, 0]], info={"a": value}) for value in ("N/A", "x")]
    assert PackedDataset.from_systems(named).properties["a"].tolist() == ["N/A", "x"]


def test_properties_are_columns() -> None:
    data = PackedDataset.from_systems(systems())
    assert data.properties["gap"].dtype == np.float64
    np.testing.assert_array_equal(data.properties["gap"], [1.5, 2, np.nan])
    assert data.properties["note"].tolist() == ["", "", "odd"]
    assert data[0].info["gap"] == 1.5 and type(data[0].info["gap"]) is float and type(data[0].info["id"]) is str


@pytest.mark.parametrize("value", [np.float32(0.5), np.int64(3), np.bool_(True), np.str_("x"), 0.5, 3, True, "x"])
def test_numpy_scalars_are_kept_as_python_ones_are(value) -> None:  # type: ignore[no-untyped-def]
    data = PackedDataset.from_systems([AtomicSystem([1], [[0, 0, 0]], None, {"value": value, "array": np.zeros(3)})])
    assert data[0].info == {"value": value}


def test_save_and_load(tmp_path: Path) -> None:
    data = PackedDataset.from_systems(systems(), {"source": "here"})
    data.save(tmp_path / "deep" / "set")
    again = PackedDataset.load(tmp_path / "deep" / "set")
    assert same(data, again) and again.meta == {"source": "here"}
    assert isinstance(again.positions, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        again.positions[0] = 1
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["set"], "nothing is left over"
    assert list(again) == systems()


def test_saving_over_the_set_one_reads_from(tmp_path: Path) -> None:
    PackedDataset.from_systems(systems()).save(tmp_path / "set")
    PackedDataset.load(tmp_path / "set").subset(np.array([2, 0])).save(tmp_path / "set")
    assert list(PackedDataset.load(tmp_path / "set")) == [systems()[2], systems()[0]]
    again = PackedDataset.load(tmp_path / "set")
    again.save(tmp_path / "set")
    assert same(again, PackedDataset.load(tmp_path / "set"))


@pytest.mark.parametrize("name", ["gap (eV)", "100%", "étage", "a.b", "a b"])
def test_odd_property_names_survive(name: str, tmp_path: Path) -> None:
    PackedDataset.from_systems([AtomicSystem([1], [[0, 0, 0]], None, {name: 2.5})]).save(tmp_path / "set")
    assert PackedDataset.load(tmp_path / "set")[0].info == {name: 2.5}


@pytest.mark.parametrize("name", ["energy/atom", "../../up", "..", ".hidden", ""])
def test_names_that_are_no_file_names_are_refused(name: str, tmp_path: Path) -> None:
    data = PackedDataset.from_systems([AtomicSystem([1], [[0, 0, 0]], None, {name: 2.5})])
    with pytest.raises(InvalidInputError, match="plain file names"):
        data.save(tmp_path / "set")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_something_else_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InvalidInputError, match="is not a prepared data set"):
        PackedDataset.from_systems(systems()).save(tmp_path)
    with pytest.raises(InvalidInputError, match="is not a prepared data set"):
        PackedDataset.from_systems(systems()).save(tmp_path / "thesis.tex")
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_nothing_at_all(tmp_path: Path) -> None:
    for empty in (PackedDataset.from_systems([]), PackedDataset.concatenate([])):
        empty.save(tmp_path / "set")
        assert list(PackedDataset.load(tmp_path / "set")) == []
        assert empty.positions.shape == (0, 3) and empty.cells.shape == (0, 3, 3)


def test_splits() -> None:
    data = PackedDataset.from_systems(systems())
    assert data.split("train").properties["id"].tolist() == ["a", "c"]
    assert data.split("val").properties["id"].tolist() == ["b"] and len(data.split("test")) == 0
    bare = replace(data, properties={})
    assert len(bare.split("train")) == 3 and len(bare.split("val")) == 0
    with pytest.raises(InvalidInputError, match=r"`split` must be one of train, val, test; got 'valid'"):
        data.split("valid")


@given(st.lists(st.integers(0, 299), max_size=40))
@settings(max_examples=50, deadline=None)
def test_subset_is_indexing(indices: list[int]) -> None:
    data = PackedDataset.load(FIXTURE)
    part = data.subset(np.array(indices, dtype=np.int64))
    assert len(part) == len(indices)
    assert all(part[k] == data[index] for k, index in enumerate(indices))
    assert part.properties["id"].tolist() == data.properties["id"][indices].tolist()


def test_subset_by_mask() -> None:
    """A mask read as the indices 0 and 1 would give the wrong systems without a word."""
    data = PackedDataset.load(FIXTURE)
    crystals = data.subset(np.asarray(data.periodic))
    assert len(crystals) == data.periodic.sum() and crystals.periodic.all()
    assert data.subset(np.zeros(len(data), dtype=bool)).sizes.tolist() == []


def test_concatenate_keeps_what_all_have() -> None:
    data = PackedDataset.from_systems(systems(), {"source": "x"})
    other = PackedDataset.from_systems([AtomicSystem([2], [[0, 0, 0]], None, {"id": "he"})])
    both = PackedDataset.concatenate([data, other])
    assert list(both) == [*systems(), other[0]]
    assert both.properties["id"].tolist() == ["a", "b", "c", "he"] and set(both.properties) == {"id"}
    assert both.meta == {"parts": [{"source": "x"}, {}]}


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError, match=r"none is not a prepared data set .* `adit-data prepare`"):
        PackedDataset.load(tmp_path / "none")


FILES = ["meta.json", *(f"{name}.npy" for name in ("numbers", "positions", "cells", "offsets", "periodic"))]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FIXTURE, tmp_path / "set"))


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        *((name, damage) for name in FILES for damage in ("missing", "empty", "half", "garbage")),
        *(("properties/id.npy", damage) for damage in ("empty", "half", "garbage")),
    ],
)
def test_a_damaged_file_is_refused_by_name(copy: Path, name: str, damage: str) -> None:
    path = copy / name
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes({"empty": b"", "half": content[: len(content) // 2], "garbage": b"\xff\xfe\x93" * 99}[damage])
    with pytest.raises(UnreadableFileError, match="set"):
        PackedDataset.load(copy)


@pytest.mark.parametrize("content", ["[]", "3", '{"format": "adit-dataset", "version": 1}', '{"a": NaN}', "null"])
def test_another_json_is_refused(copy: Path, content: str) -> None:
    (copy / "meta.json").write_text(content)
    with pytest.raises(UnreadableFileError, match="set"):
        PackedDataset.load(copy)


def test_another_version_is_named(copy: Path) -> None:
    meta = json.loads((copy / "meta.json").read_text())
    (copy / "meta.json").write_text(json.dumps({**meta, "version": 99}))
    with pytest.raises(UnreadableFileError, match=r"version 99; this adit reads .* version 1.* `adit-data prepare`"):
        PackedDataset.load(copy)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("positions", lambda a: a[:-1]),
        ("positions", lambda a: a.astype(np.float64)),
        ("cells", lambda a: a[:-1]),
        ("periodic", lambda a: a[:-1]),
        ("periodic", lambda a: a.astype(np.uint8)),
        ("offsets", lambda a: a[:-1]),
        ("offsets", lambda a: np.roll(a, 1)),
        ("offsets", lambda a: np.where(np.arange(len(a)) == 5, a + 10_000, a)),
        ("numbers", lambda a: a[:-1]),
        ("properties/id", lambda a: a[:-1]),
    ],
)
def test_arrays_that_do_not_fit_together_are_refused(copy: Path, name: str, change) -> None:  # type: ignore[no-untyped-def]
    array = np.load(copy / f"{name}.npy")
    np.save(copy / f"{name}.npy", change(array))
    with pytest.raises(UnreadableFileError, match="Prepare it again"):
        PackedDataset.load(copy)


def test_objects_of_other_libraries_are_packed() -> None:
    given = systems()
    found = PackedDataset.from_systems([given[0].to_ase(), given[1].to_pymatgen(), given[2].to_rdkit()])
    assert list(found) == given and found.properties["id"].tolist() == ["a", "b", ""]
    slab = ase.build.fcc111("Cu", (1, 1, 2), vacuum=5)
    with pytest.raises(InvalidInputError, match=r"system 1: atoms are periodic in \[True, True, False\]"):
        PackedDataset.from_systems([given[0], slab])
