"""The choices of the training recipe: what is changed, one at a time, from the baseline of `benches/recipe.py`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from adit.config import DiTConfig, Recipe
from adit.flow.path import preconditioning
from adit.models.dit import DiT, Modulations
from adit.ops.packing import Packing
from adit.ops.reference import token_rows


class OwnTarget(DiT):
    """A DiT whose last layer predicts something else; its answer is translated into what `adit.flow.path` expects.

    So loss, sampler and weights stay as they are. The time, which the translation needs, travels with the modulations.
    """

    def __init__(self, config: DiTConfig) -> None:
        super().__init__(config)
        self.impl = "reference"  # so that `denoise` does not go by `denoise_packed`, which would translate again

    def modulations(self, t_R: Tensor, label_R: Tensor) -> Modulations:
        blocks, final_R2D = super().modulations(t_R, label_R)
        time_R1D = t_R.expand(len(final_R2D))[:, None, None].expand(-1, 1, final_R2D.shape[-1])
        return Modulations(blocks, torch.cat([final_R2D.float(), time_R1D], 1))

    def denoise(
        self, x_BNL: Tensor, self_condition_BNL: Tensor, modulations: Modulations, context_BD: Tensor | None = None
    ) -> Tensor:
        t_B11 = modulations.final[:, 2, :1, None]
        own = Modulations(modulations.blocks, modulations.final[:, :2])
        return self._translated(super().denoise(x_BNL, self_condition_BNL, own, context_BD), x_BNL, t_B11)

    def denoise_packed(
        self, x_TL: Tensor, self_condition_TL: Tensor, modulations: Modulations, packing: Packing,
        rows_B: Tensor | None, place_TD: Tensor,
    ) -> Tensor:  # fmt: skip
        t_T1 = token_rows(modulations.final[:, 2, :1], packing, rows_B)
        own = Modulations(modulations.blocks, modulations.final[:, :2].contiguous())
        raw_TL = super().denoise_packed(x_TL, self_condition_TL, own, packing, rows_B, place_TD)
        return self._translated(raw_TL, x_TL, t_T1)

    def _translated(self, raw: Tensor, x: Tensor, t: Tensor) -> Tensor:
        skip, out = preconditioning(t)
        return (self.data(raw, x, t) - skip * x) / out

    def data(self, raw_BNL: Tensor, x_BNL: Tensor, t_B11: Tensor) -> Tensor:
        """The clean latents that the last layer's answer stands for."""
        raise NotImplementedError


class Velocity(OwnTarget):
    """Predicts data - noise (Lipman 2023, arXiv 2210.02747)."""

    def data(self, raw_BNL: Tensor, x_BNL: Tensor, t_B11: Tensor) -> Tensor:
        return x_BNL + (1 - t_B11) * raw_BNL


class Clean(OwnTarget):
    """Predicts the clean latents themselves, as published (arXiv 2503.03965)."""

    def data(self, raw_BNL: Tensor, x_BNL: Tensor, t_B11: Tensor) -> Tensor:
        return raw_BNL


class Unordered(DiT):
    """Without the embedding of an atom's index."""

    def _index(self, atoms: int, device: torch.device) -> Tensor:
        return super()._index(1, device).expand(atoms, -1)


class Alone(DiT):
    """Without the input for an earlier prediction, which the sampler would feed it."""

    def _embed(self, x: Tensor, self_condition: Tensor) -> Tensor:
        return super()._embed(x, torch.zeros_like(self_condition))


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One value of one choice.

    Attributes:
        what, value: for the table.
        stage: what is trained: "dit" on the shipped autoencoder, "vae", "dit on vae"; or nothing, with "weights"
            (another average of the baseline's weights) and "sampling".
        change: fields of the recipe's parts, e.g. {"flow": {"weight_cap": 0.9}}; "dit_train.optim" is a part too.
        network: of the DiT.
        vae: for "dit on vae": the choice whose autoencoder is taken.
        decay: for "weights": of the average, 0 for the weights as they were trained last.
        cfg: guidance scale of the samples.
        seed: is added to that of all runs.
    """

    what: str
    value: str
    stage: str = "dit"
    change: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    network: type[DiT] = DiT
    vae: str = ""
    decay: float = 0.0
    cfg: float = 1.0
    seed: int = 0

    def of(self, recipe: Recipe) -> Recipe:
        """The recipe with this change."""
        for part, values in self.change.items():
            owner, _, inner = part.partition(".")
            held = getattr(recipe, owner)
            held = replace(held, **{inner: replace(getattr(held, inner), **values)} if inner else values)
            recipe = replace(recipe, **{owner: held})
        return recipe


_FLOW, _OPTIM, _TRAIN = "flow", "dit_train.optim", "dit_train"


def _times(mean: float, std: float) -> dict[str, dict[str, Any]]:
    return {_FLOW: {"time_sampling": "logit-normal", "time_mean": mean, "time_std": std}}


CHOICES = {
    "base": Choice(what="baseline", value="seed 0"),
    "base-1": Choice(what="baseline", value="seed 1", seed=1),
    "velocity": Choice(what="prediction target", value="velocity", network=Velocity),
    "clean": Choice(what="prediction target", value="clean latents", network=Clean),
    "uniform": Choice(what="times", value="uniform", change={_FLOW: {"time_sampling": "uniform"}}),
    "alone": Choice(what="self-conditioning", value="none", change={_FLOW: {"self_conditioning": 0.0}}, network=Alone),
    "adamw-2e-3": Choice(what="optimiser", value="AdamW 2e-3",
                         change={_OPTIM: {"optimizer": "adamw", "learning_rate": 2e-3}}),
    "trained": Choice(what="average of the weights", value="none: the last", stage="weights"),
    "average-0.9": Choice(what="average of the weights", value="0.9 (10 steps)", stage="weights", decay=0.9),
    "average-0.997": Choice(what="average of the weights", value="0.997 (333 steps)", stage="weights", decay=0.997),
    "molecules": Choice(what="systems", value="molecules alone", change={_TRAIN: {"crystal_fraction": 0.0}}),
    "crystals": Choice(what="systems", value="crystals alone", change={_TRAIN: {"crystal_fraction": 1.0}}),
    "vae-base": Choice(what="baseline", value="seed 0", stage="vae"),
    "vae-base-1": Choice(what="baseline", value="seed 1", stage="vae", seed=1),
    "vae-4": Choice(what="latent dimensions", value="4", stage="vae", change={"vae": {"latent_dim": 4}}),
    "vae-16": Choice(what="latent dimensions", value="16", stage="vae", change={"vae": {"latent_dim": 16}}),
    "vae-quiet": Choice(what="noise on the latents", value="none", stage="vae",
                        change={"vae_loss": {"latent_noise": 0.0}}),
    "vae-no-distance": Choice(what="pair-distance loss", value="none", stage="vae",
                              change={"vae_loss": {"distance": 0.0}}),
    "times-0-1": Choice(what="times", value="logit-normal (0, 1)", change=_times(0.0, 1.0)),
    "unordered": Choice(what="index embedding", value="none", network=Unordered),
    "no-qk-norm": Choice(what="QK-norm", value="none", change={"dit": {"qk_norm": False}}),
    "crystals-0.5": Choice(what="systems", value="50 % crystals", change={_TRAIN: {"crystal_fraction": 0.5}}),
    "base-2": Choice(what="baseline", value="seed 2", seed=2),
    "vae-kl-1e-5": Choice(what="KL", value="1e-5", stage="vae", change={"vae_loss": {"kl": 1e-5}}),
    "vae-kl-1e-3": Choice(what="KL", value="1e-3", stage="vae", change={"vae_loss": {"kl": 1e-3}}),
    "vae-no-denoising": Choice(what="denoising", value="none", stage="vae",
                               change={"vae_loss": {"mask_fraction": 0.0, "jitter_fraction": 0.0}}),
    "on-vae-base": Choice(what="latent dimensions", value="8", stage="dit on vae", vae="vae-base"),
    "on-vae-4": Choice(what="latent dimensions", value="4", stage="dit on vae", vae="vae-4",
                       change={"dit": {"latent_dim": 4}}),
    "on-vae-16": Choice(what="latent dimensions", value="16", stage="dit on vae", vae="vae-16",
                        change={"dit": {"latent_dim": 16}}),
    "vae-base-2": Choice(what="baseline", value="seed 2", stage="vae", seed=2),
    "cfg-0": Choice(what="guidance", value="0 (no label)", stage="sampling", cfg=0.0),
    "cfg-1.5": Choice(what="guidance", value="1.5", stage="sampling", cfg=1.5),
    "cfg-2": Choice(what="guidance", value="2", stage="sampling", cfg=2.0),
    "cfg-3": Choice(what="guidance", value="3", stage="sampling", cfg=3.0),
    "adamw-1e-3": Choice(what="optimiser", value="AdamW 1e-3",
                         change={_OPTIM: {"optimizer": "adamw", "learning_rate": 1e-3}}),
    "times-0.5-1.2": Choice(what="times", value="logit-normal (0.5, 1.2)", change=_times(0.5, 1.2)),
    "plain-error": Choice(what="weight of the loss", value="1 at all times", change={_FLOW: {"weight_cap": 0.0}}),
    "no-cap": Choice(what="weight of the loss", value="no cap", change={_FLOW: {"weight_cap": 1.0}}),
    "crystals-0.1": Choice(what="systems", value="10 % crystals", change={_TRAIN: {"crystal_fraction": 0.1}}),
}  # fmt: skip
"""By the name of their folder, in the order of running: if time ends early, what matters less is missing."""
