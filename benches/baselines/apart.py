"""Each network in a process of its own: what ran before in a process changes how fast the next network is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context
from typing import Any

import torch

from baselines.registry import select
from baselines.timing import Bench, Timer, build

_timers: list[Timer] = []
"""In a process of `apart`: that of its network."""


@contextmanager
def apart(bench: Bench, names: Iterable[str]) -> Iterator[dict[str, ProcessPoolExecutor]]:
    """A process for each of these networks, with the network built and nothing running; for `timed`."""
    start, threads = get_context("spawn"), torch.get_num_threads()
    with ExitStack() as stack:
        networks = {
            name: stack.enter_context(
                ProcessPoolExecutor(1, start, initializer=_begin, initargs=(bench, name, threads))
            )
            for name in names
        }
        wait([process.submit(_timers.copy) for process in networks.values()])
        yield networks


def timed(process: ProcessPoolExecutor, function: Callable[..., Any], *arguments: object) -> Any:
    """`function(timer, *arguments)` in the process, of its network; function, arguments and result are pickled."""
    return process.submit(_call, function, *arguments).result()


def _begin(bench: Bench, name: str, threads: int) -> None:
    torch.set_num_threads(threads)
    (entry,) = select([name])
    _timers.append(Timer(bench, entry, build(entry, bench)))


def _call(function: Callable[..., object], *arguments: object) -> object:
    return function(_timers[0], *arguments)
