from __future__ import annotations

import csv
import gzip
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adit.convert.base import BrokenEntry
from adit.convert.cif import cell_matrix, format_cif, parse_cif
from adit.errors import InvalidInputError
from adit.system import AtomicSystem

FIXTURES = Path(__file__).parents[1] / "fixtures"


def mp20_cifs(count: int) -> list[str]:
    with gzip.open(FIXTURES / "mp_20" / "train.csv.gz", "rt", newline="") as file:
        return [row["cif"] for row in csv.DictReader(file)][:count]


def test_fast_path_agrees_with_pymatgen() -> None:
    from pymatgen.core import Structure

    for text in mp20_cifs(40):
        [system] = parse_cif(text, "x")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = Structure.from_str(text, fmt="cif")
        assert isinstance(system, AtomicSystem)
        assert system.numbers.tolist() == list(expected.atomic_numbers)
        # pymatgen rounds 0.333333 to 1/3, within 1e-4.
        difference = system.fractional - expected.frac_coords
        assert np.abs(difference - np.round(difference)).max() < 1.01e-4
        from pymatgen.core import Lattice

        np.testing.assert_allclose(Lattice(system.cell).parameters, expected.lattice.parameters, atol=1e-8)


def test_fast_path_and_general_path_agree() -> None:
    for text in mp20_cifs(5):
        [fast] = parse_cif(text, "x")
        [general] = parse_cif(text.replace("  1  'x, y, z'", "  1  'x,y,z'"), "x")
        assert isinstance(fast, AtomicSystem)
        assert isinstance(general, AtomicSystem)
        difference = fast.fractional - general.fractional
        assert np.abs(difference - np.round(difference)).max() < 1.01e-4


def test_written_cif_is_read_back_by_adit_pymatgen_and_ase(tmp_path: Path) -> None:
    import ase.io
    from pymatgen.core import Lattice, Structure

    rng = np.random.default_rng(0)
    cell = rng.normal(size=(3, 3)) * 3 + np.eye(3) * 6
    system = AtomicSystem.from_fractional([11, 17, 8, 100], rng.random((4, 3)), cell)
    path = tmp_path / "x.cif"
    path.write_text(format_cif(system, "a name with spaces; and 'quotes'"))
    [again] = parse_cif(path.read_text(), "x")
    assert isinstance(again, AtomicSystem)
    expected = Lattice(cell).parameters
    np.testing.assert_allclose(Lattice(again.cell).parameters, expected, atol=1e-7)
    np.testing.assert_allclose(again.fractional, system.fractional, atol=1e-9)
    by_ase = ase.io.read(path)
    np.testing.assert_allclose(by_ase.cell.cellpar(), expected, atol=1e-7)
    assert by_ase.numbers.tolist() == [11, 17, 8, 100]
    by_pymatgen = Structure.from_file(path)
    order = [list(by_pymatgen.atomic_numbers).index(number) for number in (11, 17, 8, 100)]  # pymatgen sorts the atoms
    difference = by_pymatgen.frac_coords[order] - system.fractional
    assert np.abs(difference - np.round(difference)).max() < 1.01e-4


def test_molecule_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"molecule H.*\.sdf"):
        format_cif(AtomicSystem([1], [[0, 0, 0]]))


@pytest.mark.parametrize("angles", [(60, 60, 130), (90, 90, 180), (0, 90, 90)])
def test_impossible_angles_are_refused(angles: tuple[float, ...]) -> None:
    with pytest.raises(InvalidInputError, match="angles"):
        cell_matrix(np.ones(3), np.array(angles, dtype=float))


@given(st.text(max_size=200))
def test_any_text_gives_broken_entries_only(text: str) -> None:
    assert all(isinstance(entry, BrokenEntry) for entry in parse_cif(text, "x"))


@given(st.integers(0, 2000), st.sampled_from(["", "\n", "0", "loop_\n", "_", "'"]))
def test_damaged_cif_never_raises(place: int, inserted: str) -> None:
    text = mp20_cifs(1)[0]
    for entry in parse_cif(text[:place] + inserted + text[place + 7 :], "name"):
        assert isinstance(entry, AtomicSystem | BrokenEntry)


def reason(text: str) -> str:
    [entry] = parse_cif(text, "x")
    assert isinstance(entry, BrokenEntry)
    return entry.reason


@pytest.mark.parametrize("species", [{"Cu": 0.5, "Au": 0.5}, {"Cu": 0.5}])
def test_partial_occupancy_as_pymatgen_writes_it(species: dict[str, float]) -> None:
    from pymatgen.core import Lattice, Structure

    alloy = Structure(Lattice.cubic(3.8), [species] * 4, [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
    assert "disordered structure: site 0 holds Cu:0.5" in reason(alloy.to(fmt="cif"))
    sites = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0, 0.5], [0, 0.5, 0.5], [0.5, 0.5, 0]]
    manganite = Structure(Lattice.cubic(3.9), [{"La": 0.67, "Sr": 0.33}, "Mn", "O", "O", "O"], sites)
    assert "disordered structure: site 0 holds Sr:0.33, La:0.67" in reason(manganite.to(fmt="cif"))


@pytest.mark.parametrize("operation", ["'x, y, z'", "'x,y,z'"])  # the fast reader and pymatgen
def test_hydrogens_that_are_not_located(operation: str) -> None:
    ice = AtomicSystem.from_fractional(
        [8, 1, 1, 8, 1, 1], np.linspace(0, 0.9, 18).reshape(6, 3) % 0.97, np.eye(3) * 4.5
    )
    lines = format_cif(ice).replace("'x, y, z'", operation).splitlines(keepends=True)
    [whole] = parse_cif("".join(lines), "x")
    assert isinstance(whole, AtomicSystem) and whole.formula == "H4O2"
    oxygens = "".join(line for line in lines if not line.startswith("  H"))
    assert reason(oxygens) == "4 of 4 hydrogens of the formula are not located; add them"
    assert reason("".join(lines[:-1])) == (
        "1 of 4 hydrogens of the formula are not located (or the file is truncated); add them"
    )
    assert "truncated" in reason("".join(line for line in lines if not line.startswith("  O  O0")))


def test_a_formula_of_half_the_cell_is_no_damage() -> None:
    salt = AtomicSystem.from_fractional([11, 11, 17, 17], np.arange(12).reshape(4, 3) / 13, np.eye(3) * 5)
    [entry] = parse_cif(format_cif(salt).replace("'Cl2 Na2'", "'Cl1 Na1'"), "x")
    assert isinstance(entry, AtomicSystem) and entry.formula == "Cl2Na2"


def test_wherever_a_cif_is_torn_the_reason_is_of_the_file() -> None:
    text = (FIXTURES / "odd" / "latin1.cif").read_text(encoding="latin-1")
    for end in range(0, len(text), 5):
        for entry in parse_cif(text[:end], "x"):
            words = "no _atom_site_ loop|may be truncated|truncated: "
            assert isinstance(entry, AtomicSystem) or re.search(words, entry.reason), entry
