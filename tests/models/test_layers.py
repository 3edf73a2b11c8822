"""Embeddings, attention and the behaviour of whole networks under symmetry."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from adit.batch import SystemBatch
from adit.config import DiTConfig
from adit.errors import InvalidInputError
from adit.models.dit import CRYSTAL, MOLECULE, NULL, DiT
from adit.models.layers import FinalLayer, SelfAttention, fourier_features, sinusoidal_embedding
from adit.models.vae import VAE
from adit.ops.attention import attention


@pytest.mark.parametrize(("width", "heads"), [(66, 4), (65, 5), (64, 0)])
def test_widths_that_cannot_be_are_refused_at_once(width: int, heads: int) -> None:
    with pytest.raises(InvalidInputError, match="`heads` must divide the width"):
        DiT(DiTConfig(width=width, heads=heads, layers=1))


@given(st.lists(st.floats(0, 1, exclude_max=True), min_size=3, max_size=3), st.integers(-2, 2), st.integers(1, 6))
@settings(max_examples=50, deadline=None)
def test_fourier_features_have_the_period_of_the_cell(fractional: list[float], cells: int, count: int) -> None:
    f = torch.tensor(fractional, dtype=torch.float64)
    features = fourier_features(f, count)
    assert features.shape == (6 * count,)
    torch.testing.assert_close(features, fourier_features(f + cells, count), atol=1e-5, rtol=0)
    k = np.arange(1, count + 1)
    angles = (2 * math.pi * f.numpy()[:, None] * k).ravel()
    np.testing.assert_allclose(features.numpy(), np.concatenate([np.cos(angles), np.sin(angles)]), atol=1e-5)


def test_fourier_features_tell_every_place_in_the_cell_apart() -> None:
    grid = torch.cartesian_prod(*[torch.arange(8) / 8] * 3)
    features = fourier_features(grid, 4)
    distance = torch.cdist(features, features) + 9 * torch.eye(len(grid))
    assert distance.min() > 0.5


def test_sinusoidal_embedding_against_numpy() -> None:
    values = torch.arange(40)
    frequencies = 10_000.0 ** (-np.arange(8) / 8)
    angles = values.numpy()[:, None] * frequencies
    expected = np.concatenate([np.cos(angles), np.sin(angles)], 1)
    np.testing.assert_allclose(sinusoidal_embedding(values, 16).numpy(), expected, atol=1e-5)
    distance = torch.cdist(*[sinusoidal_embedding(torch.arange(2048), 64)] * 2) + 9 * torch.eye(2048)
    assert distance.min() > 0.1, "atoms 1 to 2048 must have places of their own"


@pytest.mark.parametrize("atoms", [1, 2, 7])
def test_attention_is_the_one_of_torch(atoms: int) -> None:
    q, k, v = torch.randn(3, 4, 2, atoms, 8, generator=torch.Generator().manual_seed(0)).unbind(0)
    torch.testing.assert_close(attention(q, k, v), F.scaled_dot_product_attention(q, k, v))


def test_attention_of_a_layer_against_float64() -> None:
    torch.manual_seed(0)
    layer = SelfAttention(12, 3, qk_norm=False)
    x = torch.randn(2, 5, 12)
    made = layer(x).detach().numpy()
    weights, bias = layer.qkv.weight.detach().double().numpy(), layer.qkv.bias.detach().double().numpy()
    for system in range(2):
        q, k, v = np.split(x[system].double().numpy() @ weights.T + bias, 3, axis=1)
        heads = []
        for head in range(3):
            part = slice(4 * head, 4 * head + 4)
            logits = q[:, part] @ k[:, part].T / 2.0
            share = np.exp(logits - logits.max(1, keepdims=True))
            heads.append(share / share.sum(1, keepdims=True) @ v[:, part])
        out = np.concatenate(heads, 1) @ layer.out.weight.detach().double().numpy().T + layer.out.bias.detach().numpy()
        np.testing.assert_allclose(made[system], out, atol=1e-5)


def test_normalised_queries_do_not_see_the_scale_of_the_input() -> None:
    torch.manual_seed(0)
    layer = SelfAttention(16, 2, qk_norm=True)
    torch.nn.init.zeros_(layer.qkv.bias)
    x = torch.randn(1, 6, 16)
    torch.testing.assert_close(layer(100 * x) - layer.out.bias, 100 * (layer(x) - layer.out.bias), rtol=1e-3, atol=1e-3)


def run_dit(dit: DiT, x: torch.Tensor, t: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return dit(x, t, label, torch.zeros_like(x))


def inputs(systems: int = 5, atoms: int = 6) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    label = torch.tensor([MOLECULE, CRYSTAL, NULL, MOLECULE, CRYSTAL])[:systems]
    x = torch.randn(systems, atoms, 4, generator=generator)
    return x, torch.linspace(0, 1, systems), label


def test_systems_of_a_batch_do_not_see_each_other(dit: DiT, vae: VAE, batch: SystemBatch) -> None:
    x, t, label = inputs()
    before = run_dit(dit, x, t, label)
    x[2] = 50 * torch.randn(6, 4)
    t[2], label[2] = 0.9, MOLECULE
    after = run_dit(dit, x, t, label)
    others = torch.arange(5) != 2
    assert torch.equal(before[others], after[others])
    assert not torch.allclose(before[2], after[2])

    numbers, cartesian = batch.numbers.clone(), batch.cartesian.clone()
    numbers[2], cartesian[2] = 1, 9.0
    changed = replace(batch, numbers=numbers, cartesian=cartesian)
    others = torch.arange(batch.n_systems) != 2
    with torch.no_grad():
        assert torch.equal(vae.encode(batch)[others], vae.encode(changed)[others])
        assert not torch.allclose(vae.encode(batch)[2], vae.encode(changed)[2])


def test_a_batch_gives_what_its_systems_give_alone(dit: DiT, vae: VAE, batch: SystemBatch) -> None:
    x, t, label = inputs()
    together = run_dit(dit, x, t, label)
    alone = torch.cat([run_dit(dit, x[k : k + 1], t[k : k + 1], label[k : k + 1]) for k in range(5)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


def test_the_order_of_atoms_matters_because_of_the_index_embedding(dit: DiT) -> None:
    """As published: the networks are not permutation equivariant. Without the embedding they would be, and atoms
    with equal noise could never part."""
    x, t, label = inputs()
    flipped = run_dit(dit, x.flip(1), t, label).flip(1)
    assert not torch.allclose(run_dit(dit, x, t, label), flipped, atol=1e-3)

    import adit.models.dit as module

    with pytest.MonkeyPatch.context() as patch:

        def without_index(values: torch.Tensor, width: int) -> torch.Tensor:
            return 0.0 * sinusoidal_embedding(values, width) if width == 32 else sinusoidal_embedding(values, width)

        patch.setattr(module, "sinusoidal_embedding", without_index)
        flipped = run_dit(dit, x.flip(1), t, label).flip(1)
        torch.testing.assert_close(run_dit(dit, x, t, label), flipped, atol=1e-5, rtol=1e-4)


def test_time_label_and_self_conditioning_all_count(dit: DiT) -> None:
    x, t, label = inputs()
    base = run_dit(dit, x, t, label)
    assert not torch.allclose(base, run_dit(dit, x, t + 0.05, label), atol=1e-4)
    assert not torch.allclose(base, run_dit(dit, x, t, (label + 1) % 3), atol=1e-4)
    with torch.no_grad():
        assert not torch.allclose(base, dit(x, t, label, torch.ones_like(x)), atol=1e-4)


def test_an_untrained_dit_says_zero() -> None:
    """AdaLN-zero: every block is the identity and the output layer gives zero."""
    from adit.config import DiTConfig

    x, t, label = inputs()
    assert not run_dit(DiT(DiTConfig(width=32, heads=2, layers=2, latent_dim=4)), x, t, label).any()
    assert not FinalLayer(8, 3)(torch.randn(1, 2, 8), torch.randn(1, 2, 8)).any()


def test_self_conditioning_under_autocast_does_not_cost_the_gradient() -> None:
    """A forward pass without gradient must not leave bfloat16 copies of the weights that have none."""
    torch.manual_seed(0)
    lone = torch.nn.Linear(4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        with torch.no_grad():
            guess = lone(torch.ones(2, 4))
        lone(guess.float()).float().sum().backward()
    assert lone.weight.grad is not None and lone.weight.grad.abs().sum() > 0


def test_one_condition_for_all_systems_is_the_same_as_one_for_each(dit: DiT) -> None:
    x, _, _ = inputs()
    each = run_dit(dit, x, torch.full((5,), 0.3), torch.full((5,), CRYSTAL))
    shared = run_dit(dit, x, torch.tensor([0.3]), torch.tensor([CRYSTAL]))
    torch.testing.assert_close(shared, each, atol=1e-5, rtol=1e-5)
