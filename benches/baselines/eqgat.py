"""EQGAT-diff: equivariant graph attention over atoms and bonds (Le et al. 2024, arXiv 2309.17296).

The published configuration: 12 layers of 256 scalars and 256 vectors, edge features of 128, all pairs without
self-pairs, prediction of the clean molecule, 500 steps. Choices the paper leaves open: scalars are normalised over
atoms and features of a system together, vectors by their mean squared length; the last layer's update of the
features is one linear layer.

Extra suffix: V vector channels. Pairs are held as (B, N, P = N - 1), see `common.partners`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from baselines.common import (
    Baseline,
    Draw,
    centred,
    mask_of,
    masked,
    masked_mean,
    mlp,
    pair_mask,
    partners,
    reversed_pairs,
)

TYPES, BONDS = 11, 5
"""H, C, N, O, F and six charges; none, single, double, triple, aromatic."""
STEPS = 500


def attend(logits_BNPF: Tensor, pairs_BNP: Tensor | None) -> Tensor:
    """Softmax over the partners, for each feature; zero for pairs that are padding."""
    if pairs_BNP is None:
        return logits_BNPF.softmax(2)
    return logits_BNPF.masked_fill(~pairs_BNP[..., None], -1e9).softmax(2) * pairs_BNP[..., None]


class Norm(nn.Module):
    """Scalars to mean 0 and variance 1 over a system, vectors to mean squared length 1."""

    def __init__(self, scalars: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(scalars)), nn.Parameter(torch.zeros(scalars))

    def forward(self, s_BNF: Tensor, v_BN3V: Tensor, mask_BN: Tensor | None) -> tuple[Tensor, Tensor]:
        s = s_BNF - masked_mean(s_BNF.mean(-1, keepdim=True), mask_BN)
        variance = masked_mean(s.square().mean(-1, keepdim=True), mask_BN)
        length = masked_mean(v_BN3V.square().sum(2).mean(-1, keepdim=True), mask_BN)
        v = v_BN3V / length.clamp(min=1e-6).sqrt()[..., None]
        return s / variance.clamp(min=1e-6).sqrt() * self.weight + self.bias, v


class Update(nn.Module):
    """Scalars and vectors of one atom mixed: vector lengths into scalars, scalars as gates of vectors."""

    def __init__(self, scalars: int, vectors: int, last: bool) -> None:
        super().__init__()
        self.scalars, self.vectors = scalars, vectors
        self.mix = nn.Linear(vectors, 2 * vectors, bias=False)
        widths = (scalars + vectors, *(() if last else (scalars,)), scalars + vectors)
        self.gate = mlp(*widths)
        self.out = nn.Identity() if last else nn.Linear(vectors, vectors, bias=False)

    def forward(self, s_BNF: Tensor, v_BN3V: Tensor) -> tuple[Tensor, Tensor]:
        measured, carried = self.mix(v_BN3V).chunk(2, -1)
        lengths = measured.square().sum(2).clamp(min=1e-6)
        gate, s = self.gate(torch.cat([s_BNF, lengths], -1)).split([self.vectors, self.scalars], -1)
        return s, self.out(gate[:, :, None] * carried)


class EQGATLayer(nn.Module):
    """Attention over the other atoms; updates scalars, vectors, positions and edges."""

    def __init__(self, scalars: int, vectors: int, edges: int, first: bool, last: bool) -> None:
        super().__init__()
        self.split = [scalars, vectors, 0 if first else vectors, edges, 1]
        self.norm = Norm(scalars)
        self.edge_in, self.edge_out = nn.Linear(edges, edges), nn.Linear(edges, edges)
        self.message = mlp(2 * scalars + edges + 4, scalars, sum(self.split))
        self.value = nn.Linear(scalars, scalars)
        self.vector = None if first else nn.Linear(vectors, vectors, bias=False)
        self.step = nn.Parameter(torch.ones(1))
        self.update = Update(scalars, vectors, last)

    def forward(
        self,
        s_BNF: Tensor,
        v_BN3V: Tensor,
        x_BN3: Tensor,
        e_BNPK: Tensor,
        other_NP: Tensor,
        mask_BN: Tensor | None,
        pairs_BNP: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        s_BNF, v_BN3V = self.norm(s_BNF, v_BN3V, mask_BN)
        e_BNPK = self.edge_in(e_BNPK)
        towards, geometry = pair_geometry(x_BN3, other_NP)
        mine = s_BNF[:, :, None].expand(-1, -1, other_NP.shape[1], -1)
        message = self.message(torch.cat([mine, s_BNF[:, other_NP], geometry, e_BNPK], -1))
        logits, radial, carried, edge, shift = message.split(self.split, -1)
        count = neighbours(mask_BN, x_BN3)
        real = 1.0 if pairs_BNP is None else pairs_BNP[..., None].to(x_BN3.dtype)
        s_BNF = s_BNF + (attend(logits, pairs_BNP) * self.value(s_BNF)[:, other_NP]).sum(2)
        new = torch.einsum("bnpc,bnpv->bncv", towards, radial * real)
        if self.vector is not None:
            new = new + ((carried * real)[:, :, :, None] * self.vector(v_BN3V)[:, other_NP]).sum(2)
        v_BN3V = v_BN3V + new / count[..., None]
        moved = (towards * shift * real).sum(2) / count
        reach = masked_mean(moved.norm(dim=-1, keepdim=True), mask_BN)
        x_BN3 = x_BN3 + self.step * moved / (reach + 1e-5)
        e_BNPK = self.edge_out(nn.functional.silu(edge + e_BNPK))
        s, v = self.update(s_BNF, v_BN3V)
        return s_BNF + s, v_BN3V + v, x_BN3, e_BNPK


def pair_geometry(x_BN3: Tensor, other_NP: Tensor) -> tuple[Tensor, Tensor]:
    """Scaled difference vectors (B, N, P, 3); distance, dot product and both lengths (B, N, P, 4)."""
    theirs = x_BN3[:, other_NP]
    mine = x_BN3[:, :, None].expand_as(theirs)
    difference = mine - theirs
    distance = difference.square().sum(-1, keepdim=True).clamp(min=1e-6).sqrt()
    lengths = x_BN3.square().sum(-1, keepdim=True).clamp(min=1e-6).sqrt()
    own = lengths[:, :, None].expand_as(distance)
    geometry = torch.cat([distance, (mine * theirs).sum(-1, keepdim=True), own, lengths[:, other_NP]], -1)
    return difference / (1 + distance), geometry


def neighbours(mask_BN: Tensor | None, x_BN3: Tensor) -> Tensor:
    """How many partners an atom has, at least 1: (B, 1, 1), or (1, 1, 1) for all systems."""
    if mask_BN is None:
        return x_BN3.new_full((1, 1, 1), max(x_BN3.shape[1] - 1, 1))
    return (mask_BN.sum(1)[:, None, None] - 1).clamp(min=1).to(x_BN3.dtype)


class Head(nn.Module):
    """Positions from vectors, types from scalars, bonds from both atoms, the edge and its length."""

    def __init__(self, scalars: int, vectors: int, edges: int) -> None:
        super().__init__()
        self.shared = mlp(scalars, scalars, last=True)
        self.edge = nn.Linear(edges, scalars)
        self.positions = nn.Linear(vectors, 1, bias=False)
        self.types = nn.Linear(scalars, TYPES)
        self.bonds = mlp(scalars + 1, scalars, BONDS)

    def forward(
        self, s_BNF: Tensor, v_BN3V: Tensor, x_BN3: Tensor, e_BNPK: Tensor, other_NP: Tensor, mask_BN: Tensor | None
    ) -> dict[str, Tensor]:
        s = self.shared(s_BNF)
        positions = centred(x_BN3 + self.positions(v_BN3V)[..., 0], mask_BN)
        backwards = reversed_pairs(s.shape[1], s.device)
        edge = self.edge(0.5 * (e_BNPK + e_BNPK.flatten(1, 2)[:, backwards].view_as(e_BNPK)))
        squared = (positions[:, :, None] - positions[:, other_NP]).square().sum(-1, keepdim=True)
        bonds = self.bonds(torch.cat([s[:, :, None] + s[:, other_NP] + edge, squared], -1))
        return {"positions": positions, "types": masked(self.types(s), mask_BN), "bonds": bonds}


class EQGATDiff(Baseline):
    """The denoiser: noisy positions, types and bonds to clean ones."""

    def __init__(self, scalars: int = 256, vectors: int = 256, edges: int = 128, layers: int = 12) -> None:
        super().__init__()
        self.vectors = vectors
        self.atom, self.bond = nn.Linear(TYPES, scalars), nn.Linear(BONDS, edges)
        self.atom_time, self.bond_time = nn.Linear(1, scalars), nn.Linear(1, edges)
        self.atom_mix, self.bond_mix = nn.Linear(scalars, scalars), nn.Linear(edges, edges)
        self.blocks = nn.ModuleList(EQGATLayer(scalars, vectors, edges, k == 0, k == layers - 1) for k in range(layers))
        self.head = Head(scalars, vectors, edges)

    def forward(
        self, positions: Tensor, types: Tensor, bonds: Tensor, time: Tensor, mask: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Positions (B, N, 3), types (B, N, 11), bonds (B, N, N, 5), time (B,); bonds come out as (B, N, N - 1, 5)."""
        systems, atoms, _ = positions.shape
        other = partners(atoms, positions.device)
        pairs = pair_mask(mask, other)
        own = torch.arange(atoms, device=positions.device)[:, None]
        s = self.atom_mix(self.atom(types) + self.atom_time(time[:, None])[:, None])
        e = self.bond_mix(self.bond(bonds[:, own, other]) + self.bond_time(time[:, None])[:, None, None])
        x = centred(positions, mask)
        v = x.new_zeros(systems, atoms, 3, self.vectors)
        for block in self.blocks:
            s, v, x, e = block(s, v, x, e, other, mask, pairs)
        return self.head(s, v, x, e, other, mask)

    def inputs(self, sizes: Tensor, seed: int = 0) -> dict[str, Tensor | None]:
        draw, mask = Draw(seed, self.place), mask_of(sizes, self.place["device"])
        systems, atoms = len(sizes), int(sizes.max())
        upper = draw.integers(0, BONDS, systems, atoms, atoms).triu(1)
        return {
            "positions": centred(draw.normal(systems, atoms, 3), mask),
            "types": draw.one_hot(TYPES, systems, atoms),
            "bonds": nn.functional.one_hot(upper + upper.mT, BONDS).to(**self.place),
            "time": draw.uniform(systems),
            "mask": mask,
        }
