"""The recipe of a predictor of properties."""

from __future__ import annotations

from adit.config import DiTConfig, OptimConfig, PredictorRecipe, TrainConfig


def predictor() -> PredictorRecipe:
    """1.5 M parameters: minutes on one core, and little beside the network that it steers."""
    return PredictorRecipe(
        network=DiTConfig(width=128, heads=4, layers=4, qk_norm=True, composition=16),
        train=TrainConfig(
            steps=2000,
            tokens_per_step=8192,
            tokens_per_group=4096,
            log_every=50,
            validate_every=500,
            optim=OptimConfig(
                optimizer="muon",
                learning_rate=2e-3,
                muon_learning_rate=0.02,
                gradient_clip=1.0,
                warmup_steps=50,
                decay_fraction=0.5,
                ema_decay=0.995,
            ),
        ),
    )
