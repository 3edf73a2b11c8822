"""The checks of PoseBusters on generated molecules (its configuration "mol"), fast on all and with energies on some.

M. Buttenschoen, G. M. Morris and C. M. Deane, Chem. Sci. 15, 3130 (2024), as in the package `posebusters` 0.6.5:
the same names, thresholds and verdicts. `geometry_checks` is "mol_fast", written anew on RDKit and numpy;
`energy_check` runs the package's own energy ratio.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from adit.bonds import to_rdkit_batch
from adit.errors import BackendUnavailableError, InvalidInputError
from adit.eval.limits import Outcome, cores, limited, limited_in_parts
from adit.eval.pose_faults import faults
from adit.packing import as_system

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from rdkit import Chem

    from adit.packing import SystemLike

CHECKS = (
    "mol_pred_loaded",
    "sanitization",
    "inchi_convertible",
    "all_atoms_connected",
    "no_radicals",
    "bond_lengths",
    "bond_angles",
    "internal_steric_clash",
    "aromatic_ring_flatness",
    "non-aromatic_ring_non-flatness",
    "double_bond_flatness",
)
"""The columns of PoseBusters' table, "mol_fast"; "mol" has one more, the energy ratio."""

PASSED, FAILED, NOT_JUDGED = 1, 0, -1
NOT_JUDGED_REASON = "not_judged"

ENERGY_RATIO = 100.0
CONFORMERS = 50
"""PoseBusters' "mol": at most 100 times the mean energy of 50 relaxed conformers, by UFF."""

_MANY, _PART = 500, 100
_PART_SECONDS, _SECONDS = 60.0, 10.0


@dataclass(frozen=True, slots=True, eq=False)
class GeometryChecks:
    """The verdicts on B molecules.

    Attributes:
        verdicts: (B, 11) int8, a column for each of `CHECKS`: 1 passed, 0 failed, -1 not judged (RDKit
            cannot sanitise the molecule, or knows no bounds for it).
        reasons: for each molecule, the checks that it failed with what is wrong, such as
            {"bond_lengths": "C1-O4 1.94 A, not 1.19 to 1.25"}; atoms count from 0. Under "not_judged",
            why a molecule could not be judged at all.
    """

    verdicts: NDArray[np.int8]
    reasons: tuple[dict[str, str], ...]

    @property
    def passed(self) -> NDArray[np.bool_]:
        """(B,) bool: every check was judged and passed."""
        every: NDArray[np.bool_] = (self.verdicts == PASSED).all(1)
        return every

    @property
    def rates(self) -> dict[str, float]:
        """The share of all molecules that passed each check; not judged is not passed. NaN without molecules."""
        if not len(self.verdicts):
            return dict.fromkeys(CHECKS, float("nan"))
        return dict(zip(CHECKS, (self.verdicts == PASSED).mean(0).tolist(), strict=True))

    @property
    def rate(self) -> float:
        """The share of all molecules that passed every check; NaN without molecules."""
        return float(self.passed.mean()) if len(self.verdicts) else float("nan")


@dataclass(frozen=True, slots=True, eq=False)
class EnergyCheck:
    """The energy ratio of k molecules drawn at random.

    Attributes:
        indices: (k,) int64, which molecules, ascending.
        verdicts: (k,) int8: 1 passed, 0 failed, -1 not judged.
        ratios: (k,) float64, UFF energy over the mean of the relaxed conformers; NaN where not judged.
        reasons: k texts; "" where passed.
        timed_out: (k,) bool, not judged because the time was up.
        seconds: (k,) float64, wall time.
        limit: seconds allowed for each molecule.
        seed: of the draw.
    """

    indices: NDArray[np.int64]
    verdicts: NDArray[np.int8]
    ratios: NDArray[np.float64]
    reasons: tuple[str, ...]
    timed_out: NDArray[np.bool_]
    seconds: NDArray[np.float64]
    limit: float
    seed: int

    @property
    def judged(self) -> int:
        return int((self.verdicts != NOT_JUDGED).sum())

    @property
    def rate(self) -> float:
        """Passed among the judged; NaN if none was judged. Always report `judged` with it."""
        return float((self.verdicts == PASSED).sum() / self.judged) if self.judged else float("nan")


def geometry_checks(
    molecules: Sequence[SystemLike | None],
    *,
    workers: int | None = None,
    progress: Callable[[int], object] | None = None,
) -> GeometryChecks:
    """PoseBusters' fast checks of each molecule.

    - sanitization: RDKit finds no problem. inchi_convertible: InChI is written and read back.
      all_atoms_connected: one piece. no_radicals: no unpaired electron.
    - bond_lengths, bond_angles (as the distance of the outer atoms), internal_steric_clash (all other
      pairs, too near only): heavy atoms within 25, 25 and 30 % of the bounds that RDKit's distance
      geometry has for the topology.
    - aromatic_ring_flatness, double_bond_flatness: atoms at most 0.25 A from their common plane;
      non-aromatic_ring_non-flatness: some atom of a saturated six-ring at least 0.05 A. As in the
      package the largest signed distance counts, and the sign of a plane's normal is LAPACK's.

    Args:
        molecules: RDKit molecules are judged with their own bonds, others with those of `adit.bonds`;
            None stands for what could not be read or has no bonds, and fails to load.
        workers: processes; 0 for none. None: one for each core from 500 molecules on. In a process, a
            molecule on which RDKit hangs (beyond 10 s) or crashes is not judged; without, nothing helps.
        progress: called with the number of molecules that are done.

    Raises:
        InvalidInputError: an entry is not a molecule.
    """
    from rdkit import rdBase

    converted = as_rdkit(molecules)
    if workers is None:
        workers = cores() if len(converted) >= _MANY else 0
    verdicts = np.full((len(converted), len(CHECKS)), NOT_JUDGED, dtype=np.int8)
    reasons: list[dict[str, str]] = [{} for _ in converted]
    with rdBase.BlockLogs():
        for done, (place, found) in enumerate(_each(converted, workers), 1):
            reasons[place] = {name: reason for name, reason in found.items() if reason}
            for column, name in enumerate(CHECKS):
                if name in found:
                    verdicts[place, column] = FAILED if found[name] else PASSED
            if progress is not None:
                progress(done)
    return GeometryChecks(verdicts, tuple(reasons))


def energy_check(
    molecules: Sequence[SystemLike | None],
    sample: int = 100,
    *,
    seed: int = 0,
    limit: float = 10.0,
    workers: int | None = None,
    progress: Callable[[int], object] | None = None,
) -> EnergyCheck:
    """The energy ratio of a random sample by the package `posebusters`, each in a process that is killed in time.

    What takes longer than `limit`, has no UFF parameters or cannot be embedded is not judged: neither
    passed nor failed, and counted. A known weakness of the ratio: where the relaxed energy is almost
    zero (water), everything fails.

    Args:
        molecules: as for `geometry_checks`; None is never drawn.
        sample: how many are drawn, without repetition; all of them if there are no more.
        seed: of the draw.
        limit: seconds of wall time for each molecule.
        workers: processes; None for one for each core.
        progress: called with the number of molecules that are done.

    Raises:
        InvalidInputError: an entry is not a molecule; `sample` is negative or `limit` not positive.
        BackendUnavailableError: posebusters is not installed.
    """
    indices = drawn_places(molecules, sample, seed)
    check_posebusters()
    chosen = as_rdkit([molecules[index] for index in indices.tolist()])
    tasks = [pickled(molecule) for molecule in chosen if molecule is not None]
    outcomes: list[Outcome[tuple[float, str]] | None] = [None] * len(tasks)
    results = limited(energy_ratio, tasks, limit, prepare=check_posebusters, workers=workers)
    for finished, (place, outcome) in enumerate(results, 1):
        outcomes[place] = outcome
        if progress is not None:
            progress(finished)
    done = [outcome for outcome in outcomes if outcome is not None]
    judged = [outcome.value or (float("nan"), outcome.reason) for outcome in done]
    ratios = np.array([ratio for ratio, _ in judged], dtype=np.float64)
    verdicts = np.where(np.isfinite(ratios), np.where(ratios <= ENERGY_RATIO, PASSED, FAILED), NOT_JUDGED)
    return EnergyCheck(
        indices,
        verdicts.astype(np.int8),
        ratios,
        tuple(reason for _, reason in judged),
        np.array([outcome.timed_out for outcome in done], dtype=np.bool_),
        np.array([outcome.seconds for outcome in done], dtype=np.float64),
        limit,
        seed,
    )


def drawn_places(molecules: Sequence[SystemLike | None], sample: int | None, seed: int) -> NDArray[np.int64]:
    """(k,) int64, ascending: `sample` of the molecules that are not None, at random; all if there are no more.

    Raises:
        InvalidInputError: `sample` is negative.
    """
    if sample is not None and sample < 0:
        raise InvalidInputError(f"`sample`, the molecules to draw, must not be negative; got {sample}")
    there = np.array([index for index, entry in enumerate(molecules) if entry is not None], dtype=np.int64)
    return np.sort(np.random.default_rng(seed).permutation(there)[:sample])


def as_rdkit(molecules: Sequence[SystemLike | None]) -> list[Chem.Mol | None]:
    """RDKit molecules as they are, None as it is, and other molecules with the bonds of `adit.bonds`.

    Raises:
        InvalidInputError: an entry is not a molecule.
    """
    from rdkit import Chem

    found: list[Chem.Mol | None] = [entry if isinstance(entry, Chem.Mol) else None for entry in molecules]
    places = [k for k, entry in enumerate(molecules) if entry is not None and found[k] is None]
    converted = to_rdkit_batch([as_system(molecules[k]) for k in places], stereo=False)
    for place, molecule in zip(places, converted, strict=True):
        found[place] = molecule
    return found


def pickled(molecule: Chem.Mol) -> bytes:
    """For another process, in double precision; RDKit's own pickle has single."""
    from rdkit import Chem

    options = Chem.PropertyPickleOptions
    return bytes(molecule.ToBinary(int(options.AllProps | options.CoordsAsDouble)))


def unpickled(data: bytes) -> Chem.Mol:
    from rdkit import Chem

    read: Any = Chem.Mol  # its stub does not know bytes
    molecule: Chem.Mol = read(data)
    return molecule


def faults_of(molecule: bytes) -> dict[str, str]:
    """`faults` of a pickled molecule."""
    from rdkit import rdBase

    with rdBase.BlockLogs():
        return faults(unpickled(molecule))


def energy_ratio(molecule: bytes) -> tuple[float, str]:
    """PoseBusters' energy ratio of one pickled molecule, and why it failed or is NaN."""
    from posebusters.modules.energy_ratio import check_energy_ratio
    from rdkit import rdBase

    said: list[str] = []
    handler = _Listener(said)
    log = logging.getLogger("posebusters.modules.energy_ratio")
    log.addHandler(handler)
    try:
        with rdBase.BlockLogs():
            result = check_energy_ratio(unpickled(molecule), ENERGY_RATIO, CONFORMERS, num_threads=1)["results"]
    finally:
        log.removeHandler(handler)
    ratio = float(result["energy_ratio"])
    if np.isfinite(ratio):
        return ratio, "" if ratio <= ENERGY_RATIO else f"energy {ratio:.3g} times that of relaxed conformers"
    return ratio, said[-1] if said else "no energy"


def _each(molecules: list[Chem.Mol | None], workers: int) -> Iterator[tuple[int, dict[str, str]]]:
    """The place and the faults of each molecule; of None, that it is none."""
    there = []
    for place, molecule in enumerate(molecules):
        if molecule is None:
            yield place, {"mol_pred_loaded": "no molecule"}
        elif workers:
            there.append((place, pickled(molecule)))
        else:
            yield place, _faults_here(molecule)
    for index, outcome in limited_in_parts(
        faults_of, [data for _, data in there], _SECONDS, part=_PART, part_seconds=_PART_SECONDS, workers=workers
    ):
        yield there[index][0], outcome.value or {"mol_pred_loaded": "", NOT_JUDGED_REASON: outcome.reason}


def _faults_here(molecule: Chem.Mol) -> dict[str, str]:
    try:
        return faults(molecule)
    except RuntimeError as error:  # RDKit's invariants
        return {"mol_pred_loaded": "", NOT_JUDGED_REASON: f"RuntimeError: {' '.join(str(error).split())}"}


class _Listener(logging.Handler):
    def __init__(self, said: list[str]) -> None:
        super().__init__()
        self.said = said

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


def check_posebusters() -> None:
    try:
        import posebusters.modules.energy_ratio  # noqa: F401
    except ImportError as error:
        raise BackendUnavailableError(
            f"the energy check needs the package posebusters ({error}): `pip install adit[eval]`, or leave it out"
        ) from error
