"""`adit-gen`: invents molecules and crystals, and writes them as they are made."""

from __future__ import annotations

import json
import platform
import shlex
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from collections.abc import Generator as Blocks
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from adit.cli.common import check_writable, run
from adit.cli.gen_filter import Filter, asked_formulas, has, of_formula, snapped
from adit.cli.gen_options import (
    DEFAULT_WEIGHTS,
    SOLVERS,
    Given,
    Options,
    Target,
    find_predictors,
    find_weights,
    parse_atoms,
    protect,
    read_given,
    settings,
)
from adit.cli.gen_options import targets as parse_targets
from adit.cli.gen_output import Outputs, Run, prepare, read_back
from adit.cli.gen_screen import asked, misfit_rows, noun, open_console, print_table, progress_bar, property_rows, status
from adit.errors import BackendUnavailableError, InvalidInputError
from adit.output import writing

if TYPE_CHECKING:
    from rich.console import Console

    from adit.eval.summary import Summary
    from adit.system import AtomicSystem

GIVE_UP_AFTER, GIVE_UP_BELOW = 1000, 0.01
"""--valid-only, --unique and --novel stop if, after so many samples, less than this share is kept."""


class _HardlyAny(Exception):
    """Too few samples are kept."""


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"adit {_version('adit')}")
        raise typer.Exit


@app.command()
def generate(
    system: Annotated[str, typer.Option(metavar="KIND", help="molecule or crystal.")] = "molecule",
    n: Annotated[int, typer.Option("--n", "-n", help="How many.")] = 100,
    out: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH",
            help="Where to: .sdf, .xyz, .extxyz, .cif, .zip (of CIFs), a folder/ of CIFs, or POSCAR for one crystal. "
            "May be given several times. Default: molecules.sdf or crystals.extxyz.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same machine, same files.")] = 0,
    steps: Annotated[int | None, typer.Option(help="Solver steps; default: as the weights say.")] = None,
    solver: Annotated[str | None, typer.Option(metavar="NAME", help=f"{', '.join(SOLVERS)}; default: same.")] = None,
    cfg: Annotated[
        float | None, typer.Option(help="Scale of classifier-free guidance, 1 is none; default: same.")
    ] = None,
    guide: Annotated[
        float | None, typer.Option(help="Scale of guidance by the weights' smaller network, 1 is none; default: same.")
    ] = None,
    noise: Annotated[
        float | None,
        typer.Option(help="Fresh noise of ancestral and sde-dpm++; more is sounder, less more diverse; default: same."),
    ] = None,
    atoms: Annotated[
        str | None, typer.Option(metavar="N or MIN-MAX", help="Atoms in each; default: as in the training set.")
    ] = None,
    formula: Annotated[
        str | None,
        typer.Option(
            metavar="FORMULA",
            help="Of the whole molecule or cell (of crystals with --atoms MIN-MAX multiples, too), e.g. C7H10O2; "
            "training: those of the training set; new: these with an element exchanged (crystals); any: left to the "
            "network; default: as the weights say.",
        ),
    ] = None,
    chemical_system: Annotated[
        str | None, typer.Option(metavar="A-B-C", help="Draw only formulas of exactly these elements, e.g. Li-P-S.")
    ] = None,
    elements: Annotated[
        str | None, typer.Option(metavar="A-B", help="Draw only formulas that have all of these.")
    ] = None,
    exclude_elements: Annotated[
        str | None, typer.Option(metavar="A-B", help="Draw only formulas that have none of these.")
    ] = None,
    like: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            help="Variations of these structures, one after the other; --strength says how far. May be given several "
            "times.",
        ),
    ] = None,
    strength: Annotated[
        float | None, typer.Option(help="Above 0, at most 1: the share of noise in what --like starts from; 0.55.")
    ] = None,
    cell: Annotated[
        str | None,
        typer.Option(
            metavar="a,b,c,alpha,beta,gamma",
            help="Crystals in this cell (Angstrom, degrees; of a centred lattice its letter first: F,5.43,...); "
            "--formula is that of the primitive cell.",
        ),
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            help="Atoms that samples hold where they are: a scaffold of molecules, a crystal's host of what is to be "
            "found; --formula is that of the whole. May be given several times, then one after the other.",
        ),
    ] = None,
    wanted_properties: Annotated[
        list[str] | None,
        typer.Option(
            "--property",
            metavar="NAME=VALUE",
            help="What samples shall have, e.g. gap=0.25, gap=0.2:0.3 or gap=0.3:, of a property that a predictor "
            "knows, in its unit. May be given for several properties.",
        ),
    ] = None,
    property_scale: Annotated[
        float | None, typer.Option(help="How strongly they are pulled there; 1 is Bayes' rule; default: 2.")
    ] = None,
    predictor: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FOLDER",
            help="A predictor of `adit-train property`, asked before those of the weights. May be given several times.",
        ),
    ] = None,
    symmetrize: Annotated[
        float | None,
        typer.Option(
            metavar="ANGSTROM",
            help="Snap crystals to the highest symmetry that moves no atom by more than this, e.g. 0.1; their space "
            "group then stands in `spacegroup`.",
        ),
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Samples made together; default: automatic.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    threads: Annotated[int | None, typer.Option(help="CPU threads; default: as torch chooses.")] = None,
    weights: Annotated[str, typer.Option(metavar="NAME or FOLDER", help="Trained weights.")] = DEFAULT_WEIGHTS,
    valid_only: Annotated[
        bool,
        typer.Option(
            "--valid-only",
            help="Keep valid ones only (of the formula or elements and predicted within the ranges of --property, if "
            "given), and go on to n.",
        ),
    ] = False,
    unique: Annotated[bool, typer.Option("--unique", help="Keep valid ones only, each once, and go on to n.")] = False,
    novel: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME or FILE",
            help="Keep valid ones only that are not in this prepared data set, file or list of SMILES (library.smi, "
            ".csv), e.g. qm9, and go on to n. May be given several times.",
        ),
    ] = None,
    json_path: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write a summary with all options as JSON.")
    ] = None,
    report: Annotated[Path | None, typer.Option(metavar="FILE.html", help="Write a page of 3D structures.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing outputs.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
    progress: Annotated[
        bool | None, typer.Option("--progress/--no-progress", help="Progress bar; default: on a terminal.")
    ] = None,
    _version_: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Invents molecules or crystals, writes them as they are made, and says how good they are.

    Ctrl-C keeps what is finished; the same command with --resume goes on.
    """
    options = Options(
        system=system,
        n=n,
        out=tuple(out or ()),
        seed=seed,
        steps=steps,
        solver=solver,
        cfg=cfg,
        guide=guide,
        noise=noise,
        atoms=parse_atoms(atoms),
        formula=formula,
        chemical_system=chemical_system,
        elements=elements,
        exclude_elements=exclude_elements,
        like=tuple(like or ()),
        strength=strength,
        cell=cell,
        keep=tuple(keep or ()),
        property_=tuple(wanted_properties or ()),
        property_scale=property_scale,
        predictor=tuple(predictor or ()),
        symmetrize=symmetrize,
        batch_size=batch_size,
        device=device,
        threads=threads,
        weights=weights,
        valid_only=valid_only or unique or bool(novel),
        unique=unique,
        novel=tuple(novel or ()),
    )
    places = parse_targets(options)
    pages = [(name, path) for name, path in (("--json", json_path), ("--report", report)) if path is not None]
    protect(options, [("--out", target.path) for target in places] + pages)
    if len({path.resolve() for _, path in pages}) < len(pages):
        raise InvalidInputError(f"--json and --report must be different files; got {report} for both")
    for name, path in pages:
        check_writable(name, path)
        if path.is_dir() or path.resolve() in [target.path.resolve() for target in places]:
            raise InvalidInputError(f"{name} {path}: is a folder or an output. Choose another name")
        if path.exists() and not (resume or overwrite):
            raise InvalidInputError(f"{name} {path} exists already; --overwrite replaces it, {name} names another")
    folder, sha256 = find_weights(options)
    given = read_given(options)
    wanted = Filter(options, given) if options.valid_only else None
    sums = {
        "weights sha256": sha256,
        **given.sums,
        "predictors sha256": find_predictors(options, folder),
        "resolved settings": settings(options, folder),
    }
    state = prepare(options, sums, places, resume=resume, overwrite=overwrite)
    console = open_console(progress, quiet)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # what stops a job keeps what is finished, too
    try:
        stop = None
        if not (state.finished and all(target.exists() for target in places)):
            stop = _generate(options, given, folder, places, state, wanted, console, quiet)
        elif not quiet:
            print("finished already; nothing to generate", file=sys.stderr)
        if pages or not (quiet or stop):
            rows = _conclude(options, given, places, state, json_path, report, console)
            if not (quiet or stop):
                print_table(options, rows, [*(target.path for target in places), *(path for _, path in pages)])
        if stop:
            _leave(1, stop)
    except KeyboardInterrupt:
        words = [word for word in sys.argv[1:] if word not in ("--resume", "--overwrite")]
        names = ", ".join(str(target.path) for target in places)
        _leave(
            130,
            f"interrupted: {state.count:,} of {n:,} {noun(options)} are in {names}. To go on: "
            f"{shlex.join(['adit-gen', *words, '--resume'])}",
        )


def _generate(
    options: Options, given: Given, folder: Path, places: list[Target], state: Run,
    wanted: Filter | None, console: Console, quiet: bool,
) -> str | None:  # fmt: skip
    """Makes and writes what is missing; why it stopped before, if hardly any sample is valid."""
    with status(console, "loading weights"):
        import torch

        from adit.generate import Generator

        generator = Generator.from_pretrained(
            folder, device=options.device, threads=options.threads, predictors=options.predictor
        )
    block = generator.block_size(options.batch_size)
    if options.valid_only and options.batch_size is None:
        block = min(block, max(16, 2 * options.n))
    place = {"block": block, "device": str(generator.device), "adit": _version("adit"), "torch": str(torch.__version__)}
    differences = state.settle(place)
    for difference in [] if quiet else differences:
        print(f"warning: {difference}; samples may differ in their last digits from one run's", file=sys.stderr)
    ask = partial(
        generator.stream,
        system=options.system,
        seed=options.seed,
        steps=options.steps,
        solver=options.solver,
        cfg=options.cfg,
        guide=options.guide,
        noise=options.noise,
        atoms=options.atoms,
        formula=options.formula,
        chemical_system=options.chemical_system,
        elements=options.elements,
        exclude_elements=options.exclude_elements,
        like=given.templates,
        keep=given.kept,
        cell=options.cell,
        properties=options.properties,
        property_scale=options.property_scale,
        batch_size=int(state.place["block"]),
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        ask(1)  # makes nothing yet; but what it refuses must not cost what stands in the outputs
    for warning in [] if quiet else caught:
        print(f"warning: {warning.message}", file=sys.stderr)
    try:
        with (
            Outputs(state, places, options.n) as outputs,
            ThreadPoolExecutor(1) as pool,
            closing(_blocks(ask, options, state, wanted, console)) as blocks,
        ):
            if wanted is not None:
                with status(console, "reading what is known"):
                    wanted.begin(read_back(places)[0][: state.count] if state.count else [])
            # A block is written, its bonds perceived, while the next one is made.
            writing: Future[None] | None = None
            for systems in blocks:
                if writing is not None:
                    writing.result()
                writing = pool.submit(outputs.add, systems)
            if writing is not None:
                writing.result()
            outputs.finish()
    except _HardlyAny as stop:
        return str(stop)
    except torch.OutOfMemoryError as error:
        raise BackendUnavailableError(
            f"the memory of {generator.device} is too small for blocks of {state.place['block']:,}; "
            "start again with --overwrite and a smaller --batch-size"
        ) from error
    return None


def _blocks(
    ask: Callable[..., Iterator[list[AtomicSystem]]],
    options: Options,
    state: Run,
    wanted: Filter | None,
    console: Console,
) -> Blocks[list[AtomicSystem], None, None]:
    """The blocks to write, from where the run stands, with a progress bar; `ask` is `Generator.stream` with options."""
    block = int(state.place["block"])
    kept, drawn = state.count, state.drawn
    fresh = 0
    with progress_bar(console, kept, block, options) as advance:

        def made(count: int) -> None:
            nonlocal fresh
            fresh += count
            if wanted is None:  # which of them are kept is known at the end of the block
                advance(kept + fresh, drawn + fresh)

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # said already
            stream = ask(options.n if wanted is None else None, start=len(state.written) * block, progress=made)
        while kept < options.n:
            if wanted is not None and drawn >= GIVE_UP_AFTER and kept < GIVE_UP_BELOW * drawn:
                remedy = "Try other --weights, more --steps or another --solver, or leave out --valid-only"
                if options.unique or options.novel:
                    farther = "raise --strength, " if options.like else ""
                    remedy = f"There may be few more: lower --n, {farther}or leave out --unique or --novel"
                if any(isinstance(value, tuple) for value in options.properties.values()):
                    remedy = "The ranges of --property may be too narrow or too far from what was learnt; widen them"
                raise _HardlyAny(
                    f"stopped: only {kept:,} of {drawn:,} samples are {asked(options)}, less than {GIVE_UP_BELOW:.0%}"
                    f"{'; they are kept' if kept else ''}. {remedy}"
                )
            systems, fresh = next(stream), 0
            drawn += len(systems)
            if options.symmetrize is not None:
                systems = snapped(systems, options.symmetrize, options.threads)
            if wanted is not None:
                systems = wanted(systems)[: options.n - kept]
            kept += len(systems)
            advance(kept, drawn)
            yield systems


def _conclude(
    options: Options,
    given: Given,
    places: list[Target],
    state: Run,
    json_path: Path | None,
    report: Path | None,
    console: Console,
) -> list[tuple[str, str]]:
    """Judges the samples as they stand on disk, writes the summary and the report; gives the rows of a table."""
    from adit.eval.summary import summarise

    start = time.perf_counter()
    with status(console, "judging"):
        systems, broken = read_back(places) if state.count else ([], [])
        if len(systems) + len(broken) != state.count:
            raise InvalidInputError(
                f"{places[0].path} and the other outputs hold {len(systems) + len(broken):,} samples where "
                f"{state.count:,} were written; they were changed. Start again with --overwrite"
            )
        summary = summarise(systems)
    if json_path is not None:
        figures = _figures(state, places, summary, broken, time.perf_counter() - start)
        with writing(json_path):
            json_path.parent.mkdir(parents=True, exist_ok=True)
            json_path.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    if report is not None:
        with status(console, "writing the report"), writing(report):
            _report(report, options, places, state, systems)
    rows = summary.rows()
    if broken:
        rows.append(("unreadable entries", f"{len(broken):,}"))
    if (formulas := asked_formulas(options, given.templates)) is not None:
        told = options.formula or "of the formula of their template"
        if systems and (len(formulas) == 1 or all("index" in system.info for system in systems)):
            rows.append((f"are {told}", f"{of_formula(systems, formulas, options.multiples).mean():.1%}"))
    if systems and options.wanted is not None:
        rows.append((f"are {options.wanted.words}", f"{has(systems, options.wanted).mean():.1%}"))
    rows += misfit_rows(systems, given.kept)
    for name, wanted in options.properties.items():
        rows += property_rows(systems, name, wanted)
    if options.valid_only:
        rows.append((f"kept of drawn ({asked(options)})", f"{state.count:,} of {state.drawn:,}"))
    rows += [("seconds", f"{state.seconds:.1f}"), ("samples a second", f"{state.drawn / max(state.seconds, 1e-9):.3g}")]
    return rows


def _report(path: Path, options: Options, places: list[Target], state: Run, systems: list[AtomicSystem]) -> None:
    """Writes the page of --report."""
    from adit.eval.evaluation import evaluate
    from adit.eval.report import write_html

    name, title = places[0].path.name, f"{state.count:,} {noun(options)}"
    subtitle = f"adit {_version('adit')}, weights {options.weights}, seed {options.seed}"
    found = evaluate(systems, protocols=["edm", "adit-rust"], seed=options.seed, posebusters=False, name=name)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_html(path, found, systems, title=title, subtitle=subtitle)


def _figures(state: Run, places: list[Target], summary: Summary, broken: list[str], judging: float) -> dict[str, Any]:
    """The content of --json."""
    libraries = ("adit", "torch", "numpy", "rdkit", "pymatgen", "ase")
    return {
        "command": ["adit-gen", *sys.argv[1:]],
        "options": state.options,
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in libraries}},
        "device": state.place["device"],
        "block": state.place["block"],
        "files": [str(target.path) for target in places],
        "written": state.count,
        "drawn": state.drawn,
        "seconds": {"sampling and writing": round(state.seconds, 3), "judging": round(judging, 3)},
        "samples_per_second": round(state.drawn / state.seconds, 3) if state.seconds else None,
        "unreadable": broken,
        **summary.to_dict(),
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def _leave(code: int, line: str) -> NoReturn:
    print(line, file=sys.stderr)
    raise typer.Exit(code)


def main() -> None:
    """Entry point of `adit-gen`."""
    run(app)
