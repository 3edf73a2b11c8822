"""Drug-like molecules, to 181 atoms, on conformers that `adit-data conformers` made."""

from __future__ import annotations

from dataclasses import replace

from adit.config import Recipe, TrainConfig
from adit.recipes.joint import joint_tiny


def drugs_demo() -> Recipe:
    """A demonstration on drug-like molecules: `adit-train speedrun` shows in minutes of one core that it learns."""
    tiny = joint_tiny()

    def short(train: TrainConfig, steps: int) -> TrainConfig:
        optim = replace(train.optim, warmup_steps=30, ema_decay=0.99)
        return replace(
            train, steps=steps, tokens_per_step=2048, tokens_per_group=512, checkpoint_every=100,
            validate_every=1000, validation_samples=100, optim=optim,
        )  # fmt: skip

    return replace(
        tiny,
        name="drugs-demo",
        data=("drugs-conformers",),
        vae=replace(tiny.vae, encoder_layers=2, decoder_layers=4),
        vae_train=short(tiny.vae_train, 1000),
        decoder_train=short(tiny.decoder_train, 400),
        dit=replace(tiny.dit, layers=6),
        dit_train=short(tiny.dit_train, 2000),
    )
