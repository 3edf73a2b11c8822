"""Validity, uniqueness and novelty of molecules, from coordinates alone."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from adit.bonds import BondFlag, infer_bonds_batch
from adit.eval.protocols import PROTOCOLS, Protocol, Verdicts, check_protocol, judge_packed
from adit.eval.workers import Advance, Workers
from adit.packing import Packed, Systems, pack_molecules

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["PROTOCOLS", "Protocol", "Verdicts", "connected", "judge", "novelty", "uniqueness", "validity"]


def judge(
    systems: Systems | Packed,
    protocol: Protocol = "adit-rust",
    *,
    workers: Workers | None = None,
    advance: Advance | None = None,
) -> Verdicts:
    """What a protocol says of each molecule: see `PROTOCOLS` and `Verdicts`.

    Args:
        systems: molecules.
        protocol: "adit", "edm" or "adit-rust".
        workers: processes that share the work; None for this one alone.
        advance: called with the number of molecules done since the last call.

    Raises:
        InvalidInputError: `protocol` is unknown, or a system is a crystal.
        BackendUnavailableError: protocol="adit" and Open Babel is not installed.
    """
    check_protocol(protocol)
    batch = pack_molecules(systems)
    return Verdicts.join((workers or Workers(1)).map(partial(judge_packed, protocol=protocol), batch, advance))


def validity(systems: Systems | Packed, protocol: Protocol = "adit-rust") -> list[str | None]:
    """Canonical SMILES without stereochemistry of each valid molecule, None of each invalid one.

    A molecule in several pieces can be valid; see `connected`. "adit" and "edm" accept unpaired
    electrons, "adit-rust" does not; see `judge`.

    Raises:
        InvalidInputError, BackendUnavailableError: as `judge`.
    """
    return judge(systems, protocol).smiles


def connected(systems: Systems | Packed) -> NDArray[np.bool_]:
    """(B,) bool: the molecule is in one piece, by the bonds of `adit.bonds`. False without atoms.

    Raises:
        InvalidInputError: a system is a crystal.
    """
    batch = pack_molecules(systems)
    flags = infer_bonds_batch(batch, 0).flags
    whole: NDArray[np.bool_] = (flags & BondFlag.FRAGMENTS == 0) & (np.diff(batch.offsets) > 0)
    return whole


def uniqueness(smiles: Sequence[str | None]) -> float:
    """Different SMILES among the valid ones; NaN if none is valid."""
    valid = [entry for entry in smiles if entry is not None]
    return len(set(valid)) / len(valid) if valid else float("nan")


def novelty(smiles: Sequence[str | None], reference: Collection[str]) -> float:
    """Share of the different valid SMILES that are not in `reference`; NaN if none is valid.

    `reference` must hold canonical SMILES without stereochemistry, best made by `validity` itself
    with the same protocol.
    """
    known = reference if isinstance(reference, set | frozenset) else set(reference)
    unique = {entry for entry in smiles if entry is not None}
    return len(unique - known) / len(unique) if unique else float("nan")
