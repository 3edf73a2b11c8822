"""The stages of a recipe, from data to checkpoints, and the export to weights for generation."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from adit.config import Recipe, TrainConfig, to_dict
from adit.data.packed import PackedDataset
from adit.data.prepare import load
from adit.errors import CheckpointError, InvalidInputError
from adit.models.dit import DiT, deepened
from adit.models.vae import VAE
from adit.train.checkpoint import list_checkpoints, load_tensors, read_state
from adit.train.dit import DiTLoss
from adit.train.latents import LatentPool
from adit.train.loop import Loss, Trainer, compile_blocks
from adit.train.meter import Budget
from adit.train.reconstruct import load_vae, recipe_of
from adit.train.vae import DecoderLoss, VAELoss
from adit.train.validate import (
    atom_counts,
    held_out_loss,
    known_smiles,
    latent_statistics,
    reconstruction_figures,
    sample_figures,
    told_formulas,
)
from adit.weights.store import GenerationModel, Pretrained, SamplingDefaults, load_pretrained, save_pretrained

STAGES = ("vae", "decoder", "dit")
"""Folders of a run."""


def train_vae(
    recipe: Recipe, folder: Path, device: torch.device, resume: bool = False,
    stop_at: int | None = None, budget: Budget | None = None,
) -> Path:  # fmt: skip
    """Stage 1. Returns the folder of its checkpoints, `folder/vae`. With `budget` the clock sets the steps."""
    data = load_all(recipe.data)
    torch.manual_seed(recipe.vae_train.seed)
    vae = VAE(recipe.vae).to(device)
    loss, out = VAELoss(vae, recipe.vae_loss), folder / "vae"
    return _train_autoencoder(vae, loss, data, recipe, recipe.vae_train, out, resume, stop_at, budget)


def train_decoder(
    recipe: Recipe, folder: Path, vae_folder: Path, device: torch.device, resume: bool = False,
    stop_at: int | None = None, budget: Budget | None = None,
) -> Path:  # fmt: skip
    """The decoder of the autoencoder that `load_vae` finds in `vae_folder` alone. Returns `folder/decoder`.

    Its checkpoints are of the whole autoencoder; the latents stay as they were, so it can be trained before the
    second stage or after it.
    """
    data = load_all(recipe.data)
    vae = load_vae(vae_folder, device)
    _normalise(vae, data.split("train"))
    recipe = replace(recipe, vae=vae.config)
    loss, out = DecoderLoss(vae, recipe.decoder_loss), folder / "decoder"
    return _train_autoencoder(vae, loss, data, recipe, recipe.decoder_train, out, resume, stop_at, budget)


def _train_autoencoder(
    vae: VAE, loss: Loss, data: PackedDataset, recipe: Recipe, config: TrainConfig, folder: Path,
    resume: bool, stop_at: int | None, budget: Budget | None,
) -> Path:  # fmt: skip
    """What the two stages of an autoencoder share. Returns `folder`, which gets its checkpoints."""
    held_out = data.split("val")
    trainer = Trainer(
        model=vae,
        loss=loss,
        data=data.split("train"),
        config=config,
        folder=run_folder(folder, resume),
        header=_header("vae", recipe),
        validate=(lambda _: reconstruction_figures(vae, held_out, config.validation_samples))
        if len(held_out) and can_validate()
        else None,
        device=vae.latent_mean.device,
        budget=budget,
    )
    trainer.run(resume, stop_at)
    return folder


def train_dit(
    recipe: Recipe, folder: Path, vae_folder: Path, device: torch.device, resume: bool = False,
    stop_at: int | None = None, budget: Budget | None = None, start: str | Path | None = None,
) -> Path:  # fmt: skip
    """Stage 2, on the averaged autoencoder that `load_vae` finds in `vae_folder`. Returns `folder/dit`.

    `start` names weights for generation, of the same latent space, whose network is trained on; it may have fewer
    layers (`adit.models.dit.deepened`).
    """
    data = load_all(recipe.data)
    train, held_out = data.split("train"), data.split("val")
    vae = load_vae(vae_folder, device)
    if vae.config.latent_dim != recipe.dit.latent_dim:
        raise InvalidInputError(
            f"the autoencoder in {vae_folder} has {vae.config.latent_dim} latent dimensions, "
            f"recipe {recipe.name} wants {recipe.dit.latent_dim}"
        )
    config, copies = recipe.dit_train, recipe.flow.latent_copies
    if config.compile and not copies:
        compile_blocks(vae.encoder)
    torch.manual_seed(recipe.dit_train.seed)
    dit = DiT(recipe.dit).to(device)
    if start is None:
        _normalise(vae, train)
    else:
        known = load_pretrained(start).model
        if known.dit.config.layers < recipe.dit.layers:
            known.dit = deepened(known.dit, recipe.dit.layers)
        _check_same(known.dit, recipe, start)
        dit.load_state_dict(known.dit.state_dict())
        vae.latent_mean[:], vae.latent_std[:] = known.latent_mean, known.latent_std  # as the network knows them
    out = run_folder(folder / "dit", resume)

    loss = DiTLoss(dit, vae, recipe.flow)
    pool = None
    if copies:
        share = recipe.flow.self_conditioning
        pool = LatentPool(
            vae, train, copies, config.tokens_per_group, config.crystal_fraction, share, config.seed, config.bf16
        )

    def validate(_: torch.nn.Module) -> dict[str, float]:
        weights = bundle(recipe, vae, dit, train)
        n = config.validation_samples
        known = partial(known_smiles, train, out / "known_smiles.txt")
        held = {"loss": held_out_loss(loss, held_out, 5 * n, device)} if len(held_out) else {}
        return held | sample_figures(weights, n, train, known, device)

    trainer = Trainer(
        model=dit,
        loss=loss,
        data=train,
        config=config,
        folder=out,
        header=_header("dit", recipe) | {"latents": [vae.latent_mean.tolist(), vae.latent_std.tolist()]},
        validate=validate if can_validate() else None,
        device=device,
        budget=budget,
        pool=pool,
    )
    trainer.run(resume, stop_at)
    return out


def speedrun(
    recipe: Recipe, folder: Path, device: torch.device, minutes: float, vae_share: float, decoder_share: float,
    resume: bool = False, clock: Callable[[], float] = time.monotonic, marks: tuple[float, ...] = (),
) -> Path:  # fmt: skip
    """All stages in `minutes` of `clock`. Returns the weights' folder.

    A run that was cut off goes on with `resume`: what its stages spent counts, a stage that is done is not repeated.

    Args:
        vae_share: of the minutes, for the autoencoder.
        decoder_share: for its decoder alone; 0 leaves that stage out.
        marks: as in `Budget`, of the second stage.
    """
    left, vae = 60 * minutes, folder / "vae"
    if not (resume and _finished(vae)):
        train_vae(recipe, folder, device, resume, budget=Budget(left * vae_share, clock, (1.0,) if marks else ()))
    left -= _spent(vae)
    if decoder_share > 0:
        decoder = folder / "decoder"
        if not (resume and _finished(decoder)):
            train_decoder(recipe, folder, vae, device, resume, budget=Budget(60 * minutes * decoder_share, clock))
        left -= _spent(decoder)
    train_dit(recipe, folder, folder, device, resume, budget=Budget(left, clock, marks))
    export(folder, folder / "weights", folder.resolve().name, {})
    return folder / "weights"


def _finished(stage: Path) -> bool:
    found = list_checkpoints(stage)
    state = read_state(found[-1]) if found else {}
    return bool(found) and state["step"] >= state.get("steps", 0)


def _spent(stage: Path) -> float:
    """Seconds of its budget that a stage took."""
    return float(read_state(_last(stage)).get("seconds", 0.0))


def can_validate() -> bool:
    """The figures need rdkit and pymatgen; training does not. Says so where they are missing."""
    missing = [name for name in ("rdkit", "pymatgen") if find_spec(name) is None]
    if missing:
        print(f"no validation while training: {' and '.join(missing)} not installed")
    return not missing


def export(
    run: Path, out: Path, name: str, defaults: Mapping[str, SamplingDefaults], vae_folder: Path | None = None,
    guide: str | Path | None = None, average_with: str | Path | None = None,
) -> Pretrained:  # fmt: skip
    """Averaged weights of the last checkpoints under `run` to a weights folder `out`.

    Args:
        run: holds `vae/` (or `decoder/`, which is taken where it is there) and `dit/`.
        out: gets `model.safetensors` and `config.json`.
        name: of the weights.
        defaults: sampling settings to ship, for each kind of system; a kind left out gets those of `SamplingDefaults`.
        vae_folder: where else the autoencoder is, as for `train_dit`.
        guide: another run in the same latent space, whose `dit/` is to guide this one; or weights whose guide is.
        average_with: weights that the run's network began as (`train_dit`, `start`), and is averaged with: what it has
            learnt without what it has lost (Wortsman 2021, arXiv 2109.01903).
    """
    vae = load_vae(vae_folder or run, torch.device("cpu"))
    recipe, dit, state = _trained_dit(run)
    train = load_all(recipe.data).split("train")
    vae.latent_mean[:], vae.latent_std[:] = torch.tensor(state["latents"])
    about = {
        "recipe": state["recipe"],
        "steps": {stage: read_state(_last(run / stage))["step"] for stage in STAGES if list_checkpoints(run / stage)},
    }
    if average_with is not None:
        known = load_pretrained(average_with)
        _check_same(known.model.dit, recipe, average_with)
        start, end = known.model.dit.state_dict(), dit.state_dict()
        dit.load_state_dict({key: (start[key] + end[key]) / 2 for key in end})
        about |= {"averaged_with": {"name": known.name, "steps": known.about.get("steps")}}
    weights = replace(bundle(recipe, vae, dit, train, defaults), name=name, about=about)
    if guide is not None:
        weights.model.guide, about["guide"] = _guide(guide)
        config = weights.model.guide.config
        if (config.latent_dim, config.composition) != (recipe.dit.latent_dim, recipe.dit.composition):
            raise InvalidInputError(f"the network in {guide} cannot guide that in {run}: {config}, {recipe.dit}")
    save_pretrained(out, weights)
    return weights


def _guide(place: str | Path) -> tuple[DiT, Any]:
    """The network of a run, or the guide of weights, and where it comes from."""
    if list_checkpoints(Path(place) / "dit"):
        _, network, state = _trained_dit(Path(place))
        return network, {"recipe": state["recipe"], "steps": state["step"]}
    known = load_pretrained(place)
    if known.model.guide is None:
        raise CheckpointError(f"the weights {known.name!r} have no guide; name a run whose dit/ is to guide")
    return known.model.guide, known.about.get("guide")


def _check_same(known: DiT, recipe: Recipe, name: str | Path) -> None:
    if known.config != recipe.dit:
        raise CheckpointError(
            f"the network of {name} does not fit recipe {recipe.name}: {known.config}, not {recipe.dit}"
        )


def _trained_dit(run: Path) -> tuple[Recipe, DiT, dict[str, Any]]:
    """The averaged network of a run's last checkpoint, with its recipe and state."""
    checkpoint = _last(run / "dit")
    state = read_state(checkpoint)
    recipe = recipe_of(state, checkpoint)
    dit = DiT(recipe.dit)
    load_tensors(checkpoint / "ema.safetensors", dit)
    return recipe, dit, state


def bundle(
    recipe: Recipe, vae: VAE, dit: DiT, train: PackedDataset, defaults: Mapping[str, SamplingDefaults] | None = None
) -> Pretrained:
    """Trained networks as a `Pretrained`; the tensors are shared, not copied.

    Of `train` come the sizes of samples, and their formulas if the network can be told them.
    """
    model = GenerationModel(vae.config, dit.config)
    model.encoder, model.decoder, model.dit = vae.encoder, vae.decoder, dit
    model.latent_mean, model.latent_std = vae.latent_mean, vae.latent_std
    counts, formulas = atom_counts(train), told_formulas(train, recipe.flow) if dit.config.composition else {}
    told = {"molecule": "training", "crystal": "new"}
    settings = {kind: SamplingDefaults(formula=told[kind] if formulas.get(kind) else "any") for kind in counts}
    return Pretrained(
        name=recipe.name,
        model=model,
        defaults=settings | dict(defaults or {}),
        atom_counts=counts,
        formulas=formulas,
    )


def _normalise(vae: VAE, train: PackedDataset) -> None:
    """Its latents, by their statistics on `train`."""
    vae.latent_mean[:], vae.latent_std[:] = latent_statistics(vae, train)


def load_all(names: tuple[str, ...]) -> PackedDataset:
    """Prepared data sets, one after the other, with only the columns that all of them have, `smiles` and `split`."""
    parts = [load(name) for name in names]
    parts = [_with_column(_with_column(part, "smiles", ""), "split", "train") for part in parts]
    return PackedDataset.concatenate(parts)


def with_overrides(recipe: Recipe, stage: str, **values: Any) -> Recipe:
    """The recipe with some fields of one stage's TrainConfig replaced; None keeps the recipe's value."""
    chosen = {name: value for name, value in values.items() if value is not None}
    changes: dict[str, Any] = {f"{stage}_train": replace(getattr(recipe, f"{stage}_train"), **chosen)}
    return replace(recipe, **changes)


def _with_column(part: PackedDataset, name: str, value: str) -> PackedDataset:
    if name in part.properties:
        return part
    return replace(part, properties={**part.properties, name: np.full(len(part), value)})


def _header(stage: str, recipe: Recipe) -> dict[str, Any]:
    return {"stage": stage, "recipe": to_dict(recipe)}


def run_folder(folder: Path, resume: bool) -> Path:
    """Refuses to overwrite an earlier run by accident."""
    if not resume and list_checkpoints(folder):
        raise InvalidInputError(
            f"{folder} already holds checkpoints; go on with --resume, or choose another --out, or remove it"
        )
    return folder


def _last(folder: Path) -> Path:
    found = list_checkpoints(folder)
    if not found:
        raise CheckpointError(f"{folder} holds no checkpoint; train this stage first (`adit-train --help`)")
    return found[-1]
