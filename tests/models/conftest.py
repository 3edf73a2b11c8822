"""A batch of real systems, and small networks whose every weight is random."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from adit.batch import SystemBatch, gather
from adit.config import DiTConfig, VAEConfig
from adit.data.packed import PackedDataset
from adit.models.dit import DiT
from adit.models.vae import VAE

FIXTURE = Path(__file__).parents[1] / "fixtures" / "tiny_dataset"


@pytest.fixture(scope="session")
def data() -> PackedDataset:
    return PackedDataset.load(FIXTURE)


@pytest.fixture(scope="session")
def batch(data: PackedDataset) -> SystemBatch:
    """Six molecules and six crystals of QM9 and MP-20, all of the same number of atoms."""
    for size in range(8, 25):
        kinds = [np.flatnonzero((data.sizes == size) & (data.periodic == kind))[:6] for kind in (False, True)]
        if all(len(kind) == 6 for kind in kinds):
            chosen = np.stack(kinds, 1).ravel()
            return gather(data, chosen)
    raise AssertionError("the fixture has no size with six of each")


def shaken(model: nn.Module, seed: int) -> nn.Module:
    """Random values everywhere: zeros at the start (AdaLN-zero) would hide what a layer does."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator) / max(1, parameter.shape[-1]) ** 0.5)
    return model.eval()


@pytest.fixture(scope="session")
def vae() -> VAE:
    torch.manual_seed(0)
    return shaken(VAE(VAEConfig(width=32, heads=2, encoder_layers=2, decoder_layers=2, latent_dim=4)), 1)  # type: ignore[return-value]


@pytest.fixture(scope="session", params=[False, True], ids=["plain", "qk_norm"])
def dit(request: pytest.FixtureRequest) -> DiT:
    torch.manual_seed(0)
    return shaken(DiT(DiTConfig(width=32, heads=2, layers=2, latent_dim=4, qk_norm=request.param)), 2)  # type: ignore[return-value]
