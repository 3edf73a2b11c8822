"""Are two crystals the same? pymatgen's StructureMatcher, fast, and a convention without its contradictions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

import numpy as np

from adit import _rust
from adit.errors import InvalidInputError
from adit.packing import Packed, SystemLike, Systems, as_system, is_one, pack_crystals

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

Convention: TypeAlias = Literal["symmetric", "pymatgen"]
Crystals = _rust.Crystals
"""Crystals reduced once by `StructureMatcher.reduce`, for many comparisons."""

T = TypeVar("T", bound=SystemLike)


class StructureMatcher:
    """Compares crystals as pymatgen's class of this name does, a hundred times faster.

    It takes the first six arguments of that class, but not `allow_subset`, `comparator`, `supercell_size` and
    `ignored_species`.

    Both cells are reduced, scaled to the same volume per atom, and laid over each other in all ways
    that the tolerances allow; then atoms of the same element are paired with the least sum of squared
    distances. Two crystals match if, in one of these ways, no two partners are further apart than
    `stol` times (V / n)^(1/3), V / n being the volume per atom of the mean of the two cells.

    Only elements count: charges, spins and partial occupancies are not looked at. Arguments may be
    whatever `adit.packing` takes: AtomicSystem, ASE Atoms, pymatgen structures, packed data sets. A
    crystal without atoms or with more than 4,096 in the reduced cell, with an edge beyond 1e6 Angstrom, or
    with edges in a ratio beyond 64 when reduced, cannot be compared: it matches nothing, not even itself
    (`comparable` says which).

    Ong et al., Comput. Mater. Sci. 68, 314 (2013), doi 10.1016/j.commatsci.2012.10.028.

    Args:
        ltol: lengths of edges may differ by this factor less one.
        stol: sites may differ by this, in units of (V / n)^(1/3).
        angle_tol: angles may differ by this, in degrees.
        primitive_cell: compare primitive cells (found with a tolerance of 0.25 Angstrom).
        scale: scale both to the same volume per atom.
        attempt_supercell: if the one cell holds k times as many atoms as the other, repeat the smaller.
        convention: "symmetric": the result does not depend on which crystal comes first, nor on the order
            of a list or of the atoms, and noise that hides a smaller cell does no harm. "pymatgen":
            pymatgen's own verdicts. docs/matching.md has the differences.
        threads: processor cores to use; None: all.

    Raises:
        InvalidInputError: a tolerance is not positive or is absurd (ltol > 1, stol > 10,
            angle_tol > 45), or the convention is unknown.
    """

    def __init__(
        self,
        ltol: float = 0.2,
        stol: float = 0.3,
        angle_tol: float = 5,
        primitive_cell: bool = True,
        scale: bool = True,
        attempt_supercell: bool = False,
        convention: Convention = "symmetric",
        *,
        threads: int | None = None,
    ) -> None:
        self.ltol, self.stol, self.angle_tol = ltol, stol, angle_tol
        self.primitive_cell, self.scale, self.attempt_supercell = primitive_cell, scale, attempt_supercell
        self.convention = convention
        self.threads = threads
        self.reduce([])

    def __repr__(self) -> str:
        names = ("ltol", "stol", "angle_tol", "primitive_cell", "scale", "attempt_supercell", "convention")
        return f"StructureMatcher({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"

    def reduce(self, systems: Systems | Packed | Iterable[SystemLike] | Crystals) -> Crystals:
        """The crystals as this matcher compares them. Whatever takes systems takes the result, too.

        Raises:
            InvalidInputError: a system is a molecule (its index is named).
        """
        return self._reduce(systems, "systems")

    def _reduce(self, systems: Systems | Packed | Iterable[SystemLike] | Crystals, argument: str) -> Crystals:
        """As `reduce`; errors name the argument."""
        if isinstance(systems, Crystals):
            return systems
        batch = pack_crystals(systems, argument)
        return _rust.Crystals(
            batch.numbers,
            batch.positions,
            batch.cells,
            batch.offsets,
            ltol=self.ltol,
            stol=self.stol,
            angle_tol=self.angle_tol,
            primitive_cell=self.primitive_cell,
            scale=self.scale,
            attempt_supercell=self.attempt_supercell,
            convention=self.convention,
            threads=self.threads,
        )

    def comparable(self, systems: Systems | Crystals) -> NDArray[np.bool_]:
        """(B,) bool: False for a crystal that matches nothing because it cannot be reduced or is of extreme shape."""
        return self.reduce(systems).comparable()

    def fit(self, struct1: SystemLike, struct2: SystemLike, symmetric: bool = False) -> bool:
        """Whether two crystals match.

        Args:
            struct1: a crystal.
            struct2: another.
            symmetric: with the convention "pymatgen", require a match both ways round, as pymatgen does.

        Raises:
            InvalidInputError: one of them is not a crystal.
        """
        both = self._pair(struct1, struct2)
        pairs = [(0, 1), (1, 0)] if symmetric and self.convention == "pymatgen" else [(0, 1)]
        return bool(self.fit_pairs(both, both, pairs).all())

    def fit_anonymous(self, struct1: SystemLike, struct2: SystemLike) -> bool:
        """Whether two crystals match if the elements of one may be renamed, each to another one.

        Raises:
            InvalidInputError: one of them is not a crystal, or there are more than 40,320 ways to rename.
        """
        both = self._pair(struct1, struct2)
        return bool(self.fit_pairs(both, both, [(0, 1)], anonymous=True)[0])

    def get_rms_dist(self, struct1: SystemLike, struct2: SystemLike) -> tuple[float, float] | None:
        """The least root mean square distance of partners and the largest distance in that fit.

        In units of (V / n)^(1/3). None if there is no match; with the convention "pymatgen" the rms, not
        the largest distance, is held against `stol` here. With "symmetric", an rms below 1e-8 is rounding:
        both distances are 0.

        Raises:
            InvalidInputError: one of them is not a crystal.
        """
        both = self._pair(struct1, struct2)
        rms, largest = self.rms_pairs(both, both, [(0, 1)])[0].tolist()
        return None if np.isnan(rms) else (rms, largest)

    def group_structures(self, s_list: Iterable[T], anonymous: bool = False) -> list[list[T]]:
        """The crystals in groups of equals, each group and the list of groups in the order given.

        Raises:
            InvalidInputError: one of them is not a crystal (its index is named).
        """
        held = list(s_list)
        groups: dict[int, list[T]] = {}
        for label, thing in zip(self.group_labels(held, anonymous=anonymous).tolist(), held, strict=True):
            groups.setdefault(label, []).append(thing)
        return list(groups.values())

    def group_labels(self, systems: Systems | Crystals, *, anonymous: bool = False) -> NDArray[np.int64]:
        """(B,) int64: for each crystal the index of the first of its group.

        "symmetric": a group is what is connected by a chain of matches, whatever the order. "pymatgen": a
        crystal that is in no group begins one, with all later ones that match it and are in none.

        Raises:
            InvalidInputError: a system is not a crystal (its index is named).
        """
        return self.reduce(systems).groups(anonymous, self.threads)

    def novel(
        self, systems: SystemLike | Systems | Crystals, against: Systems | Crystals, *, anonymous: bool = False
    ) -> Any:
        """True where a crystal matches none of `against`: (B,) bool, or one bool for one crystal.

        Raises:
            InvalidInputError: a system is not a crystal (its index is named).
        """
        one = not isinstance(systems, Crystals | Packed) and is_one(systems)
        found = self.first_matches([systems] if one else systems, against, anonymous=anonymous)  # type: ignore[arg-type]
        return bool(found[0] < 0) if one else found < 0

    def first_matches(
        self, systems: Systems | Crystals, against: Systems | Crystals, *, anonymous: bool = False
    ) -> NDArray[np.int64]:
        """(B,) int64: the index of the first of `against` that each crystal matches; -1 if there is none.

        Raises:
            InvalidInputError: a system is not a crystal (its index is named).
        """
        return self.reduce(systems).first_matches(self._reduce(against, "against"), anonymous, self.threads)

    def fit_pairs(
        self,
        left: Systems | Crystals,
        right: Systems | Crystals,
        pairs: ArrayLike | Sequence[tuple[int, int]] | None = None,
        *,
        anonymous: bool = False,
    ) -> NDArray[np.bool_]:
        """(P,) bool: whether left[i] and right[j] match, for each (i, j) of `pairs`.

        Args:
            left: crystals.
            right: crystals; may be the same object.
            pairs: (P, 2) whole numbers; None: (0, 0), (1, 1), ..., for lists of the same length.
            anonymous: allow the elements to be renamed.

        Raises:
            InvalidInputError: a system is not a crystal, an index is out of range, or `pairs` is None and
                the lists differ in length.
        """
        left, right = self._both(left, right)
        return left.fit_pairs(right, _indices(left, right, pairs), anonymous, self.threads)

    def rms_pairs(
        self,
        left: Systems | Crystals,
        right: Systems | Crystals,
        pairs: ArrayLike | Sequence[tuple[int, int]] | None = None,
    ) -> NDArray[np.float64]:
        """(P, 2) float64: `get_rms_dist` of left[i] and right[j] for each (i, j) of `pairs`; NaN where it is None.

        Args:
            left: crystals.
            right: crystals; may be the same object.
            pairs: (P, 2) whole numbers; None: (0, 0), (1, 1), ..., for lists of the same length.

        Raises:
            InvalidInputError: as `fit_pairs`.
        """
        left, right = self._both(left, right)
        return left.rms_pairs(right, _indices(left, right, pairs), self.threads)

    def _both(self, left: Systems | Crystals, right: Systems | Crystals) -> tuple[Crystals, Crystals]:
        first = self._reduce(left, "left")
        return first, first if right is left else self._reduce(right, "right")

    def _pair(self, *structs: SystemLike) -> Crystals:
        """`struct1` and `struct2`, reduced; errors name the one that is wrong."""
        systems = []
        for number, struct in enumerate(structs, 1):
            try:
                systems.append(as_system(struct))
            except InvalidInputError as error:
                raise InvalidInputError(f"`struct{number}`: {error}") from error
            if not systems[-1].is_periodic:
                raise InvalidInputError(f"`struct{number}` must be a crystal; got the molecule {systems[-1].formula}")
        return self.reduce(systems)


def _indices(left: Crystals, right: Crystals, pairs: ArrayLike | None) -> NDArray[np.int64]:
    if pairs is None:
        if len(left) != len(right):
            raise InvalidInputError(
                f"`left` and `right` must be equally long where `pairs` is None; got {len(left)} and {len(right)}"
            )
        return np.repeat(np.arange(len(left), dtype=np.int64), 2).reshape(-1, 2)
    array = np.asarray(pairs)
    if array.size == 0:
        return np.zeros((0, 2), dtype=np.int64)
    if array.ndim != 2 or array.shape[1] != 2 or array.dtype.kind not in "iu":
        raise InvalidInputError(f"`pairs` must be whole numbers of shape (P, 2); got {array.dtype} {array.shape}")
    return np.ascontiguousarray(array, dtype=np.int64)
