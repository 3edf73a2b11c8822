"""Distances of distributions: closed forms, RDKit's and pymatgen's own measures, halves of a set."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import rdDistGeom, rdMolTransforms

from adit.bonds import infer_bonds, to_rdkit_batch
from adit.data.prepare import load
from adit.errors import InvalidInputError
from adit.eval import quantities
from adit.eval.distributions import crystal_distances, molecule_distances
from adit.eval.quantities import crystal_statistics, molecule_statistics
from adit.symmetry import spacegroups
from adit.system import AtomicSystem


def water(length: float, degrees: float) -> AtomicSystem:
    angle = np.radians(degrees)
    return AtomicSystem([8, 1, 1], [[0, 0, 0], [length, 0, 0], [length * np.cos(angle), length * np.sin(angle), 0]])


def shaken(systems: list[AtomicSystem], noise: float) -> list[AtomicSystem]:
    rng = np.random.default_rng(0)
    return [AtomicSystem(s.numbers, s.positions + noise * rng.normal(size=s.positions.shape), s.cell) for s in systems]


def test_lengths_and_angles_differ_by_what_they_differ() -> None:
    found = molecule_distances([water(0.95, 100), water(0.95, 100)], [water(0.97, 107)])
    [bond], [angle] = found.bond_lengths.types, found.bond_angles.types
    assert (bond.name, bond.samples, bond.reference) == ("H-O", 4, 2)
    assert (angle.name, angle.samples, angle.reference) == ("H-O-H", 2, 1)
    assert bond.wasserstein == pytest.approx(0.02) and angle.wasserstein == pytest.approx(7)
    assert bond.jensen_shannon == 1 and angle.jensen_shannon == 1
    assert found.bond_lengths.wasserstein == pytest.approx(0.02)
    assert found.atom_count == 0 and found.elements == 0 and found.bond_lengths.shares == 0


def test_what_only_one_set_has_is_told_by_the_shares() -> None:
    ammonia = AtomicSystem([7, 1, 1, 1], [[0, 0, 0], [1.01, 0, 0], [-0.3, 0.96, 0], [-0.3, -0.4, 0.87]])
    found = molecule_distances([ammonia], [water(0.95, 105)])
    assert found.bond_lengths.shares == 1 and found.bond_lengths.compared == 0
    assert np.isnan(found.bond_lengths.wasserstein)
    assert found.atom_count == 1
    mixed = molecule_distances([ammonia, water(0.95, 105)], [water(0.95, 105)])
    assert mixed.bond_lengths.compared == pytest.approx(2 / 5) and mixed.bond_lengths.wasserstein == 0
    assert [entry.name for entry in mixed.bond_lengths.types] == ["H-O", "H-N"]


def test_means_are_weighted_by_the_reference() -> None:
    ethene = Chem.AddHs(Chem.MolFromSmiles("C=C"))
    rdDistGeom.EmbedMolecule(ethene, randomSeed=0)
    longer = AtomicSystem([a.GetAtomicNum() for a in ethene.GetAtoms()], ethene.GetConformer().GetPositions() * 1.01)
    found = molecule_distances([longer], [ethene]).bond_lengths
    by_name = {entry.name: entry for entry in found.types}
    assert set(by_name) == {"H-C", "C=C"}
    assert found.wasserstein == pytest.approx((4 * by_name["H-C"].wasserstein + by_name["C=C"].wasserstein) / 5)


def test_lengths_and_angles_are_rdkits(qm9: list[AtomicSystem]) -> None:
    lengths, angles = defaultdict(list), defaultdict(list)
    for system, molecule in zip(qm9[:40], to_rdkit_batch(qm9[:40]), strict=True):
        conformer, bonds = molecule.GetConformer(), infer_bonds(system)
        for pair, order in zip(bonds.bonds.tolist(), bonds.orders.tolist(), strict=True):
            key = (*sorted(system.numbers[pair].tolist()), order)
            lengths[key].append(rdMolTransforms.GetBondLength(conformer, *pair))
        for middle in molecule.GetAtoms():
            near = sorted(middle.GetNeighbors(), key=lambda atom: atom.GetAtomicNum())
            for k, left in enumerate(near):
                for right in near[k + 1 :]:
                    key = (left.GetAtomicNum(), middle.GetAtomicNum(), right.GetAtomicNum())
                    places = left.GetIdx(), middle.GetIdx(), right.GetIdx()
                    angles[key].append(rdMolTransforms.GetAngleDeg(conformer, *places))
    found = molecule_statistics(qm9[:40])
    for ours, theirs in ((found.lengths, lengths), (found.angles, angles)):
        assert set(ours) == set(theirs)
        for key, values in theirs.items():
            np.testing.assert_allclose(ours[key], sorted(values), atol=1e-5)
    assert found.elements[6] == sum((s.numbers == 6).sum() for s in qm9[:40])


def test_a_set_is_at_zero_from_itself_and_noise_takes_it_away(qm9: list[AtomicSystem]) -> None:
    reference = molecule_statistics(qm9)
    same = molecule_distances(reference, qm9)
    for part in (same.bond_lengths, same.bond_angles):
        assert (part.shares, part.jensen_shannon, part.wasserstein, part.compared) == (0, 0, 0, 1)
    assert same.atom_count == 0 and same.elements == 0
    half = molecule_distances(qm9[::2], qm9[1::2])
    noisy = molecule_distances(shaken(qm9[::2], 0.05), qm9[1::2])
    for name in ("jensen_shannon", "wasserstein"):
        assert 0 < getattr(half.bond_lengths, name) < 0.7 * getattr(noisy.bond_lengths, name)
        assert 0 < getattr(half.bond_angles, name) < getattr(noisy.bond_angles, name)


@pytest.mark.slow
def test_halves_of_qm9_are_near_each_other() -> None:
    data = load("qm9")
    order = np.random.default_rng(0).permutation(len(data))
    reference = molecule_statistics(data.subset(order[10_000:]))
    half = molecule_distances(data.subset(order[:10_000]), reference)
    assert half.bond_lengths.wasserstein < 5e-4 and half.bond_angles.wasserstein < 0.2
    assert half.bond_lengths.jensen_shannon < 1e-3 and half.bond_angles.jensen_shannon < 2e-3
    assert half.atom_count < 0.1 and half.elements < 1e-4
    noisy = molecule_distances(shaken(list(data.subset(order[:2000])), 0.05), reference)
    assert noisy.bond_lengths.wasserstein > 20 * half.bond_lengths.wasserstein
    assert noisy.bond_angles.wasserstein > 10 * half.bond_angles.wasserstein


def test_chunks_change_nothing(qm9: list[AtomicSystem], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = molecule_statistics(qm9[:20])
    monkeypatch.setattr(quantities, "_CHUNK", 3)
    parts = molecule_statistics(qm9[:20])
    for ours, theirs in ((whole.lengths, parts.lengths), (whole.angles, parts.angles)):
        assert ours.keys() == theirs.keys()
        assert all(np.array_equal(ours[key], theirs[key]) for key in ours)


def test_densities_and_volumes_are_pymatgens(mp20: list[AtomicSystem]) -> None:
    found = crystal_statistics(mp20)
    for place, system in enumerate(mp20):
        structure = system.to_pymatgen()
        assert found.densities[place] == pytest.approx(float(structure.density), rel=1e-3)
        assert found.volumes[place] == pytest.approx(structure.volume / len(structure))
        assert found.n_elements[place] == len(structure.composition.elements)
    assert np.array_equal(found.spacegroups, spacegroups(mp20, 0.1))
    assert found.elements.sum() == sum(map(len, mp20))


def test_crystals_differ_by_what_they_differ() -> None:
    def salt(edge: float) -> AtomicSystem:
        return AtomicSystem.from_fractional([11, 17], [[0, 0, 0], [0.5, 0.5, 0.5]], edge * np.eye(3))

    small, large = crystal_statistics([salt(3.5)]), crystal_statistics([salt(4.0)])
    found = crystal_distances(small, large)
    assert found.volume == pytest.approx((4.0**3 - 3.5**3) / 2)
    mass = 22.98977 + 35.453
    assert found.density == pytest.approx(1.66053906660 * mass * (3.5**-3 - 4.0**-3), rel=1e-3)
    assert (found.n_elements, found.atom_count, found.elements, found.spacegroups) == (0, 0, 0, 0)
    iron = AtomicSystem([26], [[0, 0, 0]], 2.5 * np.eye(3))
    other = crystal_distances([iron], large)
    assert (other.n_elements, other.atom_count, other.elements) == (1, 1, 1)


def test_crystals_against_themselves_and_shaken(mp20: list[AtomicSystem]) -> None:
    reference = crystal_statistics(mp20)
    same = crystal_distances(reference, mp20)
    assert (same.density, same.volume, same.elements, same.spacegroups, same.n_elements, same.atom_count) == (0,) * 6
    noisy = crystal_distances(shaken(mp20, 0.3), reference)
    assert noisy.spacegroups > 0.1 and noisy.density == pytest.approx(0, abs=1e-9)


def test_nothing_and_nonsense(
    nonsense: dict[str, AtomicSystem], qm9: list[AtomicSystem], mp20: list[AtomicSystem]
) -> None:
    assert np.isnan(molecule_distances([], qm9).bond_lengths.wasserstein)
    assert np.isnan(crystal_distances([], mp20).density)
    odd = molecule_distances(list(nonsense.values()), qm9)
    assert odd.bond_lengths.wasserstein > 0 and odd.atom_count > 0
    point = AtomicSystem([6], [[0, 0, 0]], np.diag([1e-4, 1, 1]))
    assert crystal_distances([point], mp20).volume > 0
    with pytest.raises(InvalidInputError, match="system 0 is a crystal"):
        molecule_statistics(mp20)
    with pytest.raises(InvalidInputError, match="system 0 is a molecule"):
        crystal_statistics(qm9)
    with pytest.raises(InvalidInputError, match="one `symprec`"):
        crystal_distances(crystal_statistics(mp20[:2], symprec=0.01), mp20[:2])
