"""The hull is pymatgen's PhaseDiagram, for any number of compositions."""

from __future__ import annotations

import gzip
import json
import time
from pathlib import Path

import numpy as np
import pytest
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition

from adit.data.packed import PackedDataset
from adit.elements import NUMBERS, SYMBOLS
from adit.errors import InvalidInputError, UnreadableFileError
from adit.eval.energy.hull import WIDTH, Hull, compositions
from adit.eval.energy.reference import read_reference
from adit.system import AtomicSystem

CHEMISTRY = [NUMBERS[symbol] for symbol in ("Li", "Fe", "P", "O", "S", "Na", "Cl")]


def random_shares(rng: np.random.Generator, count: int, most: int, elements: list[int]) -> np.ndarray:
    """Whole-number formulas of 1 to `most` elements."""
    shares = np.zeros((count, WIDTH))
    for row in shares:
        chosen = rng.choice(elements, rng.integers(1, most + 1), replace=False)
        row[chosen] = rng.integers(1, 7, len(chosen))
    return shares / shares.sum(1, keepdims=True)


def composition(row: np.ndarray) -> Composition:
    return Composition({SYMBOLS[z]: row[z] for z in np.flatnonzero(row)})


def diagram(shares: np.ndarray, energies: np.ndarray, elements: list[int]) -> PhaseDiagram:
    entries = [PDEntry(composition(row), energy) for row, energy in zip(shares, energies, strict=True)]
    return PhaseDiagram(entries + [PDEntry(Composition({SYMBOLS[z]: 1}), 0.0) for z in elements])


@pytest.mark.parametrize("seed", range(4))
def test_is_the_phase_diagram_of_pymatgen(seed: int) -> None:
    """1 to 5 elements, with entries above and below the hull, elements too, and compositions of the entries."""
    rng = np.random.default_rng(seed)
    elements = CHEMISTRY[:5]
    shares = random_shares(rng, 80, 5, elements)
    energies = rng.normal(-0.4, 0.4, len(shares))
    wanted = np.concatenate([random_shares(rng, 120, 5, elements), shares[:30]])
    reference = diagram(shares, energies, elements)
    expected = [reference.get_hull_energy_per_atom(composition(row)) for row in wanted]
    hull = Hull(shares, energies, "random")
    assert np.abs(hull.energies(wanted) - expected).max() < 1e-6
    assert np.allclose(hull.above(wanted, np.ones(len(wanted))), 1 - np.array(expected), atol=1e-6)


def test_seven_elements() -> None:
    """By linear programming, where facets are too many."""
    rng = np.random.default_rng(9)
    shares = random_shares(rng, 60, 3, CHEMISTRY)
    energies = rng.normal(-0.4, 0.4, len(shares))
    wanted = np.zeros((5, WIDTH))
    wanted[:, CHEMISTRY] = rng.dirichlet(np.ones(7), 5)
    reference = diagram(shares, energies, CHEMISTRY)
    expected = [reference.get_hull_energy_per_atom(composition(row)) for row in wanted]
    assert np.abs(Hull(shares, energies, "random").energies(wanted) - expected).max() < 1e-6


@pytest.mark.parametrize("seed", range(3))
def test_facets_and_linear_programme_agree(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(seed)
    shares = random_shares(rng, 200, 6, CHEMISTRY)
    energies = rng.normal(-0.4, 0.4, len(shares))
    wanted = random_shares(rng, 40, 6, CHEMISTRY)
    by_facets = Hull(shares, energies, "random").energies(wanted)
    monkeypatch.setattr("adit.eval.energy.hull._QHULL_ELEMENTS", 1)
    assert np.abs(Hull(shares, energies, "random").energies(wanted) - by_facets).max() < 1e-7


def test_binary_by_hand() -> None:
    shares = np.zeros((4, WIDTH))
    shares[:, NUMBERS["Na"]] = (0.5, 0.25, 0.75, 0.5)
    shares[:, NUMBERS["Cl"]] = 1 - shares.sum(1)
    hull = Hull(shares, [-2.0, -0.5, -1.5, -1.0], "by hand")
    wanted = np.zeros((3, WIDTH))
    wanted[:, NUMBERS["Na"]], wanted[:, NUMBERS["Cl"]] = (0.25, 0.75, 1.0), (0.75, 0.25, 0.0)
    assert np.allclose(hull.energies(wanted), [-1.0, -1.5, 0.0])
    assert np.allclose(hull.above(wanted, [-1.2, -1.5, 0.1]), [-0.2, 0.0, 0.1])


def test_without_compounds_the_elements_are_the_hull() -> None:
    shares = np.zeros((3, WIDTH))
    shares[0, 11] = shares[1, 17] = 1
    shares[2, [11, 17]] = 0.5
    hull = Hull(shares, [0.02, 0.0, 0.3], "no compound")
    assert hull.energies(shares).tolist() == [0, 0, 0]
    assert np.allclose(hull.above(shares, [0.02, 0, 0.3]), [0.02, 0, 0.3])


def test_an_unknown_element_has_no_hull() -> None:
    shares = np.zeros((1, WIDTH))
    shares[0, [11, 17]] = 0.5
    hull = Hull(shares, [-2.0], "NaCl")
    wanted = np.zeros((4, WIDTH))
    wanted[0, [11, 17]] = wanted[1, [11, 8]] = 0.5
    wanted[2, 8] = 1  # and one row without atoms
    assert np.isnan(hull.energies(wanted)).tolist() == [False, True, True, True]
    assert hull.elements.tolist() == [11, 17]


def test_entries_without_energy_and_none_at_all() -> None:
    shares = np.zeros((2, WIDTH))
    shares[:, [11, 17]] = 0.5
    assert Hull(shares, [np.nan, -1.0], "half").entries == 1
    empty = Hull(np.zeros((0, WIDTH)), [], "empty")
    assert np.isnan(empty.energies(shares)).all()
    assert len(empty.energies(np.zeros((0, WIDTH)))) == 0
    with pytest.raises(InvalidInputError, match="shape"):
        Hull(shares, [1.0], "short")


def test_compositions_of_systems() -> None:
    cell = 4 * np.eye(3)
    shares = compositions([AtomicSystem([11, 17, 17], np.zeros((3, 3)), cell), AtomicSystem([], [], cell)])
    assert shares.shape == (2, WIDTH)
    assert np.allclose(shares[0, [11, 17]], [1 / 3, 2 / 3])
    assert shares[1].sum() == 0


def test_ten_thousand_compositions_in_seconds() -> None:
    """27,000 entries; a third of ten thousand compositions, nearly each in a chemical system of its own."""
    rng = np.random.default_rng(0)
    elements = list(range(1, 90))
    shares = random_shares(rng, 27_000, 4, elements)
    hull = Hull(shares, rng.normal(-0.4, 0.4, len(shares)), "many")
    wanted = random_shares(rng, 3_333, 4, elements)
    start = time.process_time()
    assert np.isfinite(hull.energies(wanted)).all()
    assert time.process_time() - start < 4


ROWS = [("NaCl", -2.1), ("Na", 0.0), ("Ca(OH)2", -2.0)]


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "json", "json of pairs"])
def test_reads_tables(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"set.{kind.split()[0]}"
    if "csv" in kind:
        text = "id,pretty_formula,formation_energy_per_atom\n" + "\n".join(f"x,{f},{e}" for f, e in ROWS)
        text += "\nx,,-1\nx,Nonsense9z,-1\nx,KCl,\n" if kind == "csv" else ""
        path.write_bytes(gzip.compress(text.encode()) if kind.endswith("gz") else text.encode())
    elif kind == "json":
        path.write_text(json.dumps([{"formula": f, "formation_energy_per_atom": e} for f, e in ROWS]))
    else:
        path.write_text(json.dumps(dict(ROWS)))
    table = read_reference(path)
    assert table.energies.tolist() == [-2.1, 0.0, -2.0]
    assert np.allclose(table.compositions[2, [1, 8, 20]], [0.4, 0.4, 0.2])
    assert table.skipped == (3 if kind == "csv" else 0)
    assert table.hull().entries == 3


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.csv", "formula,energy\nNaCl,1\n", "must have the columns formula"),
        ("b.csv", "", "it has nothing"),
        ("c.json", "{nonsense", "cannot be read"),
        ("d.json", "[1, 2]", "expected a list of objects"),
        ("e.csv", "formula,formation_energy_per_atom\n,1\nXx,2\nNaCl,-2\n", "only 1 hold"),
        ("f.csv.gz", "not zipped", "cannot be read"),
    ],
)
def test_refuses_other_tables(name: str, text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UnreadableFileError, match=words):
        read_reference(tmp_path / name)


def test_reads_crystals_with_energies(tmp_path: Path) -> None:
    """A packed data set; molecules in it do not count; one without energies makes no hull."""
    salt = AtomicSystem([11, 17], [[0, 0, 0], [2.8, 2.8, 2.8]], 5.6 * np.eye(3), {"formation_energy_per_atom": -2.1})
    bare = AtomicSystem(salt.numbers, salt.positions, salt.cell)
    table = read_reference(PackedDataset.from_systems([salt, AtomicSystem([8], [[0, 0, 0]]), bare]))
    assert table.energies.tolist()[0] == -2.1 and np.isnan(table.energies[1])
    assert table.hull().entries == 1
    PackedDataset.from_systems([bare], {"name": "bare"}).save(tmp_path / "bare")
    with pytest.raises(InvalidInputError, match="no formation energies"):
        read_reference(tmp_path / "bare").hull()
    with pytest.raises(UnreadableFileError, match="adit-data prepare"):
        read_reference("no-such-set")


def test_reads_a_csv_of_cifs() -> None:
    """CDVAE's layout, as MP-20 is published."""
    folder = Path(__file__).parents[2] / "fixtures" / "mp_20"
    file = sorted(folder.glob("*.csv*"))[0]
    table = read_reference(file)
    assert len(table.energies) and np.isfinite(table.energies).any()
    assert table.structures is not None and np.allclose(table.compositions.sum(1), 1)
