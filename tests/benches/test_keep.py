"""The bench of kept atoms: what is taken away, and that it runs."""

from pathlib import Path

import numpy as np
import pytest

import keep
from adit.data.prepare import load
from adit.elements import NUMBERS
from adit.system import AtomicSystem

TINY = Path(__file__).parents[1] / "fixtures" / "tiny_dataset"


def test_what_is_kept_of_structures() -> None:
    cell = 4 * np.eye(3)
    places = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0, 0.5, 0.5], [0.5, 0, 0.5]]
    crystal = AtomicSystem.from_fractional([56, 22, 8, 8, 8], places, cell)
    assert keep.host(crystal) == [1, 2, 3, 4]
    assert keep.host(AtomicSystem.from_fractional([22, 8], places[:2], cell)) == [0, 1], "nothing is taken away"
    for molecule in [one for one in load(TINY) if not one.is_periodic][:20]:
        rows, heavy = keep.scaffold(molecule), int((molecule.numbers != 1).sum())
        if heavy < 4:
            assert rows == []
            continue
        assert int((molecule.numbers[rows] != 1).sum()) == (heavy + 1) // 2
        near = np.linalg.norm(molecule.positions[:, None] - molecule.positions[rows], axis=-1).min(1)
        left = np.setdiff1d(np.arange(len(molecule)), rows)
        assert near[left].min() > 0.9, "no hydrogen of the scaffold is left out"
        for row in rows:
            if molecule.numbers[row] == NUMBERS["H"]:
                others = [k for k in rows if molecule.numbers[k] != 1]
                assert np.linalg.norm(molecule.positions[others] - molecule.positions[row], axis=1).min() < 1.2


def test_it_runs(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keep, "SETTINGS", ((2, 10.0),))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keep, "taken", lambda name, split, *rest: TAKEN(name, "train", *rest))
        keep.main(["--crystals", str(TINY), "--molecules", str(TINY), "--n", "3", "--threads", "1"])
    lines = capsys.readouterr().out.splitlines()
    quarters = "  by quarters of keep_rmsd"
    assert [line.split(":")[0] for line in lines] == [
        "host and formula told", quarters, "cell and formula told",
        "scaffold and formula told, steps 2, noise 10.0", quarters,
    ]  # fmt: skip
    assert all(" 3 crystals" in line or " 3 molecules" in line for line in lines if line[0] != " ")


TAKEN = keep.taken
