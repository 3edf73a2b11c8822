"""The compiled core: numpy in, numpy out, the GIL released while it computes.

Every array argument must be a C-contiguous numpy array of exactly the dtype and shape stated;
nothing is converted or copied behind your back. What does not fit raises
`adit.errors.InvalidInputError`, whose message names the argument. Lengths are in Angstrom, a cell
is three row vectors. T is the number of atoms in all, N of systems; system k owns the atoms
`offsets[k]` to `offsets[k + 1]`. Results do not depend on `threads` (None: all cores).
"""

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

_Real = TypeVar("_Real", np.float32, np.float64)
_Half = TypeVar("_Half", np.float32, np.int16)

def version() -> str:
    """The version of the extension module."""

def neighbor_list(
    quantities: str,
    positions: NDArray[np.float64],
    cell: NDArray[np.float64] | None,
    pbc: tuple[bool, bool, bool],
    cutoff: float,
    half: bool = False,
    algorithm: str = "auto",
) -> tuple[NDArray[Any], ...]:
    """All pairs of atoms and periodic images that are closer than `cutoff` (strictly).

    Args:
        quantities: letters, see Returns; what is not asked for is not computed.
        positions: (n, 3) float64, Cartesian, inside the cell or not.
        cell: (3, 3) float64; None where nothing is periodic. Skewed, left-handed or smaller than
            the cutoff, all is well; vectors of directions that are not periodic do not count.
        pbc: which directions are periodic.
        cutoff: 1e-100 to 1e100.
        half: False: every pair in both directions. True: once, with i < j, or with i = j and the
            first nonzero shift positive.
        algorithm: "brute" (best for small systems), "cells" (best for large) or "auto"; the result
            is the same, bit for bit.

    Returns:
        One array for each letter, in this order: i, j (m,) int64; S (m, 3) int32, shifts; d (m,)
        float64, distances; D (m, 3) float64, positions[j] + shift @ cell - positions[i]. Sorted by
        (i, j, shift). The vectors of (i, j, S) and (j, i, -S) are exact opposites.

    Raises:
        InvalidInputError: an argument is not as above; a position is not finite or beyond 1e9
            Angstrom; the cell is flat in its periodic directions or an edge of its reduced form is
            beyond 1e9; the list would hold more than 2^26 pairs (4 GB) or reach more than 2^26 image
            cells.
    """

def neighbor_list_batch(
    quantities: str,
    positions: NDArray[np.float64],
    cells: NDArray[np.float64],
    pbc: NDArray[np.bool_],
    offsets: NDArray[np.int64],
    cutoff: float,
    half: bool = False,
    algorithm: str = "auto",
    threads: int | None = None,
) -> tuple[NDArray[Any], ...]:
    """As `neighbor_list`, for every system of a pack; atoms are counted through the pack.

    Args:
        positions: (T, 3) float64.
        cells: (N, 3, 3) float64.
        pbc: (N, 3) bool.
        offsets: (N + 1,) int64, from 0 to T.

    Returns:
        One array for each letter, and behind them pair_offsets (N + 1,) int64.

    Raises:
        InvalidInputError: as there, naming the system; the arrays do not fit together; more than
            2^28 pairs in all.
    """

def most_likely_types(
    logits: NDArray[np.float32],
    counts: NDArray[np.int64],
    offsets: NDArray[np.int64],
    threads: int | None = None,
) -> NDArray[np.uint8]:
    """Atomic numbers with the largest sum of logits among all that have the composition of their system.

    Args:
        logits: (T, 100) float32, of the elements from hydrogen on; one that is not finite counts as the least.
        counts: (N, 100) int64, how many atoms of each element a system has.
        offsets: (N + 1,) int64.
        threads: None for all cores.

    Returns:
        (T,) uint8.

    Raises:
        InvalidInputError: wrong types, shapes or offsets; a row of `counts` does not add up to its system's atoms.
    """

def min_distances(
    positions: NDArray[np.float32] | NDArray[np.float64],
    cells: NDArray[np.float32] | NDArray[np.float64],
    periodic: NDArray[np.bool_],
    offsets: NDArray[np.int64],
    threads: int | None = None,
) -> NDArray[np.float64]:
    """The smallest distance between two atoms of each system, or of an atom and its own image.

    Args:
        positions: (T, 3) float32 or float64, Cartesian.
        cells: (N, 3, 3) float32 or float64; not looked at where `periodic` is False.
        periodic: (N,) bool; periodic in all three directions or in none.
        offsets: (N + 1,) int64, from 0 to T.

    Returns:
        (N,) float64. Infinity where there is no distance (a molecule of 0 or 1 atoms); NaN for a
        system with a coordinate that is NaN, infinite or beyond 1e100, or with a degenerate cell.

    Raises:
        InvalidInputError: a shape or dtype is wrong, the offsets decrease or do not end at T.
    """

def gather(
    offsets: NDArray[np.int64],
    indices: NDArray[np.int64],
    numbers: NDArray[np.uint8],
    positions: NDArray[_Real],
) -> tuple[NDArray[np.uint8], NDArray[_Real], NDArray[np.int64]]:
    """The systems `indices`, in that order, packed anew. An index may come more than once.

    Args:
        offsets: (N + 1,) int64.
        indices: (B,) int64, 0 to N - 1.
        numbers: (T,) uint8.
        positions: (T, 3) float32 or float64.

    Returns:
        numbers (t,) uint8, positions (t, 3) as they came, offsets (B + 1,) int64.

    Raises:
        InvalidInputError: a shape or dtype is wrong, an index is out of range (negative ones too),
            the offsets of a chosen system decrease or leave the atoms, t is beyond 2^28.
    """

def gather_padded(
    offsets: NDArray[np.int64],
    indices: NDArray[np.int64],
    numbers: NDArray[np.uint8],
    positions: NDArray[_Real],
    width: int,
) -> tuple[NDArray[np.uint8], NDArray[_Real], NDArray[np.bool_]]:
    """The systems `indices`, one row of `width` places each, the rest filled with zeros.

    Args:
        offsets: (N + 1,) int64.
        indices: (B,) int64, 0 to N - 1.
        numbers: (T,) uint8.
        positions: (T, 3) float32 or float64.
        width: at least the size of the largest chosen system.

    Returns:
        numbers (B, width) uint8, positions (B, width, 3) as they came, mask (B, width) bool, True
        where there is an atom.

    Raises:
        InvalidInputError: as `gather`; a system is larger than `width`.
    """

def plan_batches(
    sizes: NDArray[np.int64], order: NDArray[np.int64], token_budget: int, max_systems: int
) -> NDArray[np.int64]:
    """Cuts `order` into consecutive batches: batch k is order[cuts[k]:cuts[k + 1]].

    Args:
        sizes: (N,) int64, atoms of each system.
        order: (M,) int64, system indices in the order of use, 0 to N - 1.
        token_budget: atoms in one batch, at most.
        max_systems: systems in one batch, at most.

    Returns:
        cuts (K + 1,) int64, from 0 to M; [0] for an empty order.

    Raises:
        InvalidInputError: a shape or dtype is wrong, a limit is not positive, an index is out of
            range, one system alone is larger than the budget (it is named).
    """

def bucket_by_size(sizes: NDArray[np.int64], widths: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Indices of the systems that belong to each width: the smallest that is at least their size.

    Args:
        sizes: (M,) int64.
        widths: (W,) int64, in any order; of equal widths the first takes all.

    Returns:
        W arrays of int64, ascending, in the order of `widths`.

    Raises:
        InvalidInputError: a shape or dtype is wrong, a size or width is negative, a size exceeds
            every width.
    """

def niggli_reduce(cells: NDArray[np.float64], threads: int | None = None) -> NDArray[np.float64]:
    """Niggli-reduced cells of the same lattices in the same Cartesian frame.

    new = M @ old with whole numbers M of determinant +1: atoms stay where they are, a left-handed
    cell stays left-handed. Squared lengths are compared to within 1e-5 of the cell; where a cell's
    own differences are of that size, so that no answer is stable, to within another power of ten
    from 1e-9 to 1e-3. Krivy and Gruber, Acta Cryst. A32, 297 (1976), as implemented in the `moyo`
    crate.

    Args:
        cells: (N, 3, 3) float64.

    Returns:
        (N, 3, 3) float64.

    Raises:
        InvalidInputError: a shape or dtype is wrong; a cell is not finite, has no volume, or cannot
            be reduced: edges in a ratio beyond 1e4 when reduced (its index is named).
    """

def spacegroups(
    numbers: NDArray[np.uint8],
    positions: NDArray[np.float32] | NDArray[np.float64],
    cells: NDArray[np.float32] | NDArray[np.float64],
    offsets: NDArray[np.int64],
    symprec: float = 0.01,
    threads: int | None = None,
) -> NDArray[np.int64]:
    """The space group of each crystal, found by the `moyo` crate.

    Shinohara, Togo and Tanaka, Acta Cryst. A79, 390 (2023). `symprec` is lowered to a tenth of the
    shortest translation that the structure can have, further in long cells, and where the operations
    found with it form no group.

    Args:
        numbers: (T,) uint8, atomic numbers, or any labels of kinds of atoms.
        positions: (T, 3) float32 or float64, Cartesian, inside the cell or not.
        cells: (N, 3, 3) float32 or float64, reduced or not.
        offsets: (N + 1,) int64, from 0 to T.
        symprec: by how far an operation may miss an atom, Angstrom; positive, finite.

    Returns:
        (N,) int64, the international number, 1 to 230. 0 where none is found: a system without
        atoms, with two atoms within `symprec` of each other, with a coordinate that is not finite
        or beyond 1e100, with a cell that is degenerate, has an edge beyond 1e6 Angstrom or edges in
        a ratio beyond 1e4 when reduced; or one that moyo cannot identify.

    Raises:
        InvalidInputError: a shape or dtype is wrong, the offsets decrease or do not end at T,
            `symprec` is not positive and finite.
    """

def analyse(
    numbers: NDArray[np.uint8],
    positions: NDArray[np.float64],
    cells: NDArray[np.float64],
    offsets: NDArray[np.int64],
    symprec: float = 0.01,
    threads: int | None = None,
) -> list[dict[str, Any] | None]:
    """All that is found about the symmetry of each crystal, in terms of the cell that was given.

    Args:
        numbers: (T,) uint8, atomic numbers.
        positions: (T, 3) float64, Cartesian.
        cells: (N, 3, 3) float64.
        offsets: (N + 1,) int64, from 0 to T.
        symprec: as of `spacegroups`.

    Returns:
        N dictionaries with the fields of `adit.symmetry.SymmetryDataset`, a crystal as (numbers,
        positions, cell); None where `spacegroups` says 0, or where an operation has entries beyond
        32 bits.

    Raises:
        InvalidInputError: as `spacegroups`.
    """

def standardize(
    numbers: NDArray[np.uint8],
    positions: NDArray[np.float64],
    cells: NDArray[np.float64],
    offsets: NDArray[np.int64],
    symprec: float = 0.01,
    primitive: bool = False,
    threads: int | None = None,
) -> tuple[NDArray[np.uint8], NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Each crystal in the conventional cell of its space group, made exactly symmetric.

    Args:
        numbers: (T,) uint8, atomic numbers.
        positions: (T, 3) float64, Cartesian.
        cells: (N, 3, 3) float64.
        offsets: (N + 1,) int64, from 0 to T.
        symprec: as of `spacegroups`.
        primitive: the primitive cell of the conventional one instead.

    Returns:
        numbers (t,) uint8, positions (t, 3) float64, cells (N, 3, 3) float64, offsets (N + 1,) int64;
        no atoms where `spacegroups` says 0.

    Raises:
        InvalidInputError: as `spacegroups`.
    """

def symmetrize(
    numbers: NDArray[np.uint8],
    positions: NDArray[np.float64],
    cells: NDArray[np.float64],
    offsets: NDArray[np.int64],
    max_displacement: float = 0.1,
    max_strain: float = 0.05,
    threads: int | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Each crystal moved into the highest symmetry within the limits; see `adit.symmetry.symmetrize`.

    Args:
        numbers: (T,) uint8, atomic numbers.
        positions: (T, 3) float64, Cartesian.
        cells: (N, 3, 3) float64.
        offsets: (N + 1,) int64, from 0 to T.
        max_displacement: of any atom, Angstrom.
        max_strain: the largest change of any length in the cell, as a part of it; below 1.

    Returns:
        positions (T, 3) float64, cells (N, 3, 3) float64, space groups (N,) int64, largest
        displacements (N,) float64 in Angstrom, strains (N,) float64. Space group 0 and the crystal
        unchanged where none is found.

    Raises:
        InvalidInputError: a shape or dtype is wrong, the offsets decrease or do not end at T, a limit
            is out of range.
    """

def compositional(
    numbers: NDArray[np.uint8],
    offsets: NDArray[np.int64],
    oxidation_states: str = "smact14",
    threads: int | None = None,
) -> NDArray[np.bool_]:
    """SMACT's test of the composition of each system; see `adit.validity.compositional`.

    Args:
        numbers: (T,) uint8, atomic numbers.
        offsets: (N + 1,) int64, from 0 to T.
        oxidation_states: "smact14", "icsd16" or "icsd24".

    Returns:
        (N,) bool.

    Raises:
        InvalidInputError: a shape or dtype is wrong, the offsets decrease or do not end at T, the table
            is unknown, a reduced composition has more than 2^24 atoms.
    """

def compositional_of_formulas(
    formulas: list[str], oxidation_states: str = "smact14", threads: int | None = None
) -> NDArray[np.bool_]:
    """As `compositional`, of formulas of whole numbers and brackets, such as "Ca3(PO4)2".

    Args:
        formulas: N of them.
        oxidation_states: "smact14", "icsd16" or "icsd24".

    Returns:
        (N,) bool.

    Raises:
        InvalidInputError: a formula is none (its index is named), the table is unknown, a reduced
            composition has more than 2^24 atoms.
    """

def parse_formula(formula: str) -> list[tuple[int, int]]:
    """Atomic numbers, each once and increasing, and how many atoms there are of each: of "Ca3(PO4)2" and the like.

    Raises:
        InvalidInputError: it is no formula, or has parts of atoms.
    """

def oxidation_state_tables(oxidation_states: str = "smact14") -> list[tuple[float, list[int]]]:
    """What `compositional` goes by: for atomic numbers 0 to 100 the electronegativity (NaN: none) and the states.

    Args:
        oxidation_states: "smact14", "icsd16" or "icsd24".

    Raises:
        InvalidInputError: the table is unknown.
    """

class Crystals:
    """Crystals, reduced once for all comparisons by `adit.matching`; immutable.

    Two of them can be compared if they were made with the same options. A crystal that cannot be
    reduced, or is of extreme shape, matches nothing.
    """

    def __new__(
        cls,
        numbers: NDArray[np.uint8],
        positions: NDArray[np.float32] | NDArray[np.float64],
        cells: NDArray[np.float32] | NDArray[np.float64],
        offsets: NDArray[np.int64],
        *,
        ltol: float,
        stol: float,
        angle_tol: float,
        primitive_cell: bool,
        scale: bool,
        attempt_supercell: bool,
        convention: str,
        prefilter: bool | None = None,
        threads: int | None = None,
    ) -> Crystals:
        """Reduces N crystals.

        Args:
            numbers: (T,) uint8, atomic numbers, or any labels of kinds of atoms.
            positions: (T, 3) float32 or float64, Cartesian, inside the cell or not.
            cells: (N, 3, 3) float32 or float64.
            offsets: (N + 1,) int64, from 0 to T.
            ltol, stol, angle_tol, primitive_cell, scale, attempt_supercell, convention: see
                `adit.matching.StructureMatcher`.
            prefilter: False: search even where nothing can match; the results are the same, only later.

        Raises:
            InvalidInputError: a shape or dtype is wrong, the offsets decrease or do not end at T, a
                tolerance is not positive or is beyond its limit, the convention is unknown.
        """

    def __len__(self) -> int: ...
    def comparable(self) -> NDArray[np.bool_]:
        """(N,) bool: False for what matches nothing."""

    def cells(self) -> tuple[NDArray[np.uint8], NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
        """The reduced (primitive) cells as numbers (t,), positions (t, 3), cells (N, 3, 3) and offsets (N + 1,).

        Without atoms, and with a cell of zeros, where a crystal is not comparable.
        """

    def fit_pairs(
        self, other: Crystals, pairs: NDArray[np.int64], anonymous: bool, threads: int | None = None
    ) -> NDArray[np.bool_]:
        """(P,) bool: whether self[i] and other[j] match, for each row (i, j) of `pairs`, (P, 2).

        Raises:
            InvalidInputError: an index is out of range, the options of the two differ, or a crystal has
                more than 40,320 ways of renaming its elements (anonymous only).
        """

    def rms_pairs(self, other: Crystals, pairs: NDArray[np.int64], threads: int | None = None) -> NDArray[np.float64]:
        """(P, 2) float64: rms and largest distance in units of (V / n)^(1/3); NaN where there is no match.

        Raises:
            InvalidInputError: as `fit_pairs`.
        """

    def groups(self, anonymous: bool, threads: int | None = None) -> NDArray[np.int64]:
        """(N,) int64: for each crystal the index of the first of its group.

        Raises:
            InvalidInputError: as `fit_pairs`.
        """

    def first_matches(self, against: Crystals, anonymous: bool, threads: int | None = None) -> NDArray[np.int64]:
        """(N,) int64: the index of the first of `against` that each crystal matches, -1 if there is none.

        Raises:
            InvalidInputError: as `fit_pairs`.
        """

def infer_bonds(
    numbers: NDArray[np.uint8],
    positions: NDArray[np.float64],
    offsets: NDArray[np.int64],
    charges: NDArray[np.int32] | None = None,
    threads: int | None = None,
) -> tuple[
    NDArray[np.int64],
    NDArray[np.uint8],
    NDArray[np.int64],
    NDArray[np.int8],
    NDArray[np.uint8],
    NDArray[np.int64],
    NDArray[np.uint32],
]:
    """Bonds, bond orders and formal charges of molecules; see `adit.bonds.infer_bonds`.

    Args:
        numbers: (T,) uint8, 1 to 118.
        positions: (T, 3) float64, Cartesian, Angstrom.
        offsets: (N + 1,) int64, from 0 to T.
        charges: (N,) int32, total charges; None: what the atoms suggest.

    Returns:
        bonds (M, 2) int64 counted from 0 in each molecule, orders (M,) uint8, bond offsets (N + 1,)
        int64, charges (T,) int8, radicals (T,) uint8, fragments (T,) int64, flags (N,) uint32.

    Raises:
        InvalidInputError: a shape or dtype is wrong, a number is not an element, a position is not
            finite, the offsets decrease or do not end at T, or more than 2^26 pairs of atoms of one
            molecule are within reach of each other.
    """

def check_geometry(
    numbers: NDArray[np.uint8],
    positions: NDArray[np.float64],
    offsets: NDArray[np.int64],
    charges: NDArray[np.int32] | None = None,
    threads: int | None = None,
) -> NDArray[np.uint32]:
    """Failed checks of each molecule, bit k for `adit.bonds.CHECKS[k]`. Arguments as `infer_bonds`."""

def sdf_records(
    numbers: NDArray[np.uint8],
    positions: NDArray[np.float64],
    offsets: NDArray[np.int64],
    titles: list[str],
    items: list[str],
    charges: NDArray[np.int32] | None = None,
    threads: int | None = None,
) -> tuple[list[str], NDArray[np.uint32]]:
    """SDF records with inferred bonds, and the flags of the molecules. Arguments as `infer_bonds`.

    Args:
        titles: N first lines.
        items: N texts of data items, each item with its empty line.
    """

def stable_atoms(
    numbers: NDArray[np.uint8],
    positions: NDArray[np.float32] | NDArray[np.float64],
    offsets: NDArray[np.int64],
    threads: int | None = None,
) -> NDArray[np.int64]:
    """The number of stable atoms of each molecule by the tables of EDM; see `adit.bonds.edm_stability`.

    Raises:
        InvalidInputError: a shape or dtype is wrong, the offsets decrease or do not end at T.
    """

def stability_tables() -> tuple[list[tuple[int, int, list[int]]], list[int], list[tuple[int, list[int]]]]:
    """Atomic numbers and lengths in pm of orders 1 to 3 (0: none); margins in pm; valences."""

def operations(seed: int, count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Random rotations, uniform on SO(3), and shifts, uniform in [0, 1)^3; each system has its own stream.

    The first three numbers of a stream make a quaternion (Shoemake, Graphics Gems III, 1992), the next
    three the shift. SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), begun at mix(mix(seed + g) ^ index).

    Args:
        seed: 0 to 2^64 - 1.
        count: of systems.

    Returns:
        rotations (count, 3, 3) float64, shifts (count, 3) float64.

    Raises:
        InvalidInputError: an argument is no such number; `count` is beyond 2^28.
    """

def augment(
    positions: NDArray[_Real],
    cells: NDArray[_Real],
    periodic: NDArray[np.bool_],
    offsets: NDArray[np.int64],
    seed: int,
    rotate_crystals: bool = False,
    threads: int | None = None,
) -> tuple[NDArray[_Real], NDArray[_Real]]:
    """Turns each molecule about its centroid and shifts each crystal on the torus, by `operations` of the seed.

    Molecule k becomes centroid + (x - centroid) @ rotations[k], crystal k wrap(fractional + shifts[k]) @ cell;
    where crystals are rotated, cell and positions are then multiplied by rotations[k] from the right.

    Args:
        positions: (T, 3) float32 or float64, Cartesian.
        cells: (N, 3, 3) of the same dtype.
        periodic: (N,) bool.
        offsets: (N + 1,) int64, from 0 to T.
        seed: 0 to 2^64 - 1.

    Returns:
        positions (T, 3) and cells (N, 3, 3), of the same dtype.

    Raises:
        InvalidInputError: a shape or dtype is wrong, the offsets decrease or do not end at T, the
            cell of a crystal is degenerate.
    """

def fractional(
    positions: NDArray[_Real],
    cells: NDArray[_Real],
    periodic: NDArray[np.bool_],
    offsets: NDArray[np.int64],
    threads: int | None = None,
) -> NDArray[_Real]:
    """Fractional coordinates in [0, 1), (T, 3); zero for molecules. Arguments and errors as `augment`."""

def image_distances(
    positions: NDArray[_Real],
    cells: NDArray[_Real],
    periodic: NDArray[np.bool_],
    offsets: NDArray[np.int64],
    threads: int | None = None,
) -> NDArray[np.float64]:
    """For each system the (n, n) matrix of distances to the nearest image, row after row, one after the other.

    Arguments and errors as `augment`; more than 2^28 distances are refused, too. The diagonal is zero.
    NaN for a coordinate that is not finite or, in a crystal, further out than 1e12 cells.
    """

def fourier(values: NDArray[_Real], frequencies: int) -> NDArray[_Real]:
    """sin(2 pi k x) for k = 1 to `frequencies`, then cos(2 pi k x): (n,) to (n, 2 frequencies).

    Raises:
        InvalidInputError: a shape or dtype is wrong, `frequencies` is negative, more than 2^28 features.
    """

def gate_adaln(
    x: NDArray[np.float32],
    offsets: NDArray[np.int32],
    rows: NDArray[np.int32],
    *,
    y: NDArray[_Half] | None = None,
    bias: NDArray[_Half] | None = None,
    gate: NDArray[np.float32] | None = None,
    scale: NDArray[np.float32] | None = None,
    shift: NDArray[np.float32] | None = None,
    out: NDArray[_Half] | None = None,
    threads: int | None = None,
) -> None:
    """Writes x + gate (y + bias) to x, then layer_norm(x) (1 + scale) + shift to `out`; `y` or `out` may be left out.

    Args:
        x: (T, D), the residual stream.
        offsets: (N + 1,), from 0 to T.
        rows: (N,), which row of gate, scale and shift, (R, D) each, a system takes.
        y: (T, D) float32, or the bits of bfloat16 as int16; as are `bias` (D,) and `out` (T, D).

    Raises:
        InvalidInputError: a shape or dtype is wrong, a row is not there, the offsets decrease, an array that is written
            to is read elsewhere.
    """

def attention(
    qkv: NDArray[_Half],
    bias: NDArray[_Half] | None,
    out: NDArray[_Half],
    offsets: NDArray[np.int32],
    heads: int,
    qk_norm: bool,
    threads: int | None = None,
) -> None:
    """Writes softmax(q k^T / sqrt(K)) v within each system to `out`, (T, heads K), for K of 16, 32, 64 and 128.

    Args:
        qkv: (T, 3 heads K): queries of all heads, keys of all heads, values of all heads. float32 or the bits of
            bfloat16 as int16; as are `bias` (3 heads K), which is added to it, and `out`.
        offsets: (N + 1,), from 0 to T.
        qk_norm: queries and keys are first brought to the length sqrt(K).

    Raises:
        InvalidInputError: as for `gate_adaln`.
    """

def gelu(values: NDArray[_Half], bias: NDArray[_Half], threads: int | None = None) -> None:
    """Writes gelu(values + bias) to `values`, (n, m): x times the probability that a normal number is below x.

    Args:
        values: float32 or the bits of bfloat16 as int16; as is `bias`, (m,).

    Raises:
        InvalidInputError: as for `gate_adaln`.
    """
