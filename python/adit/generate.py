"""From noise to molecules and crystals."""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from adit.errors import BackendUnavailableError, InvalidInputError
from adit.flow.guidance import guided
from adit.flow.solver import SOLVERS, integrate, time_grid
from adit.models.dit import CRYSTAL, MOLECULE, NULL
from adit.models.vae import Decoded
from adit.system import AtomicSystem
from adit.weights.store import Pretrained, SamplingDefaults, load_pretrained

if TYPE_CHECKING:
    from numpy.typing import NDArray

SYSTEMS = ("molecule", "crystal")
DEFAULT_WEIGHTS = "joint-tiny"
_BLOCK_ON_CPU, _BLOCK_ON_GPU = 512, 8192


class Generator:
    """Samples molecules and crystals from trained weights.

    Sample number k of a seed has the same number of atoms and the same noise whatever `n` and the block size
    are. On the same machine, made in the same block (same block size; a last, shorter block counts as another),
    its coordinates are the same to the last bit; else they differ by what rounding makes of them.
    """

    def __init__(self, weights: Pretrained, device: str = "auto", threads: int | None = None) -> None:
        """See `from_pretrained`."""
        if threads is not None:
            if threads < 1:
                raise InvalidInputError(f"`threads` must be at least 1; got {threads}")
            torch.set_num_threads(threads)
        self.weights = weights
        self.device = choose_device(device)
        self.model = weights.model.to(self.device).eval()

    @classmethod
    def from_pretrained(
        cls, weights: str | os.PathLike[str] = DEFAULT_WEIGHTS, *, device: str = "auto", threads: int | None = None
    ) -> Generator:
        """Weights by name (built in) or folder; `device` is "auto", "cpu", "cuda", "cuda:1", ...

        Raises:
            CheckpointError: unknown, missing or damaged weights.
            BackendUnavailableError: the device is not there.
        """
        return cls(load_pretrained(weights), device, threads)

    @property
    def defaults(self) -> Mapping[str, SamplingDefaults]:
        """For "molecule" and "crystal": steps, solver and guidance scale that measured best for these weights."""
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
        atoms: int | tuple[int, int] | None = None,
        batch_size: int | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Iterator[list[AtomicSystem]]:
        """Blocks of systems, in order, as they are made.

        Args:
            n: how many in all; None for no end.
            system: "molecule" or "crystal".
            start: go on from this sample; a multiple of the block size.
            seed: any non-negative integer.
            steps: solver steps; default as the weights say for this kind of system, as for the next two.
            solver: one of `adit.flow.solver.SOLVERS`.
            cfg: scale of classifier-free guidance; 1 is none.
            atoms: number of atoms, or a range (smallest, largest); default as in the training set.
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
        )
        block = self.block_size(batch_size)
        _check(n, system, start, seed, settings, block)
        if not self.weights.atom_counts.get(system):
            known = ", ".join(sorted(self.weights.atom_counts))
            raise InvalidInputError(
                f"the weights {self.weights.name!r} were not trained for {system!r}; known: {known}"
            )
        counts = atom_distribution(self.weights.atom_counts[system], atoms)
        return self._blocks(n, system, start, seed, settings, block, counts, progress)

    def _blocks(
        self,
        n: int | None,
        system: str,
        start: int,
        seed: int,
        settings: SamplingDefaults,
        block: int,
        counts: tuple[NDArray[np.int64], NDArray[np.float64]],
        progress: Callable[[int], None] | None,
    ) -> Iterator[list[AtomicSystem]]:
        while n is None or start < n:
            indices = range(start, start + block if n is None else min(n, start + block))
            yield self._block(indices, system, seed, settings, counts, progress)
            start += block

    @torch.inference_mode()
    def _block(
        self,
        indices: range,
        system: str,
        seed: int,
        settings: SamplingDefaults,
        counts: tuple[NDArray[np.int64], NDArray[np.float64]],
        progress: Callable[[int], None] | None,
    ) -> list[AtomicSystem]:
        """One block: groups of one size, each integrated and decoded together."""
        values, probabilities = counts
        streams = [np.random.default_rng([seed, SYSTEMS.index(system), k]) for k in indices]
        sizes = np.array([rng.choice(values, p=probabilities) for rng in streams])
        out: list[AtomicSystem | None] = [None] * len(indices)
        for size in np.unique(sizes):
            members = np.flatnonzero(sizes == size)
            made_group = self._group([streams[k] for k in members], int(size), system, settings)
            for k, made in zip(members, made_group, strict=True):
                out[k] = replace(made, info={"index": indices[k], "seed": seed})
            if progress is not None:
                progress(len(members))
        return [item for item in out if item is not None]

    def _group(
        self, streams: list[np.random.Generator], size: int, system: str, settings: SamplingDefaults
    ) -> list[AtomicSystem]:
        """Systems of one size, the noise of each from its own stream."""
        draws = settings.steps if settings.solver == "ancestral" else 1
        drawn = [stream.standard_normal((draws, size, self._latent_dim), np.float32) for stream in streams]
        noises = iter(torch.from_numpy(np.stack(drawn, axis=1)).to(self.device))
        count = len(streams)
        periodic = torch.full((count,), system == "crystal", device=self.device)
        label = torch.tensor([CRYSTAL if system == "crystal" else MOLECULE], device=self.device)
        model = self.model
        with self._precision():
            predict = guided(model.dit, label, NULL, settings.cfg)
            latents = integrate(
                predict, next(noises), time_grid(settings.steps), settings.solver, lambda _: next(noises)
            )
        if not latents.isfinite().all():
            raise InvalidInputError(
                f"the samples ran to infinity with steps={settings.steps}, solver={settings.solver!r}, "
                f"cfg={settings.cfg}; choose a smaller `cfg` (1 to 4 is usual) or the defaults of the weights"
            )
        # in float32: bfloat16 would round coordinates to 0.01 Angstrom and a cell's angles to 0.2 degrees
        decoded = Decoded(*model.decoder(latents * model.latent_std + model.latent_mean, periodic))
        return decoded.to_systems(periodic)

    @property
    def _latent_dim(self) -> int:
        return self.model.latent_mean.shape[0]

    def _precision(self) -> Any:
        """bfloat16 matrix products where the hardware has them; all else stays float32."""
        if self.device.type == "cuda" or (self.device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()):
            return torch.autocast(self.device.type, torch.bfloat16)
        return nullcontext()


def atom_distribution(
    histogram: Mapping[int, int], atoms: int | tuple[int, int] | None
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Numbers of atoms and their probabilities: the training set's, within `atoms`.

    A range in which the training set has nothing is drawn from uniformly.

    Raises:
        InvalidInputError: `atoms` is not a positive number or an increasing range.
    """
    if atoms is None:
        low, high = min(histogram), max(histogram)
    else:
        try:
            pair = tuple(atoms) if isinstance(atoms, Iterable) else (atoms, atoms)
            low, high = (operator.index(value) for value in pair)
        except (TypeError, ValueError) as error:
            raise InvalidInputError(
                f"`atoms` must be a whole number or a range (smallest, largest) of two; got {atoms!r}"
            ) from error
    if not 1 <= low <= high <= 2048:
        raise InvalidInputError(f"`atoms` must be a number or a range (smallest, largest) in 1 to 2048; got {atoms}")
    values = np.arange(low, high + 1)
    weights = np.array([histogram.get(int(value), 0) for value in values], dtype=np.float64)
    if weights.sum() == 0:
        weights[:] = 1
    return values, weights / weights.sum()


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
    if not isinstance(settings.cfg, int | float) or not np.isfinite(settings.cfg):
        raise InvalidInputError(f"`cfg` must be a finite number; got {settings.cfg!r}")
