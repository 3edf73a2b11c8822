from __future__ import annotations

from pathlib import Path
from types import ModuleType

import ase.io
import pytest
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor

import crystal_pairs

TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def made() -> ModuleType:
    """benches/crystal_pairs.py: pairs of crystals of every kind."""
    return crystal_pairs


@pytest.fixture(scope="session")
def mp20() -> list[Structure]:
    """Crystals of MP-20."""
    frames = ase.io.iread(TESTS / "eval" / "data" / "mp20.extxyz", index=":")
    return [AseAtomsAdaptor.get_structure(frame, cls=Structure) for frame in frames]
