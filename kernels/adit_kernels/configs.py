"""How each kernel is launched: a static table, since `triton.autotune` synchronises and breaks graph capture.

The values follow from register and shared-memory budgets, which `tests/compile_report.py` prints. What they reach on an
NVIDIA H200 is in the README of adit-kernels; others have not been tried on a GPU (`make bench-gpu ARGS=--sweep`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class Elementwise:
    """AdaLN: a program holds about `elements` numbers; in the backward pass it takes up to `split` tokens in turn."""

    elements: int = 4096
    backward_elements: int = 2048
    split: int = 256
    warps: int = 4


@dataclass(frozen=True)
class ShortAttention:
    """Whole systems in one program.

    Attributes:
        max_length: the longest system that this entry serves.
        block: tokens that a program can hold. It owns the systems that start in a window of
            `block - max_length + 1` tokens, so these always fit.
        warps: of a program.
    """

    max_length: int
    block: int
    warps: int

    def __post_init__(self) -> None:
        if self.max_length > self.block:
            raise ValueError(f"systems of {self.max_length} tokens do not fit a program of {self.block}")

    def step(self, max_length: int) -> int:
        """Tokens of the window in which a program's systems start, where no system is longer than `max_length`."""
        return self.block - max(max_length, 1) + 1


@dataclass(frozen=True)
class LongAttention:
    """Tiles of queries against tiles of keys, with a running softmax."""

    queries: int = 64
    keys: int = 64
    warps: int = 4
    stages: int = 2


_SHORT = (ShortAttention(12, 32, 2), ShortAttention(32, 64, 4), ShortAttention(64, 128, 8))


@dataclass(frozen=True)
class Table:
    """The launch parameters of every kernel.

    Attributes:
        short: by rising `max_length`; systems longer than the last entry's take `long`.
    """

    adaln: Elementwise = field(default_factory=Elementwise)
    short: tuple[ShortAttention, ...] = _SHORT
    long: LongAttention = field(default_factory=LongAttention)

    def short_for(self, max_length: int) -> ShortAttention | None:
        """The entry for systems of up to this length; None if they take tiles."""
        return next((entry for entry in self.short if max_length <= entry.max_length), None)


_active = Table()


def table() -> Table:
    """The table in force."""
    return _active


@contextmanager
def override(**changes: object) -> Iterator[None]:
    """Other entries while it lasts, for tuning and tests; not for two threads at once."""
    global _active
    before = _active
    _active = replace(before, **changes)  # type: ignore[arg-type]
    try:
        yield
    finally:
        _active = before
