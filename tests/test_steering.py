"""Samples of which properties are wanted."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor

import adit
from adit.config import DiTConfig, VAEConfig
from adit.errors import CheckpointError, InvalidInputError
from adit.models.dit import CRYSTAL, ELEMENTS, MOLECULE
from adit.models.predictor import PropertyPredictor, log_likelihood
from adit.ops.packing import Packing
from adit.prior import Choices, Substituted, choose_from, places
from adit.steering import Bounds, Preferred, Steering, steering_for
from adit.weights.predictors import Predictor, latent_space
from adit.weights.store import GenerationModel, Pretrained, SamplingDefaults

HYDROGEN, CARBON = 0, 5


class Carbons(PropertyPredictor):
    """Says, without being trained, how many atoms are carbon, and the mean of the first latent dimension."""

    def estimate(
        self, x: Tensor, t: Tensor, label: Tensor, counts: Tensor, packing: Packing | None = None
    ) -> tuple[Tensor, Tensor]:
        assert packing is not None
        sums = x.new_zeros(packing.systems).index_add(0, packing.system, x[:, 0])
        mean = torch.stack([counts[:, CARBON].float(), sums / packing.offsets.diff()], 1)
        return mean, torch.full_like(mean, 0.5)


def _predictor(systems: tuple[str, ...] = ("molecule",), latents: str = "") -> Predictor:
    network = Carbons(DiTConfig(width=32, heads=2, layers=1, composition=8), ["carbons", "first"])
    network.low[:], network.high[:] = torch.tensor([0.0, -3.0]), torch.tensor([9.0, 3.0])
    return Predictor(network=network, systems=systems, latents=latents)


def _steering(properties: Mapping[str, Bounds], scale: float = 1.0) -> Steering:
    return steering_for([_predictor()], properties, "molecule", MOLECULE, scale, torch.float32)


def _counts(*carbons: int) -> np.ndarray:
    counts = np.zeros((len(carbons), ELEMENTS), dtype=np.int64)
    counts[:, CARBON], counts[:, HYDROGEN] = carbons, 9 - np.array(carbons)
    return counts


def test_compositions_follow_bayes_rule() -> None:
    counts, prior = _counts(1, 2, 3, 5), np.array([0.4, 0.3, 0.2, 0.1])
    made = _steering({"carbons": 2.5}).prefer(Choices(counts.sum(1), prior, counts))
    assert isinstance(made, Choices)
    expected = prior * np.exp(-0.5 * ((np.array([1, 2, 3, 5]) - 2.5) / 0.5) ** 2)
    np.testing.assert_allclose(made.probabilities, expected / expected.sum(), rtol=1e-5)
    np.testing.assert_array_equal(made.counts, counts)


def test_a_choice_that_cannot_be_stays_so() -> None:
    counts = _counts(1, 2)
    made = _steering({"carbons": 9.0}).prefer(Choices(counts.sum(1), np.array([1.0, 0.0]), counts))
    np.testing.assert_array_equal(made.probabilities, [1.0, 0.0])


def test_new_compositions_are_the_likely_ones_of_several() -> None:
    """Drawn one at a time or together, and again, they are the same."""
    names = {"Na4Cl4": 1, "K4Cl4": 1, "Na4Br4": 1, "K4Br4": 1, "Li4Cl4": 1, "Li4F4": 1, "K4F4": 1, "Na2O": 1, "K2O": 1}
    weights = Pretrained(
        name="x", model=_model(), defaults={}, atom_counts={"crystal": {8: 1}}, formulas={"crystal": names}
    )
    choices = Substituted(*vars(choose_from(weights, "crystal", "training")).values())
    assert isinstance(choose_from(weights, "crystal", "new"), Choices), "few are listed, and weighed like others"
    steering = steering_for([_predictor(("crystal",))], {"carbons": 0.0}, "crystal", CRYSTAL, 1.0, torch.float32)
    made = steering.prefer(choices)
    assert isinstance(made, Preferred)
    at = places(0, 1, range(20))
    together = made.draw_all(at, [np.random.default_rng(k) for k in range(20)])
    for k, (size, counts) in enumerate(together):
        ((again, same),) = made.draw_all([at[k]], [np.random.default_rng(k)])
        assert counts is not None
        assert size == again == counts.sum()
        np.testing.assert_array_equal(counts, same)


@pytest.mark.parametrize(
    "properties", [{"first": 0.7}, {"first": (0.5, 0.6)}, {"first": (0.5, math.inf), "carbons": 3.0}]
)
def test_gradient_as_finite_differences_have_it(properties: Mapping[str, Bounds]) -> None:
    """Of each system by one factor less where it would be pulled too far."""
    steering, sizes, time = _steering(properties, 2.0), [3, 1, 4], 0.5
    packing, told = Packing.from_lengths(sizes), torch.from_numpy(_counts(1, 2, 3))
    x = torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():  # as samples are made
        found = steering.gradient(x, time, packing, told)[0]

    def total(latents: Tensor) -> float:
        mean, spread = steering.wanted[0].network.estimate(latents[0], x, x, told, packing)
        return float(log_likelihood(mean, spread, steering.wanted[0].low, steering.wanted[0].high).sum())

    expected = torch.zeros(8, 8)
    for atom in range(8):
        step = torch.zeros_like(x)
        step[0, atom, 0] = 1e-3
        expected[atom, 0] = 2.0 * (total(x + step) - total(x - step)) / 2e-3
    bound = 0.25 * time / (1 - time)
    factors = []
    for own, free in zip(found.split(sizes), expected.split(sizes), strict=True):
        factors.append(min(1.0, bound / float(free.square().mean().sqrt())))
        torch.testing.assert_close(own, factors[-1] * free, rtol=1e-2, atol=1e-3)
    assert min(factors) < 1  # some are bounded


def _model() -> GenerationModel:
    torch.manual_seed(0)
    vae = VAEConfig(width=32, heads=2, encoder_layers=1, decoder_layers=1)
    return GenerationModel(vae, DiTConfig(width=32, heads=2, layers=1, composition=8))


def _generator(latents: str | None = None) -> adit.Generator:
    model = _model()
    model.latent_std[:] = 1.0
    weights = Pretrained(
        name="untrained",
        model=model,
        defaults={"molecule": SamplingDefaults(steps=8, solver="ancestral", formula="training")},
        atom_counts={"molecule": {5: 1}},
        formulas={"molecule": {"CH4": 5, "C2H3": 4, "C4H": 1}},
    )
    space = latent_space(model) if latents is None else latents
    return adit.Generator(weights, "cpu", 1, predictors=[_predictor(latents=space)])


def test_samples_have_what_is_wanted_and_say_what_is_predicted() -> None:
    generator = _generator()
    plain = generator.sample(40, "molecule", seed=3)
    made = generator.sample(40, "molecule", seed=3, properties={"first": 1.0, "carbons": (3.5, math.inf)})
    assert all("predicted_first" not in system.info for system in plain)
    # CH4 and C2H3 are 3 and 2 spreads away from what is wanted: the prior alone would draw them 9 times of 10
    assert np.mean([system.info["predicted_carbons"] for system in made]) > 3.8
    first = np.array([system.info["predicted_first"] for system in made])
    weak = generator.sample(40, "molecule", seed=3, properties={"first": 1.0}, property_scale=0.3)
    farther = np.array([system.info["predicted_first"] for system in weak])
    left = generator.sample(40, "molecule", seed=3, properties={"first": 1.0}, property_scale=0.0)
    alone = np.array([system.info["predicted_first"] for system in left])
    assert np.abs(first - 1).mean() < np.abs(farther - 1).mean() < 0.95 * np.abs(alone - 1).mean()
    assert [system.info["index"] for system in made] == list(range(40))


def test_the_same_in_any_blocks() -> None:
    generator = _generator()
    options = {"system": "molecule", "seed": 1, "properties": {"first": 0.5}}
    together = generator.sample(12, **options)
    apart = [system for block in generator.stream(12, **options, batch_size=5) for system in block]
    for a, b in zip(together, apart, strict=True):
        assert a.formula == b.formula
        np.testing.assert_allclose(a.positions, b.positions, atol=1e-3)
        assert a.info["predicted_first"] == pytest.approx(b.info["predicted_first"], abs=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"properties": {"gap": 1.0}}, "'gap'.*known: carbons, first.*adit-train property"),
        ({"properties": {"first": math.nan}}, "first must be a number, or a range"),
        ({"properties": {"first": math.inf}}, "first must be a number, or a range"),
        ({"properties": {"first": (1.0, 0.0)}}, "first must be a number, or a range"),
        ({"properties": {"first": (1.0, 2.0, 3.0)}}, "first must be a number, or a range"),
        ({"properties": {"first": (-math.inf, math.inf)}}, "first must be a number, or a range"),
        ({"properties": {"first": "1"}}, "first must be a number, or a range"),
        ({"properties": {"first": True}}, "first must be a number, or a range"),
        ({"properties": {"first": np.True_}}, "first must be a number, or a range"),
        ({"properties": {"first": 1e300}}, "first must be a number, or a range"),
        ({"properties": {"first": 10**400}}, "first must be a number, or a range"),
        ({"properties": {"first": np.arange(3)}}, "first must be a number, or a range"),
        (
            {"properties": {"first": 1000.0}},
            "first of 1000 to 1000 is far from all that the predictor has seen, -3 to 3",
        ),
        ({"properties": {"first": (1000.0, math.inf)}}, "is far from all that the predictor has seen"),
        ({"properties": {"first": (-math.inf, -1000.0)}}, "is far from all that the predictor has seen"),
        ({"properties": [("first", 1.0)]}, "`properties` must be a dictionary"),
        ({"property_scale": 1.0}, "`property_scale` says how strongly to pull to `properties`"),
        ({"properties": {"first": 1.0}, "property_scale": -1.0}, "`property_scale`"),
        ({"properties": {"first": 1.0}, "property_scale": math.nan}, "`property_scale`"),
    ],
)
def test_mistakes_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        _generator().sample(1, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "value", [np.float32(0.5), np.int64(1), [0.2, 0.3], np.array([0.2, 0.3]), (np.float32(0.2), 1)]
)
def test_numbers_of_any_kind(value: object) -> None:
    (made,) = _generator().sample(1, properties={"first": value}, property_scale=np.float32(1.0))
    assert "predicted_first" in made.info


def test_far_beyond_what_was_learnt_stays_finite() -> None:
    """Ten times the range of the training set away, a thousand spreads of the predictor."""
    with pytest.warns(UserWarning, match="all first of the training set"):
        made = _generator().sample(4, properties={"first": (60.0, 61.0)})
    assert all(np.isfinite(system.positions).all() for system in made)


def test_beyond_the_training_set_is_warned_of() -> None:
    with pytest.warns(UserWarning, match="all first of the training set are between -3 and 3"):
        _generator().sample(1, properties={"first": (4.0, 5.0)})


def test_a_predictor_of_other_latents_is_refused() -> None:
    with pytest.raises(CheckpointError, match="latents of other weights than 'untrained'"):
        _generator("0" * 64)
