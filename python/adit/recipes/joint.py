"""One model of molecules and crystals, trained on QM9 and MP-20 together."""

from __future__ import annotations

from dataclasses import replace

from adit.config import DiTConfig, FlowConfig, OptimConfig, Recipe, TrainConfig, VAEConfig, VAELossConfig

DATA = ("qm9", "mp20")


def joint_tiny() -> Recipe:
    """The networks of the weights in the wheel: small enough for a laptop, trained in hours on two CPU cores."""
    return Recipe(
        name="joint-tiny",
        data=DATA,
        vae=VAEConfig(width=256, heads=8, encoder_layers=3, decoder_layers=6, latent_dim=8, qk_norm=True),
        vae_loss=VAELossConfig(position=1.0, distance=5.0, kl=1e-4, latent_noise=0.3),
        vae_train=TrainConfig(
            steps=1400,
            crystal_fraction=0.3,
            optim=OptimConfig(optimizer="muon", learning_rate=2e-3, muon_learning_rate=0.02, gradient_clip=1.0,
                              warmup_steps=100, decay_fraction=0.4, ema_decay=0.998),
        ),
        decoder_loss=VAELossConfig(position=1.0, distance=5.0, latent_noise=0.2),
        decoder_train=TrainConfig(
            steps=1240,
            tokens_per_group=2048,
            crystal_fraction=0.25,
            optim=OptimConfig(optimizer="muon", learning_rate=1e-3, muon_learning_rate=0.01, gradient_clip=1.0,
                              warmup_steps=50, decay_fraction=0.6, ema_decay=0.995),
        ),
        dit=DiTConfig(width=256, heads=8, layers=12, latent_dim=8, qk_norm=True, composition=16),
        flow=FlowConfig(time_sampling="logit-normal", time_mean=0.2, time_std=0.9, weight_cap=0.95),
        dit_train=TrainConfig(
            steps=15_000,
            tokens_per_group=2048,
            crystal_fraction=0.2,
            optim=OptimConfig(optimizer="muon", learning_rate=1e-3, muon_learning_rate=0.02, gradient_clip=1.0,
                              warmup_steps=200, decay_fraction=0.3, ema_decay=0.999),
        ),
    )  # fmt: skip


def joint_tiny_told() -> Recipe:
    """Trains the weights in the wheel on (`--start joint-tiny`), mostly with crystals, and tells their composition."""
    tiny = joint_tiny()
    optim = replace(tiny.dit_train.optim, learning_rate=3e-4, muon_learning_rate=6e-3, warmup_steps=50,
                    decay_fraction=0.6, ema_decay=0.998)  # fmt: skip
    return replace(
        tiny,
        name="joint-tiny-told",
        flow=replace(tiny.flow, crystal_composition=0.6),
        dit_train=replace(tiny.dit_train, steps=4000, crystal_fraction=0.7, checkpoint_every=200, optim=optim),
    )


def joint_tiny_guide() -> Recipe:
    """A small, briefly trained network that guides that of joint-tiny while sampling (`adit-train export --guide`).

    It is not told what crystals are made of: away from it is nearer to the composition, too.
    """
    tiny = joint_tiny()
    return replace(
        tiny,
        name="joint-tiny-guide",
        flow=replace(tiny.flow, crystal_composition=0.0),
        dit=replace(tiny.dit, width=128, heads=4, layers=4),
        dit_train=replace(
            tiny.dit_train, steps=2800, tokens_per_step=4096, optim=replace(tiny.dit_train.optim, ema_decay=0.995)
        ),
    )


def joint_gpu() -> Recipe:
    """The largest model that fits the wheel in half precision, for `adit-train speedrun` on one GPU."""
    tiny = joint_tiny_gpu()
    return replace(
        tiny,
        name="joint-gpu",
        vae=replace(tiny.vae, width=320, heads=10, encoder_layers=4),
        dit=replace(tiny.dit, width=320, heads=10, layers=10),
    )


def joint_tiny_gpu() -> Recipe:
    """The networks of joint-tiny with the batches of a GPU: for all stages, or to train the weights in the wheel on."""
    tiny = joint_tiny()

    def large(train: TrainConfig, tokens_per_step: int, groups: int, optim: OptimConfig) -> TrainConfig:
        return replace(
            train,
            tokens_per_step=tokens_per_step,
            tokens_per_group=tokens_per_step // groups,
            compile=False,
            cuda_graphs=True,
            log_every=100,
            checkpoint_every=2000,
            optim=optim,
        )

    return replace(
        tiny,
        name="joint-tiny-gpu",
        vae_train=large(tiny.vae_train, 24_576, 2, replace(tiny.vae_train.optim, ema_decay=0.999)),
        decoder_train=large(tiny.decoder_train, 24_576, 2, replace(tiny.decoder_train.optim, ema_decay=0.999)),
        flow=replace(tiny.flow, latent_copies=32, crystal_composition=0.7),
        dit_train=large(  # of another seed: the wheel's weights know the orientations of 0
            replace(tiny.dit_train, crystal_fraction=0.3, seed=1), 49_152, 1,
            replace(tiny.dit_train.optim, ema_decay=0.9995, decay_fraction=0.5),
        ),
    )  # fmt: skip


def joint_small() -> Recipe:
    """DiT-S at the published size and settings (arXiv 2503.03965): for a GPU."""
    train = TrainConfig(
        steps=200_000,
        tokens_per_step=65_536,
        tokens_per_group=16_384,
        crystal_fraction=0.2,
        compile=False,
        optim=OptimConfig(warmup_steps=1000),
    )
    return Recipe(
        name="joint-s",
        data=DATA,
        vae=VAEConfig(),
        vae_loss=VAELossConfig(distance=5.0, kl=1e-4),
        vae_train=train,
        decoder_loss=VAELossConfig(distance=5.0, latent_noise=0.2),
        decoder_train=replace(train, steps=100_000),
        dit=DiTConfig(),
        flow=FlowConfig(),
        dit_train=train,
    )


def joint_base() -> Recipe:
    """DiT-B at the published size."""
    return replace(joint_small(), name="joint-b", dit=DiTConfig(width=768, heads=12, layers=12))


def joint_large() -> Recipe:
    """DiT-L at the published size."""
    return replace(joint_small(), name="joint-l", dit=DiTConfig(width=1024, heads=16, layers=24))


def joint_test() -> Recipe:
    """Seconds of training: for tests and for trying the pipeline out."""
    train = TrainConfig(
        steps=40,
        tokens_per_step=512,
        tokens_per_group=256,
        bf16=False,
        compile=False,
        log_every=10,
        checkpoint_every=20,
        validate_every=40,
        validation_samples=16,
        optim=OptimConfig(learning_rate=1e-3, warmup_steps=5, ema_decay=0.9),
    )
    return Recipe(
        name="joint-test",
        data=DATA,
        vae=VAEConfig(width=64, heads=2, encoder_layers=1, decoder_layers=1),
        vae_loss=VAELossConfig(distance=5.0),
        vae_train=train,
        decoder_loss=VAELossConfig(distance=5.0, latent_noise=0.2),
        decoder_train=train,
        dit=DiTConfig(width=64, heads=2, layers=2, composition=16),
        flow=FlowConfig(),
        dit_train=train,
    )
