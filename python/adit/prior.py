"""What a sample is drawn from before there is any noise: its number of atoms, and perhaps its composition."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np

from adit.elements import Elements, composition, formula_of
from adit.errors import InvalidInputError
from adit.validity import compositional
from adit.weights.store import Pretrained

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_ATOMS = 2048
_GOLDEN = 0x9E3779B97F4A7C15
"""2^64 over the golden ratio, whose multiples modulo 2^64 are spread most evenly (Knuth, TAOCP 3, 6.4)."""
_TRIES = 1000
"""Exchanges that are tried for a new formula."""
_FEW = 10_000
"""So many exchanges are looked at beforehand, which takes a quarter of a second."""


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

    def draw_all(
        self, places: Sequence[float], streams: Sequence[np.random.Generator]
    ) -> list[tuple[int, NDArray[np.int64] | None]]:
        """The number of atoms of samples, and the composition (100,) of each if the network is told it.

        Args:
            places: (B,) uniform in [0, 1), where among the choices each is taken.
            streams: (B,) for what else is left to chance; one may stand for several.
        """
        which = chosen(self._cumulative, places)
        sizes = self.sizes[which].tolist()
        return list(zip(sizes, [None] * len(sizes) if self.counts is None else self.counts[which], strict=True))

    @cached_property
    def _cumulative(self) -> NDArray[np.float64]:
        return np.cumsum(self.probabilities)


@dataclass(frozen=True)
class Substituted(Choices):
    """Compositions of the training set with one element exchanged for another that takes its place elsewhere in it.

    How often two elements do so in otherwise equal formulas weighs the exchange, as Hautier 2011
    (doi 10.1021/ic102031h) counts it in equal structures. What results passes `adit.validity.compositional`, is
    not in the training set, nor is a multiple of it, and has the elements that are wanted.
    """

    wanted: Elements | None = None

    def draw_all(
        self, places: Sequence[float], streams: Sequence[np.random.Generator]
    ) -> list[tuple[int, NDArray[np.int64] | None]]:
        """As `Choices.draw_all`.

        Raises:
            InvalidInputError: no formula is found.
        """
        rows, olds, _ = self._exchanges
        out: list[tuple[int, NDArray[np.int64] | None]] = [(0, None)] * len(streams)
        left = np.arange(len(streams))
        for _ in range(_TRIES):
            which = chosen(self._cumulative, places)
            chances = np.cumsum(self._replacing(rows[which], olds[which]), 1)
            ends = chances[:, -1] * [streams[k].random() for k in left.tolist()]
            made = self._made(rows[which], olds[which], (chances <= ends[:, None]).sum(1))
            good = self._new_and_balanced(made)
            for k, counts in zip(left[good].tolist(), made[good], strict=True):
                out[k] = int(counts.sum()), counts
            left = left[~good]
            if not len(left):
                return out
            places = [streams[k].random() for k in left.tolist()]
        raise InvalidInputError(f"of {_TRIES} formulas with an element exchanged none was new and balanced in charge")

    def listed(self) -> Choices | None:
        """All that can be drawn, none perhaps, if they are few; else None."""
        if self.wanted is None and np.count_nonzero(self.probabilities) > _FEW:
            return None  # before tables are made that only drawing needs
        rows, olds, weights = self._exchanges
        possible = weights > 0
        if possible.sum() > _FEW:
            return None
        rows, olds, weights = rows[possible], olds[possible], weights[possible]
        replacing = self._replacing(rows, olds)
        which, news = np.nonzero(replacing)
        if len(which) > _FEW:
            return None
        made = self._made(rows[which], olds[which], news)
        shares = (weights / replacing.sum(1))[which] * replacing[which, news]
        kept = self._new_and_balanced(made)
        return Choices(made[kept].sum(1), shares[kept] / max(shares[kept].sum(), 1e-300), made[kept])

    def _new_and_balanced(self, made: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(K,) of compositions (K, 100)."""
        new = np.array([entry not in self._known for entry in _reduced(made)], dtype=bool)
        new[new] = compositional([formula_of(counts) for counts in made[new]], threads=1)
        return new

    def _made(self, rows: NDArray[np.int64], olds: NDArray[np.int64], news: NDArray[np.int64]) -> NDArray[np.int64]:
        """(K, 100) compositions, each with an element exchanged."""
        assert self.counts is not None
        made, each = self.counts[rows], np.arange(len(rows))
        made[each, news] = made[each, olds]
        made[each, olds] = 0
        return made

    def _replacing(self, rows: NDArray[np.int64], olds: NDArray[np.int64]) -> NDArray[np.float64]:
        """(K, 100) how probably each element takes the place of one (K,) in a composition; 0 where it must not."""
        assert self.counts is not None
        rest = self.counts[rows] > 0
        rest[np.arange(len(rows)), olds] = False
        allowed = ~rest
        if self.wanted is not None:
            missing = self.wanted.present & ~rest
            lacking = missing.sum(1, keepdims=True)
            allowed &= ~self.wanted.absent & (missing | (lacking == 0)) & (lacking < 2)
            allowed &= ~(rest & self.wanted.absent).any(1, keepdims=True)
        return np.where(allowed, self._substitutions[olds], 0.0)

    @cached_property
    def _exchanges(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """(P,) compositions, (P,) elements of theirs, and (P,) how often these are exchanged."""
        assert self.counts is not None
        present = (self.counts > 0) & (self.probabilities > 0)[:, None]
        rows, olds = np.nonzero(present)
        often = (self.probabilities / np.maximum(present.sum(1), 1))[rows]
        return rows, olds, often * self._replacing(rows, olds).sum(1)

    @cached_property
    def _cumulative(self) -> NDArray[np.float64]:
        return np.cumsum(self._exchanges[2])

    @cached_property
    def _known(self) -> set[bytes]:
        assert self.counts is not None
        return set(_reduced(self.counts))

    @cached_property
    def _substitutions(self) -> NDArray[np.float64]:
        """(100, 100) how probably an element (row) is exchanged for another; zeros where none can be."""
        assert self.counts is not None
        rows, elements = np.nonzero(self.counts)
        rest, each = self.counts[rows].astype(np.uint16), np.arange(len(rows))
        amounts = rest[each, elements]
        rest[each, elements] = 0
        around = np.column_stack([rest, amounts])  # of an element: what else there is, and how much of it
        _, place = np.unique(around.view(f"V{around.strides[0]}")[:, 0], return_inverse=True)
        takes = np.zeros((place.max() + 1, self.counts.shape[1]))
        takes[place, elements] = 1
        others = takes.sum(1, keepdims=True) - 1
        shared = (takes / np.maximum(others, 1)).T @ takes
        np.fill_diagonal(shared, 0)
        chances: NDArray[np.float64] = shared / np.maximum(shared.sum(1, keepdims=True), 1e-12)
        return chances


def choose_from(
    weights: Pretrained,
    system: str,
    formula: str = "any",
    atoms: int | tuple[int, int] | None = None,
    wanted: Elements | None = None,
) -> Choices:
    """The choices for samples of these weights; see `adit.Generator.stream`.

    Raises:
        InvalidInputError: `atoms` is not a positive number or an increasing range; `formula` is none, does not fit
            `atoms`, or the weights cannot be told it; the elements that are wanted do not go with it, or no formula
            has them.
    """
    drawn = formula in ("training", "new")
    if wanted is not None and not drawn:
        raise InvalidInputError(
            f"formulas {wanted.words} are drawn with `formula` 'training' or 'new', not {formula!r}"
        )
    if formula == "any":
        return Choices(*atom_distribution(weights.atom_counts[system], atoms))
    if system not in weights.formulas:
        raise InvalidInputError(
            f"the network of the weights {weights.name!r} cannot be told the formula of a {system}; leave "
            "`formula` out, or train one with a recipe that tells it (`dit.composition`, `flow`)"
        )
    if formula == "new" and system != "crystal":
        raise InvalidInputError("`formula` 'new' is for crystals; leave it out, or give one")
    if drawn:
        return _drawn(weights, system, formula == "new", atoms, wanted)
    low, high = (1, MAX_ATOMS) if atoms is None else atom_range(atoms)
    one = composition(formula)
    size = int(one.sum())
    most = high // size if system == "crystal" and atoms is not None else 1
    multiples = [k for k in range(1, most + 1) if low <= k * size <= high]
    if multiples:
        counts = one * np.array(multiples)[:, None]
        return Choices(counts.sum(1), np.full(len(multiples), 1 / len(multiples)), counts)
    whole = " and no multiple fits" if system == "crystal" else ""
    raise InvalidInputError(f"`formula` {formula!r} has {size} atoms{whole}, `atoms` allows {low} to {high}")


def _drawn(
    weights: Pretrained, system: str, new: bool, atoms: int | tuple[int, int] | None, wanted: Elements | None
) -> Choices:
    """Formulas of the training set, or new ones; where none has such a size and no elements are wanted, sizes alone."""
    histogram = weights.formulas[system]
    if not histogram:
        raise InvalidInputError(
            f"the weights {weights.name!r} hold no formulas of {system}s; give one, or formula='any'"
        )
    low, high = (1, MAX_ATOMS) if atoms is None else atom_range(atoms)
    counts = np.stack([composition(name) for name in histogram])
    often, sizes = np.array(list(histogram.values()), dtype=np.float64), counts.sum(1)
    often[(sizes < low) | (sizes > high)] = 0
    if wanted is not None and not new:
        often[~wanted.fit(counts)] = 0
    known = Choices(sizes, often / max(often.sum(), 1), counts)
    if new:
        made = Substituted(known.sizes, known.probabilities, counts, wanted)
        few = made.listed()
        if few is None or len(few.sizes):
            return made if few is None else few
    if often.any() and not (new and wanted):
        return known
    if wanted is None:
        return Choices(*atom_distribution({}, atoms))
    of = "" if atoms is None else f" of {low} to {high} atoms"
    if new:
        raise InvalidInputError(
            f"there is no new formula {wanted.words}{of}; give a `formula`, or 'training' for those that are known"
        )
    raise InvalidInputError(f"the training set has no formula {wanted.words}{of}")


def places(seed: int, system: int, indices: Iterable[int]) -> list[float]:
    """Numbers in [0, 1) for samples: each alone is uniform over seeds, those of one seed are spread evenly.

    Sample number k is at u + k x the golden ratio, modulo 1, u random. So of any n samples in succession about as many
    as expected, not only on average, are of each size and formula: fewer are of one formula, fewer are alike.
    """
    # numpy pads [seed, system] with zeros: the stream of sample 0 begins with this number too, no other does
    shift = int(np.random.default_rng([seed, system]).integers(2**64, dtype=np.uint64))
    return [((shift + index * _GOLDEN) % 2**64 >> 11) / 2**53 for index in indices]


class Drawn(Protocol):
    """What compositions of samples are drawn from, as `Choices` is."""

    def draw_all(
        self, places: Sequence[float], streams: Sequence[np.random.Generator]
    ) -> list[tuple[int, NDArray[np.int64] | None]]: ...


def in_turn(
    drawn: Sequence[Drawn], seed: int, system: int, indices: Sequence[int], streams: Sequence[np.random.Generator]
) -> list[tuple[int, NDArray[np.int64] | None]]:
    """Sample number k from number k modulo their number, and of each number evenly."""
    out: list[tuple[int, NDArray[np.int64] | None]] = [(0, None)] * len(indices)
    for turn, choices in enumerate(drawn):
        rows = [row for row, index in enumerate(indices) if index % len(drawn) == turn]
        if rows:
            at = places(seed, system, [indices[row] // len(drawn) for row in rows])
            for row, found in zip(rows, choices.draw_all(at, [streams[row] for row in rows]), strict=True):
                out[row] = found
    return out


def chosen(cumulative: NDArray[np.float64], at: Sequence[float]) -> NDArray[np.int64]:
    """(B,) of K by cumulative probabilities (K,), for (B,) uniform in [0, 1)."""
    which: NDArray[np.int64] = np.searchsorted(cumulative, cumulative[-1] * np.asarray(at), "right")
    return which


def _reduced(counts: NDArray[np.int64]) -> list[bytes]:
    """Of compositions (K, 100), each divided by what all of its numbers can be divided by."""
    return [row.tobytes() for row in counts // np.gcd.reduce(counts, axis=1, keepdims=True)]


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
