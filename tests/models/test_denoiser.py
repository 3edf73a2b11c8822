"""The network made ready to sample: modulations of a whole schedule, packed batches, half precision."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from adit.config import DiTConfig
from adit.errors import BackendUnavailableError, InvalidInputError
from adit.flow.guidance import guidance_labels, guided
from adit.flow.solver import integrate, time_grid
from adit.models.denoiser import Denoiser
from adit.models.dit import CRYSTAL, NULL, DiT, composition, deepened
from adit.ops.packing import Packing

TIMES = (0.0, 0.25, 0.5)
LABELS = (CRYSTAL, NULL)


def network(width: int = 64) -> DiT:
    """Random everywhere: AdaLN-zero would start as the identity."""
    torch.manual_seed(0)
    dit = DiT(DiTConfig(width=width, heads=2, layers=2, latent_dim=4, composition=8))
    with torch.no_grad():
        for parameter in dit.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape))
    return dit


def test_one_table_of_modulations_serves_all_times_and_labels() -> None:
    dit = network()
    schedule = Denoiser(dit).schedule(TIMES, LABELS)
    x, guess = torch.randn(2, 3, 5, 4)
    for time in TIMES:
        for label, raw in zip(LABELS, schedule.of_one_size()(x, time, guess), strict=True):
            each = dit(x, torch.full((3,), time), torch.full((3,), label), guess)
            torch.testing.assert_close(raw, each, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("layers", [2, 3, 4, 7])
def test_a_deeper_network_begins_as_the_same_function(layers: int) -> None:
    dit = network()
    deep = deepened(dit, layers)
    assert len(deep.blocks) == deep.config.layers == layers
    x, guess = torch.randn(2, 3, 5, 4)
    t, label = torch.tensor([0.0, 0.4, 0.9]), torch.tensor([CRYSTAL, NULL, CRYSTAL])
    counts = composition(torch.randint(1, 20, (3, 5)))
    before, after = dit(x, t, label, guess, counts), deep(x, t, label, guess, counts)
    assert torch.equal(before, after)
    after.square().sum().backward()
    for block in deep.blocks:
        assert block.modulation.weight.grad.abs().max() > 0, "all of them can learn"
    with torch.no_grad():
        for parameter in deep.parameters():
            parameter.zero_()
    assert torch.equal(dit(x, t, label, guess, counts), before), "its weights are its own"
    with pytest.raises(InvalidInputError, match="2 layers cannot go on with 1"):
        deepened(dit, 1)


def test_packed_systems_of_any_size_are_as_alone() -> None:
    lengths = [5, 1, 0, 12]
    schedule = Denoiser(network()).schedule(TIMES, LABELS)
    packed = schedule.packed(Packing.from_lengths(lengths))
    x, guess = torch.randn(2, 1, sum(lengths), 4)
    for time in TIMES:
        together = packed(x, time, guess)
        start = 0
        for length in lengths:
            own = slice(start, start + length)
            for one, all_of_them in zip(
                schedule.of_one_size()(x[:, own], time, guess[:, own]) if length else [], together, strict=False
            ):
                torch.testing.assert_close(all_of_them[:, own], one, rtol=1e-4, atol=1e-5)
            start += length


def test_each_system_is_told_its_own_composition_and_null_none() -> None:
    dit = network()
    schedule = Denoiser(dit).schedule(TIMES, LABELS)
    counts = torch.tensor([[2, 0, 1], [0, 3, 0], [0, 0, 0]])
    counts = torch.nn.functional.pad(counts, (0, 97))
    x, guess = torch.randn(2, 3, 5, 4)
    alone = schedule.of_one_size(counts)(x, 0.25, guess)
    together = schedule.packed(Packing.from_lengths([5] * 3), counts)(x.view(1, 15, 4), 0.25, guess.view(1, 15, 4))
    untold = schedule.of_one_size()(x, 0.25, guess)
    for one, packed in zip(alone, together, strict=True):
        torch.testing.assert_close(packed.view(3, 5, 4), one, rtol=1e-4, atol=1e-5)
    conditional, null = alone
    each = dit(x, torch.full((3,), 0.25), torch.full((3,), CRYSTAL), guess, counts)
    torch.testing.assert_close(conditional, each, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(null, untold[1], rtol=0, atol=0)
    differs = (conditional - untold[0]).abs().amax((1, 2))
    assert (differs[:2] > 0.01).all() and differs[2] == 0  # nothing known is as nothing told


def test_a_network_is_born_deaf_to_the_composition() -> None:
    """So that one that was trained without can be trained on with it."""
    dit = DiT(DiTConfig(width=32, heads=2, layers=1, latent_dim=4, composition=8))
    assert not dit.context(torch.ones(2, 100, dtype=torch.long)).any()


def test_composition_counts_each_element() -> None:
    counts = composition(torch.tensor([[6, 1, 1, 1, 1], [100, 8, 1, 1, 8]]))
    assert counts.shape == (2, 100) and counts.sum(1).tolist() == [5, 5]
    assert counts[0, [0, 5]].tolist() == [4, 1] and counts[1, [0, 7, 99]].tolist() == [2, 2, 1]


@pytest.mark.parametrize("scale", [0.0, 1.0, 2.5])
def test_a_whole_run_of_the_solver(scale: float) -> None:
    labels = guidance_labels(CRYSTAL, NULL, scale)
    schedule = Denoiser(network()).schedule(time_grid(6)[:-1], labels)
    x = torch.randn(4, 3, 4)
    packed = schedule.packed(Packing.from_lengths([3] * 4))
    alone = integrate(guided(schedule.of_one_size(), scale), x, time_grid(6), "dpm++")
    together = integrate(guided(packed, scale), x.view(1, 12, 4), time_grid(6), "dpm++").view(4, 3, 4)
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-4)


def test_half_precision_is_as_close_as_autocast() -> None:
    dit = network()
    x, guess = torch.randn(2, 32, 7, 4)
    t, label = torch.tensor([0.5]), torch.tensor([CRYSTAL])
    exact = dit(x, t, label, guess)
    (ours,) = Denoiser(dit, torch.bfloat16).schedule([0.5], [CRYSTAL]).of_one_size()(x, 0.5, guess)
    with torch.autocast("cpu", torch.bfloat16):
        usual = dit(x, t, label, guess)
    assert ours.dtype == torch.float32
    error, bound = ((made - exact).square().mean().sqrt() for made in (ours, usual))
    assert 0 < error <= 1.05 * bound


def test_the_copy_leaves_the_network_alone() -> None:
    dit = network()
    denoiser = Denoiser(dit, torch.bfloat16)
    assert dit.training and all(p.dtype == torch.float32 and p.requires_grad for p in dit.parameters())
    assert not any(p.requires_grad for p in denoiser.dit.parameters())
    assert denoiser.dit.blocks[0].modulation.weight.dtype == torch.float32


def test_triton_that_cannot_run_is_refused() -> None:
    denoiser = Denoiser(network(width=32))  # heads of 16
    denoiser.dit.impl = "triton"
    schedule = denoiser.schedule(TIMES, LABELS)
    with pytest.raises(BackendUnavailableError, match="triton"):
        schedule.of_one_size()(torch.zeros(1, 2, 4), 0.0, torch.zeros(1, 2, 4))


INTERPRETED = """
import torch
from adit.models.denoiser import Denoiser
from adit.models.dit import CRYSTAL, NULL
from adit.ops.packing import Packing
from test_denoiser import LABELS, TIMES, network

dit, lengths = network(), [5, 1, 12]
schedule, packing = Denoiser(dit).schedule(TIMES, LABELS), Packing.from_lengths(lengths)
x, guess = torch.randn(2, 1, sum(lengths), 4)
def both(of, call):
    made = []
    for impl in ("reference", "triton"):
        of.impl = impl
        made.append(call())
    for a, b in zip(*made, strict=True):
        assert (a - b).norm() <= 1e-4 * a.norm(), ((a - b).norm(), a.norm())
both(schedule.dit, lambda: schedule.packed(packing)(x, 0.25, guess))

def gradients():
    dit.zero_grad()
    rows = torch.tensor([CRYSTAL, NULL, CRYSTAL])
    dit(x.view(3, 6, 4), torch.tensor([0.1, 0.5, 0.9]), rows, guess.view(3, 6, 4)).square().sum().backward()
    return [parameter.grad.clone() for parameter in dit.parameters() if parameter.grad is not None]
both(dit, gradients)
print("same")
"""


def test_the_kernels_sample_and_train_as_plain_torch() -> None:
    """Under Triton's interpreter: the network's forward pass, packed, and its gradients."""
    pytest.importorskip("adit_kernels")
    folders = [*os.environ.get("PYTHONPATH", "").split(os.pathsep), str(Path(__file__).parent)]
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join(folders)}
    done = subprocess.run(
        [sys.executable, "-c", INTERPRETED], capture_output=True, text=True, env=environment, timeout=300
    )
    assert done.stdout == "same\n", done.stderr[-2000:]


@pytest.mark.gpu
@pytest.mark.parametrize("labels", [(CRYSTAL,), LABELS])
def test_a_captured_graph_keeps_what_it_reads(labels: tuple[int, ...]) -> None:
    """Memory that nothing but the graph refers to must not be given to others: samples of it were garbage."""
    dit = network().cuda()
    with torch.inference_mode():
        schedule = Denoiser(dit).schedule(TIMES, labels)
        lengths = [18, 29, 5, 9] * 50
        counts = composition(torch.randint(1, 10, (200, 5), device="cuda"))
        plain = schedule.packed(Packing.from_lengths(lengths, "cuda"), counts)
        graph = schedule.packed(Packing.from_lengths(lengths, "cuda"), counts, graph=True)
        for time in TIMES:
            churn = [torch.full((n,), 2**30, dtype=torch.int32, device="cuda") for n in (201, 401, 3050, 6100) * 20]
            del churn
            x, guess = torch.randn(2, 1, sum(lengths), 4, device="cuda")
            for one, two in zip(plain(x, time, guess), graph(x, time, guess), strict=True):
                torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)
