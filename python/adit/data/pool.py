"""Tasks done by a pool of processes, their results in order."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from adit.data.base import Task
from adit.errors import BackendUnavailableError

T = TypeVar("T")


def run_tasks(work: Callable[[Task], T], tasks: Iterable[Task], processes: int | None, inline: int) -> Iterator[T]:
    """`work` done on each task; at most a few tasks wait at any time, so memory stays small.

    Args:
        work: a function of a module.
        tasks: may be endless.
        processes: None for one for each core.
        inline: up to this many entries a pool is not worth its start: they are done here.

    Raises:
        BackendUnavailableError: a process died.
    """
    processes = processes or os.cpu_count() or 1
    iterator = iter(tasks)
    head: list[Task] = []
    for task in iterator:
        head.append(task)
        if sum(task.size for task in head) > inline:
            break
    else:
        processes = 1
    if processes == 1:
        for task in [*head, *iterator]:
            yield work(task)
        return
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
    with ProcessPoolExecutor(processes, multiprocessing.get_context(method), initializer=_begin) as pool:
        waiting: deque[Future[T]] = deque(pool.submit(work, task) for task in head)
        try:
            for task in iterator:
                waiting.append(pool.submit(work, task))
                while len(waiting) > 3 * processes:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            raise BackendUnavailableError(
                "a worker process died (out of memory?); try again with fewer processes (`--processes 1`)"
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _begin() -> None:
    """Leaves Ctrl-C to the parent, and ends with it, even where it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
