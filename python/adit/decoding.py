"""Latents of packed systems to systems; and crystals' clean latents into a cell that is known.

Shape suffixes: B systems, T atoms of packed systems, L latent dimensions.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from adit.batch import SystemBatch, lattice_parameters
from adit.blocks import Group, Run
from adit.models.vae import VAE, Decoded
from adit.ops.packing import Packing
from adit.system import AtomicSystem

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Decoding:
    """What the decoder makes of the latents of groups of systems that are packed one after another.

    Args:
        model: autoencoder.
        run: says of which kind all are, and in which cells if these are known.
        groups: the systems.
        packing: of all of them.
        counts_BE: the composition that each was told, or None. Crystals get it: elements that are exchanged leave a
            crystal that can be one, while a molecule with an atom too many would only be forced into a broken one.
    """

    def __init__(self, model: VAE, run: Run, groups: list[Group], packing: Packing, counts_BE: Tensor | None) -> None:
        self.model, self.run, self.groups, self.packing = model, run, groups, packing
        self.periodic_B = torch.full((packing.systems,), run.system == "crystal", device=packing.offsets.device)
        self.told: list[Tensor | None] = [None] * len(groups)
        if run.system == "crystal" and counts_BE is not None:
            self.told = list(torch.split(counts_BE, [len(group.indices) for group in groups]))
        self.misfits: list[list[float]] = []

    def systems(self, latents_TL: Tensor) -> list[list[AtomicSystem]]:
        """The systems of each group; in known cells, if there are, with `cell_misfit` in their `info`."""
        made = []
        for group, told, decoded in zip(self.groups, self.told, self._read(latents_TL), strict=True):
            made.append(decoded.to_systems(self.periodic_B[: len(group.indices)], told, self._cells(group)))
        if not self.misfits:
            return made
        return [
            [replace(system, info={"cell_misfit": misfit}) for system, misfit in zip(systems, misfits, strict=True)]
            for systems, misfits in zip(made, self.misfits, strict=True)
        ]

    def in_known_cells(self, x_1TL: Tensor) -> Tensor:
        """Clean latents (1, T, L), moved as those of the same atoms move from the cell that is read to the known one.

        So nothing moves where the two are the same, whatever the autoencoder loses. How far apart they are is kept for
        `systems`: the root mean square of relative differences of lengths and of differences of angles in radians.
        """
        moved, self.misfits = [], []
        parts = torch.split(x_1TL[0], [group.atoms for group in self.groups])
        for group, told, decoded, x in zip(self.groups, self.told, self._read(x_1TL[0]), parts, strict=True):
            cells = torch.from_numpy(self._cells(group)).to(x_1TL)
            known_B6 = lattice_parameters(cells, group.size)
            fractional = decoded.fractional
            read = SystemBatch(
                numbers=torch.from_numpy(decoded.numbers(told).astype(np.int64)).to(cells.device),
                cartesian=torch.zeros_like(fractional),
                fractional=fractional,
                cells=cells,
                lattice=decoded.lattice,
                periodic=self.periodic_B[: len(group.indices)],
            )
            change = self.model.encode(replace(read, lattice=known_B6)) - self.model.encode(read)
            moved.append(x + change.flatten(0, 1))
            apart_B6 = decoded.lattice - known_B6
            apart_B6 = torch.cat([apart_B6[:, :3] / known_B6[:, :3], apart_B6[:, 3:]], 1)
            self.misfits.append(apart_B6.square().mean(1).sqrt().tolist())
        return torch.cat(moved)[None]

    def _read(self, latents_TL: Tensor) -> list[Decoded]:
        """Of each group, in float32: bfloat16 would round coordinates to 0.01 Angstrom and angles to 0.2 degrees."""
        model = self.model
        hidden_TD = model.decoder.hidden(
            latents_TL * model.latent_std + model.latent_mean, self.packing, self.periodic_B
        )
        parts = torch.split(hidden_TD, [group.atoms for group in self.groups])
        return [
            Decoded(*model.decoder.read(part.view(-1, group.size, part.shape[-1])))
            for group, part in zip(self.groups, parts, strict=True)
        ]

    def _cells(self, group: Group) -> NDArray[np.float64] | None:
        cells = self.run.cells
        return None if cells is None else cells[np.array(group.indices) % len(cells)]
