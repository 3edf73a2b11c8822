"""What models are fed with: batches gathered from a store, random symmetry operations, Fourier features, distances.

Every random result depends on the seed alone, not on the number of threads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np

from adit import _rust
from adit.errors import InvalidInputError
from adit.packing import Packed, as_system, is_one, pack
from adit.system import AtomicSystem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from adit.packing import SystemLike, Systems

    Whole = Sequence[int] | NDArray[np.integer[Any]]

__all__ = [
    "Padded",
    "augment",
    "bucket_by_size",
    "fourier_features",
    "fractional_coordinates",
    "gather",
    "gather_padded",
    "minimum_image_distances",
    "plan_batches",
    "random_operations",
]


class Padded(NamedTuple):
    """B systems in rows of one width.

    Attributes:
        numbers: (B, width) uint8, 0 where there is no atom.
        positions: (B, width, 3), Cartesian, Angstrom, 0 where there is no atom.
        mask: (B, width) bool, True where there is an atom.
    """

    numbers: NDArray[np.uint8]
    positions: NDArray[Any]
    mask: NDArray[np.bool_]


def gather(
    systems: Systems | Packed,
    indices: Sequence[int] | NDArray[np.integer[Any]],
    *,
    seed: int | None = None,
    rotate_crystals: bool = False,
    threads: int | None = None,
) -> Packed:
    """The systems `indices` of a packed data set, in that order, packed anew; with a seed, augmented.

    Args:
        systems: a packed data set, what `adit.packing.pack` makes of a list, or a list, which is packed for this call.
        indices: (B,), 0 to N - 1; one may come more than once.
        seed, rotate_crystals, threads: as for `augment`; no seed: as they are.

    Raises:
        InvalidInputError: an index is out of range (negative ones too); as `augment`.
    """
    chosen, store = _indices(indices), _store(systems)
    numbers, positions, offsets = _rust.gather(store.offsets, chosen, store.numbers, store.positions)
    cells, periodic = store.cells[chosen], store.periodic[chosen]
    if seed is not None:
        positions, cells = _rust.augment(positions, cells, periodic, offsets, seed, rotate_crystals, threads)
    double = positions.astype(np.float64, copy=False), cells.astype(np.float64, copy=False)
    return Packed(numbers, *double, offsets, periodic)


def gather_padded(
    systems: Systems | Packed, indices: Sequence[int] | NDArray[np.integer[Any]], width: int | None = None
) -> Padded:
    """The systems `indices`, one row of `width` places each; None: as wide as the largest. `systems` as for `gather`.

    `bucket_by_size` sorts systems into a few widths, so that little is padded.

    Raises:
        InvalidInputError: an index is out of range; a system is larger than `width`.
    """
    chosen, store = _indices(indices), _store(systems)
    if width is None:
        inside = chosen[(chosen >= 0) & (chosen < len(store.offsets) - 1)]
        width = int((store.offsets[inside + 1] - store.offsets[inside]).max(initial=0))
    return Padded(*_rust.gather_padded(store.offsets, chosen, store.numbers, store.positions, width))


def bucket_by_size(sizes: Whole, widths: Whole) -> list[NDArray[np.int64]]:
    """Indices of the systems that belong to each width: the smallest that is at least their size.

    Args:
        sizes: (N,), atoms of each system (`PackedDataset.sizes`, or `np.diff` of a pack's offsets).
        widths: (W,), in any order; of equal widths the first takes all.

    Returns:
        W arrays of int64, ascending, in the order of `widths`.

    Raises:
        InvalidInputError: these are no whole numbers, one is negative, or a size exceeds every width.
    """
    return _rust.bucket_by_size(_whole("sizes", sizes), _whole("widths", widths))


def plan_batches(sizes: Whole, order: Whole, token_budget: int, max_systems: int) -> NDArray[np.int64]:
    """Cuts `order` into consecutive batches: batch k is order[cuts[k]:cuts[k + 1]].

    Args:
        sizes: (N,), atoms of each system.
        order: (M,), system indices in the order of use, 0 to N - 1.
        token_budget: atoms in one batch, at most.
        max_systems: systems in one batch, at most.

    Returns:
        cuts (K + 1,) int64, from 0 to M; [0] for an empty order.

    Raises:
        InvalidInputError: these are no whole numbers, an index is out of range, a size or limit is not positive, or a
            single system exceeds the budget.
    """
    return _rust.plan_batches(_whole("sizes", sizes), _whole("order", order), token_budget, max_systems)


def random_operations(count: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What `augment` does to systems 0 to `count` for this seed.

    Returns:
        rotations (count, 3, 3), uniform on SO(3) (Shoemake, Graphics Gems III, 1992), for row vectors:
        x @ rotation; and shifts (count, 3) in cells, uniform in [0, 1)^3.

    Raises:
        InvalidInputError: the seed is not within 0 to 2^64 - 1, or the count is not within 0 to 2^28.
    """
    return _rust.operations(seed, count)


@overload
def augment(
    systems: SystemLike, seed: int, *, rotate_crystals: bool = False, threads: int | None = None
) -> AtomicSystem: ...
@overload
def augment(
    systems: Systems | Packed, seed: int, *, rotate_crystals: bool = False, threads: int | None = None
) -> Packed: ...
def augment(
    systems: SystemLike | Systems | Packed, seed: int, *, rotate_crystals: bool = False, threads: int | None = None
) -> AtomicSystem | Packed:
    """Rotates each molecule uniformly about its centroid and shifts each crystal uniformly on the torus.

    A shifted crystal is wrapped into its cell. Neither changes what the system is.

    Args:
        systems: one system, a list of them, or packed.
        seed: 0 to 2^64 - 1; take another for every batch. System k is treated alike in every batch of
            the same seed.
        rotate_crystals: rotate crystals too, cell and all.
        threads: worker threads for large batches, None for all cores. The result does not depend on it.

    Returns:
        An AtomicSystem for one system, else a pack, in double precision.

    Raises:
        InvalidInputError: the seed is out of range; the cell of a crystal is degenerate.
    """
    one = not isinstance(systems, Packed) and is_one(systems)
    system = as_system(systems) if one else None
    packed = pack(systems if system is None else [system])  # type: ignore[arg-type]
    positions, cells = _rust.augment(
        packed.positions, packed.cells, packed.periodic, packed.offsets, seed, rotate_crystals, threads
    )
    if system is None:
        return packed._replace(positions=positions, cells=cells)
    return AtomicSystem(system.numbers, positions, cells[0] if system.is_periodic else None, system.info)


def fractional_coordinates(
    systems: SystemLike | Systems | Packed, *, threads: int | None = None
) -> NDArray[np.float64]:
    """Fractional coordinates in [0, 1) of all atoms, (T, 3); zeros for molecules.

    Raises:
        InvalidInputError: the cell of a crystal is degenerate.
    """
    packed = _pack(systems)
    return _rust.fractional(packed.positions, packed.cells, packed.periodic, packed.offsets, threads)


def fourier_features(fractional: ArrayLike, frequencies: int) -> NDArray[Any]:
    """Periodic features of fractional coordinates: sin(2 pi k x) for k = 1 to `frequencies`, then the cosines.

    As in DiffCSP (Jiao et al., NeurIPS 2023, arXiv 2309.04475, eq. 7), which also has k = 0: 0 and 1.

    Args:
        fractional: (..., 3) or any shape, float32 or float64 (other numbers become float64).
        frequencies: how many.

    Returns:
        (..., 3, 2 frequencies), of the same dtype.

    Raises:
        InvalidInputError: these are no numbers, `frequencies` is negative, or more than 2^28 features.
    """
    try:
        values = np.asarray(fractional)
        values = np.ascontiguousarray(values, dtype=np.float32 if values.dtype == np.float32 else np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"`fractional` must be an array of numbers; got {fractional!r:.80}") from error
    features = _rust.fourier(values.reshape(-1), frequencies)
    return features.reshape(*values.shape, features.shape[1])


@overload
def minimum_image_distances(systems: SystemLike, *, threads: int | None = None) -> NDArray[np.float64]: ...
@overload
def minimum_image_distances(
    systems: Systems | Packed, *, threads: int | None = None
) -> tuple[NDArray[np.float64], NDArray[np.int64]]: ...
def minimum_image_distances(
    systems: SystemLike | Systems | Packed, *, threads: int | None = None
) -> NDArray[np.float64] | tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Distances between all atoms, to the nearest image in a crystal; exact in skewed cells, too.

    The diagonal is zero: an atom is no distance from itself, however near its own images are.

    Returns:
        One system: (n, n), Angstrom. Many: all matrices one after the other, flat, and
        matrix_offsets (N + 1,) int64: that of system k is flat[matrix_offsets[k] : matrix_offsets[k + 1]],
        to be reshaped to (n, n).

    Raises:
        InvalidInputError: the cell of a crystal is degenerate; more than 2^28 distances.
    """
    packed = _pack(systems)
    flat = _rust.image_distances(packed.positions, packed.cells, packed.periodic, packed.offsets, threads)
    sizes = np.diff(packed.offsets)
    if not isinstance(systems, Packed) and is_one(systems):
        return flat.reshape(sizes[0], sizes[0])
    return flat, np.concatenate([[0], np.cumsum(sizes**2)]).astype(np.int64)


def _pack(systems: Any) -> Packed:
    if not isinstance(systems, Packed) and is_one(systems):
        return pack([systems])
    return pack(systems)


def _store(systems: Any) -> Any:
    return systems if hasattr(systems, "offsets") else _pack(systems)


def _indices(indices: Any) -> NDArray[np.int64]:
    return _whole("indices", indices, "(B,), 0 to N - 1")


def _whole(name: str, values: Any, shape: str = "in one dimension") -> NDArray[np.int64]:
    array = np.asarray(values)
    if array.ndim != 1 or (array.dtype.kind not in "iu" and array.size):
        raise InvalidInputError(f"`{name}` must be whole numbers {shape}; got {values!r:.80}")
    return np.ascontiguousarray(array, dtype=np.int64)
