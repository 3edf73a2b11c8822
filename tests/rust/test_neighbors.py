"""Neighbour lists against vesin, matscipy, pymatgen and a brute force of our own."""

import matscipy.neighbours
import numpy as np
import pytest
import vesin
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure
from pymatgen.optimization.neighbors import find_points_in_spheres

from adit import _rust
from adit.errors import InvalidInputError
from adit.neighbors import neighbor_list

ALGORITHMS = ("brute", "cells")
EVERYTHING = "ijSdD"
PBC = [(a, b, c) for a in (True, False) for b in (True, False) for c in (True, False)]


def random_cell(rng, length=5.0):
    """Any orientation, handedness and skew, but a volume."""
    while True:
        cell = rng.normal(size=(3, 3)) * length * rng.uniform(0.3, 2.0, size=(3, 1))
        if abs(np.linalg.det(cell)) > 0.2 * np.prod(np.linalg.norm(cell, axis=1)):
            return cell


def pairs(i, j, shifts):
    table = np.column_stack([i, j, shifts]).astype(np.int64)
    return table[np.lexsort(table.T[::-1])]


def ours(positions, cell, pbc, cutoff, algorithm="auto", half=False):
    """Runs and checks what every list promises; returns the table of (i, j, S)."""
    i, j, shifts, distances, vectors = _rust.neighbor_list(EVERYTHING, positions, cell, pbc, cutoff, half, algorithm)
    table = np.column_stack([i, j, shifts]).astype(np.int64)
    assert np.array_equal(table, pairs(i, j, shifts)), "sorted by (i, j, shift)"
    assert len(np.unique(table, axis=0)) == len(table)
    box = np.zeros((3, 3)) if cell is None else cell
    scale = 1e-12 * (1.0 + np.abs(positions).max(initial=0.0) + np.abs(shifts @ box).max(initial=0.0))
    np.testing.assert_allclose(vectors, positions[j] + shifts @ box - positions[i], rtol=0, atol=scale)
    np.testing.assert_allclose(distances, np.linalg.norm(vectors, axis=1), rtol=1e-14)
    assert (distances < cutoff).all()
    assert (shifts[:, ~np.array(pbc)] == 0).all()
    return table


def by_hand(positions, cell, pbc, cutoff):
    """Every image within a box that is large enough; for small systems only."""
    box = np.zeros((3, 3)) if cell is None else np.where(np.array(pbc)[:, None], cell, 0.0)
    dual = np.linalg.pinv(box)
    spread = np.abs((positions[:, None] - positions[None]).reshape(-1, 3) @ dual).max(axis=0, initial=0.0)
    reach = np.where(pbc, np.ceil(np.linalg.norm(dual, axis=0) * cutoff + spread + 1e-9), 0).astype(int)
    grid = np.stack(np.meshgrid(*(np.arange(-r, r + 1) for r in reach), indexing="ij"), -1).reshape(-1, 3)
    rows = []
    for shift in grid:
        d = np.linalg.norm(positions[None] - positions[:, None] + shift @ box, axis=2)
        if not shift.any():
            np.fill_diagonal(d, np.inf)
        i, j = np.nonzero(d < cutoff)
        rows.append(np.column_stack([i, j, np.broadcast_to(shift, (len(i), 3))]))
    table = np.concatenate(rows)
    return pairs(table[:, 0], table[:, 1], table[:, 2:])


@pytest.mark.parametrize("pbc", PBC)
@pytest.mark.parametrize("seed", range(5))
def test_equals_a_brute_force_by_hand(pbc, seed):
    rng = np.random.default_rng(seed)
    cell = random_cell(rng)
    positions = rng.normal(size=(rng.integers(1, 12), 3)) * 8.0
    reference = by_hand(positions, cell, pbc, 4.0)
    for algorithm in ALGORITHMS:
        assert np.array_equal(ours(positions, cell, pbc, 4.0, algorithm), reference)


def test_the_two_algorithms_agree_bit_for_bit():
    rng = np.random.default_rng(7)
    for _ in range(150):
        cell, pbc = random_cell(rng, 3.0), PBC[rng.integers(8)]
        positions = rng.uniform(-15, 15, size=(rng.integers(0, 60), 3))
        arguments = (positions, cell, pbc, float(rng.uniform(1.0, 7.0)), bool(rng.integers(2)))
        brute, cells = (_rust.neighbor_list(EVERYTHING, *arguments, algorithm) for algorithm in ALGORITHMS)
        for one, other in zip(brute, cells, strict=True):
            assert np.array_equal(one, other)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_equals_vesin_and_matscipy(algorithm):
    rng = np.random.default_rng(1)
    for _ in range(100):
        cell, cutoff = random_cell(rng), rng.uniform(2.0, 6.0)
        positions = rng.random((rng.integers(1, 30), 3)) @ cell
        table = ours(positions, cell, (True, True, True), cutoff, algorithm)
        calculator = vesin.NeighborList(cutoff=cutoff, full_list=True)
        i, j, shifts = calculator.compute(points=positions, box=cell, periodic=True, quantities="ijS")
        assert np.array_equal(table, pairs(i, j, shifts))
        i, j, shifts = matscipy.neighbours.neighbour_list(
            "ijS", cutoff=cutoff, positions=positions, cell=cell, pbc=np.ones(3, bool)
        )
        assert np.array_equal(table, pairs(i, j, shifts))


@pytest.mark.parametrize("pbc", PBC)
def test_equals_matscipy_in_mixed_periodic_directions(pbc):
    rng = np.random.default_rng(2)
    for _ in range(15):
        cell = random_cell(rng, 8.0)
        positions = rng.random((rng.integers(1, 60), 3)) @ cell
        i, j, shifts = matscipy.neighbours.neighbour_list(
            "ijS", cutoff=4.0, positions=positions, cell=cell, pbc=np.array(pbc)
        )
        for algorithm in ALGORITHMS:
            assert np.array_equal(ours(positions, cell, pbc, 4.0, algorithm), pairs(i, j, shifts))


STRUCTURES = {
    "rocksalt": Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.69), ["Na", "Cl"], [[0, 0, 0], [0.5, 0, 0]]),
    "primitive diamond": Structure(Lattice.rhombohedral(2.528, 60), ["C", "C"], [[0, 0, 0], [0.25, 0.25, 0.25]]),
    "wurtzite": Structure.from_spacegroup(
        "P6_3mc", Lattice.hexagonal(3.25, 5.2), ["Zn", "O"], [[1 / 3, 2 / 3, 0], [1 / 3, 2 / 3, 0.3819]]
    ),
    "perovskite": Structure.from_spacegroup(
        "Pm-3m", Lattice.cubic(3.905), ["Sr", "Ti", "O"], [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0]]
    ),
    "triclinic": Structure(
        Lattice.from_parameters(4.1, 7.3, 11.9, 63, 71, 109),
        ["Ca", "C", "O"],
        [[0, 0.1, 0], [0.4, 0.3, 0.7], [0.9] * 3],
    ),
}


@pytest.mark.parametrize("name", STRUCTURES)
@pytest.mark.parametrize("repeat", [1, 3])
def test_equals_pymatgen_on_real_structures(name, repeat):
    structure = STRUCTURES[name] * (repeat, repeat, repeat)
    positions, cell, cutoff = structure.cart_coords, structure.lattice.matrix.copy(), 5.03
    i, j, shifts, distances = find_points_in_spheres(positions, positions, cutoff, np.ones(3, np.int64), cell, 1e-8)
    others = (distances > 1e-8) | (i != j)
    reference = pairs(i[others], j[others], shifts[others])
    for algorithm in ("auto", *ALGORITHMS):
        assert np.array_equal(ours(positions, cell, (True, True, True), cutoff, algorithm), reference)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_half_list_is_each_pair_once(algorithm):
    rng = np.random.default_rng(3)
    for pbc in PBC:
        cell, positions = random_cell(rng, 2.5), rng.normal(size=(9, 3)) * 4
        full = ours(positions, cell, pbc, 5.0, algorithm)
        half = ours(positions, cell, pbc, 5.0, algorithm, half=True)
        mirrored = np.column_stack([half[:, 1], half[:, 0], -half[:, 2:]])
        both = np.concatenate([half, mirrored])
        assert np.array_equal(pairs(both[:, 0], both[:, 1], both[:, 2:]), full)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_atoms_far_outside_the_cell_keep_their_shifts(algorithm):
    rng = np.random.default_rng(4)
    cell = random_cell(rng)
    positions = rng.random((20, 3)) @ cell
    turns = rng.integers(-1000, 1000, size=(20, 3))
    near = _rust.neighbor_list(EVERYTHING, positions, cell, (True, True, True), 4.0, False, algorithm)
    far = _rust.neighbor_list(EVERYTHING, positions + turns @ cell, cell, (True, True, True), 4.0, False, algorithm)
    i, j = near[0], near[1]
    assert np.array_equal(pairs(i, j, near[2] + turns[i] - turns[j]), pairs(*far[:3]))
    assert np.allclose(np.sort(near[3]), np.sort(far[3]), atol=1e-9)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_one_atom_neighbours_its_own_images(algorithm):
    table = ours(np.zeros((1, 3)), np.eye(3), (True, True, True), 1.2, algorithm)
    assert table[:, 2:].tolist() == [[-1, 0, 0], [0, -1, 0], [0, 0, -1], [0, 0, 1], [0, 1, 0], [1, 0, 0]]
    tiny = ours(np.zeros((1, 3)), np.eye(3) * 1e-6, (True, False, True), 1.01e-5, algorithm)
    assert len(tiny) == len([1 for x in range(-10, 11) for y in range(-10, 11) if 0 < x * x + y * y < 102])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("count", [0, 1])
def test_no_pairs(algorithm, count):
    arrays = _rust.neighbor_list(EVERYTHING, np.zeros((count, 3)), None, (False, False, False), 5.0, False, algorithm)
    assert [array.shape for array in arrays] == [(0,), (0,), (0, 3), (0,), (0, 3)]
    assert [array.dtype for array in arrays] == [np.int64, np.int64, np.int32, np.float64, np.float64]


def test_cutoff_is_exclusive():
    positions = np.array([[0.0, 0, 0], [2.0, 0, 0]])
    none = (False, False, False)
    assert len(_rust.neighbor_list(EVERYTHING, positions, None, none, 2.0)[0]) == 0
    assert len(_rust.neighbor_list(EVERYTHING, positions, None, none, np.nextafter(2.0, 3.0))[0]) == 2


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_extremely_skewed_cell_gives_the_same_lattice(algorithm):
    plain = np.diag([3.0, 4.0, 5.0])
    skew = np.array([[1, 0, 0], [400, 1, 0], [-70, 333, 1]])
    positions = np.random.default_rng(5).random((6, 3)) * 5
    straight = _rust.neighbor_list(EVERYTHING, positions, plain, (True, True, True), 5.5, False, algorithm)
    skewed = _rust.neighbor_list(EVERYTHING, positions, skew @ plain, (True, True, True), 5.5, False, algorithm)
    assert np.array_equal(pairs(skewed[0], skewed[1], skewed[2] @ skew), pairs(*straight[:3]))


finite = st.floats(-1e3, 1e3, allow_nan=False)
cells = st.one_of(
    st.lists(finite, min_size=9, max_size=9),
    st.lists(st.floats(-20.0, 20.0), min_size=9, max_size=9),
    st.lists(st.integers(-3, 3), min_size=9, max_size=9),
)
coordinates = st.lists(st.lists(finite, min_size=3, max_size=3), max_size=8)


@given(coordinates, cells, st.tuples(st.booleans(), st.booleans(), st.booleans()), st.floats(0.1, 8.0))
@settings(max_examples=150, deadline=None)
def test_any_input_gives_a_symmetric_list_or_the_one_error(points, cell, pbc, cutoff):
    positions, cell = np.array(points, dtype=float).reshape(-1, 3), np.array(cell, dtype=float).reshape(3, 3)
    # The product of the face distances, at most: keeps the lists short.
    heights = 1.0 / np.linalg.norm(np.linalg.pinv(cell), axis=0).clip(1e-9)
    assume(np.prod(2 * cutoff / heights[list(pbc)] + 1) < 3000)
    try:
        table = ours(positions, cell, pbc, cutoff, "brute")
    except InvalidInputError as error:
        assert "`" in str(error) or "limit" in str(error)
        return
    assert np.array_equal(table, ours(positions, cell, pbc, cutoff, "cells"))
    assert np.array_equal(table, pairs(table[:, 1], table[:, 0], -table[:, 2:]))


ONE = np.zeros((1, 3))
ALL = (True, True, True)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((ONE, np.eye(3), ALL, 0.0), "`cutoff`"),
        ((ONE, np.eye(3), ALL, -1.0), "`cutoff`"),
        ((ONE, np.eye(3), ALL, np.nan), "`cutoff`"),
        ((ONE, np.eye(3), ALL, np.inf), "`cutoff`"),
        ((ONE, np.eye(3), ALL, "5"), "`cutoff`"),
        ((ONE, np.eye(3), ALL, 1e6), "image cells"),
        ((np.zeros((2000, 3)), np.eye(3) * 10, ALL, 30.0), "pairs"),
        ((ONE + np.nan, np.eye(3), ALL, 1.0), r"`positions\[0\]`"),
        ((ONE + np.inf, np.eye(3), ALL, 1.0), r"`positions\[0\]`"),
        ((ONE + 1e300, np.eye(3), ALL, 1.0), r"`positions\[0\]`"),
        ((np.zeros((3, 2)), np.eye(3), ALL, 1.0), "`positions`"),
        ((np.zeros(3), np.eye(3), ALL, 1.0), "`positions`"),
        ((np.zeros((2, 3), np.float32), np.eye(3), ALL, 1.0), "`positions`.*float64"),
        ((np.zeros((3, 2)).T, np.eye(3), ALL, 1.0), "`positions`.*contiguous"),
        (([[0, 0, 0]], np.eye(3), ALL, 1.0), "`positions`.*list"),
        ((ONE, None, ALL, 1.0), "`cell`"),
        ((ONE, np.eye(4), ALL, 1.0), "`cell`"),
        ((ONE, np.zeros((3, 3)), ALL, 1.0), "`cell`"),
        ((ONE, np.ones((3, 3)), (True, True, False), 1.0), "`cell`"),
        ((ONE, np.full((3, 3), np.nan), (True, False, False), 1.0), "`cell`"),
        ((ONE, np.eye(3), (True, True), 1.0), "`pbc`"),
        ((ONE, np.eye(3), True, 1.0), "`pbc`"),
        ((ONE, np.eye(3), ALL, 1.0, "no"), "`half`"),
        ((ONE, np.eye(3), ALL, 1.0, False, "kd"), "`algorithm`"),
        ((ONE, np.eye(3), ALL, 1.0, False, 3), "`algorithm`"),
    ],
)
def test_refused_by_name(arguments, named):
    with pytest.raises(InvalidInputError, match=named):
        _rust.neighbor_list("ijS", *arguments)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_shifts_beyond_int32_are_refused(algorithm):
    positions = np.array([[0.0, 0, 0], [9e8, 0, 0]])
    with pytest.raises(InvalidInputError, match=r"`positions\[1\]`.*2\^31"):
        _rust.neighbor_list(EVERYTHING, positions, np.diag([0.1, 9.0, 9.0]), ALL, 0.2, False, algorithm)


def test_too_many_pairs_of_a_dense_molecule_are_refused():
    with pytest.raises(InvalidInputError, match="pairs of neighbours"):
        _rust.neighbor_list(EVERYTHING, np.zeros((9000, 3)), None, (False, False, False), 1.0)


def test_quantities_come_in_the_order_asked():
    rng = np.random.default_rng(6)
    cell, positions = np.eye(3) * 6, rng.random((12, 3)) * 6
    i, j, shifts, distances, vectors = _rust.neighbor_list(EVERYTHING, positions, cell, ALL, 4.0)
    got = neighbor_list("DdSji", positions, cell, True, 4.0)
    for have, want in zip(got, (vectors, distances, shifts, j, i), strict=True):
        assert np.array_equal(have, want)
    assert np.array_equal(neighbor_list("d", positions, cell, [1, 1, 1], 4.0), distances)
    assert np.array_equal(
        neighbor_list("i", positions.tolist(), cell, np.ones(3, bool), 4.0, half=True), i[_half(i, j, shifts)]
    )


@pytest.mark.parametrize("count", [50, 2000, 20000])  # apart; in one block of memory; too large for one
def test_arrays_are_as_any_others(count):
    rng = np.random.default_rng(8)
    edge = (count / 0.06) ** (1 / 3)
    arrays = neighbor_list(EVERYTHING, rng.random((count, 3)) * edge, np.eye(3) * edge, True, 5.0)
    i, j, shifts, distances, vectors = (array.copy() for array in arrays)
    for array in arrays:
        assert array.flags.c_contiguous and array.flags.writeable and array.flags.aligned
        array[:] = 0
    again = neighbor_list(EVERYTHING, rng.random((count, 3)) * edge, np.eye(3) * edge, True, 5.0)
    assert not any(array.any() for array in arrays), "memory still in use is left alone"
    assert len(again[0]) and np.allclose(np.linalg.norm(vectors, axis=1), distances)
    order = np.lexsort((*shifts.T[::-1], j, i))
    assert np.array_equal(order, np.arange(len(i)))


def _half(i, j, shifts):
    first = np.array([next((s for s in shift if s), 0) for shift in shifts])
    return (i < j) | ((i == j) & (first > 0))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("ijx", ONE, None, False, 1.0), "`quantities`"),
        (("", ONE, None, False, 1.0), "`quantities`"),
        (("i", "abc", None, False, 1.0), "`positions`"),
        (("i", ONE, None, [True, False], 1.0), "`pbc`"),
        (("i", [[0, 0]], None, False, 1.0), "`positions`"),
    ],
)
def test_public_function_refuses_by_name(arguments, named):
    with pytest.raises(InvalidInputError, match=named):
        neighbor_list(*arguments)
