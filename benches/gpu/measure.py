"""Timing on a GPU, and a CSV of results that is complete up to the last line even if the run is cut off."""

from __future__ import annotations

import csv
import datetime as dt
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

COLUMNS = ("date", "card", "torch", "triton", "commit", "section", "case", "variant", "value", "unit")


def card_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu (dry run)"


class Results:
    """Appends a line per figure to a CSV file and prints it."""

    def __init__(self, path: Path, device: torch.device, triton_version: str) -> None:
        command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        commit = done.stdout.strip() or "unknown"
        now = dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds")
        self.common = [now, card_name(device), torch.__version__, triton_version, commit]
        self.started = time.perf_counter()
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file = path.open("w", newline="")
        self.writer = csv.writer(self.file)
        self.writer.writerow(COLUMNS)

    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self.started

    def add(self, section: str, case: str, variant: str, value: float | str, unit: str) -> None:
        shown = f"{value:.4g}" if isinstance(value, float) else value
        self.writer.writerow([*self.common, section, case, variant, shown, unit])
        self.file.flush()
        print(
            f"{time.perf_counter() - self.started:5.0f} s  {section:12} {case:32} {variant:36} {shown:>10} {unit}",
            flush=True,
        )


def seconds(function: Callable[[], object], device: torch.device, repeats: int = 20, inner: int = 5) -> float:
    """Median time of a call, of calls captured in a CUDA graph, so that the host costs nothing.

    Without a GPU (a dry run) one call by the clock.
    """
    if device.type != "cuda":
        started = time.perf_counter()
        function()
        return time.perf_counter() - started
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            function()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(inner):
            function()
    graph.replay()
    return timed(graph.replay, repeats) / inner


def eager_seconds(function: Callable[[], object], device: torch.device, repeats: int = 20) -> float:
    """Median time of a call launched from Python."""
    if device.type != "cuda":
        return seconds(function, device)
    for _ in range(3):
        function()
    return timed(function, repeats)


def timed(function: Callable[[], object], repeats: int) -> float:
    """Median seconds on the device, by events."""
    torch.cuda.synchronize()
    times = []
    for _ in range(repeats):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        function()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / 1000)
    return statistics.median(times)


def relative_error(got: torch.Tensor, true: torch.Tensor) -> float:
    """Root mean square of the difference over that of the value."""
    return float((got.detach().double() - true.detach()).norm() / true.detach().norm())


def gradients(out: Sequence[torch.Tensor], inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Of the sum of outputs, each times a fixed random tensor."""
    generator = torch.Generator(out[0].device).manual_seed(7)
    seeds = [torch.randn(o.shape, generator=generator, device=o.device).to(o.dtype) for o in out]
    return list(torch.autograd.grad(out, inputs, seeds))
