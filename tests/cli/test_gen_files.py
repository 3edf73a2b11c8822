"""What `adit-gen` writes for one crystal, and what it never replaces."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Structure

from adit.convert import read, write
from adit.data.packed import PackedDataset

Call = Callable[..., tuple[int, str, str]]
DATA = PackedDataset.load(Path(__file__).parents[1] / "fixtures" / "tiny_dataset")
WATER, ETHANE = (next(one for one in DATA if one.formula == formula) for formula in ("H2O", "C2H6"))
SALT = next(one for one in DATA if one.is_periodic)


def test_poscar(gen: Call) -> None:
    for name in ("POSCAR", "a.vasp"):
        assert (
            gen("--system", "crystal", "--atoms", 4, "-n", 1, "--out", name, "--out", "a.extxyz", "--overwrite")[0] == 0
        )
        (made,) = read("a.extxyz")
        assert StructureMatcher().fit(Structure.from_file(name), made.to_pymatgen())
        code, _, err = gen("--system", "crystal", "-n", 2, "--out", name, "--overwrite")
        assert code == 2 and "one crystal" in err, err
    code, _, err = gen("-n", 1, "--out", "CONTCAR")
    assert code == 2 and "a POSCAR holds crystals" in err


def test_a_folder_with_other_cifs_is_left_alone(gen: Call, tmp_path: Path) -> None:
    options = ["--system", "crystal", "--n", 3, "--out", "mix/", "--overwrite"]
    assert gen(*options)[0] == 0
    write("mix/mine.cif", [SALT])
    code, _, err = gen(*options)
    assert code == 2 and "mix holds other CIFs, such as mine.cif" in err
    assert len(list((tmp_path / "mix").glob("*.cif"))) == 4


def test_inputs_and_other_files_are_never_replaced(gen: Call) -> None:
    write("mine.sdf", [ETHANE])
    write("two.sdf", [WATER])
    before = Path("mine.sdf").read_bytes()
    for options in (
        ["--like", "mine.sdf", "--json", "mine.sdf"],
        ["--like", "two.sdf", "--like", "mine.sdf", "--report", "./mine.sdf"],
        ["--novel", "mine.sdf", "--out", "mine.sdf"],
    ):
        code, _, err = gen("--n", 1, "--overwrite", *options)
        assert code == 2 and "reads, which would be lost" in err
        assert Path("mine.sdf").read_bytes() == before
    write("lib/a.cif", [SALT])
    crystal = ["--system", "crystal", "--n", 1, "--overwrite"]
    for options in (["--like", "lib/a.cif", "--out", "lib/"], ["--novel", "lib/", "--out", "lib/a.cif"]):
        code, _, err = gen(*crystal, *options)
        assert code == 2 and "which would be lost" in err
    code, _, err = gen("--n", 1, "--json", "y.html", "--report", "./y.html")
    assert code == 2 and "must be different files" in err
    for option in ("--json", "--report"):
        code, _, err = gen("--n", 1, option, "mine.sdf")
        assert code == 2 and f"{option} mine.sdf exists already" in err
    assert Path("mine.sdf").read_bytes() == before and not Path("molecules.sdf").exists()
