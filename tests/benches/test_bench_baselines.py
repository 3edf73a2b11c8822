"""The benchmark command: sizes, timing, report, and the whole of it in small."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

import bench_baselines
from adit.decoding import Decoding
from adit.generate import Generator
from adit.weights import SamplingDefaults
from baselines import ours, report
from baselines.common import Baseline
from baselines.registry import MOLECULE, select
from baselines.report import Point, Row
from baselines.timing import GROUPED, PADDED, Bench, Sizes, Timer, Way, evaluation
from baselines.workloads import Workload, workloads

DOCS = Path(__file__).parents[2] / "docs" / "benchmarks.md"
BENCH = Bench(device=torch.device("cpu"), bf16=False, batch=4, repeats=1)
ROW = Row(
    workload="Molecules", network="EDM", source="1", parameters=5_340_000, gflop=151.4, evaluations=1000, batch=4,
    milliseconds=12.5, decoding=0.0, seconds=31_250.0, best="16, padded", best_seconds=30_000.0, ratio=104.2,
    best_ratio=9.876,
)  # fmt: skip
ABOUT = {"date": "2026-01-01", "machine": "M", "device": "cpu", "threads": "1", "products": "float32",
         "compile": "tried", "torch": "2", "python": "3", "commit": "c"}  # fmt: skip


class Stubborn(nn.Linear):
    """A layer that cannot be compiled."""

    def __init__(self, error: Exception, only_dynamic: bool = False) -> None:
        super().__init__(1, 1)
        self.error, self.only_dynamic = error, only_dynamic

    def compile(self, dynamic: bool) -> None:
        if dynamic or not self.only_dynamic:
            raise self.error


class Recorder(Baseline):
    """Remembers the batches that it was given."""

    def __init__(self, layer: nn.Module | None = None) -> None:
        super().__init__()
        self.seen: list[list[int]] = []
        self.blocks = nn.ModuleList([layer or nn.Linear(1, 1)])

    def inputs(self, sizes: Tensor, seed: int = 0) -> dict[str, Tensor | None]:
        return {"sizes": sizes}

    def forward(self, sizes: Tensor) -> None:
        self.seen.append(sizes.tolist())


class Wrong(Recorder):
    """Fails whatever it is given."""

    def forward(self, sizes: Tensor) -> None:
        raise RuntimeError("wrong shape")


def test_sizes_are_quantiles() -> None:
    load = Workload(name="x", title="X", system=MOLECULE, atoms={2: 1, 4: 2, 9: 1}, heavy={1: 1, 2: 3})
    assert load.sizes(4).tolist() == [2, 4, 4, 9]
    assert load.sizes(1).tolist() == [4]
    assert load.sizes(4, hydrogens=False).tolist() == [1, 2, 2, 2]
    assert load.mean() == 5 and load.mean(hydrogens=False) == 2


def test_workloads_have_the_sizes_of_their_data() -> None:
    loads = {load.name: load for load in workloads(Generator.from_pretrained(device="cpu").weights)}
    assert {name: load.mean() for name, load in loads.items()} == {"qm9": 18, "geom": 44, "mp20": 10}
    assert (loads["qm9"].mean(False), loads["geom"].mean(False)) == (9, 25)
    assert loads["mp20"].sizes(64).double().mean() == pytest.approx(10.3, abs=0.2)
    assert not loads["geom"].trained and loads["qm9"].trained


def test_arrangements() -> None:
    network, sizes = Recorder(), torch.tensor([2, 3, 3, 5])
    evaluation(network, sizes, PADDED, guided=False)()
    assert network.seen == [[2, 3, 3, 5]]
    evaluation(network, sizes, GROUPED, guided=False)()
    assert network.seen[1:] == [[2], [3, 3], [5]]


@pytest.mark.slow  # torch.compile takes seconds to import
def test_search_tries_batches_and_arrangements() -> None:
    network = Recorder()
    timer = Timer(BENCH, select(["EDM"])[0], network)
    published = timer.published(growing)
    assert (published.batch, published.arrangement, published.compiled) == (4, PADDED, False)
    best = timer.best(published, growing)
    assert best.seconds <= published.seconds and timer.note == ""
    assert {1, 4, 16} <= {len(seen) for seen in network.seen}
    network.seen.clear()
    impatient = Timer(replace(BENCH, patience=0.0), timer.entry, network)
    assert impatient.best(published, growing).batch == 4
    assert {len(seen) for seen in network.seen} <= {4}
    network.seen.clear()
    assert timer.best(published, growing, until=0.0) == published and timer.late and not network.seen
    timer.best(published, growing)
    assert not timer.late


def growing(count: int) -> Tensor:
    return torch.arange(1, count + 1)


@pytest.mark.parametrize("error", [RuntimeError("no compiler"), torch.OutOfMemoryError("full")])
def test_search_survives_what_compiling_breaks(error: Exception) -> None:
    timer = Timer(BENCH, select(["EDM"])[0], Recorder(Stubborn(error)))
    best = timer.best(timer.published(growing), growing)
    assert math.isfinite(best.seconds) and not best.compiled
    assert timer.note == ("torch.compile fails (RuntimeError)" if type(error) is RuntimeError else "")


def test_nothing_is_compiled_that_is_not_to_be() -> None:
    timer = Timer(replace(BENCH, compiles=False), select(["EDM"])[0], Recorder(Stubborn(RuntimeError("no compiler"))))
    timer.best(timer.published(growing), growing)
    assert not timer.has_compiled and timer.note == "" and not timer.late


def test_search_falls_back_to_static_shapes() -> None:
    timer = Timer(BENCH, select(["EDM"])[0], Recorder(Stubborn(RuntimeError("no C++"), only_dynamic=True)))
    way = timer.compiled(Way(batch=4, arrangement=GROUPED), growing)
    assert math.isfinite(way.seconds) and str(way) == "4, by size, compiled" and not timer.dynamic


class Scripted(Timer):
    """Times nothing: by size eager is slower, and padded cannot be compiled."""

    def time(self, way: Way, sizes: Sizes, repeats: int | None = None) -> Way:
        if way.compiled and way.arrangement == PADDED:
            raise RuntimeError("no C++")
        return replace(way, seconds={PADDED: 1.0, GROUPED: 2.0}[way.arrangement] / (8 if way.compiled else 1))


def test_where_one_arrangement_cannot_be_compiled_the_other_is() -> None:
    timer = Scripted(BENCH, select(["EDM"])[0], Recorder())
    best = timer.best(timer.published(growing), growing)
    assert (best.arrangement, best.compiled, best.seconds, timer.note) == (GROUPED, True, 0.25, "")
    alone = Scripted(BENCH, select(["EQGAT-diff"])[0], Recorder())
    assert alone.best(alone.published(growing), growing).arrangement == GROUPED


def test_errors_of_a_network_itself_are_not_hidden() -> None:
    timer = Timer(BENCH, select(["EDM"])[0], Wrong())
    with pytest.raises(RuntimeError, match="wrong shape"):
        timer.best(Way(batch=4, arrangement=PADDED, seconds=0.1), growing)


@pytest.mark.parametrize(
    ("settings", "calls"),
    [
        (SamplingDefaults(steps=10, solver="dpm++", cfg=1.0), 10),
        (SamplingDefaults(steps=10, solver="ancestral", cfg=2.0), 20),
        (SamplingDefaults(steps=10, solver="heun", cfg=0.0), 19),
    ],
)
def test_network_calls_are_those_of_the_generator(settings: SamplingDefaults, calls: int) -> None:
    generator = Generator.from_pretrained(device="cpu")
    seen: list[int] = []
    hook = generator.denoiser.dit.latent.register_forward_hook(lambda *call: seen.append(len(call[2]) // 3))
    generator.sample(1, atoms=3, steps=settings.steps, solver=settings.solver, cfg=settings.cfg)
    hook.remove()
    assert sum(seen) == ours.network_calls(settings) == calls


def test_end_to_end_makes_the_sizes_of_the_workload(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = Generator.from_pretrained(device="cpu")
    fast = {kind: SamplingDefaults(steps=1, solver="euler", cfg=1.0) for kind in generator.defaults}
    generator = Generator(replace(generator.weights, defaults=fast), device="cpu")
    load = Workload(name="x", title="X", system=MOLECULE, atoms={60: 1}, trained=False)
    sizes: list[int] = []
    inner = Decoding.systems
    monkeypatch.setattr(
        Decoding, "systems", lambda self, x: sizes.extend(g.size for g in self.groups) or inner(self, x)
    )
    seconds, measured = ours.end_to_end(generator, load, repeats=2, seconds=1e9, block=2)
    assert seconds > 0 and measured == "2 blocks of 2" and set(sizes) == {60}
    assert ours.end_to_end(generator, load, repeats=2, seconds=0.0, block=2)[1] == "1 block of 2"


def test_end_to_end_makes_whole_blocks_as_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def sample(self: Generator, n: int, system: str, **options: object) -> list[object]:
        asked.append(n)
        return []

    monkeypatch.setattr(Generator, "sample", sample)
    load = Workload(name="x", title="X", system=MOLECULE, atoms={9: 1})
    generator = Generator.from_pretrained(device="cpu")
    assert ours.end_to_end(generator, load, repeats=1, seconds=0.0)[1] == "1 block of 512"
    assert asked == [4, 512]


def test_slow_networks_are_continued_along_the_line_of_a_few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]

    def sample(self: Generator, n: int, system: str, *, seed: int, steps: int, formula: str | None) -> list[object]:
        clock[0] += 0.5 + steps
        return []

    monkeypatch.setattr(Generator, "sample", sample)
    monkeypatch.setattr(ours.time, "perf_counter", lambda: clock[0])
    load = Workload(name="x", title="X", system=MOLECULE, atoms={9: 1})
    generator = ours.published_size(Generator.from_pretrained(device="cpu"))
    each, measured = ours.end_to_end(generator, load, repeats=1, seconds=0.0, block=2, steps=3)
    assert each == pytest.approx((0.5 + 100) / 2) and measured == "1 block of 2, from 1 and 3 of 100 steps"


def test_report_fills_the_document(tmp_path: Path) -> None:
    document = tmp_path / "benchmarks.md"
    document.write_text(DOCS.read_text())
    report.fill(document, "bench-baselines cpu", report.markdown([ROW], ABOUT))
    report.fill(document, "bench-baselines cpu", report.markdown([ROW], ABOUT))
    text = document.read_text()
    line = "| EDM | 5.34 M | 151 | 1,000 | 12.5 | 31,250 | 30,000 | 16, padded | 104 | 9.88 |"
    assert text.count(line) == 1 and text.count("Measured 2026-01-01 on M, cpu, 1 threads") == 1
    assert "bench-baselines cuda: begin" in text
    assert "not tried" not in report.markdown([ROW], ABOUT)
    assert "torch.compile was not tried" in report.markdown([ROW], {**ABOUT, "compile": "not tried"})
    with pytest.raises(SystemExit, match="bench-baselines tpu: begin"):
        report.fill(document, "bench-baselines tpu", "")


def test_report_writes_csv_and_plots(tmp_path: Path) -> None:
    report.write_csv(tmp_path / "new" / "rows.csv", [ROW], ABOUT)
    with (tmp_path / "new" / "rows.csv").open() as file:
        (read,) = csv.DictReader(file)
    assert read["network"] == "EDM" and float(read["seconds"]) == 31_250 and read["commit"] == "c"
    points = [Point(network=n, against="atoms", atoms=a, batch=4, seconds=a * 2.0) for n in "ab" for a in (9, 18)]
    report.plot(tmp_path / "atoms.png", points, "atoms", ABOUT)
    assert (tmp_path / "atoms.png").stat().st_size > 5_000
    about = report.machine(BENCH)
    assert set(about) == set(ABOUT) and all(about.values())
    console = Console(record=True, width=200)
    report.print_tables([ROW], console)
    assert "31,250" in console.export_text()


def test_wrong_names_are_refused() -> None:
    with pytest.raises(SystemExit, match="unknown baselines"):
        bench_baselines.main(["--baselines", "nothing"])
    with pytest.raises(SystemExit, match=r"unknown workloads \['qm8'\]; known: qm9, geom, mp20"):
        bench_baselines.main(["--workloads", "qm8"])


@pytest.mark.slow
def test_out_of_time_nothing_is_searched(tmp_path: Path) -> None:
    words = ["--baselines", "TABASCO-hot", "--workloads", "qm9", "--batch", "1", "--repeats", "1", "--minutes", "0"]
    bench_baselines.main([*words, "--out", str(tmp_path)])
    with (tmp_path / "baselines-cpu.csv").open() as file:
        notes = {row["network"]: row["note"] for row in csv.DictReader(file)}
    assert notes["TABASCO-hot"] == "out of time before all ways were tried"
    assert not list(tmp_path.glob("*sweep*")), "plots take time too"


@pytest.mark.slow
def test_the_whole_command(tmp_path: Path) -> None:
    document = tmp_path / "benchmarks.md"
    document.write_text(DOCS.read_text())
    words = ["--quick", "--repeats", "1", "--baselines", "GeoLDM", "TABASCO-hot", "FlowMM", "--out", str(tmp_path)]
    bench_baselines.main([*words, "--docs", str(document)])
    with (tmp_path / "baselines-cpu.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4 + 4 + 4  # two of ours on each workload, beside two baselines or FlowMM with two step counts
    shipped = [row for row in rows if row["network"].startswith("adit, joint-tiny")]
    assert [float(row["ratio"]) for row in shipped] == [1, 1, 1]
    geoldm = next(row for row in rows if row["network"] == "GeoLDM")
    network = float(geoldm["milliseconds"]) / 1000 / 2 * 1000 * 10_000
    assert float(geoldm["seconds"]) == pytest.approx(network + float(geoldm["decoding"]), rel=1e-3)
    assert float(geoldm["decoding"]) > 0
    slow, fast = (float(row["seconds"]) for row in rows if row["network"].startswith("FlowMM"))
    assert slow == pytest.approx(4 * fast, rel=1e-4)  # six digits in the CSV
    assert document.read_text().split("## GPU")[1] == DOCS.read_text().split("## GPU")[1]
    assert "| GeoLDM | 5.34 M |" in document.read_text().split("## GPU")[0]
