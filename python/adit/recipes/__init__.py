"""Recipes: functions that return everything a training run is."""

from __future__ import annotations

from collections.abc import Callable

from adit.config import Recipe
from adit.errors import InvalidInputError
from adit.recipes.drugs import drugs_demo
from adit.recipes.joint import (
    joint_base,
    joint_gpu,
    joint_large,
    joint_small,
    joint_test,
    joint_tiny,
    joint_tiny_gpu,
    joint_tiny_guide,
    joint_tiny_told,
)

RECIPES: dict[str, Callable[[], Recipe]] = {
    "joint-tiny": joint_tiny,
    "joint-tiny-gpu": joint_tiny_gpu,
    "joint-tiny-told": joint_tiny_told,
    "joint-tiny-guide": joint_tiny_guide,
    "joint-gpu": joint_gpu,
    "joint-s": joint_small,
    "joint-b": joint_base,
    "joint-l": joint_large,
    "joint-test": joint_test,
    "drugs-demo": drugs_demo,
}


def get_recipe(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        InvalidInputError: no such recipe.
    """
    if name not in RECIPES:
        raise InvalidInputError(f"unknown recipe {name!r}; known: {', '.join(RECIPES)}")
    return RECIPES[name]()
