"""The statistics of a reference that samples are held against, kept for the next time."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from adit.data.prepare import cache_folder
from adit.eval.quantities import (
    ByType,
    CrystalStatistics,
    MoleculeStatistics,
    crystal_statistics,
    molecule_statistics,
)
from adit.eval.reference import WORTH_KEEPING, Reference, checksum, keep
from adit.packing import pack, take
from adit.validity import structural

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from adit.packing import Packed

_Arrays = Mapping[str, "NDArray[Any]"]


def known_molecules(reference: Reference) -> MoleculeStatistics:
    """Of the molecules of a reference that have coordinates; in the cache folder from 2,000 on."""
    batch = take(pack(reference.data), reference.molecules_3d)

    def make() -> dict[str, NDArray[Any]]:
        found = molecule_statistics(batch)
        parts = {"sizes": found.sizes, "elements": found.elements}
        return parts | _flat("lengths", found.lengths) | _flat("angles", found.angles)

    def use(arrays: _Arrays) -> MoleculeStatistics:
        lengths, angles = (_grouped(name, arrays) for name in ("lengths", "angles"))
        return MoleculeStatistics(arrays["sizes"], arrays["elements"], lengths, angles)

    return use(_kept(batch, "molecules", make))


def sound_crystals(reference: Reference) -> Packed:
    """The structurally valid crystals of a reference."""
    batch = take(pack(reference.data), reference.crystals)
    return take(batch, np.flatnonzero(structural(batch)))


def known_crystals(reference: Reference, symprec: float) -> CrystalStatistics:
    """Of the structurally valid crystals of a reference; space groups in the cache folder from 2,000 on."""
    batch = sound_crystals(reference)

    def make() -> dict[str, NDArray[Any]]:
        return {"spacegroups": crystal_statistics(batch, symprec=symprec).spacegroups}

    groups = _kept(batch, f"crystals {symprec}", make)["spacegroups"]
    return crystal_statistics(batch, symprec=symprec, groups=groups)


def _kept(batch: Packed, what: str, make: Callable[[], dict[str, NDArray[Any]]]) -> _Arrays:
    """What `make` gives, or gave before for the same systems. A damaged file is made again."""
    path = cache_folder("statistics") / f"{what.split()[0]}-{checksum(batch, what)}.npz"
    if (held := _read(path)) is not None:
        return held
    arrays = make()
    if len(batch.periodic) >= WORTH_KEEPING:
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)  # type: ignore[arg-type]
        keep(path, buffer.getvalue(), "the statistics of the reference")
    return arrays


def _read(path: Path) -> _Arrays | None:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
        return None


def _flat(name: str, groups: ByType) -> dict[str, NDArray[Any]]:
    return {
        f"{name}.types": np.array(list(groups), dtype=np.int64).reshape(-1, 3),
        f"{name}.counts": np.array([len(values) for values in groups.values()], dtype=np.int64),
        f"{name}.values": np.concatenate([*groups.values(), np.zeros(0)]),
    }


def _grouped(name: str, arrays: _Arrays) -> ByType:
    ends = np.cumsum(arrays[f"{name}.counts"])
    parts = np.split(arrays[f"{name}.values"], ends)[:-1]
    return {(a, b, c): part for (a, b, c), part in zip(arrays[f"{name}.types"].tolist(), parts, strict=True)}
