"""Recipes survive the JSON of a checkpoint."""

from __future__ import annotations

import json

import pytest

from adit.config import DiTConfig, VAEConfig, from_dict, recipe_from_dict, to_dict
from adit.errors import InvalidInputError
from adit.recipes import RECIPES, get_recipe


@pytest.mark.parametrize("name", RECIPES)
def test_round_trip(name: str) -> None:
    recipe = get_recipe(name)
    assert recipe_from_dict(json.loads(json.dumps(to_dict(recipe)))) == recipe
    assert get_recipe(name) == recipe


def test_unknown_names_are_refused_with_the_known_ones() -> None:
    with pytest.raises(
        InvalidInputError, match=r"unknown recipe 'joint-xl'; known: joint-tiny, joint-tiny-gpu, joint-tiny-told"
    ):
        get_recipe("joint-xl")
    with pytest.raises(InvalidInputError, match=r"unknown VAEConfig fields \['depth'\]; known: .*'width'"):
        from_dict(VAEConfig, {"depth": 3})


def test_configurations_cannot_be_changed_by_accident() -> None:
    with pytest.raises(AttributeError):
        DiTConfig().width = 3  # type: ignore[misc]
