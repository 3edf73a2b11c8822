"""One molecule or crystal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from adit.elements import SYMBOLS, hill_formula
from adit.errors import InvalidInputError

if TYPE_CHECKING:
    import ase
    import pymatgen.core
    from numpy.typing import ArrayLike, NDArray
    from rdkit import Chem

MAX_NUMBER = 100
_EMPTY: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True, eq=False)
class AtomicSystem:
    """A molecule (no cell) or a crystal (periodic in three directions), immutable.

    Structures of other libraries become one by `adit.convert.ase.from_ase`, `adit.convert.pymatgen.from_pymatgen` and
    `adit.convert.rdkit.from_rdkit`; functions of adit that take systems take them as they are. Back by `to_ase`,
    `to_pymatgen` and `to_rdkit`. Files are read by `adit.read`.

    Attributes:
        numbers: (n,) int64, atomic numbers from 1 to 100.
        positions: (n, 3) float64, Cartesian, Angstrom.
        cell: (3, 3) float64, Angstrom, row vectors; None for a molecule.
        info: properties and provenance (`id`, `smiles`, energies, ...), never used by the geometry.

    Raises:
        InvalidInputError: a shape is wrong, a number is not an element, a coordinate is not
            finite, or the cell has no volume.
    """

    numbers: NDArray[np.int64]
    positions: NDArray[np.float64]
    cell: NDArray[np.float64] | None = None
    info: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        numbers = _as_array("numbers", self.numbers, np.int64)
        positions = _as_array("positions", self.positions, np.float64)
        if positions.size == 0:
            positions = positions.reshape(0, 3)
        if numbers.ndim != 1:
            raise InvalidInputError(f"`numbers` must have shape (n,); got {numbers.shape}")
        if positions.shape != (len(numbers), 3):
            raise InvalidInputError(
                f"`positions` must have shape ({len(numbers)}, 3) in Angstrom, one row for each of "
                f"`numbers`; got {positions.shape}"
            )
        if len(numbers) and not (numbers.min() >= 1 and numbers.max() <= MAX_NUMBER):
            bad = numbers[(numbers < 1) | (numbers > MAX_NUMBER)][0]
            raise InvalidInputError(f"`numbers` must be atomic numbers 1 to {MAX_NUMBER}; got {bad}")
        if not np.isfinite(positions).all():
            atom = int(np.argwhere(~np.isfinite(positions))[0, 0])
            raise InvalidInputError(f"`positions` must be finite; atom {atom} is {positions[atom]}")
        object.__setattr__(self, "numbers", numbers)
        object.__setattr__(self, "positions", positions)
        if self.cell is not None:
            object.__setattr__(self, "cell", _check_cell(self.cell))
        object.__setattr__(self, "info", MappingProxyType(dict(self.info)))

    @classmethod
    def from_fractional(
        cls, numbers: ArrayLike, fractional: ArrayLike, cell: ArrayLike, info: Mapping[str, Any] = _EMPTY
    ) -> AtomicSystem:
        """A crystal from fractional coordinates (n, 3) and a cell (3, 3) of row vectors, Angstrom."""
        matrix = _check_cell(cell)
        frac = _as_array("fractional", fractional, np.float64)
        if frac.size == 0:
            frac = frac.reshape(0, 3)
        if frac.ndim != 2 or frac.shape[1] != 3:
            raise InvalidInputError(f"`fractional` must have shape (n, 3), one row for each atom; got {frac.shape}")
        return cls(np.asarray(numbers), frac @ matrix, matrix, info)

    def __len__(self) -> int:
        return len(self.numbers)

    def __eq__(self, other: object) -> bool:
        """Same atoms in the same order at the same places; `info` does not count."""
        if not isinstance(other, AtomicSystem) or (self.cell is None) != (other.cell is None):
            return NotImplemented if not isinstance(other, AtomicSystem) else False
        same_cell = self.cell is None or np.array_equal(self.cell, other.cell)  # type: ignore[arg-type]
        return (
            bool(same_cell)
            and np.array_equal(self.numbers, other.numbers)
            and np.array_equal(self.positions, other.positions)
        )

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.numbers, self.positions, self.cell, dict(self.info)))

    def __repr__(self) -> str:
        kind = "crystal" if self.is_periodic else "molecule"
        return f"<AtomicSystem {kind} {self.formula} ({len(self)} atoms)>"

    @property
    def is_periodic(self) -> bool:
        return self.cell is not None

    @property
    def symbols(self) -> list[str]:
        """Element symbols, one for each atom."""
        return [SYMBOLS[number] for number in self.numbers]

    @property
    def formula(self) -> str:
        """Formula in Hill order: carbon, hydrogen, then alphabetical; e.g. `C2H6O`, `NaCl`."""
        return hill_formula(Counter(self.symbols))

    @property
    def fractional(self) -> NDArray[np.float64]:
        """(n, 3) fractional coordinates, not wrapped.

        Raises:
            InvalidInputError: the system is a molecule.
        """
        if self.cell is None:
            raise InvalidInputError("a molecule has no fractional coordinates: `cell` is None")
        solution: NDArray[np.float64] = np.linalg.solve(self.cell.T, self.positions.T).T.astype(np.float64, copy=False)
        return solution

    @property
    def volume(self) -> float:
        """Cell volume in cubic Angstrom.

        Raises:
            InvalidInputError: the system is a molecule.
        """
        if self.cell is None:
            raise InvalidInputError("a molecule has no volume: `cell` is None")
        return float(abs(np.linalg.det(self.cell)))

    def to_ase(self) -> ase.Atoms:
        """As `ase.Atoms`; `info` is copied."""
        from adit.convert.ase import to_ase

        return to_ase(self)

    def to_pymatgen(self) -> pymatgen.core.Structure | pymatgen.core.Molecule:
        """As `pymatgen` Structure (crystal) or Molecule."""
        from adit.convert.pymatgen import to_pymatgen

        return to_pymatgen(self)

    def to_rdkit(self) -> Chem.Mol:
        """As an RDKit molecule with bonds, orders and a conformer (molecules only).

        Raises:
            InvalidInputError: the system is a crystal.
        """
        from adit.convert.rdkit import to_rdkit

        return to_rdkit(self)


def _as_array(name: str, value: ArrayLike, dtype: type) -> NDArray[Any]:
    try:
        raw = np.asarray(value)
        if dtype is np.int64 and raw.dtype.kind not in "iu" and not np.equal(np.mod(raw, 1), 0).all():
            raise InvalidInputError(f"`{name}` must be whole numbers; got {raw.dtype} values with fractions")
        array: NDArray[Any] = np.array(raw, dtype=dtype, copy=True, order="C")
    except (TypeError, ValueError, OverflowError) as error:
        if isinstance(error, InvalidInputError):
            raise
        raise InvalidInputError(f"`{name}` must be an array of numbers; got {value!r:.80}") from error
    array.flags.writeable = False
    return array


def _check_cell(value: ArrayLike) -> NDArray[np.float64]:
    cell = _as_array("cell", value, np.float64)
    if cell.shape != (3, 3):
        raise InvalidInputError(f"`cell` must have shape (3, 3) in Angstrom, row vectors; got {cell.shape}")
    if not np.isfinite(cell).all():
        raise InvalidInputError(f"`cell` must be finite; got {cell.tolist()}")
    volume, lengths = abs(np.linalg.det(cell)), np.linalg.norm(cell, axis=1)
    if volume < 1e-6:
        flat = volume <= 1e-6 * lengths.prod()
        wrong = "are (nearly) coplanar" if flat else f"span only {volume:.1e} cubic Angstrom"
        raise InvalidInputError(
            f"`cell` must have a volume; its row vectors {cell.tolist()} {wrong}. "
            "Give them in Angstrom; for a molecule pass cell=None"
        )
    return cell
