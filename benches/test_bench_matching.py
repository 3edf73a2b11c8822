"""Structure matching beside pymatgen's StructureMatcher.

One thread. Compare within a group of one run only: absolute times drift with the machine. pymatgen keeps
the reduced cells of its last 300 structures; that store is emptied before each round, as nobody compares
the same two crystals for ever.
"""

from pathlib import Path

import ase.io
import numpy as np
import pytest
from pymatgen.analysis.structure_matcher import StructureMatcher as Pymatgen
from pymatgen.io.ase import AseAtomsAdaptor

from adit.matching import StructureMatcher
from adit.packing import pack
from crystal_pairs import carbon, pairs, rattled, recelled

MP20 = Path(__file__).parents[1] / "tests" / "eval" / "data" / "mp20.extxyz"
SWITCHES = {"default": {}, "loose": {"ltol": 0.3, "stol": 0.5, "angle_tol": 10}}


def drawn(count):
    frames = ase.io.iread(MP20, index=":")
    return pairs([AseAtomsAdaptor.get_structure(frame) for frame in frames], count, seed=0)


def by_pymatgen(question, chosen, switches):
    matcher = Pymatgen(**switches)
    Pymatgen._get_reduced_istructure.cache_clear()
    return [getattr(matcher, question)(one, other) for _, one, other in chosen]


def by_adit(convention):
    def judge(question, packed, switches):
        matcher = StructureMatcher(**switches, convention=convention, threads=1)
        ask = matcher.fit_pairs if question == "fit" else matcher.rms_pairs
        return ask(*packed)

    judge.__name__ = f"by_adit_{convention}"
    return judge


LIBRARIES = [by_adit("symmetric"), by_adit("pymatgen"), by_pymatgen]


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: library.__name__)
@pytest.mark.parametrize("question", ["fit", "get_rms_dist"])
@pytest.mark.parametrize("name", SWITCHES)
def test_pairs(benchmark, name, question, library):
    """90 pairs of all kinds, reduction included."""
    benchmark.group = f"structure matching, 90 pairs, {question}, {name} tolerances"
    chosen = drawn(90)
    given = chosen if library is by_pymatgen else [pack([pair[side] for pair in chosen]) for side in (1, 2)]
    rounds = 1 if library is by_pymatgen else 20
    found = benchmark.pedantic(library, (question, given, SWITCHES[name]), rounds=rounds, warmup_rounds=1)
    assert len(found) == 90


def carbons(count):
    """Skewed cells of 8 to 24 carbon atoms and up to three rattled copies of each."""
    rng = np.random.default_rng(5)
    structures = []
    while len(structures) < count:
        one = carbon(rng, int(rng.integers(8, 25)))
        structures.append(one)
        structures += [recelled(rattled(one, rng, 0.05, 0.01), rng) for _ in range(rng.integers(4))]
    return structures[:count]


@pytest.mark.parametrize("library", ["adit symmetric", "adit pymatgen", "pymatgen"])
@pytest.mark.parametrize("count", [60, 500])
def test_groups(benchmark, count, library):
    """Deduplication of one composition; pymatgen takes a minute for the 500."""
    benchmark.group = f"group {count} carbons"
    structures = carbons(count)
    if library == "pymatgen":
        if count > 60:
            pytest.skip("a minute and more")
        groups = benchmark.pedantic(Pymatgen().group_structures, (structures,), rounds=1)
    else:
        matcher = StructureMatcher(convention=library.split()[1], threads=1)
        packed = pack(structures)
        groups = np.unique(benchmark.pedantic(matcher.group_labels, (packed,), rounds=10, warmup_rounds=1))
    assert count / 4 <= len(groups) <= count
