"""The autoencoder: what it sees, and how its numbers become systems."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.optimize import linear_sum_assignment

from adit.batch import SystemBatch
from adit.config import VAEConfig
from adit.models.dit import composition
from adit.models.layers import set_impl
from adit.models.vae import VAE, Decoded
from adit.ops.packing import Packing


def flat(**changes: torch.Tensor) -> Decoded:
    fields = {
        "logits": torch.zeros(1, 2, 100),
        "cartesian": torch.zeros(1, 2, 3),
        "phase": torch.ones(1, 2, 3, 2),
        "lattice": torch.tensor([[3.0, 3.0, 3.0, 1.57, 1.57, 1.57]]),
    }
    return Decoded(**{**fields, **changes})


def test_a_crystal_may_be_turned_or_mirrored_without_a_change(vae: VAE, data, batch: SystemBatch) -> None:  # type: ignore[no-untyped-def]
    """The encoder sees fractional coordinates and lattice parameters: neither knows the frame."""
    rng = np.random.default_rng(0)
    crystals = [data[int(k)] for k in np.flatnonzero(data.periodic & (data.sizes == 12))[:5]]
    numbers = np.stack([c.numbers for c in crystals])
    positions, cells = (np.stack([getattr(c, name) for c in crystals]) for name in ("positions", "cell"))
    turn = np.linalg.qr(rng.normal(size=(len(crystals), 3, 3)))[0]
    flags = np.ones(len(crystals), dtype=bool)
    with torch.no_grad():
        first = vae.encode(SystemBatch.from_arrays(numbers, positions, cells, flags))
        second = vae.encode(SystemBatch.from_arrays(numbers, positions @ turn, cells @ turn, flags))
    torch.testing.assert_close(first, second, atol=2e-3, rtol=1e-3)


def test_a_crystal_may_be_moved_by_whole_cells(vae: VAE, batch: SystemBatch) -> None:
    moved = replace(batch, fractional=batch.fractional + torch.tensor([1.0, -2.0, 3.0]))
    with torch.no_grad():
        torch.testing.assert_close(vae.encode(batch), vae.encode(moved), atol=1e-3, rtol=1e-3)


def test_molecules_and_crystals_are_seen_through_their_own_coordinates(vae: VAE, batch: SystemBatch) -> None:
    crystal = batch.periodic
    odd = replace(
        batch,
        cartesian=torch.where(crystal[:, None, None], 7.0, batch.cartesian),
        fractional=torch.where(crystal[:, None, None], batch.fractional, 0.3),
        lattice=torch.where(crystal[:, None], batch.lattice, 5.0),
    )
    with torch.no_grad():
        assert torch.equal(vae.encode(batch), vae.encode(odd))


def test_latents_are_normalised_and_decode_takes_it_back(batch: SystemBatch) -> None:
    torch.manual_seed(0)

    vae = VAE(VAEConfig(width=16, heads=2, encoder_layers=1, decoder_layers=1, latent_dim=3))
    with torch.no_grad():
        mean, _ = vae.posterior(batch)
        plain = Decoded(*vae.decoder(mean, batch.periodic))
        vae.latent_mean[:], vae.latent_std[:] = mean.mean((0, 1)), mean.std((0, 1))
        latents = vae.encode(batch)
        again = vae.decode(latents, batch.periodic)
    torch.testing.assert_close(latents.mean((0, 1)), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(latents.std((0, 1)), torch.ones(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(plain.logits, again.logits, atol=1e-4, rtol=1e-4)


def test_decoded_molecules_are_centred(vae: VAE, batch: SystemBatch) -> None:
    with torch.no_grad():
        decoded = vae.decode(vae.encode(batch), batch.periodic)
    assert decoded.cartesian.mean(1).abs().max() < 1e-5
    assert all(getattr(decoded, name).dtype == torch.float32 for name in ("logits", "cartesian", "phase", "lattice"))


@given(hnp.arrays(np.float64, (2, 3), elements=st.floats(0, 1, exclude_max=True)), st.floats(0.01, 50))
@settings(max_examples=100, deadline=None)
def test_fractional_is_the_angle_of_the_phase_whatever_its_length(fractional, length: float) -> None:  # type: ignore[no-untyped-def]
    angle = 2 * math.pi * torch.from_numpy(fractional)
    decoded = flat(phase=(length * torch.stack([angle.cos(), angle.sin()], -1)[None]).float())
    off = decoded.fractional[0].double() - torch.from_numpy(fractional)
    assert (off - off.round()).abs().max() < 1e-6
    assert (decoded.fractional >= 0).all() and (decoded.fractional < 1).all()


@pytest.mark.parametrize("phase", [(1.0, -1e-12), (0.0, 0.0), (-1.0, -0.0), (1e-30, -1e-30)])
def test_fractional_at_the_edges(phase: tuple[float, float]) -> None:
    decoded = flat(phase=torch.tensor(phase).expand(1, 2, 3, 2))
    assert (decoded.fractional >= 0).all() and (decoded.fractional < 1).all()


def test_to_systems() -> None:
    logits = torch.zeros(2, 2, 100)
    logits[:, 0, 5], logits[:, 1, 99] = 1, 1
    cartesian = torch.tensor([[[0.5, 0, 0], [-0.5, 0, 0]]]).repeat(2, 1, 1)
    lattice = torch.tensor([[2.0, 3.0, 4.0, math.pi / 2, math.pi / 2, math.pi / 2]]).repeat(2, 1)
    decoded = flat(
        logits=logits, cartesian=cartesian, phase=torch.tensor([0.0, 1.0]).expand(2, 2, 3, 2), lattice=lattice
    )
    molecule, crystal = decoded.to_systems(torch.tensor([False, True]))
    assert molecule.numbers.tolist() == crystal.numbers.tolist() == [6, 100]
    assert not molecule.is_periodic and crystal.is_periodic
    np.testing.assert_allclose(molecule.positions, [[0.5, 0, 0], [-0.5, 0, 0]])
    np.testing.assert_allclose(crystal.cell, np.diag([2, 3, 4]) * 2 ** (1 / 3), atol=1e-5)
    np.testing.assert_allclose(crystal.fractional, np.full((2, 3), 0.25), atol=1e-6)


@given(st.integers(1, 12), st.integers(1, 4), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_the_most_likely_of_a_composition(atoms: int, elements: int, seed: int) -> None:
    """As scipy's assignment; close calls and equal logits included."""
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.normal(size=(2, atoms, 100)).round(1).astype(np.float32))
    wanted = rng.choice(rng.permutation(100)[:elements] + 1, (2, atoms))
    shapes = {"cartesian": torch.zeros(2, atoms, 3), "phase": torch.ones(2, atoms, 3, 2)}
    decoded = flat(logits=logits, lattice=torch.full((2, 6), 1.5), **shapes)
    made = decoded.to_systems(torch.ones(2, dtype=torch.bool), composition(torch.from_numpy(wanted)))
    for system, numbers, row in zip(made, wanted, logits.double().numpy(), strict=True):
        assert sorted(system.numbers) == sorted(numbers)
        best = row[:, numbers - 1][linear_sum_assignment(row[:, numbers - 1], maximize=True)].sum()
        assert row[np.arange(atoms), system.numbers.astype(int) - 1].sum() == pytest.approx(best, abs=1e-6)


@given(
    st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=3, max_size=3),
    st.lists(st.floats(-(2.0**14), 2.0**14, width=32), min_size=3, max_size=3),
    st.integers(1, 4),
)
@settings(max_examples=300, deadline=None)
def test_no_finite_lattice_is_beyond_decoding(lengths: list[float], angles: list[float], atoms: int) -> None:
    """One bad sample of ten thousand must be counted as invalid, not end the run."""
    decoded = flat(
        logits=torch.zeros(1, atoms, 100),
        cartesian=torch.zeros(1, atoms, 3),
        phase=torch.ones(1, atoms, 3, 2),
        lattice=torch.tensor([[*lengths, *angles]]),
    )
    (system,) = decoded.to_systems(torch.tensor([True]))
    assert len(system) == atoms and system.volume > 0


def test_a_flat_cell_stays_flat() -> None:
    (system,) = flat(lattice=torch.tensor([[0.0, 0.0, 0.0, 0.0, 0.0, 0.0]])).to_systems(torch.tensor([True]))
    assert system.volume < 0.1, "below the 0.1 cubic Angstrom that structural validity asks for"


@pytest.mark.parametrize("impl", ["reference", "rust"])
def test_packed_systems_are_decoded_as_alone(impl: str) -> None:
    torch.manual_seed(0)
    decoder = VAE(VAEConfig(width=32, heads=2, encoder_layers=1, decoder_layers=2, latent_dim=3)).decoder
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
        set_impl(decoder, impl)  # type: ignore[arg-type]
        lengths = [5, 1, 12]
        latents, periodic = torch.randn(sum(lengths), 3), torch.tensor([True, False, True])
        hidden = decoder.hidden(latents, Packing.from_lengths(lengths), periodic)
        set_impl(decoder, "reference")
        for own, part, crystal in zip(latents.split(lengths), hidden.split(lengths), periodic, strict=True):
            alone = decoder(own[None], crystal[None])
            for one, other in zip(decoder.read(part[None]), alone, strict=True):
                torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
