"""Work shared among processes gives what one process gives."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import adit
from adit.errors import BackendUnavailableError, InvalidInputError
from adit.eval import molecules
from adit.eval import workers as workers_module
from adit.eval.limits import cores
from adit.eval.protocols import PROTOCOLS
from adit.eval.workers import CHUNK, Workers
from adit.packing import Packed, cut, pack
from adit.system import AtomicSystem

SCRIPT = """
import adit.bonds
from adit.eval.molecules import judge
from adit.eval.workers import Workers
from adit import AtomicSystem

if __name__ == "__main__":
    import torch

    water = AtomicSystem([8, 1, 1], [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
    adit.bonds.infer_bonds_batch([water] * 500)  # threads of Rust
    torch.ones(300, 300) @ torch.ones(300, 300)  # and of torch
    with Workers(2) as workers:
        print(set(judge([water] * 2100, "adit-rust", workers=workers).smiles))
"""

SLEEPER = """
import time
from adit.eval import workers
from adit.packing import pack
from adit import AtomicSystem
from os import getpid

def slow(piece):
    time.sleep(0.3)
    return getpid()

if __name__ == "__main__":
    workers._WORTH_IT = 1
    with workers.Workers(2) as pool:
        print(*set(pool.map(slow, pack([AtomicSystem([1], [[0, 0, 0]])] * 2000))), flush=True)
        time.sleep(600)
"""


def size(piece: Packed) -> int:
    return len(piece.periodic)


def die(piece: Packed) -> int:
    os._exit(3)


def test_pieces_are_the_whole(qm9: list[AtomicSystem]) -> None:
    batch = pack(qm9)
    pieces = list(cut(batch, 40))
    assert [size(piece) for piece in pieces] == [40, 40, 40, 30]
    assert np.array_equal(np.concatenate([piece.positions for piece in pieces]), batch.positions)
    assert pieces[2].offsets[0] == 0
    assert np.array_equal(np.concatenate([np.diff(piece.offsets) for piece in pieces]), np.diff(batch.offsets))
    assert list(cut(pack([]), 40)) == []


def test_processes_give_the_same_in_the_same_order(shaken: list[AtomicSystem], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers_module, "_WORTH_IT", 100)
    count = 2 * CHUNK + 50
    many = pack([shaken[k % len(shaken)] for k in range(count)])
    done: list[int] = []
    with Workers(2) as workers:
        for protocol in PROTOCOLS:
            shared = molecules.judge(many, protocol, workers=workers, advance=done.append)
            alone = molecules.judge(shaken, protocol)
            assert shared.smiles == [alone.smiles[k % len(shaken)] for k in range(count)]
            assert shared.reasons == [alone.reasons[k % len(shaken)] for k in range(count)]
            assert shared.paired.tolist() == [alone.paired[k % len(shaken)] for k in range(count)]
    assert sum(done) == 3 * count
    assert max(done) == CHUNK


@pytest.mark.slow  # torch takes seconds to import
def test_a_script_with_threads(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": str(Path(adit.__file__).parents[1])}
    command = [sys.executable, str(tmp_path / "script.py")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)
    assert (result.stdout, result.stderr) == ("{'O'}\n", "")


def test_a_dead_process_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers_module, "_WORTH_IT", 100)
    many = pack([AtomicSystem([1], [[0, 0, 0]])] * 600)
    with Workers(2) as workers, pytest.raises(BackendUnavailableError, match="--processes 1"):
        workers.map(die, many)


def test_few_systems_start_no_process() -> None:
    with Workers(8) as workers:
        assert workers.map(size, pack([AtomicSystem([1], [[0, 0, 0]])] * 600)) == [250, 250, 100]
        assert workers._pool is None
        assert workers.map(partial(size), pack([])) == []
    assert Workers(None).processes == cores() >= 1
    with pytest.raises(InvalidInputError, match="`processes`"):
        Workers(0)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks into /proc")
def test_processes_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SLEEPER)
    environment = {**os.environ, "PYTHONPATH": f"{Path(adit.__file__).parents[1]}"}
    command = [sys.executable, str(tmp_path / "script.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as parent:
        children = [int(word) for word in parent.stdout.readline().split()]  # type: ignore[union-attr]
        parent.kill()
    deadline = time.monotonic() + 30
    while (alive := [pid for pid in children if Path(f"/proc/{pid}").exists()]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(children) == 2
    assert alive == []
