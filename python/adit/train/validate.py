"""Figures on held-out data while training goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from adit import validity as crystal_validity
from adit.batch import SystemBatch, gather
from adit.config import FlowConfig
from adit.data.packed import PackedDataset
from adit.elements import formula_of
from adit.eval import reconstruction
from adit.eval.crystals import novel, unique
from adit.eval.molecules import novelty, uniqueness, validity
from adit.eval.stability import edm_stability
from adit.generate import Generator
from adit.models.losses import reconstruction_terms
from adit.models.vae import VAE
from adit.output import write_whole
from adit.packing import element_counts, pack
from adit.system import AtomicSystem
from adit.train.loop import Loss
from adit.weights.store import Pretrained

NOISE_LEVELS = (0.0, 0.05, 0.1, 0.2, 0.3)
"""Latent noise, as a share of each channel's spread, of the stability curve."""


def size_groups(data: PackedDataset, limit: int, seed: int = 0) -> list[SystemBatch]:
    """Up to `limit` systems of a data set, drawn with a seed, in batches of one size."""
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(data))[:limit]
    sizes = data.sizes[chosen]
    return [gather(data, chosen[sizes == n]) for n in np.unique(sizes)]


def reconstruction_figures(vae: VAE, data: PackedDataset, limit: int) -> dict[str, float]:
    """Type accuracy, RMSD in Angstrom, lattice errors, match rate, and stable atoms against latent noise."""
    figures: dict[str, float] = {}
    for kind, part in _by_kind(data).items():
        groups = size_groups(part, limit)
        device = vae.latent_mean.device
        totals: dict[str, list[float]] = {}
        pairs: list[tuple[AtomicSystem, AtomicSystem]] = []
        for group in groups:
            batch = group.to(device)
            decoded = vae.decode(vae.encode(batch), batch.periodic)
            for name, value in reconstruction_terms(decoded, batch).items():
                totals.setdefault(name, []).extend(value.tolist())
            if kind == "crystal":
                truth = [
                    AtomicSystem.from_fractional(n, f, c)
                    for n, f, c in zip(
                        group.numbers.numpy(), group.fractional.double().numpy(), group.cells.double().numpy(),
                        strict=True,
                    )
                ]  # fmt: skip
                pairs += list(zip(truth, decoded.to_systems(batch.periodic), strict=True))
        names = ("accuracy", "rmsd", "length", "angle") if kind == "crystal" else ("accuracy", "rmsd")
        figures |= {f"{kind}/{name}": float(np.mean(totals[name])) for name in names}
        if kind == "crystal":
            figures["crystal/match_rate"] = match_rate(pairs[:100])
        else:
            figures |= {f"molecule/stable_atoms@{level}": value for level, value in noise_curve(vae, groups).items()}
    return figures


def noise_curve(vae: VAE, groups: list[SystemBatch]) -> dict[float, float]:
    """Share of stable atoms (EDM tables) of molecules decoded from latents with noise of each level."""
    device = vae.latent_mean.device
    batches = [group.to(device) for group in groups]
    with torch.no_grad():
        latents = [vae.encode(batch) for batch in batches]
    curve = {}
    for level in NOISE_LEVELS:
        generator = torch.Generator(device).manual_seed(0)
        made: list[AtomicSystem] = []
        for batch, clean in zip(batches, latents, strict=True):
            noisy = clean + level * torch.randn(clean.shape, generator=generator, device=device)
            made += vae.decode(noisy, batch.periodic).to_systems(batch.periodic)
        curve[level] = edm_stability(made).atom_stability
    return curve


def match_rate(pairs: list[tuple[AtomicSystem, AtomicSystem]]) -> float:
    """Share of pairs that StructureMatcher (stol 0.5, ltol 0.3, angle_tol 10) calls the same."""
    truth, made = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    return float(np.isfinite(reconstruction.crystals(truth, made).rmsd).mean()) if pairs else float("nan")


def sample_figures(
    weights: Pretrained, n: int, train: PackedDataset, known: Callable[[], set[str]], device: torch.device
) -> dict[str, float]:
    """Validity, uniqueness and novelty of `n` fresh molecules and crystals each, and valid & unique & novel."""
    generator = Generator(weights, str(device))
    figures: dict[str, float] = {}
    if "molecule" in weights.atom_counts:
        figures |= molecule_figures(generator.sample(n, "molecule", seed=0), known())
    if "crystal" in weights.atom_counts:
        crystals = generator.sample(n, "crystal", seed=0)
        structural, compositional = crystal_validity.structural(crystals), crystal_validity.compositional(crystals)
        first, new = unique(crystals).first, novel(crystals, train)
        figures |= {
            "crystal/structural": float(structural.mean()),
            "crystal/compositional": float(compositional.mean()),
            "crystal/valid": float((structural & compositional).mean()),
            "crystal/unique": float(first.sum() / max(1, structural.sum())),
            "crystal/novel": float(new.sum() / max(1, structural.sum())),
            "crystal/valid_unique_novel": float((structural & compositional & first & new).mean()),
        }
    return figures


def molecule_figures(molecules: list[AtomicSystem], known: set[str]) -> dict[str, float]:
    """Stability (EDM), validity, uniqueness and novelty of samples; `known` holds the SMILES of the training set."""
    smiles = validity(molecules)
    stability = edm_stability(molecules)
    fresh = {s for s in smiles if s is not None} - known
    return {
        "molecule/stable_atoms": stability.atom_stability,
        "molecule/stable": stability.molecule_stability,
        "molecule/valid": float(np.mean([s is not None for s in smiles])),
        "molecule/unique": uniqueness(smiles),
        "molecule/novel": novelty(smiles, known),
        "molecule/valid_unique_novel": len(fresh) / len(molecules),
    }


def held_out_loss(loss: Loss, data: PackedDataset, limit: int, device: torch.device) -> float:
    """A loss over up to `limit` held-out systems, each atom weighing the same; with the same noise each time."""
    generator = torch.Generator(device).manual_seed(0)
    total, atoms = 0.0, 0
    with torch.no_grad():
        for group in size_groups(data, limit):
            loss_B, _ = loss(group.to(device), generator)
            total += float(loss_B.sum()) * group.n_atoms
            atoms += group.n_systems * group.n_atoms
    return total / atoms


def known_smiles(data: PackedDataset, cache: Path) -> set[str]:
    """Canonical SMILES without stereo of a training set's `smiles` column, kept in a file."""
    if not cache.exists():
        from rdkit import Chem, rdBase

        column = data.properties.get("smiles", np.zeros(0, dtype="U1"))
        with rdBase.BlockLogs():
            molecules = (Chem.MolFromSmiles(str(text)) for text in column if text)
            lines = sorted({Chem.MolToSmiles(m, isomericSmiles=False) for m in molecules if m is not None})
        write_whole(cache, "\n".join(lines))
    return set(cache.read_text().split("\n")) - {""}


def _by_kind(data: PackedDataset) -> dict[str, PackedDataset]:
    periodic = np.asarray(data.periodic)
    parts = {"molecule": data.subset(np.flatnonzero(~periodic)), "crystal": data.subset(np.flatnonzero(periodic))}
    return {kind: part for kind, part in parts.items() if len(part)}


def latent_statistics(vae: VAE, data: PackedDataset, limit: int = 20_000) -> tuple[Tensor, Tensor]:
    """Mean and spread (L,) of the posterior means, molecules and crystals weighing the same."""
    means, variances = [], []
    for part in _by_kind(data).values():
        with torch.no_grad():
            latents = torch.cat(
                [vae.posterior(g.to(vae.latent_mean.device))[0].flatten(0, 1) for g in size_groups(part, limit)]
            )
        means.append(latents.mean(0))
        variances.append(latents.square().mean(0))
    mean = torch.stack(means).mean(0)
    return mean, (torch.stack(variances).mean(0) - mean.square()).sqrt()


def atom_counts(data: PackedDataset) -> dict[str, dict[int, int]]:
    """kind -> {atoms: systems} of a training set."""
    return {
        kind: {int(n): int(c) for n, c in zip(*np.unique(part.sizes, return_counts=True), strict=True)}
        for kind, part in _by_kind(data).items()
    }


def formula_counts(data: PackedDataset) -> dict[str, int]:
    """formula -> systems of a training set."""
    rows, often = np.unique(element_counts(pack(data))[:, 1:].astype(np.int16), axis=0, return_counts=True)
    return dict(zip(map(formula_of, rows), often.tolist(), strict=True))


def told_formulas(data: PackedDataset, flow: FlowConfig) -> dict[str, dict[str, int]]:
    """The kinds of systems whose composition a network is told, with the formulas of the training set."""
    shares = {"molecule": flow.molecule_composition, "crystal": flow.crystal_composition}
    return {kind: formula_counts(part) for kind, part in _by_kind(data).items() if shares[kind] > 0}
