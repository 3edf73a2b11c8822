"""The baselines are what was published, and as symmetric as they claim to be."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor

from baselines.adit_usual import PublishedDecoder
from baselines.common import Baseline, mask_of, parameter_count, partners, reversed_pairs
from baselines.geoldm import GeoLDMDecoder
from baselines.registry import BASELINES, CRYSTAL, MOLECULE, Entry, select
from baselines.timing import gflop

CPU = torch.device("cpu")
NAMES = [entry.name for entry in BASELINES]
SMALL = [entry.name for entry in BASELINES if entry.parameters < 5e7]
EQUIVARIANT = [entry.name for entry in BASELINES if entry.equivariant]
VECTORS = {"positions", "earlier_positions"}  # rotate with the system
NODES = VECTORS | {"fractional", "types", "numbers", "earlier_types", "latents", "earlier", "charges", "energies"}
PAIRS = {"bonds", "earlier_bonds"}

Inputs = dict[str, "Tensor | None"]


def entry_of(name: str) -> Entry:
    return select([name])[0]


@cache
def network_of(name: str) -> Baseline:
    torch.manual_seed(0)
    return entry_of(name).build().eval().double()


def run(network: Baseline, inputs: Inputs) -> dict[str, Tensor]:
    with torch.inference_mode():
        out: dict[str, Tensor] = network(**inputs)
    return out


def rotation() -> Tensor:
    q, r = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3)))
    q = q * r.diagonal().sign()
    return q if torch.linalg.det(q) > 0 else -q


def changed(inputs: Inputs, **more: Tensor | None) -> Inputs:
    return {**inputs, **more}


def close(left: Tensor, right: Tensor) -> None:
    torch.testing.assert_close(left, right, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("name", NAMES)
def test_parameters_are_as_published(name: str) -> None:
    with torch.device("meta"):
        network = entry_of(name).build()
    assert parameter_count(network) == pytest.approx(entry_of(name).parameters, rel=0.02)


@pytest.mark.parametrize("name", NAMES)
def test_flops_are_as_published(name: str) -> None:
    entry = entry_of(name)
    assert gflop(replace(entry, guided=False), entry.gflop_atoms) == pytest.approx(entry.gflop, rel=0.1)


def test_guidance_doubles_the_flops() -> None:
    assert gflop(entry_of("ADiT-S"), 10) == pytest.approx(2 * 28.6, rel=0.1)


def test_decoder_of_geoldm_is_of_the_size_of_its_denoiser() -> None:
    with torch.device("meta"):
        assert parameter_count(GeoLDMDecoder()) == pytest.approx(5.34e6, rel=0.02)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("sizes", [[1], [2], [7], [1, 2, 7]], ids=str)
def test_every_size_runs(name: str, sizes: list[int]) -> None:
    network = network_of(name)
    inputs = network.inputs(torch.tensor(sizes))
    for name_out, out in run(network, inputs).items():
        assert out.isfinite().all(), name_out
        if name_out in NODES:
            assert out.shape[:2] == (len(sizes), max(sizes))


@pytest.mark.parametrize("name", SMALL)
def test_padding_changes_nothing(name: str) -> None:
    network, sizes = network_of(name), torch.tensor([5, 3, 1])
    together = network.inputs(sizes)
    out = run(network, together)
    for k, size in enumerate(sizes.tolist()):
        alone: Inputs = {}
        for key, value in together.items():
            if key == "mask" or value is None:
                alone[key] = None
            elif key in NODES:
                alone[key] = value[k : k + 1, :size]
            else:
                alone[key] = value[k : k + 1, :size, :size] if key in PAIRS else value[k : k + 1]
        for key, value in run(network, alone).items():
            if key in NODES:
                close(out[key][k : k + 1, :size], value)
            elif key not in PAIRS:
                close(out[key][k : k + 1], value)


def permuted(value: Tensor, key: str, order: Tensor) -> Tensor:
    if key in NODES:
        return value[:, order]
    return value[:, order][:, :, order] if key in PAIRS and value.shape[1] == value.shape[2] else value


@pytest.mark.parametrize("name", EQUIVARIANT)
def test_order_of_atoms_does_not_matter(name: str) -> None:
    network, order = network_of(name), torch.tensor([3, 0, 4, 1, 2])
    inputs = network.inputs(torch.tensor([5, 5]))
    if name == "CDVAE":  # few neighbours: where its graph does not depend on the order (see its docstring)
        inputs["lattice"] = inputs["lattice"] * 2.5
    out = run(network, inputs)
    shuffled = {k: None if v is None else permuted(v, k, order) for k, v in inputs.items()}
    for key, value in run(network, shuffled).items():
        if key == "bonds" and value.shape[1] != value.shape[2]:  # pairs without self-pairs
            close(value.flatten(1).sort()[0], out[key].flatten(1).sort()[0])
        else:
            close(value, permuted(out[key], key, order))


@pytest.mark.parametrize("name", EQUIVARIANT)
def test_rotation_and_reflection(name: str) -> None:
    network = network_of(name)
    inputs = network.inputs(torch.tensor([5, 4]))
    out = run(network, inputs)
    for turn in (rotation(), -rotation()):
        turned = {k: v @ turn if k in VECTORS and v is not None else v for k, v in inputs.items()}
        if name in ("CDVAE", "DiffCSP"):  # FlowMM's lattice is lengths and angles: nothing to rotate
            turned["lattice"] = turned["lattice"] @ turn
        for key, value in run(network, turned).items():
            rotates = key in VECTORS or (key == "lattice" and name == "DiffCSP")
            close(value, out[key] @ turn if rotates else out[key])


@pytest.mark.parametrize("name", [n for n in EQUIVARIANT if MOLECULE in entry_of(n).systems])
def test_outputs_of_molecules_respond(name: str) -> None:
    """The tests of symmetry would pass for a network that ignores positions."""
    network = network_of(name)
    inputs = network.inputs(torch.tensor([5, 4]))
    stretched = changed(inputs, positions=1.1 * inputs["positions"])
    before, after = run(network, inputs), run(network, stretched)
    assert (before["types"] - after["types"]).abs().max() > 1e-6
    assert before["positions"].abs().max() > 1e-6


@pytest.mark.parametrize("name", [n for n in EQUIVARIANT if CRYSTAL in entry_of(n).systems])
def test_shift_on_the_torus(name: str) -> None:
    network = network_of(name)
    inputs = network.inputs(torch.tensor([5, 4]))
    out = run(network, inputs)
    shift = torch.tensor([[[0.31, 0.87, 0.55]], [[0.11, 0.42, 0.93]]], dtype=torch.float64)
    shifted = changed(inputs, fractional=(inputs["fractional"] + shift) % 1)
    for key, value in run(network, shifted).items():
        close(value, out[key])
    moved = inputs["fractional"].clone()
    moved[:, 0] += 0.1
    assert (run(network, changed(inputs, fractional=moved))["types"] - out["types"]).abs().max() > 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_bfloat16_products(name: str) -> None:
    """As timed where the hardware has them; CPUs without them emulate."""
    network = entry_of(name).build().eval()
    with torch.autocast("cpu", torch.bfloat16):
        out = run(network, network.inputs(torch.tensor([3, 2])))
    assert all(value.isfinite().all() for value in out.values())


@pytest.mark.parametrize("decoder", [GeoLDMDecoder, PublishedDecoder])
def test_decoders_ignore_padding(decoder: type[Baseline]) -> None:
    torch.manual_seed(0)
    network = decoder().eval().double()
    inputs = network.inputs(torch.tensor([3, 2]))
    alone = {k: None if k == "mask" or v is None else v[1:, :2] for k, v in inputs.items()}
    close(run(network, inputs)["positions"][1:, :2], run(network, alone)["positions"])


def test_gradients_reach_every_parameter_of_edm() -> None:
    network = entry_of("EDM").build()
    out = network(**network.inputs(torch.tensor([4, 3])))
    sum(value.square().sum() for value in out.values()).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


def test_guidance_doubles_the_batch() -> None:
    network = network_of("ADiT-S")
    inputs = network.inputs(torch.tensor([3, 2]))
    twice = network.guided(inputs)
    assert twice["label"].tolist() == [*inputs["label"].tolist(), 2, 2]
    out = run(network, twice)["latents"]
    close(out[:2], run(network, inputs)["latents"])
    assert (out[:2] - out[2:]).abs().max() > 1e-6
    with pytest.raises(NotImplementedError, match="EDM"):
        network_of("EDM").guided({})


def test_pairs() -> None:
    other = partners(4, CPU)
    assert [sorted(row) for row in other.tolist()] == [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]]
    own = torch.arange(4)[:, None].expand_as(other).flatten()
    back = reversed_pairs(4, CPU)
    assert (own[back] == other.flatten()).all() and (other.flatten()[back] == own).all()
    assert partners(1, CPU).shape == (1, 0) and partners(0, CPU).shape == (0, 0)
    assert mask_of(torch.tensor([2, 2]), CPU) is None
    assert mask_of(torch.tensor([1, 2]), CPU).tolist() == [[True, False], [True, True]]


def test_unknown_baseline_is_refused_with_the_known_ones() -> None:
    with pytest.raises(SystemExit, match=r"unknown baselines \['EMD'\]; known: EDM, GeoLDM"):
        select(["EMD"])
    assert math.isclose(entry_of("tabasco-hot").parameters, 14.8e6)
