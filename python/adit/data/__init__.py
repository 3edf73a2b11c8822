"""Data sets: readers, the packed cache, the token-budget sampler."""

from adit.data.packed import PackedDataset
from adit.data.prepare import load

__all__ = ["PackedDataset", "load"]
