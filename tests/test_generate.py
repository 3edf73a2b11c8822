"""`Generator` on a small network with random weights: order, seeds, options."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from adit.blocks import Group, one_ahead, share_out
from adit.config import DiTConfig, VAEConfig
from adit.errors import AditError, BackendUnavailableError, CheckpointError, InvalidInputError
from adit.flow.solver import SOLVERS
from adit.generate import Generator
from adit.models.denoiser import Denoiser
from adit.models.dit import DiT
from adit.models.layers import SelfAttention
from adit.prior import atom_distribution
from adit.system import AtomicSystem
from adit.weights import Pretrained, SamplingDefaults, save_pretrained
from adit.weights.store import GenerationModel

VAE = VAEConfig(width=32, heads=2, encoder_layers=1, decoder_layers=1, latent_dim=4)
DIT = DiTConfig(width=32, heads=2, layers=2, latent_dim=4)
COUNTS = {"molecule": {3: 1, 5: 2, 9: 1}, "crystal": {2: 1, 4: 1}}


def pretrained(counts: dict[str, dict[int, int]] = COUNTS, guide: DiTConfig | None = None) -> Pretrained:
    """Random everywhere, so that every option has an effect."""
    torch.manual_seed(0)
    model = GenerationModel(VAE, DIT)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape) / max(1, parameter.shape[-1]) ** 0.5)
    model.guide = None if guide is None else DiT(guide)
    defaults = dict.fromkeys(counts, SamplingDefaults(steps=3, solver="euler", cfg=2.0))
    return Pretrained(name="random", model=model, defaults=defaults, atom_counts=counts)


@pytest.fixture(scope="module")
def generator() -> Iterator[Generator]:
    threads = torch.get_num_threads()
    yield Generator(pretrained(), device="cpu", threads=1)
    torch.set_num_threads(threads)


def close(a: list[AtomicSystem], b: list[AtomicSystem], tolerance: float = 0.05) -> bool:
    """The same atoms at the same places, but for what bfloat16 makes of another company in the batch."""
    return len(a) == len(b) and all(
        len(x) == len(y) and np.abs(x.positions - y.positions).max() < tolerance for x, y in zip(a, b, strict=True)
    )


@pytest.mark.parametrize("system", ["molecule", "crystal"])
@pytest.mark.parametrize("solver", SOLVERS)
def test_the_same_seed_gives_the_same_systems_and_another_seed_others(
    generator: Generator, system: str, solver: str
) -> None:
    first, second, third = (generator.sample(6, system, seed=seed, solver=solver) for seed in (1, 1, 2))
    assert first == second
    assert not any(a == b for a, b in zip(first, third, strict=True))
    assert len({system.positions.tobytes() for system in first}) == 6


def test_kinds(generator: Generator) -> None:
    for system in ("molecule", "crystal"):
        made = generator.sample(8, system, seed=3)
        assert len(made) == 8 and all(one.is_periodic == (system == "crystal") for one in made)
        assert [one.info["index"] for one in made] == list(range(8))
        assert {one.info["seed"] for one in made} == {3}
        assert {len(one) for one in made} <= set(COUNTS[system])
    for molecule in generator.sample(3):
        np.testing.assert_allclose(molecule.positions.mean(0), 0, atol=1e-5)


@pytest.mark.parametrize("solver", SOLVERS)
def test_fewer_samples_are_the_beginning_of_more(generator: Generator, solver: str) -> None:
    """The noise of sample k is its own, also the fresh noise of the ancestral solver."""
    few, many = generator.sample(5, solver=solver), generator.sample(10, solver=solver)
    assert close(few, many[:5])
    small = generator.sample(10, solver=solver, batch_size=3)
    assert close(small, many)


def test_whole_blocks_are_the_same_to_the_last_bit(generator: Generator) -> None:
    assert generator.sample(4, batch_size=4) == generator.sample(10, batch_size=4)[:4]


def test_any_number_of_threads_makes_the_same(generator: Generator) -> None:
    torch.set_num_threads(3)
    made = generator.sample(40, seed=4)
    assert torch.get_num_threads() == 3
    torch.set_num_threads(1)
    assert generator.sample(40, seed=4) == made


class Packing(Generator):
    """As on a GPU with the kernels, where systems of all sizes go through the network together."""

    def _batches(self, groups: list[Group]) -> list[list[Group]]:
        return [groups]


@pytest.mark.parametrize("system", ["molecule", "crystal"])
@pytest.mark.parametrize("solver", ["ancestral", "heun", "sde-dpm++"])
def test_packed_blocks_hold_the_same_systems(system: str, solver: str) -> None:
    apart, packed = (kind(pretrained(), device="cpu") for kind in (Generator, Packing))
    for each in (apart, packed):
        each.denoiser = Denoiser(each.model.dit)  # in float32
    options = {"system": system, "seed": 3, "batch_size": 8, "solver": solver}
    assert close(apart.sample(12, **options), packed.sample(12, **options), tolerance=1e-3)


@pytest.mark.parametrize("system", ["molecule", "crystal"])
def test_all_implementations_make_the_same_systems(system: str) -> None:
    made = []
    for impl in ("rust", "reference"):
        generator = Generator(pretrained(), device="cpu", impl=impl)  # type: ignore[arg-type]
        generator.denoiser = Denoiser(generator.model.dit)  # in float32
        generator.denoiser.dit.impl = impl  # type: ignore[assignment]
        made.append(generator.sample(12, system, seed=3, solver="ancestral"))
    assert close(*made, tolerance=1e-3)


@given(
    st.dictionaries(st.integers(1, 200), st.integers(1, 300), min_size=1, max_size=30),
)
def test_a_block_is_shared_out_evenly(counts: dict[int, int]) -> None:
    groups, start = [], 0
    for size, count in sorted(counts.items()):
        indices = list(range(start, start + count))
        groups.append(Group(size, indices, [None] * count, [np.random.default_rng()] * count))
        start += count
    parts = share_out(groups)
    assert sorted(index for part in parts for group in part for index in group.indices) == list(range(start))
    atoms = [sum(group.size * len(group.indices) for group in part) for part in parts]
    assert max(atoms) <= min(sum(atoms) / len(parts), 2048) + max(counts)
    assert len(parts) in (1, 2, 4) or len(parts) % 8 == 0 or max(atoms) > sum(atoms) / 8
    sizes = [group.size for part in parts for group in part]
    assert sizes == sorted(sizes, reverse=True)  # the longest work first


def test_an_implementation_asked_for_is_that_of_all_attention() -> None:
    made = Generator(pretrained(), device="cpu", impl="reference")
    networks = (made.denoiser.dit, made.model.decoder)
    parts = [part for network in networks for part in network.modules() if isinstance(part, SelfAttention)]
    assert made.denoiser.dit.impl == "reference" and len(parts) >= 2
    assert {part.impl for part in parts} == {"reference"}
    usual = Generator(pretrained(), device="cpu")
    chosen = {part.impl for part in usual.model.decoder.modules() if isinstance(part, SelfAttention)}
    assert chosen == {"auto"} and usual.denoiser.dit.impl == "auto"


def test_one_ahead_keeps_order_and_errors_and_works_ahead() -> None:
    made: list[int] = []
    asked = threading.Event()

    def items() -> Iterator[int]:
        for k in range(3):
            made.append(k)
            if k == 1:
                asked.set()
            yield k
        raise InvalidInputError("the fourth")

    ahead = one_ahead(items())
    assert next(ahead) == 0
    assert asked.wait(10) and made[:2] == [0, 1]
    assert [next(ahead), next(ahead)] == [1, 2]
    with pytest.raises(InvalidInputError, match="fourth"):
        next(ahead)
    assert list(one_ahead(iter([]))) == []


@pytest.mark.parametrize("solver", ["dpm++", "ancestral", "sde-dpm++"])
def test_a_stream_goes_on_where_it_was_left(generator: Generator, solver: str) -> None:
    whole = list(generator.stream(11, "crystal", batch_size=4, seed=5, solver=solver))
    rest = list(generator.stream(11, "crystal", batch_size=4, seed=5, solver=solver, start=4))
    assert [len(block) for block in whole] == [4, 4, 3]
    assert rest == whole[1:]
    assert [one.info["index"] for block in rest for one in block] == list(range(4, 11))
    endless = generator.stream(None, "crystal", batch_size=4, seed=5, solver=solver, start=4)
    assert list(islice(endless, 1)) == whole[1:2]
    assert list(generator.stream(4, "crystal", batch_size=4, start=4)) == []


def test_progress_counts_every_system_once(generator: Generator) -> None:
    made: list[int] = []
    blocks = generator.stream(411, batch_size=400, steps=1, progress=made.append)
    next(blocks)
    assert sum(made) == 400 and len(made) > 1
    next(blocks)
    assert sum(made) == 411


@pytest.mark.parametrize(
    ("atoms", "sizes"),
    [(7, {7}), (np.int64(7), {7}), ((4, 6), {5}), ([9, 9], {9}), ((6, 8), {6, 7, 8}), ((1, 2048), {3, 5, 9}), (1, {1})],
)
def test_atoms(generator: Generator, atoms, sizes: set[int]) -> None:  # type: ignore[no-untyped-def]
    """Within a range as often as in training; where there was nothing, evenly."""
    made = generator.sample(24, atoms=atoms, steps=1, cfg=1.0)
    assert {len(one) for one in made} == sizes


def test_sizes_follow_the_training_set(generator: Generator) -> None:
    made = Counter(len(one) for one in generator.sample(400, steps=1, cfg=1.0, batch_size=400))
    expected = [100, 200, 100]
    assert stats.chisquare([made[3], made[5], made[9]], expected).pvalue > 1e-3


@pytest.mark.parametrize(
    "options",
    [{"steps": 5}, {"cfg": 1.0}, {"cfg": 0.0}, {"cfg": -1}, {"solver": "heun"}, {"solver": "ancestral"}],
)
def test_every_option_has_an_effect(generator: Generator, options) -> None:  # type: ignore[no-untyped-def]
    assert not close(generator.sample(3), generator.sample(3, **options), tolerance=1e-4)


def test_less_noise_stays_nearer_to_no_noise(generator: Generator) -> None:
    none, little, much = (generator.sample(6, solver="ancestral", noise=noise) for noise in (0.0, 0.02, 20.0))
    assert close(none, generator.sample(6, solver="euler"), tolerance=1e-3)
    shifts = [
        [np.abs(a.positions - b.positions).max() for a, b in zip(none, made, strict=True)] for made in (little, much)
    ]
    assert 0 < np.median(shifts[0]) < np.median(shifts[1])


def test_a_guide_has_an_effect_that_grows_with_its_scale(generator: Generator) -> None:
    guided = Generator(pretrained(guide=DiTConfig(width=16, heads=1, layers=1, latent_dim=4)), device="cpu")
    plain = generator.sample(6)
    assert guided.sample(6, guide=1) == guided.sample(6) == plain
    near, far = (guided.sample(6, guide=scale) for scale in (1.05, 1.5))
    shifts = [
        [np.abs(a.positions - b.positions).max() for a, b in zip(plain, made, strict=True)] for made in (near, far)
    ]
    assert 0 < np.median(shifts[0]) < np.median(shifts[1])
    untold = guided.sample(6, guide=1.5, cfg=0.0)  # both networks are asked without the label
    assert not close(untold, far, tolerance=1e-4)


def test_a_guide_that_is_not_there_is_named(generator: Generator) -> None:
    with pytest.raises(InvalidInputError, match="the weights 'random' have no guide"):
        generator.sample(1, guide=1.5)


def test_crystals_have_the_formula_that_was_told() -> None:
    """Whatever the network makes of it; molecules are left as they come."""
    made = pretrained()
    made.model.dit = DiT(replace(DIT, composition=8))
    formulas = {"crystal": {"ClNa": 1, "O4Ti2": 1, "ClK": 1}, "molecule": {"CH4": 1}}
    generator = Generator(replace(made, formulas=formulas), device="cpu")
    assert {one.formula for one in generator.sample(8, "crystal", formula="Ti2O4")} == {"O4Ti2"}
    assert {one.formula for one in generator.sample(30, "crystal", formula="training")} == {"ClNa", "O4Ti2", "ClK"}
    assert {one.formula for one in generator.sample(8, formula="CH4")} != {"CH4"}


def test_defaults_are_those_of_the_weights(generator: Generator) -> None:
    assert generator.sample(3) == generator.sample(3, steps=3, solver="euler", cfg=2.0)


BAD = [
    ({"n": 0}, "`n`"),
    ({"n": -3}, "`n`"),
    ({"n": 2.5}, "`n`"),
    ({"n": None}, "`n`"),
    ({"n": "3"}, "`n`"),
    ({"system": "protein"}, "unknown system 'protein'; known: molecule, crystal"),
    ({"seed": -1}, "`seed`"),
    ({"seed": 0.5}, "`seed`"),
    ({"start": -512}, "`start`"),
    ({"start": 5}, "`start` must be a multiple of the block size 512"),
    ({"steps": 0}, "`steps`"),
    ({"steps": 2.5}, "`steps`"),
    ({"solver": "rk4"}, "unknown solver 'rk4'; known: euler"),
    ({"cfg": float("nan")}, "`cfg`"),
    ({"cfg": float("inf")}, "`cfg`"),
    ({"cfg": "2"}, "`cfg`"),
    ({"guide": float("nan")}, "`guide`"),
    ({"guide": "2"}, "`guide`"),
    ({"solver": "ancestral", "noise": -1.0}, "`noise` must be at least 0"),
    ({"solver": "ancestral", "noise": float("inf")}, "`noise`"),
    ({"solver": "dpm++", "noise": 2.0}, "`noise` is for the solvers ancestral and sde-dpm++, not 'dpm"),
    ({"batch_size": 0}, "`batch_size`"),
    ({"batch_size": 1.5}, "`batch_size`"),
    ({"atoms": 0}, "`atoms`"),
    ({"atoms": -4}, "`atoms`"),
    ({"atoms": (9, 3)}, "`atoms`"),
    ({"atoms": (0, 3)}, "`atoms`"),
    ({"atoms": 2049}, "`atoms`"),
    ({"atoms": 2.5}, "`atoms`"),
    ({"atoms": "5"}, "`atoms`"),
    ({"atoms": (5,)}, "`atoms`"),
    ({"atoms": (1, 2, 3)}, "`atoms`"),
    ({"atoms": ("a", "b")}, "`atoms`"),
]


@pytest.mark.parametrize(("options", "words"), BAD, ids=str)
def test_bad_options_are_refused_by_name(generator: Generator, options, words: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InvalidInputError) as caught:
        generator.sample(**{"n": 3, **options})
    assert words in str(caught.value)


def test_options_are_checked_before_the_first_block(generator: Generator) -> None:
    with pytest.raises(InvalidInputError):
        generator.stream(3, solver="rk4")


def test_any_non_negative_seed_will_do(generator: Generator) -> None:
    for solver in ("euler", "ancestral"):
        made = [generator.sample(2, seed=seed, solver=solver, atoms=4) for seed in (0, 2**63, 2**64, 10**40)]
        assert len({one.positions.tobytes() for pair in made for one in pair}) == 8


def test_neighbouring_seeds_share_no_noise(generator: Generator) -> None:
    """Nor do neighbouring samples, sizes or systems."""
    made = [generator.sample(6, seed=seed, solver="ancestral", atoms=4, steps=4) for seed in range(4)]
    made += [generator.sample(6, "crystal", seed=seed, solver="ancestral", atoms=4, steps=4) for seed in range(2)]
    assert len({one.positions.tobytes() for group in made for one in group}) == 36


def test_molecules_and_crystals_of_a_seed_start_from_other_noise(
    generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    import adit.generate as module

    starts: list[torch.Tensor] = []
    inner = module.integrate
    monkeypatch.setattr(module, "integrate", lambda *a: starts.append(a[1]) or inner(*a))
    monkeypatch.setattr(module, "share_out", lambda groups: [groups])
    for system in ("molecule", "crystal"):
        generator.sample(60, system, atoms=20, steps=1)
    first, second = (start.flatten() for start in starts)
    assert abs(torch.corrcoef(torch.stack([first, second]))[0, 1]) < 0.1
    assert abs(first.mean()) < 0.1 and abs(first.std() - 1) < 0.1


def test_weights_for_one_kind_name_it() -> None:
    generator = Generator(pretrained({"crystal": {2: 1}}), device="cpu")
    assert len(generator.sample(1, "crystal")) == 1
    with pytest.raises(InvalidInputError, match="'random' were not trained for 'molecule'; known: crystal"):
        generator.sample(1, "molecule")


def test_samples_that_run_to_infinity_name_the_scale(generator: Generator) -> None:
    with pytest.raises(InvalidInputError, match=r"ran to infinity with steps=3, solver='euler', cfg=1e\+38"):
        generator.sample(1, cfg=1e38)


@pytest.mark.parametrize("device", ["gpu", "tpu", "", "meta", "mps", "cpu:x"])
def test_unknown_devices_are_refused(device: str) -> None:
    with pytest.raises(InvalidInputError, match="`device` must be 'auto', 'cpu', 'cuda' or 'cuda:N'"):
        Generator(pretrained(), device=device)


def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(BackendUnavailableError, match=r"'cuda:99'.*use --device cpu"):
        Generator(pretrained(), device="cuda:99")


def test_threads() -> None:
    before = torch.get_num_threads()
    try:
        Generator(pretrained(), device="cpu", threads=1)
        assert torch.get_num_threads() == 1
        with pytest.raises(InvalidInputError, match="`threads` must be at least 1; got 0"):
            Generator(pretrained(), device="cpu", threads=0)
    finally:
        torch.set_num_threads(before)


def test_from_a_folder(tmp_path: Path) -> None:
    save_pretrained(tmp_path / "w", pretrained())
    generator = Generator.from_pretrained(tmp_path / "w", device="cpu")
    assert generator.defaults["molecule"].steps == 3 and len(generator.sample(2)) == 2
    with pytest.raises(CheckpointError, match="no weights 'nowhere'"):
        Generator.from_pretrained("nowhere")


def test_coordinates_are_not_rounded_to_bfloat16(generator: Generator) -> None:
    """The decoder runs in float32 wherever the Transformer runs: else coordinates fall on a grid of 0.01 Angstrom
    and right angles are impossible."""
    made = generator.sample(8, "crystal", atoms=20, batch_size=8)
    made += generator.sample(8, atoms=20, batch_size=8)
    values = torch.from_numpy(np.concatenate([one.positions.ravel() for one in made])).float()
    assert (values.bfloat16().float() == values).float().mean() < 0.05

    seen: list[torch.dtype] = []
    handle = generator.model.decoder.heads.register_forward_hook(lambda _, __, out: seen.append(out.dtype))
    generator.sample(1)
    handle.remove()
    assert seen == [torch.float32]


def test_atom_distribution() -> None:
    values, shares = atom_distribution({3: 1, 5: 3}, None)
    assert values.tolist() == [3, 4, 5] and shares.tolist() == [0.25, 0, 0.75]
    values, shares = atom_distribution({3: 1, 5: 3}, (7, 8))
    assert values.tolist() == [7, 8] and shares.tolist() == [0.5, 0.5]
    with pytest.raises(AditError):
        atom_distribution({3: 1}, (8, 7))
