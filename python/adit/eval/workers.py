"""Work on many systems in several processes: for libraries that use one core, such as RDKit and Open Babel."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from adit.errors import InvalidInputError
from adit.eval.limits import cores
from adit.packing import Packed, cut
from adit.pool import Pool

if TYPE_CHECKING:
    from typing import Self

P = TypeVar("P")
T = TypeVar("T")
Advance = Callable[[int], None]
"""Called with the number of systems that have been done since it was called last."""

CHUNK = 250
"""Systems that a process gets at a time."""
_WORTH_IT = 2000
"""Fewer systems than this are done before a pool of processes has started."""


class Workers:
    """A pool of processes that starts when it is worth it, and not before.

    The processes are not forked from this one, which may have threads of torch and Rust, but started anew: a script
    that asks for more than one must begin under `if __name__ == "__main__":`.

    Args:
        processes: None for one for each core that this process may use; 1 for no other process.

    Raises:
        InvalidInputError: `processes` is below 1.
    """

    def __init__(self, processes: int | None = 1) -> None:
        if processes is not None and processes < 1:
            raise InvalidInputError(f"`processes` must be at least 1; got {processes}")
        self.processes = processes or cores()
        self._pool: Pool | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None

    def map(self, work: Callable[[Packed], T], batch: Packed, advance: Advance | None = None) -> list[T]:
        """`work` done on consecutive pieces of a batch; the results in their order.

        Args:
            work: a function of a module, or a `partial` of one, that can be pickled.
            batch: systems.
            advance: called with the size of each piece that is done.

        Raises:
            BackendUnavailableError: a process died.
        """
        results: list[T] = []
        pieces = list(cut(batch, CHUNK))
        for piece, result in zip(pieces, self.run(work, pieces, len(batch.periodic)), strict=True):
            results.append(result)
            if advance is not None:
                advance(len(piece.periodic))
        return results

    def run(self, work: Callable[[P], T], pieces: Sequence[P], systems: int) -> Iterator[T]:
        """`work` of each piece, in their order; `systems`: how many are in all pieces."""
        if self.processes == 1 or (systems < _WORTH_IT and self._pool is None):
            yield from map(work, pieces)
            return
        if self._pool is None:
            self._pool = Pool(self.processes, "forkserver")
        yield from self._pool.in_order(work, pieces)
