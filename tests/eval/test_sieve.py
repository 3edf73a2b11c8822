"""What is kept of samples, in Python: the verdicts of RDKit and pymatgen, one by one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pymatgen.analysis.structure_matcher import StructureMatcher
from rdkit import Chem

from adit.convert import read, write
from adit.errors import InvalidInputError, UnreadableFileError
from adit.eval import Sieve
from adit.system import AtomicSystem

DATA = Path(__file__).parent / "data"
METHANE = AtomicSystem(
    [6, 1, 1, 1, 1],
    0.6293 * np.array([[0, 0, 0], [1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], dtype=float),
)
METHYL = AtomicSystem(METHANE.numbers[:4], METHANE.positions[:4])
SALT = AtomicSystem.from_fractional([11, 17], [[0, 0, 0], [0.5, 0.5, 0.5]], 3.5 * np.eye(3))


def moved(system: AtomicSystem) -> AtomicSystem:
    return AtomicSystem(system.numbers[::-1], system.positions[::-1] + 1.0, system.cell)


def pair() -> AtomicSystem:
    """Two molecules far from each other."""
    positions = np.concatenate([METHANE.positions, METHANE.positions + 20])
    return AtomicSystem(np.tile(METHANE.numbers, 2), positions)


def test_molecules_that_are_valid_and_in_one_piece() -> None:
    assert Sieve("molecule")([METHYL, METHANE, pair(), moved(METHANE)]) == [METHANE, moved(METHANE)]
    assert Sieve("molecule")([]) == []


def test_each_is_kept_once_over_all_calls(tmp_path: Path) -> None:
    for system, one in (("molecule", METHANE), ("crystal", SALT)):
        sieve = Sieve(system, unique=True)
        assert sieve([one, moved(one)]) == [one]
        assert sieve([moved(one)]) == []
        assert Sieve(system, unique=True, kept=[one])([moved(one)]) == []
        write(tmp_path / f"{system}.extxyz", [one])
        assert Sieve(system, novel=str(tmp_path / f"{system}.extxyz"))([moved(one), one]) == []


def test_molecules_are_the_same_by_smiles() -> None:
    molecules = read(DATA / "qm9.extxyz")
    kept = Sieve("molecule", unique=True)([*molecules, *map(moved, molecules[:40])])
    smiles = [Chem.MolToSmiles(Chem.RemoveHs(one.to_rdkit()), isomericSmiles=False) for one in kept]
    assert len(set(smiles)) == len(smiles) > 50


def test_crystals_are_the_same_by_structure_matcher() -> None:
    crystals = read(DATA / "mp20.extxyz")[:40]
    kept = Sieve("crystal", unique=True)([*crystals, *crystals])
    structures, matcher = [one.to_pymatgen() for one in kept], StructureMatcher(stol=0.5, ltol=0.3, angle_tol=10)
    assert len(kept) > 10
    assert not any(matcher.fit(a, b) for k, a in enumerate(structures) for b in structures[:k])


def test_wrong_words_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="`system` must be 'molecule' or 'crystal'; got 'protein'"):
        Sieve("protein")
    write(tmp_path / "salt.extxyz", [SALT])
    with pytest.raises(UnreadableFileError, match="holds no molecule"):
        Sieve("molecule", novel=[str(tmp_path / "salt.extxyz")])
