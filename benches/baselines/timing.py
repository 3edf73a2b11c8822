"""How long one evaluation of a network takes, as it is published and at its best."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from adit.ops import dispatch
from baselines.common import Baseline
from baselines.registry import Entry

Sizes = Callable[[int], Tensor]
"""The sizes of a batch of so many systems."""
PADDED, GROUPED = "padded", "by size"
"""A batch of mixed sizes padded to the largest; or split into parts of one size, without padding."""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What all networks share.

    Attributes:
        device: of all networks.
        bf16: matrix products in bfloat16 (autocast), as `adit.Generator` does where the hardware has them.
        batch: systems in the batch that all are timed at.
        repeats: of which the median is taken, after one warm-up.
        least: seconds over which quick networks are timed, since a shared machine's pace changes within one.
        patience: seconds that a run may take for its batch size to be tried.
        search: whether other batch sizes and arrangements are tried.
        compiles: and torch.compile, which can take a minute for a network.
    """

    device: torch.device
    bf16: bool
    batch: int
    repeats: int = 5
    least: float = 0.0
    patience: float = 3.0
    search: bool = True
    compiles: bool = True

    def precision(self) -> AbstractContextManager[object]:
        return torch.autocast(self.device.type, torch.bfloat16) if self.bf16 else nullcontext()

    def measure(self, run: Callable[[], object], repeats: int | None = None) -> float:
        """Median seconds of a run, of `repeats`; if none are named, of more where they take less than `least`."""
        times: list[float] = []
        with torch.inference_mode(), self.precision():
            run()
            while len(times) < (repeats or self.repeats) or (repeats is None and sum(times) < self.least):
                self.wait()
                start = time.perf_counter()
                run()
                self.wait()
                times.append(time.perf_counter() - start)
        return statistics.median(times)

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


@dataclass(frozen=True, kw_only=True)
class Way:
    """How a network is run, and the seconds that one evaluation of one system then takes."""

    batch: int
    arrangement: str
    compiled: bool = False
    seconds: float = math.inf

    def __str__(self) -> str:
        return f"{self.batch}, {self.arrangement}{', compiled' if self.compiled else ''}"


def _seconds(way: Way) -> float:
    return way.seconds


def evaluation(network: Baseline, sizes: Tensor, arrangement: str, guided: bool) -> Callable[[], None]:
    """A function that evaluates the network once for systems of these sizes."""
    parts = [sizes] if arrangement == PADDED else [sizes[sizes == size] for size in sizes.unique()]
    inputs = [network.inputs(part) for part in parts]
    if guided:
        inputs = [network.guided(one) for one in inputs]

    def run() -> None:
        for one in inputs:
            network(**one)

    return run


class Timer:
    """Times one network, which stays compiled from one workload to the next."""

    def __init__(self, bench: Bench, entry: Entry, network: Baseline) -> None:
        self.bench, self.entry, self.network = bench, entry, network
        self.note, self.late, self.has_compiled, self.dynamic = "", False, False, True

    def time(self, way: Way, sizes: Sizes, repeats: int | None = None) -> Way:
        run = evaluation(self.network, sizes(way.batch), way.arrangement, self.entry.guided)
        if way.compiled and not self.has_compiled:
            self.compile()
        eager = self.has_compiled and not way.compiled
        with torch.compiler.set_stance("force_eager") if eager else nullcontext():
            return replace(way, seconds=self.bench.measure(run, repeats) / way.batch)

    def compile(self) -> None:
        """The repeated layers, from now on, where a way wants it."""
        torch._dynamo.config.recompile_limit = 64  # sizes of a batch, each compiled by itself
        for block in self.network.blocks:
            block.compile(dynamic=self.dynamic)
        self.has_compiled = True

    def published(self, sizes: Sizes) -> Way:
        """At the batch size of all, arranged as in the published code."""
        arrangement = PADDED if self.entry.pads else GROUPED
        return self.time(Way(batch=self.bench.batch, arrangement=arrangement), sizes)

    def best(self, published: Way, sizes: Sizes, until: float = math.inf) -> Way:
        """The fastest way found: other batch sizes, both arrangements, and the fastest compiled; where that fails, the
        fastest of the other arrangement.

        `until`: of `time.perf_counter`; ways that would begin later are not tried, and `late` says so.
        """
        self.late, self.note = False, ""
        if not self.bench.search:
            return published
        batch, fastest = published.batch, {published.arrangement: published}
        for size in (4 * batch, max(batch // 4, 1), batch):
            for arrangement in (PADDED, GROUPED) if self.entry.masks else (GROUPED,):
                way = Way(batch=size, arrangement=arrangement)
                if way == replace(published, seconds=way.seconds) or published.seconds * size > self.bench.patience:
                    continue
                tried = self.in_time(until, self.attempt, way, sizes)
                fastest[arrangement] = min(fastest.get(arrangement, tried), tried, key=_seconds)
        eager = sorted((way for way in fastest.values() if way.seconds < math.inf), key=_seconds)
        found = eager[0]
        for way in eager if self.bench.compiles else []:
            compiled = self.in_time(until, self.compiled, way, sizes)
            if compiled.seconds < math.inf:
                self.note, found = "", min(found, compiled, key=_seconds)
                break
        if found == published:
            return published
        return min(published, self.time(found, sizes), key=_seconds)

    def in_time(self, until: float, trial: Callable[[Way, Sizes], Way], way: Way, sizes: Sizes) -> Way:
        """A trial of a way; after `until` none is made and the way counts as infinitely slow."""
        if time.perf_counter() < until:
            return trial(way, sizes)
        self.late = True
        return replace(way, seconds=math.inf)

    def compiled(self, way: Way, sizes: Sizes) -> Way:
        """One run of the same compiled; where that fails for dynamic shapes, from then on for each shape by itself."""
        made = self.attempt(replace(way, compiled=True), sizes)
        if made.seconds == math.inf and self.dynamic:
            self.dynamic, self.has_compiled = False, False
            made = self.attempt(replace(way, compiled=True), sizes)
        return made

    def attempt(self, way: Way, sizes: Sizes) -> Way:
        """One run; infinitely slow where memory or torch.compile fails."""
        never = replace(way, seconds=math.inf)
        try:
            return self.time(way, sizes, 1)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            return never
        except RuntimeError as error:  # torch.compile's are of this class
            if not way.compiled:
                raise
            self.note = f"torch.compile fails ({type(error).__name__})"
            return never


@contextmanager
def counting() -> Iterator[FlopCounterMode]:
    """Counts operations; those in Rust it would not see, so that plain torch runs meanwhile."""
    with (
        patch.object(dispatch, "_why_not_rust", lambda *_: "operations are counted"),
        FlopCounterMode(display=False) as counter,
    ):
        yield counter


def gflop(entry: Entry, atoms: int, systems: int = 64) -> float:
    """Of one evaluation, guidance included, of `systems` systems of `atoms` atoms (multiply-adds count as two)."""
    counted = systems if entry.meta else 8
    with torch.device("meta" if entry.meta else "cpu"):
        network = entry.build()
    inputs = network.inputs(torch.full((counted,), atoms))
    with counting() as counter:
        network(**(network.guided(inputs) if entry.guided else inputs))
    return float(counter.get_total_flops()) / 1e9 * systems / counted
