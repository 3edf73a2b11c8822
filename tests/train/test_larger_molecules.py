"""From SMILES to samples: molecules alone, elements beyond QM9's, up to GEOM-DRUGS' 181 atoms."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from adit.config import to_dict
from adit.convert import read, write
from adit.data.conformers import make_conformers
from adit.data.prepare import prepare
from adit.eval import evaluate
from adit.generate import Generator
from adit.recipes import get_recipe
from adit.train.stages import speedrun
from adit.weights import load_pretrained

LARGEST = "C" * 59 + "N"
TRAIN = [LARGEST] + 2 * ["CC(=O)Oc1ccccc1C(=O)O", "BrC(F)(F)CI", "C[Si](C)(C)Cl", "CP(C)(=O)OC", "CCO", "CCN", "CSC"]
VAL = ["OB(O)c1ccccc1", "CCCl"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drugs")
    for split, smiles in (("train", TRAIN), ("val", VAL)):
        (folder / f"{split}.txt").write_text("\n".join(smiles))
        make_conformers(folder / f"{split}.txt", folder / "sdf" / f"{split}.sdf", max_atoms=181, processes=1)
    made = prepare("drugs-conformers", folder / "sdf", folder / "prepared")
    assert (len(made.split("train")), len(made.split("val")), made.sizes.max()) == (15, 1, 181), "MMFF94 has no boron"
    return folder / "prepared"


def test_from_conformers_to_judged_samples(data: Path, tmp_path: Path) -> None:
    recipe = replace(get_recipe("joint-test"), name="drugs-test", data=(str(data),))
    weights = speedrun(recipe, tmp_path / "run", torch.device("cpu"), 0.06, 0.4, 0.2)
    rows = list(csv.reader((tmp_path / "run" / "vae" / "log.csv").open()))
    assert "molecule/stable_atoms@0.0" in [name for _, kind, name, _ in rows if kind == "validation"]
    generator = Generator.from_pretrained(weights, device="cpu")
    assert set(generator.weights.atom_counts) == {"molecule"}
    assert generator.weights.atom_counts["molecule"][181] == 1
    made = [*generator.sample(2, atoms=181, steps=3), *generator.sample(20, steps=3)]
    assert [len(system) for system in made[:2]] == [181, 181]
    assert {len(system) for system in made} <= set(generator.weights.atom_counts["molecule"])
    write(tmp_path / "samples.sdf", made)
    assert [len(system) for system in read(tmp_path / "samples.sdf")] == [len(system) for system in made]
    found = evaluate(tmp_path / "samples.sdf", protocols=["adit", "edm", "adit-rust"], seed=0)
    assert found.counts["molecules"] == 22 and found.counts["unreadable"] == 0
    assert load_pretrained(weights).about["recipe"]["name"] == "drugs-test"


def test_the_recipe_of_the_demonstration() -> None:
    recipe = get_recipe("drugs-demo")
    assert recipe.data == ("drugs-conformers",)
    assert recipe.vae.latent_dim == recipe.dit.latent_dim
    assert recipe.dit_train.tokens_per_group >= 181, "groups hold the largest molecules"
    assert to_dict(recipe)["name"] == "drugs-demo"
