"""What is wrong with one molecule by PoseBusters' fast checks; see `adit.eval.posebusters`."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from rdkit import Chem

MAX_DISTANCE_ERROR = 0.25
"""Beyond the bounds of distance geometry, as a share of them."""
MAX_OVERLAP = 0.3
MAX_OUT_OF_PLANE, MIN_OUT_OF_PLANE = 0.25, 0.05
"""Angstrom."""

_BOUNDS = {"set15bounds": True, "scaleVDW": True, "doTriangleSmoothing": True, "useMacrocycle14config": False}
_TERMINAL = "[O,N;D1;$([O,N;D1]-[*]=[O,N;D1]),$([O,N;D1]=[*]-[O,N;D1])]~[*]"  # carboxylate, nitro, amidine
_DOUBLE_BOND = "[C;X3;^2](*)(*)=[C;X3;^2](*)(*)"
_SATURATED = ("~AAAAAA", "~CCA~ACC", "~CCC~CAC", "~CCCA~AC", "~CCAC~CC")
"""Six-rings: C carbon, A any of C, O, S, N; ~ where the bond before an atom may be of any order."""


def faults(molecule: Chem.Mol) -> dict[str, str]:
    """By each check that could be made, what is wrong: "" for nothing."""
    from rdkit import Chem

    problems = Chem.DetectChemistryProblems(molecule)
    clean = Chem.Mol(molecule)
    sane = not Chem.SanitizeMol(clean, catchErrors=True)
    pieces = len(Chem.GetMolFrags(molecule))
    atoms = list(clean.GetAtoms())
    radicals = [place for place, atom in enumerate(atoms) if atom.GetNumRadicalElectrons()]
    found = {
        "mol_pred_loaded": "",
        "sanitization": problems[0].Message() if problems else "",
        "inchi_convertible": _inchi_fault(clean) if sane else "not sanitised",
        "all_atoms_connected": f"{pieces} pieces" if pieces > 1 else "",
        "no_radicals": f"unpaired electrons at {_names(clean, radicals)}" if radicals else "",
    }
    # As there, after a first attempt that failed and left its marks, a second one may succeed.
    if (sane or not Chem.SanitizeMol(clean, catchErrors=True)) and clean.GetNumConformers():
        points = clean.GetConformer().GetPositions()
        if np.isfinite(points).all():
            found.update(_distance_faults(clean, points, np.array([atom.GetAtomicNum() != 1 for atom in atoms])))
            for name, (patterns, flat) in _planes().items():
                found[name] = _plane_fault(clean, points, patterns, flat)
    return found


def _inchi_fault(molecule: Chem.Mol) -> str:
    from rdkit.Chem import inchi

    read: Any = inchi.MolFromInchi
    write: Any = inchi.MolToInchi
    return "" if read(write(molecule)) is not None else "no InChI that can be read back"


def _distance_faults(molecule: Chem.Mol, points: NDArray[np.float64], heavy: NDArray[np.bool_]) -> dict[str, str]:
    """Bond lengths, angles and clashes of heavy atoms; {} where RDKit has no bounds."""
    from rdkit import Chem
    from rdkit.Chem.rdDistGeom import GetMoleculeBoundsMatrix

    names = ("bond_lengths", "bond_angles", "internal_steric_clash")
    if len(points) == 1:
        return dict.fromkeys(names, "")
    try:
        bounds = GetMoleculeBoundsMatrix(molecule, **_BOUNDS)
    except (RuntimeError, ValueError):  # bounds that contradict each other; no atoms
        return {}
    upper, lower = bounds, bounds.T.copy()  # of pairs of atoms in ascending order
    _symmetrize(molecule, lower, upper)
    pairs = np.triu(heavy[:, None] & heavy, 1)
    adjacent = Chem.GetAdjacencyMatrix(molecule)
    bonded = (adjacent > 0) & pairs
    angle = (adjacent @ adjacent > 0) & pairs & ~bonded
    with np.errstate(over="ignore"):
        distances = np.linalg.norm(points[:, None] - points[None], axis=-1)
    found = {}
    for name, where in zip(names, (bonded, angle, pairs & ~bonded & ~angle), strict=True):
        first, second = np.nonzero(where)
        found[name] = _bound_fault(name, molecule, (first, second), distances[where], lower[where], upper[where])
    return found


def _bound_fault(
    name: str,
    molecule: Chem.Mol,
    pairs: tuple[NDArray[np.int64], NDArray[np.int64]],
    distance: NDArray[np.float64],
    lower: NDArray[np.float64],
    upper: NDArray[np.float64],
) -> str:
    """The worst of some distances, if it is out of bounds by too much."""
    if not len(distance):
        return ""
    with np.errstate(divide="ignore", invalid="ignore"):
        short, long = (distance - lower) / lower, (distance - upper) / upper
    errors = np.where(distance < lower, -short, np.where(distance > upper, long, 0.0))
    limit = MAX_DISTANCE_ERROR
    if name == "internal_steric_clash":
        errors, limit = np.where(distance < lower, -short, 0.0), MAX_OVERLAP
    worst = int(np.argmax(errors))
    if not errors[worst] > limit:
        return ""
    atoms = _names(molecule, [int(pairs[0][worst]), int(pairs[1][worst])])
    wanted = f"not {lower[worst]:.2f} to {upper[worst]:.2f}"
    if name == "internal_steric_clash":
        wanted = f"not at least {lower[worst]:.2f}"
    more = int((errors > limit).sum()) - 1
    return f"{atoms} {distance[worst]:.2f} A, {wanted}" + (f"; {more} more" if more else "")


def _symmetrize(molecule: Chem.Mol, lower: NDArray[np.float64], upper: NDArray[np.float64]) -> None:
    """Widens the bounds of conjugated terminal bonds of the same elements to those of all of them, in place."""
    groups: dict[tuple[str, ...], set[tuple[int, int]]] = {}
    for match in molecule.GetSubstructMatches(_query(_TERMINAL)):
        pair = (min(match), max(match))
        elements = tuple(sorted(molecule.GetAtomWithIdx(place).GetSymbol() for place in pair))
        groups.setdefault(elements, set()).add(pair)
    for held in groups.values():
        where = tuple(np.array(sorted(held)).T)
        lower[where], upper[where] = lower[where].min(), upper[where].max()


def _plane_fault(molecule: Chem.Mol, points: NDArray[np.float64], patterns: tuple[str, ...], flat: bool) -> str:
    """The first group of atoms that should be flat and is not, or should not be and is."""
    for pattern in patterns:
        for match in molecule.GetSubstructMatches(_query(pattern)):
            height = _height(points[list(match)])
            if flat and not height <= MAX_OUT_OF_PLANE:
                return f"{_names(molecule, match)} {height:.2f} A out of plane"
            if not flat and not height >= MIN_OUT_OF_PLANE:
                return f"{_names(molecule, match)} flat to {height:.3f} A"
    return ""


def _height(points: NDArray[np.float64]) -> float:
    """The largest distance on one side of the best plane, Angstrom; infinite where the numbers overflow."""
    with np.errstate(over="ignore", invalid="ignore"):
        centred = points - points.mean(axis=0)
        if not np.isfinite((centred**2).sum()):
            return float("inf")
    return float((centred @ np.linalg.svd(centred)[2][-1]).max())


@cache
def _planes() -> dict[str, tuple[tuple[str, ...], bool]]:
    """SMARTS patterns by check, and whether they should be flat."""
    aromatic = tuple(f"[ar{size}^2]1{f'[ar{size}^2]' * (size - 2)}[ar{size}^2]1" for size in (5, 6))
    return {
        "aromatic_ring_flatness": (aromatic, True),
        "non-aromatic_ring_non-flatness": (tuple(map(_ring, _SATURATED)), False),
        "double_bond_flatness": ((_DOUBLE_BOND,), True),
    }


def _ring(short: str) -> str:
    atoms = {"A": "[C,O,S,N;R1]", "C": "[C;R1]", "~": "~"}
    first, rest = atoms[short[1]], "".join(atoms[letter] for letter in short[2:])
    return f"{first}~1{rest}1"


@cache
def _query(smarts: str) -> Any:
    from rdkit import Chem

    return Chem.MolFromSmarts(smarts)


def _names(molecule: Chem.Mol, places: Iterable[int]) -> str:
    return "-".join(f"{molecule.GetAtomWithIdx(place).GetSymbol()}{place}" for place in places)
