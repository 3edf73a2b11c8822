"""Predictors of properties, in the latent space of finished weights: what `adit-gen --property` steers by."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adit.config import PredictorRecipe, to_dict
from adit.data.packed import PackedDataset
from adit.data.prepare import load
from adit.errors import InvalidInputError
from adit.flow.path import interpolate
from adit.models.dit import CRYSTAL, MOLECULE
from adit.models.predictor import PropertyPredictor, log_likelihood
from adit.train.checkpoint import list_checkpoints, load_tensors, read_state
from adit.train.latents import PropertyBatch, PropertyPool
from adit.train.loop import Trainer
from adit.train.meter import Budget
from adit.train.reconstruct import load_vae
from adit.train.stages import run_folder
from adit.weights.predictors import Predictor, latent_space, load_predictor, save_predictor

TIMES = (0.0, 0.5, 0.95)
"""At which the errors on held-out systems are measured."""

FEW = 500
"""Systems below which a predictor has hardly anything to learn from."""

_HELD_OUT, _GROUP, _ULP = 2000, 8192, 1e-4


class PropertyLoss:
    """The negative log-likelihood of the properties of noisy latents, as Gaussians; unknown ones do not count.

    A share of the systems is not told the composition, so that the predictor serves samples that are not.
    """

    def __init__(self, network: PropertyPredictor, told: float) -> None:
        self.network, self.told = network, told

    def __call__(self, batch: PropertyBatch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        count, device = batch.n_systems, batch.latents.device
        t = torch.rand(count, generator=generator, device=device)
        noise = torch.randn(batch.latents.shape, generator=generator, device=device)
        told = torch.rand(count, 1, generator=generator, device=device) < self.told
        x = interpolate(noise, batch.latents, t)
        label = torch.where(batch.periodic, CRYSTAL, MOLECULE)
        mean, spread = self.network.estimate(x, t, label, batch.counts * told)
        likelihood = log_likelihood(mean, spread, batch.targets, batch.targets) + self.network.std.log()
        known = ~batch.targets.isnan()
        return -((likelihood * known).sum(1) / known.sum(1).clamp(min=1)).float(), {}


def train_property(
    recipe: PredictorRecipe, folder: Path, weights: str | Path, data: str | Path, names: Sequence[str],
    device: torch.device, resume: bool = False, budget: Budget | None = None,
) -> Predictor:  # fmt: skip
    """Trains a predictor of columns of a data set, and writes it into `folder`.

    Args:
        recipe: its size and training.
        folder: gets `property/` with checkpoints, and the predictor.
        weights: whose latent space it is for: a name or folder, or another place that `load_vae` takes.
        data: a prepared data set, by name or folder; if it has no split `val`, a tenth of it is held out.
        names: of the columns: numbers, NaN where unknown.
        device: to train on.
        resume: go on from the last checkpoint.
        budget: as in `Trainer`.

    Raises:
        InvalidInputError: a column is not there, or not of numbers that differ.
    """
    everything = load(data)
    train, held_out = (_known(everything.split(split), names, data) for split in ("train", "val"))
    if not len(train):
        raise InvalidInputError(f"the training set of {data} has no system with a known {' or '.join(names)}")
    if len(train) < FEW:
        logging.getLogger("adit").warning(
            f"only {len(train):,} systems of {data} have a known {' or '.join(names)}: expect little of this predictor"
        )
    if not len(held_out):  # a tenth of it
        order = np.random.default_rng(recipe.train.seed).permutation(len(train))
        held_out, train = (train.subset(np.sort(part)) for part in np.split(order, [len(train) // 10]))
    vae = load_vae(weights, device)
    config = replace(recipe.train, tokens_per_step=min(recipe.train.tokens_per_step, 4 * int(train.sizes.sum())))
    out = run_folder(folder / "property", resume)
    header = {"stage": "property", "recipe": to_dict(recipe), "names": list(names), "data": str(data)}
    header |= {"latents": latent_space(vae)}
    if resume and (found := list_checkpoints(out)):
        _check_same(read_state(found[-1]), header)
    torch.manual_seed(config.seed)
    network = PropertyPredictor(replace(recipe.network, latent_dim=vae.config.latent_dim), names).to(device)
    _set_units(network, train, data)
    test = None
    if len(held_out):
        chosen = np.random.default_rng(config.seed).permutation(len(held_out))[:_HELD_OUT]
        test = PropertyPool(vae, held_out.subset(chosen), names, 1, config.seed, config.bf16)
    Trainer(
        model=network,
        loss=PropertyLoss(network, recipe.told),
        data=train,
        config=config,
        folder=out,
        header=header,
        validate=None if test is None else lambda _: errors(network, test),
        device=device,
        budget=budget,
        pool=PropertyPool(vae, train, names, recipe.latent_copies, config.seed, config.bf16),
    ).run(resume)
    last = list_checkpoints(out)[-1]
    load_tensors(last / "ema.safetensors", network)
    periodic = np.asarray(train.periodic)
    kinds = [kind for kind, there in (("molecule", not periodic.all()), ("crystal", periodic.any())) if there]
    about = {"data": str(data), "steps": read_state(last)["step"], "recipe": to_dict(recipe)}
    if test is not None:
        about["errors"] = errors(network, test)
    network.requires_grad_(False).eval()
    save_predictor(folder, Predictor(network=network, systems=tuple(kinds), latents=latent_space(vae), about=about))
    return load_predictor(folder)


def _check_same(held: Mapping[str, Any], header: Mapping[str, Any]) -> None:
    """Refuses to go on with a run of other columns, data, weights or network; its length may be another."""
    for name in ("stage", "names", "data", "latents"):
        if held.get(name) != header[name]:
            raise InvalidInputError(
                f"--resume: {name} of this run is {held.get(name)}, not {header[name]}; choose another --out"
            )
    if held["recipe"]["network"] != header["recipe"]["network"]:
        raise InvalidInputError("--resume: this run has another network; choose another --out")


def _known(data: PackedDataset, names: Sequence[str], source: str | Path) -> PackedDataset:
    """The systems of which one of these columns is known at least.

    Raises:
        InvalidInputError: no such column, or not of numbers.
    """
    numeric = sorted(name for name, column in data.properties.items() if column.dtype.kind == "f")
    if len(set(names)) < len(names):
        raise InvalidInputError(f"a column is named twice: {', '.join(names)}")
    if not names or (unknown := [name for name in names if name not in numeric]):
        raise InvalidInputError(
            f"{source} has no column of numbers {', '.join(unknown) if names else ''!r}; it has {', '.join(numeric)}"
        )
    known = np.isfinite(np.stack([data.properties[name] for name in names])).any(0)
    return data.subset(np.flatnonzero(known))


def _set_units(network: PropertyPredictor, train: PackedDataset, source: str | Path) -> None:
    columns = np.stack([np.asarray(train.properties[name], dtype=np.float64) for name in network.names])
    for buffer, of in (("mean", np.nanmean), ("std", np.nanstd), ("low", np.nanmin), ("high", np.nanmax)):
        getattr(network, buffer)[:] = torch.from_numpy(of(columns, axis=1))
    for name, middle, std in zip(network.names, network.mean.tolist(), network.std.tolist(), strict=True):
        if not 0 < std < np.inf:
            raise InvalidInputError(f"the column {name} of {source} must hold finite numbers that differ; drop it")
        if std < _ULP * abs(middle):
            raise InvalidInputError(
                f"the column {name} of {source} has a spread of {std:.3g} around {middle:.6g}, which single precision "
                "cannot resolve; subtract a constant from it"
            )


@torch.no_grad()
def errors(network: PropertyPredictor, pool: PropertyPool) -> dict[str, float]:
    """Mean absolute errors of the properties, in their units, at each of `TIMES`; by "name@time"."""
    generator = torch.Generator(pool.device).manual_seed(0)
    off: dict[float, list[Tensor]] = {time: [] for time in TIMES}
    for size in np.unique(pool.lengths).tolist():
        members = np.flatnonzero(pool.lengths == size)
        for indices in np.array_split(members, -(-len(members) * size // _GROUP)):
            batch = pool.batch(indices, generator)
            label = torch.where(batch.periodic, CRYSTAL, MOLECULE)
            for time in TIMES:
                t = torch.full((batch.n_systems,), time, device=pool.device)
                noise = torch.randn(batch.latents.shape, generator=generator, device=pool.device)
                mean, _ = network.estimate(interpolate(noise, batch.latents, t), t, label, batch.counts)
                off[time].append((mean - batch.targets).abs())
    means = {time: torch.cat(values).nanmean(0).tolist() for time, values in off.items()}
    return {f"{name}@{time}": means[time][k] for time in TIMES for k, name in enumerate(network.names)}
