"""The published sizes (arXiv 2503.03965), counted without allocating them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from adit.config import DiTConfig, VAEConfig
from adit.models.dit import DiT
from adit.models.vae import VAE
from adit.recipes import RECIPES, get_recipe


def millions(kind: type[nn.Module], config: object) -> float:
    with torch.device("meta"):
        return sum(p.numel() for p in kind(config).parameters()) / 1e6


@pytest.mark.parametrize(("recipe", "published"), [("joint-s", 32.6), ("joint-b", 129.7), ("joint-l", 457.0)])
def test_dit(recipe: str, published: float) -> None:
    assert millions(DiT, get_recipe(recipe).dit) == pytest.approx(published, rel=0.01)


def test_vae() -> None:
    assert millions(VAE, VAEConfig()) == pytest.approx(51.1, rel=0.01)
    assert all(get_recipe(name).vae == VAEConfig() for name in ("joint-s", "joint-b", "joint-l"))


def test_the_defaults_are_the_published_size_s() -> None:
    assert get_recipe("joint-s").dit == DiTConfig()


def test_tiny_fits_the_wheel() -> None:
    """At most 60 MB in half precision: the decoder and the DiT."""
    recipe = get_recipe("joint-tiny")
    with torch.device("meta"):
        decoder = sum(p.numel() for p in VAE(recipe.vae).decoder.parameters()) / 1e6
    assert 2 * (millions(DiT, recipe.dit) + decoder) < 60


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_fit_together(name: str) -> None:
    recipe = get_recipe(name)
    assert recipe.name == name
    assert recipe.vae.latent_dim == recipe.dit.latent_dim
    for config in (recipe.vae, recipe.dit):
        assert config.width % config.heads == 0 and config.width % 2 == 0
    for train in (recipe.vae_train, recipe.dit_train):
        assert train.checkpoint_every % train.log_every == 0
        assert train.optim.warmup_steps < (1 - train.optim.decay_fraction) * train.steps
    docs = Path(__file__).parents[2] / "docs"
    assert docs.is_dir()
