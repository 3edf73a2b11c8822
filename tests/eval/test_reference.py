"""What novelty is measured against: opened by name, file or split; SMILES kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from adit.data.packed import PackedDataset
from adit.errors import UnreadableFileError
from adit.eval import evaluate, reference
from adit.eval.reference import Reference
from adit.eval.workers import Workers
from adit.system import AtomicSystem

DATA = Path(__file__).parent / "data"


@pytest.fixture
def prepared(
    qm9: list[AtomicSystem], mp20: list[AtomicSystem], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A data set of both kinds with splits, by the name `mine`."""
    monkeypatch.setenv("ADIT_DATA_DIR", str(tmp_path))
    mixed = [*mp20[:4], *qm9[:6]]
    splits = ["train", "val"] * 5
    PackedDataset.from_systems(
        AtomicSystem(s.numbers, s.positions, s.cell, {**s.info, "split": split, "id": f"n{k}"})
        for k, (s, split) in enumerate(zip(mixed, splits, strict=True))
    ).save(tmp_path / "mine")
    return tmp_path


def test_by_name_split_folder_and_file(prepared: Path) -> None:
    whole, val = Reference.open("mine"), Reference.open("mine:val")
    assert (len(whole.data), whole.molecules.tolist(), whole.crystals.tolist()) == (
        10,
        [4, 5, 6, 7, 8, 9],
        [0, 1, 2, 3],
    )
    assert (val.name, len(val.data), set(val.data.properties["split"])) == ("mine:val", 5, {"val"})
    assert whole.label(5) == "5 (n5)"
    assert len(Reference.open(str(prepared / "mine")).data) == 10
    assert len(Reference.open(str(DATA / "qm9.extxyz")).molecules) == 150
    for name, words in (
        ("else", "else"),
        ("mine:test", "nothing in its split"),
        (str(DATA / "README.md"), "unknown kind"),
    ):
        with pytest.raises(UnreadableFileError, match=words):
            Reference.open(name)


def test_what_is_known_is_named(prepared: Path, qm9: list[AtomicSystem], mp20: list[AtomicSystem]) -> None:
    found = evaluate([mp20[3], qm9[1], qm9[100]], reference="mine")
    whys = [verdict["why"] for row in found.rows for verdict in row["protocols"].values() if verdict["valid"]]
    assert whys == ["matches reference 3 (n3)"] + ["matches reference 5 (n5)"] * 3 + [""] * 3
    assert found.reference == {"name": "mine", "molecules": 6, "crystals": 4}


def test_smiles_are_kept(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "WORTH_KEEPING", 1)
    known, workers, done = Reference.open("mine"), Workers(1), []
    first = known.smiles("adit-rust", workers, done.append)
    (file,) = (prepared / "smiles").iterdir()
    file.write_text(file.read_text().replace(next(iter(first)), "kept", 1))
    again = known.smiles("adit-rust", workers, done.append)
    assert "kept" in again
    assert sum(done) == 12
    known.smiles("edm", workers)
    assert len(list((prepared / "smiles").iterdir())) == 2
    moved = PackedDataset(*(getattr(known.data, name) for name in ("numbers",)), known.data.positions + np.float32(1),
                          *(getattr(known.data, name) for name in ("cells", "offsets", "periodic")))  # fmt: skip
    assert "kept" not in Reference("moved", moved).smiles("adit-rust", workers)


def test_a_cache_that_cannot_be_written_does_no_harm(
    prepared: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(reference, "WORTH_KEEPING", 1)
    (prepared / "smiles").write_text("in the way")
    assert len(Reference.open("mine").smiles("adit-rust", Workers(1))) == 6
    assert "cannot be written" in caplog.text
