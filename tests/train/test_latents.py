"""Latents encoded beforehand, and training on packed batches of them."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adit.batch import gather
from adit.data.packed import PackedDataset
from adit.data.sampler import TokenBudgetSampler
from adit.errors import InvalidInputError
from adit.models.dit import DiT, composition
from adit.models.vae import VAE
from adit.recipes import get_recipe
from adit.train.dit import DiTLoss
from adit.train.latents import LatentPool
from adit.train.loop import Trainer

RECIPE = get_recipe("joint-test")
TOKENS = 400


@pytest.fixture(scope="module")
def vae() -> VAE:
    torch.manual_seed(0)
    return VAE(RECIPE.vae)


def make_pool(vae: VAE, data: PackedDataset, copies: int = 3, first: float = 0.5) -> LatentPool:
    return LatentPool(vae, data, copies, TOKENS, 0.5, first, seed=0)


def groups(pool: LatentPool, data: PackedDataset, count: int) -> list[np.ndarray]:
    sampler = TokenBudgetSampler(data.sizes, data.periodic, 1, pool.tokens, 0.5, seed=0, mixed=True)
    return [group for step in islice(sampler, count) for group in step]


def test_each_copy_is_a_system_in_an_orientation_or_shift_of_its_own(
    vae: VAE, data: PackedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = make_pool(vae, data)
    assert pool.latents.shape == (3, len(data.numbers), RECIPE.vae.latent_dim)
    for k in (0, 70):
        atoms = slice(int(data.offsets[k]), int(data.offsets[k + 1]))
        copies = pool.latents[:, atoms].float()
        assert all((copies[i] - copies[j]).abs().max() > 0.01 for i, j in ((0, 1), (0, 2), (1, 2)))
    monkeypatch.setattr("adit.train.latents.augment", lambda batch, _: batch)
    plain = make_pool(vae, data, copies=1)
    for k in range(len(data)):
        one = gather(data, np.array([k]))
        atoms = slice(int(data.offsets[k]), int(data.offsets[k + 1]))
        torch.testing.assert_close(plain.latents[0, atoms].float(), vae.encode(one)[0], atol=2e-3, rtol=2e-3)
        assert torch.equal(plain.counts[k].long(), composition(one.numbers)[0])


@pytest.mark.parametrize("first", [0.0, 0.25, 0.5, 1.0])
def test_batches_have_one_shape_and_hold_what_was_asked_for(vae: VAE, data: PackedDataset, first: float) -> None:
    pool = make_pool(vae, data, copies=1, first=first)
    shapes = set()
    for group in groups(pool, data, 20):
        batch = pool.batch(group, torch.Generator().manual_seed(0))
        shapes.add((batch.latents.shape, batch.sizes.shape, batch.first))
        counts = batch.sizes > 0
        assert batch.sizes[counts].long().tolist() == data.sizes[group].tolist()
        assert batch.periodic[counts].tolist() == data.periodic[group].tolist()
        assert torch.equal(batch.counts[counts], pool.counts[group].long())
        lengths = batch.packing.offsets.diff()
        assert lengths.sum() == TOKENS and lengths.max() <= batch.packing.max_length
        systems, atoms = batch.first
        assert batch.packing.offsets[systems] == atoms
        assert atoms == (TOKENS if first == 1 else int(first * TOKENS))
        for row, system in zip(counts.nonzero()[:, 0].tolist(), group.tolist(), strict=True):
            place = slice(int(batch.packing.offsets[row]), int(batch.packing.offsets[row + 1]))
            truth = pool.latents[0, int(data.offsets[system]) : int(data.offsets[system + 1])].float()
            assert torch.equal(batch.latents[place], truth)
    assert len(shapes) == 1


def test_a_budget_too_small_is_refused(vae: VAE, data: PackedDataset) -> None:
    with pytest.raises(InvalidInputError, match=r"need more than 3 times.*got tokens_per_group=60"):
        LatentPool(vae, data, 1, 60, 0.5, 0.5, seed=0)


def test_the_packed_loss_is_that_of_each_system_alone(vae: VAE, data: PackedDataset) -> None:
    """Fed the same noise, times and labels; and systems that do not count have no say."""
    torch.manual_seed(0)
    dit = DiT(replace(RECIPE.dit, qk_norm=True))
    with torch.no_grad():
        for parameter in dit.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    pool = make_pool(vae, data)
    batch = pool.batch(groups(pool, data, 1)[0], torch.Generator().manual_seed(0))
    seen: list[tuple[torch.Tensor, ...]] = []
    dit.register_forward_hook(lambda _, arguments, out: seen.append((*arguments[:5], out)))
    loss = DiTLoss(dit, vae, RECIPE.flow)
    loss_B, terms = loss(batch, torch.Generator().manual_seed(1))
    assert loss_B.isfinite().all() and terms["error"].isfinite().all()
    (x, t, label, guess, counts, out), offsets = seen[1], batch.packing.offsets.tolist()
    systems, atoms = batch.first
    assert guess[:atoms].any() and not guess[atoms:].any() and len(seen[0][1]) == systems
    for row in (batch.sizes > 0).nonzero()[:, 0].tolist():
        place = slice(offsets[row], offsets[row + 1])
        alone = dit(x[None, place], t[[row]], label[[row]], guess[None, place], counts[[row]])
        torch.testing.assert_close(out[place], alone[0], atol=1e-4, rtol=1e-4)
    (loss_B * batch.sizes).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in dit.parameters())


def make_trainer(vae: VAE, data: PackedDataset, folder: Path, steps: int = 30) -> Trainer:
    torch.manual_seed(0)
    dit = DiT(RECIPE.dit)
    config = replace(
        RECIPE.dit_train,
        steps=steps,
        tokens_per_step=2 * TOKENS,
        tokens_per_group=TOKENS,
        log_every=10,
        cuda_graphs=True,
    )
    return Trainer(
        model=dit, loss=DiTLoss(dit, vae, RECIPE.flow), data=data, config=config, folder=folder, header={},
        pool=make_pool(vae, data),
    )  # fmt: skip


def test_training_on_packed_batches_learns_and_resumes(vae: VAE, data: PackedDataset, tmp_path: Path) -> None:
    whole = make_trainer(vae, data, tmp_path / "whole")
    whole.run()
    rows = (tmp_path / "whole" / "log.csv").read_text().splitlines()
    losses = [float(row.split(",")[3]) for row in rows if ",train,loss," in row]
    assert losses[-1] < losses[0]
    assert all(len(step) == 2 for step in islice(whole.sampler(), 50))
    make_trainer(vae, data, tmp_path / "two").run(stop_at=20)
    again = make_trainer(vae, data, tmp_path / "two")
    again.run(resume=True)
    for one, two in zip(whole.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, two)


@given(st.lists(st.integers(1, 29), min_size=1, max_size=200), st.integers(60, 500), st.integers(0, 9))
@settings(max_examples=50, deadline=None)
def test_mixed_groups_fill_their_budget(sizes: list[int], budget: int, seed: int) -> None:
    sizes_N = np.array(sizes)
    sampler = TokenBudgetSampler(sizes_N, np.zeros(len(sizes), dtype=bool), 1, budget, 0.5, seed, mixed=True)
    steps = list(islice(sampler, 40))
    assert all(len(groups) == 1 for groups in steps)
    assert all(budget - 29 < int(sizes_N[groups[0]].sum()) <= budget for groups in steps)
    drawn = np.concatenate([groups[0] for groups in steps])
    assert set(drawn.tolist()) <= set(range(len(sizes)))
    assert [g[0].tolist() for g in islice(sampler, 40)] == [g[0].tolist() for g in steps], "again the same"
