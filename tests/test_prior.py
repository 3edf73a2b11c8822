"""Formulas, and what a sample is drawn from."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Composition
from scipy.stats import chisquare, kstest

import adit
from adit import prior
from adit.config import DiTConfig, FlowConfig, VAEConfig
from adit.data.packed import PackedDataset
from adit.elements import NUMBERS, SYMBOLS, composition, formula_of, hill_formula, wanted_elements
from adit.errors import InvalidInputError
from adit.prior import MAX_ATOMS, Substituted, atom_range, choose_from, places
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
    made = choices.draw_all(places(7, 1, range(n)), [np.random.default_rng([7, k]) for k in range(n)])
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


def test_many_are_drawn_as_if_all_were_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As often, by a chi-squared test."""
    listed = choose_from(weights({"crystal": SALTS}), "crystal", "new")
    assert not isinstance(listed, Substituted) and listed.counts is not None
    monkeypatch.setattr(prior, "_FEW", 0)
    drawn = choose_from(weights({"crystal": SALTS}), "crystal", "new")
    assert isinstance(drawn, Substituted)
    found = Counter(draws(SALTS, 2000))
    expected: Counter[str] = Counter()
    for counts, share in zip(listed.counts, listed.probabilities, strict=True):
        expected[formula_of(counts)] += 2000 * share
    assert set(found) == set(expected)
    assert chisquare([found[name] for name in expected], list(expected.values())).pvalue > 1e-3


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
    """Of the same uniform number, without summing the probabilities at each draw."""
    many = {hill_formula({"C": n, "H": m}): 1 + n * m for n in range(1, 9) for m in range(1, 9)}
    choices = choose_from(weights({"molecule": many, "crystal": {}}), "molecule", "training")
    assert choices.counts is not None
    for seed in range(200):
        ours, theirs = np.random.default_rng(seed), np.random.default_rng(seed)
        expected = theirs.choice(len(choices.sizes), p=choices.probabilities)
        ((size, counts),) = choices.draw_all([ours.random()], [ours])
        assert size == choices.sizes[expected] and (counts == choices.counts[expected]).all()
        assert ours.random() == theirs.random()


@settings(deadline=None)
@given(st.integers(0, 2**63), st.integers(0, 10**12), st.integers(1, 2000))
def test_samples_in_succession_are_spread_evenly(seed: int, start: int, n: int) -> None:
    """Any n: no part of [0, 1) holds many more or fewer than its length says (by chance sqrt(n) more or fewer)."""
    found = np.sort(places(seed, 0, range(start, start + n)))
    assert found[0] >= 0 and found[-1] < 1
    below, above = found - np.arange(n) / n, np.arange(1, n + 1) / n - found
    assert n * max(below.max(), above.max()) <= 1.5 + 0.85 * np.log(n)
    k = n // 2
    assert places(seed, 0, range(start, start + n))[k] == places(seed, 0, [start + k])[0]


@pytest.mark.parametrize("index", [0, 1, 9999])
def test_each_sample_alone_is_drawn_uniformly(index: int) -> None:
    found = [places(seed, system, [index])[0] for seed in range(1000) for system in (0, 1)]
    assert kstest(found, "uniform").pvalue > 1e-3


@pytest.fixture(scope="module")
def shipped() -> Pretrained:
    """The formulas of the weights in the wheel, without the weights."""
    config = json.loads((Path(adit.__file__).parent / "weights" / "joint-tiny" / "config.json").read_text())
    return weights(config["formulas"])


@settings(deadline=None, max_examples=20)
@given(
    st.sampled_from([("crystal", "new"), ("crystal", "training"), ("molecule", "training")]),
    st.sets(st.sampled_from(["O", "C", "H", "Li", "Fe", "La"]), max_size=3),
    st.sets(st.sampled_from(["N", "F", "S", "Cu", "Pb", "Tl", "Yb"]), max_size=5),
    st.sampled_from([None, (2, 12), 16]),
)
def test_formulas_have_the_elements_that_are_wanted(
    shipped: Pretrained, of: tuple[str, str], some: set[str], none: set[str], atoms: int | tuple[int, int] | None
) -> None:
    wanted = wanted_elements(elements=some or None, exclude_elements=none or None)
    try:
        choices = choose_from(shipped, *of, atoms, wanted)
    except InvalidInputError:  # then there is none, at least in the training set
        assert wanted is not None
        low, high = atom_range(atoms or (1, MAX_ATOMS))
        known = [composition(name) for name in shipped.formulas[of[0]]]
        assert of[1] == "new" or not any(wanted.fit(one[None])[0] and low <= one.sum() <= high for one in known)
        return
    made = choices.draw_all(places(0, 1, range(50)), [np.random.default_rng(k) for k in range(50)])
    known = {Composition(name).reduced_formula for name in shipped.formulas[of[0]]}
    for size, counts in made:
        assert counts is not None and counts.sum() == size
        formula = Composition(formula_of(counts))
        symbols = {element.symbol for element in formula}
        assert some <= symbols and not none & symbols
        assert atoms is None or np.isin(size, np.arange(atoms[0], atoms[1] + 1) if isinstance(atoms, tuple) else atoms)
        assert (formula.reduced_formula in known) == (of[1] == "training")


@pytest.mark.parametrize("system", ["Li-P-S", "Ba-O-Ti", "Cu-S-Sn-Zn"])
def test_a_chemical_system_is_all_of_its_elements_and_no_others(shipped: Pretrained, system: str) -> None:
    """All new formulas that one exchange leads to, each once or more; pymatgen's idea of such a system."""
    choices = choose_from(shipped, "crystal", "new", None, wanted_elements(system))
    assert choices.counts is not None and choices.probabilities.sum() == pytest.approx(1)
    found = {formula_of(counts) for counts in choices.counts}
    symbols = system.split("-")
    known = {Composition(name).reduced_formula for name in shipped.formulas["crystal"]}
    within = {name: Composition(name) for name in shipped.formulas["crystal"]}
    expected = set()
    for parent in within.values():
        own = {element.symbol: int(count) for element, count in parent.items()}
        gone, come = set(own) - set(symbols), set(symbols) - set(own)
        if len(gone) == len(come) == 1:
            child = {element: count for element, count in own.items() if element in symbols} | {
                come.pop(): own[gone.pop()]
            }
            formula = hill_formula(child)
            if Composition(formula).reduced_formula not in known and compositional(formula):
                expected.add(formula)
    assert found and found <= expected
    assert len(found) > 0.6 * len(expected), "the others' exchange is not in the training set"
    assert {Composition(name).chemical_system for name in found} == {system}


@pytest.mark.parametrize(
    ("given_", "formula", "message"),
    [
        (
            {"chemical_system": "Li-Q"},
            "new",
            "`chemical_system` must be elements from H to Fm, such as Li-P-S; got 'Q'",
        ),
        ({"elements": ["O", 8]}, "new", "`elements` must be elements from H to Fm.* got 8"),
        ({"elements": "X"}, "new", "got 'X'"),
        ({"exclude_elements": " "}, "new", "`exclude_elements` must be elements"),
        ({"elements": []}, "new", "`elements` names no element"),
        ({"chemical_system": "Li-O", "elements": "O"}, "new", "`chemical_system` names all elements that there are"),
        ({"elements": "O-F", "exclude_elements": "F"}, "new", "`elements` and `exclude_elements` both name F"),
        ({"chemical_system": "Ar-O"}, "new", "there is no new formula exactly Ar-O"),
        ({"chemical_system": "Ar-O"}, "training", "the training set has no formula exactly Ar-O"),
        ({"elements": "La", "exclude_elements": "O"}, "any", "formulas with La, without O are drawn with `formula`"),
        ({"elements": "Ti"}, "TiO2", "not 'TiO2'"),
    ],
)
def test_elements_that_cannot_be_had(shipped: Pretrained, given_: dict[str, Any], formula: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        choose_from(shipped, "crystal", formula, None, wanted_elements(**given_))
