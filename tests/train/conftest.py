"""Both stages of the recipe joint-test, small enough for seconds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from adit.config import TrainConfig
from adit.data.packed import PackedDataset
from adit.models.dit import DiT
from adit.models.vae import VAE
from adit.recipes import get_recipe
from adit.train.dit import DiTLoss
from adit.train.loop import Trainer
from adit.train.vae import VAELoss

FIXTURE = Path(__file__).parents[1] / "fixtures" / "tiny_dataset"
RECIPE = get_recipe("joint-test")

MakeTrainer = Callable[..., Trainer]


@pytest.fixture(scope="session")
def data() -> PackedDataset:
    return PackedDataset.load(FIXTURE).split("train")


@pytest.fixture(scope="session")
def make_trainer(data: PackedDataset) -> MakeTrainer:
    """`make_trainer("vae" or "dit", folder, **changes of the TrainConfig)`: every call gives a fresh model."""

    def make(stage: str, folder: Path, data: PackedDataset = data, **changes: Any) -> Trainer:
        config: TrainConfig = replace(
            RECIPE.vae_train,
            **{"steps": 30, "tokens_per_step": 192, "tokens_per_group": 96, "log_every": 10, **changes},
        )
        torch.manual_seed(0)
        vae = VAE(RECIPE.vae)
        if stage == "vae":
            return Trainer(
                model=vae, loss=VAELoss(vae, RECIPE.vae_loss), data=data, config=config, folder=folder, header={}
            )
        dit = DiT(RECIPE.dit)
        return Trainer(
            model=dit, loss=DiTLoss(dit, vae, RECIPE.flow), data=data, config=config, folder=folder, header={}
        )

    return make
