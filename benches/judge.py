"""An independent judge of generated structures: does not import adit.

Judges molecules (SDF, XYZ or extxyz) and crystals (extxyz, a CIF, or a folder of CIFs) with Open Babel,
RDKit, pymatgen and smact, and prints their validity, stability and uniqueness. Bonds written in
an SDF are ignored: everything is inferred from the positions.

    python benches/judge.py --molecules molecules.sdf --crystals crystals.extxyz --json verdicts.json

Needs: openbabel-wheel, rdkit, pymatgen, smact, ase, numpy.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
import time
import warnings
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

Atoms = tuple[list[str], np.ndarray]  # symbols, positions (n, 3) in Angstrom

# Typical bond lengths in pm and allowed valences: EDM, arXiv 2203.17003, appendix C.
SINGLE = """
H-H 74 H-C 109 H-N 101 H-O 96 H-F 92 H-B 119 H-Si 148 H-P 144 H-As 152 H-S 134 H-Cl 127 H-Br 141 H-I 161
C-C 154 C-N 147 C-O 143 C-F 135 C-Si 185 C-P 184 C-S 182 C-Cl 177 C-Br 194 C-I 214
N-N 145 N-O 140 N-F 136 N-Cl 175 N-Br 214 N-S 168 N-I 222 N-P 177
O-O 148 O-F 142 O-Br 172 O-S 151 O-P 163 O-Si 163 O-Cl 164 O-I 194
F-F 142 F-S 158 F-Si 160 F-Cl 166 F-Br 178 F-P 156 F-I 187 B-Cl 175
Si-Si 233 Si-S 200 Si-Cl 202 Si-Br 215 Si-I 243 Cl-Cl 199 Cl-P 203 Cl-S 207 Cl-Br 214
S-S 204 S-Br 225 S-P 210 S-I 234 Br-Br 228 Br-P 222 P-P 221 I-I 266
"""
DOUBLE = "C-C 134 C-N 129 C-O 120 C-S 160 N-N 125 N-O 121 O-O 121 O-P 150 P-S 186"
TRIPLE = "C-C 120 C-N 116 C-O 113 N-N 110"
VALENCES = {
    "H": {1}, "C": {4}, "N": {3}, "O": {2}, "F": {1}, "B": {3}, "Al": {3}, "Si": {4}, "P": {3, 5}, "S": {4},
    "Cl": {1}, "As": {3}, "Br": {1}, "I": {1}, "Hg": {1, 2}, "Bi": {3, 5},
}  # fmt: skip


def table(text: str) -> dict[frozenset[str], int]:
    words = text.split()
    return {frozenset(pair.split("-")): int(length) for pair, length in zip(words[::2], words[1::2], strict=True)}


ORDERS = [(table(SINGLE), 10), (table(DOUBLE), 5), (table(TRIPLE), 3)]


def bond_order(left: str, right: str, distance: float) -> int:
    """0 to 3, from the distance in Angstrom."""
    pair, order = frozenset((left, right)), 0
    for lengths, margin in ORDERS:
        if pair not in lengths or 100 * distance >= lengths[pair] + margin:
            break
        order += 1
    return order


def stable_atoms(symbols: list[str], positions: np.ndarray) -> int:
    """How many atoms have an allowed valence."""
    valence = [0] * len(symbols)
    for i, j in itertools.combinations(range(len(symbols)), 2):
        order = bond_order(symbols[i], symbols[j], math.dist(positions[i], positions[j]))
        valence[i] += order
        valence[j] += order
    return sum(valence[k] in VALENCES.get(symbol, ()) for k, symbol in enumerate(symbols))


def babel_smiles(symbols: list[str], positions: np.ndarray) -> tuple[str | None, bool]:
    """SMILES of the largest fragment if RDKit sanitises it, and whether all its electrons are paired.

    Through text: an XYZ block into Open Babel (which connects and orders bonds), a MOL block out to RDKit.
    """
    from openbabel import openbabel
    from rdkit import Chem

    conversion = openbabel.OBConversion()
    conversion.SetInAndOutFormats("xyz", "mol")
    lines = [f"{symbol} {x:.6f} {y:.6f} {z:.6f}" for symbol, (x, y, z) in zip(symbols, positions, strict=True)]
    source = openbabel.OBMol()
    if not symbols or not conversion.ReadString(source, "\n".join([str(len(lines)), "", *lines])):
        return None, False
    molecule = Chem.MolFromMolBlock(conversion.WriteString(source), sanitize=False, removeHs=False)
    if molecule is None:
        return None, False
    for atom in molecule.GetAtoms():  # the hydrogens are all there: fill up no valence
        atom.SetNoImplicit(True)
        atom.SetNumRadicalElectrons(0)
    fragment = max(Chem.GetMolFrags(molecule, asMols=True, sanitizeFrags=False), key=lambda part: part.GetNumAtoms())
    try:
        Chem.SanitizeMol(fragment)
        Chem.RemoveStereochemistry(fragment)
        smiles = Chem.MolToSmiles(Chem.RemoveHs(fragment), isomericSmiles=False)
    except Chem.MolSanitizeException:
        return None, False
    return smiles, sum(atom.GetNumRadicalElectrons() for atom in fragment.GetAtoms()) == 0


def judge_molecules(molecules: list[Atoms]) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []
    for symbols, positions in molecules:
        smiles, paired = babel_smiles(symbols, positions)
        stable = stable_atoms(symbols, positions)
        rows.append({"atoms": len(symbols), "stable_atoms": stable, "smiles": smiles, "paired": paired})
    valid = [row["smiles"] for row in rows if row["smiles"] is not None and row["paired"]]
    return {
        "count": len(rows),
        "atom_stability": ratio(sum(row["stable_atoms"] for row in rows), sum(row["atoms"] for row in rows)),
        "molecule_stability": ratio(sum(0 < row["atoms"] == row["stable_atoms"] for row in rows), len(rows)),
        "valid": ratio(len(valid), len(rows)),
        "sanitised_with_radicals": ratio(sum(row["smiles"] is not None for row in rows), len(rows)),
        "unique_of_valid": ratio(len(set(valid)), len(valid)),
        "rows": rows,
    }


def structural(structure: Any) -> bool:
    """CDVAE: no distance under 0.5 A (the nearest images; an atom's own images do not count), volume 0.1 A^3."""
    distances = structure.distance_matrix + 10 * np.eye(len(structure))
    return bool(len(structure) and distances.min() >= 0.5 and structure.volume >= 0.1)


def compositional(structure: Any, cache: dict[str, bool]) -> bool:
    from smact.screening import smact_validity

    formula = structure.composition.reduced_formula
    if formula not in cache:
        cache[formula] = smact_validity(structure.composition.reduced_composition, oxidation_states_set="smact14")
    return cache[formula]


def judge_crystals(structures: list[Any]) -> dict[str, Any]:
    from pymatgen.analysis.structure_matcher import StructureMatcher

    cache: dict[str, bool] = {}
    rows = [
        {
            "formula": s.composition.reduced_formula,
            "structural": structural(s),
            "compositional": compositional(s, cache),
        }
        for s in structures
    ]
    sound = [s for s, row in zip(structures, rows, strict=True) if row["structural"]]
    groups = StructureMatcher(stol=0.5, ltol=0.3, angle_tol=10).group_structures(sound)
    return {
        "count": len(rows),
        "structural": ratio(sum(row["structural"] for row in rows), len(rows)),
        "compositional": ratio(sum(row["compositional"] for row in rows), len(rows)),
        "overall": ratio(sum(row["structural"] and row["compositional"] for row in rows), len(rows)),
        "unique_of_structural": ratio(len(groups), len(sound)),
        "rows": rows,
    }


def ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def read_molecules(path: Path) -> list[Atoms]:
    if path.suffix == ".sdf":
        from rdkit import Chem

        supplier = Chem.SDMolSupplier(str(path), sanitize=False, removeHs=False)
        found = [molecule for molecule in supplier if molecule is not None]
        if len(found) != len(supplier):
            print(f"{path}: {len(supplier) - len(found)} unreadable entries left out", file=sys.stderr)
        return [([atom.GetSymbol() for atom in m.GetAtoms()], m.GetConformer().GetPositions()) for m in found]
    import ase.io

    return [(atoms.get_chemical_symbols(), atoms.positions) for atoms in ase.io.iread(path, index=":")]


def read_crystals(path: Path) -> list[Any]:
    import ase.io
    from pymatgen.core import Structure

    if path.is_dir() or path.suffix == ".cif":
        files = sorted(path.glob("*.cif")) if path.is_dir() else [path]
        return [Structure.from_file(file) for file in files]
    return [
        Structure(atoms.cell.array, atoms.get_chemical_symbols(), atoms.positions, coords_are_cartesian=True)
        for atoms in ase.io.iread(path, index=":")
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--molecules", type=Path, help=".sdf, .xyz or .extxyz")
    parser.add_argument("--crystals", type=Path, help=".extxyz, .cif, or a folder of .cif")
    parser.add_argument("--json", type=Path, help="write figures and the verdict on each structure")
    options = parser.parse_args()
    if options.molecules is None and options.crystals is None:
        parser.error("nothing to judge: give --molecules or --crystals")
    quiet()
    verdicts: dict[str, Any] = {}
    start = time.perf_counter()
    if options.molecules is not None:
        verdicts["molecules"] = judge_molecules(read_molecules(options.molecules))
    if options.crystals is not None:
        verdicts["crystals"] = judge_crystals(read_crystals(options.crystals))
    verdicts["seconds"] = round(time.perf_counter() - start, 2)
    verdicts["versions"] = {name: version(name) for name in ("openbabel-wheel", "rdkit", "pymatgen", "smact")}
    for part in ("molecules", "crystals"):
        for name, value in verdicts.get(part, {}).items():
            if name != "rows":
                print(f"{part:9}  {name:24} {value if name == 'count' else percent(value)}")
    for part, name in (("molecules", "atoms"), ("crystals", "formula")):
        if part in verdicts:
            common = Counter(row[name] for row in verdicts[part]["rows"]).most_common(5)
            print(f"{part:9}  most common {name}: {', '.join(f'{key} ({count})' for key, count in common)}")
    if options.json is not None:
        options.json.write_text(json.dumps(verdicts, indent=1))


def percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f} %"


def quiet() -> None:
    from openbabel import openbabel
    from rdkit import rdBase

    rdBase.DisableLog("rdApp.*")
    openbabel.obErrorLog.StopLogging()
    warnings.simplefilter("ignore")


if __name__ == "__main__":
    main()
