"""EDM trained by adit's loop and sampled: the same data, batches of one size, budget, averages and checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from adit.batch import SystemBatch
from adit.config import OptimConfig, TrainConfig
from adit.data.packed import PackedDataset
from adit.prior import atom_distribution
from adit.system import AtomicSystem
from adit.train.checkpoint import list_checkpoints, load_tensors
from adit.train.loop import Trainer
from adit.train.meter import Budget
from adit.train.validate import atom_counts, held_out_loss, known_smiles, molecule_figures
from baselines.edm import EDM
from baselines.edm_diffusion import EDMDiffusion, decode_types, encode_types

Block = Callable[[], list[AtomicSystem]]


class EDMLoss:
    """The simple loss on a batch of molecules of one size. The network is equivariant: nothing is turned."""

    def __init__(self, diffusion: EDMDiffusion) -> None:
        self.diffusion = diffusion

    def __call__(self, batch: SystemBatch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        return self.diffusion.loss(batch.cartesian, encode_types(batch.numbers), None, generator), {}


def build(width: int, layers: int, seed: int, device: torch.device, *, compiled: bool = False) -> EDMDiffusion:
    """EDM's network with random weights, its first layers on pairs computed the cheaper way."""
    torch.manual_seed(seed)
    network = EDM(width=width, layers=layers)
    for block in network.blocks:
        block.thrifty = True
        if compiled:
            block.compile(dynamic=True)
    return EDMDiffusion(network).to(device)


def train_config(optim: OptimConfig, batch: int, seed: int, validation_samples: int, *, bf16: bool) -> TrainConfig:
    """`batch` molecules of QM9's mean size in a step."""
    return TrainConfig(
        steps=1,  # the budget sets them
        tokens_per_step=18 * batch,
        tokens_per_group=288,  # 16 molecules: measured to be the quickest on a CPU
        seed=seed,
        bf16=bf16,
        log_every=20,
        checkpoint_every=100,
        validation_samples=validation_samples,
        optim=optim,
    )


def train(
    diffusion: EDMDiffusion, data: PackedDataset, config: TrainConfig, folder: Path, budget: Budget, evaluations: int
) -> None:
    """Spends the budget, or what an interrupted run left of it. Checkpoints and `log.csv` go to `folder`."""
    train, held_out = data.split("train"), data.split("val")
    device, loss = diffusion.alpha.device, EDMLoss(diffusion)
    n = config.validation_samples

    def validate(_: torch.nn.Module) -> dict[str, float]:
        made = [item for block in blocks(diffusion, train, n, evaluations, 0, bf16=config.bf16) for item in block()]
        figures = {"loss": held_out_loss(loss, held_out, 5 * n, device)} if len(held_out) else {}
        return figures | molecule_figures(made, known_smiles(train, folder / "known_smiles.txt"))

    trainer = Trainer(
        model=diffusion.network.egnn,
        loss=loss,
        data=train,
        config=config,
        folder=folder,
        header={"stage": "edm"},
        validate=validate,
        device=device,
        budget=budget,
    )
    trainer.run(resume=True)


def load_average(diffusion: EDMDiffusion, folder: Path) -> None:
    """The averaged weights of the last checkpoint."""
    load_tensors(list_checkpoints(folder)[-1] / "ema.safetensors", diffusion.network.egnn)


def blocks(
    diffusion: EDMDiffusion, train: PackedDataset, n: int, evaluations: int, seed: int, *, bf16: bool, most: int = 32
) -> Iterator[Block]:
    """Functions that make `n` molecules in all, up to `most` of one size each; sizes as in the training set."""
    values, probabilities = atom_distribution(atom_counts(train)["molecule"], None)
    sizes = np.sort(np.random.default_rng(seed).choice(values, n, p=probabilities))
    groups = [part for size in np.unique(sizes) for part in _parts(sizes[sizes == size], most)]
    for number, group in enumerate(groups):
        yield partial(_block, diffusion, torch.from_numpy(group), evaluations, 1_000_003 * seed + number, bf16)


def _parts(sizes: np.ndarray, most: int) -> list[np.ndarray]:
    return [sizes[start : start + most] for start in range(0, len(sizes), most)]


@torch.inference_mode()
def _block(diffusion: EDMDiffusion, sizes: Tensor, evaluations: int, seed: int, bf16: bool) -> list[AtomicSystem]:
    device = diffusion.alpha.device
    generator = torch.Generator(device).manual_seed(seed)
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        positions, types, _ = diffusion.sample(sizes, generator, evaluations)
    # a broken network may run to infinity: such molecules count, with atoms far apart
    positions = positions.nan_to_num(1e3, 1e3, -1e3).clamp(-1e3, 1e3).cpu().double().numpy()
    numbers = decode_types(types.nan_to_num(0.0)).cpu().numpy()
    return [AtomicSystem(*pair) for pair in zip(numbers, positions, strict=True)]
