"""From noise to molecules and crystals."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
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

    Sample number k of a seed has the same atoms and the same noise whatever `n` and the block size are;
    on the same machine, with the same block size, its coordinates are the same to the last bit.
    """

    def __init__(self, weights: Pretrained, device: str = "auto", threads: int | None = None) -> None:
        """See `from_pretrained`."""
        if threads is not None:
            if threads < 1:
                raise InvalidInputError(f"`threads` must be at least 1; got {threads}")
            torch.set_num_threads(threads)
        self.weights = weights
        self.device = _device(device)
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
    def defaults(self) -> SamplingDefaults:
        """Steps, solver and guidance scale that measured best for these weights."""
        return self.weights.defaults

    def block_size(self, batch_size: int | None = None) -> int:
        """Systems that are generated together."""
        if batch_size is None:
            return _BLOCK_ON_CPU if self.device.type == "cpu" else _BLOCK_ON_GPU
        if batch_size < 1:
            raise InvalidInputError(f"`batch_size` must be at least 1; got {batch_size}")
        return batch_size

    def sample(self, n: int, system: str = "molecule", **options: Any) -> list[AtomicSystem]:
        """`n` systems; options as in `stream`."""
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
    ) -> Iterator[list[AtomicSystem]]:
        """Blocks of systems, in order, as they are made.

        Args:
            n: how many in all; None for no end.
            system: "molecule" or "crystal".
            start: go on from this sample; a multiple of the block size.
            seed: any non-negative integer.
            steps: solver steps; default as the weights say, as for the next two.
            solver: one of `adit.flow.solver.SOLVERS`.
            cfg: scale of classifier-free guidance; 1 is none.
            atoms: number of atoms, or a range (smallest, largest); default as in the training set.
            batch_size: systems in a block.

        Raises:
            InvalidInputError: an option is out of range; names it.
        """
        defaults = self.defaults
        settings = SamplingDefaults(
            steps=defaults.steps if steps is None else steps,
            solver=defaults.solver if solver is None else solver,
            cfg=defaults.cfg if cfg is None else cfg,
        )
        block = self.block_size(batch_size)
        _check(n, system, start, seed, settings, block)
        counts = atom_distribution(self.weights.atom_counts[system], atoms)
        return self._blocks(n, system, start, seed, settings, block, counts)

    def _blocks(
        self,
        n: int | None,
        system: str,
        start: int,
        seed: int,
        settings: SamplingDefaults,
        block: int,
        counts: tuple[NDArray[np.int64], NDArray[np.float64]],
    ) -> Iterator[list[AtomicSystem]]:
        while n is None or start < n:
            indices = range(start, start + block if n is None else min(n, start + block))
            yield self._block(indices, system, seed, settings, counts)
            start += block

    @torch.inference_mode()
    def _block(
        self,
        indices: range,
        system: str,
        seed: int,
        settings: SamplingDefaults,
        counts: tuple[NDArray[np.int64], NDArray[np.float64]],
    ) -> list[AtomicSystem]:
        """One block: groups of one size, each integrated and decoded together."""
        values, probabilities = counts
        streams = [np.random.default_rng([seed, SYSTEMS.index(system), k]) for k in indices]
        sizes = np.array([rng.choice(values, p=probabilities) for rng in streams])
        out: list[AtomicSystem | None] = [None] * len(indices)
        for size in np.unique(sizes):
            members = np.flatnonzero(sizes == size)
            noise = np.stack([streams[k].standard_normal((size, self._latent_dim), np.float32) for k in members])
            fresh = torch.Generator(self.device).manual_seed(seed + 7919 * indices[0] + int(size))
            for k, made in zip(members, self._group(noise, system, settings, fresh), strict=True):
                out[k] = replace(made, info={"index": indices[k], "seed": seed})
        return [item for item in out if item is not None]

    def _group(
        self, noise: NDArray[np.float32], system: str, settings: SamplingDefaults, fresh: torch.Generator
    ) -> list[AtomicSystem]:
        count = len(noise)
        periodic = torch.full((count,), system == "crystal", device=self.device)
        label = torch.full((count,), CRYSTAL if system == "crystal" else MOLECULE, device=self.device)
        model = self.model
        with self._precision():
            predict = guided(model.dit, label, NULL, settings.cfg)
            start = torch.from_numpy(noise).to(self.device)
            latents = integrate(predict, start, time_grid(settings.steps), settings.solver, fresh)
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
        low, high = (atoms, atoms) if isinstance(atoms, int) else atoms
    if not 1 <= low <= high <= 2048:
        raise InvalidInputError(f"`atoms` must be a number or a range (smallest, largest) in 1 to 2048; got {atoms}")
    values = np.arange(low, high + 1)
    weights = np.array([histogram.get(int(value), 0) for value in values], dtype=np.float64)
    if weights.sum() == 0:
        weights[:] = 1
    return values, weights / weights.sum()


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InvalidInputError(f"`device` must be 'auto', 'cpu', 'cuda' or 'cuda:N'; got {name!r}") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise BackendUnavailableError("`device` is 'cuda', but torch finds no CUDA device here; use --device cpu")
    return device


def _check(n: int | None, system: str, start: int, seed: int, settings: SamplingDefaults, block: int) -> None:
    if n is not None and n < 1:
        raise InvalidInputError(f"`n` must be at least 1; got {n}")
    if system not in SYSTEMS:
        raise InvalidInputError(f"unknown system {system!r}; known: {', '.join(SYSTEMS)}")
    if seed < 0:
        raise InvalidInputError(f"`seed` must not be negative; got {seed}")
    if start < 0 or start % block:
        raise InvalidInputError(f"`start` must be a multiple of the block size {block}; got {start}")
    if settings.steps < 1:
        raise InvalidInputError(f"`steps` must be at least 1; got {settings.steps}")
    if settings.solver not in SOLVERS:
        raise InvalidInputError(f"unknown solver {settings.solver!r}; known: {', '.join(SOLVERS)}")
    if not np.isfinite(settings.cfg):
        raise InvalidInputError(f"`cfg` must be finite; got {settings.cfg}")
