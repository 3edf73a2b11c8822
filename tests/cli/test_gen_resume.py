"""Outputs that exist, runs that go on after whatever stopped them."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import adit

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(adit.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
Call = Callable[..., tuple[int, str, str]]


def start(weights: Path, folder: Path, *arguments: object) -> subprocess.Popen[str]:
    code, words = "from adit.cli.gen import main; main()", map(str, arguments)
    return subprocess.Popen(
        [sys.executable, "-c", code, "--threads", "1", "--weights", str(weights), *words],
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
    assert gen("--system", "crystal", "--n", 3, "--out", "cifs/")[0] == 0
    assert gen("--system", "crystal", "--n", 2, "--out", "cifs/")[0] == 2
    assert gen("--system", "crystal", "--n", 2, "--out", "cifs/", "--overwrite")[0] == 0
    assert len(list((tmp_path / "cifs").glob("*.cif"))) == 2


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
        (["--n", 4], "--n was 6 and is now 4"),
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


@pytest.mark.parametrize("kept", [[], ["--valid-only", "--system", "crystal"]])
def test_a_run_can_grow(gen: Call, tmp_path: Path, kept: list[str]) -> None:
    """What is there stays, and the rest is what a longer run would have made; other threads do not matter."""
    suffix = ".extxyz" if kept else ".sdf"
    common = ["--atoms", "1-3", "--batch-size", 4, "--quiet", *kept]
    zipped = ["--out", "a.zip"] if kept else []
    assert gen(*common, "--n", 6, "--out", f"a{suffix}", *zipped)[0] == 0
    before = (tmp_path / f"a{suffix}").read_bytes()
    assert gen(*common, "--n", 11, "--out", f"a{suffix}", *zipped, "--resume", "--threads", 2)[0] == 0
    assert gen(*common, "--n", 11, "--out", f"b{suffix}")[0] == 0
    after, whole = (adit.read(tmp_path / f"{name}{suffix}") for name in "ab")
    assert (tmp_path / f"a{suffix}").read_bytes().startswith(before)
    assert [one.info["index"] for one in after] == [one.info["index"] for one in whole]
    assert [one.formula for one in after] == [one.formula for one in whole]
    assert all(abs(a.positions - b.positions).max() < 1e-3 for a, b in zip(after, whole, strict=True))
    if kept:
        assert len(adit.read(tmp_path / "a.zip")) == 11


def test_kill_leaves_what_is_finished(weights: Path, tmp_path: Path) -> None:
    """SIGTERM, with which clusters end a job, is like Ctrl-C."""
    process = start(weights, tmp_path, "--n", 100_000, "--batch-size", 16)
    wait_for_blocks(process, tmp_path / ".molecules.sdf.adit-gen.json", 2)
    process.terminate()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted: " in err and "--resume" in err


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
