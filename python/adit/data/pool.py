"""Tasks done by a pool of processes, their results in order."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import TypeVar

from adit.data.base import Task
from adit.pool import Pool

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
    everything = chain(head, iterator)
    if processes == 1:
        yield from map(work, everything)
        return
    with Pool(processes, "fork") as pool:
        yield from pool.in_order(work, everything)
