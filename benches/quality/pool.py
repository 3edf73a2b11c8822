"""Latents encoded once, and Diffusion Transformers that are trained on them: many, on one autoencoder."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from adit.batch import SystemBatch, gather
from adit.data.augment import augment
from adit.data.packed import PackedDataset
from adit.models.vae import VAE
from adit.train.checkpoint import Saver, list_checkpoints, read_tensors
from adit.train.dit import DiTLoss
from adit.train.loop import Log, Trainer
from adit.train.optim import EMA
from adit.train.validate import latent_statistics

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ATOMS = 4096
"""Encoded at a time."""
_SYSTEMS = 4000
"""Of each kind, for the latents' mean and spread."""
_NO_RAMP = 2**40


@dataclass(frozen=True, slots=True)
class LatentBatch(SystemBatch):
    """B systems of N atoms each with their latents.

    Attributes:
        latents: (B, N, L), normalised.
    """

    latents: Tensor


@dataclass(frozen=True)
class Pool:
    """P systems of T atoms in all, each encoded in one random orientation (a crystal: with one random shift).

    Attributes:
        data: the systems; one that is there twice was encoded twice.
        latents: (T, L) float32, normalised.
        mean, std: (L,) by which they were.
    """

    data: PackedDataset
    latents: Tensor
    mean: Tensor
    std: Tensor

    def batch(self, group: NDArray[np.int64]) -> LatentBatch:
        """The systems `group`, all of one size."""
        data = self.data
        plain = gather(data, group)
        atoms = torch.from_numpy(data.offsets[group])[:, None] + torch.arange(plain.n_atoms)
        return LatentBatch(**{f.name: getattr(plain, f.name) for f in fields(plain)}, latents=self.latents[atoms])

    def by_size(self, kind: str) -> list[LatentBatch]:
        """All molecules or all crystals, in batches of one size."""
        chosen = np.flatnonzero(np.asarray(self.data.periodic) == (kind == "crystal"))
        sizes = self.data.sizes[chosen]
        return [self.batch(chosen[sizes == size]) for size in np.unique(sizes)]


def statistics(vae: VAE, train: PackedDataset, file: Path) -> None:
    """Sets the latents' mean and spread of an autoencoder, kept in `file`."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        mean, std = latent_statistics(vae, train, _SYSTEMS)
        _save(file, {"mean": mean, "std": std})
    kept = read_tensors(file)
    vae.latent_mean[:], vae.latent_std[:] = kept["mean"], kept["std"]


def encoded(vae: VAE, data: PackedDataset, size: int, file: Path, *, bf16: bool) -> Pool:
    """A pool of `size` systems of each kind, kept in `file`; where there are fewer, they come again."""
    rng = np.random.default_rng(0)
    periodic = np.asarray(data.periodic)
    kinds = [np.flatnonzero(periodic == flag) for flag in (False, True)]
    data = data.subset(np.concatenate([np.resize(rng.permutation(kind), size) for kind in kinds if len(kind)]))
    if not file.exists():
        latents = torch.zeros(len(data.numbers), vae.config.latent_dim)
        generator = torch.Generator().manual_seed(0)
        for atoms in np.unique(data.sizes).tolist():
            same, most = np.flatnonzero(data.sizes == atoms), max(1, _ATOMS // atoms)
            for begin in range(0, len(same), most):
                group = same[begin : begin + most]
                batch = gather(data, group)
                with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                    made = vae.encode(augment(batch, generator))
                latents[torch.from_numpy(data.offsets[group])[:, None] + torch.arange(atoms)] = made
        file.parent.mkdir(parents=True, exist_ok=True)
        _save(file, {"latents": latents})
    return Pool(data, read_tensors(file)["latents"], vae.latent_mean, vae.latent_std)


class PoolLoss(DiTLoss):
    """`DiTLoss` without its encoder: the latents come with the batch."""

    def latents(self, batch: SystemBatch) -> Tensor:
        assert isinstance(batch, LatentBatch)
        return batch.latents


@dataclass(kw_only=True)
class PoolTrainer(Trainer):
    """Trains on a pool, and keeps further averages of the weights, beside those of each checkpoint.

    Attributes:
        encoded: what is trained on; `data` are its systems.
        decays: of the averages; without the short early average of `EMA`.
    """

    encoded: Pool
    decays: tuple[float, ...] = ()
    averages: list[EMA] = field(default_factory=list, init=False)

    def run(self, resume: bool = False, stop_at: int | None = None) -> int:
        self.averages = [EMA(self.model, decay) for decay in self.decays]
        if resume and (found := list_checkpoints(self.folder)):
            for average in self.averages:
                average.shadow |= read_tensors(average_of(found[-1], average.decay))
        return super().run(resume, stop_at)

    @cached_property
    def fetch(self) -> Any:
        return lambda group, _: self.encoded.batch(group)

    def _report(
        self, done: int, stop_at: int | None, log: Log, ema: EMA, optimizers: list[torch.optim.Optimizer], saver: Saver
    ) -> None:
        for average in self.averages:
            average.update(self.model, _NO_RAMP)
        super()._report(done, stop_at, log, ema, optimizers, saver)
        saver.wait()
        checkpoint = self.folder / f"step-{done:08d}"
        if checkpoint.is_dir():
            for average in self.averages:
                _save(average_of(checkpoint, average.decay), average.shadow)


def average_of(checkpoint: Path, decay: float) -> Path:
    """Where `PoolTrainer` keeps an average."""
    return checkpoint / f"average-{decay:g}.safetensors"


def _save(path: Path, tensors: dict[str, Tensor]) -> None:
    """The file appears whole or not at all."""
    partial = path.with_suffix(".partial")
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial)
    partial.replace(path)
