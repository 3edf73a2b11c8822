"""Samples broken on purpose, each judged rightly and for the right reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import AllChem

from adit.convert import write
from adit.data.packed import PackedDataset
from adit.eval import evaluate
from adit.eval.reference import Reference
from adit.eval.results import Evaluation
from adit.system import AtomicSystem

BOX = 4.0 * np.eye(3)


def embed(smiles: str) -> AtomicSystem:
    molecule = Chem.AddHs(Chem.MolFromSmiles(smiles))
    AllChem.EmbedMolecule(molecule, randomSeed=7)
    AllChem.MMFFOptimizeMolecule(molecule)
    return AtomicSystem([a.GetAtomicNum() for a in molecule.GetAtoms()], molecule.GetConformer().GetPositions())


ETHANOL = embed("CCO")  # atoms: C 0, C 1, O 2, then hydrogens
SALT = AtomicSystem.from_fractional([11, 17], [[0, 0, 0], [0.5, 0.5, 0.5]], 2.82 * (np.ones((3, 3)) - np.eye(3)))


def without(system: AtomicSystem, *atoms: int) -> AtomicSystem:
    keep = [k for k in range(len(system)) if k not in atoms]
    return AtomicSystem(system.numbers[keep], system.positions[keep], system.cell)


def with_atom(system: AtomicSystem, number: int, place: np.ndarray) -> AtomicSystem:
    return AtomicSystem([*system.numbers, number], [*system.positions, place], system.cell)


def moved(system: AtomicSystem, atom: int, place: np.ndarray) -> AtomicSystem:
    positions = system.positions.copy()
    positions[atom] = place
    return AtomicSystem(system.numbers, positions, system.cell)


def changed(system: AtomicSystem, atom: int, number: int) -> AtomicSystem:
    numbers = system.numbers.copy()
    numbers[atom] = number
    return AtomicSystem(numbers, system.positions, system.cell)


def bonded_hydrogen(system: AtomicSystem, atom: int) -> int:
    return int(np.linalg.norm(system.positions - system.positions[atom], axis=1)[3:].argmin()) + 3


def stretched() -> AtomicSystem:
    """The hydroxyl's hydrogen 1.9 A from its oxygen, away from all else."""
    hydrogen, oxygen = bonded_hydrogen(ETHANOL, 2), ETHANOL.positions[2]
    way = ETHANOL.positions[hydrogen] - oxygen
    return moved(ETHANOL, hydrogen, oxygen + 1.9 * way / np.linalg.norm(way))


def fifth_bond() -> AtomicSystem:
    """One more hydrogen, 1.1 A from the first carbon, opposite to the sum of its bonds to hydrogen."""
    carbon = ETHANOL.positions[0]
    near = np.argsort(np.linalg.norm(ETHANOL.positions - carbon, axis=1))[1:5]
    ways = ETHANOL.positions[near] - carbon
    middle = ways[1] + ways[2]
    return with_atom(ETHANOL, 1, carbon + 1.1 * middle / np.linalg.norm(middle))


WATER_APART = AtomicSystem(
    [*ETHANOL.numbers, 8, 1, 1], [*ETHANOL.positions, [20, 0, 0], [20.96, 0, 0], [19.76, 0.93, 0]]
)
AMMONIUM = embed("C[NH3+]")
HYDROXYL = bonded_hydrogen(ETHANOL, 2)

MOLECULES: dict[str, tuple[AtomicSystem, dict[str, tuple[bool, str]]]] = {
    "intact": (ETHANOL, {"adit": (True, ""), "edm": (True, ""), "adit-rust": (True, "")}),
    "overlap": (
        moved(ETHANOL, 7, ETHANOL.positions[2] + [0.31, 0, 0]),
        {"adit-rust": (False, "atoms 2 and 7 are 0.31 A apart")},
    ),
    "missing hydrogen": (
        without(ETHANOL, 3),
        {
            "adit": (True, "carbon 0 has 1 unpaired electron"),
            "edm": (True, "carbon 0 has 1 unpaired electron"),
            "adit-rust": (False, "carbon 0 has 1 unpaired electron"),
        },
    ),
    "extra hydrogen": (fifth_bond(), {"edm": (False, "carbon 0 has valence 5"), "adit-rust": (False, " A apart")}),
    "stretched bond": (
        stretched(),
        {"edm": (True, "oxygen 2 has 1 unpaired electron"), "adit-rust": (False, "the largest fragment has charge -1")},
    ),
    "wrong element": (
        changed(ETHANOL, 2, 6),
        {
            "adit": (True, "carbon 2 has 2 unpaired electrons"),
            "edm": (True, "carbon 2 has 2 unpaired electrons"),
            "adit-rust": (False, "carbon 2 has 2 unpaired electrons"),
        },
    ),
    "two fragments": (WATER_APART, {"adit": (True, ""), "edm": (True, ""), "adit-rust": (True, "")}),
    "charged": (
        AMMONIUM,
        {
            "adit": (False, "nitrogen 1 has valence 4"),
            "edm": (False, "nitrogen 1 has valence 4"),
            "adit-rust": (False, ""),
        },
    ),
    "one atom": (AtomicSystem([6], [[0, 0, 0]]), {"adit-rust": (False, "carbon 0 has 4 unpaired electrons")}),
    "no atoms": (AtomicSystem([], np.zeros((0, 3))), {"adit": (False, "no atoms"), "adit-rust": (False, "no atoms")}),
    "far away": (
        AtomicSystem([6, 1], [[1e300, 0, 0], [1e300, 1, 0]]),
        {"edm": (False, "the coordinates are too large for distances"), "adit-rust": (False, "")},
    ),
}


@pytest.mark.parametrize("name", MOLECULES)
def test_a_broken_molecule(name: str) -> None:
    system, expected = MOLECULES[name]
    (row,) = evaluate([system]).rows
    for protocol, (valid, why) in expected.items():
        verdict = row["protocols"][protocol]
        assert verdict["valid"] is valid, (protocol, verdict)
        assert why in verdict["why"] if not valid or why else verdict["why"] == "", (protocol, verdict)
        assert (verdict["smiles"] is not None) is valid
    if name == "intact":
        assert {verdict["smiles"] for verdict in row["protocols"].values()} == {"CCO"}
    if name == "two fragments":
        assert not any(verdict["connected"] for verdict in row["protocols"].values())


def test_a_repeated_molecule_is_named() -> None:
    turned = AtomicSystem(ETHANOL.numbers[::-1], ETHANOL.positions[::-1] @ np.diag([-1.0, -1, 1]) + 3)
    found = evaluate([AMMONIUM, ETHANOL, turned], reference=Reference("mine", PackedDataset.from_systems([ETHANOL])))
    verdicts = [row["protocols"]["adit-rust"] for row in found.rows]
    assert [verdict["repeats"] for verdict in verdicts] == [None, None, 1]
    assert [verdict["matches"] for verdict in verdicts] == [None, 0, 0]
    assert verdicts[2]["why"] == "repeats entry 1; matches reference 0"
    assert found.metric("molecules", "unique", "adit-rust").value == 0.5
    assert found.metric("molecules", "novel", "adit-rust").value == 0


SUPERCELL = AtomicSystem.from_fractional(
    np.tile(SALT.numbers, 2),
    np.concatenate([SALT.fractional, SALT.fractional + np.array([1, 0, 0])]) / [2, 1, 1],
    SALT.cell * [[2], [1], [1]],
)
CONVENTIONAL = AtomicSystem.from_fractional(
    [11] * 4 + [17] * 4,
    [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5], [0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5], [0.5, 0.5, 0.5]],
    5.64 * np.eye(3),
)
RATTLED = AtomicSystem(
    CONVENTIONAL.numbers,
    CONVENTIONAL.positions + 0.05 * np.random.default_rng(0).normal(size=(8, 3)),
    CONVENTIONAL.cell,
)
LEFT_HANDED = AtomicSystem.from_fractional(SALT.numbers, SALT.fractional, SALT.cell[[1, 0, 2]])

CRYSTALS: dict[str, tuple[AtomicSystem, bool, bool, str]] = {
    "intact": (SALT, True, True, "matches reference 0"),
    "overlap": (
        AtomicSystem.from_fractional([11, 17], [[0, 0, 0], [0.98, 0, 0]], BOX),
        False,
        True,
        "atoms 0 and 1 are 0.08 A apart",
    ),
    "tiny cell": (
        AtomicSystem([14], [[0, 0, 0]], 0.47 * np.eye(3)),
        False,
        True,
        "atom 0 is 0.47 A from its own image",
    ),
    "next to no volume": (
        AtomicSystem([14], [[0, 0, 0]], np.diag([3, 3, 1e-3])),
        False,
        True,
        "the volume of the cell is 0.009 A^3",
    ),
    "left-handed": (LEFT_HANDED, True, True, "matches reference 0"),
    "unbalanced": (changed(CONVENTIONAL, 0, 17), True, False, "not charge neutral"),
    "against electronegativity": (
        AtomicSystem.from_fractional([1, 9, 17], [[0, 0, 0], [0.5, 0.5, 0], [0, 0.5, 0.5]], BOX),
        True,
        False,
        "charge neutral only with electrons on the less electronegative element",
    ),
    "noble": (
        AtomicSystem.from_fractional([2, 8], [[0, 0, 0], [0.5, 0.5, 0.5]], BOX),
        True,
        False,
        "SMACT knows no oxidation state of He",
    ),
    "another setting": (CONVENTIONAL, True, True, "matches reference 0"),
    "supercell": (SUPERCELL, True, True, "matches reference 0"),
    "rattled": (RATTLED, True, True, "matches reference 0"),
    "no atoms": (AtomicSystem([], np.zeros((0, 3)), BOX), False, False, "no atoms"),
    "huge coordinates": (
        AtomicSystem([11, 17], [[0, 0, 0], [1e300, 0, 0]], BOX),
        False,
        True,
        "the shape of the cell is extreme",
    ),
    "one atom": (AtomicSystem([29], [[0, 0, 0]], 2.56 * np.eye(3)), True, True, ""),
}


@pytest.mark.parametrize("name", CRYSTALS)
def test_a_broken_crystal(name: str) -> None:
    system, structure, composition, why = CRYSTALS[name]
    found = evaluate([system], reference=Reference("mine", PackedDataset.from_systems([SALT])))
    verdict = found.rows[0]["protocols"]["cdvae"]
    assert (verdict["structure"], verdict["composition"]) == (structure, composition), verdict
    assert verdict["valid"] is (structure and composition)
    assert why in verdict["why"] and (why or not verdict["why"]), verdict
    assert verdict["novel"] is (structure and "matches" not in why)


def test_repeated_crystals_are_named() -> None:
    found = evaluate([ETHANOL, SALT, CONVENTIONAL, SUPERCELL, RATTLED, LEFT_HANDED])
    verdicts = [row["protocols"]["cdvae"] for row in found.rows[1:]]
    assert [verdict["repeats"] for verdict in verdicts] == [None, 1, 1, 1, 1]
    assert verdicts[1]["why"] == "repeats entry 1"
    assert found.metric("crystals", "unique").value == 1 / 5
    assert found.rows[2]["spacegroup"] == 225


def shares(found: Evaluation, kind: str) -> list[int]:
    """How many structures the shares of all are taken of."""
    names = ("valid", "valid & unique", "no unpaired electrons", "structure valid", "composition valid", "connected")
    return [metric.of for metric in found.metrics if metric.kind == kind and metric.name in names]


def folder_of(path: Path) -> Path:
    """Two good molecules, three broken; one good crystal, five broken; one of which nothing is known."""
    path.mkdir()
    write(path / "good.sdf", [ETHANOL, AMMONIUM])
    record = (path / "good.sdf").read_text().split("$$$$\n")[0]
    (path / "torn.sdf").write_text("\n".join(record.splitlines()[:6]))
    (path / "empty.sdf").write_text("")
    (path / "nan.xyz").write_text("2\n\nC 0 0 0\nH nan 0 1\n")
    write(path / "good.extxyz", [SALT])
    (path / "volume.extxyz").write_text('1\nLattice="1 0 0 0 1 0 1 1 0" Properties=species:S:1:pos:R:3\nSi 0 0 0\n')
    (path / "truncated.extxyz").write_text('9\nLattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3\nSi 0 0 0\n')
    (path / "bad.cif").write_text("this is no cif\n")
    (path / "empty.cif").write_text("")
    (path / "POSCAR").write_text("nothing\n")
    (path / "page.xyz").write_text("<html>not found</html>\n")
    return path


def test_what_cannot_be_read_counts_as_invalid(tmp_path: Path) -> None:
    found = evaluate(folder_of(tmp_path / "samples"))
    assert found.counts == {"entries": 12, "molecules": 5, "crystals": 6, "unreadable": 9}
    assert shares(found, "molecules") == [5] * 12
    assert shares(found, "crystals") == [6] * 4
    assert found.metric("molecules", "valid", "edm").value == 1 / 5
    assert found.metric("crystals", "valid").value == 1 / 6
    assert {Path(entry["entry"]).name.split("[")[0]: entry["kind"] for entry in found.unreadable} == {
        "torn.sdf": "molecules",
        "empty.sdf": "molecules",
        "nan.xyz": "molecules",
        "volume.extxyz": "crystals",
        "truncated.extxyz": "crystals",
        "bad.cif": "crystals",
        "empty.cif": "crystals",
        "POSCAR": "crystals",
        "page.xyz": None,
    }
    assert all(entry["why"] for entry in found.unreadable)


def test_an_entry_of_unknown_kind_goes_to_the_only_kind_there_is(tmp_path: Path) -> None:
    path = tmp_path / "samples.xyz"
    write(path, [ETHANOL, ETHANOL])
    path.write_text(path.read_text() + "what is this\n")
    found = evaluate(path)
    assert found.counts == {"entries": 3, "molecules": 3, "crystals": 0, "unreadable": 1}
    assert found.metric("molecules", "valid", "adit-rust").value == pytest.approx(2 / 3)
    assert found.metric("molecules", "unique", "adit-rust").of == 2
