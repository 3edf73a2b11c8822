"""Atoms that are known beforehand, such as a scaffold that molecules shall hold or the host of ions in a crystal.

Shape suffixes: B systems, N atoms in each, M known atoms.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from adit.batch import SystemBatch, wrap
from adit.bonds import infer_bonds
from adit.elements import ELECTRONEGATIVITY_RANKS, SYMBOLS, formula_of
from adit.errors import InvalidInputError
from adit.known_cell import known_cells
from adit.packing import SystemLike, Systems, element_counts, pack
from adit.prior import MAX_ATOMS, Choices
from adit.system import AtomicSystem
from adit.templates import Templates, molecule_order, named_compositions, structures_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Counts = NDArray[np.int64]
    Slots = NDArray[np.int64]

_SURE = 1e4


@dataclass(frozen=True)
class Kept:
    """Sample number k holds the atoms of fragment number k modulo K.

    Attributes:
        fragments: the K of them, their atoms in the order given; crystals in their Niggli cells.
        ranks: of each the (M,) places of its atoms among those of the same class (`_classes`).
    """

    fragments: Sequence[AtomicSystem]
    ranks: Sequence[NDArray[np.int64]]

    @cached_property
    def counts(self) -> Counts:
        """(K, 100) atoms of each element, from hydrogen on."""
        return element_counts(pack(self.fragments))[:, 1:]

    @property
    def cells(self) -> NDArray[np.float64] | None:
        """(K, 3, 3) of crystals."""
        cells = [fragment.cell for fragment in self.fragments if fragment.cell is not None]
        return np.stack(cells) if cells else None

    @property
    def named(self) -> Iterator[tuple[str, Counts]]:
        """As `adit.templates.named_compositions` of the fragments."""
        return named_compositions(self.fragments)

    def of(self, index: int) -> AtomicSystem:
        """The fragment of sample number `index`."""
        return self.fragments[index % len(self.fragments)]

    def slots(self, index: int, counts: Counts) -> NDArray[np.int64]:
        """(M,) places of the known atoms of sample number `index` among all, whose composition is (100,)."""
        fragment = self.of(index)
        classes = _classes(fragment)
        before = np.zeros(classes.max() + 2, dtype=np.int64)
        np.add.at(before, classes[1:] + 1, counts)
        places: NDArray[np.int64] = before.cumsum()[classes[fragment.numbers]] + self.ranks[index % len(self.ranks)]
        return places

    def holding(self, choices: Choices) -> list[Choices]:
        """For each fragment those that hold it and more.

        Raises:
            InvalidInputError: there is none.
        """
        counts = np.zeros((0, len(SYMBOLS) - 1), dtype=np.int64) if choices.counts is None else choices.counts
        found = []
        for (name, own), fragment in zip(self.named, self.fragments, strict=True):
            fits = (counts >= own).all(1) & (counts.sum(1) > len(fragment))
            likely = choices.probabilities[: len(fits)] * fits
            if not likely.sum() > 0:
                raise InvalidInputError(f"`keep`, {name}: {_lacking(counts, own)}")
            found.append(replace(choices, probabilities=likely / likely.sum()))
        return found

    def check(self, templates: Templates) -> None:
        """Samples that take the templates' compositions must have these atoms and more.

        Raises:
            InvalidInputError: the templates are told no composition, or one has not these atoms.
        """
        if templates.counts is None or templates.begin > 0:
            raise InvalidInputError(
                "`keep` and `like` go together where only formulas of `like` are left: `strength` 1"
            )
        for index in range(math.lcm(len(self.fragments), len(templates.counts))):
            place, whole = index % len(self.fragments), templates.counts[index % len(templates.counts)]
            if (whole < self.counts[place]).any() or (whole == self.counts[place]).all():
                raise InvalidInputError(f"`keep`, structure {place}: {_lacking(whole[None], self.counts[place])}")

    def place(
        self, read: SystemBatch, indices: Sequence[int], slots: Sequence[Slots]
    ) -> tuple[SystemBatch, list[float]]:
        """Systems of one size with the atoms that they shall hold where these are, and how far those were from there.

        `slots` are those of each. The fragment is turned and shifted to where it fits the atoms that take its place
        best: of molecules as a rigid body (Kabsch 1976, doi 10.1107/S0567739476001873), of crystals along the cell's
        edges. In Angstrom, root mean square.
        """
        numbers, cartesian, fractional = read.numbers.clone(), read.cartesian.clone(), read.fractional.clone()
        apart = torch.zeros(len(indices), device=numbers.device)
        which = np.array(indices) % len(self.fragments)
        for one in np.unique(which).tolist():
            fragment, rows = self.fragments[one], np.flatnonzero(which == one)
            places = np.stack([slots[row] for row in rows.tolist()])
            at = torch.from_numpy(rows).to(numbers.device)[:, None], torch.from_numpy(places).to(numbers.device)
            numbers[at] = torch.from_numpy(fragment.numbers.astype(np.int64)).to(numbers.device)
            if fragment.cell is None:
                known = torch.tensor(fragment.positions).to(cartesian)
                turn, centre = fit_rigid(known, cartesian[at])
                put = (known - known.mean(0)) @ turn + centre
                off = put - cartesian[at]
                cartesian[at] = put
            else:
                known = torch.tensor(fragment.fractional).to(fractional)
                put = wrap(known + fit_shift(known, fractional[at]))
                off = put - fractional[at]
                off = (off - off.round()) @ read.cells[at[0][:, 0]]
                fractional[at] = put
            apart[at[0][:, 0]] = off.square().sum(-1).mean(-1).sqrt()
        if not self.fragments[0].is_periodic:
            cartesian = cartesian - cartesian.mean(1, keepdim=True)
        return replace(read, numbers=numbers, cartesian=cartesian, fractional=fractional), apart.tolist()

    def sure(self, logits_BNE: Tensor, indices: Sequence[int], slots: Sequence[Slots]) -> Tensor:
        """(B, N, 100) logits of elements, those of the known atoms beyond doubt."""
        sure_BNE = logits_BNE.clone()
        for row, (index, places) in enumerate(zip(indices, slots, strict=True)):
            numbers = self.of(index).numbers.astype(np.int64)
            sure_BNE[row, torch.from_numpy(places), torch.from_numpy(numbers - 1)] += _SURE
        return sure_BNE

    def settle(self, sample: AtomicSystem, index: int, slots: Slots) -> AtomicSystem:
        """A sample moved as a whole to where its known atoms are, these first, exactly there and in the order given."""
        fragment = self.of(index)
        rest = np.setdiff1d(np.arange(len(sample)), slots)
        if fragment.cell is None:
            known, made = torch.tensor(fragment.positions), torch.tensor(sample.positions)
            turn, centre = fit_rigid(known, made[None, slots])
            moved = ((made[rest] - centre[0]) @ turn[0].T + known.mean(0)).numpy()
        else:
            known, made = torch.tensor(fragment.fractional), torch.tensor(sample.fractional)
            moved = wrap(made[rest] - fit_shift(known, made[None, slots])[0]).numpy() @ fragment.cell
        numbers = np.concatenate([fragment.numbers, sample.numbers[rest]])
        return AtomicSystem(numbers, np.concatenate([fragment.positions, moved]), fragment.cell, sample.info)

    def intact(self, samples: Sequence[AtomicSystem]) -> NDArray[np.bool_]:
        """(B,) whether molecules bond the atoms that they hold as these are bonded by themselves; crystals do.

        Of which fragment each has the atoms, the `index` in its `info` says.
        """
        if self.cells is not None:
            return np.ones(len(samples), dtype=np.bool_)
        own = [set(map(tuple, infer_bonds(fragment).bonds.tolist())) for fragment in self.fragments]
        found = []
        for sample in samples:
            place = int(sample.info.get("index", 0)) % len(own)
            most = len(self.fragments[place])
            found.append({(a, b) for a, b in infer_bonds(sample).bonds.tolist() if max(a, b) < most} == own[place])
        return np.array(found, dtype=np.bool_)


def fit_rigid(known_M3: Tensor, made_BM3: Tensor) -> tuple[Tensor, Tensor]:
    """Proper rotations (B, 3, 3) and centres (B, 1, 3): (known - its centre) @ rotation + centre is nearest to made."""
    centre = made_BM3.mean(1, keepdim=True)
    covariance = (known_M3 - known_M3.mean(0)).T @ (made_BM3 - centre)
    u, _, vh = torch.linalg.svd(covariance.nan_to_num(0.0, 0.0, 0.0))  # samples that ran to infinity are refused later
    flip = torch.ones_like(centre)
    flip[..., 2] = torch.linalg.det(u @ vh)[:, None].sign()
    return (u * flip) @ vh, centre


def fit_shift(known_M3: Tensor, made_BM3: Tensor) -> Tensor:
    """(B, 1, 3): known fractional coordinates plus this are nearest to made, by the circular mean along each edge."""
    turns = 2 * torch.pi * (made_BM3 - known_M3)
    return torch.atan2(turns.sin().mean(1, keepdim=True), turns.cos().mean(1, keepdim=True)) / (2 * torch.pi)


def kept_from(system: str, keep: SystemLike | Systems | Kept, formula: str | None) -> Kept:
    """Checked, which a `Kept` is; see `adit.Generator.stream`.

    Args:
        formula: of the whole, or which are drawn; None if those of templates are taken.

    Raises:
        InvalidInputError: a fragment is of the other kind, empty, too large, or has a cell that cannot be reduced
            (names it, counted from 0); it is not said what the whole has.
    """
    if formula in ("any", "new"):
        raise InvalidInputError(f"`keep` needs a `formula`, that of the whole; got {formula!r}")
    if isinstance(keep, Kept):
        return keep
    fragments = []
    for place, item in enumerate(structures_of("keep", keep, system)):
        name, cell = f"`keep`, structure {place}", item.cell
        if not 1 <= len(item) < MAX_ATOMS:
            raise InvalidInputError(f"{name} has {len(item)} atoms; 1 to {MAX_ATOMS - 1} can be kept")
        if cell is not None:
            try:
                (cell,) = known_cells(cell)
            except InvalidInputError as error:
                raise InvalidInputError(f"{name}: {error}") from error
        fragments.append(AtomicSystem(item.numbers, item.positions, cell))
    return Kept(fragments, [_ranks(fragment) for fragment in fragments])


def _ranks(fragment: AtomicSystem) -> NDArray[np.int64]:
    order = np.arange(len(fragment)) if fragment.is_periodic else np.array(molecule_order(fragment))
    classes = _classes(fragment)[fragment.numbers[order]]
    ranks = np.empty(len(fragment), dtype=np.int64)
    ranks[order] = [int((classes[:place] == own).sum()) for place, own in enumerate(classes)]
    return ranks


def _classes(system: AtomicSystem) -> NDArray[np.int64]:
    """(101,) by atomic number: the atoms of a lower class come first in what the networks know.

    Of molecules heavy ones before hydrogens, of crystals by electronegativity.
    """
    return ELECTRONEGATIVITY_RANKS if system.is_periodic else (np.arange(len(SYMBOLS)) == 1).astype(np.int64)


def _lacking(counts: Counts, own: Counts) -> str:
    """Why none of compositions (K, 100) holds one (100,) and more."""
    kept = formula_of(own)
    if len(counts) != 1:
        return f"no formula that can be drawn has {kept} and more; give one as `formula`"
    whole = formula_of(counts[0])
    if (counts[0] >= own).all():
        return f"`formula` {whole} leaves no atom to be found; add what shall be"
    return f"`formula` {whole} has not all of {kept}; it must be that of the whole, what is kept and what is found"
