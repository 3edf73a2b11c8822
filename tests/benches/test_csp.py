"""The bench of crystal structure prediction: what counts as found."""

from pathlib import Path

import numpy as np
import pytest
import torch

import csp
from adit.config import DiTConfig, VAEConfig
from adit.system import AtomicSystem
from adit.weights import Pretrained, SamplingDefaults, save_pretrained
from adit.weights.store import GenerationModel

TINY = Path(__file__).parents[1] / "fixtures" / "tiny_dataset"


def test_a_strained_copy_is_found_and_another_formula_is_not() -> None:
    cell = np.array([[0, 2.8, 2.8], [2.8, 0, 2.8], [2.8, 2.8, 0]])
    places = [[0, 0, 0], [0.5, 0.5, 0.5]]
    salt = AtomicSystem.from_fractional([11, 17], places, cell)
    strained = AtomicSystem.from_fractional([17, 11], places, 1.05 * cell)
    other = AtomicSystem.from_fractional([11, 35], places, cell)
    squeezed = AtomicSystem.from_fractional([11, 17], [[0, 0, 0], [0.2, 0.2, 0.2]], cell)
    found = csp.distances(salt, [strained, other, squeezed])
    assert found[0] == pytest.approx(0, abs=1e-6) and found[1] == np.inf and found[2] > 0.1


def test_it_runs_on_weights_that_can_be_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    vae = VAEConfig(width=32, heads=2, encoder_layers=1, decoder_layers=1)
    dit = DiTConfig(width=32, heads=2, layers=1, composition=8)
    made = Pretrained(
        name="w",
        model=GenerationModel(vae, dit),
        defaults={"crystal": SamplingDefaults(steps=2)},
        atom_counts={"crystal": {2: 1}},
        formulas={"crystal": {}},
    )
    save_pretrained(tmp_path / "w", made)
    words = ["--weights", str(tmp_path / "w"), "--data", str(TINY), "--n", "2", "--tries", "1", "2", "--threads", "1"]
    words.append("--pattern")
    csp.main(words)
    lines = capsys.readouterr().out.splitlines()
    tries, alike = ["  best of 1", "  best of 2"], "  of 2 the most alike powder pattern"
    assert [line.split(":")[0] for line in lines] == [
        "formula and cell told", *tries, "  of 2 the smallest misfit of the cell", alike,
        "formula told", *tries, alike, "number of atoms alone", *tries, alike,
    ]  # fmt: skip


def test_a_crystal_is_most_like_its_own_pattern() -> None:
    crystals = csp.drawn(str(TINY), "val", True, 2, np.random.default_rng(0))
    found = csp.by_pattern(crystals, [crystals, crystals])
    assert found.argmax(1).tolist() == [0, 1] and found.diagonal().min() > 0.9
