"""The training loop that all stages share."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn

from adit.batch import SystemBatch, gather
from adit.config import TrainConfig
from adit.data.packed import PackedDataset
from adit.data.resident import ResidentDataset, send
from adit.data.sampler import TokenBudgetSampler
from adit.errors import TrainingDivergedError
from adit.models.layers import DiTBlock, TransformerBlock
from adit.train.checkpoint import Saver, list_checkpoints, load_checkpoint, read_state
from adit.train.graphs import Batch, Graphs
from adit.train.latents import LatentPool, PropertyPool
from adit.train.meter import NO_END, Budget, Meter
from adit.train.optim import EMA, make_optimizers, schedule

Indices = np.ndarray[Any, np.dtype[np.int64]]

Loss = Callable[[Any, torch.Generator], tuple[Tensor, dict[str, Tensor]]]
"""A `Batch` to the loss of each system (B,), with gradient, and further terms (B,) to log."""

Validate = Callable[[nn.Module], dict[str, float]]
"""The averaged model to figures; called with the EMA weights in place."""


@dataclass(kw_only=True)
class Trainer:
    """Trains `model`; everything random follows from the seed and the step, so a resumed run is the same run.

    Attributes:
        model: what is trained and averaged.
        loss: see `Loss`.
        data: the training set.
        config: steps, budget, optimiser.
        folder: where checkpoints, `log.csv` and TensorBoard events go.
        header: JSON stored in each checkpoint (configuration, data).
        validate: figures on held-out data, or None.
        device: where the model lives.
        budget: time for the whole run, which then sets the number of steps; a resumed run goes on spending.
        pool: the training set's latents; of a `LatentPool` a group is a packed batch of systems of any sizes.
    """

    model: nn.Module
    loss: Loss
    data: PackedDataset
    config: TrainConfig
    folder: Path
    header: dict[str, Any]
    validate: Validate | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    budget: Budget | None = None
    pool: LatentPool | PropertyPool | None = None
    _unchecked: list[tuple[int, list[Indices], list[Tensor], Tensor]] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self.meter = Meter(self.device, {})
        self.graphs: Graphs | None = None
        if self.config.cuda_graphs and self.device.type != "cuda":
            self.config = replace(self.config, cuda_graphs=False)

    def run(self, resume: bool = False, stop_at: int | None = None) -> int:
        """Trains to the last step (or to `stop_at`) and returns the step reached.

        Raises:
            TrainingDivergedError: the loss or its gradient is not finite; names the step and the systems.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.config.compile:
            compile_blocks(self.model)
        optimizers = make_optimizers(self.model, self.config.optim)
        ema = EMA(self.model, self.config.optim.ema_decay)
        start, budget = 0, self.budget
        if resume and (found := list_checkpoints(self.folder)):
            start = load_checkpoint(found[-1], self.model, ema, optimizers)
            state = read_state(found[-1])
            self.meter = Meter(self.device, state.get("window", {}))
            if budget is not None:
                budget.resume(state.get("seconds", 0.0))
        if budget is not None:
            self.config = replace(self.config, steps=budget.steps(start))
        self.graphs = None  # they replay with the generator of the run that captured them
        log = Log(self.folder, start)
        generator = torch.Generator(self.device)
        done = start
        with Saver() as saver:
            for step, groups in enumerate(islice(self.sampler(), start, None), start):
                if step >= self._last(stop_at):
                    break
                self._step(step, groups, optimizers, generator)
                ema.update(self.model, step)
                done = step + 1
                if budget is not None:
                    self.config = replace(self.config, steps=budget.steps(done))
                self._report(done, stop_at, log, ema, optimizers, saver)
        log.close()
        return done

    def _last(self, stop_at: int | None) -> int:
        return self.config.steps if stop_at is None else min(self.config.steps, stop_at)

    def _report(
        self, done: int, stop_at: int | None, log: Log, ema: EMA, optimizers: list[torch.optim.Optimizer],
        saver: Saver,
    ) -> None:  # fmt: skip
        """Log, checkpoint and validation, where they are due after `done` steps."""
        config, budget, last = self.config, self.budget, self._last(stop_at)
        if self.device.type == "cpu" or done % config.log_every == 0 or done == last:
            self._check()
        spent = {} if budget is None else {"seconds": budget.spent()}
        if done % config.log_every == 0 or done == config.steps:
            log.write(done, config.steps, {**self.meter.read(), **spent})
        if done % config.checkpoint_every == 0 or done == last:
            self._check()
            header = {**self.header, "steps": config.steps, "window": self.meter.state(), **spent}
            saver.save(self.folder, done, self.model, ema, optimizers, header)
        if self.validate is None:
            return
        if budget is not None and budget.marks:
            if budget.mark():
                with budget.paused():
                    log.validation(done, {**self._validate(ema), **spent})
        elif done % config.validate_every == 0 or done == config.steps:
            log.validation(done, self._validate(ema))

    def sampler(self) -> TokenBudgetSampler:
        """The systems of each step, from step 0."""
        config = self.config
        step, group = config.tokens_per_step, config.tokens_per_group
        if mixed := isinstance(self.pool, LatentPool):  # whose groups are nearly full
            step, group = max(1, round(step / group)) * (self.pool.tokens - self.pool.max_length), self.pool.tokens
        return TokenBudgetSampler(
            self.data.sizes,
            np.asarray(self.data.periodic),
            step,
            group,
            config.crystal_fraction,
            config.seed,
            mixed=mixed,
        )

    @cached_property
    def fetch(self) -> Callable[[Indices, torch.Generator], Batch]:
        """Gives the batch of a group: in Rust for the CPU; from a copy of the data set that lives on a GPU."""
        data = self.data
        if self.pool is not None:
            return self.pool.batch
        if self.device.type == "cpu":
            return lambda group, _: gather(data, group)
        resident = ResidentDataset.from_packed(data, self.device)
        return lambda group, _: resident.batch(send(group, self.device), int(data.sizes[group[0]]))

    def _step(
        self,
        step: int,
        groups: list[Indices],
        optimizers: list[torch.optim.Optimizer],
        generator: torch.Generator,
    ) -> None:
        """One update from the gradients of all groups, each atom weighing the same. Waits for no GPU."""
        rate = schedule(step, self.config.steps, self.config.optim)
        for optimizer in optimizers:
            for param_group in optimizer.param_groups:
                param_group["lr"] = rate * param_group["peak_lr"]
        generator.manual_seed(self.config.seed * 1_000_003 + step)
        total_atoms = sum(int(self.data.sizes[group].sum()) for group in groups)
        factor = torch.full((), 1 / total_atoms, device=self.device)
        losses: list[Tensor] = []
        for group in groups:
            batch = self.fetch(group, generator)
            loss_B, terms = self.gradients(batch, generator, factor)
            losses.append(loss_B.clone())
            self.meter.add_batch(losses[-1], terms, batch)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.optim.gradient_clip)
        self._unchecked.append((step, groups, losses, norm.detach()))
        if self.device.type == "cpu":
            self._check()  # before the update, which would spread a NaN
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=not self.config.cuda_graphs)
        self.meter.add("gradient", norm.detach())
        self.meter.add("atoms", total_atoms)
        self.meter.add("lr", rate)

    def gradients(self, batch: Batch, generator: torch.Generator, factor: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Adds a batch's gradients, times `factor`, to the parameters'; gives the loss of each system and its terms."""
        if not self.config.cuda_graphs:
            return self._gradients(batch, generator, factor)
        if self.graphs is None:
            self.graphs = Graphs(self._gradients, self.model, generator)
        return self.graphs(batch, factor)

    def _gradients(self, batch: Batch, generator: torch.Generator, factor: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        with _stance(batch), torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.bf16):
            loss_B, terms = self.loss(batch, generator)
        ((loss_B * batch.sizes).sum() * factor).backward()  # type: ignore[no-untyped-call]
        return loss_B.detach(), {name: value.detach() for name, value in terms.items()}

    def _check(self) -> None:
        """Looks at the losses and gradients of the steps since it last did.

        Raises:
            TrainingDivergedError: one is not finite.
        """
        unchecked, self._unchecked = self._unchecked, []
        for step, groups, losses, norm in unchecked:
            for group, loss_B in zip(groups, losses, strict=True):
                if not torch.isfinite(loss_B).all():
                    raise TrainingDivergedError(self._blame(step, group, loss_B))
            if not torch.isfinite(norm):
                raise TrainingDivergedError(
                    f"the gradient of step {step} is not finite, though the loss is; it holds "
                    f"{self._names(np.concatenate(groups))}. Lower the learning rate, or look at these systems"
                )

    def _blame(self, step: int, group: Indices, loss_B: Tensor) -> str:
        # a packed batch has rows of other things
        bad = group[(~torch.isfinite(loss_B)).cpu().numpy()] if not isinstance(self.pool, LatentPool) else group
        sizes = np.unique(self.data.sizes[group])
        atoms = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
        return (
            f"the loss of step {step} is not finite for {len(bad)} of {len(group)} systems of {atoms} atoms: "
            f"{self._names(bad)}. Lower the learning rate, or look at these systems"
        )

    def _names(self, indices: Indices) -> str:
        """Systems as messages name them: by `id` where the data has one, the first few of many."""
        ids = self.data.properties.get("id")
        names = [str(ids[k]) if ids is not None else f"system {k}" for k in dict.fromkeys(indices.tolist())]
        return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")

    def _validate(self, ema: EMA) -> dict[str, float]:
        """Figures of the averaged weights; the trained ones come back afterwards."""
        assert self.validate is not None
        current = EMA(self.model, 0.0)
        ema.copy_to(self.model)
        self.model.eval()
        try:
            with torch.no_grad():
                return self.validate(self.model)
        finally:
            self.model.train()
            current.copy_to(self.model)


def compile_blocks(model: nn.Module) -> None:
    """Compiles the Transformer blocks in place. All blocks share one compilation, so it takes seconds."""
    torch._dynamo.config.recompile_limit = 64
    for module in model.modules():
        if isinstance(module, TransformerBlock | DiTBlock):
            module.compile(dynamic=True)


def _stance(batch: Batch) -> AbstractContextManager[Any]:
    """Lone systems and lone atoms run uncompiled: each would cost a compilation of its own."""
    rare = isinstance(batch, SystemBatch) and (batch.n_systems == 1 or batch.n_atoms == 1)
    return torch.compiler.set_stance("force_eager") if rare else nullcontext()


_COLUMNS = ("step", "kind", "name", "value")


class Log:
    """Console, `log.csv` and, where it is installed, TensorBoard."""

    def __init__(self, folder: Path, start: int) -> None:
        self.folder, self.console = folder, Console()
        self.written = start
        self.clock = time.monotonic()
        self.path = folder / "log.csv"
        _truncate_log(self.path, start)
        try:
            from torch.utils.tensorboard.writer import SummaryWriter

            self.board: Any = SummaryWriter(str(folder), purge_step=start)
        except ImportError:
            self.board = None

    def write(self, step: int, steps: int, means: dict[str, float]) -> None:
        """Means of the steps since the last call."""
        seconds = (time.monotonic() - self.clock) / max(1, step - self.written)
        means["atoms_per_second"] = means.pop("atoms") / seconds
        self._record(step, "train", means)
        shown = "  ".join(f"{name} {value:.4g}" for name, value in means.items())
        place = f"{step}" if steps == NO_END else f"{step}/{steps}"
        self.console.print(f"[bold]step {place}[/]  {seconds:.2f} s  {shown}", highlight=False, soft_wrap=True)
        self.written, self.clock = step, time.monotonic()

    def validation(self, step: int, figures: dict[str, float]) -> None:
        self._record(step, "validation", figures)
        shown = "  ".join(f"{name} {value:.4g}" for name, value in figures.items())
        self.console.print(f"[bold green]step {step} validation[/]  {shown}", highlight=False, soft_wrap=True)
        self.written, self.clock = step, time.monotonic()

    def _record(self, step: int, kind: str, values: dict[str, float]) -> None:
        new = not self.path.exists()
        with self.path.open("a", newline="") as handle:
            writer = csv.writer(handle)
            if new:
                writer.writerow(_COLUMNS)
            writer.writerows([step, kind, name, f"{value:.9g}"] for name, value in values.items())
        if self.board is not None:
            for name, value in values.items():
                self.board.add_scalar(f"{kind}/{name}", value, step)

    def close(self) -> None:
        if self.board is not None:
            self.board.close()


def _truncate_log(path: Path, start: int) -> None:
    """Drops the rows that a resumed run will write again."""
    if not path.exists():
        return
    if start == 0:
        path.unlink()
        return
    with path.open(newline="") as handle:
        rows = [row for row in csv.reader(handle) if len(row) == len(_COLUMNS) and row[0].isdecimal()]
    partial = path.with_suffix(".partial")
    with partial.open("w", newline="") as handle:
        csv.writer(handle).writerows([_COLUMNS, *(row for row in rows if int(row[0]) <= start)])
    partial.replace(path)
