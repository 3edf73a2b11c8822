"""Machine-learned potentials by name: CHGNet in batches, any ASE calculator one crystal at a time."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import io
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from adit.errors import BackendUnavailableError, InvalidInputError
from adit.eval.energy.fire import CLOSEST, Evaluation, Potential, overlap
from adit.neighbors import neighbor_list

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from adit.packing import Packed


class _Known(NamedTuple):
    target: str
    package: str
    options: dict[str, Any]


KNOWN = {
    "sevennet": _Known("sevenn.calculator:SevenNetCalculator", "sevenn", {"model": "7net-0"}),
    "mace": _Known("mace.calculators:mace_mp", "mace-torch", {"model": "small", "default_dtype": "float64"}),
}
"""ASE calculators by short names. mace fetches its weights when it is first used."""
CHGNET = {"chgnet": "0.3.0", "chgnet-r2scan": "r2scan"}
_FAILURES = (ArithmeticError, ValueError, RuntimeError, LookupError, TypeError, AttributeError, AssertionError)
"""What a stranger's calculator may raise over a crystal that it cannot do."""


def potential(name: str, device: str = "cpu") -> Potential:
    """A potential by name.

    Args:
        name: "chgnet", "chgnet-r2scan", "sevennet", "mace"; or "module:Class" of an ASE calculator that needs no
            arguments and gives energy, forces and stress; or "module:function" of what makes one.
        device: for CHGNet, as in torch.

    Raises:
        InvalidInputError: the name is unknown, or names no ASE calculator.
        BackendUnavailableError: its package is not installed, or it cannot be set up.
    """
    if name in CHGNET:
        from adit.eval.energy.chgnet import Chgnet

        return Chgnet(CHGNET[name], device)
    if name in KNOWN:
        return _load(name, *KNOWN[name])
    module, colon, attribute = name.partition(":")
    if not (module and colon and attribute):
        raise InvalidInputError(
            f"unknown calculator {name!r}; known: {', '.join([*CHGNET, *KNOWN])}, or an ASE calculator as module:Class"
        )
    return _load(name, name, module.split(".")[0], {})


class AsePotential:
    """An ASE calculator behind the interface of `adit.eval.energy.fire.Potential`.

    Args:
        calculator: gives energy, forces and stress of periodic `ase.Atoms`.
        name: to call it.
        version: of its package.
    """

    batch_atoms = 1

    def __init__(self, calculator: Any, name: str, version: str) -> None:
        self.calculator, self.name, self.version = calculator, name, version

    def refuses(self, numbers: NDArray[np.int64]) -> str:
        """Always empty: ASE calculators do not say beforehand which elements they know."""
        return ""

    def evaluate(self, crystals: Packed, *, forces: bool = True, threads: int | None = None) -> Evaluation:
        """One crystal after the other; what the calculator raises over one becomes its problem."""
        count = len(crystals.offsets) - 1
        result = Evaluation(
            np.full(count, np.nan), np.zeros((len(crystals.numbers), 3)), np.zeros((count, 3, 3)), [""] * count
        )
        for k in range(count):
            atoms = slice(crystals.offsets[k], crystals.offsets[k + 1])
            result.problems[k] = self._evaluate_one(
                crystals.numbers[atoms], crystals.positions[atoms], crystals.cells[k], k, atoms, result, forces
            )
        return result

    def _evaluate_one(
        self,
        numbers: NDArray[np.uint8],
        positions: NDArray[np.float64],
        cell: NDArray[np.float64],
        k: int,
        rows: slice,
        result: Evaluation,
        forces: bool,
    ) -> str:
        import ase

        if problem := overlap(neighbor_list("d", positions, cell, True, CLOSEST, half=True).min(initial=np.inf)):
            return problem
        atoms = ase.Atoms(numbers, positions, cell=cell, pbc=True, calculator=self.calculator)
        try:
            result.energies[k] = atoms.get_potential_energy()
            if forces:
                result.forces[rows] = atoms.get_forces()
                result.virials[k] = atoms.get_stress(voigt=False) * atoms.get_volume()
        except _FAILURES as error:
            return f"{self.name} failed: {type(error).__name__}: {error}"
        return ""


def _load(name: str, target: str, package: str, options: dict[str, Any]) -> AsePotential:
    module, _, attribute = target.partition(":")
    try:
        make = getattr(importlib.import_module(module), attribute)
    except ImportError as error:
        raise BackendUnavailableError(
            f"the calculator {name!r} needs the package {package} ({error}): pip install {package}"
        ) from error
    except AttributeError as error:
        raise InvalidInputError(f"calculator {name!r}: the module {module} has no {attribute!r}") from error
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            made = make(**options)
    except (*_FAILURES, OSError) as error:
        raise BackendUnavailableError(f"the calculator {name!r} cannot be set up: {error}") from error
    if not callable(getattr(made, "get_property", None)):
        raise InvalidInputError(f"{name!r} is no ASE calculator: it makes a {type(made).__name__}")
    return AsePotential(made, name, _version(package))


def _version(package: str) -> str:
    try:
        return f"{package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        return f"{package}, version unknown"
