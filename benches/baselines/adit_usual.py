"""Published ADiT S, B and L run the usual way (Joshi et al. 2025, arXiv 2503.03965).

A padded batch with a mask, `nn.MultiheadAttention`, the modulation computed for each sample and each step, and
guidance by a batch of twice the size; 100 steps (100 to 500 are reported), then the published decoder: 8 layers of
width 512. Written from the paper; not equivariant and does not claim to be.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from baselines.common import Baseline, Draw, mask_of, masked, masked_mean, sinusoid

LATENT, LABELS, SPACE_GROUPS, TIME = 8, 3, 231, 256
STEPS = 100


class DiTLayer(nn.Module):
    """AdaLN-zero layer (Peebles & Xie 2023, arXiv 2212.09748)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width, elementwise_affine=False) for _ in range(2))
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        act = nn.GELU(approximate="tanh")
        self.feed_forward = nn.Sequential(nn.Linear(width, 4 * width), act, nn.Linear(4 * width, width))
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))

    def forward(self, x_BNF: Tensor, condition_B1F: Tensor, padding_BN: Tensor | None) -> Tensor:
        shift_a, scale_a, gate_a, shift_f, scale_f, gate_f = self.modulation(condition_B1F).chunk(6, -1)
        x = self.norms[0](x_BNF) * (1 + scale_a) + shift_a
        mixed, _ = self.attention(x, x, x, key_padding_mask=padding_BN, need_weights=False)
        x_BNF = x_BNF + gate_a * mixed
        x = self.norms[1](x_BNF) * (1 + scale_f) + shift_f
        return x_BNF + gate_f * self.feed_forward(x)


class PublishedADiT(Baseline):
    """The Diffusion Transformer: noisy latents and an earlier prediction to clean latents."""

    def __init__(self, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.width = width
        self.latent = nn.Linear(2 * LATENT, width)
        self.time = nn.Sequential(nn.Linear(TIME, width), nn.SiLU(), nn.Linear(width, width))
        self.label, self.group = nn.Embedding(LABELS, width), nn.Embedding(SPACE_GROUPS, width)
        self.blocks = nn.ModuleList(DiTLayer(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))
        self.out = nn.Linear(width, LATENT)

    def forward(
        self, latents: Tensor, earlier: Tensor, time: Tensor, label: Tensor, group: Tensor, mask: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Latents and earlier prediction (B, N, 8); time, label and space group (B,)."""
        index = torch.arange(latents.shape[1], device=latents.device, dtype=latents.dtype)
        condition = self.time(sinusoid(1000 * time, TIME)) + self.label(label) + self.group(group)
        condition = condition[:, None]
        x = self.latent(torch.cat([latents, earlier], -1)) + sinusoid(index, self.width)
        padding = None if mask is None else ~mask
        for block in self.blocks:
            x = block(x, condition, padding)
        shift, scale = self.modulation(condition).chunk(2, -1)
        return {"latents": masked(self.out(self.norm(x) * (1 + scale) + shift), mask)}

    def inputs(self, sizes: Tensor, seed: int = 0) -> dict[str, Tensor | None]:
        draw, mask = Draw(seed, self.place), mask_of(sizes, self.place["device"])
        systems, atoms = len(sizes), int(sizes.max())
        return {
            "latents": draw.normal(systems, atoms, LATENT),
            "earlier": draw.normal(systems, atoms, LATENT),
            "time": draw.uniform(systems),
            "label": draw.integers(0, LABELS - 1, systems),
            "group": draw.integers(0, 1, systems),
            "mask": mask,
        }

    def guided(self, inputs: dict[str, Tensor | None]) -> dict[str, Tensor | None]:
        twice = {name: None if value is None else torch.cat([value, value]) for name, value in inputs.items()}
        label = inputs["label"]
        assert label is not None
        return {**twice, "label": torch.cat([label, torch.full_like(label, LABELS - 1)])}


class PublishedDecoder(Baseline):
    """Latents to elements, positions, fractional coordinates and lattice; evaluated once."""

    def __init__(self, width: int = 512, layers: int = 8, heads: int = 8) -> None:
        super().__init__()
        self.width = width
        self.latent = nn.Linear(LATENT, width)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(width, heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True)
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        self.heads, self.lattice = nn.Linear(width, 100 + 3 + 3), nn.Linear(width, 6)

    def forward(self, latents: Tensor, mask: Tensor | None = None) -> dict[str, Tensor]:
        """Latents (B, N, 8) to type logits (B, N, 100), positions (B, N, 3), fractional (B, N, 3), lattice (B, 6)."""
        index = torch.arange(latents.shape[1], device=latents.device, dtype=latents.dtype)
        x = self.latent(latents) + sinusoid(index, self.width)
        padding = None if mask is None else ~mask
        for block in self.blocks:
            x = block(x, src_key_padding_mask=padding)
        x = self.norm(x)
        types, positions, fractional = self.heads(x).split([100, 3, 3], -1)
        lattice = self.lattice(masked_mean(x, mask)[:, 0])
        return {"types": types, "positions": positions, "fractional": fractional, "lattice": lattice}

    def inputs(self, sizes: Tensor, seed: int = 0) -> dict[str, Tensor | None]:
        draw = Draw(seed, self.place)
        latents = draw.normal(len(sizes), int(sizes.max()), LATENT)
        return {"latents": latents, "mask": mask_of(sizes, self.place["device"])}
