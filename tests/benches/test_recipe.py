"""The recipe by experiment: the changes, the pool of latents, the figures, and the command in small."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import recipe
from adit.config import DiTConfig, to_dict
from adit.data.packed import PackedDataset
from adit.flow.path import to_data
from adit.models.denoiser import Denoiser
from adit.models.dit import MOLECULE, DiT
from adit.recipes import get_recipe
from adit.system import AtomicSystem
from adit.train.checkpoint import list_checkpoints, read_tensors
from adit.train.reconstruct import load_vae
from adit.validity import compositional
from quality.choices import CHOICES, Alone, Clean, Unordered, Velocity
from quality.pool import Pool, PoolLoss, PoolTrainer, average_of, encoded
from quality.recipe_tables import DIT, SEEDS, TABLES, compared, lines, markdown, table

TESTS = Path(__file__).parents[1]
DOCS = TESTS.parent / "docs" / "recipe.md"
TINY = TESTS / "fixtures" / "tiny_dataset"
ABOUT = dict.fromkeys(("date", "machine", "threads", "products", "torch", "commit"), "x")
SMALL = DiTConfig(width=64, heads=2, layers=1, qk_norm=True)


def network(kind: type[DiT]) -> DiT:
    """With random weights everywhere: as a new one, its answer would be zero."""
    dit = kind(SMALL)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in dit.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return dit


@pytest.fixture
def question() -> tuple[torch.Tensor, ...]:
    """Noisy latents, times, labels and a guess."""
    generator = torch.Generator().manual_seed(2)
    x, guess = (torch.randn(3, 5, 8, generator=generator) for _ in range(2))
    return x, torch.tensor([0.05, 0.5, 0.97]), torch.tensor([0, 1, 2]), guess


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    vae = load_vae("joint-tiny", torch.device("cpu"))
    return encoded(vae, PackedDataset.load(TINY), 160, tmp_path_factory.mktemp("pool") / "p.safetensors", bf16=False)


def test_other_targets_mean_what_they_say(question: tuple[torch.Tensor, ...]) -> None:
    x, t, label, guess = question
    raw = network(DiT)(x, t, label, guess)
    time = t[:, None, None]
    for kind, expected in ((Velocity, x + (1 - time) * raw), (Clean, raw)):
        dit = network(kind)
        assert torch.allclose(to_data(dit(x, t, label, guess), x, t), expected, atol=1e-4)
        # while sampling, all systems share a time, and modulations are made beforehand
        schedule = Denoiser(dit).schedule([0.3, 0.6], [MOLECULE])
        (sampled,) = schedule.of_one_size()(x, 0.6, guess)
        again = dit(x, torch.tensor([0.6]), torch.tensor([MOLECULE]), guess)
        assert torch.allclose(sampled, again, atol=1e-4)


def test_without_index_embedding_atoms_have_no_order(question: tuple[torch.Tensor, ...]) -> None:
    x, t, label, guess = question
    order = torch.tensor([3, 0, 4, 2, 1])
    for kind, same in ((Unordered, True), (DiT, False)):
        dit = network(kind)
        made = dit(x[:, order], t, label, guess[:, order])
        assert torch.allclose(made, dit(x, t, label, guess)[:, order], atol=1e-4) == same
    for kind, same in ((Alone, True), (DiT, False)):
        dit = network(kind)
        assert torch.equal(dit(x, t, label, guess), dit(x, t, label, guess + 1)) == same


def leaves(values: Any, name: str = "") -> dict[str, Any]:
    if not isinstance(values, dict):
        return {name: values}
    return {key: value for part, inner in values.items() for key, value in leaves(inner, f"{name}.{part}").items()}


def test_each_choice_changes_what_it_says() -> None:
    base = recipe.baseline(recipe.arguments([]))
    before = leaves(to_dict(base))
    tiny = leaves(to_dict(get_recipe("joint-tiny")))
    for kept in (".flow.time_sampling", ".vae_loss.kl", ".dit_train.optim.optimizer", ".dit_train.crystal_fraction"):
        assert before[kept] == tiny[kept]
    seen = set()
    for name, choice in CHOICES.items():
        after = leaves(to_dict(choice.of(base)))
        wanted = {f".{part}.{key}": value for part, values in choice.change.items() for key, value in values.items()}
        changed = {key: value for key, value in after.items() if value != before[key]}
        assert changed == {key: value for key, value in wanted.items() if value != before[key]}, name
        seen.add((repr(changed), choice.network, choice.stage, choice.vae, choice.decay, choice.cfg, choice.seed))
        assert not choice.vae or CHOICES[choice.vae].stage == "vae"
        assert choice.vae == "" or choice.of(base).dit.latent_dim == CHOICES[choice.vae].of(base).vae.latent_dim
    assert len(seen) == len(CHOICES), "no two choices are the same run"
    assert {CHOICES[name].stage for name in CHOICES} == {stage for _, stages, _ in TABLES for stage in stages}


def test_a_pool_holds_the_latents_of_its_systems(pool: Pool, tmp_path: Path) -> None:
    vae = load_vae("joint-tiny", torch.device("cpu"))
    periodic = np.asarray(pool.data.periodic)
    assert len(pool.data) == 320 and periodic.sum() == 160
    right, atoms = 0, 0
    for kind in ("molecule", "crystal"):
        for batch in pool.by_size(kind):
            assert bool((batch.periodic == (kind == "crystal")).all())
            decoded = vae.decode(batch.latents, batch.periodic)
            right += int((decoded.logits.argmax(-1) + 1 == batch.numbers).sum())
            atoms += batch.numbers.numel()
    assert atoms == len(pool.data.numbers) and right > 0.98 * atoms
    crystal = np.flatnonzero(periodic)
    ids = pool.data.properties["id"][crystal]
    again = [k for k in range(len(ids)) if ids[k] in ids[:k]]
    assert again, "fewer crystals than asked for come again"
    first, second = (pool.batch(crystal[[k]]) for k in (list(ids).index(ids[again[0]]), again[0]))
    assert torch.equal(first.numbers, second.numbers) and not torch.equal(first.latents, second.latents)


def test_a_run_on_a_pool_goes_on_with_all_its_averages(pool: Pool, tmp_path: Path) -> None:
    base = get_recipe("joint-test")
    config = recipe.replace(base.dit_train, steps=6, checkpoint_every=3)

    def run(folder: Path, *stops: int) -> Path:
        for stop in stops:
            torch.manual_seed(0)
            dit = DiT(recipe.replace(SMALL, qk_norm=False))
            vae = load_vae("joint-tiny", torch.device("cpu"))
            trainer = PoolTrainer(model=dit, loss=PoolLoss(dit, vae, base.flow), data=pool.data, encoded=pool,
                                  config=config, folder=folder, header={}, decays=(0.0, 0.5))  # fmt: skip
            trainer.run(resume=True, stop_at=stop)
        return list_checkpoints(folder)[-1]

    whole, parts = run(tmp_path / "whole", 6), run(tmp_path / "parts", 3, 6)
    for name in ("model", "average-0", "average-0.5"):
        one, other = (read_tensors(folder / f"{name}.safetensors") for folder in (whole, parts))
        assert all(torch.equal(one[key], other[key]) for key in one), name
    last, none = read_tensors(whole / "model.safetensors"), read_tensors(average_of(whole, 0.0))
    assert all(torch.equal(last[key], none[key]) for key in last), "an average over no time is the last weights"
    half = read_tensors(average_of(whole, 0.5))["blocks.0.attention.qkv.weight"]
    assert not torch.equal(half, last["blocks.0.attention.qkv.weight"])


def test_an_untrained_network_explains_nothing(pool: Pool) -> None:
    assert recipe.errors(DiT(SMALL), pool, "crystal")["crystal/unexplained"][0] == pytest.approx(1)
    latents = torch.randn(pool.latents.shape, generator=torch.Generator().manual_seed(0))
    found = recipe.errors(DiT(SMALL), Pool(pool.data, latents, pool.mean, pool.std), "molecule")
    assert found["molecule/unexplained"][0] == pytest.approx(1)
    assert found["molecule/error@0.5"][0] == pytest.approx(0.5, abs=0.03)

    class Fed(DiT):
        """Answers nonsense where it is fed a guess."""

        def forward(self, x: torch.Tensor, t: torch.Tensor, label: torch.Tensor, guess: torch.Tensor) -> torch.Tensor:
            assert label.tolist() == [MOLECULE]
            return torch.zeros_like(x) if bool((guess == 0).all()) else torch.full_like(x, torch.nan)

    assert np.isnan(recipe.errors(Fed(SMALL), pool, "molecule")["molecule/unexplained"][0]), "the guess is fed back"


def test_samples_count_once_and_if_new() -> None:
    data = PackedDataset.load(TINY)
    two = [data[k] for k in np.flatnonzero(~np.asarray(data.periodic))[:2]]
    broken = AtomicSystem([6, 6], [[0, 0, 0], [0, 0, 9.0]])
    found = recipe.molecules([two[0], two[0], two[1], broken], set())
    assert found["molecule/valid"][0] == 0.75 and found["molecule/valid_unique_novel"][0] == 0.5
    (known,) = {text for text in recipe.validity(two[:1]) if text}
    assert recipe.molecules([two[0], two[1]], {known})["molecule/valid_unique_novel"][0] == 0.5
    crystals = list(data.subset(np.asarray(data.periodic)))
    one, other = (crystals[k] for k in np.flatnonzero(compositional(crystals))[:2])
    found = recipe.crystals([one, one, other], PackedDataset.from_systems([other]))
    assert found["crystal/valid"][0] == 1.0 and found["crystal/valid_unique_novel"][0] == pytest.approx(1 / 3)
    assert recipe.crystals([one], PackedDataset.from_systems([other]))["crystal/valid_unique_novel"][0] == 1.0


def outcome(error: float, stable: float, interval: float) -> dict[str, Any]:
    figures = {"molecule/unexplained": (error, np.nan, np.nan),
               "molecule/stable_atoms": (stable, stable - interval, stable + interval)}  # fmt: skip
    return {"figures": figures, "steps": 10, "minutes": 1.0, "seconds": 60.0, "samples": 9}


def test_what_is_within_chance_is_called_no_difference() -> None:
    seeds = dict(zip(SEEDS["dit"], (outcome(0.50, 0.60, 0.01), outcome(0.51, 0.62, 0.01)), strict=False))
    for made, expected in (
        (outcome(0.51, 0.62, 0.01), "no difference seen"),
        (outcome(0.48, 0.61, 0.01), "better: error of molecules"),
        (outcome(0.53, 0.64, 0.01), "better: stable atoms; worse: error of molecules"),
        (outcome(0.51, 0.64, 0.04), "no difference seen"),  # of samples that are too few
    ):
        assert compared("velocity", {**seeds, "velocity": made}, DIT) == expected
    slow = {**outcome(0.60, 0.61, 0.01), "steps": 9}
    assert compared("velocity", {**seeds, "velocity": slow}, DIT) == "worse, in fewer steps: error of molecules"
    again = {**seeds, "cfg-2": outcome(0.49, 0.63, 0.01)}  # of the first seed's weights, so compared with them
    assert compared("cfg-2", again, DIT) == "better: stable atoms"
    assert compared("velocity", {"velocity": outcome(0, 0, 0)}, DIT) == "-", "one seed is no spread"
    assert compared("base", seeds, DIT) == "-"
    found = {"velocity": outcome(0.4, 0.7, 0.01), **seeds}
    first, second, third = table(found, ("dit",), DIT).splitlines()[2:]
    assert first.startswith("| baseline | seed 0 | 10 | 0.500 | - | 60.0 % (59.0 to 61.0)")
    assert second.startswith("|  | seed 1 |") and third.startswith("| prediction target | velocity |")
    assert len(lines(found)) == 6 and table(found, ("vae",), DIT) == ""


def test_the_command_goes_from_data_to_the_document(tmp_path: Path) -> None:
    document = tmp_path / "recipe.md"
    document.write_text(DOCS.read_text())
    words = ["--quick", "--data", str(TINY), "--runs", str(tmp_path / "runs"), "--out", str(tmp_path)]
    with pytest.raises(SystemExit, match=r"no run in .* has ended"):
        recipe.main([*words, "--report"])
    with pytest.raises(SystemExit, match="the choice base, which is not in"):
        recipe.main([*words, "--only", "cfg-2"])
    recipe.main([*words, "--only", "base", "velocity", "molecules", "vae-4"])
    begun = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs" / "base").rglob("*")}
    recipe.main([*words, "--only", "base", "cfg-2", "average-0.9", "on-vae-4", "--docs", str(document)])
    assert {path: path.stat().st_mtime_ns for path in begun} == begun, "what is done is not done again"
    text = document.read_text().split("recipe: begin")[1].split("recipe: end")[0]
    for row in (
        "| baseline | seed 0 |",
        "| prediction target | velocity |",
        "| guidance | 2 |",
        "| latent dimensions |",
    ):
        assert row in text
    assert "`base-1`, " in text.split("Not measured yet:")[1]
    with (tmp_path / "recipe.csv").open() as file:
        rows = list(csv.DictReader(file))
    figures = {(row["name"], row["figure"]): float(row["result"]) for row in rows}
    assert {row["name"] for row in rows} == {
        "base",
        "velocity",
        "molecules",
        "vae-4",
        "cfg-2",
        "average-0.9",
        "on-vae-4",
    }
    assert ("molecules", "molecule/unexplained") in figures and ("molecules", "crystal/unexplained") not in figures
    assert all(0 < value < 3 for (_, figure), value in figures.items() if figure.endswith("unexplained"))
    for name in ("base", "on-vae-4"):
        kept = json.loads((tmp_path / "runs" / name / "outcome.json").read_text())
        assert kept["seconds"] >= 60 * kept["minutes"] and kept["steps"] >= 1
    recipe.main([*words, "--only", "base", "base-1", "--steps", "3"])
    assert json.loads((tmp_path / "runs" / "base-1" / "outcome.json").read_text())["steps"] == 3
    by_steps = {**outcome(0.5, 0.6, 0.1), "minutes": np.nan}
    assert "; 10 steps of training" in markdown({"base": by_steps}, ABOUT)
