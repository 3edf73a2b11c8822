"""What a sample is drawn from before there is any noise: its number of atoms, and perhaps its composition."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from adit.elements import composition
from adit.errors import InvalidInputError
from adit.weights.store import Pretrained

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_ATOMS = 2048


@dataclass(frozen=True)
class Choices:
    """What a sample can be.

    Attributes:
        sizes: (K,) numbers of atoms.
        probabilities: (K,), their sum is 1.
        counts: (K, 100) atoms of each element, from hydrogen on, that the network is told; None if it is not.
    """

    sizes: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    counts: NDArray[np.int64] | None = None


def choose_from(
    weights: Pretrained, system: str, formula: str = "any", atoms: int | tuple[int, int] | None = None
) -> Choices:
    """The choices for samples of these weights; see `adit.Generator.stream`.

    Raises:
        InvalidInputError: `atoms` is not a positive number or an increasing range; `formula` is none, does not fit
            `atoms`, or the weights cannot be told it.
    """
    if formula == "any":
        return Choices(*atom_distribution(weights.atom_counts[system], atoms))
    if system not in weights.formulas:
        raise InvalidInputError(
            f"the network of the weights {weights.name!r} cannot be told the formula of a {system}; leave "
            "`formula` out, or train one with a recipe that tells it (`dit.composition`, `flow`)"
        )
    if formula != "training":
        histogram: Mapping[str, int] = {formula: 1}
    elif not (histogram := weights.formulas[system]):
        raise InvalidInputError(
            f"the weights {weights.name!r} hold no formulas of {system}s; give one, or formula='any'"
        )
    counts = np.stack([composition(name) for name in histogram])
    low, high = (1, MAX_ATOMS) if atoms is None else atom_range(atoms)
    sizes, often = counts.sum(1), np.array(list(histogram.values()), dtype=np.float64)
    often[(sizes < low) | (sizes > high)] = 0
    if often.sum():
        return Choices(sizes, often / often.sum(), counts)
    if formula == "training":
        return Choices(*atom_distribution({}, atoms))
    raise InvalidInputError(f"`formula` {formula!r} has {sizes[0]} atoms, `atoms` allows {low} to {high}")


def atom_distribution(
    histogram: Mapping[int, int], atoms: int | tuple[int, int] | None
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Numbers of atoms and their probabilities: the training set's, within `atoms`.

    A range in which the training set has nothing is drawn from uniformly.

    Raises:
        InvalidInputError: `atoms` is not a positive number or an increasing range.
    """
    low, high = (min(histogram), max(histogram)) if atoms is None else atom_range(atoms)
    values = np.arange(low, high + 1)
    weights = np.array([histogram.get(int(value), 0) for value in values], dtype=np.float64)
    if weights.sum() == 0:
        weights[:] = 1
    return values, weights / weights.sum()


def atom_range(atoms: int | tuple[int, int]) -> tuple[int, int]:
    """A number or a range as the smallest and the largest number.

    Raises:
        InvalidInputError: it is neither, or not within 1 to 2048.
    """
    try:
        pair = tuple(atoms) if isinstance(atoms, Iterable) else (atoms, atoms)
        low, high = (operator.index(value) for value in pair)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(
            f"`atoms` must be a whole number or a range (smallest, largest) of two; got {atoms!r}"
        ) from error
    if not 1 <= low <= high <= MAX_ATOMS:
        raise InvalidInputError(
            f"`atoms` must be a number or a range (smallest, largest) in 1 to {MAX_ATOMS}; got {atoms}"
        )
    return low, high
