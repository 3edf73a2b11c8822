"""What a sample is drawn from before there is any noise: its number of atoms, and perhaps its composition."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from adit.elements import composition, formula_of
from adit.errors import InvalidInputError
from adit.validity import compositional
from adit.weights.store import Pretrained

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_ATOMS = 2048
_TRIES = 100
"""Exchanges that are tried for a new formula."""


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

    def draw(self, stream: np.random.Generator) -> tuple[int, NDArray[np.int64] | None]:
        """The number of atoms of one sample, and its composition (100,) if the network is told it."""
        choice = chosen(self._cumulative, stream)
        return int(self.sizes[choice]), None if self.counts is None else self.counts[choice]

    def draw_all(self, streams: Sequence[np.random.Generator]) -> list[tuple[int, NDArray[np.int64] | None]]:
        """One for each stream."""
        return [self.draw(stream) for stream in streams]

    @cached_property
    def _cumulative(self) -> NDArray[np.float64]:
        return np.cumsum(self.probabilities)


class Substituted(Choices):
    """Compositions of the training set with one element exchanged for another that takes its place elsewhere in it.

    How often two elements do so in otherwise equal formulas weighs the exchange, as Hautier 2011
    (doi 10.1021/ic102031h) counts it in equal structures. What results passes `adit.validity.compositional` and is
    not in the training set, nor is a multiple of it; where that cannot be had (elements, say), it is a formula of the
    training set.
    """

    def draw(self, stream: np.random.Generator) -> tuple[int, NDArray[np.int64] | None]:
        for _ in range(_TRIES):
            size, counts = super().draw(stream)
            assert counts is not None
            old = int(stream.choice(np.flatnonzero(counts)))
            if not self._exchanges[old, -1]:
                continue
            new = chosen(self._exchanges[old], stream)
            made = counts.copy()
            made[[old, new]] = 0, counts[old]
            if not counts[new] and _reduced(made) not in self._known and compositional(formula_of(made), threads=1):
                return size, made
        return super().draw(stream)

    @cached_property
    def _known(self) -> set[bytes]:
        assert self.counts is not None
        return {_reduced(row) for row in self.counts}

    @cached_property
    def _exchanges(self) -> NDArray[np.float64]:
        """(100, 100): how probably an element (row) is exchanged for another, cumulative; zeros where none can be."""
        assert self.counts is not None
        places: dict[tuple[bytes, int], list[int]] = {}
        for row in self.counts:
            for element in np.flatnonzero(row).tolist():
                rest = row.copy()
                rest[element] = 0
                places.setdefault((rest.tobytes(), int(row[element])), []).append(element)
        shared = np.zeros((self.counts.shape[1],) * 2)
        for elements in places.values():
            if len(elements) > 1:
                shared[np.ix_(elements, elements)] += 1 / (len(elements) - 1)
        np.fill_diagonal(shared, 0)
        chances: NDArray[np.float64] = np.cumsum(shared / np.maximum(shared.sum(1, keepdims=True), 1e-12), 1)
        return chances


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
    if formula == "new" and system != "crystal":
        raise InvalidInputError("`formula` 'new' is for crystals; leave it out, or give one")
    low, high = (1, MAX_ATOMS) if atoms is None else atom_range(atoms)
    if formula not in ("training", "new"):
        one = composition(formula)
        counts = (
            one * np.arange(1, 1 + (high // one.sum() if system == "crystal" and atoms is not None else 1))[:, None]
        )
        often = np.ones(len(counts))
    elif histogram := weights.formulas[system]:
        counts = np.stack([composition(name) for name in histogram])
        often = np.array(list(histogram.values()), dtype=np.float64)
    else:
        raise InvalidInputError(
            f"the weights {weights.name!r} hold no formulas of {system}s; give one, or formula='any'"
        )
    sizes = counts.sum(1)
    often[(sizes < low) | (sizes > high)] = 0
    if often.sum():
        return (Substituted if formula == "new" else Choices)(sizes, often / often.sum(), counts)
    if formula in ("training", "new"):
        return Choices(*atom_distribution({}, atoms))
    whole = " and no multiple fits" if system == "crystal" else ""
    raise InvalidInputError(f"`formula` {formula!r} has {one.sum()} atoms{whole}, `atoms` allows {low} to {high}")


def chosen(cumulative: NDArray[np.float64], stream: np.random.Generator) -> int:
    """One of K by cumulative probabilities (K,); `Generator.choice` would sum them at every draw."""
    return int(np.searchsorted(cumulative, cumulative[-1] * stream.random(), "right"))


def _reduced(counts: NDArray[np.int64]) -> bytes:
    least: NDArray[np.int64] = counts // np.gcd.reduce(counts)
    return least.tobytes()


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
