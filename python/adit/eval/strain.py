"""Strain of generated molecules: how far down it is from their geometry to the nearest minimum of energy.

By MMFF94 (T. A. Halgren, J. Comput. Chem. 17, 490 (1996)) as RDKit has it, in milliseconds; by GFN2-xTB
(C. Bannwarth, S. Ehlert and S. Grimme, J. Chem. Theory Comput. 15, 1652 (2019)) through tblite, in seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from adit.errors import BackendUnavailableError, InvalidInputError
from adit.eval.limits import Outcome, cores, limited, limited_in_parts
from adit.eval.posebusters import as_rdkit, drawn_places, pickled, unpickled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from adit.packing import SystemLike

KCAL_PER_EV = 23.060547830619026
"""kcal/mol in an electron volt (CODATA 2018)."""

MMFF_ITERATIONS = 2000

_MANY = 500


@dataclass(frozen=True, slots=True, eq=False)
class Strain:
    """The strain of k molecules.

    Attributes:
        method: "MMFF94" or "GFN2-xTB".
        indices: (k,) int64, which of the molecules that were given, ascending.
        energies: (k,) float64, kcal/mol: of the geometry as it is, less that of the nearest minimum; NaN
            where there is none.
        rmsd: (k,) float64, Angstrom: between the two, all atoms, superposed; NaN as above.
        converged: (k,) bool: the relaxation reached its minimum; where it did not, energy and rmsd are as
            far as it came.
        reasons: k texts, why there is no energy; "" where there is.
    """

    method: str
    indices: NDArray[np.int64]
    energies: NDArray[np.float64]
    rmsd: NDArray[np.float64]
    converged: NDArray[np.bool_]
    reasons: tuple[str, ...]

    @property
    def judged(self) -> int:
        return int(np.isfinite(self.energies).sum())

    @property
    def median(self) -> float:
        """kcal/mol; NaN without any. The mean says little: one broken molecule can be at 1e6."""
        finite = self.energies[np.isfinite(self.energies)]
        return float(np.median(finite)) if len(finite) else float("nan")

    @property
    def median_rmsd(self) -> float:
        """Angstrom; NaN without any."""
        finite = self.rmsd[np.isfinite(self.rmsd)]
        return float(np.median(finite)) if len(finite) else float("nan")


def mmff_strain(
    molecules: Sequence[SystemLike | None],
    *,
    limit: float = 10.0,
    workers: int | None = None,
    progress: Callable[[int], object] | None = None,
) -> Strain:
    """Strain by MMFF94 of each molecule; at most 2,000 iterations of RDKit's BFGS, to its own tolerances.

    Forces between the pieces of a molecule in pieces are left out (RDKit's default).

    Args:
        molecules: RDKit molecules with their own bonds, others with those of `adit.bonds`; None has no strain.
        limit: seconds of wall time for a molecule, where there are processes.
        workers: processes; 0 for none. None: one for each core from 500 molecules on.
        progress: called with the number of molecules that are done.

    Raises:
        InvalidInputError: an entry is not a molecule, or `limit` is not positive.
    """
    there = [(index, found) for index, found in enumerate(as_rdkit(molecules)) if found is not None]
    if workers is None:
        workers = cores() if len(there) >= _MANY else 0
    tasks = [pickled(found) for _, found in there]
    results: Iterator[tuple[int, Outcome[_Result]]]
    if workers:
        results = limited_in_parts(relax_mmff, tasks, limit, workers=workers)
    else:
        results = ((place, Outcome(relax_mmff(task), "", False, 0.0)) for place, task in enumerate(tasks))
    return _gathered("MMFF94", [index for index, _ in there], results, progress)


def xtb_strain(
    molecules: Sequence[SystemLike | None],
    sample: int | None = 100,
    *,
    seed: int = 0,
    limit: float = 60.0,
    steps: int = 300,
    fmax: float = 0.01,
    workers: int | None = None,
    progress: Callable[[int], object] | None = None,
) -> Strain:
    """Strain by GFN2-xTB of a random sample, relaxed by ASE's BFGS; each in a process that is killed in time.

    An RDKit molecule has its formal charge, any other is neutral; an odd number of electrons makes a doublet.

    Args:
        molecules: None is never drawn.
        sample: how many are drawn, without repetition; None for all.
        seed: of the draw.
        limit: seconds of wall time for each molecule.
        steps: of the relaxation, at most.
        fmax: the largest force on an atom at the end, eV/Angstrom.
        workers: processes; None for one for each core.
        progress: called with the number of molecules that are done.

    Raises:
        InvalidInputError: an entry is not a molecule; `sample` is negative, or a limit not positive.
        BackendUnavailableError: tblite is not installed.
    """
    if steps < 1 or not fmax > 0:
        raise InvalidInputError(f"`steps` and `fmax` must be positive; got {steps} and {fmax}")
    check_tblite()
    indices = drawn_places(molecules, sample, seed).tolist()
    tasks = [(*_atoms(molecules[index]), fmax, steps) for index in indices]
    return _gathered(
        "GFN2-xTB", indices, limited(relax_xtb, tasks, limit, prepare=check_tblite, workers=workers), progress
    )


def superposed_rmsd(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """The least root mean square distance of (n, 3) and (n, 3), atom by atom, over all rotations and shifts.

    W. Kabsch, Acta Cryst. A32, 922 (1976); no reflections. In the unit of the positions; NaN without atoms.
    """
    if not len(first):
        return float("nan")
    a, b = first - first.mean(0), second - second.mean(0)
    u, _, v = np.linalg.svd(a.T @ b)
    hand = np.sign(np.linalg.det(u @ v))
    rotation = u @ np.diag([1.0, 1.0, hand]) @ v
    return float(np.sqrt(((a @ rotation - b) ** 2).sum(1).mean()))


@dataclass(frozen=True, slots=True)
class _Result:
    energy: float = float("nan")
    rmsd: float = float("nan")
    converged: bool = False
    reason: str = ""


def relax_mmff(molecule: bytes) -> _Result:
    """The strain of one pickled molecule by MMFF94."""
    from rdkit import Chem, rdBase
    from rdkit.Chem import rdForceFieldHelpers as force_fields
    from rdkit.Chem import rdMolDescriptors

    found: Any = unpickled(molecule)
    with rdBase.BlockLogs():
        if not found.GetNumAtoms() or not found.GetNumConformers():
            return _Result(reason="no atoms" if not found.GetNumAtoms() else "no positions")
        if Chem.SanitizeMol(found, catchErrors=True):
            return _Result(reason="RDKit cannot sanitise it")
        types = force_fields.MMFFGetMoleculeProperties(found, mmffVariant="MMFF94")
        if types is None:
            return _Result(reason=f"MMFF94 has no parameters for {rdMolDescriptors.CalcMolFormula(found)}")
        start = found.GetConformer().GetPositions()
        try:
            field = force_fields.MMFFGetMoleculeForceField(found, types)
            before = field.CalcEnergy()
            left = field.Minimize(maxIts=MMFF_ITERATIONS)
            after = field.CalcEnergy()
        except RuntimeError as error:  # RDKit's invariants
            return _Result(reason=f"RDKit: {' '.join(str(error).split())}")
    if not np.isfinite(before - after):
        return _Result(reason="atoms lie on top of each other")
    return _Result(before - after, superposed_rmsd(start, found.GetConformer().GetPositions()), left == 0)


def relax_xtb(task: tuple[NDArray[np.int64], NDArray[np.float64], int, float, int]) -> _Result:
    """The strain by GFN2-xTB of (numbers, positions, charge, fmax, steps)."""
    import ase
    from ase.optimize import BFGS
    from tblite.ase import TBLite

    numbers, positions, charge, fmax, steps = task
    atoms = ase.Atoms(numbers, positions)
    multiplicity = 1 + (int(numbers.sum()) - charge) % 2
    atoms.calc = TBLite(method="GFN2-xTB", charge=charge, multiplicity=multiplicity, verbosity=0)
    before = atoms.get_potential_energy()
    converged = BFGS(atoms, logfile=None).run(fmax=fmax, steps=steps)
    strain = KCAL_PER_EV * float(before - atoms.get_potential_energy())
    return _Result(strain, superposed_rmsd(positions, atoms.positions), bool(converged))


def _atoms(molecule: Any) -> tuple[NDArray[np.int64], NDArray[np.float64], int]:
    """Numbers, positions and charge."""
    from rdkit import Chem

    from adit.packing import as_system

    system = as_system(molecule)
    if system.is_periodic:
        raise InvalidInputError(f"`molecules` must be molecules; got a crystal: {system!r}. Select the molecules first")
    charge = Chem.GetFormalCharge(molecule) if isinstance(molecule, Chem.Mol) else 0
    return np.array(system.numbers), np.array(system.positions), charge


def _gathered(
    method: str,
    indices: list[int],
    results: Iterator[tuple[int, Outcome[_Result]]],
    progress: Callable[[int], object] | None,
) -> Strain:
    found = [_Result() for _ in indices]
    for done, (place, outcome) in enumerate(results, 1):
        found[place] = outcome.value or _Result(reason=outcome.reason)
        if progress is not None:
            progress(done)
    return Strain(
        method,
        np.array(indices, dtype=np.int64),
        np.array([result.energy for result in found], dtype=np.float64),
        np.array([result.rmsd for result in found], dtype=np.float64),
        np.array([result.converged for result in found], dtype=np.bool_),
        tuple(result.reason for result in found),
    )


def check_tblite() -> None:
    try:
        import tblite.ase  # noqa: F401
    except ImportError as error:
        raise BackendUnavailableError(
            f"GFN2-xTB needs the package tblite ({error}): `pip install adit[xtb]`, or leave it out"
        ) from error
