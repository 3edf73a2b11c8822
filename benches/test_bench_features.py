"""Gathering, augmentation, Fourier features and distances beside numpy and torch.

One thread; times are of a whole batch.
"""

import importlib.util
import itertools

import numpy as np
import pytest
import torch

from adit import _rust, features
from adit.data.packed import PackedDataset
from adit.packing import Packed

BATCH = 256


@pytest.fixture(scope="module")
def store():
    """130,000 molecules of QM9's sizes."""
    rng = np.random.default_rng(2)
    offsets = np.concatenate([[0], np.cumsum(rng.integers(10, 27, 130_000))])
    return PackedDataset(
        numbers=rng.integers(1, 10, offsets[-1]).astype(np.uint8),
        positions=rng.normal(size=(offsets[-1], 3)).astype(np.float32) * 2,
        cells=np.zeros((130_000, 3, 3), np.float32),
        offsets=offsets,
        periodic=np.zeros(130_000, bool),
    )


@pytest.fixture
def batches():
    """Another batch in every round, as in training: what was just read is not read again."""
    rng = np.random.default_rng(3)
    return (rng.integers(0, 130_000, BATCH) for _ in itertools.count())


def by_adit_core(store, indices):
    return _rust.gather(store.offsets, indices, store.numbers, store.positions)


def by_adit(store, indices):
    return features.gather(store, indices)


def by_adit_padded(store, indices):
    return features.gather_padded(store, indices)


def by_numpy(store, indices):
    offsets = store.offsets
    sizes = offsets[indices + 1] - offsets[indices]
    new = np.concatenate([[0], np.cumsum(sizes)])
    atoms = np.repeat(offsets[indices] - new[:-1], sizes) + np.arange(new[-1])
    return store.numbers[atoms], store.positions[atoms], new


def by_pad_sequence(store, indices):
    parts = [torch.from_numpy(store.positions[store.offsets[k] : store.offsets[k + 1]]) for k in indices]
    kinds = [torch.from_numpy(store.numbers[store.offsets[k] : store.offsets[k + 1]]) for k in indices]
    pad = torch.nn.utils.rnn.pad_sequence
    return pad(kinds, batch_first=True), pad(parts, batch_first=True)


def by_torch_geometric(data, indices):
    from torch_geometric.data import Batch

    return Batch.from_data_list([data[k] for k in indices])


GATHERERS = [by_adit_core, by_adit, by_adit_padded, by_numpy, by_pad_sequence]
if importlib.util.find_spec("torch_geometric"):
    GATHERERS.append(by_torch_geometric)


@pytest.mark.parametrize("library", GATHERERS)
def test_gather(benchmark, store, batches, library):
    benchmark.group = "gather 256 molecules"
    source = store
    if library is by_torch_geometric:
        from torch_geometric.data import Data

        limits = list(zip(store.offsets[:-1], store.offsets[1:], strict=True))
        tensors = torch.from_numpy(store.numbers), torch.from_numpy(store.positions)
        source = [Data(z=tensors[0][a:b], pos=tensors[1][a:b]) for a, b in limits]
    benchmark.pedantic(library, setup=lambda: ((source, next(batches)), {}), rounds=300, warmup_rounds=5)


def augmented_by_adit_core(store, indices, seed=1):
    _, positions, offsets = _rust.gather(store.offsets, indices, store.numbers, store.positions)
    cells, periodic = store.cells[indices], store.periodic[indices]
    return _rust.augment(positions, cells, periodic, offsets, seed, threads=1)


def augmented_by_adit(store, indices):
    return features.gather(store, indices, seed=1, threads=1)


def augmented_by_numpy(store, indices):
    """The same, with scipy-free quaternions for all molecules at once."""
    _, positions, offsets = by_numpy(store, indices)
    q = np.random.default_rng(1).normal(size=(len(indices), 4))
    w, x, y, z = (q / np.linalg.norm(q, axis=1, keepdims=True)).T
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w),
        2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w),
        2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    rotations = np.stack(rows, -1).reshape(-1, 3, 3)
    sizes = np.diff(offsets)
    centres = np.add.reduceat(positions, offsets[:-1], axis=0) / sizes[:, None]
    centred = positions - np.repeat(centres, sizes, axis=0)
    return np.einsum("ni,nij->nj", centred, np.repeat(rotations, sizes, axis=0)) + np.repeat(centres, sizes, axis=0)


@pytest.mark.parametrize("library", [augmented_by_adit_core, augmented_by_adit, augmented_by_numpy])
def test_gather_and_augment(benchmark, store, batches, library):
    benchmark.group = "gather 256 molecules and rotate them"
    benchmark.pedantic(library, setup=lambda: ((store, next(batches)), {}), rounds=300, warmup_rounds=5)


def crystals(count=BATCH, atoms=10):
    rng = np.random.default_rng(4)
    cells = np.eye(3) * 6 + rng.normal(size=(count, 3, 3)) * 0.8
    positions = rng.uniform(0, 6, size=(count * atoms, 3))
    offsets = np.arange(count + 1) * atoms
    return Packed(np.full(count * atoms, 6, np.uint8), positions, cells, offsets, np.ones(count, bool))


def shift_by_numpy(pack, seed):
    shifts = np.random.default_rng(seed).random((len(pack.cells), 1, 3))
    fractional = np.linalg.solve(pack.cells.transpose(0, 2, 1), pack.positions.reshape(BATCH, -1, 3).transpose(0, 2, 1))
    moved = fractional.transpose(0, 2, 1) + shifts
    return (moved - np.floor(moved)) @ pack.cells


@pytest.mark.parametrize("library", ["by_adit", "by_numpy"])
def test_torus_shift(benchmark, library):
    benchmark.group = "shift 256 crystals of 10 atoms on the torus"
    pack = crystals()
    if library == "by_adit":
        benchmark(features.augment, pack, 1, threads=1)
    else:
        benchmark(shift_by_numpy, pack, 1)


def fourier_by_numpy(fractional, frequencies):
    angles = 2 * np.pi * fractional[..., None] * np.arange(1, frequencies + 1, dtype=fractional.dtype)
    return np.concatenate([np.sin(angles), np.cos(angles)], -1)


@pytest.mark.parametrize("library", [features.fourier_features, fourier_by_numpy], ids=["by_adit", "by_numpy"])
def test_fourier(benchmark, library):
    benchmark.group = "16 Fourier features of 2,560 atoms"
    fractional = np.random.default_rng(5).random((2560, 3)).astype(np.float32)
    benchmark(library, fractional, 16)


def distances_by_numpy(pack):
    """27 images: right in reduced cells alone."""
    steps = np.stack(np.meshgrid(*[np.arange(-1, 2)] * 3, indexing="ij"), -1).reshape(-1, 3)
    points = pack.positions.reshape(BATCH, -1, 3)
    difference = points[:, None] - points[:, :, None]
    images = difference[:, :, :, None] + (steps @ pack.cells)[:, None, None]
    return np.sqrt((images**2).sum(-1).min(-1))


@pytest.mark.parametrize("library", ["by_adit", "by_numpy"])
def test_distances(benchmark, library):
    benchmark.group = "nearest-image distances in 256 crystals of 10 atoms"
    pack = crystals()
    if library == "by_adit":
        benchmark(features.minimum_image_distances, pack, threads=1)
    else:
        benchmark(distances_by_numpy, pack)
