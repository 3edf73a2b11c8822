"""Reading and writing predictors of properties: a network, and whose latent space it knows."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adit.config import DiTConfig, from_dict, to_dict
from adit.errors import CheckpointError
from adit.models.predictor import PropertyPredictor
from adit.models.vae import VAE
from adit.output import write_whole
from adit.weights.files import Undrawn, read_checked, save_half

FORMAT_VERSION = 1


@dataclass(kw_only=True, slots=True, frozen=True)
class Predictor:
    """A trained predictor with all that belongs to it.

    Attributes:
        network: float32.
        systems: "molecule", "crystal" or both: what it was trained on.
        latents: whose latent space it knows, as `latent_space` says.
        about: where it comes from (recipe, steps, data), JSON.
    """

    network: PropertyPredictor
    systems: tuple[str, ...]
    latents: str
    about: Mapping[str, Any] = field(default_factory=dict)


def latent_space(vae: VAE) -> str:
    """Tells latent spaces apart: the sha256 of encoder and latent statistics in half precision."""
    digest = hashlib.sha256()
    for name, tensor in sorted(vae.state_dict().items()):
        if name.startswith("encoder.") or name in ("latent_mean", "latent_std"):
            digest.update(name.encode())
            digest.update(tensor.detach().half().contiguous().cpu().numpy().tobytes())
    return digest.hexdigest()


def save_predictor(folder: str | os.PathLike[str], predictor: Predictor) -> None:
    """Writes `predictor.safetensors` (half precision, its units in float32) and `predictor.json`."""
    folder, network = Path(folder), predictor.network
    tensors, units = network.state_dict(), dict(network.named_buffers())
    config = {
        "format": "adit-predictor",
        "version": FORMAT_VERSION,
        "sha256": save_half(folder / "predictor.safetensors", tensors, f"the predictor in {folder}", units),
        "properties": list(network.names),
        "systems": list(predictor.systems),
        "latents": predictor.latents,
        "network": to_dict(network.config),
        "about": dict(predictor.about),
    }
    write_whole(folder / "predictor.json", json.dumps(config, indent=1) + "\n")


def read_config(folder: Path) -> dict[str, Any]:
    """The JSON part of a predictor.

    Raises:
        CheckpointError: missing, damaged, or of another format version.
    """
    path = folder / "predictor.json"
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise CheckpointError(
            f"no predictor in {str(folder)!r}: it has no predictor.json; `adit-train property` makes one"
        ) from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read ({error})") from error
    if not isinstance(config, dict) or config.get("format") != "adit-predictor":
        raise CheckpointError(f"{path} is damaged: it describes no predictor")
    if config.get("version") != FORMAT_VERSION:
        raise CheckpointError(f"{path} has version {config.get('version')!r}; this adit reads {FORMAT_VERSION}")
    if missing := {"sha256", "properties", "systems", "latents", "network", "about"} - set(config):
        raise CheckpointError(f"{path} is damaged: it lacks {', '.join(sorted(missing))}")
    return config


def load_predictor(folder: str | os.PathLike[str]) -> Predictor:
    """A predictor from its folder.

    Raises:
        CheckpointError: missing, damaged, or of another format version.
    """
    folder = Path(folder)
    config = read_config(folder)
    tensors = read_checked(folder / "predictor.safetensors", config["sha256"], "predictor.json")
    try:
        with Undrawn():
            network = PropertyPredictor(from_dict(DiTConfig, config["network"]), config["properties"])
        network.load_state_dict(tensors, assign=True)
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{folder}: predictor.safetensors and predictor.json do not fit together ({error})"
        ) from error
    return Predictor(
        network=network.eval().requires_grad_(False),
        systems=tuple(config["systems"]),
        latents=config["latents"],
        about=config["about"],
    )
