"""CHGNet on many crystals at once: the energies, forces and stresses of the `chgnet` package, several times faster.

The weights are those in the package's wheel; the arithmetic is Deng et al., Nat. Mach. Intell. 5, 1031 (2023), doi
10.1038/s42256-023-00716-3. What saves the time: graphs of all crystals are built together from `adit.neighbors`; a
layer that is linear in [atom, bond, atom] is applied to atoms and bonds before they are gathered to pairs, of which
there are many more; gradients are taken with respect to positions and strain alone; the last update of the angles,
which nothing reads, is left out.

Legend: T atoms, B crystals, U bonds (pairs closer than 6 A, each once), S bonds closer than 3 A, K angles, F = 64.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import io
import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional

from adit.elements import SYMBOLS
from adit.errors import BackendUnavailableError, InvalidInputError
from adit.eval.energy.fire import Evaluation, overlap
from adit.neighbors import neighbor_list_batch

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from adit.packing import Packed

MODELS = ("0.3.0", "r2scan")
MAX_ELEMENT = 94
"""Plutonium, the last element that CHGNet knows."""


class Chgnet:
    """The pretrained CHGNet.

    Args:
        model: "0.3.0", trained on the Materials Project (PBE with its U and corrections), or "r2scan".
        device: where to run, as in torch.

    Raises:
        BackendUnavailableError: the package `chgnet` is not installed.
        InvalidInputError: the model is unknown.
    """

    def __init__(self, model: str = "0.3.0", device: str = "cpu") -> None:
        if model not in MODELS:
            raise InvalidInputError(f"CHGNet's model must be one of {', '.join(MODELS)}; got {model!r}")
        try:
            from chgnet.model.model import CHGNet
        except ImportError as error:
            raise BackendUnavailableError(
                f"the calculator 'chgnet' needs the package chgnet ({error}): pip install 'adit[mlip]'"
            ) from error
        with contextlib.redirect_stdout(io.StringIO()):  # it says hello
            net: Any = CHGNet.load(model_name=model, use_device=device, verbose=False)
        self.name = "chgnet" if model == MODELS[0] else f"chgnet-{model}"
        self.version = f"chgnet {importlib.metadata.version('chgnet')}, weights {model}"
        self.device = torch.device(device)
        self.batch_atoms = 64 if self.device.type == "cpu" else 4096
        self.net = net.eval().requires_grad_(False)
        self.atom_cutoff = float(net.graph_converter.atom_graph_cutoff)
        self.bond_cutoff = float(net.graph_converter.bond_graph_cutoff)
        self.atom_convs = [_Gated(layer.twoBody_atom, 3) for layer in net.atom_conv_layers]
        self.bond_convs = [_Gated(layer.twoBody_bond, 4) for layer in net.bond_conv_layers]
        self.angle_updates = [_Gated(layer.twoBody_bond, 4) for layer in net.angle_layers]

    def refuses(self, numbers: NDArray[np.int64]) -> str:
        """Why atoms (n,) cannot be looked at; empty if they can."""
        unknown = sorted({SYMBOLS[number] for number in numbers if number > MAX_ELEMENT})
        return f"CHGNet does not know {', '.join(unknown)}" if unknown else ""

    def evaluate(self, crystals: Packed, *, forces: bool = True, threads: int | None = None) -> Evaluation:
        """Energies, forces and virials.

        Args:
            crystals: B >= 1 crystals, none of them empty, of elements up to `MAX_ELEMENT`.
            forces: False: energies alone; forces and virials are zero. Twice as fast.
            threads: for the neighbour lists.
        """
        first, second, length, vector, starts = neighbor_list_batch(
            "ijdD", crystals, self.atom_cutoff, half=True, threads=threads
        )
        count, atoms = len(crystals.offsets) - 1, len(crystals.numbers)
        owner = self._tensor(np.repeat(np.arange(count), np.diff(crystals.offsets)))
        i, j = self._tensor(first), self._tensor(second)
        shift = torch.zeros(atoms, 3, dtype=torch.float64, device=self.device, requires_grad=forces)
        strain = torch.zeros(count, 3, 3, dtype=torch.float64, device=self.device, requires_grad=forces)
        with torch.set_grad_enabled(forces):
            moved = self._tensor(vector) + shift[j] - shift[i]
            moved = moved + torch.einsum("ua,uab->ub", moved, strain[owner[i]])
            angles = [self._tensor(part) for part in _angles(first, second, length < self.bond_cutoff)]
            per_atom = self._atom_energies(self._tensor(crystals.numbers.astype(np.int64)) - 1, i, j, moved, *angles)
            energies = torch.zeros(count, dtype=torch.float64, device=self.device).index_add(0, owner, per_atom)
        touched = np.zeros(atoms, dtype=np.bool_)
        touched[first] = touched[second] = True
        problems = self._problems(length, starts, np.add.reduceat(~touched, crystals.offsets[:-1]) > 0)
        if not forces:
            return Evaluation(_array(energies), np.zeros((atoms, 3)), np.zeros((count, 3, 3)), problems)
        by_shift, by_strain = torch.autograd.grad(energies.sum(), (shift, strain))
        virials = _array(by_strain)
        return Evaluation(_array(energies), -_array(by_shift), (virials + virials.transpose(0, 2, 1)) / 2, problems)

    def _problems(self, length: NDArray[np.float64], starts: NDArray[np.int64], lonely: NDArray[np.bool_]) -> list[str]:
        closest = [length[a:b].min(initial=np.inf) for a, b in itertools.pairwise(starts)]
        alone = f"an atom has no neighbour within {self.atom_cutoff:g} A, the potential's cutoff"
        return [
            overlap(distance) or (alone if alone_here else "")
            for distance, alone_here in zip(closest, lonely.tolist(), strict=True)
        ]

    def _atom_energies(
        self, species: Tensor, i: Tensor, j: Tensor, vectors: Tensor, center: Tensor, left: Tensor, right: Tensor
    ) -> Tensor:
        """(T,) float64, eV. species (T,); i, j (U,); vectors (U, 3) from i to j; angles as `_angles` gives them."""
        net = self.net
        lengths = vectors.norm(dim=1)
        short = lengths.float()
        basis = net.bond_basis_expansion.rbf_expansion_ag(short)
        bond = net.bond_embedding(basis)
        atom_weight = net.bond_weights_ag(basis).repeat(2, 1)
        unit = (vectors / lengths[:, None]).float()
        unit = torch.cat([-unit, unit])
        angle = net.angle_embedding(
            net.angle_basis_expansion(unit.index_select(0, left), unit.index_select(0, right))
        ).repeat(2, 1)
        left, right = left % len(bond), right % len(bond)
        left, right, center = torch.cat([left, right]), torch.cat([right, left]), center.repeat(2)
        bond_weight = net.bond_weights_bg(net.bond_basis_expansion.rbf_expansion_bg(short))
        angle_weight = bond_weight.index_select(0, left) * bond_weight.index_select(0, right)
        atom = net.atom_embedding(species)
        near, far = torch.cat([i, j]), torch.cat([j, i])
        last = len(self.bond_convs) - 1
        for k in range(len(self.bond_convs)):
            message = self.atom_convs[k]((atom, near), (bond, None), (atom, far)) * atom_weight
            atom = atom + net.atom_conv_layers[k].mlp_out(torch.zeros_like(atom).index_add(0, near, message))
            message = self.bond_convs[k]((bond, left), (bond, right), (angle, None), (atom, center)) * angle_weight
            bond = bond + net.bond_conv_layers[k].mlp_out(torch.zeros_like(bond).index_add(0, left, message))
            if k < last:
                angle = angle + self.angle_updates[k]((bond, left), (bond, right), (angle, None), (atom, center))
        message = self.atom_convs[-1]((atom, near), (bond, None), (atom, far)) * atom_weight
        atom = atom + net.atom_conv_layers[-1].mlp_out(torch.zeros_like(atom).index_add(0, near, message))
        reference = net.composition_model.fc.weight[0].double()
        energies: Tensor = net.mlp(net.readout_norm(atom))[:, 0].double() + reference[species]
        return energies

    def _tensor(self, array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)


class _Gated:
    """CHGNet's GatedMLP of concatenated features, its first layer applied to each before they are gathered.

    Args:
        mlp: the GatedMLP: its core and its gate have one or two linear layers.
        parts: how many feature vectors of width F are concatenated.
    """

    def __init__(self, mlp: Any, parts: int) -> None:
        branches = [
            [layer for layer in branch.layers if isinstance(layer, torch.nn.Linear)]
            for branch in (mlp.mlp_core, mlp.mlp_gate)
        ]
        self.weights = torch.cat([layers[0].weight for layers in branches]).chunk(parts, dim=1)
        self.bias = torch.cat([layers[0].bias for layers in branches])
        self.second = [layers[1] for layers in branches if len(layers) == 2]
        self.norms = (mlp.bn1, mlp.bn2)

    def __call__(self, *parts: tuple[Tensor, Tensor | None]) -> Tensor:
        """(R, F) from pairs of features and the rows to gather; None: all rows, repeated as often as is needed."""
        rows = next(len(index) for _, index in parts if index is not None)
        mapped = []
        for weight, (features, index) in zip(self.weights, parts, strict=True):
            if index is None:
                whole = functional.linear(features, weight, self.bias)
                mapped.append(whole.repeat(rows // max(len(whole), 1), 1))
            else:
                mapped.append(functional.linear(features, weight).index_select(0, index))
        core, gate = functools.reduce(torch.add, mapped).chunk(2, dim=1)
        if self.second:
            core, gate = (layer(functional.silu(x)) for layer, x in zip(self.second, (core, gate), strict=True))
        return functional.silu(self.norms[0](core)) * torch.sigmoid(self.norms[1](gate))


def _angles(
    first: NDArray[np.int64], second: NDArray[np.int64], short: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The pairs of short bonds that share an atom, each pair once: the atom, and the two bonds as directed bonds.

    Directed bond u < U leads from first[u] to second[u]; U + u the other way. A bond to the atom's own image leaves
    it twice and makes a pair with itself.
    """
    chosen = np.flatnonzero(short)
    bonds = np.concatenate([chosen, chosen + len(first)])
    atoms = np.concatenate([first[chosen], second[chosen]])
    order = np.argsort(atoms, kind="stable")
    bonds, atoms = bonds[order], atoms[order]
    # Of its atom's bonds, each is paired with those behind it.
    rest = np.searchsorted(atoms, atoms, side="right") - np.arange(len(atoms)) - 1
    left = np.repeat(np.arange(len(atoms)), rest)
    step = np.arange(len(left)) - np.repeat(np.cumsum(rest) - rest, rest)
    return atoms[left], bonds[left], bonds[left + 1 + step]


def _array(tensor: Tensor) -> NDArray[np.float64]:
    return tensor.detach().cpu().numpy()
