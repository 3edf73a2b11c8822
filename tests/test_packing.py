"""`pack` and `as_system` against the classes people hold their structures in."""

from __future__ import annotations

import numpy as np
import pytest

from adit.data.packed import PackedDataset
from adit.errors import InvalidInputError
from adit.packing import as_system, is_one, pack
from adit.system import AtomicSystem

WATER = AtomicSystem([8, 1, 1], [[0.0, 0.0, 0.1], [0.0, 0.76, -0.5], [0.0, -0.76, -0.5]])
SALT = AtomicSystem.from_fractional([11, 17], [[0, 0, 0], [0.5, 0.5, 0.5]], 2.8 * (1 - np.eye(3)))


def test_every_class_gives_the_same_system() -> None:
    for system in (WATER, SALT):
        for thing in (system, system.to_ase(), system.to_pymatgen()):
            assert is_one(thing)
            assert as_system(thing) == system
    assert as_system(WATER.to_rdkit()) == WATER
    assert is_one(WATER.to_rdkit())


def test_a_list_of_any_classes_and_a_data_set_pack_alike() -> None:
    mixed = [WATER.to_rdkit(), SALT.to_pymatgen(), SALT.to_ase()]
    packed = pack(mixed)
    store = PackedDataset.from_systems([WATER, SALT, SALT])
    assert not is_one(mixed)
    assert not is_one(store)
    for found, expected in zip(pack(store), packed, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)
    assert packed.offsets.tolist() == [0, 3, 5, 7]
    assert packed.numbers.dtype == np.uint8
    assert packed.periodic.tolist() == [False, True, True]
    assert pack(packed) is packed


def test_nothing_packs_to_nothing() -> None:
    packed = pack([])
    assert packed.positions.shape == (0, 3)
    assert packed.cells.shape == (0, 3, 3)
    assert packed.offsets.tolist() == [0]


def test_what_is_no_system_is_named() -> None:
    with pytest.raises(InvalidInputError, match=r"system 1: a system must be an AtomicSystem.*got str"):
        pack([WATER, "water.xyz"])  # type: ignore[list-item]
