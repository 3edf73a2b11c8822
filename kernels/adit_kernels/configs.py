"""How each kernel is launched: a static table, since `triton.autotune` synchronises and breaks graph capture.

None of these values has been measured on a GPU yet. They follow from register and shared-memory budgets, which
`tests/compile_report.py` prints, and are to be replaced by what `make bench-gpu` finds best.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

FUSION_LEVELS = {
    0: "library matrix products; AdaLN, attention and gates as kernels",
    1: "AdaLN inside the products that follow it, gate and residual inside those that precede it",
    2: "AdaLN, QKV projection and attention in one kernel; the feed-forward half in another",
    3: "the attention half of a block in one kernel, the feed-forward half in another",
}
"""What `adit_kernels.dit_block` can fuse; each level computes the same function."""

MAX_FUSED_WIDTH = 512
"""Levels 2 and 3 keep rows of this width in a program's registers."""


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
class FusedAttention(ShortAttention):
    """The same with projections around it, which take `inner` columns of their inputs at a time."""

    inner: int = 64
    stages: int = 2


@dataclass(frozen=True)
class LongAttention:
    """Tiles of queries against tiles of keys, with a running softmax."""

    queries: int = 64
    keys: int = 64
    warps: int = 4
    stages: int = 2


@dataclass(frozen=True)
class Product:
    """A matrix product with something before or after it: tokens and columns of a program, inner step of a loop."""

    tokens: int = 64
    columns: int = 64
    inner: int = 64
    warps: int = 4
    stages: int = 2


_SHORT = (ShortAttention(12, 32, 2), ShortAttention(32, 64, 4), ShortAttention(64, 128, 8))
_FUSED = (FusedAttention(12, 32, 4), FusedAttention(48, 64, 8))
_HALF = (FusedAttention(12, 32, 4, inner=32, stages=1), FusedAttention(48, 64, 8, inner=32, stages=1))


@dataclass(frozen=True)
class Table:
    """The launch parameters of every kernel.

    Attributes:
        short: by rising `max_length`; systems longer than the last entry's take `long`.
        fusion: the level of `FUSION_LEVELS` that is taken when none is asked for.
    """

    adaln: Elementwise = field(default_factory=Elementwise)
    short: tuple[ShortAttention, ...] = _SHORT
    long: LongAttention = field(default_factory=LongAttention)
    fused_attention: tuple[FusedAttention, ...] = _FUSED
    attention_half: tuple[FusedAttention, ...] = _HALF
    adaln_linear: Product = field(default_factory=lambda: Product(warps=8))
    linear_gate: Product = field(default_factory=Product)
    feed_forward: Product = field(default_factory=lambda: Product(columns=32, warps=8))
    fusion: int = 0

    def short_for(self, max_length: int) -> ShortAttention | None:
        """The entry for systems of up to this length; None if they take tiles."""
        return next((entry for entry in self.short if max_length <= entry.max_length), None)

    def fused_for(self, max_length: int, fusion: int) -> FusedAttention | None:
        """The same for attention fused with its projections, at this level of fusion."""
        entries = self.attention_half if fusion == 3 else self.fused_attention
        return next((entry for entry in entries if max_length <= entry.max_length), None)


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
