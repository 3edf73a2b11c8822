"""The Diffusion Transformer over latents.

Shape suffixes: B systems, N atoms in each, D width, L latent dimensions.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adit.config import DiTConfig
from adit.models.layers import DiTBlock, FinalLayer, sinusoidal_embedding

MOLECULE, CRYSTAL, NULL = 0, 1, 2
"""Labels of the condition: what the system is, or nothing (for classifier-free guidance)."""

_TIME_FEATURES = 256


class DiT(nn.Module):
    """AdaLN-zero Transformer (Peebles & Xie 2023) that predicts clean latents from noisy ones."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.latent = nn.Linear(2 * config.latent_dim, width)
        self.time = nn.Sequential(nn.Linear(_TIME_FEATURES, width), nn.SiLU(), nn.Linear(width, width))
        self.label = nn.Embedding(3, width)
        nn.init.normal_(self.label.weight, std=0.02)
        self.blocks = nn.ModuleList(DiTBlock(width, config.heads, config.qk_norm) for _ in range(config.layers))
        self.final = FinalLayer(width, config.latent_dim)

    def forward(self, x_BNL: Tensor, t_B: Tensor, label_B: Tensor, self_condition_BNL: Tensor) -> Tensor:
        """The raw prediction (B, N, L), float32; see `adit.flow.path` for what it stands for.

        Args:
            x_BNL: noisy latents.
            t_B: time from 0 (noise) to 1 (data); (B,), or (1,) if all systems share time and label.
            label_B: MOLECULE, CRYSTAL or NULL; like `t_B`.
            self_condition_BNL: an earlier prediction of the clean latents; zeros for none.
        """
        index = torch.arange(x_BNL.shape[1], device=x_BNL.device)
        condition = self.time(sinusoidal_embedding(1000 * t_B, _TIME_FEATURES)) + self.label(label_B)
        condition_B1D = F.silu(condition)[:, None]
        x_BND = self.latent(torch.cat([x_BNL, self_condition_BNL], -1))
        x_BND = x_BND + sinusoidal_embedding(index, x_BND.shape[-1])
        for block in self.blocks:
            x_BND = block(x_BND, condition_B1D)
        out: Tensor = self.final(x_BND, condition_B1D)
        return out.float()
