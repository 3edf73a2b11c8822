"""Formulas, and what a sample is drawn from."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymatgen.core import Composition

from adit.config import DiTConfig, FlowConfig, VAEConfig
from adit.data.packed import PackedDataset
from adit.elements import NUMBERS, SYMBOLS, composition, hill_formula
from adit.errors import InvalidInputError
from adit.prior import choose_from
from adit.train.validate import formula_counts, told_formulas
from adit.validity import compositional
from adit.weights import Pretrained
from adit.weights.store import GenerationModel

FORMULAS: dict[str, dict[str, int]] = {"molecule": {"C2H6O": 3, "CH4": 1, "C6H6": 4}, "crystal": {}}


def weights(formulas: dict[str, dict[str, int]] = FORMULAS) -> Pretrained:
    vae = VAEConfig(width=32, heads=2, encoder_layers=1, decoder_layers=1, latent_dim=4)
    model = GenerationModel(vae, DiTConfig(width=32, heads=2, layers=1, latent_dim=4, composition=8))
    sizes = {"molecule": {9: 3, 5: 1, 12: 4}, "crystal": {2: 1}}
    return Pretrained(name="w", model=model, defaults={}, atom_counts=sizes, formulas=formulas)


@given(st.dictionaries(st.sampled_from(SYMBOLS[1:]), st.integers(1, 999), min_size=1, max_size=8))
def test_formulas_there_and_back_and_as_pymatgen_reads_them(counts: dict[str, int]) -> None:
    formula = hill_formula(counts)
    found = composition(formula)
    assert {SYMBOLS[k + 1]: int(found[k]) for k in np.flatnonzero(found)} == counts
    assert Composition(formula).get_el_amt_dict() == counts
    assert formula == Composition(formula).hill_formula.replace(" ", "")


@pytest.mark.parametrize("formula", ["Ca3(PO4)2", "Mg[Al(OH)4]2", "C 2 H 6 O"])
def test_brackets_and_blanks(formula: str) -> None:
    counts = Composition(formula.replace(" ", "")).get_el_amt_dict()
    assert {SYMBOLS[k + 1]: n for k, n in enumerate(composition(formula)) if n} == counts


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("Xy2", "known element symbols"),
        ("C2.5H6", "whole numbers"),
        ("(CH3", "close its brackets"),
        ("", "no atoms"),
        ("C0", "no atoms"),
        ("Og2", "fermium"),
        ("trainig", "must be"),
    ],
)
def test_what_is_no_formula(formula: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        composition(formula)


def test_the_formulas_of_the_training_set_are_drawn_as_often_as_there() -> None:
    choices = choose_from(weights(), "molecule", "training")
    assert choices.counts is not None and choices.sizes.tolist() == [9, 5, 12]
    assert choices.probabilities.tolist() == [3 / 8, 1 / 8, 4 / 8]
    assert choices.counts[:, [NUMBERS["H"] - 1, NUMBERS["C"] - 1, NUMBERS["O"] - 1]].tolist() == [
        [6, 2, 1],
        [4, 1, 0],
        [6, 6, 0],
    ]
    few = choose_from(weights(), "molecule", "training", (9, 12))
    assert few.probabilities.tolist() == [3 / 7, 0, 4 / 7]
    none = choose_from(weights(), "molecule", "training", (20, 21))  # no such formula: sizes alone
    assert none.counts is None and none.sizes.tolist() == [20, 21]


def test_one_formula_and_none() -> None:
    one = choose_from(weights(), "crystal", "Ti2O4", 6)
    assert one.counts is not None and one.sizes.tolist() == [6] and one.probabilities.tolist() == [1]
    assert one.counts[0, [7, 21]].tolist() == [4, 2]
    any_ = choose_from(weights(), "molecule")
    assert any_.counts is None and any_.sizes[any_.probabilities > 0].tolist() == [5, 9, 12]


SALTS = {"NaCl": 3, "KCl": 1, "Na2S": 2, "K2O": 1, "Li4S2": 1, "MgO": 1, "CaO": 1, "MgS": 1, "Fe2O3": 1}


def draws(formulas: dict[str, int], n: int, atoms: int | None = None) -> list[str]:
    choices = choose_from(weights({"crystal": formulas}), "crystal", "new", atoms)
    made = [choices.draw(np.random.default_rng([7, k])) for k in range(n)]
    assert all(counts is not None and counts.sum() == size for size, counts in made)
    return [
        hill_formula({SYMBOLS[z + 1]: int(counts[z]) for z in np.flatnonzero(counts)})
        for _, counts in made
        if counts is not None
    ]


def test_new_formulas_exchange_one_element_for_one_that_takes_its_place() -> None:
    made = Counter(draws(SALTS, 300))
    assert draws(SALTS, 300) == draws(SALTS, 300), "the same streams, the same formulas"
    known = [Composition(formula) for formula in SALTS]
    for formula in made:
        new = Composition(formula)
        assert compositional(formula) and new.reduced_formula not in {one.reduced_formula for one in known}
        parents = [one for one in known if sorted(one.values()) == sorted(new.values())]
        assert any(len(set(one) & set(new)) == len(new) - 1 for one in parents), formula
    # Na and K share NaCl / KCl, Mg and Ca share MgO / CaO, O and S share MgO / MgS: no others do
    assert set(made) == {"K2S", "Na2O", "CaS", "Fe2S3", "Li4O2"}
    assert made["CaS"] > made["Fe2S3"]  # from CaO and from MgS


def test_where_no_formula_is_new_it_is_one_of_the_training_set() -> None:
    assert set(draws({"Fe": 2, "Cu": 1}, 20)) == {"Fe", "Cu"}
    assert set(draws({"NaCl": 1, "KCl": 1}, 20)) == {"ClNa", "ClK"}
    assert set(draws(SALTS, 30, atoms=5)) == {"Fe2S3"}


@pytest.mark.parametrize(
    ("made", "system", "formula", "atoms", "message"),
    [
        (weights({}), "molecule", "C2H6O", None, "cannot be told the formula of a molecule"),
        (weights({"molecule": {}}), "crystal", "TiO2", None, "cannot be told the formula of a crystal"),
        (weights({"molecule": {}}), "molecule", "training", None, "hold no formulas of molecules"),
        (weights(), "crystal", "training", None, "hold no formulas of crystals"),
        (weights(), "crystal", "new", None, "hold no formulas of crystals"),
        (weights(), "molecule", "new", None, "'new' is for crystals"),
        (weights(), "molecule", "C2H6O", (10, 20), "has 9 atoms, `atoms` allows 10 to 20"),
        (weights(), "molecule", "C9999", None, "has 9999 atoms, `atoms` allows 1 to 2048"),
        (weights(), "molecule", "C2H6O", (20, 10), "`atoms` must be"),
    ],
)
def test_what_cannot_be_chosen(
    made: Pretrained, system: str, formula: str, atoms: tuple[int, int] | None, message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        choose_from(made, system, formula, atoms)


def test_formulas_of_a_data_set() -> None:
    data = PackedDataset.load(Path(__file__).parent / "fixtures" / "tiny_dataset")
    assert formula_counts(data) == Counter(system.formula for system in data)
    molecules = Counter(system.formula for system in data if not system.is_periodic)
    crystals = Counter(system.formula for system in data if system.is_periodic)
    assert told_formulas(data, FlowConfig()) == {"molecule": molecules, "crystal": crystals}
    assert told_formulas(data, FlowConfig(crystal_composition=0.0)) == {"molecule": molecules}


def test_formulas_are_drawn_as_numpy_would_choose() -> None:
    """The same numbers from the same stream, without summing the probabilities at each draw."""
    many = {hill_formula({"C": n, "H": m}): 1 + n * m for n in range(1, 9) for m in range(1, 9)}
    choices = choose_from(weights({"molecule": many, "crystal": {}}), "molecule", "training")
    assert choices.counts is not None
    for seed in range(200):
        ours, theirs = np.random.default_rng(seed), np.random.default_rng(seed)
        expected = theirs.choice(len(choices.sizes), p=choices.probabilities)
        size, counts = choices.draw(ours)
        assert size == choices.sizes[expected] and (counts == choices.counts[expected]).all()
        assert ours.random() == theirs.random()
