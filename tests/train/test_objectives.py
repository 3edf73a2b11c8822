"""What the two stages are trained to do."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from adit.batch import SystemBatch, gather
from adit.config import VAELossConfig
from adit.data.packed import PackedDataset
from adit.models.dit import CRYSTAL, MOLECULE, NULL, DiT
from adit.models.losses import minimum_image
from adit.models.vae import MASKED, VAE
from adit.recipes import get_recipe
from adit.train.dit import DiTLoss
from adit.train.vae import DecoderLoss, VAELoss, corrupt

RECIPE = get_recipe("joint-test")


@pytest.fixture(scope="module")
def batch(data: PackedDataset) -> SystemBatch:
    size = 14
    kinds = [np.flatnonzero((data.sizes == size) & (data.periodic == kind))[:4] for kind in (False, True)]
    chosen = np.resize(np.concatenate(kinds), 400)
    return gather(data, chosen)


def test_corruption_hides_types_and_jitters_others(batch: SystemBatch) -> None:
    config = VAELossConfig(mask_fraction=0.1, jitter_fraction=0.1, jitter=0.1)
    dirty = corrupt(batch, config, torch.Generator().manual_seed(0))
    masked = dirty.numbers == MASKED
    assert torch.equal(dirty.numbers[~masked], batch.numbers[~masked])
    shift = minimum_image(dirty.fractional - batch.fractional) @ batch.cells
    crystal = batch.periodic[:, None, None]
    shift = torch.where(crystal, shift, dirty.cartesian - batch.cartesian)
    moved = shift.norm(dim=-1) > 1e-4
    assert not (moved & masked).any()
    count = masked.numel()
    for flags in (masked, moved):
        assert flags.float().mean().item() == pytest.approx(0.1, abs=5 * (0.09 / count) ** 0.5)
    for kind in (batch.periodic, ~batch.periodic):
        spread = shift[kind][moved[kind]].std().item()
        assert spread == pytest.approx(0.1, rel=0.1), "0.1 Angstrom for molecules and for crystals, through the cell"
    assert torch.equal(dirty.lattice, batch.lattice) and torch.equal(dirty.cells, batch.cells)
    assert (dirty.fractional >= 0).all() and (dirty.fractional < 1).all()


def test_the_targets_of_the_autoencoder_stay_clean(batch: SystemBatch, monkeypatch: pytest.MonkeyPatch) -> None:
    import adit.train.vae as module

    targets: list[SystemBatch] = []
    inner = module.reconstruction_terms
    monkeypatch.setattr(module, "reconstruction_terms", lambda d, clean: targets.append(clean) or inner(d, clean))
    torch.manual_seed(0)
    vae = VAE(RECIPE.vae)
    loss, terms = VAELoss(vae, RECIPE.vae_loss)(batch, torch.Generator().manual_seed(0))
    assert loss.shape == (400,) and loss.requires_grad and loss.isfinite().all()
    assert torch.equal(targets[0].numbers, batch.numbers)
    gram = [x.cartesian.double() @ x.cartesian.double().mT for x in (targets[0], batch)]
    torch.testing.assert_close(gram[0], gram[1], atol=1e-4, rtol=1e-4)
    assert {"type", "position", "distance", "fractional", "length", "angle", "kl", "rmsd", "accuracy"} == set(terms)


def test_latent_noise_is_drawn_for_each_system(batch: SystemBatch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between 0 and `latent_noise` of the latents' spread, before decoding."""
    torch.manual_seed(0)
    vae = VAE(RECIPE.vae)
    vae.latent_std.fill_(2.0)
    monkeypatch.setattr(VAELoss, "_follow", lambda self, mean: None)
    seen: list[torch.Tensor] = []
    vae.decoder.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    quiet = replace(RECIPE.vae_loss, latent_noise=0.0)
    for config in (quiet, replace(quiet, latent_noise=0.5)):
        VAELoss(vae, config)(batch, torch.Generator().manual_seed(0))
    strength = (seen[1] - seen[0]).flatten(1).std(1) / 2.0
    assert strength.max() < 0.65 and strength.min() < 0.05
    assert strength.mean().item() == pytest.approx(0.25, rel=0.15)


def test_latents_have_the_posterior_s_spread(batch: SystemBatch) -> None:
    torch.manual_seed(0)
    vae = VAE(RECIPE.vae)
    posterior: list[tuple[torch.Tensor, torch.Tensor]] = []
    sampled: list[torch.Tensor] = []
    vae.encoder.register_forward_hook(lambda _, __, out: posterior.append(out))
    vae.decoder.register_forward_pre_hook(lambda _, arguments: sampled.append(arguments[0]))
    VAELoss(vae, replace(RECIPE.vae_loss, latent_noise=0.0))(batch, torch.Generator().manual_seed(0))
    [(mean, log_variance)], [latents] = posterior, sampled
    spread = (latents - mean) / (0.5 * log_variance).exp()
    assert abs(float(spread.std()) - 1) < 0.15


def test_latent_statistics_follow_the_posterior(batch: SystemBatch) -> None:
    torch.manual_seed(0)
    vae = VAE(RECIPE.vae)
    loss = VAELoss(vae, RECIPE.vae_loss)
    with torch.no_grad():
        for seed in range(250):
            loss._follow(3.0 + 0.5 * torch.randn(8, 10, 8, generator=torch.Generator().manual_seed(seed)))
    torch.testing.assert_close(vae.latent_mean, torch.full((8,), 3.0), atol=0.05, rtol=0)
    torch.testing.assert_close(vae.latent_std, torch.full((8,), 0.5), atol=0.1, rtol=0)


class Spy(torch.nn.Module):
    """A DiT that keeps what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.config = RECIPE.dit
        self.scale = torch.nn.Parameter(torch.ones(()))
        self.calls: list[tuple[torch.Tensor, ...]] = []

    def forward(self, *arguments: torch.Tensor) -> torch.Tensor:
        *tensors, counts = arguments
        self.told = counts
        self.calls.append((*tensors, torch.tensor(torch.is_grad_enabled())))
        return self.scale * torch.zeros_like(arguments[0])


@pytest.fixture(scope="module")
def vae() -> VAE:
    torch.manual_seed(0)
    return VAE(RECIPE.vae)


def test_the_decoder_alone_learns_from_noised_latents_of_clean_systems(
    batch: SystemBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    vae = VAE(RECIPE.vae)
    vae.latent_std.fill_(2.0)
    latents = vae.encode(batch)
    loss = DecoderLoss(vae, replace(RECIPE.decoder_loss, latent_noise=0.2))
    seen: list[torch.Tensor] = []
    vae.decoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    monkeypatch.setattr("adit.train.vae.augment", lambda systems, generator: systems)
    value, terms = loss(batch, torch.Generator().manual_seed(0))
    value.mean().backward()
    learns = {name for name, parameter in vae.named_parameters() if parameter.grad is not None}
    assert learns == {name for name, _ in vae.named_parameters() if name.startswith("decoder.")}
    assert "kl" not in terms
    noise = ((seen[0] - vae.latent_mean) / vae.latent_std - latents).flatten(1).std(1)
    assert 0.19 < noise.max() < 0.25 and noise.min() < 0.01, (
        "of each system's own strength, up to a fifth of the spread"
    )
    assert torch.equal(vae.encode(batch), latents)


def test_labels_say_what_a_system_is_and_are_dropped_at_times(batch: SystemBatch, vae: VAE) -> None:
    spy = Spy()
    loss = DiTLoss(spy, vae, replace(RECIPE.flow, label_dropout=0.1, self_conditioning=0.0))  # type: ignore[arg-type]
    for seed in range(3):
        loss(batch, torch.Generator().manual_seed(seed))
    labels = torch.stack([call[2] for call in spy.calls])
    kept = labels != NULL
    truth = torch.where(batch.periodic, CRYSTAL, MOLECULE).expand_as(labels)
    assert torch.equal(labels[kept], truth[kept])
    assert (~kept).float().mean().item() == pytest.approx(0.1, abs=5 * (0.09 / labels.numel()) ** 0.5)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_self_conditioning_is_a_pass_without_gradient_for_a_share(batch: SystemBatch, vae: VAE, share: float) -> None:
    spy = Spy()
    few = SystemBatch(*(getattr(batch, field.name)[:8] for field in fields(batch)))
    loss = DiTLoss(spy, vae, replace(RECIPE.flow, self_conditioning=share))  # type: ignore[arg-type]
    loss(few, torch.Generator().manual_seed(0))
    assert [bool(call[4]) for call in spy.calls] == ([False, True] if share else [True])
    first = int(8 * share)
    guess = spy.calls[-1][3]
    assert not guess.requires_grad
    assert guess[:first].flatten(1).any(1).all() and not guess[first:].any()
    if share:
        assert not spy.calls[0][3].any()
        for k in range(3):  # the same noisy latents, times and labels
            assert torch.equal(spy.calls[0][k], spy.calls[1][k][:first])


def test_the_composition_is_told_for_a_share_of_each_kind_and_never_without_a_label(
    batch: SystemBatch, vae: VAE
) -> None:
    spy = Spy()
    flow = replace(RECIPE.flow, molecule_composition=0.7, crystal_composition=0.2, label_dropout=0.5)
    DiTLoss(spy, vae, flow)(batch, torch.Generator().manual_seed(0))  # type: ignore[arg-type]
    told, label = spy.told.any(1), spy.calls[-1][2]
    right = torch.stack([(batch.numbers == z).sum(1) for z in range(1, 101)], 1)
    assert torch.equal(spy.told[told], right[told])
    assert not told[label == NULL].any()
    for kind, share in ((MOLECULE, 0.7), (CRYSTAL, 0.2)):
        count = int((label == kind).sum())
        assert told[label == kind].float().mean().item() == pytest.approx(share, abs=5 * (share * 0.3 / count) ** 0.5)


def test_the_loss_of_an_untrained_network_is_that_of_unit_variance(batch: SystemBatch, vae: VAE) -> None:
    """With normalised latents it starts at 1, a little less for the times beyond the cap."""
    with torch.no_grad():
        mean = vae.posterior(batch)[0]
        vae.latent_mean[:], vae.latent_std[:] = mean.mean((0, 1)), mean.std((0, 1))
    losses = [
        DiTLoss(DiT(RECIPE.dit), vae, RECIPE.flow)(batch, torch.Generator().manual_seed(seed))[0].mean().item()
        for seed in range(4)
    ]
    assert np.mean(losses) == pytest.approx(1, abs=0.1)


def test_the_autoencoder_is_frozen(batch: SystemBatch, vae: VAE) -> None:
    torch.manual_seed(0)
    dit = DiT(RECIPE.dit)
    with torch.no_grad():
        for parameter in dit.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    loss = DiTLoss(dit, vae, RECIPE.flow)
    before = {name: tensor.clone() for name, tensor in vae.state_dict().items()}
    loss(batch, torch.Generator().manual_seed(0))[0].mean().backward()
    assert all(parameter.grad is None for parameter in vae.parameters())
    assert all(parameter.grad is not None for parameter in dit.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in vae.state_dict().items())


@pytest.mark.parametrize("self_conditioning", [0.0, 1.0])
def test_every_weight_has_a_gradient_under_autocast(batch: SystemBatch, vae: VAE, self_conditioning: float) -> None:
    """A pass without gradient must not leave bfloat16 copies of the weights behind that the next pass takes."""
    torch.manual_seed(0)
    dit = DiT(RECIPE.dit)
    with torch.no_grad():
        for parameter in dit.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    loss = DiTLoss(dit, vae, replace(RECIPE.flow, self_conditioning=self_conditioning))
    with torch.autocast("cpu", torch.bfloat16):
        value, _ = loss(batch, torch.Generator().manual_seed(0))
    value.mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for name, p in dit.named_parameters())
