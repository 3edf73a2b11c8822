"""All baselines: what was published of each, and how to build it.

`parameters` and `gflop` are the figures of the published networks as the project measured them once; the tests hold
the networks here to them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from baselines import adit_usual, cdvae, diffcsp, edm, eqgat, flowmm, geoldm, semla, tabasco
from baselines.common import Baseline

MOLECULE, CRYSTAL = "molecule", "crystal"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One baseline.

    Attributes:
        name: as in tables and on the command line.
        source: arXiv number.
        build: the network that is evaluated at each step, with random weights.
        parameters: published, of that network.
        gflop: of one forward pass over 64 systems of `gflop_atoms` atoms, without guidance.
        evaluations: of the network for one sample, as published; the usual number first.
        systems: what it generates, MOLECULE and CRYSTAL.
        hydrogens: whether hydrogens are among its atoms.
        equivariant: whether it claims to be (for crystals: invariant to shifts and order, and to rotation).
        guided: sampled with classifier-free guidance, which doubles the batch.
        pads: its published code pads the systems of a batch to one size.
        decoder: a network that is evaluated once at the end, or None.
        masks: takes batches of mixed sizes.
        meta: its operations can be counted without data.
    """

    name: str
    source: str
    build: Callable[[], Baseline]
    parameters: float
    gflop: float
    gflop_atoms: int
    evaluations: tuple[int, ...]
    systems: tuple[str, ...]
    hydrogens: bool = True
    equivariant: bool = True
    guided: bool = False
    pads: bool = True
    decoder: Callable[[], Baseline] | None = None
    masks: bool = True
    meta: bool = True


def _adit(size: str, width: int, layers: int, heads: int, parameters: float, gflop: float) -> Entry:
    return Entry(
        name=f"ADiT-{size}", source="2503.03965", build=partial(adit_usual.PublishedADiT, width, layers, heads),
        parameters=parameters, gflop=gflop, gflop_atoms=18, evaluations=(adit_usual.STEPS,),
        systems=(MOLECULE, CRYSTAL), equivariant=False, guided=True, decoder=adit_usual.PublishedDecoder,
    )  # fmt: skip


BASELINES = (
    Entry(
        name="EDM", source="2203.17003", build=edm.EDM, parameters=5.34e6, gflop=151, gflop_atoms=18,
        evaluations=(edm.STEPS,), systems=(MOLECULE,),
    ),
    Entry(
        name="GeoLDM", source="2305.01140", build=geoldm.GeoLDM, parameters=5.34e6, gflop=151, gflop_atoms=18,
        evaluations=(edm.STEPS,), systems=(MOLECULE,), decoder=geoldm.GeoLDMDecoder,
    ),
    Entry(
        name="EQGAT-diff", source="2309.17296", build=eqgat.EQGATDiff, parameters=12.3e6, gflop=233, gflop_atoms=18,
        evaluations=(eqgat.STEPS,), systems=(MOLECULE,), pads=False,
    ),
    Entry(
        name="SemlaFlow", source="2406.07266", build=semla.SemlaFlow, parameters=23.3e6, gflop=87, gflop_atoms=18,
        evaluations=semla.STEPS, systems=(MOLECULE,),
    ),
    Entry(
        name="TABASCO-hot", source="2507.00899", build=tabasco.Tabasco, parameters=14.8e6, gflop=34, gflop_atoms=18,
        evaluations=(tabasco.STEPS,), systems=(MOLECULE,), hydrogens=False, equivariant=False,
    ),
    Entry(
        name="CDVAE", source="2110.06197", build=cdvae.CDVAEDecoder, parameters=2.35e6, gflop=40, gflop_atoms=10,
        evaluations=(cdvae.STEPS,), systems=(CRYSTAL,), pads=False, meta=False,
    ),
    Entry(
        name="DiffCSP", source="2309.04475", build=diffcsp.DiffCSP, parameters=12.35e6, gflop=98, gflop_atoms=10,
        evaluations=(diffcsp.STEPS,), systems=(CRYSTAL,), pads=False,
    ),
    Entry(
        name="FlowMM", source="2406.04744", build=flowmm.FlowMM, parameters=14.1e6, gflop=107, gflop_atoms=10,
        evaluations=flowmm.STEPS, systems=(CRYSTAL,), pads=False,
    ),
    _adit("S", 384, 12, 6, 32.6e6, 50),
    _adit("B", 768, 12, 12, 129.7e6, 202),
    _adit("L", 1024, 24, 16, 457e6, 716),
)  # fmt: skip


def select(names: Iterable[str] | None = None, system: str | None = None) -> list[Entry]:
    """The entries of these names (all, if None) that generate `system`.

    Raises:
        SystemExit: a name is unknown.
    """
    known = {entry.name.lower(): entry for entry in BASELINES}
    if unknown := [name for name in names or () if name.lower() not in known]:
        raise SystemExit(f"unknown baselines {unknown}; known: {', '.join(entry.name for entry in BASELINES)}")
    chosen = BASELINES if names is None else [known[name.lower()] for name in names]
    return [entry for entry in chosen if system is None or system in entry.systems]
