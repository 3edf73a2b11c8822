"""Systems through a trained autoencoder and back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from adit.batch import gather
from adit.config import Recipe, recipe_from_dict
from adit.convert.base import BrokenEntry
from adit.data.packed import PackedDataset
from adit.data.standard import standardise
from adit.errors import CheckpointError
from adit.models.vae import VAE
from adit.system import AtomicSystem
from adit.train.checkpoint import list_checkpoints, load_tensors, read_state
from adit.weights.store import built_in_names, load_pretrained

_ATOMS = 4096
"""Of a batch on its way through."""


def load_vae(place: str | Path, device: torch.device) -> VAE:
    """A trained autoencoder, frozen.

    Args:
        place: weights, by name or folder; or the folder of a run, of a stage or of a checkpoint: its last, averaged.
        device: where it goes.

    Raises:
        CheckpointError: there is none, it is damaged, or is of something else.
    """
    if str(place) in built_in_names() or (Path(place) / "config.json").is_file():
        model = load_pretrained(place).model
        vae = VAE(model.config)
        vae.load_state_dict({name: tensor for name, tensor in model.state_dict().items() if name in vae.state_dict()})
    else:
        checkpoint = _find_vae(Path(place))
        state = read_state(checkpoint)
        if state.get("stage", "vae") != "vae":
            raise CheckpointError(
                f"{checkpoint} is a checkpoint of the stage {state['stage']!r}; expected one of a VAE"
            )
        vae = VAE(recipe_of(state, checkpoint).vae)
        load_tensors(checkpoint / "ema.safetensors", vae)
    return vae.to(device).eval().requires_grad_(False)


def _find_vae(folder: Path) -> Path:
    """The last checkpoint of an autoencoder."""
    if (folder / "state.json").is_file():
        return folder
    for place in (folder / "decoder", folder / "vae", folder):
        if found := list_checkpoints(place):
            return found[-1]
    raise CheckpointError(
        f"{folder} holds no checkpoint of an autoencoder; name weights, the folder of a training run, or its folder vae"
    )


def recipe_of(state: dict[str, Any], checkpoint: Path) -> Recipe:
    """The recipe that a checkpoint of this state was trained with.

    Raises:
        CheckpointError: the state names none.
    """
    if "recipe" not in state:
        raise CheckpointError(f"{checkpoint} names no recipe; expected a checkpoint of `adit-train`")
    return recipe_from_dict(state["recipe"])


def rebuild(
    vae: VAE, systems: Sequence[AtomicSystem], advance: Callable[[int], None] | None = None
) -> list[AtomicSystem | None]:
    """What the autoencoder makes of systems, by their mean latents; crystals go in by their Niggli cells.

    Args:
        vae: trained.
        systems: B molecules and crystals.
        advance: called with the number of systems done since the last call.

    Returns:
        B systems with the atoms in the same order; None for one without atoms, without a Niggli cell, or whose
        reconstruction is not finite.
    """
    made: list[AtomicSystem | None] = [None] * len(systems)
    entries = standardise(list(systems))
    places = np.array([k for k, entry in enumerate(entries) if not isinstance(entry, BrokenEntry)], dtype=np.int64)
    if advance is not None:
        advance(len(systems) - len(places))
    data = PackedDataset.from_systems(entry for entry in entries if not isinstance(entry, BrokenEntry))
    device = vae.latent_mean.device
    for size in np.unique(data.sizes).tolist():
        members, most = np.flatnonzero(data.sizes == size), max(1, _ATOMS // size)
        for begin in range(0, len(members), most):
            chosen = members[begin : begin + most]
            batch = gather(data, chosen).to(device)
            with torch.inference_mode():
                decoded = vae.decode(vae.encode(batch), batch.periodic)
            fields = (decoded.logits, decoded.cartesian, decoded.phase, decoded.lattice)
            finite = torch.stack([field.isfinite().flatten(1).all(1) for field in fields]).all(0)
            kept = torch.nonzero(finite).flatten()
            decoded = type(decoded)(*(field[kept] for field in fields))
            for place, system in zip(chosen[kept.cpu().numpy()], decoded.to_systems(batch.periodic[kept]), strict=True):
                made[int(places[place])] = system
            if advance is not None:
                advance(len(chosen))
    return made
