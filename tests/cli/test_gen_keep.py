"""`adit-gen --keep`: samples that hold atoms that are known."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import AllChem

from adit.convert import read, write
from adit.system import AtomicSystem

Call = Callable[..., tuple[int, str, str]]
METHYL = AtomicSystem([6, 1, 1, 1], [[5, 5, 5], [5.63, 5.63, 5.63], [4.37, 4.37, 5.63], [5.63, 4.37, 4.37]])
HOST = AtomicSystem.from_fractional([17], [[0, 0, 0]], [[0, 2.8, 2.8], [2.8, 0, 2.8], [2.8, 2.8, 0]])
ASK = ["--weights", "joint-tiny", "--steps", 16]


def test_molecules_hold_the_file_s_atoms(gen: Call) -> None:
    write("methyl.xyz", [METHYL])
    code, out, err = gen(*ASK, "--keep", "methyl.xyz", "--n", 6, "--valid-only", "--json", "s.json")
    assert (code, err) == (0, "")
    made = read("molecules.sdf")
    for one in made:
        np.testing.assert_array_equal(one.numbers[:4], METHYL.numbers)
        np.testing.assert_allclose(one.positions[:4], METHYL.positions, atol=1e-4)
    words = " ".join(out.split())
    smallest = min(float(one.info["keep_rmsd"]) for one in made)
    assert f"Angstrom from what is kept: smallest │ {smallest:.3f} (" in words
    assert "have its bonds │ 100.0% │" in words, "--valid-only sees to that"
    assert json.loads(Path("s.json").read_text())["options"]["keep"] == ["methyl.xyz"]
    write("methyl.xyz", [AtomicSystem([7, 1, 1, 1], METHYL.positions)])
    code, _, err = gen(*ASK, "--keep", "methyl.xyz", "--n", 8, "--valid-only", "--resume")
    assert code == 2 and "structures of --keep" in err, "another file than before"
    write("methyl.xyz", [METHYL])
    code, _, _ = gen(*ASK, "--keep", "methyl.xyz", "--n", 8, "--valid-only", "--resume")
    assert (code, len(read("molecules.sdf"))) == (0, 8)


def test_a_scaffold_of_heavy_atoms_alone_may_be_an_sdf(gen: Call) -> None:
    """As RDKit writes a molecule whose hydrogens were removed; without --keep such a file is refused."""
    mol = Chem.AddHs(Chem.MolFromSmiles("NC=O"))
    assert AllChem.EmbedMolecule(mol, randomSeed=0) == 0
    bare = Chem.RemoveHs(mol)
    with Chem.SDWriter("scaffold.sdf") as writer:
        writer.write(bare)
    code, _, err = gen(*ASK, "--keep", "scaffold.sdf", "--n", 3)
    assert (code, err) == (0, "")
    for one in read("molecules.sdf"):
        assert one.numbers[:3].tolist() == [7, 6, 8]
        np.testing.assert_allclose(one.positions[:3], bare.GetConformer().GetPositions(), atol=1e-4)
    code, _, err = gen(*ASK, "--like", "scaffold.sdf", "--n", 3, "--out", "other.sdf")
    assert code == 2 and "lacks 3 hydrogens" in err


def test_crystals_hold_the_host(gen: Call) -> None:
    write("host.cif", [HOST])
    code, out, _ = gen(*ASK, "--system", "crystal", "--keep", "host.cif", "--formula", "NaCl", "--n", 4)
    assert code == 0 and "are NaCl │ 100.0% │" in " ".join(out.split())
    for one in read("crystals.extxyz"):
        assert one.numbers.tolist() == [17, 11]
        assert abs(np.linalg.det(one.cell)) == pytest.approx(2 * 2.8**3, rel=1e-4)
        middle = (one.fractional[1] - one.fractional[0]) % 1
        np.testing.assert_allclose(middle, 0.5, atol=0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--keep", "no.xyz"], "no.xyz"),
        (["--keep", "methyl.xyz", "--like", "methyl.xyz"], "--keep and --like contradict each other: both say"),
        (["--keep", "methyl.xyz", "--formula", "any"], "--keep needs --formula, that of the whole"),
        (["--keep", "host.cif", "--system", "crystal"], "--keep needs --formula, that of the whole"),
        (["--keep", "host.cif", "--system", "crystal", "--formula", "NaCl", "--cell", "4,4,4,90,90,90"],
         "--keep and --cell contradict each other: what is kept has one"),
        (["--keep", "host.cif", "--system", "crystal", "--formula", "NaCl", "--symmetrize", "0.1"],
         "--keep and --symmetrize contradict each other: it would move what is kept"),
        (["--keep", "host.cif", "--formula", "NaCl"], "--keep host.cif: `keep`, structure 0 is a crystal"),
        (["--keep", "methyl.xyz", "--formula", "CH2O"], "`formula` CH2O has not all of CH3"),
        (["--keep", "methyl.xyz", "--out", "methyl.xyz", "--overwrite"], "is or holds what --keep reads"),
    ],
)  # fmt: skip
def test_what_cannot_be_kept_is_refused(gen: Call, options: list[str], message: str) -> None:
    write("methyl.xyz", [METHYL])
    write("host.cif", [HOST])
    code, out, err = gen("--weights", "joint-tiny", *options)
    assert (code, out) == (2, "") and message in err and err.count("\n") == 1
    assert len(read("methyl.xyz")[0]) == 4
