"""Bond inference, EDM stability and SDF text of `adit.bonds` beside what users would otherwise take.

One thread, real QM9 molecules (tests/fixtures). Compare within a group of one run only: absolute times drift
with the machine.
"""

from pathlib import Path

import numpy as np
import pytest
from openbabel import openbabel
from rdkit import Chem, rdBase
from rdkit.Chem import rdDetermineBonds

from adit import bonds
from adit.data.packed import PackedDataset
from adit.eval.stability import tables
from adit.packing import pack

DATA = PackedDataset.load(Path(__file__).parents[1] / "tests" / "fixtures" / "tiny_dataset")


@pytest.fixture(scope="module")
def molecules():
    return list(DATA.subset(np.flatnonzero(~DATA.periodic)))


@pytest.fixture(scope="module")
def packed(molecules):
    return pack(molecules)


def bare(system):
    molecule = Chem.RWMol()
    for number in system.numbers.tolist():
        molecule.AddAtom(Chem.Atom(number))
    conformer = Chem.Conformer(len(system))
    conformer.SetPositions(np.array(system.positions))
    molecule.AddConformer(conformer)
    return molecule


def test_bonds_by_adit(benchmark, packed):
    benchmark.group = "bonds and orders, QM9"
    found = benchmark(bonds.infer_bonds_batch, packed, threads=1)
    assert not found.flags.any()
    benchmark.extra_info["molecules"] = len(found)


def test_bonds_by_rdkit(benchmark, molecules):
    benchmark.group = "bonds and orders, QM9"

    def setup():
        return ([bare(system) for system in molecules],), {}

    def one(molecule):
        try:
            rdDetermineBonds.DetermineBonds(molecule, charge=0)
        except ValueError:
            return False
        return True

    def determine(made):
        return sum(one(molecule) for molecule in made)

    with rdBase.BlockLogs():
        right = benchmark.pedantic(determine, setup=setup, rounds=10)
    assert right > 0.8 * len(molecules)
    benchmark.extra_info["molecules"] = len(molecules)


def test_bonds_by_openbabel(benchmark, molecules):
    benchmark.group = "bonds and orders, QM9"
    openbabel.obErrorLog.StopLogging()

    def setup():
        made = []
        for system in molecules:
            source = openbabel.OBMol()
            source.BeginModify()
            for number, (x, y, z) in zip(system.numbers.tolist(), system.positions.tolist(), strict=True):
                atom = source.NewAtom()
                atom.SetAtomicNum(number)
                atom.SetVector(x, y, z)
            source.EndModify()
            made.append(source)
        return (made,), {}

    def perceive(made):
        for source in made:
            source.ConnectTheDots()
            source.PerceiveBondOrders()

    benchmark.pedantic(perceive, setup=setup, rounds=10)
    benchmark.extra_info["molecules"] = len(molecules)


def test_sdf_by_adit(benchmark, packed):
    benchmark.group = "coordinates to SDF text, QM9"
    assert benchmark(bonds.to_sdf, packed, threads=1).count("$$$$") == len(packed.periodic)


def test_sdf_by_rdkit_from_the_same_bonds(benchmark, packed):
    benchmark.group = "coordinates to SDF text, QM9"

    def by_rdkit():
        return [Chem.MolToMolBlock(molecule) for molecule in bonds.to_rdkit_batch(packed, stereo=False, threads=1)]

    assert len(benchmark(by_rdkit)) == len(packed.periodic)


def stability_by_numpy(molecules, limits, allowed):
    """Every pair of one molecule at a time."""
    stable = []
    for system in molecules:
        distances = np.linalg.norm(system.positions[:, None] - system.positions[None], axis=-1) * 100
        np.fill_diagonal(distances, np.inf)
        orders = (distances < limits[:, system.numbers[:, None], system.numbers[None]]).sum(axis=0)
        stable.append(allowed[system.numbers, np.minimum(orders.sum(axis=1), 6)].mean())
    return stable


@pytest.mark.parametrize("library", ["by_adit", "by_numpy"])
def test_edm_stability(benchmark, packed, molecules, library):
    benchmark.group = "EDM stability, QM9"
    from adit.elements import NUMBERS

    found = tables()
    limits, allowed = np.zeros((3, 101, 101)), np.zeros((101, 7), dtype=bool)
    for order, (lengths, margin) in enumerate(zip(found.lengths, found.margins, strict=True)):
        for pair, length in lengths.items():
            left, right = (NUMBERS[symbol] for symbol in (sorted(pair) * 2)[:2])
            limits[order, left, right] = limits[order, right, left] = length + margin
    for symbol, valences in found.valences.items():
        allowed[NUMBERS[symbol], list(valences)] = True
    if library == "by_adit":
        shares = benchmark(bonds.edm_stability, packed, threads=1).atoms
    else:
        shares = benchmark(stability_by_numpy, molecules, limits, allowed)
    np.testing.assert_allclose(shares, bonds.edm_stability(packed).atoms)


def test_geometry_checks(benchmark, packed):
    benchmark.group = "geometry checks, QM9"
    assert np.mean([failed == () for failed in benchmark(bonds.check_geometry, packed, threads=1)]) > 0.98
