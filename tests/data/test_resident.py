"""`ResidentDataset` against the gather in Rust."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import torch

from adit.batch import SystemBatch, gather
from adit.data.packed import PackedDataset
from adit.data.resident import ResidentDataset

DATA = PackedDataset.load(Path(__file__).parents[1] / "fixtures" / "tiny_dataset")


def test_every_batch_is_the_one_that_rust_gathers() -> None:
    resident = ResidentDataset.from_packed(DATA, torch.device("cpu"))
    rng = np.random.default_rng(0)
    for size in np.unique(DATA.sizes).tolist():
        indices = rng.choice(np.flatnonzero(DATA.sizes == size), 7)  # with repetition
        ours = resident.batch(torch.from_numpy(indices), size)
        rust = gather(DATA, indices)
        for field in fields(SystemBatch):
            one, two = getattr(ours, field.name), getattr(rust, field.name)
            assert one.dtype == two.dtype
            torch.testing.assert_close(one, two, atol=1e-6, rtol=0)


def test_no_systems_no_atoms() -> None:
    batch = ResidentDataset.from_packed(DATA, torch.device("cpu")).batch(torch.zeros(0, dtype=torch.long), 5)
    assert batch.numbers.shape == (0, 5) and batch.cartesian.shape == (0, 5, 3)
