"""The options of `adit-gen`, checked without loading torch: a mistake costs no seconds."""

from __future__ import annotations

import glob
import hashlib
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import adit
from adit.cli.common import check_writable, places_of
from adit.elements import Elements, composition, formula_of, wanted_elements
from adit.errors import CheckpointError, InvalidInputError
from adit.validity import compositional

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from adit.kept import Kept
    from adit.system import AtomicSystem
    from adit.templates import Templates

# As in adit.generate and adit.flow.solver, which load torch; a test compares them.
SYSTEMS = ("molecule", "crystal")
SOLVERS = ("euler", "heun", "dpm++", "ancestral", "sde-dpm++")
MAX_STEPS = 10_000
DEFAULT_WEIGHTS = "joint-tiny"
DEFAULT_OUT = {"molecule": "molecules.sdf", "crystal": "crystals.extxyz"}

_MAX_SEED = 2**63 - 1
_MAX_ATOMS = 2048
_MAX_DISPLACEMENT = 1.0
_DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")


@dataclass(frozen=True, slots=True)
class Target:
    """A place to write to.

    Attributes:
        given: the value of --out.
        path: the file or folder that `adit.convert.open_writer` makes of it.
        kind: the suffix; "folder" for a folder of CIFs.
    """

    given: str
    path: Path
    kind: str

    def written(self) -> set[Path]:
        """The CIFs in a folder that adit wrote."""
        return set(self.path.glob(f"{glob.escape(self.path.resolve().name)}_*.cif"))

    @property
    def record(self) -> Path:
        """The record of the run that made it: in the folder, or beside the file."""
        if self.kind == "folder":
            return self.path / ".adit-gen.json"
        return self.path.with_name(f".{self.path.name}.adit-gen.json")

    def exists(self) -> bool:
        """Whether something stands there that a new run would replace."""
        if self.kind == "folder":
            return self.path.is_dir() and any(True for _ in self.path.glob("*.cif"))
        return self.path.exists() or self.path.with_name(f"{self.path.name}.partial").exists()


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What decides the samples; see `adit-gen --help`. `atoms` is parsed by `parse_atoms`, `property_` as given.

    Raises:
        InvalidInputError: an option is out of range or unknown; names it.
    """

    system: str
    n: int
    out: tuple[str, ...]
    seed: int
    steps: int | None
    solver: str | None
    cfg: float | None
    guide: float | None
    noise: float | None
    atoms: int | tuple[int, int] | None
    formula: str | None
    chemical_system: str | None
    elements: str | None
    exclude_elements: str | None
    like: tuple[str, ...]
    strength: float | None
    cell: str | None
    keep: tuple[str, ...]
    property_: tuple[str, ...]
    property_scale: float | None
    predictor: tuple[str, ...]
    symmetrize: float | None
    batch_size: int | None
    device: str
    threads: int | None
    weights: str
    valid_only: bool
    unique: bool
    novel: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.system not in SYSTEMS:
            raise InvalidInputError(f"--system: unknown system {self.system!r}; known: {', '.join(SYSTEMS)}")
        if self.solver is not None and self.solver not in SOLVERS:
            raise InvalidInputError(f"--solver: unknown solver {self.solver!r}; known: {', '.join(SOLVERS)}")
        counts = {"--n": self.n, "--steps": self.steps, "--batch-size": self.batch_size, "--threads": self.threads}
        for name, value in counts.items():
            if value is not None and value < 1:
                raise InvalidInputError(f"{name} must be at least 1; got {value}")
        if self.steps is not None and self.steps > MAX_STEPS:
            raise InvalidInputError(f"--steps must be at most {MAX_STEPS:,}; got {self.steps:,}")
        if not 0 <= self.seed <= _MAX_SEED:
            raise InvalidInputError(f"--seed must be a whole number from 0 to {_MAX_SEED}; got {self.seed}")
        for name, scale in (("--cfg", self.cfg), ("--guide", self.guide)):
            if scale is not None and not math.isfinite(scale):
                raise InvalidInputError(f"{name} must be a finite number (1 is no guidance); got {scale}")
        if self.noise is not None and not 0 <= self.noise < math.inf:
            raise InvalidInputError(f"--noise must be a finite number, at least 0; got {self.noise}")
        self._check_formula()
        self._check_elements()
        if self.strength is not None and not self.like:
            raise InvalidInputError("--strength says how far from the structures of --like; give it, too")
        self._check_cell()
        self._check_keep()
        if self.property_scale is not None and not 0 <= self.property_scale < math.inf:
            raise InvalidInputError(f"--property-scale must be a finite number, at least 0; got {self.property_scale}")
        if not self.properties and (self.predictor or self.property_scale is not None):
            name = "--predictor" if self.predictor else "--property-scale"
            raise InvalidInputError(f"{name} is for --property; say what is wanted, such as --property gap=0.25")
        if self.symmetrize is not None and (self.system != "crystal" or not 0 < self.symmetrize <= _MAX_DISPLACEMENT):
            raise InvalidInputError(
                f"--symmetrize is by how far an atom of a crystal may be moved, above 0 to {_MAX_DISPLACEMENT} "
                f"Angstrom; got {self.symmetrize} for a {self.system}"
            )
        if not _DEVICE.fullmatch(self.device):
            raise InvalidInputError(f"--device must be auto, cpu, cuda or cuda:N; got {self.device!r}")

    def _check_formula(self) -> None:
        if self.formula == "new" and self.system != "crystal":
            raise InvalidInputError("--formula new is for crystals; give one, or training, or any")
        try:
            counts = self.composition
        except InvalidInputError as error:
            raise InvalidInputError(f"--formula: {error}. Give one such as C7H10O2, or training, new or any") from error
        if counts is None:
            return
        low, high = (1, _MAX_ATOMS) if self.atoms is None else _pair(self.atoms)
        size = int(counts.sum())
        fits = high // size * size if self.multiples else size
        if not low <= fits <= high:
            raise InvalidInputError(f"--formula {self.formula} has {size} atoms; {low} to {high} can be made")
        if self.valid_only and (reason := never_valid(self.system, counts)):
            raise InvalidInputError(f"--formula {self.formula} {reason}: none would be valid")

    def _check_elements(self) -> None:
        other = "--like" if self.like else f"--formula {self.formula}"
        if self.wanted is not None and (self.like or self.formula not in (None, "training", "new")):
            raise InvalidInputError(
                f"{other}: leaves no room for formulas {self.wanted.words}; leave one of the two out"
            )

    def _check_cell(self) -> None:
        if self.cell is None:
            return
        from adit.known_cell import known_cells

        if self.system != "crystal":
            raise InvalidInputError("--cell is for crystals; leave it out, or add --system crystal")
        try:
            known_cells(self.cell)
        except InvalidInputError as error:
            raise InvalidInputError(str(error).replace("`cell`", "--cell", 1)) from error

    def _check_keep(self) -> None:
        if not self.keep:
            return
        for there, other, why in (
            (bool(self.like), "--like", "both say what to start from"),
            (self.cell is not None, "--cell", "what is kept has one"),
            (self.symmetrize is not None, "--symmetrize", "it would move what is kept"),
        ):
            if there:
                raise InvalidInputError(f"--keep and {other} contradict each other: {why}. Leave one of the two out")
        if self.formula in ("any", "new") or (self.system == "crystal" and self.formula is None):
            raise InvalidInputError("--keep needs --formula, that of the whole: what is kept and what is to be found")

    @property
    def wanted(self) -> Elements | None:
        """The elements that all samples should have, or not; None if they may have any."""
        names = ("--chemical-system", "--elements", "--exclude-elements")
        return wanted_elements(self.chemical_system, self.elements, self.exclude_elements, names)

    @property
    def composition(self) -> NDArray[np.int64] | None:
        """(100,) atoms of each element, from hydrogen on, that all samples should have; None if they may differ."""
        return None if self.formula is None or self.formula in ("any", "training", "new") else composition(self.formula)

    @property
    def multiples(self) -> bool:
        """Whether cells may hold several times the formula: as many as --atoms allows."""
        return self.system == "crystal" and self.atoms is not None

    @property
    def properties(self) -> dict[str, float | tuple[float, float]]:
        """What the samples should have: a value, or a range of which one end may be infinite."""
        found: dict[str, float | tuple[float, float]] = {}
        for text in self.property_:
            name, _, value = text.partition("=")
            low, colon, high = value.partition(":")
            try:
                ends = float(low or -math.inf), float(high or math.inf) if colon else float(low)
            except ValueError:
                ends = math.nan, math.nan
            if (
                not (name := name.strip())
                or not (ends[0] < ends[1] or (ends[0] == ends[1] and not colon))
                or not any(map(math.isfinite, ends))
            ):
                raise InvalidInputError(
                    "--property must be NAME=VALUE or NAME=MIN:MAX, such as gap=0.25, gap=0.2:0.3 or gap=0.3:; "
                    f"got {text!r}"
                )
            if name in found:
                raise InvalidInputError(f"--property {name}: named twice")
            found[name] = ends if colon else ends[0]
        return found

    def to_dict(self) -> dict[str, Any]:
        """As JSON would give them back."""
        values = {name.rstrip("_"): getattr(self, name) for name in self.__dataclass_fields__}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def _pair(atoms: int | tuple[int, int]) -> tuple[int, int]:
    return atoms if isinstance(atoms, tuple) else (atoms, atoms)


def never_valid(system: str, counts: NDArray[np.int64]) -> str:
    """Why nothing of this composition (100,) can be valid; "" if something can."""
    if system == "molecule":
        odd = int(counts @ np.arange(1, len(counts) + 1)) % 2
        return "has an odd number of electrons" if odd else ""
    return "" if compositional(formula_of(counts), threads=1) else "does not pass SMACT's test of charge balance"


def protect(options: Options, outputs: list[tuple[str, Path]]) -> None:
    """Sees to it that no output replaces what the options read.

    Raises:
        InvalidInputError: one would; names both options.
    """
    files = (("--like", options.like), ("--keep", options.keep), ("--novel", options.novel))
    read = [(option, name) for option, names in files for name in names]
    read += [("--predictor", str(Path(name) / "predictor.json")) for name in options.predictor]
    places = [(other, place.resolve()) for other, name in read for place in places_of(name)]
    for option, path in outputs:
        for other, one in places:
            two = path.resolve()
            if two.exists() and (one == two or one in two.parents or two in one.parents):
                raise InvalidInputError(
                    f"{option} {path}: is or holds what {other} reads, which would be lost. Choose another name"
                )


@dataclass(frozen=True)
class Given:
    """Structures that the samples are made from.

    Attributes:
        templates: those of --like, or None.
        kept: those of --keep, or None.
        sums: the sha256 of their atoms, by option.
    """

    templates: Templates | None
    kept: Kept | None
    sums: dict[str, str | None]


def read_given(options: Options) -> Given:
    """The structures of --like and --keep with the options that go with them, checked.

    Raises:
        InvalidInputError: they cannot be what samples are made from, or contradict an option.
        UnreadableFileError: a file cannot be read.
    """
    like, like_sum = _structures(options.like)
    keep, keep_sum = _structures(options.keep, all_hydrogens=False)  # a scaffold has open valences
    templates = kept = None
    try:
        if options.like:
            from adit.templates import templates_from

            templates = templates_from(options.system, like, options.strength, options.formula, options.atoms)
        if options.keep:
            from adit.kept import kept_from

            kept = kept_from(options.system, keep, options.formula)
    except InvalidInputError as error:
        names = f"--like {' '.join(options.like)}" if options.like else f"--keep {' '.join(options.keep)}"
        raise InvalidInputError(f"{names}: {error}") from error
    return Given(templates, kept, {"structures of --like sha256": like_sum, "structures of --keep sha256": keep_sum})


def _structures(names: tuple[str, ...], *, all_hydrogens: bool = True) -> tuple[list[AtomicSystem], str | None]:
    """What files hold, and the sha256 of its atoms."""
    if not names:
        return [], None
    from adit.convert import read

    systems = [system for name in names for system in read(name, all_hydrogens=all_hydrogens)]
    content = hashlib.sha256()
    for system in systems:
        for part in (system.numbers, system.positions, system.cell):
            content.update(repr(None if part is None else part.tolist()).encode())
    return systems, content.hexdigest()


def settings(options: Options, folder: Path) -> dict[str, Any]:
    """What the sampler works with: the options, and the defaults of the weights for those not given."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    given = {name: getattr(options, name) for name in ("steps", "solver", "cfg", "guide", "noise", "formula")}
    if options.like and options.formula is None:
        given["formula"] = "that of the template"
    own = config["sampling"][options.system]
    return {name: own.get(name) if value is None else value for name, value in given.items()}


def find_predictors(options: Options, folder: Path) -> list[str]:
    """The sha256 of each predictor that --property may ask: those of --predictor, then those in the weights' folder.

    Raises:
        CheckpointError: there is none in a folder of --predictor, or it is damaged.
        InvalidInputError: none of them knows a property.
    """
    if not options.properties:
        return []
    from adit.weights.predictors import read_config

    places = [*map(Path, options.predictor), *sorted(path.parent for path in folder.glob("*/predictor.json"))]
    try:
        configs = [read_config(place) for place in places]
    except CheckpointError as error:
        raise CheckpointError(f"--predictor: {error}") from error
    known = {name for config in configs if options.system in config["systems"] for name in config["properties"]}
    if unknown := [name for name in options.properties if name not in known]:
        raise InvalidInputError(
            f"--property: no predictor knows {unknown[0]!r} of a {options.system}; known: "
            f"{', '.join(sorted(known)) or 'none'}. `adit-train property` makes one, which --predictor names"
        )
    return [config["sha256"] for config in configs]


def parse_atoms(text: str | None) -> int | tuple[int, int] | None:
    """`18`, or a range `5-20` or `5:20`.

    Raises:
        InvalidInputError: it is neither, or the range is inverted.
    """
    if text is None:
        return None
    match = re.fullmatch(r"\s*([0-9]{1,9})\s*(?:[-:]\s*([0-9]{1,9})\s*)?", text)
    if match is None:
        raise InvalidInputError(f"--atoms must be a number or a range such as 18, 5-20 or 5:20; got {text!r}")
    low, high = int(match[1]), int(match[2] or match[1])
    if low > high:
        raise InvalidInputError(f"--atoms: the range {text!r} is inverted; did you mean {high}-{low}?")
    if low < 1 or high > _MAX_ATOMS:
        raise InvalidInputError(f"--atoms must lie in 1 to {_MAX_ATOMS}; got {text!r}")
    return low if match[2] is None else (low, high)


def targets(options: Options) -> list[Target]:
    """Where the samples go, one for each --out.

    Raises:
        InvalidInputError: the format is unknown or cannot hold such a system, the place cannot be
            written, or one place is named twice.
    """
    found = [_target(text, options) for text in options.out or (DEFAULT_OUT[options.system],)]
    places = [target.path.resolve() for target in found]
    for index, target in enumerate(found):
        if places[index] in places[:index]:
            raise InvalidInputError(f"--out {target.given}: named twice")
        check_writable("--out", target.path)
    return found


def _target(text: str, options: Options) -> Target:
    from adit.convert.writers import destination

    if not text.strip():
        raise InvalidInputError("--out needs the name of a file or folder; got an empty one")
    try:
        path, kind = destination(text, options.n)
    except InvalidInputError as error:
        raise InvalidInputError(f"--out {error}") from error
    if options.system == "crystal" and kind == ".sdf":
        raise InvalidInputError(f"--out {text}: an SDF holds molecules; write crystals as .extxyz, .xyz, .cif or .zip")
    if options.system == "molecule" and kind in ("folder", ".cif", ".zip", ".vasp"):
        what = {".cif": "a CIF", ".vasp": "a POSCAR"}.get(kind, "a folder or zip of CIFs")
        raise InvalidInputError(f"--out {text}: {what} holds crystals; write molecules as .sdf, .xyz or .extxyz")
    return Target(text, path, kind)


def find_weights(options: Options) -> tuple[Path, str]:
    """The folder of the weights and the sha256 that their config.json states.

    Only what costs nothing is checked; `adit.weights.load_pretrained` checks the rest.

    Raises:
        CheckpointError: unknown or incomplete.
        InvalidInputError: they have no guide, or cannot be told a formula, or not those of a training set.
    """
    name = options.weights
    built_in = Path(adit.__file__).parent / "weights"
    known = sorted(path.parent.name for path in built_in.glob("*/config.json"))
    folder = built_in / name if name in known else Path(name)
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise CheckpointError(
            f"--weights: no weights {name!r}: neither built in (known: {', '.join(known) or 'none'}) nor a folder "
            "with config.json and model.safetensors"
        ) from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"--weights: {folder / 'config.json'} is damaged ({error})") from error
    if not (folder / "model.safetensors").is_file():
        raise CheckpointError(f"--weights: {folder} is incomplete: there is no model.safetensors")
    if not isinstance(config, dict) or not isinstance(config.get("sha256"), str):
        raise CheckpointError(f"--weights: {folder / 'config.json'} is damaged: it states no sha256")
    if options.guide not in (None, 1.0) and not config.get("guide"):
        raise InvalidInputError(f"--guide: the weights {name!r} have no smaller network to guide them; leave it out")
    told = config.get("formulas", {})
    if options.formula not in (None, "any") and options.system not in told:
        raise InvalidInputError(
            f"--formula: the network of the weights {name!r} cannot be told that of a {options.system}; leave it out"
        )
    if options.formula in ("training", "new") and not told[options.system]:
        raise InvalidInputError(
            f"--formula {options.formula}: the weights {name!r} hold no formulas of {options.system}s; "
            "give one, or leave it out"
        )
    return folder, config["sha256"]
