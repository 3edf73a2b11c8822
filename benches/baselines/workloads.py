"""What is generated: molecules of QM9's and of GEOM-DRUGS' sizes, crystals of MP-20's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from adit.weights import Pretrained
from baselines.registry import CRYSTAL, MOLECULE

_COUNTS = Path(__file__).with_name("atom_counts.json")


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Systems of one kind and the sizes of one data set.

    Attributes:
        name: on the command line and in files.
        title: in tables.
        system: MOLECULE or CRYSTAL.
        atoms: number of atoms -> how often.
        heavy: the same without hydrogens; None for crystals.
        trained: whether the shipped weights were trained on this data; if not, only their time means something.
    """

    name: str
    title: str
    system: str
    atoms: Mapping[int, int]
    heavy: Mapping[int, int] | None = None
    trained: bool = True

    def counts(self, hydrogens: bool = True) -> Mapping[int, int]:
        """The histogram that a network with or without hydrogens samples from."""
        return self.heavy if self.heavy is not None and not hydrogens else self.atoms

    def sizes(self, count: int, hydrogens: bool = True) -> Tensor:
        """`count` sizes, increasing: the quantiles of the histogram, so that a small batch is typical too."""
        histogram = self.counts(hydrogens)
        values = np.array(sorted(histogram))
        cumulated = np.cumsum([histogram[int(value)] for value in values]) / sum(histogram.values())
        places = np.searchsorted(cumulated, (np.arange(count) + 0.5) / count)
        return torch.from_numpy(values[places])

    def mean(self, hydrogens: bool = True) -> int:
        """The mean size, rounded."""
        histogram = self.counts(hydrogens)
        return round(sum(n * c for n, c in histogram.items()) / sum(histogram.values()))


def workloads(weights: Pretrained) -> list[Workload]:
    """QM9 and MP-20 as in the training set of the weights, GEOM-DRUGS and heavy atoms from `atom_counts.json`."""
    table = json.loads(_COUNTS.read_text())
    known = {name: {int(n): c for n, c in table[name].items()} for name in table if name != "about"}
    counts = weights.atom_counts
    return [
        Workload(
            name="qm9",
            title="Molecules, QM9's sizes",
            system=MOLECULE,
            atoms=counts[MOLECULE],
            heavy=known["qm9_heavy"],
        ),
        Workload(
            name="geom",
            title="Molecules, GEOM-DRUGS' sizes",
            system=MOLECULE,
            atoms=known["geom_drugs"],
            heavy=known["geom_drugs_heavy"],
            trained=False,
        ),
        Workload(name="mp20", title="Crystals, MP-20's sizes", system=CRYSTAL, atoms=counts[CRYSTAL]),
    ]
