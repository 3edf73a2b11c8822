"""SemlaFlow: flow matching with the Semla architecture (Irwin et al. 2025, arXiv 2406.07266).

The published configuration: 12 layers, 384 features, messages of 128, 32 heads, 64 coordinate sets, edge features
of 128 in the first and last layer only, self-conditioning; 100 steps (20 and 50 are reported too). The sum over the
outer product in the equivariant feed-forward is taken before the product: the same result with less work. The
number of bond types and elements is that of the published vocabulary (5 and 14).

Every atom attends to itself too. Coordinates are held as (B, N, 3, S).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from baselines.common import Baseline, Draw, centred, mask_of, masked, mlp

ELEMENTS, CHARGES, BONDS, SIZES, SIZE_WIDTH = 14, 7, 5, 256, 64
STEPS = (100, 50, 20)


def norm(x: Tensor, dim: int) -> Tensor:
    """Lengths along an axis of three, which is kept. On a CPU `Tensor.norm` is so slow on these that it would take
    three quarters of an evaluation."""
    return x.square().sum(dim, keepdim=True).sqrt()


class SetNorm(nn.Module):
    """Coordinate sets centred and weighted, and divided by their mean length if `scaled`."""

    def __init__(self, sets: int, scaled: bool) -> None:
        super().__init__()
        self.weight, self.scaled = nn.Parameter(torch.ones(sets)), scaled

    def forward(self, x_BN3S: Tensor, mask_BN: Tensor | None) -> Tensor:
        x = centred(x_BN3S.flatten(2), mask_BN).view_as(x_BN3S)
        if not self.scaled:
            return x * self.weight
        length = norm(x, 2).sum(1, keepdim=True)
        count = x.shape[1] if mask_BN is None else mask_BN.sum(1).view(-1, 1, 1, 1).to(x.dtype)
        return x * self.weight / (length / count + 1e-6)


class FeedForward(nn.Module):
    """Features from features and lengths; coordinates from coordinates gated by features."""

    def __init__(self, width: int, sets: int, inner: int) -> None:
        super().__init__()
        self.norm, self.set_norm = nn.LayerNorm(width), SetNorm(sets, scaled=True)
        self.features = mlp(width + sets, 4 * width, width)
        self.gate = mlp(width, inner, inner)
        self.project, self.out = nn.Linear(sets, inner, bias=False), nn.Linear(inner, sets, bias=False)

    def forward(self, x_BN3S: Tensor, h_BNF: Tensor, mask_BN: Tensor | None) -> tuple[Tensor, Tensor]:
        h, x = self.norm(h_BNF), self.set_norm(x_BN3S, mask_BN)
        features = self.features(torch.cat([h, norm(x, 2).squeeze(2)], -1))
        summed = self.project(x).sum(-1, keepdim=True)
        return self.out(self.gate(h)[:, :, None] * summed), features


class Messages(nn.Module):
    """For each pair, from both atoms, the dot products of their coordinates and, maybe, the edge."""

    def __init__(self, width: int, message: int, sets: int, edge: int, hidden: int, out: int) -> None:
        super().__init__()
        self.norm, self.set_norm = nn.LayerNorm(width), SetNorm(sets, scaled=False)
        self.edge_norm = nn.LayerNorm(edge) if edge else None
        self.project = nn.Linear(width, message)
        self.mix = mlp(2 * message + sets + edge, hidden, out)

    def forward(self, x_BN3S: Tensor, h_BNF: Tensor, edge_BNNK: Tensor | None, mask_BN: Tensor | None) -> Tensor:
        x_BS3N = self.set_norm(x_BN3S, mask_BN).permute(0, 3, 2, 1)
        products = (x_BS3N.mT @ x_BS3N).permute(0, 2, 3, 1)
        h = self.project(self.norm(h_BNF))
        atoms = h.shape[1]
        parts = [h[:, :, None].expand(-1, -1, atoms, -1), h[:, None].expand(-1, atoms, -1, -1), products]
        if self.edge_norm is not None and edge_BNNK is not None:
            parts.append(self.edge_norm(edge_BNNK))
        return self.mix(torch.cat(parts, -1))


def weights_of(logits_BNNK: Tensor, mask_BN: Tensor | None) -> tuple[Tensor, Tensor]:
    """Softmax over the second atom, and the factor that keeps the variance (arXiv 2403.04747), (B, N, K)."""
    if mask_BN is not None:
        logits_BNNK = logits_BNNK.masked_fill(~mask_BN[:, None, :, None], float("-inf"))
    weights = logits_BNNK.softmax(2)
    return weights, weights.square().sum(2).sqrt()


class SemlaLayer(nn.Module):
    """Feed-forward, then attention over the messages for features and for coordinates."""

    def __init__(
        self, width: int, message: int, sets: int, heads: int, hidden: int, edge_in: int = 0, edge_out: int = 0
    ) -> None:
        super().__init__()
        self.split = [heads, sets, edge_out]
        self.feed_forward = FeedForward(width, sets, message)
        self.messages = Messages(width, message, sets, edge_in, hidden or sum(self.split), sum(self.split))
        self.norm, self.value, self.out = nn.LayerNorm(width), nn.Linear(width, width), nn.Linear(width, width)
        self.set_norm = SetNorm(sets, scaled=True)
        self.set_in, self.set_out = nn.Linear(sets, sets, bias=False), nn.Linear(sets, sets, bias=False)

    def forward(
        self, x_BN3S: Tensor, h_BNF: Tensor, edge_BNNK: Tensor | None, mask_BN: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        x, h = self.feed_forward(x_BN3S, h_BNF, mask_BN)
        x_BN3S, h_BNF = x_BN3S + x, h_BNF + h
        logits, set_logits, edge = self.messages(x_BN3S, h_BNF, edge_BNNK, mask_BN).split(self.split, -1)
        h_BNF = h_BNF + self.attend(h_BNF, logits, mask_BN)
        return x_BN3S + self.attend_sets(x_BN3S, set_logits, mask_BN), h_BNF, edge

    def attend(self, h_BNF: Tensor, logits_BNNK: Tensor, mask_BN: Tensor | None) -> Tensor:
        weights, factor = weights_of(logits_BNNK, mask_BN)
        value = self.value(self.norm(h_BNF)).unflatten(-1, (self.split[0], -1)).transpose(1, 2)
        mixed = (weights.permute(0, 3, 1, 2) @ value) * factor.mT[..., None]
        return self.out(mixed.transpose(1, 2).flatten(2))

    def attend_sets(self, x_BN3S: Tensor, logits_BNNS: Tensor, mask_BN: Tensor | None) -> Tensor:
        x = self.set_in(self.set_norm(x_BN3S, mask_BN))
        difference = x[:, :, None] - x[:, None]
        direction = difference / (norm(difference, 3) + 1e-6)
        weights, factor = weights_of(logits_BNNS, mask_BN)
        return self.set_out((direction * weights[:, :, :, None]).sum(2) * factor[:, :, None])


class BondRefinement(nn.Module):
    """A last update of the edges from the predicted coordinates."""

    def __init__(self, width: int, message: int, edge: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.norm, self.edge_norm = nn.LayerNorm(width), nn.LayerNorm(edge)
        self.project = nn.Linear(width, message)
        self.mix = mlp(2 * message + edge + 2, message, edge)

    def forward(self, x_BN3: Tensor, h_BNF: Tensor, edge_BNNK: Tensor, mask_BN: Tensor | None) -> Tensor:
        x, h = centred(x_BN3, mask_BN) * self.scale, self.project(self.norm(h_BNF))
        atoms = h.shape[1]
        squared = (x[:, :, None] - x[:, None]).square().sum(-1, keepdim=True)
        products = (x @ x.mT)[..., None]
        pairs = [h[:, :, None].expand(-1, -1, atoms, -1), h[:, None].expand(-1, atoms, -1, -1)]
        return self.mix(torch.cat([*pairs, squared, products, self.edge_norm(edge_BNNK)], -1))


class SemlaFlow(Baseline):
    """Noisy positions, elements and bonds, and an earlier prediction of each, to clean ones."""

    def __init__(
        self, width: int = 384, message: int = 128, sets: int = 64, heads: int = 32, edge: int = 128, layers: int = 12
    ) -> None:
        super().__init__()
        self.size = nn.Embedding(SIZES, SIZE_WIDTH)
        self.atom = mlp(2 * ELEMENTS + 1 + SIZE_WIDTH, width, width)
        self.bond, self.bond_out = mlp(2 * BONDS, edge, edge), mlp(edge, edge, BONDS)
        self.lift, self.lower = nn.Linear(2, sets, bias=False), nn.Linear(sets, 1, bias=False)
        shape = (width, message, sets, heads)
        self.blocks = nn.ModuleList(
            [
                SemlaLayer(*shape, hidden=0, edge_in=edge),
                *(SemlaLayer(*shape, hidden=message) for _ in range(layers - 2)),
                SemlaLayer(*shape, hidden=0, edge_out=edge),
            ]
        )
        self.last = FeedForward(width, sets, sets)
        self.set_norm, self.norm, self.edge_norm = SetNorm(sets, True), nn.LayerNorm(width), nn.LayerNorm(edge)
        self.refine = BondRefinement(width, message, edge)
        self.elements, self.charges = mlp(width, width, ELEMENTS), mlp(width, width, CHARGES)

    def forward(
        self,
        positions: Tensor,
        types: Tensor,
        bonds: Tensor,
        time: Tensor,
        earlier_positions: Tensor,
        earlier_types: Tensor,
        earlier_bonds: Tensor,
        mask: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Positions (B, N, 3), types (B, N, 14), bonds (B, N, N, 5), each also as predicted before; time (B,)."""
        systems, atoms, _ = positions.shape
        count = torch.full((systems,), atoms, device=types.device) if mask is None else mask.sum(1)
        own = torch.cat([self.size(count - 1), time[:, None].to(types.dtype)], -1)[:, None].expand(-1, atoms, -1)
        h = self.atom(torch.cat([types, earlier_types, own], -1))
        edge = self.bond(torch.cat([bonds, earlier_bonds], -1))
        x = self.lift(torch.stack([positions, earlier_positions], -1))
        for block in self.blocks:
            x, h, edge = block(x, h, edge, mask)
        x, h = self.last(x, h, mask)
        predicted = masked(self.lower(self.set_norm(x, mask))[..., 0], mask)
        edge = self.edge_norm(self.refine(predicted, h, edge, mask))
        h = self.norm(h)
        return {
            "positions": predicted,
            "types": masked(self.elements(h), mask),
            "charges": masked(self.charges(h), mask),
            "bonds": self.bond_out(edge + edge.transpose(1, 2)),
        }

    def inputs(self, sizes: Tensor, seed: int = 0) -> dict[str, Tensor | None]:
        draw, mask = Draw(seed, self.place), mask_of(sizes, self.place["device"])
        systems, atoms = len(sizes), int(sizes.max())
        made: dict[str, Tensor | None] = {"time": draw.uniform(systems), "mask": mask}
        for prefix in ("", "earlier_"):
            upper = draw.integers(0, BONDS, systems, atoms, atoms).triu(1)
            hot = nn.functional.one_hot(upper + upper.mT, BONDS).to(**self.place)
            made[f"{prefix}positions"] = centred(draw.normal(systems, atoms, 3), mask)
            made[f"{prefix}types"] = draw.one_hot(ELEMENTS, systems, atoms)
            made[f"{prefix}bonds"] = hot
        return made
