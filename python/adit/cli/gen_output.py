"""The files of one `adit-gen` run, and the record that lets an interrupted run go on."""

from __future__ import annotations

import json
import time
from bisect import bisect_right
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from adit.errors import InvalidInputError
from adit.output import writing

if TYPE_CHECKING:
    from adit.cli.gen_options import Options, Target
    from adit.convert.writers import Writer
    from adit.system import AtomicSystem

FORMAT_VERSION = 1


class Run:
    """What the record says: the options of a run and how far it came.

    The record is a small JSON file, replaced after each block of samples, when all of the block's
    entries are in all outputs; it stays when the run is finished, as the files' provenance.

    Attributes:
        path: of the record.
        options: as `Options.to_dict`, with the weights' sha256.
        place: what else decides the last bit of a sample: "block" (its size), device, versions; empty at first.
        opened: the outputs hold nothing but samples of this run.
        written: entries in the outputs after each block, cumulative.
        seconds: spent on these blocks.
        finished: all outputs are complete and closed.
    """

    def __init__(self, path: Path, options: dict[str, Any]) -> None:
        self.path = path
        self.options = options
        self.place: dict[str, Any] = {}
        self.opened = False
        self.written: list[int] = []
        self.seconds = 0.0
        self.finished = False

    @property
    def count(self) -> int:
        """Entries in the outputs."""
        return self.written[-1] if self.written else 0

    @property
    def drawn(self) -> int:
        """Samples made for them: more than `count` with --valid-only."""
        blocks = len(self.written) * int(self.place.get("block", 0))
        return blocks if self.options["valid_only"] else min(blocks, int(self.options["n"]))

    def load(self) -> None:
        """Takes up what the record on disk says.

        Raises:
            InvalidInputError: there is no record, it is damaged, or an option was another; names it.
        """
        hint = "Start again with --overwrite"
        try:
            held = json.loads(self.path.read_text(encoding="utf-8"))
            if (held["format"], held["version"]) != ("adit-gen", FORMAT_VERSION):
                raise InvalidInputError(f"--resume: {self.path} is of another version of adit-gen. {hint}")
            options, self.place = dict(held["options"]), dict(held["place"])
            self.opened, self.finished = bool(held["opened"]), bool(held["finished"])
            self.written, self.seconds = [int(count) for count in held["written"]], float(held["seconds"])
        except FileNotFoundError as error:
            raise InvalidInputError(f"--resume: no run to go on with, {self.path} does not exist. {hint}") from error
        except (OSError, KeyError, TypeError, ValueError) as error:
            if isinstance(error, InvalidInputError):
                raise
            raise InvalidInputError(f"--resume: {self.path} is damaged ({error!r}). {hint}") from error
        for name in [*self.options, *(name for name in options if name not in self.options)]:
            old, new = options.get(name), self.options.get(name)
            if old == new or name == "threads" or (name == "n" and self._grow(old, new)):
                continue
            change = f"--{name.replace('_', '-')} was {_show(old)} and is now {_show(new)}"
            if " " in name:
                change = f"the {name.removesuffix(' sha256')} are not what they were"
            raise InvalidInputError(
                f"--resume: {change}; the samples would not fit together. Give the same options (--n may be larger), "
                "or start again with --overwrite"
            )

    def _grow(self, old: Any, new: Any) -> bool:
        """Whether more samples are asked for than before; the last block, which may have been cut short, is made again
        then, and what is in the outputs already is kept."""
        if not isinstance(old, int) or new <= old:
            return False
        self.finished = False
        del self.written[-1:]
        return True

    def settle(self, place: dict[str, Any]) -> list[str]:
        """Notes block size, device and versions. A run that goes on keeps its block size.

        Returns:
            What else is not as it was when the run began: the files will not be the same to the last bit.
        """
        before = self.place or place
        self.place = {**place, "block": before["block"]}
        return [
            f"{name} was {before.get(name)} and is now {value}"
            for name, value in self.place.items()
            if before.get(name) != value
        ]

    def save(self) -> None:
        """Replaces the record on disk at once."""
        held = {
            "format": "adit-gen",
            "version": FORMAT_VERSION,
            "options": self.options,
            "place": self.place,
            "opened": self.opened,
            "written": self.written,
            "seconds": round(self.seconds, 3),
            "finished": self.finished,
        }
        temporary = self.path.with_name(f"{self.path.name}.tmp")
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(held, indent=1) + "\n", encoding="utf-8")
            temporary.replace(self.path)


class Outputs:
    """All files of a run, written together; a context manager.

    Attributes:
        run: its record, kept up to date.
    """

    def __init__(self, run: Run, targets: Sequence[Target], n: int) -> None:
        """Opens the files; those of a run that goes on must hold no more than `n` entries.

        If a file holds fewer entries than the record says (it was changed, or the power failed), the
        run goes back to the last block that is in every file.
        """
        from adit.convert.writers import open_writer

        self.run = run
        self._writers: list[Writer] = []
        self._since = time.perf_counter()
        run.finished = False
        run.save()
        for target in targets:
            if not run.opened and target.kind in (".cif", ".vasp"):
                target.path.unlink(missing_ok=True)  # all other writers clear the place themselves
            self._writers.append(open_writer(target.given, append=run.opened, expected=n))
        for writer in self._writers:
            if writer.count > n:
                raise InvalidInputError(
                    f"--resume: {writer.path} holds {writer.count:,} entries, more than --n {n:,}; it was changed. "
                    "Start again with --overwrite"
                )
        fewest = min(writer.count for writer in self._writers)
        del run.written[bisect_right(run.written, fewest) :]
        run.opened = True
        run.save()

    def add(self, systems: Sequence[AtomicSystem]) -> None:
        """Writes a whole block, then the record. Entries that an interrupted run left there are kept."""
        count = self.run.count
        for writer in self._writers:
            writer.write_all(systems[writer.count - count :])
        self.run.written.append(count + len(systems))
        self._clock()
        self.run.save()

    def finish(self) -> None:
        """Closes the files of a complete run, and says so in the record."""
        self.close()
        self._clock()
        self.run.finished = True
        self.run.save()

    def close(self) -> None:
        """Leaves every file such that it can be read.

        Raises:
            InvalidInputError: the disk refuses; all the others are closed even so.
        """
        with writing(", ".join(str(writer.path) for writer in self._writers)), ExitStack() as stack:
            for writer in self._writers:
                stack.callback(writer.close)

    def _clock(self) -> None:
        now = time.perf_counter()
        self.run.seconds += now - self._since
        self._since = now

    def __enter__(self) -> Outputs:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(InvalidInputError) if error is not None else nullcontext():
            self.close()


def prepare(options: Options, sums: dict[str, Any], targets: Sequence[Target], *, resume: bool, overwrite: bool) -> Run:
    """The run to start or to go on with; nothing on disk is touched. `sums` tell what the options name by its content.

    Raises:
        InvalidInputError: an output exists and neither `resume` nor `overwrite` is set, or the run to
            resume had other options.
    """
    if resume and overwrite:
        raise InvalidInputError("--resume and --overwrite contradict each other; choose one")
    run = Run(targets[0].record, {**options.to_dict(), **sums})
    for target in targets:
        if target.kind == "folder" and (others := sorted(set(target.path.glob("*.cif")) - target.written())):
            raise InvalidInputError(f"{target.path} holds other CIFs, such as {others[0].name}; --out another folder")
    standing = [target for target in targets if target.exists()]
    if resume and (standing or run.path.exists()):
        run.load()
    elif standing and not overwrite:
        names = ", ".join(str(target.path) for target in standing)
        raise InvalidInputError(
            f"{names} exists already; --resume goes on with it, --overwrite replaces it, --out names another"
        )
    return run


def read_back(targets: Sequence[Target]) -> tuple[list[AtomicSystem], list[str]]:
    """The samples as they stand on disk, from the output that holds them best; and the entries that cannot be read.

    Of a run that goes on, too: its zip is still a folder.
    """
    from adit.convert.files import iread
    from adit.system import AtomicSystem

    order = (".extxyz", ".xyz", ".sdf", ".zip", "folder", ".cif", ".vasp")
    best = min(targets, key=lambda target: order.index(target.kind))
    unzipped = best.path.with_name(f"{best.path.name}.partial")
    folder = unzipped if best.kind == ".zip" and unzipped.is_dir() else best.path
    files = sorted(folder.glob("*.cif")) if best.kind == "folder" or folder == unzipped else [best.path]
    entries = [entry for file in files for entry in iread(file)]
    systems = [entry for entry in entries if isinstance(entry, AtomicSystem)]
    return systems, [str(entry) for entry in entries if not isinstance(entry, AtomicSystem)]


def _show(value: Any) -> str:
    return "not given" if value is None or value == [] else json.dumps(value)
