"""Systems as tensors: groups of systems of one size, so that nothing is ever padded."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from adit import _rust
from adit.errors import InvalidInputError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class SystemBatch:
    """B systems of N atoms each. Molecules and crystals of the same size share a batch.

    Systems of different sizes travel as several batches (`adit.data.sampler` groups them), so there
    is no padding and no mask anywhere in the model.

    Attributes:
        numbers: (B, N) int64, atomic numbers.
        cartesian: (B, N, 3) float32, Angstrom; a molecule is centred, a crystal is all zero.
        fractional: (B, N, 3) float32 in [0, 1); a molecule is all zero.
        cells: (B, 3, 3) float32, Angstrom, row vectors; a molecule has the identity.
        lattice: (B, 6) float32, see `lattice_parameters`; a molecule is all zero.
        periodic: (B,) bool, True for crystals.
    """

    numbers: Tensor
    cartesian: Tensor
    fractional: Tensor
    cells: Tensor
    lattice: Tensor
    periodic: Tensor

    @classmethod
    def from_arrays(
        cls,
        numbers: NDArray[Any],
        positions: NDArray[Any],
        cells: NDArray[Any],
        periodic: NDArray[np.bool_],
    ) -> SystemBatch:
        """From (B, N) numbers, (B, N, 3) Cartesian positions in Angstrom, (B, 3, 3) cells, (B,) flags."""
        periodic_t = torch.from_numpy(np.array(periodic, dtype=np.bool_))
        positions_t = torch.from_numpy(np.array(positions, dtype=np.float32))
        is_crystal = periodic_t[:, None, None]
        cells_t = torch.from_numpy(np.array(cells, dtype=np.float32))
        cells_t = torch.where(is_crystal, cells_t, torch.eye(3))
        fractional = torch.linalg.solve(cells_t, positions_t, left=False)
        lattice = lattice_parameters(cells_t, positions_t.shape[1])
        return cls(
            torch.from_numpy(np.array(numbers, dtype=np.int64)),
            torch.where(is_crystal, 0.0, positions_t - positions_t.mean(1, keepdim=True)),
            torch.where(is_crystal, wrap(fractional), 0.0),
            cells_t,
            torch.where(periodic_t[:, None], lattice, 0.0),
            periodic_t,
        )

    @property
    def n_systems(self) -> int:
        return self.numbers.shape[0]

    @property
    def n_atoms(self) -> int:
        """Atoms in each system."""
        return self.numbers.shape[1]

    @property
    def sizes(self) -> Tensor:
        """(B,) float32, atoms in each system."""
        return torch.full((self.n_systems,), float(self.n_atoms), device=self.periodic.device)

    def to(self, device: torch.device | str) -> SystemBatch:
        """The same batch on another device."""
        return replace(self, **{f.name: getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)})


class Store(Protocol):
    """N systems of T atoms one after another, as `adit.data.packed.PackedDataset` and `adit.packing.Packed` have."""

    @property
    def numbers(self) -> NDArray[np.uint8]: ...
    @property
    def positions(self) -> NDArray[Any]: ...
    @property
    def cells(self) -> NDArray[Any]: ...
    @property
    def offsets(self) -> NDArray[np.int64]: ...
    @property
    def periodic(self) -> NDArray[np.bool_]: ...


def gather(data: Store, indices: NDArray[np.int64]) -> SystemBatch:
    """The systems `indices` (B,), all of one size, as a batch; the copy is made in Rust.

    Raises:
        InvalidInputError: an index is out of range (negative ones too), or the systems differ in size.
    """
    flat_numbers, flat_positions, cuts = _rust.gather(data.offsets, indices, data.numbers, data.positions)
    size = len(flat_numbers) // max(len(indices), 1)
    sizes = np.unique(np.diff(cuts))
    if len(sizes) > 1:
        raise InvalidInputError(
            f"`indices` must be of systems of one size, since nothing is padded; got {', '.join(map(str, sizes))[:80]} "
            "atoms. Group them by size, as `adit.data.sampler` does"
        )
    return SystemBatch.from_arrays(
        flat_numbers.reshape(len(indices), size),
        flat_positions.reshape(len(indices), size, 3),
        data.cells[indices],
        data.periodic[indices],
    )


def wrap(fractional: Tensor) -> Tensor:
    """Fractional coordinates moved into [0, 1). The remainder makes 0 of the 1 that -1e-9 is rounded to."""
    return (fractional - fractional.floor()).remainder(1.0)


def to_fractional(shift: Tensor, cells: Tensor) -> Tensor:
    """Cartesian vectors (B, N, 3) in cells (B, 3, 3): fractional ones, by the reciprocal vectors b x c / V, ...

    A general solver would be slower on a GPU, and cannot be captured in a CUDA graph.
    """
    a, b, c = cells.unbind(-2)
    reciprocal = torch.stack([torch.linalg.cross(b, c), torch.linalg.cross(c, a), torch.linalg.cross(a, b)], -1)
    volume = (a * reciprocal[..., 0]).sum(-1)
    return shift @ (reciprocal / volume[..., None, None])


def lattice_parameters(cells: Tensor, n_atoms: int) -> Tensor:
    """Cells (B, 3, 3) to (B, 6): lengths a, b, c over N^(1/3) in Angstrom, angles alpha, beta, gamma in radians.

    The scaling by the number of atoms makes the lengths of small and large cells alike (Xie et al.,
    CDVAE, arXiv 2110.06197, appendix B).
    """
    lengths = cells.norm(dim=-1)
    a, b, c = (cells / lengths[..., None]).unbind(-2)
    cosines = torch.stack([(b * c).sum(-1), (a * c).sum(-1), (a * b).sum(-1)], -1)
    return torch.cat([lengths / n_atoms ** (1 / 3), torch.arccos(cosines.clamp(-1, 1))], -1)


def lattice_cells(lattice: Tensor, n_atoms: int) -> Tensor:
    """The inverse of `lattice_parameters`: (B, 6) to right-handed cells (B, 3, 3), a along x, b in the xy plane.

    Angles that no cell can have give the nearest flat cell, with a volume close to zero.
    """
    a, b, c = (lattice[..., :3] * n_atoms ** (1 / 3)).unbind(-1)
    cos_alpha, cos_beta, cos_gamma = lattice[..., 3:].cos().unbind(-1)
    sin_gamma = (1 - cos_gamma**2).clamp(min=1e-6).sqrt()
    c_y = (cos_alpha - cos_beta * cos_gamma) / sin_gamma
    c_z = (1 - cos_beta**2 - c_y**2).clamp(min=1e-6).sqrt()
    zero = torch.zeros_like(a)
    rows = [
        torch.stack([a, zero, zero], -1),
        torch.stack([b * cos_gamma, b * sin_gamma, zero], -1),
        torch.stack([c * cos_beta, c * c_y, c * c_z], -1),
    ]
    return torch.stack(rows, -2)
