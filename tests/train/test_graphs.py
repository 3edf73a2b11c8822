"""Training steps as CUDA graphs; needs a GPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from adit.data.packed import PackedDataset
from adit.models.dit import DiT
from adit.models.vae import VAE
from adit.recipes import get_recipe
from adit.train.dit import DiTLoss
from adit.train.latents import LatentPool
from adit.train.loop import Loss, Trainer
from adit.train.vae import DecoderLoss, VAELoss

pytestmark = pytest.mark.gpu
RECIPE = get_recipe("joint-test")


def trainer(kind: str, data: PackedDataset, folder: Path, graphs: bool, bf16: bool) -> Trainer:
    torch.manual_seed(0)
    device, pool = torch.device("cuda"), None
    vae, dit = VAE(RECIPE.vae).to(device), DiT(RECIPE.dit).to(device)
    with torch.no_grad():
        for parameter in dit.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    config = replace(
        RECIPE.dit_train, tokens_per_step=1024, tokens_per_group=512, cuda_graphs=graphs, bf16=bf16, steps=6
    )
    config = replace(config, optim=replace(config.optim, optimizer="muon"))
    model: torch.nn.Module = vae
    loss: Loss = VAELoss(vae, RECIPE.vae_loss)
    if kind == "decoder":
        loss = DecoderLoss(vae, RECIPE.decoder_loss)
    elif kind == "dit":
        model, loss = dit, DiTLoss(dit, vae, RECIPE.flow)
        pool = LatentPool(vae, data, 2, 512, 0.5, RECIPE.flow.self_conditioning, 0)
    return Trainer(model=model, loss=loss, data=data, config=config, folder=folder, header={}, device=device, pool=pool)


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("kind", ["vae", "decoder", "dit"])
def test_a_replayed_step_has_the_gradients_of_one_that_python_asks_for(
    kind: str, bf16: bool, data: PackedDataset, tmp_path: Path
) -> None:
    found = []
    for graphs in (False, True):
        one = trainer(kind, data, tmp_path / str(graphs), graphs, bf16)
        generator = torch.Generator("cuda")
        seen = []
        groups = [group for groups, _ in zip(one.sampler(), range(4), strict=False) for group in groups]
        for number, group in enumerate([*groups, *groups]):  # each shape twice: when it is captured, and after
            generator.manual_seed(number)
            batch = one.fetch(group, generator)
            loss_B, _ = one.gradients(batch, generator, torch.full((), 1e-3, device="cuda"))
            grads = [p.grad for p in one.model.parameters() if p.grad is not None]
            seen.append([loss_B.clone(), *(grad.clone() for grad in grads)])
            torch._foreach_zero_(grads)
        found.append(seen)
    for plain, replayed in zip(*found, strict=True):
        for a, b in zip(plain, replayed, strict=True):
            assert (a - b).norm() <= (0.02 if bf16 else 1e-3) * a.norm() + 1e-6


@pytest.mark.parametrize("kind", ["vae", "dit"])
def test_a_run_of_graphs_is_the_run_without(kind: str, data: PackedDataset, tmp_path: Path) -> None:
    losses = []
    for graphs in (False, True):
        one = trainer(kind, data, tmp_path / str(graphs), graphs, bf16=False)
        one.run()
        text = (one.folder / "log.csv").read_text().splitlines()
        losses.append([float(row.split(",")[3]) for row in text if ",loss," in row])
    assert np.allclose(*losses, rtol=0.01) and losses[0]
