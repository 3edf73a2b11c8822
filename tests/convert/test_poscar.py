"""POSCAR files against pymatgen and ASE."""

from __future__ import annotations

from pathlib import Path

import ase.io
import numpy as np
import pytest
from pymatgen.io.vasp import Poscar

from adit.convert import open_writer, read, write
from adit.convert.base import BrokenEntry
from adit.convert.poscar import format_poscar, parse_poscar
from adit.convert.writers import destination
from adit.errors import InvalidInputError
from adit.system import AtomicSystem

NUMBERS = [8, 22, 8, 38, 8]


def crystal(handed: int = 1) -> AtomicSystem:
    rng = np.random.default_rng(2)
    cell = np.eye(3) * 4 + rng.normal(size=(3, 3)) * 0.5
    return AtomicSystem.from_fractional(NUMBERS, rng.uniform(-1, 2, (5, 3)), cell[::handed], {"id": "SrTiO3,\n mine"})


@pytest.mark.parametrize("handed", [1, -1])
@pytest.mark.parametrize("name", ["POSCAR", "CONTCAR", "POSCAR_3", "POSCAR.relaxed", "x.vasp", "x.poscar", "x.CONTCAR"])
def test_round_trip(tmp_path: Path, name: str, handed: int) -> None:
    system = crystal(handed)
    assert write(tmp_path / name, system) == 1
    order = [0, 2, 4, 1, 3]
    by_ase = ase.io.read(tmp_path / name, format="vasp")
    by_pymatgen = Poscar.from_file(tmp_path / name, check_for_potcar=False).structure
    [again] = read(tmp_path / name)
    for found in (again, AtomicSystem(by_ase.numbers, by_ase.positions, by_ase.cell.array)):
        assert found.numbers.tolist() == list(by_pymatgen.atomic_numbers) == [8, 8, 8, 22, 38]
        assert found.cell is not None and np.linalg.det(found.cell) > 0, "VASP refuses left-handed cells"
        np.testing.assert_allclose(found.cell, np.sign(np.linalg.det(system.cell)) * system.cell, atol=1e-14)
        np.testing.assert_allclose(found.positions, system.positions[order], atol=1e-13)
    np.testing.assert_allclose(by_pymatgen.cart_coords, system.positions[order], atol=1e-13)
    assert again.info["comment"] == "SrTiO3, mine"


def test_a_poscar_holds_one_crystal(tmp_path: Path) -> None:
    for systems in ([crystal()] * 2, iter([crystal()] * 2)):
        with pytest.raises(InvalidInputError, match=r"POSCAR.* holds one crystal.* write more to an \.extxyz, a \.zip"):
            write(tmp_path / "POSCAR", systems)
    with open_writer(tmp_path / "x.vasp") as writer:
        writer.write(crystal())
    with open_writer(tmp_path / "x.vasp", append=True) as writer:
        assert writer.count == 1
    with pytest.raises(InvalidInputError, match=r"a POSCAR holds a crystal; got the molecule H\. Write \.sdf"):
        format_poscar(AtomicSystem([1], [[0, 0, 0]]))


@pytest.mark.parametrize(
    ("name", "expected", "kind"),
    [
        ("POSCAR", None, ".vasp"),
        ("x.vasp", 1, ".vasp"),
        ("POSCAR/", 5, "folder"),
        ("POSCAR.zip", 5, ".zip"),
        ("POSCAR.cif", 1, ".cif"),
        ("x.cif", None, "folder"),
        ("poscars.extxyz", 5, ".extxyz"),
        ("x", None, "folder"),
    ],
)
def test_destination(tmp_path: Path, name: str, expected: int | None, kind: str) -> None:
    assert destination(f"{tmp_path}/{name}", expected)[1] == kind


def test_compressed_ones_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"unknown format '\.gz'; known: .*\.vasp, POSCAR"):
        destination(tmp_path / "POSCAR.gz")


def test_a_torn_one_is_a_broken_entry() -> None:
    """For which pymatgen raises a warning, not an error."""
    lines = format_poscar(crystal()).rstrip().split("\n")
    (entry,) = parse_poscar("\n".join([*lines[:-1], "0 0"]), "x")
    assert isinstance(entry, BrokenEntry) and "not a POSCAR" in entry.reason
