"""Configuration as plain dataclasses; a recipe is a function that returns one (`adit.recipes`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from typing import Any, TypeVar

from adit.errors import InvalidInputError

C = TypeVar("C")


@dataclass(kw_only=True, slots=True, frozen=True)
class VAEConfig:
    """The autoencoder. The defaults are the published size (51.1 M parameters, arXiv 2503.03965)."""

    width: int = 512
    heads: int = 8
    encoder_layers: int = 8
    decoder_layers: int = 8
    latent_dim: int = 8
    qk_norm: bool = False
    fourier_frequencies: int = 4


@dataclass(kw_only=True, slots=True, frozen=True)
class DiTConfig:
    """The Diffusion Transformer. The defaults are the published size S (32.6 M parameters).

    `composition`: features of the number of atoms of each element, if the network can be told it; else 0.
    """

    width: int = 384
    heads: int = 6
    layers: int = 12
    latent_dim: int = 8
    qk_norm: bool = False
    composition: int = 0


@dataclass(kw_only=True, slots=True, frozen=True)
class OptimConfig:
    """Muon on the matrices inside the blocks, AdamW on the rest; or AdamW on all."""

    optimizer: str = "adamw"
    learning_rate: float = 1e-4
    muon_learning_rate: float = 0.01
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.95)
    gradient_clip: float = 10.0
    warmup_steps: int = 200
    decay_fraction: float = 0.3
    ema_decay: float = 0.9999


@dataclass(kw_only=True, slots=True, frozen=True)
class TrainConfig:
    """What all stages share. `tokens_per_step` counts atoms; `cuda_graphs` counts on a GPU (`adit.train.graphs`)."""

    steps: int
    tokens_per_step: int = 4096
    tokens_per_group: int = 1024
    crystal_fraction: float = 0.5
    seed: int = 0
    bf16: bool = True
    compile: bool = True
    cuda_graphs: bool = False
    log_every: int = 20
    checkpoint_every: int = 500
    validate_every: int = 1000
    validation_samples: int = 200
    optim: OptimConfig = field(default_factory=OptimConfig)


@dataclass(kw_only=True, slots=True, frozen=True)
class VAELossConfig:
    """Weights of the autoencoder's loss and strength of its noise."""

    type: float = 1.0
    position: float = 1.0
    distance: float = 1.0
    fractional: float = 1.0
    length: float = 1.0
    angle: float = 10.0
    kl: float = 1e-5
    mask_fraction: float = 0.1
    jitter_fraction: float = 0.1
    jitter: float = 0.1
    latent_noise: float = 0.3


@dataclass(kw_only=True, slots=True, frozen=True)
class FlowConfig:
    """Flow matching in latent space. A network that can be told the composition is told it for a share of systems.

    `latent_copies`: how often each training system is encoded, before training, each time in another orientation
    or shift; a step then draws among these (`adit.train.latents`). 0: encoded afresh at each step.
    """

    time_sampling: str = "uniform"
    time_mean: float = 0.0
    time_std: float = 1.0
    weight_cap: float = 0.9
    label_dropout: float = 0.1
    self_conditioning: float = 0.5
    molecule_composition: float = 0.9
    crystal_composition: float = 0.5
    latent_copies: int = 0


@dataclass(kw_only=True, slots=True, frozen=True)
class Recipe:
    """All that a training run is: fields that begin with `vae`, `decoder` and `dit` (and `flow`) belong to the stages
    of `adit-train` with these names."""

    name: str
    data: tuple[str, ...]
    vae: VAEConfig
    vae_loss: VAELossConfig
    vae_train: TrainConfig
    decoder_loss: VAELossConfig = field(default_factory=VAELossConfig)
    decoder_train: TrainConfig = field(default_factory=lambda: TrainConfig(steps=1000))
    dit: DiTConfig
    flow: FlowConfig
    dit_train: TrainConfig


@dataclass(kw_only=True, slots=True, frozen=True)
class PredictorRecipe:
    """A predictor of properties and its training; see `adit.train.property`.

    `told`: share of systems whose composition it is told. `latent_copies`: as in `FlowConfig`.
    """

    network: DiTConfig
    told: float = 0.9
    latent_copies: int = 2
    train: TrainConfig


def to_dict(config: Any) -> dict[str, Any]:
    """A configuration as JSON-ready nested dictionaries."""
    return asdict(config)


def from_dict(kind: type[C], values: Mapping[str, Any]) -> C:
    """The inverse of `to_dict` for a configuration without nested ones.

    Raises:
        InvalidInputError: a name is not a field of `kind`.
    """
    known = {f.name for f in fields(kind)}  # type: ignore[arg-type]
    if unknown := set(values) - known:
        raise InvalidInputError(f"unknown {kind.__name__} fields {sorted(unknown)}; known: {sorted(known)}")
    return kind(**values)


def recipe_from_dict(values: Mapping[str, Any]) -> Recipe:
    """The inverse of `to_dict` for a recipe, as checkpoints store it."""

    def train(entry: Mapping[str, Any]) -> TrainConfig:
        optim = {**entry["optim"], "betas": tuple(entry["optim"]["betas"])}
        return from_dict(TrainConfig, {**entry, "optim": from_dict(OptimConfig, optim)})

    parts: dict[str, Callable[[Mapping[str, Any]], Any]] = {
        "vae": partial(from_dict, VAEConfig),
        "vae_loss": partial(from_dict, VAELossConfig),
        "vae_train": train,
        "decoder_loss": partial(from_dict, VAELossConfig),
        "decoder_train": train,
        "dit": partial(from_dict, DiTConfig),
        "flow": partial(from_dict, FlowConfig),
        "dit_train": train,
    }
    made = {name: make(values[name]) for name, make in parts.items() if name in values}
    return from_dict(Recipe, {**values, "data": tuple(values["data"]), **made})
