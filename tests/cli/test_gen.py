from __future__ import annotations

import hashlib
import json
import os
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import pytest
from pymatgen.core import Structure
from rdkit import Chem

import adit
from adit.cli import gen_options
from adit.cli.gen import main
from adit.convert import read
from adit.validity import compositional, structural

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(adit.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model that was never trained: its molecules are nonsense, its cells of one atom are valid."""
    import torch

    from adit.config import DiTConfig, VAEConfig
    from adit.weights import Pretrained, SamplingDefaults, save_pretrained
    from adit.weights.store import GenerationModel

    torch.manual_seed(0)
    vae = VAEConfig(width=32, heads=2, encoder_layers=1, decoder_layers=1)
    dit = DiTConfig(width=32, heads=2, layers=1)
    counts = {"molecule": {3: 2, 5: 1, 9: 1}, "crystal": {1: 2, 2: 1, 4: 1}}
    folder = tmp_path_factory.mktemp("weights")
    made = Pretrained(
        name="untrained",
        model=GenerationModel(vae, dit),
        defaults=dict.fromkeys(counts, SamplingDefaults(steps=2)),
        atom_counts=counts,
    )
    save_pretrained(folder, made, vae, dit)
    return folder


@pytest.fixture
def gen(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs the command in an empty folder; gives exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> tuple[int, str, str]:
        words = command(weights, *arguments)
        monkeypatch.setattr(sys, "argv", ["adit-gen", *words])
        with pytest.raises(SystemExit) as stop:
            main()
        out, err = capsys.readouterr()
        return int(stop.value.code or 0), out, err

    return call


def command(weights: Path, *arguments: object) -> list[str]:
    words = [str(argument) for argument in arguments]
    extra = [] if "--weights" in words else ["--weights", str(weights)]
    return ["--threads", "1", *extra, *words]


def start(weights: Path, folder: Path, *arguments: object) -> subprocess.Popen[str]:
    code = "from adit.cli.gen import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, *command(weights, *arguments)],
        cwd=folder,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a runner in the background ignores it
    )


def wait_for_blocks(process: subprocess.Popen[str], record: Path, blocks: int) -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None:
        if record.exists() and len(json.loads(record.read_text())["written"]) >= blocks:
            return
        time.sleep(0.005)
    process.kill()
    raise AssertionError(f"no {blocks} blocks: {process.communicate()}")


def contents(folder: Path) -> dict[str, str]:
    """Digest of every output below a folder; a zip counts by what is in it."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_dir() or path.name.startswith("."):
            continue
        name = str(path.relative_to(folder))
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                found |= {f"{name}/{each}": digest(archive.read(each)) for each in archive.namelist()}
        else:
            found[name] = digest(path.read_bytes())
    return found


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def record(path: Path) -> dict[str, Any]:
    held: dict[str, Any] = json.loads(path.read_text())
    return held


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
    summary = record(tmp_path / "s.json")
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


def test_progress_when_forced(gen: Call) -> None:
    code, _, err = gen("--n", 4, "--batch-size", 2, "--progress")
    assert code == 0
    assert "4/4" in err
    assert "/s" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--system", "polymer"], "unknown system 'polymer'; known: molecule, crystal"),
        (["--solver", "rk4"], "known: euler, heun, dpm++, ancestral"),
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
        (["--device", "tpu"], "--device"),
        (["--atoms", "20-5"], "did you mean 5-20"),
        (["--atoms", "0"], "--atoms must lie in 1 to 2048"),
        (["--atoms", "5-"], "such as 18, 5-20"),
        (["--atoms", "-3"], "such as 18, 5-20"),
        (["--atoms", "1e3"], "such as 18, 5-20"),
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


def test_existing_outputs_are_refused_then_replaced(gen: Call, tmp_path: Path) -> None:
    assert gen("--n", 3)[0] == 0
    before = (tmp_path / "molecules.sdf").read_bytes()
    code, _, err = gen("--n", 3, "--seed", 1)
    assert code == 2
    assert err.count("\n") == 1
    assert "--resume" in err
    assert "--overwrite" in err
    assert (tmp_path / "molecules.sdf").read_bytes() == before
    assert gen("--n", 3, "--seed", 1, "--overwrite")[0] == 0
    assert (tmp_path / "molecules.sdf").read_bytes() != before
    (tmp_path / "cifs").mkdir()
    (tmp_path / "cifs" / "mine.cif").write_text("")
    assert gen("--system", "crystal", "--n", 2, "--out", "cifs/")[0] == 2
    assert gen("--system", "crystal", "--n", 2, "--out", "cifs/", "--overwrite")[0] == 0
    assert (tmp_path / "cifs" / "mine.cif").exists()


def test_resume_of_a_finished_run_changes_nothing(gen: Call, tmp_path: Path) -> None:
    options = ["--system", "crystal", "--n", 5, "--out", "a.zip", "--out", "a.xyz"]
    assert gen("--resume", *options)[0] == 0
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    code, out, err = gen("--resume", *options, "--json", "s.json")
    assert code == 0
    assert "finished already" in err
    assert "crystals" in out
    assert record(tmp_path / "s.json")["crystals"]["count"] == 5
    (tmp_path / "s.json").unlink()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    with (tmp_path / "a.xyz").open("a") as file:
        file.write((tmp_path / "a.xyz").read_text())
    code, _, err = gen("--resume", *options)
    assert code == 2
    assert "were changed" in err


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["--seed", 1], "--seed was 0 and is now 1"),
        (["--steps", 9], "--steps was not given and is now 9"),
        (["--n", 9], "--n was 6 and is now 9"),
        (["--atoms", "3-5"], "--atoms was not given and is now [3, 5]"),
        (["--valid-only"], "--valid-only was false and is now true"),
    ],
)
def test_resume_with_another_option_names_it(gen: Call, tmp_path: Path, change: list[object], words: str) -> None:
    assert gen("--n", 6, "--quiet")[0] == 0
    code, _, err = gen("--n", 6, "--resume", *change)
    assert code == 2
    assert len(err.splitlines()) == 1
    assert words in err


def test_resume_without_or_with_a_damaged_record(gen: Call, tmp_path: Path) -> None:
    assert gen("--n", 3, "--quiet")[0] == 0
    held = tmp_path / ".molecules.sdf.adit-gen.json"
    for text, words in (("{}", "damaged"), ("torn", "damaged"), (None, "does not exist")):
        held.unlink()
        if text is not None:
            held.write_text(text)
        code, _, err = gen("--n", 3, "--resume")
        assert code == 2
        assert words in err
        held.touch()


def test_resume_mends_files_that_were_cut(gen: Call, tmp_path: Path) -> None:
    """As after a failure of the power: the record is ahead of a file, and an entry is torn."""
    options = ["--n", 23, "--batch-size", 4, "--out", "a.sdf", "--out", "b.extxyz", "--quiet"]
    assert gen(*options)[0] == 0
    whole = contents(tmp_path)
    held = record(tmp_path / ".a.sdf.adit-gen.json")
    assert held["written"] == [4, 8, 12, 16, 20, 23]
    data = (tmp_path / "b.extxyz").read_bytes()
    for finished, size in ((False, len(data) // 2), (False, 0), (False, len(data) - 1)):
        (tmp_path / "b.extxyz").write_bytes(data[:size])
        (tmp_path / ".a.sdf.adit-gen.json").write_text(json.dumps({**held, "finished": finished}))
        assert gen(*options, "--resume")[0] == 0
        assert contents(tmp_path) == whole
    (tmp_path / "b.extxyz").unlink()
    assert gen(*options, "--resume")[0] == 0
    assert contents(tmp_path) == whole


@pytest.mark.parametrize("moment", [1, 7])
def test_kill_then_resume_gives_the_same_files(gen: Call, weights: Path, tmp_path: Path, moment: int) -> None:
    options = ["--system", "crystal", "--n", 202, "--batch-size", 5, "--quiet"]
    outputs = ["--out", "a.extxyz", "--out", "cifs/", "--out", "b.zip"]
    folder = tmp_path / "killed"
    folder.mkdir()
    process = start(weights, folder, *options, *outputs)
    wait_for_blocks(process, folder / ".a.extxyz.adit-gen.json", moment)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    held = record(folder / ".a.extxyz.adit-gen.json")
    assert moment <= len(held["written"]) < 41
    assert not held["finished"]
    os.chdir(folder)
    assert gen(*options, *outputs, "--resume") == (0, "", "")
    (tmp_path / "whole").mkdir()
    os.chdir(tmp_path / "whole")
    assert gen(*options, *outputs) == (0, "", "")
    assert contents(folder) == contents(tmp_path / "whole")
    assert len(contents(folder)) == 1 + 202 + 202


def test_interrupt_keeps_what_is_finished(gen: Call, weights: Path, tmp_path: Path) -> None:
    folder = tmp_path / "stopped"
    folder.mkdir()
    options = ["--n", 203, "--batch-size", 5, "--out", "a.sdf"]
    process = start(weights, folder, *options)
    wait_for_blocks(process, folder / ".a.sdf.adit-gen.json", 2)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 130, err
    assert out == ""
    count = record(folder / ".a.sdf.adit-gen.json")["written"][-1]
    assert 10 <= count < 203
    assert f"{count} of 203 molecules are in a.sdf" in err
    assert "--resume" in err
    assert len(err.splitlines()) == 1
    assert (folder / "a.sdf").read_text().count("$$$$\n") == count
    os.chdir(folder)
    assert gen(*options, "--resume")[0] == 0
    os.chdir(tmp_path)
    assert gen(*options)[0] == 0
    assert (folder / "a.sdf").read_bytes() == (tmp_path / "a.sdf").read_bytes()


def test_valid_only(gen: Call, tmp_path: Path) -> None:
    options = ["--system", "crystal", "--batch-size", 8]
    code, out, _ = gen(*options, "--n", 20, "--valid-only", "--json", "s.json")
    assert code == 0
    kept = read("crystals.extxyz")
    assert len(kept) == 20
    assert structural(kept).all()
    assert compositional(kept).all()
    summary = record(tmp_path / "s.json")
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


def test_a_full_disk_then_resume(gen: Call, tmp_path: Path) -> None:
    options = ["--n", 40, "--batch-size", 10, "--out", "a.sdf", "--quiet"]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8000, limits[1]))
    try:
        code, _, err = gen(*options)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert code == 2
    assert len(err.splitlines()) == 1
    assert "a.sdf cannot be written: File too large" in err
    assert gen(*options, "--resume") == (0, "", "")
    assert gen(*options[:4], "--out", "b.sdf", "--quiet") == (0, "", "")
    assert (tmp_path / "a.sdf").read_bytes() == (tmp_path / "b.sdf").read_bytes()


GUIDE = (Path(__file__).parents[2] / "docs" / "generate.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("line", re.findall(r"(?m)^adit-gen\b([^#\n]*)", GUIDE))
def test_the_guide(gen: Call, tmp_path: Path, line: str) -> None:
    """Every command of the guide runs (with fewer samples, of the untrained model)."""
    few = ["--n", "4"] if "--valid-only" not in line else ["--n", "4", "--system", "crystal", "--out", "x.extxyz"]
    code, _, err = gen(*shlex.split(line), *few)
    assert (code, err) == (0, "")


def test_the_guide_in_python(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    assert blocks
    for block in blocks:
        exec(block.replace("from_pretrained()", f"from_pretrained({str(weights)!r})"), {})
