"""Time and memory of adit's networks against the number of atoms in a molecule, at equal atoms in a batch.

    python benches/size.py --docs docs/drugs.md                    # the network of the shipped weights on one CPU core
    python benches/size.py --docs docs/drugs.md --device cuda      # the same on a GPU
    python benches/size.py --recipe joint-s --tokens 16384         # another size of network
    python benches/size.py --quick                                 # seconds: does it run?

Each measurement has a process of its own, so that its peak of memory is its own: of resident memory on a CPU (Linux),
of torch's allocations on a GPU, in both cases above what it held before (libraries, weights, the optimisers' state, the
batch). Times on a CPU are CPU time of one thread, the sizes taking turns; on a GPU wall time. Blocks are not compiled.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from adit.batch import SystemBatch, gather
from adit.config import Recipe
from adit.data.packed import PackedDataset
from adit.flow.solver import time_grid
from adit.generate import choose_device, half_precision
from adit.models.denoiser import Denoiser
from adit.models.dit import MOLECULE, DiT
from adit.models.vae import VAE
from adit.ops.dispatch import kernels
from adit.ops.packing import Packing
from adit.recipes import RECIPES, get_recipe
from adit.system import AtomicSystem
from adit.train.dit import DiTLoss
from adit.train.optim import make_optimizers
from adit.train.vae import VAELoss
from baselines import report
from baselines.timing import Bench, counting

ATOMS = (9, 18, 29, 44, 90, 181)
"""QM9's heavy atoms, mean and largest; GEOM-DRUGS' mean, twice that, and largest (181)."""
WORK = {"vae": "autoencoder step", "dit": "DiT step", "sample": "sampling evaluation"}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measurement.

    Attributes:
        work: a key of `WORK`; a step is the loss, its gradient and the optimisers.
        atoms: in each molecule.
        molecules: in the batch.
        milliseconds: of a step or evaluation, the median.
        mebibytes: the peak above what the process held before; NaN where the system does not say.
        gflop: of a step or evaluation without the optimisers, a multiply-add being two.
    """

    work: str
    atoms: int
    molecules: int
    milliseconds: float
    mebibytes: float
    gflop: float


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--atoms", nargs="+", type=int, default=list(ATOMS))
    parser.add_argument("--tokens", type=int, default=2048, help="atoms in a batch, about")
    parser.add_argument("--recipe", choices=list(RECIPES), default="joint-tiny", help="whose networks")
    parser.add_argument("--repeats", type=int, default=3, help="of which the median is taken")
    parser.add_argument("--rounds", type=int, default=2, help="over all sizes, so that they take turns")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results", help="folder for the CSV file")
    parser.add_argument("--docs", type=Path, help="document to fill; the plot goes to images/ beside it")
    parser.add_argument("--quick", action="store_true", help="seconds: does it run?")
    parser.add_argument("--one", nargs=2, metavar=("WORK", "ATOMS"), help=argparse.SUPPRESS)
    return parser.parse_args(words)


Ready = Callable[[SystemBatch], Callable[[bool], None]]
"""A batch to a function that takes one step or evaluation; with False without the optimisers."""


def molecules(atoms: int, tokens: int) -> SystemBatch:
    """About so many atoms in random molecules of one size; the networks' cost depends on nothing else."""
    rng = np.random.default_rng(0)
    count = max(1, round(tokens / atoms))
    made = (AtomicSystem(rng.choice([1, 6, 7, 8], atoms), rng.normal(0, 3, (atoms, 3))) for _ in range(count))
    data = PackedDataset.from_systems(made)
    return gather(data, np.arange(count))


def training(work: str, recipe: Recipe, device: torch.device) -> Ready:
    """Steps of a stage as `adit.train.loop` takes them."""
    vae = VAE(recipe.vae).to(device)
    if work == "vae":
        model: torch.nn.Module = vae
        loss: Any = VAELoss(vae, recipe.vae_loss)
        config = recipe.vae_train
    else:
        model = dit = DiT(recipe.dit).to(device)
        loss, config = DiTLoss(dit, vae, recipe.flow), recipe.dit_train
    optimizers = make_optimizers(model, config.optim)
    generator = torch.Generator(device).manual_seed(0)
    bf16 = half_precision(device) == torch.bfloat16

    def step(batch: SystemBatch, update: bool) -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            loss_B, _ = loss(batch, generator)
        loss_B.mean().backward()
        for optimizer in optimizers if update else []:
            optimizer.step()
        model.zero_grad(set_to_none=True)

    return lambda batch: partial(step, batch)


def sampling(recipe: Recipe, device: torch.device) -> Ready:
    """Unguided evaluations as `adit.Generator` makes them: packed and as a CUDA graph where the kernels can run."""
    denoiser = Denoiser(DiT(recipe.dit).to(device), half_precision(device))
    grid = time_grid(2)[:-1]
    with torch.inference_mode():
        schedule = denoiser.schedule(grid, [MOLECULE])

    @torch.inference_mode()
    def ready(batch: SystemBatch) -> Callable[[bool], None]:
        count, atoms = batch.numbers.shape
        x, network = torch.randn(count, atoms, recipe.dit.latent_dim, device=device), schedule.of_one_size()
        if kernels(denoiser.dit.impl, x, denoiser.dit.head_size) is not None:
            network = schedule.packed(Packing.uniform(count, atoms, device), graph=device.type == "cuda")
            x = x.view(1, count * atoms, -1)

        @torch.inference_mode()
        def evaluation(_: bool) -> None:
            network(x, grid[0], x)

        return evaluation

    return ready


def measure(work: str, atoms: int, options: argparse.Namespace) -> Row:
    """In this process, which must have measured nothing before."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    device, recipe = choose_device(options.device), get_recipe(options.recipe)
    ready = sampling(recipe, device) if work == "sample" else training(work, recipe, device)
    ready(molecules(2, 4).to(device))(True)  # loads libraries, makes the optimisers' state
    batch = molecules(atoms, options.tokens).to(device)
    held = _held(device)
    run = ready(batch)
    run(True)
    times = []
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    bench = Bench(device=device, bf16=True, batch=0)
    for _ in range(options.repeats):
        bench.wait()
        start = clock()
        run(True)
        bench.wait()
        times.append(clock() - start)
    peak = float(torch.cuda.max_memory_allocated()) if device.type == "cuda" else _status("VmHWM")
    with counting() as counter:
        run(False)
    return Row(
        work=work,
        atoms=atoms,
        molecules=batch.n_systems,
        milliseconds=1000 * statistics.median(times),
        mebibytes=(peak - held) / 2**20,
        gflop=counter.get_total_flops() / 1e9,
    )


def _held(device: torch.device) -> float:
    """Bytes in use now; peaks count from here on."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return float(torch.cuda.memory_allocated())
    with suppress(OSError, AttributeError):  # glibc: what was freed would be used again, and not be seen
        ctypes.CDLL(None).malloc_trim(0)
    with suppress(OSError):  # proc(5): 5 resets the peak
        Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _status(name: str) -> float:
    """Of /proc; `ru_maxrss` would begin with the parent's, which a child inherits."""
    path = Path("/proc/self/status")
    lines = path.read_text().splitlines() if path.is_file() else []
    return next((1024 * float(line.split()[1]) for line in lines if line.startswith(f"{name}:")), float("nan"))


def apart(work: str, atoms: int, options: argparse.Namespace) -> Row:
    """`measure` in a process of its own."""
    words = ["--one", work, str(atoms), "--device", options.device, "--recipe", options.recipe]
    words += ["--tokens", str(options.tokens), "--repeats", str(options.repeats)]
    done = subprocess.run([sys.executable, __file__, *words], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{WORK[work]} at {atoms} atoms failed")
    return Row(**json.loads(done.stdout))


def together(rows: list[Row]) -> Row:
    """The rounds of one measurement: medians."""
    of = {name: statistics.median(getattr(row, name) for row in rows) for name in ("milliseconds", "mebibytes")}
    return replace(rows[0], **of)


def markdown(rows: list[Row], options: argparse.Namespace, about: dict[str, str]) -> str:
    """The section of the docs."""
    sizes = list(dict.fromkeys(row.atoms for row in rows))
    headings = [
        "atoms",
        "molecules",
        *(f"{label}, {unit}" for label in WORK.values() for unit in ("ms", "GFLOP", "MiB")),
    ]
    lines = [f"| {' | '.join(headings)} |", "|" + "---|" * len(headings)]
    for size in sizes:
        of = [row for row in rows if row.atoms == size]
        cells = [str(size), str(of[0].molecules)]
        for row in of:
            memory = f"{row.mebibytes:,.0f}" if row.mebibytes == row.mebibytes else "?"
            cells += [f"{row.milliseconds:,.3g}", f"{row.gflop:,.0f}", memory]
        lines.append(f"| {' | '.join(cells)} |")
    kind = "wall time" if about["device"] == "cuda" else "CPU time"
    measured = (
        f"Measured {about['date']} on {about['machine']}, {about['device']}, {about['threads']} threads, {kind}, "
        f"matrix products in {about['products']}, torch {about['torch']}, commit {about['commit']}; networks of "
        f"{options.recipe}, not compiled; about {options.tokens:,} atoms in a batch."
    )
    return "\n\n".join([measured, "\n".join(lines), f"![size](images/size-{about['device']}.png)"])


def plot(path: Path, rows: list[Row], about: dict[str, str]) -> None:
    """Time and memory against atoms in a molecule, a line for each kind of work."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
    for axis, name, label in zip(axes, ("milliseconds", "mebibytes"), ("ms", "MiB, peak"), strict=True):
        for work, title in WORK.items():
            of = [row for row in rows if row.work == work]
            axis.plot([row.atoms for row in of], [getattr(row, name) for row in of], marker="o", label=title)
        ticks = sorted({row.atoms for row in rows})
        axis.set(xscale="log", xlabel="atoms in a molecule, at equal atoms in a batch", ylabel=label)
        axis.set_ylim(bottom=0)
        axis.set_xticks(ticks, [str(tick) for tick in ticks])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    figure.suptitle(f"{about['machine']}, {about['device']}, {about['date']}", fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def main(words: list[str] | None = None) -> None:
    options = arguments(words)
    if options.one:
        print(json.dumps(asdict(measure(options.one[0], int(options.one[1]), options))))
        return
    if options.quick:
        options.atoms, options.tokens, options.repeats, options.rounds = options.atoms[:1], 64, 1, 1
        options.recipe = "joint-test"
    torch.set_num_threads(1)
    device = choose_device(options.device)
    found: dict[tuple[int, str], list[Row]] = {(atoms, work): [] for atoms in options.atoms for work in WORK}
    for _ in range(options.rounds):
        for (atoms, work), rows in found.items():
            rows.append(apart(work, atoms, options))
            report.say(f"{WORK[work]}, {atoms} atoms: {rows[-1].milliseconds:.4g} ms, {rows[-1].mebibytes:.4g} MiB")
    rows = [together(of) for of in found.values()]
    about = report.machine(Bench(device=device, bf16=half_precision(device) == torch.bfloat16, batch=0))
    report.write_csv(options.out / f"size-{device.type}.csv", rows, about)
    plot((options.docs or options.out / "x").parent / "images" / f"size-{device.type}.png", rows, about)
    text = markdown(rows, options, about)
    print(text)
    if options.docs:
        report.fill(options.docs, f"size {device.type}", text)


if __name__ == "__main__":
    main()
