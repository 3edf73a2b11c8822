"""How alike a measured X-ray powder pattern is to that of each crystal: which of many candidates was in the tube?

Patterns of crystals are pymatgen's (kinematic intensities, Lorentz and polarisation factor, no thermal motion). Two
patterns f and g are compared by the weighted cross-correlation of de Gelder, Wehrens and Hageman (J. Comput. Chem. 22,
273 (2001)): the sum of w(r) f(x) g(x + r) over x and r with a triangle w, scaled to 1 for equal patterns. So a line
that is a little aside, in a cell a little too large, still counts, the less the further it is away.
"""

from __future__ import annotations

import functools
import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from adit.errors import InvalidInputError, UnreadableFileError
from adit.eval.results import NAN, Kind, Metric
from adit.eval.stages import Findings, Quantile, Samples
from adit.packing import Packed, Systems, cut, pack, pack_crystals
from adit.system import AtomicSystem

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from adit.eval.workers import Advance

POWDER = "powder pattern"
STEP = 0.02
"""Degrees between the points at which patterns are compared."""
REACH = 1.5
"""Degrees: lines that are so far apart, or further, have nothing in common."""
BACKGROUND = 4.0
"""Degrees: what is wider is background."""
FEWEST = 50
"""Points that a pattern must have."""
MOST = 100_000
"""Points of the reciprocal lattice of a crystal, at most: so many, of about 30,000 A^3, take seconds."""
DEFINITION = (
    "Weighted cross-correlation of the measured pattern, less its background, with that of each crystal by pymatgen, 1 "
    f"if they are the same; lines {REACH:g} degrees apart have nothing in common (de Gelder 2001)."
)


@dataclass(frozen=True, slots=True, eq=False)
class Pattern:
    """A measured powder pattern.

    Args:
        angles: (K,) scattering angles 2 theta in degrees, increasing, within 0 to 180.
        intensities: (K,) in any unit, the background included.
        wavelength: of the X-rays in Angstrom, or a name that pymatgen knows, such as "CuKa" (the mean of the doublet)
            or "MoKa1".

    Raises:
        InvalidInputError: these are no pattern, or the wavelength is unknown.
    """

    angles: NDArray[np.float64]
    intensities: NDArray[np.float64]
    wavelength: float

    def __init__(self, angles: ArrayLike, intensities: ArrayLike, wavelength: float | str = "CuKa") -> None:
        x, y = np.asarray(angles, dtype=np.float64), np.asarray(intensities, dtype=np.float64)
        if x.ndim != 1 or x.shape != y.shape or len(x) < FEWEST:
            raise InvalidInputError(
                f"a powder pattern must have as many intensities as angles, {FEWEST} at least; "
                f"got shapes {x.shape} and {y.shape}"
            )
        if not (np.isfinite(x).all() and np.isfinite(y).all()):
            raise InvalidInputError("a powder pattern holds NaN or infinite numbers; leave these points out")
        if not (np.diff(x) > 0).all() or x[0] < 0 or x[-1] > 180:
            raise InvalidInputError(
                f"the angles of a powder pattern (2 theta, degrees) must increase, from 0 to at most 180; "
                f"got {x[0]:g} to {x[-1]:g}"
            )
        object.__setattr__(self, "angles", x)
        object.__setattr__(self, "intensities", y)
        object.__setattr__(self, "wavelength", wavelength_of(wavelength))
        if not self.lines().any():
            raise InvalidInputError("a powder pattern must have lines; these intensities are background alone")

    @property
    def grid(self) -> NDArray[np.float64]:
        """(G,) the angles at which patterns are compared."""
        return np.arange(self.angles[0], self.angles[-1] + STEP / 2, STEP)

    def lines(self) -> NDArray[np.float64]:
        """(G,) intensities at `grid` without their background: what is left of the pattern after an opening by
        `BACKGROUND` (a top hat, as in image processing)."""
        from scipy.ndimage import grey_opening, uniform_filter1d

        values = np.interp(self.grid, self.angles, self.intensities)
        smooth = uniform_filter1d(values, round(0.1 / STEP))
        width = round(BACKGROUND / STEP)
        background: NDArray[np.float64] = uniform_filter1d(grey_opening(smooth, width), width)
        return np.maximum(values - background, 0)


def wavelength_of(given: float | str) -> float:
    """In Angstrom, of a number or a name.

    Raises:
        InvalidInputError: it is neither.
    """
    from pymatgen.analysis.diffraction.xrd import WAVELENGTHS

    if isinstance(given, str):
        if given in WAVELENGTHS:
            return float(WAVELENGTHS[given])
        try:
            given = float(given)
        except ValueError:
            raise InvalidInputError(
                f"unknown wavelength {given!r}: expected Angstrom, or one of {', '.join(WAVELENGTHS)}"
            ) from None
    if not 0.1 <= given <= 10:
        raise InvalidInputError(f"a wavelength must be between 0.1 and 10 Angstrom; got {given:g}")
    return float(given)


def read_pattern(path: str | os.PathLike[str], wavelength: float | str = "CuKa") -> Pattern:
    """A pattern from a text file: angle and intensity in the first two columns, divided by blanks, commas, semicolons
    or tabs, with any lines of words before or between (.xy, .xye, .csv, .txt).

    Raises:
        UnreadableFileError: the file is not there, is not text, or holds no pattern.
        InvalidInputError: the wavelength is unknown.
    """
    wavelength = wavelength_of(wavelength)
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not text"
        raise UnreadableFileError(
            f"{path}: cannot be read: {why}. Export the pattern as text, two columns: angle and intensity"
        ) from error
    rows = [pair for line in text.splitlines() if (pair := _numbers(line)) is not None]
    angles, intensities = np.array(rows, dtype=np.float64).reshape(-1, 2).T
    try:
        return Pattern(angles, intensities, wavelength)
    except InvalidInputError as error:
        raise UnreadableFileError(f"{path}: {error}") from error


def _numbers(line: str) -> tuple[float, float] | None:
    words = re.split(r"[\s,;]+", line.strip())
    try:
        return float(words[0]), float(words[1])
    except (ValueError, IndexError):
        return None


def similarities(pattern: Pattern, crystals: Systems | Packed) -> NDArray[np.float64]:
    """(B,) how alike the pattern of each crystal is to a measured one: 1 the same, 0 no line in common.

    NaN for a crystal that has no pattern: one without lines in the range that was measured, or with an element whose
    scattering is not tabulated, or with a cell so large that it has over `MOST` lines.

    Raises:
        InvalidInputError: one of them is a molecule.
    """
    from scipy.ndimage import convolve1d

    packed = pack_crystals(crystals)
    reach = round(REACH / STEP)
    triangle = 1 - np.abs(np.arange(1 - reach, reach)) / reach
    measured = pattern.lines()
    near = convolve1d(measured, triangle, mode="constant")
    found = np.full(len(packed.periodic), np.nan)
    for k, one in enumerate(cut(packed, 1)):
        made = _calculated(pattern, AtomicSystem(one.numbers.astype(np.int64), one.positions, one.cells[0]))
        if made is not None:
            own = made @ convolve1d(made, triangle, mode="constant")
            found[k] = made @ near / np.sqrt(own * (measured @ near))
    return found


def _calculated(pattern: Pattern, crystal: AtomicSystem) -> NDArray[np.float64] | None:
    """(G,) the lines of a crystal at `pattern.grid`, each at the nearest point; None without any."""
    from pymatgen.analysis.diffraction.xrd import XRDCalculator

    grid = pattern.grid
    sphere = 4 / 3 * np.pi * (2 * np.sin(np.radians(grid[-1] / 2)) / pattern.wavelength) ** 3
    if crystal.volume * sphere > MOST:
        return None
    try:
        found = XRDCalculator(pattern.wavelength).get_pattern(
            crystal.to_pymatgen(), scaled=False, two_theta_range=(grid[0], grid[-1])
        )
    except ValueError:  # an element without scattering parameters
        return None
    places = np.rint((np.asarray(found.x) - grid[0]) / STEP).astype(np.int64)
    lines: NDArray[np.float64] = np.bincount(places, weights=found.y, minlength=len(grid)).astype(np.float64)
    return lines if lines.any() else None


@dataclass(slots=True)
class PowderStage:
    """How alike the pattern of each crystal is to a measured one.

    Attributes:
        ranked: the crystals that have a pattern, the likeliest first, with `powder_similarity` in `info`.
    """

    pattern: Pattern
    kind: Kind = "crystals"
    title: str = "crystals, powder patterns"
    ranked: list[AtomicSystem] = field(default_factory=list, init=False)

    def steps(self, samples: Samples) -> int:
        return len(samples.systems)

    def __call__(self, samples: Samples, advance: Advance) -> Findings:
        work = functools.partial(similarities, self.pattern)
        found = np.concatenate([*samples.workers.map(work, pack(samples.systems), advance), np.empty(0)])
        order = np.argsort(-found)[: np.isfinite(found).sum()].tolist()
        self.ranked = [
            replace(samples.systems[k], info={**samples.systems[k].info, "powder_similarity": float(found[k])})
            for k in order
        ]
        named = "; ".join(f"entry {samples.indices[k]} {found[k]:.3f}" for k in order[:3]) or "none has a pattern"
        best = float(found[order[0]]) if order else NAN
        return Findings(
            figures=[
                Metric(kind=self.kind, protocol=POWDER, name="most alike", value=best, of=len(order), unit=""),
                Quantile(name="median", values=found, protocol=POWDER),
            ],
            columns={"powder_similarity": [None if np.isnan(value) else float(value) for value in found]},
            protocols={POWDER: f"{DEFINITION} The likeliest: {named}."},
        )
