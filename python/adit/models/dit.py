"""The Diffusion Transformer over latents.

Shape suffixes: B systems, N atoms in each, T tokens of packed systems, R rows of modulation, D width,
L latent dimensions, E elements.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adit.config import DiTConfig
from adit.errors import InvalidInputError
from adit.models.layers import GATES, DiTBlock, FinalLayer, sinusoidal_embedding
from adit.ops.adaln import adaln
from adit.ops.block import dit_stack
from adit.ops.dispatch import Impl, kernels
from adit.ops.packing import Packing

MOLECULE, CRYSTAL, NULL = 0, 1, 2
"""Labels of the condition: what the system is, or nothing (for classifier-free guidance)."""

_TIME_FEATURES = 256
ELEMENTS = 100
"""Whose numbers of atoms a network can be told: atomic numbers 1 to 100."""


def composition(numbers_BN: Tensor) -> Tensor:
    """(B, E) int64: how many atoms of each element systems with these atomic numbers have."""
    counts = numbers_BN.new_zeros(len(numbers_BN), ELEMENTS)
    return counts.scatter_add_(1, numbers_BN - 1, torch.ones_like(numbers_BN))


class Modulations(NamedTuple):
    """What AdaLN does for each of R conditions (a time and a label).

    Attributes:
        blocks: (layers, R, 6, D), as `DiTBlock.forward` takes.
        final: (R, 2, D), as `FinalLayer.forward` takes.
    """

    blocks: Tensor
    final: Tensor


class DiT(nn.Module):
    """AdaLN-zero Transformer (Peebles & Xie 2023) that predicts clean latents from noisy ones.

    Attributes:
        impl: which implementation its blocks run on, see `adit.ops.dispatch.kernels`.
    """

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.config = config
        self.impl: Impl = "auto"
        width = config.width
        self.latent = nn.Linear(2 * config.latent_dim, width)
        self.time = nn.Sequential(nn.Linear(_TIME_FEATURES, width), nn.SiLU(), nn.Linear(width, width))
        self.label = nn.Embedding(3, width)
        nn.init.normal_(self.label.weight, std=0.02)
        self.blocks = nn.ModuleList(DiTBlock(width, config.heads, config.qk_norm) for _ in range(config.layers))
        self.final = FinalLayer(width, config.latent_dim)
        if config.composition:
            self.composition = nn.Linear(ELEMENTS * config.composition, width, bias=False)
            nn.init.zeros_(self.composition.weight)

    def forward(
        self, x_BNL: Tensor, t_B: Tensor, label_B: Tensor, self_condition_BNL: Tensor,
        counts_BE: Tensor | None = None, packing: Packing | None = None,
    ) -> Tensor:  # fmt: skip
        """The raw prediction (B, N, L), float32; see `adit.flow.path` for what it stands for.

        Args:
            x_BNL: noisy latents; (T, L) of systems of any sizes if there is a `packing`, and so is the result.
            t_B: time from 0 (noise) to 1 (data); (B,), or (1,) if all systems share time and label and there is no
                `packing`.
            label_B: MOLECULE, CRYSTAL or NULL; like `t_B`.
            self_condition_BNL: an earlier prediction of the clean latents; zeros for none.
            counts_BE: see `context`.
            packing: where packed systems lie.
        """
        context = None if counts_BE is None else self.context(counts_BE)
        if packing is not None:
            modulations = self.modulations(t_B, label_B)
            place_TD = self.places(packing, context)
            return self.denoise_packed(x_BNL, self_condition_BNL, modulations, packing, None, place_TD)
        return self.denoise(x_BNL, self_condition_BNL, self.modulations(t_B, label_B), context)

    def context(self, counts_BE: Tensor) -> Tensor:
        """(B, D): what every atom is told of its system's composition, whole numbers; all zero for an unknown one."""
        features_BEK = sinusoidal_embedding(counts_BE, self.config.composition) * (counts_BE > 0)[..., None]
        out: Tensor = self.composition(features_BEK.flatten(1))
        return out

    def modulations(self, t_R: Tensor, label_R: Tensor) -> Modulations:
        """Of R times and labels; the rest of the network depends on the condition through these alone."""
        condition = self.time(sinusoidal_embedding(1000 * t_R, _TIME_FEATURES)) + self.label(label_R)
        condition_RD = F.silu(condition)
        blocks = [block.modulation(condition_RD).unflatten(-1, (6, -1)) for block in self._layers]
        return Modulations(torch.stack(blocks), self.final.modulation(condition_RD).unflatten(-1, (2, -1)))

    def places(self, packing: Packing, context_BD: Tensor | None = None) -> Tensor:
        """(T, D): what each token of packed systems is told of its place and, with `context`, of its system."""
        place_TD = self._index(packing.max_length, packing.system.device).index_select(0, packing.index)
        return place_TD if context_BD is None else place_TD + context_BD.index_select(0, packing.system)

    def denoise(
        self, x_BNL: Tensor, self_condition_BNL: Tensor, modulations: Modulations, context_BD: Tensor | None = None
    ) -> Tensor:
        """The raw prediction (B, N, L), float32, with one row of modulations for each system or for all."""
        count, atoms, _ = x_BNL.shape
        if kernels(self.impl, x_BNL, self.head_size) is not None:
            packing = Packing.uniform(count, atoms, x_BNL.device)
            rows = None if len(modulations.final) == count else packing.offsets.new_zeros(count)
            flat_TL, guess_TL = x_BNL.flatten(0, 1), self_condition_BNL.flatten(0, 1)
            place_TD = self.places(packing, context_BD)
            out_TL = self.denoise_packed(flat_TL, guess_TL, modulations, packing, rows, place_TD)
            return out_TL.view(count, atoms, -1)
        x_BND = self._embed(x_BNL, self_condition_BNL) + self._index(atoms, x_BNL.device)
        if context_BD is not None:
            x_BND = x_BND + context_BD[:, None]
        for block, modulation in zip(self.blocks, modulations.blocks, strict=True):
            x_BND = block(x_BND, modulation)
        out: Tensor = self.final(x_BND, modulations.final)
        return out.float()

    def denoise_packed(
        self,
        x_TL: Tensor,
        self_condition_TL: Tensor,
        modulations: Modulations,
        packing: Packing,
        rows_B: Tensor | None,
        place_TD: Tensor,
    ) -> Tensor:
        """The raw prediction (T, L), float32, of packed systems; system b takes modulations' row `rows_B[b]`, or b.

        `place_TD` is what `places` says; the same at all times, it can be asked once.

        Raises:
            BackendUnavailableError: `impl` is "triton" or "rust", and it cannot run.
        """
        device, config = x_TL.device.type, self.config
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        weights = [block.weights(dtype) for block in self._layers]
        x_TD = dit_stack(
            self._embed(x_TL, self_condition_TL) + place_TD, modulations.blocks, weights, packing, config.heads,
            qk_norm=config.qk_norm, rows_S=rows_B, impl=self.impl,
        )  # fmt: skip
        shift_RD, scale_RD = modulations.final.unbind(1)
        out: Tensor = self.final.linear(adaln(x_TD, scale_RD, shift_RD, packing, rows_B, impl=self.impl))
        return out.float()

    def _index(self, atoms: int, device: torch.device) -> Tensor:
        """(N, D): what tells the atoms of a system apart."""
        return sinusoidal_embedding(torch.arange(atoms, device=device), self.config.width)

    def _embed(self, x: Tensor, self_condition: Tensor) -> Tensor:
        out: Tensor = self.latent(torch.cat([x, self_condition], -1))
        return out

    @property
    def _layers(self) -> list[DiTBlock]:
        return [block for block in self.blocks if isinstance(block, DiTBlock)]

    @property
    def head_size(self) -> int:
        """Which kernels can run depends on it."""
        return self.config.width // self.config.heads


def deepened(dit: DiT, layers: int) -> DiT:
    """The same function in more layers: some blocks are followed by their like with gates that are shut, to be trained.

    Raises:
        InvalidInputError: `layers` is less than it has.
    """
    if layers < dit.config.layers:
        raise InvalidInputError(f"a network of {dit.config.layers} layers cannot go on with {layers}")
    out = DiT(replace(dit.config, layers=layers))
    origins = [k * dit.config.layers // layers for k in range(layers)]
    state = {name: value for name, value in dit.state_dict().items() if not name.startswith("blocks.")}
    for k, origin in enumerate(origins):
        own = {f"blocks.{k}.{name}": value.clone() for name, value in dit.blocks[origin].state_dict().items()}
        if k and origins[k - 1] == origin:
            for name in ("weight", "bias"):
                modulation = own[f"blocks.{k}.modulation.{name}"].unflatten(0, (6, -1))
                modulation[list(GATES)] = 0.0
        state |= own
    out.load_state_dict(state)
    return out.to(dit.label.weight.device)
