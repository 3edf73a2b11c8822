"""CDVAE's decoder: a score network over elements and positions (Xie et al. 2022, arXiv 2110.06197).

The network is GemNet-dT (Gasteiger et al. 2021, arXiv 2106.08903; triplets only, forces read off the edges) with
128 features, 3 blocks, a latent of 256 and the 20 nearest neighbours within 7 Angstrom, found anew at each of the
5,000 evaluations (50 noise levels of 100 Langevin steps). Periodic images: one cell in each direction, from the
shortest difference. GemNet's fitted scale factors are left at 1. As published, of the two directions of an edge the
one from the atom of lower index decides whether both are there: where the cut at 20 neighbours is reached, the
graph therefore depends on the order of the atoms.

Flat suffixes: A = B N atoms, E edges c -> a, M the most edges into one atom, R radial functions, L spherical
functions.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from baselines.common import Baseline, Draw, mask_of, masked

ELEMENTS, LATENT, RADIAL, SPHERICAL, BASIS, TRIPLET = 100, 256, 128, 7, 16, 64
CUTOFF, NEIGHBOURS = 7.0, 20
STEPS = 5000


@dataclass
class Graph:
    """Edges c -> a and what triplets b -> a <- c need.

    Attributes:
        source, target: (E,) flat atoms c and a.
        distance: (E,) Angstrom.
        direction: (E, 3) unit vectors from a to c.
        reverse: (E,) the edge a -> c.
        incoming: (A, M) edges into each atom; E where there is none.
        angular: (E, M, L) spherical functions of the angle at a; zero where there is no triplet.
    """

    source: Tensor
    target: Tensor
    distance: Tensor
    direction: Tensor
    reverse: Tensor
    incoming: Tensor
    angular: Tensor


def build_graph(fractional_BN3: Tensor, cells_B33: Tensor, mask_BN: Tensor | None) -> Graph:
    """The symmetric graph of the nearest neighbours."""
    systems, atoms, _ = fractional_BN3.shape
    images = list(itertools.product((-1, 0, 1), repeat=3))
    shift_I3 = torch.tensor(images, dtype=fractional_BN3.dtype, device=fractional_BN3.device)
    difference = fractional_BN3[:, None] - fractional_BN3[:, :, None]
    difference = (difference - difference.round())[..., None, :] + shift_I3
    vectors = torch.einsum("bijkx,bxy->bijky", difference, cells_B33)
    squared = vectors.square().sum(-1)
    own = torch.eye(atoms, dtype=torch.bool, device=squared.device)[..., None]
    zero = own & (torch.arange(len(images), device=squared.device) == len(images) // 2)
    squared = squared.masked_fill(zero, math.inf)
    if mask_BN is not None:
        squared = squared.masked_fill(~(mask_BN[:, :, None] & mask_BN[:, None])[..., None], math.inf)
    nearest, where = squared.flatten(2).topk(min(NEIGHBOURS, atoms * len(images)), -1, largest=False)
    system, first, place = (nearest <= CUTOFF**2).nonzero(as_tuple=True)
    index = where[system, first, place]
    second, image = index // len(images), index % len(images)
    kept = (first < second) | ((first == second) & (image < len(images) // 2))
    system, first, second, image = system[kept], first[kept], second[kept], image[kept]
    vector = vectors[system, first, second, image]
    target, source = system * atoms + first, system * atoms + second
    vector = torch.cat([vector, -vector])
    target, source = torch.cat([target, source]), torch.cat([source, target])
    distance = vector.norm(dim=-1)
    direction = vector / distance[:, None]
    count = len(target)
    reverse = torch.arange(count, device=target.device).roll(count // 2)
    incoming = incoming_edges(target, systems * atoms)
    padded = torch.cat([direction, direction.new_zeros(1, 3)])[incoming]
    cosine = torch.einsum("ex,emx->em", direction, padded[target]).clamp(-1, 1)
    real = (incoming != count)[target] & (incoming[target] != torch.arange(count, device=target.device)[:, None])
    return Graph(source, target, distance, direction, reverse, incoming, spherical(cosine) * real[..., None])


def incoming_edges(target_E: Tensor, atoms: int) -> Tensor:
    """(A, M): the edges into each atom, E where there are fewer."""
    edges = len(target_E)
    degree = torch.bincount(target_E, minlength=atoms)
    order = target_E.argsort(stable=True)
    rank = torch.arange(edges, device=target_E.device) - (degree.cumsum(0) - degree)[target_E[order]]
    table = torch.full((atoms, int(degree.max())), edges, device=target_E.device)
    table[target_E[order], rank] = order
    return table


def spherical(cosine: Tensor) -> Tensor:
    """Spherical harmonics of order 0 and degrees 0 to 6 of an angle, by Legendre's recurrence."""
    values = [torch.ones_like(cosine), cosine]
    for degree in range(2, SPHERICAL):
        values.append(((2 * degree - 1) * cosine * values[-1] - (degree - 1) * values[-2]) / degree)
    norms = [math.sqrt((2 * degree + 1) / (4 * math.pi)) for degree in range(SPHERICAL)]
    return torch.stack([norm * value for norm, value in zip(norms, values, strict=True)], -1)


def radial(distance_E: Tensor) -> Tensor:
    """(E, R) Gaussians of the distance under a polynomial envelope of exponent 5 that ends at the cutoff."""
    x = distance_E / CUTOFF
    envelope = 1 - 21 * x**5 + 35 * x**6 - 15 * x**7
    centres = torch.linspace(0, 1, RADIAL, device=x.device, dtype=x.dtype)
    return envelope[:, None] * torch.exp(-0.5 * ((x[:, None] - centres) * (RADIAL - 1)).square())


def mean2(left: Tensor, right: Tensor) -> Tensor:
    """A sum that keeps the variance."""
    return (left + right) / math.sqrt(2)


class Dense(nn.Linear):
    """Linear without bias, then SiLU / 0.6, which keeps the variance."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__(inside, outside, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return silu(super().forward(x)) / 0.6


class Residual(nn.Module):
    """Two dense layers and a skip."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(Dense(width, width), Dense(width, width))

    def forward(self, x: Tensor) -> Tensor:
        return mean2(x, self.layers(x))


def stack(width: int) -> nn.Sequential:
    """A dense layer and three residual ones."""
    return nn.Sequential(Dense(width, width), *(Residual(width) for _ in range(3)))


class Gather(nn.Module):
    """Edges summed into their target atoms, each weighted by its length; then `stack`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.layers = nn.Linear(BASIS, width, bias=False), stack(width)

    def forward(self, m_EF: Tensor, basis_EK: Tensor, target_E: Tensor, atoms: int) -> Tensor:
        weighted = m_EF * self.weight(basis_EK)
        index = target_E[:, None].expand_as(weighted)
        return self.layers(weighted.new_zeros(atoms, m_EF.shape[1]).scatter_add(0, index, weighted))


class Triplets(nn.Module):
    """Messages from edges b -> a to edges c -> a by their angle, and the same to a -> c (bilinear, efficient form)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dense, self.weight = Dense(width, width), nn.Linear(BASIS, width, bias=False)
        self.down = Dense(width, TRIPLET)
        self.bilinear = nn.Linear(BASIS * TRIPLET, TRIPLET, bias=False)
        self.forwards, self.backwards = Dense(TRIPLET, width), Dense(TRIPLET, width)

    def forward(self, m_EF: Tensor, basis_EK: Tensor, circular_EKL: Tensor, graph: Graph) -> Tensor:
        small = self.down(self.dense(m_EF) * self.weight(basis_EK))
        into_AMF = torch.cat([small, small.new_zeros(1, TRIPLET)])[graph.incoming]
        summed_ELF = graph.angular.mT.to(small.dtype) @ into_AMF[graph.target]
        mixed = self.bilinear((circular_EKL @ summed_ELF).flatten(1))
        return mean2(self.forwards(mixed), self.backwards(mixed)[graph.reverse])


class Interaction(nn.Module):
    """GemNet's interaction block, triplets only."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.triplets, self.dense = Triplets(width), Dense(width, width)
        self.before, self.after = Residual(width), nn.Sequential(Residual(width), Residual(width))
        self.gather = Gather(width)
        self.join, self.joined = Dense(3 * width, width), Residual(width)

    def forward(
        self, h_AF: Tensor, m_EF: Tensor, bases: tuple[Tensor, Tensor], circular_EKL: Tensor, graph: Graph
    ) -> tuple[Tensor, Tensor]:
        x = mean2(self.dense(m_EF), self.triplets(m_EF, bases[0], circular_EKL, graph))
        m_EF = self.after(mean2(m_EF, self.before(x)))
        h_AF = mean2(h_AF, self.gather(m_EF, bases[1], graph.target, len(h_AF)))
        joined = self.join(torch.cat([h_AF[graph.source], h_AF[graph.target], m_EF], -1))
        return h_AF, mean2(m_EF, self.joined(joined))


class Output(nn.Module):
    """An energy of each atom, unused by CDVAE though computed, and a force along each edge."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gather, self.energy = Gather(width), nn.Linear(width, 1, bias=False)
        self.layers, self.weight = stack(width), nn.Linear(BASIS, width, bias=False)
        self.force = nn.Linear(width, 1, bias=False)

    def forward(self, m_EF: Tensor, basis_EK: Tensor, graph: Graph, atoms: int) -> tuple[Tensor, Tensor]:
        energy = self.energy(self.gather(m_EF, basis_EK, graph.target, atoms))
        return energy, self.force(self.layers(m_EF) * self.weight(basis_EK))


class CDVAEDecoder(Baseline):
    """Score of the positions and logits of the elements, given the latent of the crystal."""

    def __init__(self, width: int = 128, layers: int = 3) -> None:
        super().__init__()
        self.width = width
        self.element = nn.Embedding(ELEMENTS, width)
        self.mix = nn.Linear(width + LATENT, width)
        self.edge = Dense(2 * width + RADIAL, width)
        self.bases = nn.ModuleList(nn.Linear(RADIAL, BASIS, bias=False) for _ in range(3))
        self.circular = nn.Parameter(torch.randn(RADIAL, BASIS * SPHERICAL) / math.sqrt(RADIAL))
        self.blocks = nn.ModuleList(Interaction(width) for _ in range(layers))
        self.outputs = nn.ModuleList(Output(width) for _ in range(layers + 1))
        self.types = nn.Linear(width, ELEMENTS)

    def forward(
        self, fractional: Tensor, lattice: Tensor, numbers: Tensor, latent: Tensor, mask: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Fractional coordinates (B, N, 3), cells (B, 3, 3), atomic numbers less 1 (B, N), latent (B, 256)."""
        systems, atoms, _ = fractional.shape
        graph = build_graph(fractional, lattice, mask)
        latents = latent[:, None].expand(-1, atoms, -1)
        h = self.mix(torch.cat([self.element(numbers), latents], -1)).flatten(0, 1)
        basis = radial(graph.distance)
        m = self.edge(torch.cat([h[graph.source], h[graph.target], basis], -1))
        triplet, gather, out = (layer(basis) for layer in self.bases)
        circular = (basis @ self.circular).unflatten(-1, (BASIS, SPHERICAL)).to(m.dtype)
        energy, force = self.outputs[0](m, out, graph, len(h))
        for block, output in zip(self.blocks, self.outputs[1:], strict=True):
            h, m = block(h, m, (triplet, gather), circular, graph)
            more = output(m, out, graph, len(h))
            energy, force = energy + more[0], force + more[1]
        pull = force * graph.direction.to(force.dtype)
        index = graph.target[:, None].expand_as(pull)
        score = pull.new_zeros(len(h), 3).scatter_add(0, index, pull)
        shape = (systems, atoms)
        return {
            "positions": masked(score.view(*shape, 3), mask),
            "energies": masked(energy.view(*shape, 1), mask),
            "types": masked(self.types(h).view(*shape, -1), mask),
        }

    def inputs(self, sizes: Tensor, seed: int = 0) -> dict[str, Tensor | None]:
        """Random crystals of 15 cubic Angstrom an atom, nearly cubic."""
        draw, mask = Draw(seed, self.place), mask_of(sizes, self.place["device"])
        systems, atoms = len(sizes), int(sizes.max())
        edge = (15.0 * sizes.to(**self.place)) ** (1 / 3)
        cells = (torch.eye(3, **self.place) + 0.1 * draw.normal(systems, 3, 3)) * edge[:, None, None]
        return {
            "fractional": draw.uniform(systems, atoms, 3),
            "lattice": cells,
            "numbers": draw.integers(0, ELEMENTS, systems, atoms),
            "latent": draw.normal(systems, LATENT),
            "mask": mask,
        }
