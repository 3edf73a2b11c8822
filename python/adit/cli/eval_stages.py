"""The options of `adit-eval` that ask for more than the quick figures, and the stages they stand for."""

from __future__ import annotations

import functools
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from adit.errors import InvalidInputError
from adit.output import writing

if TYPE_CHECKING:
    from adit.eval.reference import Reference
    from adit.eval.stages import Stage
    from adit.system import AtomicSystem


class StrainChoice(str, Enum):
    mmff = "mmff"
    xtb = "xtb"


EnergyOption = Annotated[
    int | None,
    typer.Option("--energy-check", min=1, metavar="N", help="PoseBusters' energy ratio of N molecules, 10 s for each."),
]
StrainOption = Annotated[
    list[StrainChoice] | None,
    typer.Option(help="Strain energy of molecules: mmff of all, xtb of a sample; may be given again."),
]
StrainSampleOption = Annotated[int, typer.Option(min=1, metavar="N", help="Molecules for --strain xtb.")]
RelaxOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Relax crystals with this potential (chgnet, chgnet-r2scan, mace, sevennet, or module:Class of an ASE "
        "calculator) and hold them against a convex hull.",
    ),
]
RelaxSampleOption = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Relax so many crystals, drawn at random. Default: all.")
]
RelaxedOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Write what --relax makes of the crystals that have a hull, the lowest above it first: .extxyz, .xyz, or "
        ".zip of CIFs.",
    ),
]
HullOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME_OR_PATH",
        help="Formation energies for --relax: a prepared data set, a split of it, or a file. May be given several "
        "times. Default: --reference.",
    ),
]
WorkOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        help="Where relaxations are kept, so that the same command goes on after a kill. Default: beside --json, else "
        "adit-eval-NAME here.",
    ),
]
PatternOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Hold the powder pattern of each crystal against this one, as measured: text of two columns, 2 theta in "
        "degrees and intensity.",
    ),
]
WavelengthOption = Annotated[
    str | None,
    typer.Option(metavar="NAME_OR_A", help="Of --pattern: CuKa (default), CuKa1, MoKa, ..., or in Angstrom."),
]
RankedOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="Write the crystals, the most like --pattern first: .extxyz, .xyz, or .zip of CIFs."
    ),
]
ReconstructOption = Annotated[
    Path | None,
    typer.Option(
        metavar="NAME or FOLDER",
        help="Pass the structures through the autoencoder of weights or of a run of adit-train: match rate and RMSD.",
    ),
]


def default_work(path: Path, json_path: Path | None) -> Path:
    """The folder for relaxations where none is named."""
    return Path(f"adit-eval-{path.stem}") if json_path is None else json_path.with_name(f"{json_path.stem}-work")


def further_stages(
    known: Reference | None,
    *,
    energy_sample: int | None,
    strain: list[StrainChoice] | None,
    strain_sample: int,
    relax: str | None,
    relax_sample: int | None,
    hull: list[str] | None,
    work: Path,
    pattern: Path | None,
    wavelength: str | None,
    reconstruct: Path | None,
) -> list[Stage]:
    """What the options ask for. All that they need is opened here, before any work.

    Raises:
        AditError: something is missing, unknown or cannot be written.
    """
    from adit.eval.pose_stages import EnergyRatioStage, StrainStage

    stages: list[Stage] = []
    if energy_sample is not None:
        stages.append(EnergyRatioStage(energy_sample))
    samples = {StrainChoice.mmff: None, StrainChoice.xtb: strain_sample}
    stages += [StrainStage(choice.value, samples[choice]) for choice in dict.fromkeys(strain or [])]
    if reconstruct is not None:
        stages += _reconstruction(reconstruct)
    if pattern is not None:
        from adit.eval.powder import PowderStage, read_pattern

        stages.append(PowderStage(read_pattern(pattern, wavelength or "CuKa")))
    elif wavelength is not None:
        raise InvalidInputError("--wavelength goes with --pattern; add e.g. --pattern measured.xy")
    if relax is not None:
        from adit.eval.relaxation_stages import relaxation_stages

        stages += relaxation_stages(relax, hull, known, work, sample=relax_sample)
        typer.echo(f"relaxations are kept in {work}; after a kill the same command goes on", err=True)
    return stages


def check_written(option: str, path: Path | None, needs: str, given: object) -> None:
    """Before the work, of a file that the crystals of a stage go into.

    Raises:
        InvalidInputError: the option that it needs was not given, or such a file cannot hold crystals one after the
            other.
    """
    if path is None:
        return
    if given is None:
        raise InvalidInputError(f"{option} goes with {needs.split()[0]}; add e.g. {needs}")
    if path.suffix.lower() not in (".extxyz", ".xyz", ".zip"):
        raise InvalidInputError(f"{option} {path}: must end in .extxyz, .xyz or .zip (of CIFs)")


def write_relaxed(path: Path, stages: list[Stage]) -> None:
    """What relaxation made, the lowest above the hull first."""
    from adit.eval.relaxation_stages import StabilityStage

    relaxed = next(stage.relaxed for stage in stages if isinstance(stage, StabilityStage))
    _write(path, relaxed, "no crystal was relaxed that has a hull")


def write_ranked(path: Path, stages: list[Stage]) -> None:
    """All crystals that have a powder pattern, the most like the measured one first."""
    from adit.eval.powder import PowderStage

    ranked = next(stage.ranked for stage in stages if isinstance(stage, PowderStage))
    _write(path, ranked, "no crystal has a powder pattern")


def _write(path: Path, crystals: list[AtomicSystem], otherwise: str) -> None:
    from adit.convert import write

    if not crystals:
        typer.echo(f"{otherwise}; {path} is not written", err=True)
        return
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, crystals)


def _reconstruction(folder: Path) -> list[Stage]:
    from adit.eval.reconstruction import ReconstructionStage
    from adit.generate import choose_device
    from adit.train.reconstruct import load_vae, rebuild

    through = functools.partial(rebuild, load_vae(folder, choose_device("auto")))
    return [ReconstructionStage(through, str(folder), kind) for kind in ("molecules", "crystals")]
