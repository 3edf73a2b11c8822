"""From noise to molecules and crystals."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from adit.blocks import SYSTEMS, Group, Run, one_ahead, share_out
from adit.decoding import Decoding
from adit.elements import Symbols, composition, wanted_elements
from adit.errors import BackendUnavailableError, CheckpointError, InvalidInputError
from adit.flow.guidance import Network, guidance_labels, guided
from adit.flow.path import interpolate
from adit.flow.solver import SOLVERS, STOCHASTIC, Predict, integrate, time_grid
from adit.kept import Kept, kept_from
from adit.known_cell import KnownCell, known_cells
from adit.models.denoiser import Denoiser, Schedule
from adit.models.dit import CRYSTAL, MOLECULE, NULL
from adit.models.layers import set_impl
from adit.ops.dispatch import BFLOAT16_CAPABILITY, Impl, kernels
from adit.ops.packing import Packing
from adit.packing import SystemLike, Systems
from adit.prior import choose_from, in_turn
from adit.steering import DEFAULT_SCALE, Bounds, out_of_range, steering_for
from adit.system import AtomicSystem
from adit.templates import Templates, templates_from, unfamiliar
from adit.weights.predictors import Predictor, latent_space, load_predictor
from adit.weights.store import Pretrained, SamplingDefaults, load_pretrained

if TYPE_CHECKING:
    from numpy.typing import NDArray

DEFAULT_WEIGHTS = "joint-tiny"
MAX_STEPS = 10_000
_BLOCK_ON_CPU, _BLOCK_ON_GPU = 512, 8192
_FAR = 1e6  # latents of data are of the order of 1
_LABELS = {"molecule": MOLECULE, "crystal": CRYSTAL}


class Generator:
    """Samples molecules and crystals from trained weights.

    Sample number k of a seed has the same number of atoms and the same noise whatever `n` and the block size
    are. On the same machine, made in the same block (same block size; a last, shorter block counts as another),
    its coordinates are the same to the last bit; else they differ by what rounding makes of them.
    """

    def __init__(
        self, weights: Pretrained, device: str = "auto", threads: int | None = None, impl: Impl = "auto",
        predictors: Sequence[Predictor] = (),
    ) -> None:  # fmt: skip
        """See `from_pretrained`."""
        if threads is not None:
            if threads < 1:
                raise InvalidInputError(f"`threads` must be at least 1; got {threads}")
            torch.set_num_threads(threads)
        self.weights = weights
        self.device = choose_device(device)
        self.model = weights.model.to(self.device).eval()
        self.denoiser = Denoiser(self.model.dit, half_precision(self.device))
        self.denoiser.dit.impl = impl
        self.guide = Denoiser(self.model.guide, self.denoiser.dtype) if self.model.guide is not None else None
        if self.guide is not None:
            self.guide.dit.impl = impl
        set_impl(self.model.decoder, impl)
        self.predictors = self._fitting([*predictors, *weights.predictors])
        self._packs  # noqa: B018  an `impl` that cannot run is refused here

    @classmethod
    def from_pretrained(
        cls,
        weights: str | os.PathLike[str] = DEFAULT_WEIGHTS,
        *,
        device: str = "auto",
        threads: int | None = None,
        impl: Impl = "auto",
        predictors: Sequence[str | os.PathLike[str]] = (),
    ) -> Generator:
        """Weights by name (built in) or folder.

        Args:
            weights: a name or a folder.
            device: "auto", "cpu", "cuda", "cuda:1", ...
            threads: of the CPU.
            impl: of the network's blocks: "triton" for the kernels of `adit-kernels`, "rust" for those of a CPU,
                "reference" for plain torch, "auto" for the kernels where they can run.
            predictors: folders of predictors of properties that `adit-train property` wrote, besides those that come
                with the weights.

        Raises:
            CheckpointError: unknown, missing or damaged weights or predictors, or these are for other weights.
            BackendUnavailableError: the device is not there, or `impl` cannot run on it.
        """
        with ThreadPoolExecutor(1) as pool:
            pool.submit(_wake, choose_device(device))  # while the disk is read; what fails there fails here again
            loaded, own = load_pretrained(weights), [load_predictor(folder) for folder in predictors]
        return cls(loaded, device, threads, impl, own)

    def _fitting(self, predictors: Sequence[Predictor]) -> list[Predictor]:
        """The predictors, on the device.

        Raises:
            CheckpointError: one is for another latent space.
        """
        space = latent_space(self.model) if predictors else ""
        for predictor in predictors:
            if predictor.latents != space:
                raise CheckpointError(
                    f"the predictor of {', '.join(predictor.network.names)} is for the latents of other weights than "
                    f"{self.weights.name!r}; `adit-train property --weights` makes one for these"
                )
            predictor.network.to(self.device)
        return list(predictors)

    @property
    def defaults(self) -> Mapping[str, SamplingDefaults]:
        """For "molecule" and "crystal": steps, solver and scales of guidance that measured best for these weights."""
        return self.weights.defaults

    def block_size(self, batch_size: int | None = None) -> int:
        """Systems that are generated together."""
        if batch_size is None:
            return _BLOCK_ON_CPU if self.device.type == "cpu" else _BLOCK_ON_GPU
        return _integer("batch_size", batch_size, 1)

    def sample(self, n: int, system: str = "molecule", **options: Any) -> list[AtomicSystem]:
        """`n` systems; options as in `stream`."""
        _integer("n", n, 1)
        return [item for block in self.stream(n, system, **options) for item in block]

    def stream(
        self,
        n: int | None,
        system: str = "molecule",
        *,
        start: int = 0,
        seed: int = 0,
        steps: int | None = None,
        solver: str | None = None,
        cfg: float | None = None,
        guide: float | None = None,
        noise: float | None = None,
        atoms: int | tuple[int, int] | None = None,
        formula: str | None = None,
        chemical_system: Symbols | None = None,
        elements: Symbols | None = None,
        exclude_elements: Symbols | None = None,
        like: SystemLike | Systems | Templates | None = None,
        strength: float | None = None,
        cell: KnownCell | None = None,
        keep: SystemLike | Systems | Kept | None = None,
        properties: Mapping[str, Bounds] | None = None,
        property_scale: float | None = None,
        batch_size: int | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Iterator[list[AtomicSystem]]:
        """Blocks of systems, in order, as they are made.

        Args:
            n: how many in all; None for no end.
            system: "molecule" or "crystal".
            start: go on from this sample; a multiple of the block size.
            seed: any non-negative integer.
            steps: solver steps; default as the weights say for this kind of system, as for the next three.
            solver: one of `adit.flow.solver.SOLVERS`.
            cfg: scale of classifier-free guidance; 1 is none.
            guide: scale of guidance by the smaller network that comes with some weights; 1 is none.
            noise: fresh noise of the solvers "ancestral" and "sde-dpm++", as a multiple of DDPM's: more makes sounder
                samples, less more different ones. Default as the weights say.
            atoms: number of atoms, or a range (smallest, largest); default as in the training set.
            formula: of the whole molecule or cell, such as "C7H10O2" or "Ti4O8", which the network is told (and
                nearly always keeps to, once trained); of crystals with `atoms`, its multiples within these, too;
                "training" for the formulas of the training set, each as often as there; "new", of crystals, for these
                with one element exchanged (`adit.prior.Substituted`); "any" leaves the elements to the network.
                Default as the weights say, with `like` that of the template. One that is larger than all of the
                training set, or has other elements, is warned of.
            chemical_system: draws only formulas of all of these elements and no others, such as "Li-P-S" or ["Li", "P",
                "S"].
            elements: draws only formulas that have all of these.
            exclude_elements: draws only formulas that have none of these.
            like: structures that the samples are variations of, one after the other and then again from the first:
                `AtomicSystem`, ASE, pymatgen or RDKit objects; or what `adit.templates.templates_from` made of them and
                of `strength`, `formula` and `atoms`. Their atoms come back in another order where theirs is
                not one the network knows (`adit.templates.molecule_order`). One that is larger than all of the training
                set, or has other elements, is warned of.
            strength: how far from them, in (0, 1]: the share of noise in what is made clean again. Up to 0.3 they
                come back as they were; 1 keeps only the number of atoms and the composition. Default
                `adit.templates.DEFAULT_STRENGTH`.
            cell: of crystals, if it is known: as `adit.known_cell.known_cells` takes it; of several, sample number k
                has number k modulo their number. Atoms are found for it, `formula` being that of a primitive cell, and
                samples have its Niggli cell. How far from it the network's own would have been stands in `info` as
                "cell_misfit", the smaller the likelier (`adit.decoding.Decoding.as_known`).
            keep: atoms that samples hold, exactly where they are: of molecules a scaffold with open valences, of a
                crystal the host of what is to be found, whose cell they have. Of several, sample number k has number k
                modulo their number. These atoms come first, in their order. `formula` is that of the whole; of
                molecules one of the training set that has them and more if none is given. How far from there the
                network's own would have been stands in `info` as "keep_rmsd", in Angstrom (`adit.kept`).
            properties: what samples shall have, such as {"gap": 0.25} or {"gap": (0.3, math.inf), "mu": (0, 1)}, of
                properties that a predictor knows (`predictors`), in its units. Compositions that are drawn are then
                those likely to have it. What the predictor makes of a sample stands in its `info`, as "predicted_gap".
                What is beyond all of the predictor's training set is warned of.
            property_scale: how strongly samples are pulled there; 1 is Bayes' rule, more is nearer and less sound.
                Default `adit.steering.DEFAULT_SCALE`.
            batch_size: systems in a block.
            progress: called with the number of systems that were made since its last call.

        Raises:
            InvalidInputError: an option is out of range; names it.
        """
        defaults = self.defaults.get(system, SamplingDefaults())
        settings = SamplingDefaults(
            steps=defaults.steps if steps is None else steps,
            solver=defaults.solver if solver is None else solver,
            cfg=defaults.cfg if cfg is None else cfg,
            guide=defaults.guide if guide is None else guide,
            noise=defaults.noise if noise is None else noise,
            formula=defaults.formula if formula is None else formula,
        )
        block = self.block_size(batch_size)
        _check(n, system, start, seed, settings, block)
        if not self.weights.atom_counts.get(system):
            known = ", ".join(sorted(self.weights.atom_counts))
            raise InvalidInputError(
                f"the weights {self.weights.name!r} were not trained for {system!r}; known: {known}"
            )
        if noise is not None and settings.solver not in STOCHASTIC:
            known = " and ".join(STOCHASTIC)
            raise InvalidInputError(f"`noise` is for the solvers {known}, not {settings.solver!r}; leave it out")
        if settings.guide != 1 and self.guide is None:
            raise InvalidInputError(f"the weights {self.weights.name!r} have no guide; leave `guide` out, or at 1")
        grid, templates, steering = time_grid(settings.steps), None, None
        if cell is not None and system != "crystal":
            raise InvalidInputError("`cell` is for crystals; leave it out, or ask for `system` 'crystal'")
        cells = None if cell is None else known_cells(cell)
        kept = None
        if keep is not None:
            if cell is not None:
                raise InvalidInputError("`keep` has a cell of its own; leave `cell` out")
            kept = kept_from(system, keep, settings.formula if like is None else None)
            self._warn_of(system, "`keep`, ", kept.named)
            cells = kept.cells
        if property_scale is not None and not properties:
            raise InvalidInputError("`property_scale` says how strongly to pull to `properties`; give them, too")
        if properties:
            dtype, label = self.denoiser.dtype, _LABELS[system]
            scale = DEFAULT_SCALE if property_scale is None else property_scale
            steering = steering_for(self.predictors, properties, system, label, scale, dtype)
            if strange := out_of_range(steering):
                warnings.warn(f"`properties`: {strange}; expect few good samples", stacklevel=2)
        if isinstance(formula, str) and formula not in ("training", "new", "any"):
            self._warn_of(system, "`formula` ", [(formula, composition(formula))])
        wanted = wanted_elements(chemical_system, elements, exclude_elements)
        if like is None:
            if strength is not None:
                raise InvalidInputError("`strength` says how far from the structures of `like`; give it, too")
            choices = choose_from(self.weights, system, settings.formula, atoms, wanted)
            if settings.formula != "any" and choices.counts is None:
                warnings.warn(
                    f"nothing in the training set has as many atoms as `atoms` {atoms}: the elements are left to the "
                    "network; expect few good samples",
                    stacklevel=2,
                )
            each = [choices] if kept is None else kept.holding(choices)
            drawn = each if steering is None else [steering.prefer(one) for one in each]
        else:
            if wanted is not None:
                raise InvalidInputError(f"`like` leaves no room for formulas {wanted.words}; leave one of the two out")
            if not isinstance(like, Templates):
                like = templates_from(system, like, strength, formula, atoms)
            templates = like
            if kept is not None:
                kept.check(templates)
            if templates.charged:
                warnings.warn(f"`like`, {templates.charged}; variations are made as if it had none", stacklevel=2)
            if templates.hollow:
                warnings.warn(f"`like`, {templates.hollow}, which hardly any has that the weights were trained on; "
                              "expect few good samples", stacklevel=2)  # fmt: skip
            if system not in self.weights.formulas:
                if formula not in (None, "any"):
                    choose_from(self.weights, system, formula)  # says why
                templates = replace(templates, counts=None)
            else:
                self._warn_of(system, "`like`, ", templates.named)
            grid = [templates.begin, *(time for time in grid if time > templates.begin)]
        schedules = self.schedules(grid[:-1], system, settings)

        def choose(
            indices: Sequence[int], streams: Sequence[np.random.Generator]
        ) -> list[tuple[int, NDArray[np.int64] | None]]:
            if templates is not None:
                return [templates.choice(index) for index in indices]
            return in_turn(drawn, seed, SYSTEMS.index(system), indices, streams)

        run = Run(system, seed, settings, choose, templates, steering, cells, kept, grid, schedules)
        blocks = self._blocks(run, n, start, block, progress)
        return blocks if self.device.type == "cpu" else one_ahead(blocks)

    @torch.no_grad()
    def schedules(self, times: Sequence[float], system: str, settings: SamplingDefaults) -> list[Schedule]:
        """Of the network at these times, then of its guide if the settings use it."""
        labels = guidance_labels(_LABELS[system], NULL, settings.cfg)
        schedules = [self.denoiser.schedule(times, labels)]
        if settings.guide != 1 and self.guide is not None:
            schedules.append(self.guide.schedule(times, labels[:1]))
        return schedules

    def _warn_of(self, system: str, place: str, named: Iterable[tuple[str, NDArray[np.int64]]]) -> None:
        """Of compositions beyond what the network was trained on."""
        formulas = self.weights.formulas.get(system)
        if formulas and (strange := unfamiliar(named, formulas)):
            warnings.warn(f"{place}{strange}; expect few good samples", stacklevel=3)

    def _blocks(
        self, run: Run, n: int | None, start: int, block: int, progress: Callable[[int], None] | None
    ) -> Iterator[list[AtomicSystem]]:
        while n is None or start < n:
            indices = range(start, start + block if n is None else min(n, start + block))
            yield self._block(run, indices, progress)
            start += block

    def _block(self, run: Run, indices: range, progress: Callable[[int], None] | None) -> list[AtomicSystem]:
        out: dict[int, AtomicSystem] = {}
        for made in self._in_threads(run, self._batches(run.groups(indices))):
            for group, systems in made:
                for index, system in zip(group.indices, systems, strict=True):
                    out[index] = replace(system, info=run.about(index) | dict(system.info))
            if progress is not None:
                progress(sum(len(systems) for _, systems in made))
        return [out[index] for index in indices]

    def _batches(self, groups: list[Group]) -> list[list[Group]]:
        """What goes through the network together: on a CPU parts of about equal cost, the largest systems first."""
        if self.device.type == "cpu":
            return share_out(groups)
        return [groups] if self._packs else [[group] for group in groups]

    def _in_threads(self, run: Run, batches: list[list[Group]]) -> Iterator[list[tuple[Group, list[AtomicSystem]]]]:
        """Each batch by itself; on a CPU by a thread of its own, since its products are too small to share."""
        if self.device.type != "cpu":
            yield from (self._together(run, groups) for groups in batches)
            return
        threads = torch.get_num_threads()
        pool = ThreadPoolExecutor(min(threads, len(batches)), initializer=torch.set_num_threads, initargs=(1,))
        try:
            for future in as_completed([pool.submit(self._together, run, groups) for groups in batches]):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(threads)

    @torch.no_grad()
    def _together(self, run: Run, groups: list[Group]) -> list[tuple[Group, list[AtomicSystem]]]:
        """All groups in one packed batch."""
        with _current(self.device):
            packing = Packing.from_lengths([group.size for group in groups for _ in group.indices], self.device)
            counts = run.counts(groups, self.device)
            graph = self.device.type == "cuda" and self._packs
            networks = [schedule.packed(packing, counts, graph) for schedule in run.schedules]
            kept = None if run.templates is None else self._encode(run.templates, groups)
            steering, toward = run.steering, None
            if steering is not None:
                toward = partial(steering.gradient, packing=packing, counts_BE=counts)
            decoding = Decoding(self.model, run, groups, packing, counts)
            within = None if run.cells is None and run.kept is None else decoding.as_known
            latents = self._integrate(run, networks, self._noise(run, groups), kept, toward, within)
            made = decoding.systems(latents[0])
            if steering is not None:
                found = iter(steering.predicted(latents[0], packing, counts))
                made = [[replace(one, info=dict(one.info) | next(found)) for one in systems] for systems in made]
            return list(zip(groups, made, strict=True))

    def _encode(self, templates: Templates, groups: list[Group]) -> Tensor:
        """(1, T, latent dimensions)"""
        batches = [templates.batch(group.indices, group.streams).to(self.device) for group in groups]
        return torch.cat([self.model.encode(batch).flatten(0, 1) for batch in batches])[None]

    def _noise(self, run: Run, groups: list[Group]) -> Tensor:
        """(draws, 1, T, latent dimensions), each system's from its own stream."""
        draws = len(run.grid) - 1 if run.settings.solver in STOCHASTIC else 1
        width = self.model.latent_mean.shape[0]

        def drawn(group: Group) -> NDArray[np.float32]:
            shape = (draws, group.size, width)
            return np.concatenate([stream.standard_normal(shape, np.float32) for stream in group.streams], axis=1)

        # numpy draws without the interpreter's lock; on a CPU other threads have the cores
        with ThreadPoolExecutor(None if self.device.type == "cuda" else 1) as pool:
            noise = np.concatenate(list(pool.map(drawn, groups)), axis=1)
        return torch.from_numpy(noise).to(self.device)[:, None]

    def _integrate(
        self, run: Run, networks: list[Network], noise: Tensor, kept: Tensor | None, toward: Predict | None,
        within: Predict | None,
    ) -> Tensor:  # fmt: skip
        """From noise alone, or from that of the first time over the latents `kept`; the last two as in `guided`."""
        draws, settings = iter(noise), run.settings
        network, *guide = networks
        predict = guided(network, settings.cfg, settings.guide, guide[0] if guide else None, toward, within)
        x = next(draws)
        if kept is not None:
            x = interpolate(x, kept, torch.full((1,), run.grid[0], device=self.device))
        latents = integrate(predict, x, run.grid, settings.solver, lambda _: next(draws), settings.noise)
        if not (latents.abs() < _FAR).all():
            raise InvalidInputError(
                f"the samples ran to infinity with steps={settings.steps}, solver={settings.solver!r}, "
                f"cfg={settings.cfg}, guide={settings.guide}; choose smaller scales (cfg 1 to 4 and guide 1 to 2 are "
                "usual) or the defaults of the weights, and of properties smaller scales or nearer values"
            )
        return latents

    @property
    def _packs(self) -> bool:
        """Whether the network has kernels for systems of different sizes."""
        dit = self.denoiser.dit
        with torch.no_grad():
            return kernels(dit.impl, self.model.latent_mean, dit.head_size) is not None


def _current(device: torch.device) -> AbstractContextManager[object]:
    """Makes a GPU the one that this thread's kernels and graphs go to."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def _wake(device: torch.device) -> None:
    """Makes a GPU's context and imports its kernels, which takes a second the first time."""
    if device.type == "cuda":
        kernels("auto", torch.zeros(1, device=device))


def half_precision(device: torch.device) -> torch.dtype:
    """bfloat16 where the hardware multiplies it, else float32."""
    if device.type == "cuda":
        fast = torch.cuda.get_device_capability(device) >= BFLOAT16_CAPABILITY
    else:
        fast = device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if fast else torch.float32


def choose_device(name: str) -> torch.device:
    """ "auto", "cpu", "cuda", "cuda:1", ...: "auto" is the first GPU where there is one, else the CPU.

    Raises:
        InvalidInputError: no such name.
        BackendUnavailableError: the GPU is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InvalidInputError(f"`device` must be 'auto', 'cpu', 'cuda' or 'cuda:N'; got {name!r}") from error
    if device.type not in ("cpu", "cuda"):
        raise InvalidInputError(f"`device` must be 'auto', 'cpu', 'cuda' or 'cuda:N'; got {name!r}")
    if device.type == "cuda" and (device.index or 0) >= (count := torch.cuda.device_count()):
        raise BackendUnavailableError(f"`device` is {name!r}, but torch finds {count} CUDA devices; use --device cpu")
    return device


def _integer(name: str, value: Any, smallest: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < smallest:
        raise InvalidInputError(f"`{name}` must be a whole number of at least {smallest}; got {value!r}")
    return int(value)


def _check(n: int | None, system: str, start: int, seed: int, settings: SamplingDefaults, block: int) -> None:
    if n is not None:
        _integer("n", n, 1)
    if system not in SYSTEMS:
        raise InvalidInputError(f"unknown system {system!r}; known: {', '.join(SYSTEMS)}")
    _integer("seed", seed, 0)
    if _integer("start", start, 0) % block:
        raise InvalidInputError(f"`start` must be a multiple of the block size {block}; got {start}")
    if _integer("steps", settings.steps, 1) > MAX_STEPS:
        raise InvalidInputError(f"`steps` must be at most {MAX_STEPS:,}; got {settings.steps:,}")
    if not isinstance(settings.formula, str):
        raise InvalidInputError(f"`formula` must be a text such as 'C7H10O2'; got {settings.formula!r}")
    if settings.solver not in SOLVERS:
        raise InvalidInputError(f"unknown solver {settings.solver!r}; known: {', '.join(SOLVERS)}")
    for name in ("cfg", "guide", "noise"):
        scale = getattr(settings, name)
        if not isinstance(scale, int | float) or not np.isfinite(scale):
            raise InvalidInputError(f"`{name}` must be a finite number; got {scale!r}")
    if settings.noise < 0:
        raise InvalidInputError(f"`noise` must be at least 0; got {settings.noise!r}")
