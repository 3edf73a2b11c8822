"""Latents of packed systems to systems; and clean latents to where a cell or atoms are that are known.

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


_OVERDONE, _UNTIL = 1.5, 0.8
"""How much farther than to what is known latents move, and until when: else the rest of a system, of which the noise
decided before it shows what is known, goes too rarely with it (docs/generate.md)."""
_SETTLE = 8
"""So often clean latents are moved at last, until known atoms are where they shall be."""


class Decoding:
    """What the decoder makes of the latents of groups of systems that are packed one after another.

    Args:
        model: autoencoder.
        run: says of which kind all are, and which cells or atoms of them are known.
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
        self.misfits: list[list[dict[str, float]]] = []
        self.slots: list[list[NDArray[np.int64]]] = [[] for _ in groups]
        if run.kept is not None:
            self.slots = [list(map(run.kept.slots, group.indices, group.told)) for group in groups]

    def systems(self, latents_TL: Tensor) -> list[list[AtomicSystem]]:
        """The systems of each group; what is known of them as it is, how far from it they were in their `info`."""
        misfits_of = self.misfits  # of what the network made, before it is moved here
        if self.run.kept is not None:
            for _ in range(_SETTLE):
                latents_TL = self.as_known(latents_TL[None])[0]
        made = []
        for group, told, slots, decoded in zip(self.groups, self.told, self.slots, self._read(latents_TL), strict=True):
            if self.run.kept is not None:
                decoded = replace(decoded, logits=self.run.kept.sure(decoded.logits, group.indices, slots))
            made.append(decoded.to_systems(self.periodic_B[: len(group.indices)], told, self._cells(group)))
        for group, slots, systems, misfits in zip(
            self.groups, self.slots, made, misfits_of or self.misfits, strict=False
        ):
            for k, misfit in enumerate(misfits):
                systems[k] = replace(systems[k], info=misfit)
                if self.run.kept is not None:
                    systems[k] = self.run.kept.settle(systems[k], group.indices[k], slots[k])
        return made

    def as_known(self, x_1TL: Tensor, time: float = 1.0) -> Tensor:
        """Clean latents (1, T, L), moved as those of what is read move when what is known takes its place.

        So nothing moves where the two are the same, whatever the autoencoder loses. Latents that are expected clean at
        an earlier time move farther (`_OVERDONE`). How far apart they are is kept for
        `systems`: of cells the root mean square of relative differences of lengths and of differences of angles in
        radians, of atoms of the distances in Angstrom.
        """
        moved, self.misfits = [], []
        parts = torch.split(x_1TL[0], [group.atoms for group in self.groups])
        for group, told, slots, decoded, x in zip(
            self.groups, self.told, self.slots, self._read(x_1TL[0]), parts, strict=True
        ):
            read = self._batch(group, decoded, told)
            known = read
            misfits: list[dict[str, float]] = [{} for _ in group.indices]
            if self.run.cells is not None:
                known = replace(known, lattice=lattice_parameters(known.cells, group.size))
                apart_B6 = read.lattice - known.lattice
                apart_B6 = torch.cat([apart_B6[:, :3] / known.lattice[:, :3], apart_B6[:, 3:]], 1)
                for misfit, value in zip(misfits, apart_B6.square().mean(1).sqrt().tolist(), strict=True):
                    misfit["cell_misfit"] = value
            if self.run.kept is not None:
                known, distances = self.run.kept.place(known, group.indices, slots)
                for misfit, value in zip(misfits, distances, strict=True):
                    misfit["keep_rmsd"] = value
            change = (self.model.encode(known) - self.model.encode(read)).flatten(0, 1)
            moved.append(x + (_OVERDONE if time < _UNTIL else 1.0) * change)
            self.misfits.append(misfits)
        return torch.cat(moved)[None]

    def _batch(self, group: Group, decoded: Decoded, told: Tensor | None) -> SystemBatch:
        """What the encoder takes of systems as they were read, their cells those that are known."""
        numbers = torch.from_numpy(decoded.numbers(told).astype(np.int64)).to(decoded.logits.device)
        nothing, cells = torch.zeros_like(decoded.cartesian), self._cells(group)
        periodic = self.periodic_B[: len(group.indices)]
        if cells is None:
            eye = torch.eye(3, device=nothing.device).expand(len(group.indices), 3, 3)
            return SystemBatch(numbers, decoded.cartesian, nothing, eye, torch.zeros_like(decoded.lattice), periodic)
        return SystemBatch(
            numbers, nothing, decoded.fractional, torch.from_numpy(cells).to(nothing), decoded.lattice, periodic
        )

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
