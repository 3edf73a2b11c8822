"""Functions that may hang or crash, run under a time limit that holds: in processes of their own, which are killed."""

from __future__ import annotations

import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO, Generic, TypeVar

from adit.errors import BackendUnavailableError, InvalidInputError

T = TypeVar("T")
R = TypeVar("R")

_START_SECONDS = 120.0
_GRACE_SECONDS = 5


@dataclass(frozen=True, slots=True)
class Outcome(Generic[R]):
    """What became of one task.

    Attributes:
        value: what the function returned; None if it did not.
        reason: "" if it returned; "timed out after 10 s", "ValueError: ...", or that its process died.
        timed_out: the limit was reached.
        seconds: wall time.
    """

    value: R | None
    reason: str
    timed_out: bool
    seconds: float


def limited(
    function: Callable[[T], R],
    tasks: Sequence[T],
    seconds: float,
    *,
    prepare: Callable[[], object] | None = None,
    workers: int | None = None,
) -> Iterator[tuple[int, Outcome[R]]]:
    """`function(task)` for each task, each within its own time limit, in worker processes.

    A worker whose task takes longer is killed, whatever it is doing; so is one whose task raises. The
    next task gets a new one, and starting it does not count. Workers run one thread each, and end
    with this process, however it ends.

    Args:
        function: importable by name; it and the tasks are pickled.
        tasks: one argument each.
        seconds: wall time for each task.
        prepare: called once in each worker before its clock runs, such as for slow imports.
        workers: processes; None for one for each core.

    Yields:
        The index of a task and its outcome, as they finish.

    Raises:
        InvalidInputError: `seconds` is not positive.
        BackendUnavailableError: a worker cannot start; the message says why.
    """
    if not seconds > 0:
        raise InvalidInputError(f"`seconds`, the time limit of a task, must be positive; got {seconds}")
    return _limited(function, tasks, seconds, prepare, min(workers or cores(), len(tasks)))


def limited_in_parts(
    function: Callable[[T], R],
    tasks: Sequence[T],
    seconds: float,
    *,
    part: int = 100,
    part_seconds: float = 60.0,
    prepare: Callable[[], object] | None = None,
    workers: int | None = None,
) -> Iterator[tuple[int, Outcome[R]]]:
    """As `limited`, for tasks of milliseconds: `part` of them are sent at once, with `part_seconds` for all.

    The tasks of a part that fails are tried again one by one, each with `seconds`.
    """
    alone: list[int] = []
    parts = [range(len(tasks))[begin : begin + part] for begin in range(0, len(tasks), part)]
    messages = [[tasks[place] for place in places] for places in parts]
    for index, outcome in limited(partial(_each, function), messages, part_seconds, prepare=prepare, workers=workers):
        if outcome.value is None:
            alone += parts[index]
        else:
            share = outcome.seconds / len(parts[index])
            for place, value in zip(parts[index], outcome.value, strict=True):
                yield place, Outcome(value, "", False, share)
    again = limited(function, [tasks[place] for place in alone], seconds, prepare=prepare, workers=workers)
    yield from ((alone[index], single) for index, single in again)


def _each(function: Callable[[T], R], tasks: Sequence[T]) -> list[R]:
    return [function(task) for task in tasks]


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _limited(
    function: Callable[[T], R],
    tasks: Sequence[T],
    seconds: float,
    prepare: Callable[[], object] | None,
    workers: int,
) -> Iterator[tuple[int, Outcome[R]]]:
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    for index in range(len(tasks)):
        waiting.put(index)
    finished: queue.SimpleQueue[tuple[int, Outcome[R]] | BackendUnavailableError] = queue.SimpleQueue()
    stop = threading.Event()
    held: list[_Worker] = [_Worker(function, prepare) for _ in range(workers)]

    def serve_one(worker: _Worker) -> None:
        try:
            while not stop.is_set():
                index = waiting.get_nowait()
                finished.put((index, worker.ask(tasks[index], seconds)))
        except queue.Empty:
            return
        except BackendUnavailableError as error:
            finished.put(error)

    threads = [threading.Thread(target=serve_one, args=[worker], daemon=True) for worker in held]
    try:
        for thread in threads:
            thread.start()
        for _ in tasks:
            result = finished.get()
            if isinstance(result, BackendUnavailableError):
                raise result
            yield result
    finally:
        stop.set()
        for worker in held:
            worker.kill()
        for thread in threads:
            thread.join()
        for worker in held:
            worker.end()


class _Worker:
    """A process that answers one question after the other; started when it is asked, and again when it died."""

    def __init__(self, function: Callable[..., Any], prepare: Callable[[], object] | None) -> None:
        self._first = (function, prepare)
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False
        self._lock = threading.Lock()

    def ask(self, task: object, seconds: float) -> Outcome[Any]:
        if self._process is None:
            self._start()
        begin = time.perf_counter()
        kind, value, expired = self._exchange((task, seconds), seconds)
        took = time.perf_counter() - begin
        if expired or kind != "done":
            self.end()
        if kind == "done":
            return Outcome(value, "", False, took)
        if expired:
            return Outcome(None, f"timed out after {seconds:g} s", True, took)
        return Outcome(None, value if kind == "raised" else "its process died", False, took)

    def kill(self) -> None:
        """From any thread, for good: whoever waits for an answer gets none."""
        with self._lock:
            self._closed = True
            if self._process is not None:
                self._process.kill()

    def _start(self) -> None:
        # Not multiprocessing: its workers import the caller's main module, which runs a script without a guard again.
        code = f"import sys; sys.path[:] = {sys.path!r}; from adit.eval.limits import serve; serve()"
        with self._lock:
            if self._closed:
                return
            self._process = subprocess.Popen(
                [sys.executable, "-c", code],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
        kind, value, expired = self._exchange(self._first, _START_SECONDS)
        if kind != "done":
            self.end()
            why = "it takes too long" if expired else value if kind == "raised" else "it died"
            raise BackendUnavailableError(f"a worker process cannot start: {why}")

    def _exchange(self, message: object, seconds: float) -> tuple[str, Any, bool]:
        """The kind of the answer ("done", "raised" or "died"), the answer, and whether time ran out."""
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            return "died", None, False
        expired = threading.Event()

        def expire() -> None:
            expired.set()
            process.kill()

        clock = threading.Timer(seconds, expire)
        clock.daemon = True
        clock.start()
        try:
            _send(process.stdin, message)
            kind, value = pickle.load(process.stdout)
        except (EOFError, OSError, pickle.UnpicklingError):  # the process is gone, perhaps in the middle of a word
            kind, value = "died", None
        finally:
            clock.cancel()
        return kind, value, expired.is_set()

    def end(self) -> None:
        """Frees all that the process held."""
        process = self._process
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    _close(pipe)
        self._process = None


def serve() -> None:
    """The life of a worker process: reads (function, prepare), then one (task, seconds) after the other."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no answer
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    questions = sys.stdin.buffer
    try:
        function, prepare = pickle.load(questions)
        if prepare is not None:
            prepare()
        _send(replies, ("done", None))
        while True:
            task, seconds = pickle.load(questions)
            _last_resort(seconds)
            _send(replies, ("done", function(task)))
    except EOFError:  # nobody asks any more
        return
    except Exception as error:
        _send(replies, ("raised", f"{type(error).__name__}: {error}"))
        raise


def _last_resort(seconds: float) -> None:
    """Ends this process after `seconds` and some, should nobody be left to kill it."""
    if hasattr(signal, "alarm"):
        signal.alarm(int(seconds) + _GRACE_SECONDS)


def _send(pipe: BinaryIO | Any, message: object) -> None:
    pipe.write(pickle.dumps(message))
    pipe.flush()


def _close(pipe: Any) -> None:
    try:
        pipe.close()
    except OSError:  # a broken pipe, flushed
        return
