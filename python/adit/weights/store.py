"""Reading and writing weights for generation: autoencoder, DiT and its guide, latent statistics, atom counts."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adit.config import DiTConfig, VAEConfig, from_dict, to_dict
from adit.errors import CheckpointError
from adit.flow.solver import FRESH
from adit.models.dit import DiT
from adit.models.vae import VAE
from adit.weights.files import Undrawn, read_checked, save_half
from adit.weights.predictors import Predictor, load_predictor

FORMAT_VERSION = 5
BUILT_IN = Path(__file__).parent


@dataclass(kw_only=True, slots=True, frozen=True)
class SamplingDefaults:
    """The settings that measured best for these weights and one kind of system; see `adit.Generator.stream`."""

    steps: int = 50
    solver: str = "dpm++"
    cfg: float = 1.0
    formula: str = "any"
    guide: float = 1.0
    noise: float = FRESH


class GenerationModel(VAE):
    """All trained networks: the autoencoder, the DiT in its latent space, perhaps a smaller DiT for autoguidance."""

    def __init__(self, vae: VAEConfig, dit: DiTConfig, guide: DiTConfig | None = None) -> None:
        super().__init__(vae)
        self.dit = DiT(dit)
        self.guide = None if guide is None else DiT(guide)


@dataclass(kw_only=True, slots=True, frozen=True)
class Pretrained:
    """Weights with all that belongs to them.

    Attributes:
        name: of the weights.
        model: the networks and the latent statistics, float32.
        defaults: "molecule" / "crystal" -> sampling settings.
        atom_counts: "molecule" / "crystal" -> {number of atoms: count in the training set}.
        formulas: "molecule" / "crystal" -> {formula: count in the training set}, for the kinds whose composition the
            network can be told; perhaps none of a kind.
        about: where the weights come from (recipe, steps, data), JSON.
        predictors: of properties, those that came with the weights.
    """

    name: str
    model: GenerationModel
    defaults: Mapping[str, SamplingDefaults]
    atom_counts: Mapping[str, Mapping[int, int]]
    formulas: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)
    predictors: Sequence[Predictor] = ()


def built_in_names() -> list[str]:
    """Weights that came with the package."""
    return sorted(path.parent.name for path in BUILT_IN.glob("*/config.json"))


def load_pretrained(weights: str | os.PathLike[str]) -> Pretrained:
    """Weights by the name of a built-in set or by the path of a folder.

    Raises:
        CheckpointError: unknown name, missing, damaged, or of another format version.
    """
    folder = BUILT_IN / str(weights) if str(weights) in built_in_names() else Path(weights)
    if not (folder / "config.json").is_file():
        raise CheckpointError(
            f"no weights {str(weights)!r}: neither built in (known: {', '.join(built_in_names()) or 'none'}) "
            "nor a folder with config.json and model.safetensors"
        )
    try:
        config = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder / 'config.json'} cannot be read ({error})") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{folder / 'config.json'} is damaged: it holds no JSON object")
    if (config.get("format"), config.get("version")) != ("adit-weights", FORMAT_VERSION):
        raise CheckpointError(
            f"{folder} holds format {config.get('format')!r} version {config.get('version')!r}; this adit reads "
            f"'adit-weights' version {FORMAT_VERSION}: `adit-train export` makes it from a run"
        )
    needed = {"name", "sha256", "vae", "dit", "guide", "sampling", "atom_counts", "formulas", "about"}
    if missing := needed - set(config):
        raise CheckpointError(f"{folder / 'config.json'} is damaged: it lacks {', '.join(sorted(missing))}")
    tensors = read_checked(folder / "model.safetensors", config["sha256"], "config.json")
    try:
        guide = from_dict(DiTConfig, config["guide"]) if config["guide"] else None
        with Undrawn():
            model = GenerationModel(from_dict(VAEConfig, config["vae"]), from_dict(DiTConfig, config["dit"]), guide)
        model.load_state_dict(tensors, assign=True)
        counts = {kind: {int(n): int(c) for n, c in table.items()} for kind, table in config["atom_counts"].items()}
        formulas = {kind: dict(table) for kind, table in config["formulas"].items()}
        defaults = {kind: from_dict(SamplingDefaults, config["sampling"][kind]) for kind in counts}
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{folder}: weights and config.json do not fit together ({error})") from error
    return Pretrained(
        name=config["name"],
        model=model.eval(),
        defaults=defaults,
        atom_counts=counts,
        formulas=formulas,
        about=config["about"],
        predictors=[load_predictor(path.parent) for path in sorted(folder.glob("*/predictor.json"))],
    )


def save_pretrained(folder: str | os.PathLike[str], weights: Pretrained) -> None:
    """Writes `model.safetensors` (half precision) and `config.json`.

    Raises:
        CheckpointError: a weight is not finite, or too large for half precision.
    """
    folder = Path(folder)
    tensors = weights.model.state_dict()
    config = {
        "format": "adit-weights",
        "version": FORMAT_VERSION,
        "name": weights.name,
        "sha256": save_half(folder / "model.safetensors", tensors, f"the weights {weights.name!r}"),
        "vae": to_dict(weights.model.config),
        "dit": to_dict(weights.model.dit.config),
        "guide": None if weights.model.guide is None else to_dict(weights.model.guide.config),
        "sampling": {kind: to_dict(settings) for kind, settings in weights.defaults.items()},
        "atom_counts": {
            kind: {str(n): int(c) for n, c in table.items()} for kind, table in weights.atom_counts.items()
        },
        "formulas": {kind: dict(table) for kind, table in weights.formulas.items()},
        "about": dict(weights.about),
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
