"""adit-train: trains the autoencoder, its decoder, and the Diffusion Transformer, then exports weights."""

from __future__ import annotations

import re
import shlex
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from adit.cli.common import check_writable, run
from adit.config import Recipe
from adit.errors import InvalidInputError
from adit.recipes import RECIPES, get_recipe

if TYPE_CHECKING:
    import torch

    from adit.train.meter import Budget
    from adit.weights.store import SamplingDefaults

app = typer.Typer(
    help="Trains the autoencoder, its decoder and the Diffusion Transformer, then exports weights for adit-gen.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

RecipeOption = Annotated[str, typer.Option(help=f"one of: {', '.join(RECIPES)}")]
DataOption = Annotated[
    list[str] | None, typer.Option(help="prepared data set, by name or folder; may be repeated; default: the recipe's")
]
OutOption = Annotated[Path | None, typer.Option(help="folder of the run; default: runs/RECIPE")]
VAEOption = Annotated[
    Path | None, typer.Option(metavar="NAME or FOLDER", help="weights or run that has the autoencoder; default: OUT")
]
ResumeOption = Annotated[bool, typer.Option("--resume", help="go on from the last checkpoint")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")]
ThreadsOption = Annotated[int | None, typer.Option(min=1, help="CPU threads; default: all")]
StepsOption = Annotated[int | None, typer.Option(min=1, help="length of the schedule, in steps")]
StopOption = Annotated[int | None, typer.Option(min=1, help="stop at this step and leave the rest to --resume")]
TokensOption = Annotated[int | None, typer.Option(min=1, help="atoms in a step")]
SeedOption = Annotated[int | None, typer.Option(min=0, help="seed of everything random")]
MinutesOption = Annotated[
    float | None, typer.Option(min=0.05, help="length of the schedule by the clock, in place of steps")
]
CompileOption = Annotated[bool | None, typer.Option("--compile/--no-compile", help="torch.compile the blocks")]
Bf16Option = Annotated[bool | None, typer.Option("--bf16/--no-bf16", help="bfloat16 matrix products")]


@app.command()
def vae(
    recipe: RecipeOption = "joint-tiny",
    data: DataOption = None,
    out: OutOption = None,
    resume: ResumeOption = False,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    steps: StepsOption = None,
    minutes: MinutesOption = None,
    stop_at: StopOption = None,
    tokens: TokensOption = None,
    seed: SeedOption = None,
    compile: CompileOption = None,
    bf16: Bf16Option = None,
) -> None:
    """Stage 1: the autoencoder. Writes OUT/vae."""
    chosen = _recipe(recipe, data, "vae", steps, tokens, seed, compile, bf16)
    from adit.train.stages import train_vae

    place = _folder(out, chosen)
    folder = train_vae(chosen, place, _device(device, threads), resume, stop_at, _budget(minutes, steps))
    typer.echo(f"autoencoder in {folder}; next: {_stage('dit', recipe, data, out)}")


@app.command()
def decoder(
    recipe: RecipeOption = "joint-tiny",
    data: DataOption = None,
    out: OutOption = None,
    vae: VAEOption = None,
    resume: ResumeOption = False,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    steps: StepsOption = None,
    minutes: MinutesOption = None,
    stop_at: StopOption = None,
    tokens: TokensOption = None,
    seed: SeedOption = None,
    compile: CompileOption = None,
    bf16: Bf16Option = None,
) -> None:
    """The decoder of OUT/vae alone, before or after stage 2: its latents stay. Writes OUT/decoder."""
    chosen = _recipe(recipe, data, "decoder", steps, tokens, seed, compile, bf16)
    from adit.train.checkpoint import list_checkpoints
    from adit.train.stages import train_decoder

    folder = _folder(out, chosen)
    source = vae or folder / "vae"
    done = train_decoder(chosen, folder, source, _device(device, threads), resume, stop_at, _budget(minutes, steps))
    export_it = shlex.join(["adit-train", "export", str(folder)])
    following = export_it if list_checkpoints(folder / "dit") else _stage("dit", recipe, data, out)
    typer.echo(f"autoencoder with this decoder in {done}; next: {following}")


@app.command()
def dit(
    recipe: RecipeOption = "joint-tiny",
    data: DataOption = None,
    out: OutOption = None,
    vae: VAEOption = None,
    start: Annotated[
        str | None,
        typer.Option(
            metavar="NAME or FOLDER", help="weights of this latent space, to be trained on; may have fewer layers"
        ),
    ] = None,
    resume: ResumeOption = False,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    steps: StepsOption = None,
    minutes: MinutesOption = None,
    stop_at: StopOption = None,
    tokens: TokensOption = None,
    seed: SeedOption = None,
    compile: CompileOption = None,
    bf16: Bf16Option = None,
) -> None:
    """Stage 2: the Diffusion Transformer on the latents of OUT/vae. Writes OUT/dit."""
    chosen = _recipe(recipe, data, "dit", steps, tokens, seed, compile, bf16)
    from adit.train.checkpoint import list_checkpoints
    from adit.train.stages import train_dit

    folder = _folder(out, chosen)
    on = _device(device, threads)
    done = train_dit(chosen, folder, vae or folder, on, resume, stop_at, _budget(minutes, steps), start)
    elsewhere = ["--vae", str(vae)] if vae and not list_checkpoints(folder / "decoder") else []
    typer.echo(
        f"Diffusion Transformer in {done}; next: {shlex.join(['adit-train', 'export', str(folder), *elsewhere])}"
    )


@app.command()
def speedrun(
    minutes: Annotated[float, typer.Option(min=0.05, help="for all stages")] = 25.0,
    vae_share: Annotated[float, typer.Option(min=0.05, max=0.9, help="of the time, for the autoencoder")] = 0.2,
    decoder_share: Annotated[float, typer.Option(min=0, max=0.9, help="of the time, for its decoder alone")] = 0.1,
    recipe: RecipeOption = "joint-gpu",
    data: DataOption = None,
    out: OutOption = None,
    resume: ResumeOption = False,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    seed: SeedOption = None,
    compile: CompileOption = None,
    cpu_time: Annotated[
        bool, typer.Option("--cpu-time", help="minutes of this process's CPU time: for a machine that others use too")
    ] = False,
) -> None:
    """All stages and the export by the clock: the learning rates end with the minutes."""
    if vae_share + decoder_share >= 1:
        raise InvalidInputError(
            f"--vae-share {vae_share} and --decoder-share {decoder_share} leave no time for the Diffusion Transformer"
        )
    chosen = _recipe(recipe, data, "vae", None, None, seed, compile, None)
    from adit.train.stages import speedrun as run_all
    from adit.train.stages import with_overrides

    for stage in ("decoder", "dit"):
        chosen = with_overrides(chosen, stage, seed=seed, compile=compile)
    folder, on = _folder(out, chosen), _device(device, threads)
    clock = time.process_time if cpu_time else time.monotonic
    weights = run_all(chosen, folder, on, minutes, vae_share, decoder_share, resume, clock)
    typer.echo(f"weights in {weights}; try: {shlex.join(['adit-gen', '--weights', str(weights)])}")


@app.command()
def export(
    run_folder: Annotated[Path, typer.Argument(help="folder of a run that holds vae/ or decoder/, and dit/")],
    out: Annotated[Path | None, typer.Option(help="folder to write; default: RUN/weights")] = None,
    vae: VAEOption = None,
    name: Annotated[str | None, typer.Option(help="name of the weights; default: that of the run's folder")] = None,
    sampling: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND=SOLVER:STEPS:CFG:FORMULA:GUIDE:NOISE",
            help="settings to ship, e.g. molecule=ancestral:50:1:training:1.3:10",
        ),
    ] = None,
    guide: Annotated[
        str | None,
        typer.Option(
            metavar="RUN or NAME", help="run whose smaller dit/ is to guide this one, or weights whose guide is"
        ),
    ] = None,
    average_with: Annotated[
        str | None, typer.Option(metavar="NAME or FOLDER", help="weights that --start named: the mean of both")
    ] = None,
) -> None:
    """Writes the averaged weights in half precision, for `adit-gen --weights FOLDER`."""
    from adit.train.stages import export as export_weights

    defaults = dict(map(_sampling, sampling or []))
    if guide is None and (told := [kind for kind, settings in defaults.items() if settings.guide != 1]):
        raise InvalidInputError(f"--sampling {told[0]}=... names a scale of guidance; it needs --guide RUN or NAME")
    target = out or run_folder / "weights"
    check_writable("--out", target / "config.json")
    export_weights(
        run_folder, target, name or run_folder.resolve().name, defaults,
        vae_folder=vae, guide=guide, average_with=average_with,
    )  # fmt: skip
    size = (target / "model.safetensors").stat().st_size / 2**20
    typer.echo(f"{target}: {size:.1f} MiB; try: {shlex.join(['adit-gen', '--weights', str(target)])}")


@app.command("property")
def train_predictor(
    columns: Annotated[list[str], typer.Option("--column", help="property to predict; may be repeated")],
    data: Annotated[str, typer.Option(help="prepared data set that has it, by name or folder")],
    weights: Annotated[
        str, typer.Option(metavar="NAME or FOLDER", help="weights whose samples it is to steer")
    ] = "joint-tiny",
    out: Annotated[Path | None, typer.Option(help="folder to write; default: runs/DATA-property")] = None,
    resume: ResumeOption = False,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    steps: StepsOption = None,
    minutes: MinutesOption = None,
    tokens: TokensOption = None,
    seed: SeedOption = None,
    compile: CompileOption = None,
    bf16: Bf16Option = None,
) -> None:
    """A predictor of properties, for `adit-gen --property NAME=VALUE --predictor OUT`."""
    from adit.recipes.predictor import predictor
    from adit.train.property import train_property

    recipe = predictor()
    group = tokens and min(tokens, recipe.train.tokens_per_group)
    values: dict[str, Any] = {"steps": steps, "tokens_per_step": tokens, "tokens_per_group": group}
    values |= {"seed": seed, "compile": compile, "bf16": bf16}
    chosen = {name: value for name, value in values.items() if value is not None}
    recipe = replace(recipe, train=replace(recipe.train, **chosen))
    folder = out or Path("runs") / f"{Path(data).name}-property"
    check_writable("--out", folder / "predictor.json")
    on, budget = _device(device, threads), _budget(minutes, steps)
    made = train_property(recipe, folder, weights, data, columns, on, resume, budget)
    for name, error in made.about.get("errors", {}).items():
        typer.echo(f"mean error of {name.replace('@', ' at t = ')}: {error:.4g}")
    name, middle = made.network.names[0], float(made.network.mean[0])
    kind = [] if "molecule" in made.systems else ["--system", "crystal"]
    words = ["adit-gen", *kind, "--property", f"{name}={middle:.4g}", "--predictor", str(folder)]
    typer.echo(f"predictor in {folder}; try: {shlex.join(words)}")


@app.command()
def recipes() -> None:
    """The recipes, one a line."""
    for name, make in RECIPES.items():
        typer.echo(f"{name:14} {(make.__doc__ or '').splitlines()[0]}")


def _recipe(
    name: str,
    data: list[str] | None,
    stage: str,
    steps: int | None,
    tokens: int | None,
    seed: int | None,
    compile: bool | None,
    bf16: bool | None,
) -> Recipe:
    chosen = get_recipe(name)
    if data:
        chosen = replace(chosen, data=tuple(data))
    from adit.train.stages import with_overrides

    group = tokens and min(tokens, getattr(chosen, f"{stage}_train").tokens_per_group)
    values = {"steps": steps, "tokens_per_step": tokens, "tokens_per_group": group}
    return with_overrides(chosen, stage, **values, seed=seed, compile=compile, bf16=bf16)


def _folder(out: Path | None, recipe: Recipe) -> Path:
    """Of the run, which can be written. Says where its data have nothing to validate on."""
    from adit.data.prepare import load

    folder = out or Path("runs") / recipe.name
    check_writable("--out", folder / "vae")
    if not any((load(name).properties.get("split", np.array("")) == "val").any() for name in recipe.data):
        typer.echo(f"{' and '.join(recipe.data)}: no split val, so nothing is held out to validate on (docs/data.md)")
    return folder


def _stage(name: str, recipe: str, data: list[str] | None, out: Path | None) -> str:
    """The command that goes on with the stage `name` of a run."""
    given = [*(word for one in data or [] for word in ("--data", one)), *(("--out", str(out)) if out else ())]
    return shlex.join(["adit-train", name, "--recipe", recipe, *given])


def _sampling(text: str) -> tuple[str, SamplingDefaults]:
    """`molecule=ancestral:50:1:training:1.3:10`; the last three may be left out, from the end."""
    from adit.flow.solver import SOLVERS
    from adit.weights.store import SamplingDefaults

    scale = r"(\d+(?:\.\d*)?)"
    match = re.fullmatch(
        rf"(molecule|crystal)=([^:]+):(\d+):{scale}(?::(any|training|new)(?::{scale}(?::{scale})?)?)?", text
    )
    if match is None or match[2] not in SOLVERS or int(match[3]) < 1:
        raise InvalidInputError(
            "--sampling must be KIND=SOLVER:STEPS:CFG:FORMULA:GUIDE:NOISE with molecule or crystal, "
            f"{', '.join(SOLVERS)} and any, training or new, e.g. molecule=ancestral:50:1:training:1.3:10; got {text!r}"
        )
    steps, cfg, formula, guide = int(match[3]), float(match[4]), match[5] or "any", float(match[6] or 1)
    noise = {} if match[7] is None else {"noise": float(match[7])}
    return match[1], SamplingDefaults(solver=match[2], steps=steps, cfg=cfg, formula=formula, guide=guide, **noise)


def _budget(minutes: float | None, steps: int | None) -> Budget | None:
    from adit.train.meter import Budget

    if minutes is not None and steps is not None:
        raise InvalidInputError("--minutes and --steps contradict each other; choose one")
    return None if minutes is None else Budget(60 * minutes)


def _device(name: str, threads: int | None) -> torch.device:
    import torch

    from adit.generate import choose_device

    if threads is not None:
        torch.set_num_threads(threads)
    chosen = choose_device(name)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen.index or 0)  # kernels and graphs go to the current one
    return chosen


def main() -> None:
    """Entry point of `adit-train`."""
    run(app)
