from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import ase.io
import numpy as np
import pytest
from pymatgen.core import Structure
from rdkit import Chem

import adit
from adit.cli import gen_options
from adit.convert import read, write
from adit.data.packed import PackedDataset
from adit.eval.crystals import novel, unique
from adit.eval.molecules import connected, validity
from adit.symmetry import spacegroups, symmetrize
from adit.system import AtomicSystem
from adit.validity import compositional, structural

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(adit.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
Call = Callable[..., tuple[int, str, str]]
WATER = AtomicSystem([8, 1, 1], [[0, 0, 0], [0.76, 0.59, 0.0], [-0.76, 0.59, 0.0]])
ETHANOL = AtomicSystem(
    [6, 6, 8, 1, 1, 1, 1, 1, 1],
    [[-0.89, -0.2, 0], [0.47, 0.45, 0], [1.5, -0.5, 0], [-1, -0.84, 0.88], [-1, -0.84, -0.88], [-1.68, 0.56, 0],
     [0.58, 1.09, 0.88], [0.58, 1.09, -0.88], [2.36, -0.06, 0]],
)  # fmt: skip
SALT = AtomicSystem.from_fractional([11, 17], [[0] * 3, [0.5] * 3], [[0, 2.8, 2.8], [2.8, 0, 2.8], [2.8, 2.8, 0]])
PEROVSKITE = AtomicSystem.from_fractional(
    [56, 22, 8, 8, 8], [[0] * 3, [0.5] * 3, [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]], np.eye(3) * 4.0
)
DRUGS = Path(__file__).parents[1] / "fixtures" / "files" / "drugs.sdf"


def test_molecules_in_every_format(gen: Call, tmp_path: Path) -> None:
    outputs = ["--out", "deep/a.sdf", "--out", "b.xyz", "--out", "c.extxyz"]
    code, out, err = gen("--n", 12, *outputs, "--json", "s.json", "--report", "r.html")
    assert (code, err) == (0, "")
    mols = list(Chem.SDMolSupplier("deep/a.sdf", removeHs=False, sanitize=False))
    assert [int(mol.GetProp("index")) for mol in mols] == list(range(12))
    for name in ("b.xyz", "c.extxyz"):
        frames = ase.io.read(name, ":", format="extxyz")
        assert [len(frame) for frame in frames] == [mol.GetNumAtoms() for mol in mols]
        assert not any(frame.pbc.any() for frame in frames)
    summary = json.loads((tmp_path / "s.json").read_text())
    assert (summary["written"], summary["drawn"], summary["molecules"]["count"]) == (12, 12, 12)
    assert summary["options"]["seed"] == 0
    assert summary["versions"]["rdkit"]
    assert summary["files"] == ["deep/a.sdf", "b.xyz", "c.extxyz"]
    assert (tmp_path / "r.html").read_text().startswith("<!DOCTYPE html>")
    for words in ("valid", "unique", "seconds", "deep/a.sdf", "r.html"):
        assert words in out


def test_crystals_in_every_format(gen: Call, tmp_path: Path) -> None:
    assert (
        gen("--system", "crystal", "-n", 3, "--out", "a.cif", "--out", "b.zip", "--out", "c/", "--out", "d.extxyz")[0]
        == 0
    )
    frames = ase.io.read("d.extxyz", ":")
    assert all(frame.pbc.all() for frame in frames)
    folders = [sorted((tmp_path / name).glob("*.cif")) for name in ("a", "c")]
    assert [[path.name for path in files] for files in folders] == [
        [f"{name}_{k:05d}.cif" for k in (1, 2, 3)] for name in "ac"
    ]
    for files in folders:
        for path, frame in zip(files, frames, strict=True):
            structure = Structure.from_file(path)
            assert len(structure) == len(frame)
            assert structure.volume == pytest.approx(frame.get_volume(), rel=1e-6)
    with zipfile.ZipFile("b.zip") as archive:
        assert archive.namelist() == [f"b_{k:05d}.cif" for k in (1, 2, 3)]
    assert gen("--system", "crystal", "--n", 1, "--out", "one.cif")[0] == 0
    assert len(Structure.from_file("one.cif")) == len(frames[0])


def test_the_seed_decides(gen: Call, tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        assert gen("--n", 6, "--seed", seed, "--out", f"{name}.extxyz", "--quiet") == (0, "", "")
    a, b, c = ((tmp_path / f"{name}.extxyz").read_bytes() for name in "abc")
    assert a == b != c


def test_default_names_atoms_and_all_sampling_options(gen: Call) -> None:
    options = ["--n", 4, "--steps", 3, "--solver", "heun", "--cfg", 2, "--batch-size", 3, "--device", "cpu"]
    assert gen(*options, "--atoms", 7)[0] == 0
    assert {len(system) for system in read("molecules.sdf")} == {7}
    assert gen(*options, "--atoms", "2-3", "--system", "crystal")[0] == 0
    assert {len(system) for system in read("crystals.extxyz")} <= {2, 3}


def test_formulas(gen: Call) -> None:
    """The untrained network is told them and makes what it likes; the sizes are theirs."""
    code, out, _ = gen("--n", 4, "--formula", "(CH3)2O", "--out", "one.extxyz")
    assert code == 0 and {len(system) for system in read("one.extxyz")} == {9}
    right = sum(system.formula == "C2H6O" for system in read("one.extxyz"))
    assert re.search(rf"are \(CH3\)2O\W+{right / 4:.1%}", out), out
    assert gen("--n", 40, "--formula", "training", "--out", "known.extxyz")[0] == 0
    assert {len(system) for system in read("known.extxyz")} == {3, 5, 9}
    # one of three atoms is valid now and then, but never of this formula
    options = ["--n", 2, "--formula", "HgXe2", "--valid-only", "--steps", 1, "--batch-size", 500, "--json", "s.json"]
    code, out, err = gen(*options)
    assert code == 1 and "only 0 of 1,000 samples are valid" in err and out == ""
    summary = json.loads(Path("s.json").read_text())
    assert (summary["written"], summary["drawn"], summary["options"]["resolved settings"]["steps"]) == (0, 1000, 1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--formula", "C7H9O2"], "odd number of electrons: none would be valid"),
        (
            ["--system", "crystal", "--formula", "Na3Cl"],
            "does not pass SMACT's test of charge balance: none would be valid",
        ),
    ],
)
def test_what_can_never_be_valid_is_refused_at_once(gen: Call, options: list[str], words: str) -> None:
    code, _, err = gen(*options, "--valid-only")
    assert code == 2 and words in err
    assert gen(*options, "--n", 1)[0] == 0


def test_strange_formulas_and_sizes_are_warned_of(gen: Call) -> None:
    code, _, err = gen("--formula", "C6H5Cl", "--n", 1)
    assert code == 0 and err.startswith("warning: `formula` C6H5Cl has Cl, which none has")
    assert gen("--formula", "C6H5Cl", "--n", 1, "--overwrite", "--quiet") == (0, "", "")
    code, _, err = gen("--formula", "CH44", "--n", 1, "--overwrite")
    assert code == 0 and "`formula` CH44 has 45 atoms; what the weights were trained on has at most 9" in err
    code, _, err = gen("--formula", "training", "--atoms", 50, "--n", 1, "--overwrite")
    assert code == 0 and "nothing in the training set has as many atoms as `atoms` 50" in err


def test_multiples_of_a_crystals_formula(gen: Call) -> None:
    common = ["--system", "crystal", "--formula", "TiO2", "--steps", 1]
    code, out, _ = gen(*common, "--atoms", "3-10", "--n", 30)
    assert code == 0 and {system.formula for system in read("crystals.extxyz")} == {"O2Ti", "O4Ti2", "O6Ti3"}
    assert re.search(r"are TiO2\W+100", out), out
    assert gen(*common, "--n", 5, "--overwrite")[0] == 0
    assert {system.formula for system in read("crystals.extxyz")} == {"O2Ti"}
    code, _, err = gen(*common, "--atoms", "4-5", "--n", 5, "--overwrite")
    assert code == 2 and "TiO2 has 3 atoms; 4 to 5 can be made" in err
    code, _, err = gen("--formula", "CH4", "--atoms", "3-10", "--n", 5, "--out", "m.extxyz")
    assert code == 0 and {len(system) for system in read("m.extxyz")} == {5}


def test_crystals_snapped_to_their_symmetry(gen: Call) -> None:
    """As the library snaps those of the same seed."""
    common = ["--system", "crystal", "--weights", "joint-tiny", "--steps", 10, "--formula", "TiO2", "--n", 12]
    assert gen(*common, "--out", "plain.extxyz")[0] == 0
    assert gen(*common, "--symmetrize", 0.2, "--out", "snapped.extxyz")[0] == 0
    made, expected = read("snapped.extxyz"), symmetrize(read("plain.extxyz"), 0.2)
    for one, other in zip(made, expected, strict=True):
        np.testing.assert_allclose(one.positions, other.system.positions, atol=1e-6)
        assert one.info["spacegroup"] == other.spacegroup
    assert sum(one.info["spacegroup"] > 1 for one in made) > sum(spacegroups(read("plain.extxyz"), 0.01) > 1)
    for options in (["--symmetrize", 0.1], ["--system", "crystal", "--symmetrize", 0]):
        code, _, err = gen(*options)
        assert code == 2 and "--symmetrize is by how far an atom of a crystal may be moved" in err


def test_several_templates_and_references(gen: Call) -> None:
    write("a.sdf", [ETHANOL])
    write("b.sdf", [WATER])
    assert gen("--like", "a.sdf", "--like", "b.sdf", "--n", 4, "--out", "near.extxyz")[0] == 0
    assert [len(one) for one in read("near.extxyz")] == [9, 3, 9, 3]
    common = ["--system", "crystal", "--atoms", 1, "--n", 4]  # cells of one atom are valid, and known by their element
    assert gen(*common, "--valid-only", "--unique", "--out", "first.extxyz")[0] == 0
    first = read("first.extxyz")
    for place in (0, 1):
        write(f"known{place}.extxyz", [first[place]])
    novel = ["--novel", "known0.extxyz", "--novel", "known1.extxyz"]
    assert gen(*common, *novel, "--out", "new.extxyz")[0] == 0
    new = read("new.extxyz")
    assert not any(adit.StructureMatcher().fit(known, one) for known in first[:2] for one in new)
    assert any(one.info["index"] == first[2].info["index"] for one in new)


def test_valid_variations_have_the_formula_of_their_template(gen: Call) -> None:
    """Which the untrained network hardly ever hits: told so at the end."""
    write("mine.sdf", [WATER])
    code, out, _ = gen("--like", "mine.sdf", "--n", 20, "--out", "near.extxyz")
    right = sum(system.formula == "H2O" for system in read("near.extxyz"))
    assert code == 0 and re.search(
        rf"are of the formula of their template\W+{right / 20:.1%}", " ".join(out.split())
    ), out
    options = ["--like", "mine.sdf", "--n", 20, "--valid-only", "--batch-size", 500, "--out", "kept.extxyz"]
    assert gen(*options, "--quiet")[0] == 1
    kept = read("kept.extxyz") if Path("kept.extxyz").stat().st_size else []
    assert {system.formula for system in kept} <= {"H2O"}


def test_variations(gen: Call, tmp_path: Path) -> None:
    """The untrained network makes what it likes of them, but of their sizes."""
    write("mine.sdf", [ETHANOL, WATER])
    options = ["--like", "mine.sdf", "--n", 5, "--out", "near.extxyz"]
    assert gen(*options)[0] == 0
    made = read("near.extxyz")
    assert [len(one) for one in made] == [9, 3, 9, 3, 9] and [one.info["like"] for one in made] == [0, 1, 0, 1, 0]
    code, _, err = gen(*options, "--resume", "--strength", 0.3)
    assert code == 2 and "--strength was not given and is now 0.3" in err
    write("mine.sdf", [WATER, ETHANOL])
    code, _, err = gen(*options, "--resume")
    assert (
        code == 2
        and "the structures of --like are not what they were" in err
        and "the samples would not fit together" in err
    )
    assert gen(*options, "--overwrite", "--strength", 0.3, "--formula", "any")[0] == 0
    assert [len(one) for one in read("near.extxyz")] == [3, 9, 3, 9, 3]
    write("big.sdf", [AtomicSystem([6] * 4, 1.4 * np.eye(4)[:, :3])])
    code, _, err = gen("--like", "big.sdf", "--n", 1, "--out", "b.extxyz")
    assert code == 0 and err.count("\n") == 1
    assert err.startswith("warning: `like`, structure 0 (C4) has 4 atoms besides hydrogen")
    write("salt.cif", [SALT])
    assert gen("--system", "crystal", "--like", "salt.cif", "--formula", "KBr", "--n", 3, "--out", "k.extxyz")[0] == 0
    assert {one.formula for one in read("k.extxyz")} == {"BrK"}


def test_progress_when_forced(gen: Call) -> None:
    code, _, err = gen("--n", 4, "--batch-size", 2, "--progress")
    assert code == 0
    assert "4/4" in err
    assert "/s" in err


def test_the_log_of_a_job_says_how_far_it_is(gen: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adit.cli.common.Log.every", 0.0)
    code, _, err = gen("--n", 4, "--batch-size", 2)
    assert code == 0 and [line.split(",")[0] for line in err.splitlines()][-1] == "4 of 4 molecules"
    assert re.match(r"2 of 4 molecules, [\d.e+]+/s, 0:00:0\d left", err.splitlines()[1])
    for silent in ("--quiet", "--no-progress"):
        assert gen("--n", 4, "--batch-size", 2, "--overwrite", silent)[2] == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--system", "polymer"], "unknown system 'polymer'; known: molecule, crystal"),
        (["--solver", "rk4"], "known: euler, heun, dpm++, ancestral, sde-dpm++"),
        (["--n", "0"], "--n must be at least 1"),
        (["--n", "-5"], "--n must be at least 1"),
        (["--n", "many"], "--n"),
        (["--nonsense"], "--nonsense"),
        (["stray"], "stray"),
        (["--steps", "0"], "--steps must be at least 1"),
        (["--batch-size", "0"], "--batch-size must be at least 1"),
        (["--threads", "0"], "--threads must be at least 1"),
        (["--seed", "-1"], "--seed"),
        (["--seed", str(2**63)], "--seed"),
        (["--cfg", "nan"], "--cfg must be a finite number"),
        (["--cfg", "inf"], "--cfg must be a finite number"),
        (["--noise", "-1"], "--noise must be a finite number, at least 0; got -1"),
        (["--noise", "2", "--solver", "heun"], "`noise` is for the solvers ancestral and sde-dpm++, not"),
        (["--guide", "nan"], "--guide must be a finite number"),
        (["--guide", "1.5"], "have no smaller network to guide them"),
        (["--device", "tpu"], "--device"),
        (["--atoms", "20-5"], "did you mean 5-20"),
        (["--atoms", "0"], "--atoms must lie in 1 to 2048"),
        (["--atoms", "5-"], "such as 18, 5-20"),
        (["--atoms", "-3"], "such as 18, 5-20"),
        (["--atoms", "1e3"], "such as 18, 5-20"),
        (
            ["--formula", "C2Xy"],
            'must be made of known element symbols; got "C2Xy". Give one such',
        ),
        (["--formula", "trainig"], "or training, new or any"),
        (["--formula", "C2H6O", "--atoms", "3"], "--formula C2H6O has 9 atoms; 3 to 3 can be made"),
        (["--system", "crystal", "--formula", "training"], "hold no formulas of crystals"),
        (["--formula", "new"], "--formula new is for crystals"),
        (["--out", "x.pdb"], "unknown format '.pdb'; known: .sdf"),
        (["--out", ""], "empty"),
        (["--out", "x.cif"], "write molecules as .sdf"),
        (["--out", "x/"], "write molecules as .sdf"),
        (["--out", "x.zip"], "write molecules as .sdf"),
        (["--system", "crystal", "--out", "x.sdf"], "write crystals as .extxyz"),
        (["--out", "x.sdf", "--out", "./x.sdf"], "named twice"),
        (["--out", "/proc/adit/x.sdf"], "not a folder that can be written"),
        (["--out", "file/x.sdf"], "not a folder that can be written"),
        (["--json", "/proc/adit/x.json"], "--json"),
        (["--report", "."], "--report"),
        (["--out", "x.extxyz", "--json", "x.extxyz"], "--json"),
        (["--resume", "--overwrite"], "contradict"),
        (["--weights", "nosuch"], "no weights 'nosuch'"),
        (["--strength", "0.5"], "--strength says how far from the structures of --like; give it, too"),
        (["--like", "none.sdf"], "none.sdf does not exist"),
        (["--like", str(DRUGS), "--system", "crystal"], "drugs.sdf: `like`, structure 0 is a molecule"),
        (["--like", str(DRUGS), "--strength", "2"], "drugs.sdf: `strength` must lie above 0 and be at most 1"),
        (["--like", str(DRUGS), "--atoms", "3"], "drugs.sdf: `atoms` and `like` contradict each other"),
    ],
)
def test_bad_options_are_one_line_and_code_2(gen: Call, tmp_path: Path, arguments: list[str], words: str) -> None:
    (tmp_path / "file").write_text("")
    code, out, err = gen(*arguments)
    assert code == 2
    assert out == ""
    assert len(err.splitlines()) == 1
    assert words in err
    assert {path.name for path in tmp_path.iterdir()} == {"file"}


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("config.json", lambda data: data[:50], "damaged"),
        ("config.json", lambda data: b"[]", "damaged"),
        ("config.json", lambda data: data.replace(b'"width": 32', b'"width": 48'), "do not fit"),
        ("model.safetensors", lambda data: data[:-8], "damaged"),
        ("model.safetensors", lambda data: data[:-1] + bytes([data[-1] ^ 1]), "damaged"),
        ("model.safetensors", None, "no model.safetensors"),
    ],
)
def test_damaged_weights(
    gen: Call, weights: Path, tmp_path: Path, name: str, change: Callable[[bytes], bytes] | None, words: str
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(weights, copy)
    if change is None:
        (copy / name).unlink()
    else:
        (copy / name).write_bytes(change((copy / name).read_bytes()))
    code, _, err = gen("--weights", copy)
    assert code == 2
    assert len(err.splitlines()) == 1
    assert words in err
    assert not (tmp_path / "molecules.sdf").exists()


def test_cuda_where_there_is_none(gen: Call) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    code, _, err = gen("--device", "cuda")
    assert code == 2
    assert "CUDA" in err


def test_help_and_mistakes_do_not_load_torch() -> None:
    code = """
import sys
from adit.cli.gen import main
for words in (["--help"], ["--version"], ["--n", "0"], ["--weights", "nosuch"], ["--out", "/proc/x/y.sdf"]):
    sys.argv = ["adit-gen", *words]
    try:
        main()
    except SystemExit as stop:
        print("exit", stop.code)
print("heavy:", [name for name in ("torch", "rdkit", "pymatgen", "ase", "plotly") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=ENVIRONMENT, timeout=300)
    assert [line for line in done.stdout.splitlines() if line.startswith("exit")] == [
        f"exit {k}" for k in (0, 0, 2, 2, 2)
    ]
    assert "heavy: []" in done.stdout
    assert len(done.stderr.splitlines()) == 3


def test_names_are_those_of_the_generator() -> None:
    from adit import generate
    from adit.flow import solver

    assert gen_options.SYSTEMS == generate.SYSTEMS
    assert gen_options.SOLVERS == solver.SOLVERS
    assert gen_options.DEFAULT_WEIGHTS == generate.DEFAULT_WEIGHTS


def test_valid_only(gen: Call, tmp_path: Path) -> None:
    options = ["--system", "crystal", "--batch-size", 8]
    code, out, _ = gen(*options, "--n", 20, "--valid-only", "--json", "s.json")
    assert code == 0
    kept = read("crystals.extxyz")
    assert len(kept) == 20
    assert structural(kept).all()
    assert compositional(kept).all()
    summary = json.loads((tmp_path / "s.json").read_text())
    assert summary["written"] == 20 < summary["drawn"]
    assert f"20 of {summary['drawn']}" in out
    assert summary["crystals"]["valid"] == 1
    assert gen(*options, "--n", summary["drawn"], "--out", "all.extxyz")[0] == 0
    every = read("all.extxyz")
    good = structural(every) & compositional(every)
    assert [system for system, keep in zip(every, good, strict=True) if keep][:20] == kept


def test_valid_only_gives_up(gen: Call, tmp_path: Path) -> None:
    code, _, err = gen("--n", 30, "--valid-only", "--atoms", 9, "--steps", 1, "--batch-size", 300)
    assert code == 1
    assert len(err.splitlines()) == 1
    assert "of 1,200 samples are valid" in err
    assert "--valid-only" in err
    assert gen("--n", 30, "--valid-only", "--atoms", 9, "--steps", 1, "--batch-size", 300, "--resume")[0] == 1


def test_unique_crystals_are_the_first_of_each_kind(gen: Call, tmp_path: Path) -> None:
    options = ["--system", "crystal", "--batch-size", 16]
    code, out, _ = gen(*options, "--n", 3, "--unique", "--json", "s.json")
    assert code == 0
    kept = read("crystals.extxyz")
    summary = json.loads((tmp_path / "s.json").read_text())
    assert "kept of drawn (valid and unique)" in out
    assert gen(*options, "--n", summary["drawn"], "--valid-only", "--out", "valid.extxyz")[0] == 0
    valid = read("valid.extxyz")[: summary["drawn"]]
    firsts = [system for system, first in zip(valid, unique(valid).first, strict=True) if first]
    assert len(valid) > 3 and firsts[:3] == kept
    # cut off after one and gone on with: the rest knows the first ones
    before = (tmp_path / "crystals.extxyz").read_bytes()
    record = json.loads((tmp_path / ".crystals.extxyz.adit-gen.json").read_text())
    lines = before.splitlines(keepends=True)
    (tmp_path / "crystals.extxyz").write_bytes(b"".join(lines[: int(lines[0]) + 2]))
    (tmp_path / ".crystals.extxyz.adit-gen.json").write_text(json.dumps(record | {"finished": False}))
    assert gen(*options, "--n", 3, "--unique", "--resume")[0] == 0
    assert (tmp_path / "crystals.extxyz").read_bytes() == before
    # none of them is new to themselves
    others = [*options, "--n", 3, "--unique", "--novel", "crystals.extxyz", "--out", "new.extxyz"]
    assert gen(*others)[0] == 0
    new = read("new.extxyz")
    assert novel(new, PackedDataset.from_systems(kept)).all() and unique(new).first.all()


def test_unique_and_novel_molecules(gen: Call, tmp_path: Path) -> None:
    options = ["--weights", "joint-tiny", "--steps", 10, "--atoms", "4-7", "--batch-size", 32]
    assert gen(*options, "--n", 10, "--unique", "--out", "a.sdf")[0] == 0
    assert gen(*options, "--n", 6, "--novel", "a.sdf", "--out", "b.sdf")[0] == 0
    assert gen(*options, "--n", 100, "--out", "all.sdf")[0] == 0
    kept, new, every = (validity(read(name)) for name in ("a.sdf", "b.sdf", "all.sdf"))
    assert len(set(kept)) == len(kept) == 10 and None not in kept
    assert len(new) == 6 and not set(new) & set(kept)
    valid = [smiles for smiles, whole in zip(every, connected(read("all.sdf")), strict=True) if smiles and whole]
    assert list(dict.fromkeys(valid))[:10] == kept
    assert [smiles for smiles in valid if smiles not in kept][: len(new)] == new  # the same one may come again


def test_the_last_isomer(gen: Call) -> None:
    options = ["--weights", "joint-tiny", "--steps", 2, "--formula", "CH4", "--n", 20, "--batch-size", 500]
    code, _, err = gen(*options, "--unique")
    assert code == 1 and "of 1,000 samples are valid and unique" in err and "There may be few more" in err


@pytest.mark.parametrize(
    ("novel", "words"),
    [("no-such-set", "--novel: no such file or prepared data set"), (str(DRUGS), "holds no crystal")],
)
def test_a_reference_that_cannot_serve_is_named(gen: Call, novel: str, words: str) -> None:
    code, _, err = gen("--system", "crystal", "--novel", novel)
    assert code == 2 and words in err and err.count("\n") == 1


GUIDE = (Path(__file__).parents[2] / "docs" / "generate.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("line", re.findall(r"(?m)^adit-gen\b([^#\n]*)", GUIDE))
def test_the_guide(gen: Call, tmp_path: Path, line: str) -> None:
    """Every command of the guide runs (with fewer samples, of the untrained model)."""
    write("mine.sdf", [ETHANOL])
    write("mine.cif", [PEROVSKITE])
    write("scaffold.xyz", [AtomicSystem([8, 1], [[0, 0, 0], [0.96, 0, 0]])])
    write("host.cif", [AtomicSystem([25] * 4 + [8] * 8, 2.0 * np.argwhere(np.ones((2, 2, 3))), 6.0 * np.eye(3))])
    words = shlex.split(line)
    few = ["--n", "4"]
    if "--valid-only" in words:
        few += ["--system", "crystal", "--out", "x.extxyz"]
    elif "--unique" in words:  # which nonsense is not
        few = ["--n", "1", "--weights", "joint-tiny", "--steps", "5"]
        words = [str(DRUGS.parents[1] / "tiny_dataset") if word in ("qm9", "mp20") else word for word in words]
    elif {"--property", "--noise", "--elements"} & set(words):  # the untrained one has no predictor, noise or prior
        few = ["--n", "2", "--weights", "joint-tiny", "--steps", "5"]
    code, _, err = gen(*words, *few)
    assert code == 0
    assert not [
        line for line in err.splitlines() if "what the weights were trained on" not in line
    ]  # the untrained one's


@pytest.mark.filterwarnings("ignore:`like`")  # of nonsense
def test_the_guide_in_python(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    assert blocks
    for block in blocks:
        name = "joint-tiny" if "Sieve" in block else str(weights)  # nothing of the untrained one's would be kept
        exec(block.replace("from_pretrained()", f"from_pretrained({name!r})"), {})
