from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from adit.cli.gen import main

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model that was never trained: its molecules are nonsense, its cells of one atom are valid."""
    import torch

    from adit.config import DiTConfig, VAEConfig
    from adit.weights import Pretrained, SamplingDefaults, save_pretrained
    from adit.weights.store import GenerationModel

    torch.manual_seed(1)
    vae = VAEConfig(width=32, heads=2, encoder_layers=1, decoder_layers=1)
    dit = DiTConfig(width=32, heads=2, layers=1, composition=8)
    counts = {"molecule": {3: 2, 5: 1, 9: 1}, "crystal": {1: 2, 2: 1, 4: 1}}
    folder = tmp_path_factory.mktemp("weights")
    made = Pretrained(
        name="untrained",
        model=GenerationModel(vae, dit),
        defaults=dict.fromkeys(counts, SamplingDefaults(steps=2)),
        atom_counts=counts,
        formulas={"molecule": {"H2O": 2, "CH4": 1, "C2H6O": 1}, "crystal": {}},
    )
    save_pretrained(folder, made)
    return folder


@pytest.fixture
def gen(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs the command in an empty folder; gives exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> tuple[int, str, str]:
        words = [str(argument) for argument in arguments]
        extra = [] if "--weights" in words else ["--weights", str(weights)]
        monkeypatch.setattr(sys, "argv", ["adit-gen", "--threads", "1", *extra, *words])
        with pytest.raises(SystemExit) as stop:
            main()
        out, err = capsys.readouterr()
        return int(stop.value.code or 0), out, err

    return call
