"""A pool of processes that gives results in order."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Literal, TypeVar

from adit.errors import BackendUnavailableError

T = TypeVar("T")
R = TypeVar("R")


class Pool(ProcessPoolExecutor):
    """Processes that leave Ctrl-C to this one, and end with it, even where it is killed.

    Args:
        processes: how many.
        method: "fork" is for a process without threads. "forkserver" starts from nothing: a script that asks for it
            must begin under `if __name__ == "__main__":`. Where the system has neither, it is "spawn".
    """

    def __init__(self, processes: int, method: Literal["fork", "forkserver"]) -> None:
        known = method in multiprocessing.get_all_start_methods()
        context = multiprocessing.get_context(method if known else "spawn")
        super().__init__(processes, context, initializer=_begin)
        self._most = 3 * processes

    def in_order(self, work: Callable[[T], R], tasks: Iterable[T]) -> Iterator[R]:
        """`work` of each task. At most a few tasks wait at any time, so memory stays small.

        Raises:
            BackendUnavailableError: a process died.
        """
        waiting: deque[Future[R]] = deque()
        try:
            for task in tasks:
                waiting.append(self.submit(work, task))
                if len(waiting) > self._most:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            raise BackendUnavailableError(
                "a worker process died (out of memory?); try again with fewer processes (`--processes 1`)"
            ) from error
        finally:
            for future in waiting:
                future.cancel()


def _begin() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
