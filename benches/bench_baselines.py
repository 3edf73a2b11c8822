"""adit beside equivariant diffusion, published ADiT and TABASCO: seconds for 10,000 samples.

    make bench-baselines                                         # CPU, tables into docs/benchmarks.md
    python benches/bench_baselines.py --device cuda --docs docs/benchmarks.md
    python benches/bench_baselines.py --quick --baselines EDM DiffCSP

Baselines: time of one evaluation, median, times the published number of evaluations, plus decoding. Not measured and
so left out in their favour: their sampler's arithmetic between evaluations, bonds, files. Ours: end to end with the
default settings of the shipped weights, files written, in whole blocks as adit-gen makes them; likewise our DiT of the
published size, whose 100 steps are continued from a few.
"""

from __future__ import annotations

import argparse
import gc
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from rich.console import Console

from adit.generate import DEFAULT_WEIGHTS, Generator
from baselines import ours, report
from baselines.common import Baseline, parameter_count
from baselines.registry import MOLECULE, Entry, select
from baselines.report import Point, Row, say
from baselines.timing import GROUPED, Bench, Sizes, Timer, Way, gflop
from baselines.workloads import Workload, workloads

SAMPLES = 10_000
OURS = (1.5, 30.0)
"""Seconds for each of `--minutes`, and at most, after which no more blocks of ours are measured for a workload."""
SEARCH = 7 / 8
"""Of `--minutes`, after which no more ways are tried, and no plots begun."""
LEAST = {"cpu": 2.0, "cuda": 0.3}
"""`Bench.least`; nobody else uses the GPU."""
PLOTTED = ("EDM", "EQGAT-diff", "SemlaFlow", "TABASCO-hot", "ADiT-S")


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, help="CPU threads; default: as torch chooses")
    parser.add_argument("--weights", default=DEFAULT_WEIGHTS)
    parser.add_argument("--baselines", nargs="+", metavar="NAME", help="some of them; default: all")
    parser.add_argument("--workloads", nargs="+", metavar="NAME", help="qm9, geom, mp20; default: all")
    parser.add_argument("--batch", type=int, help="systems in the common batch; default: 16 on a CPU, 256 on a GPU")
    parser.add_argument("--repeats", type=int, default=5, help="of which the median is taken")
    parser.add_argument("--minutes", type=float, default=15.0, help="after 7/8 nothing more is searched or plotted")
    parser.add_argument("--quick", action="store_true", help="batches of 2, no search, no plots: does it run?")
    parser.add_argument("--no-compile", action="store_true", help="torch.compile is not tried")
    parser.add_argument("--no-plots", action="store_true")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results", help="folder for the CSV files")
    parser.add_argument("--docs", type=Path, help="document whose tables are replaced; plots go to images/ beside it")
    return parser.parse_args(words)


def build(entry: Entry, bench: Bench) -> Baseline:
    torch.manual_seed(0)
    return entry.build().eval().to(bench.device)


def as_published(timer: Timer, workload: Workload) -> Way:
    """One evaluation, run as published."""
    return timer.published(partial(workload.sizes, hydrogens=timer.entry.hydrogens))


def rows_of(timer: Timer, workload: Workload, published: Way, until: float = math.inf) -> list[Row]:
    """All rows of a network on a workload, one for each published number of evaluations; `until` as in `Timer.best`."""
    entry = timer.entry
    sizes = partial(workload.sizes, hydrogens=entry.hydrogens)
    best = timer.best(published, sizes, until)
    note = "; ".join(filter(None, (timer.note, "out of time before all ways were tried" if timer.late else "")))
    decoding = decoding_seconds(entry, published, timer.bench, sizes)
    rows = [
        Row(
            workload=workload.title,
            network=entry.name if len(entry.evaluations) == 1 else f"{entry.name}, {evaluations} steps",
            source=entry.source,
            parameters=parameter_count(timer.network),
            gflop=gflop(entry, workload.mean(entry.hydrogens)),
            evaluations=evaluations,
            batch=published.batch,
            milliseconds=1000 * published.seconds * published.batch,
            decoding=SAMPLES * decoding,
            seconds=SAMPLES * (published.seconds * evaluations + decoding),
            best=str(best),
            best_seconds=SAMPLES * (best.seconds * evaluations + decoding),
            note=note,
        )
        for evaluations in entry.evaluations
    ]
    say(f"  {entry.name}, {workload.name}: {rows[0].milliseconds:,.1f} ms per evaluation; {rows[0].seconds:,.0f} s, "
        f"at best {rows[0].best_seconds:,.0f} s ({best}) {note}")  # fmt: skip
    return rows


def decoding_seconds(entry: Entry, published: Way, bench: Bench, sizes: Sizes) -> float:
    """Of one sample; 0 without a decoder."""
    if entry.decoder is None:
        return 0.0
    plain = replace(entry, build=entry.decoder, decoder=None, guided=False)
    return Timer(bench, plain, build(plain, bench)).time(published, sizes).seconds


def our_row(
    generator: Generator, workload: Workload, bench: Bench, options: argparse.Namespace, steps: int | None = None
) -> Row:
    """One of ours: an evaluation as the sampler makes it, the whole end to end; `steps` as in `ours.end_to_end`."""
    quick, entry = options.quick, ours.entry(generator, workload.system)
    ready = replace(bench, bf16=False)  # its weights are in half precision already, where they shall be
    each = ready.measure(ours.evaluation(generator, workload.system, workload.sizes(bench.batch)))
    limit = 0.0 if quick else min(OURS[0] * options.minutes, OURS[1])
    whole, measured = ours.end_to_end(generator, workload, bench.repeats, limit, 4 if quick else None, steps)
    say(f"  {entry.name}, {workload.name}: {1000 * each:,.1f} ms per evaluation; {SAMPLES * whole:,.0f} s, {measured}")
    return Row(
        workload=workload.title,
        network=entry.name,
        source=entry.source,
        parameters=round(entry.parameters),
        gflop=gflop(entry, workload.mean(hydrogens=True)),
        evaluations=entry.evaluations[0],
        batch=bench.batch,
        milliseconds=1000 * each,
        decoding=0.0,
        seconds=SAMPLES * whole,
        best=f"end to end, {measured}",
        best_seconds=SAMPLES * whole,
        note="" if workload.trained or steps else "weights not trained for these sizes: time only",
    )


def compare(
    generator: Generator, loads: list[Workload], bench: Bench, options: argparse.Namespace, elapsed: Callable[[], float]
) -> list[Row]:
    """All rows, by workload, ours first.

    All networks are timed as published before the first is searched for its best way, so that the slow ones do not eat
    the time for it; then the quick ones come first, and what they leave of their shares is for the slow ones.
    """
    large, few = ours.published_size(generator), 3 if bench.device.type == "cpu" else None
    tables = {
        load.name: [our_row(generator, load, bench, options), our_row(large, load, bench, options, few)]
        for load in loads
    }
    work = []
    for entry in select(options.baselines):
        timer = Timer(bench, entry, build(entry, bench))
        if places := [(load, as_published(timer, load)) for load in loads if load.system in entry.systems]:
            work.append((entry, places))
            say(f"  {entry.name}: timed as published")
    work.sort(key=lambda pair: max(published.seconds for _, published in pair[1]))
    waiting, found = sum(len(places) for _, places in work), {}
    for entry, places in work:
        timer = Timer(bench, entry, build(entry, bench))
        for load, published in places:
            share = 60 * (SEARCH * options.minutes - elapsed()) / waiting
            waiting -= 1
            found[entry.name, load.name] = rows_of(timer, load, published, time.perf_counter() + share)
        del timer
        torch.compiler.reset()
        gc.collect()
    for entry in select(options.baselines):
        for name, rows in tables.items():
            rows += found.get((entry.name, name), [])
    return [beside(row, rows[0]) for rows in tables.values() for row in rows]


def beside(row: Row, first: Row) -> Row:
    """The row with its ratios to ours."""
    return replace(row, ratio=row.seconds / first.seconds, best_ratio=row.best_seconds / first.best_seconds)


def sweep(generator: Generator, bench: Bench) -> Iterable[Point]:
    """Network seconds against atoms and against batch, for molecules; median of three."""
    entries = [
        ours.entry(generator, MOLECULE),
        ours.entry(ours.published_size(generator), MOLECULE),
        *select(PLOTTED, MOLECULE),
    ]
    at, batches = max(bench.batch // 4, 1), [max(bench.batch // 16, 1) * 4**k for k in range(4)]
    places = [("atoms", atoms, at) for atoms in (9, 18, 29, 44, 64)] + [("batch", 18, batch) for batch in batches]
    for entry in entries:
        timer = Timer(bench, entry, build(entry, bench))
        for against, atoms, batch in places:
            each = timer.time(Way(batch=batch, arrangement=GROUPED), lambda n, a=atoms: torch.full((n,), a), 3).seconds
            yield Point(network=entry.name, against=against, atoms=atoms, batch=batch,
                        seconds=SAMPLES * each * entry.evaluations[0])  # fmt: skip
        say(f"  {entry.name}: swept")


def main(words: list[str] | None = None) -> None:
    options = arguments(words)
    start = time.perf_counter()

    def elapsed() -> float:
        return (time.perf_counter() - start) / 60

    select(options.baselines)
    generator = Generator.from_pretrained(options.weights, device=options.device, threads=options.threads)
    bf16 = generator.denoiser.dtype == torch.bfloat16
    usual = 16 if generator.device.type == "cpu" else 256
    batch = 2 if options.quick else options.batch or usual
    full = not options.quick
    least = LEAST[generator.device.type] * full
    bench = Bench(
        device=generator.device, bf16=bf16, batch=batch, repeats=options.repeats, least=least, search=full,
        compiles=not options.no_compile,
    )  # fmt: skip
    known = {workload.name: workload for workload in workloads(generator.weights)}
    if unknown := set(options.workloads or ()) - set(known):
        raise SystemExit(f"unknown workloads {sorted(unknown)}; known: {', '.join(known)}")
    rows = compare(generator, [known[name] for name in options.workloads or known], bench, options, elapsed)
    about = report.machine(bench)
    report.print_tables(rows, Console(width=None if Console().is_terminal else 200))
    report.write_csv(options.out / f"baselines-{generator.device.type}.csv", rows, about)
    if options.docs:
        report.fill(options.docs, f"bench-baselines {generator.device.type}", report.markdown(rows, about))
    if not (options.quick or options.no_plots or elapsed() > SEARCH * options.minutes):
        say("Plots")
        points = list(sweep(generator, bench))
        report.write_csv(options.out / f"baselines-{generator.device.type}-sweep.csv", points, about)
        images = (options.docs or options.out / "x").parent / "images"
        for against in ("atoms", "batch"):
            report.plot(images / f"baselines-{generator.device.type}-{against}.png", points, against, about)
    say(f"{elapsed():.1f} minutes")


if __name__ == "__main__":
    main()
