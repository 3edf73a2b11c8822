"""Energy above the convex hull of a reference set: as pymatgen's PhaseDiagram, for thousands of compositions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from adit.errors import InvalidInputError
from adit.packing import element_counts, pack

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from adit.packing import Systems

WIDTH = 101
"""Columns of a composition, by atomic number; column 0 is empty."""
_FLAT = 1e-10
"""eV per atom; an entry must lie below the elements by this to shape a hull."""
_VERTICAL = 1e-9
"""Facets whose unit normal leans on the energy axis by less than this bound compositions, not energies."""
_QHULL_ELEMENTS = 6
"""With more elements than this, facets become too many and a linear programme is solved for each composition."""


def compositions(systems: Systems) -> NDArray[np.float64]:
    """(B, 101) float64: the share of each element by atomic number; rows sum to 1, or 0 for a system without atoms."""
    counts = element_counts(pack(systems))
    shares: NDArray[np.float64] = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    return shares


class Hull:
    """The lower convex hull of formation energies over compositions.

    The pure elements are in it with a formation energy of 0, whether the entries say so or not; of an element that no
    entry holds nothing is known. Hulls of chemical systems are made when they are asked for, and kept.

    Args:
        compositions: (M, 101) as `compositions` gives them.
        energies: (M,) formation energies, eV per atom; NaN entries are left out.
        name: what it is made of, for reports.

    Attributes:
        name: as given.
        entries: how many energies went in.

    Raises:
        InvalidInputError: shapes do not fit.
    """

    def __init__(self, compositions: NDArray[np.float64], energies: ArrayLike, name: str) -> None:
        values = np.asarray(energies, dtype=np.float64)
        if compositions.ndim != 2 or compositions.shape[1] != WIDTH or values.shape != compositions.shape[:1]:
            raise InvalidInputError(
                f"`compositions` must have shape (M, {WIDTH}) and `energies` (M,); got {compositions.shape} and "
                f"{values.shape}"
            )
        used = np.isfinite(values) & (compositions.sum(1) > 0)
        shares, values = compositions[used], values[used]
        self.name, self.entries = name, len(values)
        self._known = (shares > 0).any(0)
        self._elements = np.zeros(WIDTH)
        pure = np.flatnonzero(shares.max(1, initial=0) == 1)
        np.minimum.at(self._elements, shares[pure].argmax(1), values[pure])
        depth = values - shares @ self._elements
        order = np.flatnonzero(depth < -_FLAT)
        order = order[np.argsort(depth[order], kind="stable")]
        _, lowest = np.unique(np.round(shares[order], 9), axis=0, return_index=True)
        self._shares, self._depth = shares[order[lowest]], depth[order[lowest]]
        self._low, self._high = np.ascontiguousarray(_masks(self._shares > 0).T)
        self._facets: dict[bytes, NDArray[np.float64]] = {}

    def __repr__(self) -> str:
        return f"<Hull of {self.entries:,} entries, {int(self._known.sum())} elements: {self.name}>"

    @property
    def elements(self) -> NDArray[np.int64]:
        """(E,) atomic numbers of the elements that the entries hold."""
        return np.flatnonzero(self._known)

    def energies(self, compositions: NDArray[np.float64]) -> NDArray[np.float64]:
        """(B,) float64: formation energy of the hull at compositions (B, 101), eV per atom; NaN: no hull there."""
        present = compositions > 0
        result = np.full(len(compositions), np.nan)
        covered = ~(present & ~self._known).any(1) & present.any(1)
        _, group = np.unique(_masks(present), axis=0, return_inverse=True)
        order = np.argsort(group.ravel(), kind="stable")
        for rows in np.split(order, np.flatnonzero(np.diff(group.ravel()[order])) + 1) if len(order) else ():
            if covered[rows[0]]:
                result[rows] = self._lowest(np.flatnonzero(present[rows[0]]), compositions[rows])
        return result

    def above(self, compositions: NDArray[np.float64], energies: ArrayLike) -> NDArray[np.float64]:
        """(B,) float64, eV per atom: formation energies (B,) less the hull's. Negative: below it; NaN: no hull."""
        return np.asarray(energies, dtype=np.float64) - self.energies(compositions)

    def _lowest(self, elements: NDArray[np.int64], compositions: NDArray[np.float64]) -> Any:
        """(b,) of compositions (b, 101) that hold just these elements (d,)."""
        ends = compositions @ self._elements
        if len(elements) == 1:
            return ends
        mask = _masks(np.bincount(elements, minlength=WIDTH)[None] > 0)[0]
        inside = np.flatnonzero(((self._low & ~mask[0]) | (self._high & ~mask[1])) == 0)
        if not len(inside):
            return ends
        shares, depth = self._shares[np.ix_(inside, elements)], self._depth[inside]
        wanted = compositions[:, elements]
        if len(elements) > _QHULL_ELEMENTS:
            return ends + np.array([_mix(shares, depth, row) for row in wanted])
        name = mask.tobytes()
        if name not in self._facets:
            self._facets[name] = _lower_facets(shares, depth)
        facets = self._facets[name]
        return ends + (wanted @ facets[:, :-1].T + facets[:, -1]).max(1)


def _masks(present: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """(B, 2) uint64: the elements of (B, 101) bool as bits."""
    padded = np.zeros((len(present), 128), dtype=np.bool_)
    padded[:, :WIDTH] = present
    return np.packbits(padded, axis=1, bitorder="little").view(np.uint64)


def _lower_facets(shares: NDArray[np.float64], depth: NDArray[np.float64]) -> NDArray[np.float64]:
    """(f, d + 1): planes w.x + c, of which the highest at x is the hull of entries (m, d) and of the elements at 0.

    Barber et al., The quickhull algorithm, ACM Trans. Math. Softw. 22, 469 (1996), in d dimensions: d - 1 shares
    and the energy.
    """
    from scipy.spatial import ConvexHull

    width = shares.shape[1]
    points = np.concatenate([np.eye(width), shares])
    points = np.column_stack([points[:, 1:], np.concatenate([np.zeros(width), depth])])
    equations = ConvexHull(points).equations
    lower = equations[equations[:, -2] < -_VERTICAL]
    slopes = -lower / lower[:, -2:-1]
    return np.column_stack([np.zeros(len(lower)), slopes[:, :-2], slopes[:, -1]])


def _mix(shares: NDArray[np.float64], depth: NDArray[np.float64], wanted: NDArray[np.float64]) -> float:
    """The least energy of a mixture of entries (m, d) and elements that has the composition (d,)."""
    from scipy.optimize import linprog

    columns = np.concatenate([np.eye(len(wanted)), shares]).T
    return float(linprog(np.concatenate([np.zeros(len(wanted)), depth]), A_eq=columns, b_eq=wanted).fun)
