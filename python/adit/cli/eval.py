"""`adit-eval`: judges the molecules and crystals of a file, and compares what it found."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adit.cli.common import check_writable, places_of, run
from adit.cli.eval_stages import (
    EnergyOption,
    HullOption,
    PatternOption,
    RankedOption,
    ReconstructOption,
    RelaxedOption,
    RelaxOption,
    RelaxSampleOption,
    StrainOption,
    StrainSampleOption,
    WavelengthOption,
    WorkOption,
    check_written,
    default_work,
    further_stages,
    write_ranked,
    write_relaxed,
)
from adit.errors import InvalidInputError
from adit.output import writing

if TYPE_CHECKING:
    from adit.convert.base import BrokenEntry
    from adit.eval.evaluation import Progress
    from adit.eval.results import Evaluation
    from adit.eval.workers import Advance
    from adit.system import AtomicSystem

_SHOWN = 5  # unreadable entries


class ProtocolChoice(str, Enum):
    adit = "adit"
    edm = "edm"
    adit_rust = "adit-rust"
    cdvae = "cdvae"


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def evaluate(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE",
            help="cif, xyz, extxyz, sdf, POSCAR; a folder or zip of those; a prepared data set, by name or folder "
            "(mp20:val: one split of it). With --compare: files that --json wrote.",
        ),
    ],
    protocol: Annotated[
        list[ProtocolChoice] | None,
        typer.Option(
            help="How to judge molecules (cdvae: crystals, always); may be given again. Default: all that can run."
        ),
    ] = None,
    reference: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME_OR_PATH",
            help="Measure novelty, distributions and coverage against this: a prepared data set, one split of it "
            "(mp20:train), a file, or a list of SMILES (library.smi, .csv; novelty alone). May be given several times.",
        ),
    ] = None,
    json_path: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="Write figures and a row for each structure as JSON."),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(metavar="FILE.html", help="Write a page with figures, reasons, histograms and structures in 3D."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the intervals of confidence.")] = 0,
    processes: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Share the work among so many. Default: one for each core.")
    ] = None,
    energy_sample: EnergyOption = None,
    strain: StrainOption = None,
    strain_sample: StrainSampleOption = 100,
    relax: RelaxOption = None,
    relax_sample: RelaxSampleOption = None,
    relaxed: RelaxedOption = None,
    hull: HullOption = None,
    work: WorkOption = None,
    pattern: PatternOption = None,
    wavelength: WavelengthOption = None,
    ranked: RankedOption = None,
    reconstruct: ReconstructOption = None,
    compare: Annotated[bool, typer.Option("--compare", help="Put runs side by side, with published figures.")] = False,
) -> None:
    """Judges generated molecules and crystals: validity, uniqueness, stability, novelty, geometry, distributions."""
    outputs = {"--json": json_path, "--report": report, "--relaxed": relaxed, "--ranked": ranked}
    check_written("--relaxed", relaxed, "--relax chgnet", relax)
    check_written("--ranked", ranked, "--pattern measured.xy", pattern)
    if compare:
        _check_outputs(outputs, [("is to be compared", path) for path in paths])
        _compare(paths, report)
        return
    if len(paths) > 1:
        raise InvalidInputError(f"expected one file or folder; got {len(paths)}. Or compare JSON files with --compare")
    known_by: list[tuple[str, str | Path | None]] = [
        ("is to be passed through", reconstruct),
        ("is the --pattern", pattern),
    ]
    known_by += [("is the --hull", name) for name in hull or ()]
    known_by += [("is the --reference", name) for name in reference or ()]
    _check_outputs({**outputs, "--work": work}, [("is to be judged", paths[0]), *known_by])
    from adit.eval import evaluation
    from adit.eval.reference import Reference

    known = Reference.open_all(reference) if reference else None
    more = further_stages(
        known,
        energy_sample=energy_sample,
        strain=strain,
        strain_sample=strain_sample,
        relax=relax,
        relax_sample=relax_sample,
        hull=hull,
        work=work or default_work(paths[0], json_path),
        pattern=pattern,
        wavelength=wavelength,
        reconstruct=reconstruct,
    )
    chosen: list[Any] | None = [choice.value for choice in protocol] if protocol else None
    systems: list[AtomicSystem] | None = None if report is None else []
    with _progress() as progress:
        found = evaluation.evaluate(
            _entries(paths[0], systems),
            name=str(paths[0]),
            protocols=chosen,
            reference=known,
            seed=seed,
            processes=processes,
            stages=more,
            progress=progress,
        )
    if json_path is not None:
        found.save(json_path)
    if relaxed is not None:
        write_relaxed(relaxed, more)
    if ranked is not None:
        write_ranked(ranked, more)
    _show(found)
    if report is not None:
        from adit.eval.report import write_html

        with writing(report):
            write_html(report, found, systems or [], reference=known)


def _entries(path: Path, kept: list[AtomicSystem] | None) -> Iterator[AtomicSystem | BrokenEntry]:
    """Of a file; those that can be read are kept for the page, so that it is read once."""
    from adit.convert.base import BrokenEntry
    from adit.eval.evaluation import read

    for entry in read(path):
        if kept is not None and not isinstance(entry, BrokenEntry):
            kept.append(entry)
        yield entry


def _compare(paths: list[Path], report: Path | None) -> None:
    from rich.console import Console

    from adit.eval.compare import notes, side_by_side
    from adit.eval.results import Evaluation

    runs = [Evaluation.load(path) for path in paths]
    names = [path.stem for path in paths]
    labels = names if len(set(names)) == len(names) else [str(path) for path in paths]
    console = Console(emoji=False)
    named = list(zip(labels, runs, strict=True))
    if report is not None:
        from adit.eval.report import write_comparison

        with writing(report):
            write_comparison(report, named)
    for table in side_by_side(named):
        console.print(table)
    for line in notes(runs):
        console.print(line, style="dim", markup=False, highlight=False)


def _show(found: Evaluation) -> None:
    from rich.console import Console

    from adit.eval.compare import tables

    console = Console(emoji=False)
    console.print(found.file, style="bold", markup=False, highlight=False)
    for table in tables(found):
        console.print(table)
    lines = [f"{name}: {words}" for name, words in found.protocols.items()]
    if found.reference is not None:
        lines.append(
            f"novel: not in {found.reference['name']} ({found.reference['molecules']:,} molecules, "
            f"{found.reference['crystals']:,} crystals)"
        )
    lines.append(f"[low, high]: interval of {found.level:.0%} confidence, seed {found.seed}")
    lines.append(f"{sum(found.seconds.values()):.1f} s")
    for line in lines:
        console.print(line, style="dim", markup=False, highlight=False)
    if found.unreadable:
        unknown = sum(entry["kind"] is None for entry in found.unreadable)
        tail = f"; {unknown:,} of unknown kind count nowhere" if unknown else ", counted as invalid"
        typer.echo(f"unreadable entries: {len(found.unreadable):,}{tail}", err=True)
    for entry in found.unreadable[:_SHOWN]:
        typer.echo(f"unreadable: {entry['entry']}: {entry['why']}", err=True)


@contextmanager
def _progress() -> Iterator[Progress]:
    """Bars for stages on stderr, if that is a terminal; else a line now and then."""
    from rich.console import Console
    from rich.progress import Progress as Bars

    from adit.cli.common import Log, progress_columns

    console, log = Console(stderr=True, emoji=False), Log(on=not sys.stderr.isatty())
    with Bars(*progress_columns(), console=console, disable=not sys.stderr.isatty()) as bars:

        @contextmanager
        def stage(title: str, steps: int | None) -> Iterator[Advance]:
            task = bars.add_task(title, total=steps, rate="")

            def advance(count: int) -> None:
                bars.update(task, advance=count)
                log.say(f"{title}: {bars.tasks[task].completed:,.0f}{f' of {steps:,}' if steps is not None else ''}")

            yield advance
            bars.update(task, total=bars.tasks[task].completed)

        yield stage


def _check_outputs(outputs: dict[str, Path | None], inputs: list[tuple[str, str | Path | None]]) -> None:
    """Before the work, not after it: they can be written, and replace nothing that is read.

    Args:
        outputs: option -> what it is to write.
        inputs: what each is for; a file, a folder or the name of a data set, or None.

    Raises:
        InvalidInputError: they cannot, or would.
    """
    written = {option: path for option, path in outputs.items() if path is not None}
    if len({path.resolve() for path in written.values()}) < len(written):
        raise InvalidInputError(
            f"{' and '.join(written)} must be different files; got {', '.join(map(str, written.values()))}"
        )
    for option, path in written.items():
        if option != "--work":
            if path.is_dir():
                raise InvalidInputError(f"{option} {path}: is a folder, which cannot be written. Choose another path")
            check_writable(option, path)
        for role, given in inputs:
            if given is not None and any(_holds(place, path) for place in places_of(str(given))):
                raise InvalidInputError(f"{option} {path} would replace what {role}, {given}. Choose another path")


def _holds(place: Path, path: Path) -> bool:
    """Whether to write `path` is to lose some of what is read from `place`; a report that lies there is not read."""
    if not path.exists():
        return False
    if path.samefile(place):
        return True
    if not place.is_dir() or not path.is_file() or not path.resolve().is_relative_to(place.resolve()):
        return False
    head = path.read_bytes()[:200]
    return not (head.startswith(b"<!DOCTYPE html>") or b'"format": "adit-eval"' in head)


def main() -> None:
    """Entry point of `adit-eval`."""
    run(app)
