"""From noise to molecules and crystals."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from adit.errors import BackendUnavailableError, InvalidInputError
from adit.flow.guidance import Network, guidance_labels, guided
from adit.flow.solver import SOLVERS, integrate, time_grid
from adit.models.denoiser import Denoiser, Schedule
from adit.models.dit import CRYSTAL, MOLECULE, NULL
from adit.models.layers import set_impl
from adit.models.vae import Decoded
from adit.ops.dispatch import BFLOAT16_CAPABILITY, Impl, kernels
from adit.ops.packing import Packing
from adit.prior import Choices, choose_from
from adit.system import AtomicSystem
from adit.weights.store import Pretrained, SamplingDefaults, load_pretrained

if TYPE_CHECKING:
    from numpy.typing import NDArray

SYSTEMS = ("molecule", "crystal")
DEFAULT_WEIGHTS = "joint-tiny"
_BLOCK_ON_CPU, _BLOCK_ON_GPU = 512, 8192
_GROUP_ON_CPU = 128  # systems of one size that a thread takes at a time
_Item = TypeVar("_Item")
_END = object()
_LABELS = {"molecule": MOLECULE, "crystal": CRYSTAL}


@dataclass(frozen=True)
class _Group:
    """Samples of one size: their numbers, the composition each is told, and its stream of random numbers."""

    size: int
    indices: list[int]
    counts: list[NDArray[np.int64] | None]
    streams: list[np.random.Generator]


@dataclass(frozen=True)
class _Run:
    """What is the same for all samples of a call of `Generator.stream`; `schedules` of the network, then its guide."""

    system: str
    seed: int
    settings: SamplingDefaults
    choices: Choices
    schedules: list[Schedule]

    def groups(self, indices: range, largest: int | None) -> list[_Group]:
        """The samples by size, in groups of at most `largest`."""
        of_size: dict[int, list[tuple[int, NDArray[np.int64] | None, np.random.Generator]]] = {}
        for index in indices:
            stream = np.random.default_rng([self.seed, SYSTEMS.index(self.system), index])
            size, counts = self.choices.draw(stream)
            of_size.setdefault(size, []).append((index, counts, stream))
        groups = []
        for size, members in sorted(of_size.items()):
            step = largest or len(members)
            for begin in range(0, len(members), step):
                part = members[begin : begin + step]
                groups.append(_Group(size, *(list(column) for column in zip(*part, strict=True))))
        return groups

    def counts(self, groups: list[_Group], device: torch.device) -> Tensor | None:
        """The composition that each system of the groups is told: (B, 100)."""
        told = [counts for group in groups for counts in group.counts if counts is not None]
        return torch.from_numpy(np.stack(told)).to(device) if told else None


class Generator:
    """Samples molecules and crystals from trained weights.

    Sample number k of a seed has the same number of atoms and the same noise whatever `n` and the block size
    are. On the same machine, made in the same block (same block size; a last, shorter block counts as another),
    its coordinates are the same to the last bit; else they differ by what rounding makes of them.
    """

    def __init__(
        self, weights: Pretrained, device: str = "auto", threads: int | None = None, impl: Impl = "auto"
    ) -> None:
        """See `from_pretrained`."""
        if threads is not None:
            if threads < 1:
                raise InvalidInputError(f"`threads` must be at least 1; got {threads}")
            torch.set_num_threads(threads)
        self.weights = weights
        self.device = choose_device(device)
        self.model = weights.model.to(self.device).eval()
        self.denoiser = Denoiser(self.model.dit, half_precision(self.device))
        self.denoiser.dit.impl = impl
        self.guide = Denoiser(self.model.guide, self.denoiser.dtype) if self.model.guide is not None else None
        if self.guide is not None:
            self.guide.dit.impl = impl
        set_impl(self.model.decoder, impl)
        self._packs  # noqa: B018  impl="triton" that cannot run is refused here

    @classmethod
    def from_pretrained(
        cls,
        weights: str | os.PathLike[str] = DEFAULT_WEIGHTS,
        *,
        device: str = "auto",
        threads: int | None = None,
        impl: Impl = "auto",
    ) -> Generator:
        """Weights by name (built in) or folder.

        Args:
            weights: a name or a folder.
            device: "auto", "cpu", "cuda", "cuda:1", ...
            threads: of the CPU.
            impl: of the network's blocks: "triton" for the kernels of `adit-kernels`, "reference" for plain
                torch, "auto" for the kernels where they can run.

        Raises:
            CheckpointError: unknown, missing or damaged weights.
            BackendUnavailableError: the device is not there, or impl="triton" cannot run on it.
        """
        return cls(load_pretrained(weights), device, threads, impl)

    @property
    def defaults(self) -> Mapping[str, SamplingDefaults]:
        """For "molecule" and "crystal": steps, solver and scales of guidance that measured best for these weights."""
        return self.weights.defaults

    def block_size(self, batch_size: int | None = None) -> int:
        """Systems that are generated together."""
        if batch_size is None:
            return _BLOCK_ON_CPU if self.device.type == "cpu" else _BLOCK_ON_GPU
        return _integer("batch_size", batch_size, 1)

    def sample(self, n: int, system: str = "molecule", **options: Any) -> list[AtomicSystem]:
        """`n` systems; options as in `stream`."""
        _integer("n", n, 1)
        return [item for block in self.stream(n, system, **options) for item in block]

    def stream(
        self,
        n: int | None,
        system: str = "molecule",
        *,
        start: int = 0,
        seed: int = 0,
        steps: int | None = None,
        solver: str | None = None,
        cfg: float | None = None,
        guide: float | None = None,
        atoms: int | tuple[int, int] | None = None,
        formula: str | None = None,
        batch_size: int | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Iterator[list[AtomicSystem]]:
        """Blocks of systems, in order, as they are made.

        Args:
            n: how many in all; None for no end.
            system: "molecule" or "crystal".
            start: go on from this sample; a multiple of the block size.
            seed: any non-negative integer.
            steps: solver steps; default as the weights say for this kind of system, as for the next three.
            solver: one of `adit.flow.solver.SOLVERS`.
            cfg: scale of classifier-free guidance; 1 is none.
            guide: scale of guidance by the smaller network that comes with some weights; 1 is none.
            atoms: number of atoms, or a range (smallest, largest); default as in the training set.
            formula: of the whole molecule or cell, such as "C7H10O2" or "Ti4O8", which the network is told (and
                nearly always keeps to, once trained); "training" for the formulas of the training set, each as often
                as there; "new", of crystals, for these with one element exchanged (`adit.prior.Substituted`); "any"
                leaves the elements to the network. Default as the weights say.
            batch_size: systems in a block.
            progress: called with the number of systems that were made since its last call.

        Raises:
            InvalidInputError: an option is out of range; names it.
        """
        defaults = self.defaults.get(system, SamplingDefaults())
        settings = SamplingDefaults(
            steps=defaults.steps if steps is None else steps,
            solver=defaults.solver if solver is None else solver,
            cfg=defaults.cfg if cfg is None else cfg,
            guide=defaults.guide if guide is None else guide,
            formula=defaults.formula if formula is None else formula,
        )
        block = self.block_size(batch_size)
        _check(n, system, start, seed, settings, block)
        if not self.weights.atom_counts.get(system):
            known = ", ".join(sorted(self.weights.atom_counts))
            raise InvalidInputError(
                f"the weights {self.weights.name!r} were not trained for {system!r}; known: {known}"
            )
        if settings.guide != 1 and self.guide is None:
            raise InvalidInputError(f"the weights {self.weights.name!r} have no guide; leave `guide` out, or at 1")
        choices = choose_from(self.weights, system, settings.formula, atoms)
        with torch.inference_mode():
            times, labels = time_grid(settings.steps)[:-1], guidance_labels(_LABELS[system], NULL, settings.cfg)
            schedules = [self.denoiser.schedule(times, labels)]
            if settings.guide != 1 and self.guide is not None:
                schedules.append(self.guide.schedule(times, labels[:1]))
        blocks = self._blocks(_Run(system, seed, settings, choices, schedules), n, start, block, progress)
        return blocks if self.device.type == "cpu" else one_ahead(blocks)

    def _blocks(
        self, run: _Run, n: int | None, start: int, block: int, progress: Callable[[int], None] | None
    ) -> Iterator[list[AtomicSystem]]:
        while n is None or start < n:
            indices = range(start, start + block if n is None else min(n, start + block))
            yield self._block(run, indices, progress)
            start += block

    def _block(self, run: _Run, indices: range, progress: Callable[[int], None] | None) -> list[AtomicSystem]:
        groups = run.groups(indices, _GROUP_ON_CPU if self.device.type == "cpu" else None)
        out: dict[int, AtomicSystem] = {}
        with _current(self.device):
            for group, systems in self._together(run, groups) if self._packs else self._apart(run, groups):
                for index, system in zip(group.indices, systems, strict=True):
                    out[index] = replace(system, info={"index": index, "seed": run.seed})
                if progress is not None:
                    progress(len(systems))
        return [out[index] for index in indices]

    @torch.inference_mode()
    def _together(self, run: _Run, groups: list[_Group]) -> Iterator[tuple[_Group, list[AtomicSystem]]]:
        """All groups in one packed batch."""
        packing = Packing.from_lengths([group.size for group in groups for _ in group.indices], self.device)
        with ThreadPoolExecutor() as pool:  # numpy draws without the interpreter's lock
            drawn = list(pool.map(partial(self._noise, run), groups))
        noise = torch.cat([part.flatten(1, 2) for part in drawn], 1)[:, None]
        counts = run.counts(groups, self.device)
        graph = self.device.type == "cuda"
        networks = [schedule.packed(packing, counts, graph) for schedule in run.schedules]
        latents = self._integrate(run, networks, noise)[0]
        parts = torch.split(latents, [group.size * len(group.indices) for group in groups])
        for group, part in zip(groups, parts, strict=True):
            own = run.counts([group], self.device)
            yield group, self._decode(run, part.view(-1, group.size, part.shape[-1]), own)

    def _apart(self, run: _Run, groups: list[_Group]) -> Iterator[tuple[_Group, list[AtomicSystem]]]:
        """Each group by itself; on a CPU by a thread of its own, since its products are too small to share."""
        threads = torch.get_num_threads()
        workers = threads if self.device.type == "cpu" else 1
        largest_first = sorted(groups, key=lambda group: -group.size * len(group.indices))
        pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(threads // workers,))
        try:
            futures = {pool.submit(self._alone, run, group): group for group in largest_first}
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(threads)

    @torch.inference_mode()
    def _alone(self, run: _Run, group: _Group) -> list[AtomicSystem]:
        with _current(self.device):
            counts = run.counts([group], self.device)
            networks = [schedule.of_one_size(counts) for schedule in run.schedules]
            return self._decode(run, self._integrate(run, networks, self._noise(run, group)), counts)

    def _noise(self, run: _Run, group: _Group) -> Tensor:
        """(draws, B, size, latent dimensions), each system's from its own stream."""
        draws = run.settings.steps if run.settings.solver == "ancestral" else 1
        shape = (draws, group.size, self.model.latent_mean.shape[0])
        drawn = np.stack([stream.standard_normal(shape, np.float32) for stream in group.streams], axis=1)
        return torch.from_numpy(drawn).to(self.device)

    def _integrate(self, run: _Run, networks: list[Network], noise: Tensor) -> Tensor:
        draws, settings = iter(noise), run.settings
        network, *guide = networks
        predict, grid = guided(network, settings.cfg, settings.guide, *guide), time_grid(settings.steps)
        latents = integrate(predict, next(draws), grid, settings.solver, lambda _: next(draws))
        if not latents.isfinite().all():
            raise InvalidInputError(
                f"the samples ran to infinity with steps={settings.steps}, solver={settings.solver!r}, "
                f"cfg={settings.cfg}, guide={settings.guide}; choose smaller scales (cfg 1 to 4 and guide 1 to 2 are "
                "usual) or the defaults of the weights"
            )
        return latents

    def _decode(self, run: _Run, latents: Tensor, counts: Tensor | None) -> list[AtomicSystem]:
        """In float32: bfloat16 would round coordinates to 0.01 Angstrom and a cell's angles to 0.2 degrees.

        Crystals get the composition that was told: elements that are exchanged leave a crystal that can be one, while a
        molecule with an atom too many would only be forced into a broken one.
        """
        model = self.model
        periodic = torch.full((len(latents),), run.system == "crystal", device=self.device)
        decoded = Decoded(*model.decoder(latents * model.latent_std + model.latent_mean, periodic))
        return decoded.to_systems(periodic, counts if run.system == "crystal" else None)

    @property
    def _packs(self) -> bool:
        """Whether systems of different sizes go through the network together, which needs the packed kernels."""
        return kernels(self.denoiser.dit.impl, self.model.latent_mean, self.denoiser.dit.limit) is not None


def one_ahead(items: Iterator[_Item]) -> Iterator[_Item]:
    """The same items; the next is made in a thread of its own while the last is used: written, judged, ...

    So the device works on while the host does. On a CPU they would only compete.
    """
    with ThreadPoolExecutor(1) as worker:
        coming = worker.submit(next, items, _END)
        while (item := coming.result()) is not _END:
            coming = worker.submit(next, items, _END)
            yield cast("_Item", item)


def _current(device: torch.device) -> AbstractContextManager[object]:
    """Makes a GPU the one that this thread's kernels and graphs go to."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def half_precision(device: torch.device) -> torch.dtype:
    """bfloat16 where the hardware multiplies it, else float32."""
    if device.type == "cuda":
        fast = torch.cuda.get_device_capability(device) >= BFLOAT16_CAPABILITY
    else:
        fast = device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if fast else torch.float32


def choose_device(name: str) -> torch.device:
    """ "auto", "cpu", "cuda", "cuda:1", ...: "auto" is the first GPU where there is one, else the CPU.

    Raises:
        InvalidInputError: no such name.
        BackendUnavailableError: the GPU is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InvalidInputError(f"`device` must be 'auto', 'cpu', 'cuda' or 'cuda:N'; got {name!r}") from error
    if device.type not in ("cpu", "cuda"):
        raise InvalidInputError(f"`device` must be 'auto', 'cpu', 'cuda' or 'cuda:N'; got {name!r}")
    if device.type == "cuda" and (device.index or 0) >= (count := torch.cuda.device_count()):
        raise BackendUnavailableError(f"`device` is {name!r}, but torch finds {count} CUDA devices; use --device cpu")
    return device


def _integer(name: str, value: Any, smallest: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < smallest:
        raise InvalidInputError(f"`{name}` must be a whole number of at least {smallest}; got {value!r}")
    return int(value)


def _check(n: int | None, system: str, start: int, seed: int, settings: SamplingDefaults, block: int) -> None:
    if n is not None:
        _integer("n", n, 1)
    if system not in SYSTEMS:
        raise InvalidInputError(f"unknown system {system!r}; known: {', '.join(SYSTEMS)}")
    _integer("seed", seed, 0)
    if _integer("start", start, 0) % block:
        raise InvalidInputError(f"`start` must be a multiple of the block size {block}; got {start}")
    _integer("steps", settings.steps, 1)
    if settings.solver not in SOLVERS:
        raise InvalidInputError(f"unknown solver {settings.solver!r}; known: {', '.join(SOLVERS)}")
    for name in ("cfg", "guide"):
        scale = getattr(settings, name)
        if not isinstance(scale, int | float) or not np.isfinite(scale):
            raise InvalidInputError(f"`{name}` must be a finite number; got {scale!r}")
