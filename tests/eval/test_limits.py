"""A time limit that holds against anything a function can do."""

from __future__ import annotations

import importlib
import math
import os
import subprocess
import sys
import time

import pytest

from adit.errors import BackendUnavailableError, InvalidInputError
from adit.eval.limits import limited, limited_in_parts


def test_every_task_has_its_outcome() -> None:
    found = dict(limited(math.sqrt, [4.0, -1.0, 9.0, "x", 16.0], 20, workers=2))
    assert {index: outcome.value for index, outcome in found.items()} == {0: 2.0, 1: None, 2: 3.0, 3: None, 4: 4.0}
    assert found[1].reason.startswith("ValueError: ")
    assert found[3].reason.startswith("TypeError: ")
    assert found[0].reason == "" and not any(outcome.timed_out for outcome in found.values())
    assert list(limited(math.sqrt, [], 1)) == []


def test_a_loop_in_c_that_holds_the_interpreter_is_killed() -> None:
    start = time.perf_counter()
    found = dict(limited(sum, [range(3), range(10**13), range(4)], 0.5, workers=1))
    assert time.perf_counter() - start < 20
    assert found[0].value == 3 and found[2].value == 6
    assert found[1].value is None and found[1].timed_out and found[1].reason == "timed out after 0.5 s"
    assert 0.5 <= found[1].seconds < 5


def test_a_crash_costs_one_task() -> None:
    found = dict(limited(os._exit, [1], 20, workers=1))
    assert found[0].reason == "its process died" and not found[0].timed_out


def test_parts_cost_no_more_than_what_is_bad_in_them() -> None:
    tasks = [range(3), range(10**13), range(4), range(5)]
    found = dict(limited_in_parts(sum, tasks, 0.5, part=3, part_seconds=1.0, workers=1))
    assert [found[place].value for place in range(4)] == [3, None, 6, 10]
    assert [found[place].timed_out for place in range(4)] == [False, True, False, False]


def test_what_a_library_prints_is_no_answer() -> None:
    found = dict(limited(os.system, ["echo hello", "echo again"], 20, workers=1))
    assert [found[k].value for k in (0, 1)] == [0, 0]


def test_no_process_is_left_behind() -> None:
    for _, outcome in limited(time.sleep, [0.0, 60.0, 60.0], 120, workers=2):
        assert outcome.reason == "" and _children()
        break  # the generator is closed
    assert not _children()


@pytest.mark.slow
def test_a_worker_in_the_middle_of_a_task_ends_without_its_parent() -> None:
    script = (
        "import time\nfrom adit.eval.limits import limited\nfor _ in limited(time.sleep, [60.0], 2, workers=1): pass"
    )
    parent = subprocess.Popen([sys.executable, "-c", script])
    deadline = time.monotonic() + 40
    while not (workers := _children(parent.pid)) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1.5)
    assert workers and all(map(_alive, workers))
    parent.kill()
    parent.wait()
    while any(map(_alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(_alive, workers))


def test_a_worker_that_cannot_start_says_why() -> None:
    with pytest.raises(BackendUnavailableError, match="cannot start: TypeError"):
        list(limited(math.sqrt, [1.0], 1, prepare=importlib.import_module))  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="must be positive"):
        limited(math.sqrt, [1.0], 0)


def _children(pid: int | None = None) -> set[int]:
    command = ["ps", "-ww", "-o", "pid=,args=", "--ppid", str(pid or os.getpid())]
    listed = subprocess.run(command, capture_output=True, text=True)
    return {int(line.split()[0]) for line in listed.stdout.splitlines() if "eval.limits" in line}


def _alive(pid: int) -> bool:
    state = subprocess.run(["ps", "-o", "state=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()
    return state not in ("", "Z")
