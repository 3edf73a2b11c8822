"""`adit.symmetry` against moyopy, spglib and what a space group is."""

from __future__ import annotations

import re
from pathlib import Path

import moyopy
import numpy as np
import pytest
import spglib
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from adit import symmetry
from adit.data.packed import PackedDataset
from adit.errors import InvalidInputError
from adit.symmetry import analyse, niggli, spacegroups, standardize, symmetrize
from adit.system import AtomicSystem

ROOT = Path(__file__).parents[1]
DATA = PackedDataset.load(ROOT / "tests" / "fixtures" / "tiny_dataset")
CRYSTALS = [system for system in DATA if system.is_periodic]
MOLECULE = AtomicSystem([1], [[0, 0, 0]])
SKEW = np.array([[1, 0, 0], [9, 1, 0], [-7, 12, 1]])


def from_group(number, lattice, species, places) -> AtomicSystem:
    structure = Structure.from_spacegroup(number, lattice, species, places)
    return AtomicSystem(structure.atomic_numbers, structure.cart_coords, structure.lattice.matrix)


KNOWN = {
    152: from_group(152, Lattice.hexagonal(4.916, 5.405), ["Si", "O"], [[0.4697, 0, 1 / 3], [0.4135, 0.2669, 0.4524]]),
    225: from_group(225, Lattice.cubic(5.6402), ["Na", "Cl"], [[0, 0, 0], [0.5, 0, 0]]),
    227: from_group(227, Lattice.cubic(5.43), ["Si"], [[0, 0, 0]]),
    194: from_group(194, Lattice.hexagonal(3.21, 5.21), ["Mg"], [[1 / 3, 2 / 3, 0.25]]),
    62: from_group(62, Lattice.orthorhombic(5.44, 7.65, 5.38), ["Ca", "Ti"], [[0.036, 0.25, -0.04], [0, 0, 0.5]]),
    136: from_group(136, Lattice.tetragonal(4.594, 2.959), ["Ti", "O"], [[0, 0, 0], [0.305, 0.305, 0]]),
    14: from_group(
        14, Lattice.monoclinic(5.15, 5.2, 5.32, 99.2), ["Zr", "O"], [[0.275, 0.04, 0.208], [0.07, 0.33, 0.34]]
    ),
}
SALT = KNOWN[225]


def of_moyopy(system, symprec=0.01):
    cell = moyopy.Cell(system.cell.tolist(), system.fractional.tolist(), system.numbers.tolist())
    return moyopy.MoyoDataset(cell, symprec=symprec)


def of_spglib(system, symprec=0.01):
    return spglib.get_symmetry_dataset((system.cell, system.fractional, system.numbers), symprec=symprec)


def disguised(system, seed=0):
    """Turned, shifted, in a skewed cell, its atoms shuffled."""
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    order = rng.permutation(len(system))
    positions = (system.positions + rng.normal(size=3)) @ turn
    return AtomicSystem(system.numbers[order], positions[order], SKEW @ system.cell @ turn)


def noisy(system, displacement, strain, seed):
    """Each atom moved by at most `displacement` in a cell strained by about `strain`."""
    rng = np.random.default_rng(seed)
    tensor = rng.normal(size=(3, 3)) * strain
    moves = rng.normal(size=(len(system), 3))
    moves *= displacement * rng.random((len(system), 1)) / np.linalg.norm(moves, axis=1, keepdims=True)
    cell = system.cell @ (np.eye(3) + (tensor + tensor.T) / 2)
    return AtomicSystem(system.numbers, system.fractional @ cell + moves, cell, system.info)


def same_partition(left, right):
    return len(set(zip(left, right, strict=True))) == len(set(left)) == len(set(right))


def misfit(system, rotation, translation):
    """By how far the operation misses the nearest atom of the same kind, at worst, Angstrom."""
    new = system.fractional @ rotation.T + translation
    gaps = new[:, None] - system.fractional[None]
    distances = np.linalg.norm((gaps - np.rint(gaps)) @ system.cell, axis=2)
    return np.where(system.numbers[:, None] == system.numbers, distances, np.inf).min(axis=1).max()


@pytest.mark.parametrize("symprec", [1e-4, 0.01, 0.1])
def test_equals_moyopy_and_spglib(symprec):
    found = analyse(CRYSTALS, symprec)
    assert [dataset.number for dataset in found] == spacegroups(CRYSTALS, symprec).tolist()
    moyo = [of_moyopy(system, symprec) for system in CRYSTALS]
    assert [dataset.number for dataset in found] == [dataset.number for dataset in moyo]
    assert [dataset.hall_number for dataset in found] == [dataset.hall_number for dataset in moyo]
    # Between equivalent choices of the origin, rounding may decide.
    letters = [ours.wyckoffs == theirs.wyckoffs for ours, theirs in zip(found, moyo, strict=True)]
    assert np.mean(letters) >= 0.98
    theirs = [of_spglib(system, symprec) for system in CRYSTALS]
    agreed = [(o, t) for o, t in zip(found, theirs, strict=True) if o.number == t.number]
    assert len(agreed) >= 0.97 * len(found)
    for ours, spg in agreed:
        assert same_partition(ours.orbits.tolist(), spg.crystallographic_orbits.tolist())
        # Letters up to the choice of the origin: one renaming for all atoms.
        assert same_partition(ours.wyckoffs, spg.wyckoffs)
        assert len(ours.rotations) == len(spg.rotations)
        assert ours.international.replace(" ", "") == spg.international.replace(" ", "")


@pytest.mark.parametrize("number", KNOWN)
def test_a_known_crystal_in_any_disguise(number):
    plain = KNOWN[number]
    skewed = disguised(plain)
    for system in (plain, skewed, skewed.to_ase(), skewed.to_pymatgen()):
        found = analyse(system)
        assert found.number == spacegroups(system) == number
        assert found.pearson == analyse(plain).pearson
    # A skewed cell: operations, letters and cells in terms of that, not of the reduced one.
    found, spg = analyse(skewed), of_spglib(skewed)
    assert same_partition(found.orbits.tolist(), spg.crystallographic_orbits.tolist())
    assert sorted(found.site_symmetries) == sorted(analyse(plain).site_symmetries)
    ops = {tuple(rotation.ravel()) for rotation in found.rotations.tolist() for rotation in [np.array(rotation)]}
    assert ops == {tuple(rotation.ravel()) for rotation in spg.rotations}
    for rotation, translation in zip(found.rotations, found.translations, strict=True):
        assert misfit(skewed, rotation, translation) < 1e-4
        assert round(np.linalg.det(rotation)) in (1, -1)
    assert (found.translations >= 0).all()
    assert (found.translations < 1).all()
    # (a' b' c') = (a b c) P up to the orientation, and x' = P^-1 (x - p).
    axes = found.transformation.T @ skewed.cell
    assert np.allclose(axes @ axes.T, found.conventional.cell @ found.conventional.cell.T, atol=1e-6)
    moved = np.linalg.solve(found.transformation, (skewed.fractional - found.origin_shift).T).T
    for place, kind in zip(moved, skewed.numbers, strict=True):
        gaps = found.conventional.fractional[found.conventional.numbers == kind] - place
        assert np.abs(gaps - np.rint(gaps)).max(axis=1).min() < 1e-6
    assert (found.primitive.numbers[found.to_primitive] == skewed.numbers).all()


@pytest.mark.parametrize("number", KNOWN)
@pytest.mark.parametrize("primitive", [False, True])
def test_standard_cells_are_those_of_spglib(number, primitive):
    system = KNOWN[number]
    new = standardize(system, primitive=primitive)
    cell, places, kinds = spglib.standardize_cell(
        (system.cell, system.fractional, system.numbers), to_primitive=primitive, symprec=0.01
    )
    assert np.allclose(np.linalg.norm(new.cell, axis=1), np.linalg.norm(cell, axis=1), atol=1e-6)
    assert new.volume == pytest.approx(abs(np.linalg.det(cell)))
    assert sorted(new.numbers.tolist()) == sorted(kinds.tolist())
    assert len(places) == len(new)
    assert spacegroups(new, 1e-5) == number
    assert ((new.fractional > -1e-9) & (new.fractional < 1)).all()
    ours = of_moyopy(system)
    expected = ours.prim_std_cell if primitive else ours.std_cell
    assert np.allclose(new.cell, expected.basis)


def test_standard_cells_of_real_crystals():
    for primitive in (False, True):
        made = standardize(CRYSTALS, 0.01, primitive=primitive)
        assert spacegroups(made, 1e-5).tolist() == spacegroups(CRYSTALS, 0.01).tolist()
        for new, old in zip(made, CRYSTALS, strict=True):
            assert new.info == old.info
            assert new.volume / len(new) == pytest.approx(old.volume / len(old), rel=1e-2)
    again = standardize(made, 1e-4, primitive=True)
    for new, old in zip(again, made, strict=True):
        assert np.allclose(new.cell @ new.cell.T, old.cell @ old.cell.T, atol=1e-6)


def test_niggli_keeps_the_crystal():
    systems = [disguised(system, seed) for seed, system in enumerate(CRYSTALS[:20])]
    for new, old in zip(niggli(systems), systems, strict=True):
        whole = new.cell @ np.linalg.inv(old.cell)
        assert np.allclose(whole, np.rint(whole), atol=1e-6)
        assert np.array_equal(new.numbers, old.numbers)
        gaps = (new.positions - old.positions) @ np.linalg.inv(new.cell)
        assert np.allclose(gaps, np.rint(gaps), atol=1e-6)
        assert ((new.fractional > -1e-9) & (new.fractional < 1)).all()
        expected = spglib.niggli_reduce(old.cell)
        assert Lattice(new.cell).lengths == pytest.approx(Lattice(expected).lengths, abs=1e-3)
    assert niggli(systems[0]) == niggli(systems)[0]
    with pytest.raises(InvalidInputError, match=r"`cells\[1\]`"):
        niggli([SALT, AtomicSystem([1], [[0, 0, 0]], np.diag([1e-2, 1e-2, 1e4]))])


@pytest.mark.parametrize("number", KNOWN)
@pytest.mark.parametrize("repeats", [(1, 1, 1), (1, 1, 2)])
def test_noise_is_taken_back(number, repeats):
    structure = KNOWN[number].to_pymatgen()
    structure.make_supercell(repeats)
    exact = AtomicSystem(structure.atomic_numbers, structure.cart_coords, structure.lattice.matrix)
    for seed in range(5):
        system = noisy(exact, 0.03, 0.001, seed)
        assert spacegroups(system, 1e-3) <= 2
        snapped = symmetrize(system, 0.1)
        assert snapped.spacegroup == number
        assert snapped.displacement < 0.08
        assert snapped.strain < 0.01
        assert_snapped(snapped, system, 0.1)


def assert_snapped(snapped, system, limit, strain=0.05):
    """What is promised of a result, found without the code that made it."""
    new = snapped.system
    assert np.array_equal(new.numbers, system.numbers)
    assert new.info == system.info
    if snapped.spacegroup:
        assert of_moyopy(new, 1e-4).number == snapped.spacegroup
    moves = new.fractional - system.fractional
    moves -= moves.mean(axis=0)
    assert np.linalg.norm(moves @ new.cell, axis=1).max() == pytest.approx(snapped.displacement, abs=1e-7)
    stretches = np.linalg.svd(np.linalg.solve(system.cell, new.cell), compute_uv=False)
    assert np.abs(stretches - 1).max() == pytest.approx(snapped.strain, abs=1e-7)
    assert snapped.displacement <= limit
    assert snapped.strain <= strain


def test_real_crystals_with_noise_are_snapped_within_the_limits():
    base = CRYSTALS[:60]
    systems = [noisy(disguised(system, k) if k % 5 == 0 else system, 0.04, 0.003, k) for k, system in enumerate(base)]
    made = symmetrize(systems, 0.1, threads=1)
    for snapped, system in zip(made, systems, strict=True):
        assert_snapped(snapped, system, 0.1)
    groups = np.array([snapped.spacegroup for snapped in made])
    truth = spacegroups(base, 0.01)
    assert np.mean(groups >= truth) > 0.9
    assert np.mean(spacegroups(systems, 0.01) == truth) < 0.3
    # Again: the same crystals, but for the few that come within reach of a still higher symmetry.
    again = symmetrize([snapped.system for snapped in made], 0.1)
    fixed = [new.system == old.system for new, old in zip(again, made, strict=True)]
    assert np.mean(fixed) > 0.95
    assert all(new.spacegroup >= old.spacegroup for new, old in zip(again, made, strict=True))
    for threads in (2, 3, None):
        others = symmetrize(systems, 0.1, threads=threads)
        assert all(new.system == old.system for new, old in zip(others, made, strict=True))


def test_limits_are_kept_or_nothing_happens():
    system = noisy(SALT, 0.03, 0.0, 1)
    assert symmetrize(system, 0.1).spacegroup == 225
    assert symmetrize(system, 0.005).spacegroup < 225
    assert symmetrize(system, 0.005).displacement <= 0.005
    stretched = AtomicSystem(SALT.numbers, SALT.positions * [1, 1, 1.01], SALT.cell * [1, 1, 1.01])
    assert symmetrize(stretched, 0.1).spacegroup == 225
    assert symmetrize(stretched, 0.1).strain == pytest.approx(0.00667, abs=2e-4)
    assert symmetrize(stretched, 0.1, max_strain=0.003).spacegroup == 139
    assert symmetrize(stretched, 0.1, max_strain=0.003).system is stretched


def test_an_exact_crystal_comes_back_as_it_is():
    for system in [*KNOWN.values(), disguised(SALT)]:
        snapped = symmetrize(system)
        assert snapped.displacement <= 1e-3
        assert symmetrize(snapped.system).system is snapped.system
    assert symmetrize(SALT).system is SALT


CUBE = 4 * np.eye(3)
BROKEN = {
    "no atoms": AtomicSystem([], np.zeros((0, 3)), CUBE),
    "one on the other": AtomicSystem([11, 17], np.zeros((2, 3)), CUBE),
    "own image": AtomicSystem([11, 11], [[0, 0, 0], [4, 0, 0.005]], CUBE),
    "far away": AtomicSystem([11], [[1e300, 0, 0]], CUBE),
    "needle": AtomicSystem([11], [[0, 0, 0]], np.diag([1, 1, 1e5])),
    "plate": AtomicSystem([11], [[0, 0, 0]], np.diag([1e4, 1e4, 1e-1])),
    "flat": AtomicSystem([11], [[0, 0, 0]], [[4, 0, 0], [4e6, 1e-6, 0], [0, 0, 4]]),
    "too long": AtomicSystem([11], [[0, 0, 0]], np.diag([1e4, 1e4, 1e7])),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_has_no_symmetry_is_left_alone(name):
    system = BROKEN[name]
    batch = [SALT, system, SALT]
    assert spacegroups(system) == 0
    assert spacegroups(batch).tolist() == [225, 0, 225]
    assert [found is None for found in analyse(batch)] == [False, True, False]
    assert [found is None for found in standardize(batch)] == [False, True, False]
    snapped = symmetrize(batch)
    assert [found.spacegroup for found in snapped] == [225, 0, 225]
    assert snapped[1].system is system
    for function in (analyse, standardize):
        with pytest.raises(InvalidInputError, match=re.escape("adit.validity.structural")):
            function(system)


def test_one_atom():
    single = AtomicSystem([11], [[0.1, 0.2, 0.3]], CUBE)
    assert spacegroups(single) == 221
    assert analyse(single).wyckoffs == ["a"]
    assert len(analyse(single).rotations) == 48
    assert symmetrize(single).system is single


def test_many_and_none():
    assert spacegroups([]).shape == (0,)
    assert analyse([]) == standardize([]) == niggli([]) == symmetrize([]) == []
    data = PackedDataset.from_systems(CRYSTALS[:5])
    assert spacegroups(data, 0.05).tolist() == spacegroups(CRYSTALS[:5], 0.05).tolist()
    assert [found.number for found in analyse(data, 0.05)] == spacegroups(data, 0.05).tolist()
    assert len(symmetrize(data)) == len(standardize(data)) == len(niggli(data)) == 5


@pytest.mark.parametrize("function", [spacegroups, analyse, standardize, niggli, symmetrize])
def test_molecules_are_refused(function):
    with pytest.raises(InvalidInputError, match="system 1 is a molecule"):
        function([SALT, MOLECULE])
    with pytest.raises(InvalidInputError, match="`threads`"):
        function(SALT, threads=0)


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf, "fine"])
def test_limits_are_named(bad):
    for function in (spacegroups, analyse, standardize):
        with pytest.raises(InvalidInputError, match="`symprec`"):
            function(SALT, bad)
    with pytest.raises(InvalidInputError, match="`max_displacement`"):
        symmetrize(SALT, bad)
    with pytest.raises(InvalidInputError, match="`max_strain`"):
        symmetrize(SALT, max_strain=bad)


@given(
    st.lists(st.floats(-8, 8), min_size=9, max_size=9),
    st.lists(st.tuples(st.integers(1, 2), *[st.floats(-5, 5)] * 3), max_size=6),
    st.floats(1e-6, 1.0),
)
@settings(max_examples=150, deadline=None)
def test_any_crystal_keeps_the_promises(cell, atoms, limit):
    try:
        system = AtomicSystem([atom[0] for atom in atoms], [atom[1:] for atom in atoms], np.reshape(cell, (3, 3)))
    except InvalidInputError:
        return
    snapped = symmetrize(system, limit)
    assert np.array_equal(snapped.system.numbers, system.numbers)
    assert 0 <= snapped.displacement <= limit
    assert 0 <= snapped.strain <= 0.05
    if snapped.spacegroup:
        assert spacegroups(snapped.system, 1e-4) == snapped.spacegroup
    for found in (analyse([system], limit)[0], standardize([system], limit)[0]):
        assert (found is None) == (spacegroups(system, limit) == 0)


def test_public_names():
    assert {"spacegroups", "analyse", "standardize", "niggli", "symmetrize"} <= set(dir(symmetry))


def test_examples_of_the_guide_run(capsys):
    path = ROOT / "docs" / "symmetry.md"
    [block] = re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL)
    exec(compile(block, str(path), "exec"), {})
    printed = capsys.readouterr().out.splitlines()
    expected = [
        line.split("  # ")[1].split(": ")[0] for line in block.splitlines() if line.startswith("print") and "#" in line
    ]
    assert printed[:-1] == expected
    assert printed[-1] == "[ True  True] [ True False  True]"
