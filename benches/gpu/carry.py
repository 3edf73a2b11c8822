"""Packs what training and measuring on a lent GPU need into `gpu_carry/`, 62 MiB, and unpacks it there.

The lent machine has torch, numpy, safetensors, typer and rich, but no Rust, rdkit or pymatgen, and takes 64 MiB
in all with the working tree; each call begins with a new copy of that tree, while /tmp stays. So the data goes there in
a short call of its own, the rest in the next.

    python benches/gpu/carry.py pack      # here; then move the weights' model.safetensors and predictors elsewhere
    # there, first thing in every call, with gpu_carry/data.xz carried or the others: into /tmp/data, or into the tree
    export PYTHONPATH=python:kernels:benches ADIT_DATA_DIR=/tmp/data TRITON_CACHE_DIR=/tmp/triton
    python3 benches/gpu/carry.py unpack
    python3 -c 'from adit.cli.train import main; main()' dit --recipe joint-tiny-gpu --vae joint-tiny \
        --start joint-tiny --minutes 4 --device cuda --out /tmp/run
    python3 benches/gpu/carry.py take /tmp/run $OUT   # its averaged networks, in files of less than 16 MiB
    python benches/gpu/carry.py put FOLDER runs/joint-tiny-gpu   # here: a run that `adit-train export` takes
"""

from __future__ import annotations

import io
import json
import lzma
import os
import shutil
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "gpu_carry"
RUST = ROOT / "python" / "adit" / "_rust.abi3.so"
WEIGHTS = ROOT / "python" / "adit" / "weights" / "joint-tiny" / "model.safetensors"
STEP = 1e-4
"""Positions of molecules are multiples of this, in Angstrom."""
LARGEST = 15_900_000


def pack() -> None:
    """The training sets without their properties, weights and Rust module."""
    import adit

    shutil.rmtree(HERE, ignore_errors=True)
    HERE.mkdir()
    arrays: dict[str, np.ndarray] = {}
    for name in ("qm9", "mp20"):
        data = adit.load_dataset(name).split("train")
        arrays |= {f"{name}.numbers": data.numbers, f"{name}.sizes": np.asarray(data.sizes, dtype=np.uint8)}
        if np.asarray(data.periodic).any():
            arrays |= {f"{name}.positions": data.positions, f"{name}.cells": data.cells}
            continue
        steps = np.rint(data.positions.astype(np.float64) / STEP).astype(np.int64)
        arrays[f"{name}.least"] = steps.min()
        for k in range(3):  # bytes of one significance together are smaller
            arrays[f"{name}.bytes{k}"] = ((steps - steps.min()) >> (8 * k) & 255).astype(np.uint8)
    out = io.BytesIO()
    np.savez(out, **arrays)
    (HERE / "data.xz").write_bytes(lzma.compress(out.getvalue()))
    for path in (WEIGHTS, RUST):
        shutil.copy(path, HERE)
    total = sum(path.stat().st_size for path in HERE.iterdir())
    print(f"{HERE}: {total / 2**20:.1f} MiB")


def unpack(place: Path = Path("/tmp")) -> None:
    """Data sets, and in the working tree weights and Rust module: those that were carried."""
    for path in (WEIGHTS, RUST):
        if (HERE / path.name).exists():
            shutil.copy(HERE / path.name, path)
    if not (HERE / "data.xz").exists():
        return
    from adit.data.packed import PackedDataset

    stored = np.load(io.BytesIO(lzma.decompress((HERE / "data.xz").read_bytes())))
    for name in ("qm9", "mp20"):
        sizes, crystals = stored[f"{name}.sizes"].astype(np.int64), f"{name}.cells" in stored
        if crystals:
            positions, cells = stored[f"{name}.positions"], stored[f"{name}.cells"]
        else:
            steps = (
                sum(stored[f"{name}.bytes{k}"].astype(np.int64) << (8 * k) for k in range(3)) + stored[f"{name}.least"]
            )
            positions, cells = (STEP * steps).astype(np.float32), np.zeros((len(sizes), 3, 3), dtype=np.float32)
        PackedDataset(
            numbers=stored[f"{name}.numbers"], positions=positions, cells=cells,
            periodic=np.full(len(sizes), crystals), offsets=np.concatenate([[0], np.cumsum(sizes)]),
        ).save(place / "data" / name)  # fmt: skip


def take(run: Path, out: Path) -> None:
    """The averaged network of the last checkpoint of each stage, its state and the log."""
    from adit.train.checkpoint import list_checkpoints, read_state
    from adit.train.stages import STAGES

    with tempfile.TemporaryFile() as whole:
        with tarfile.open(fileobj=whole, mode="w") as archive, tempfile.TemporaryDirectory() as folder:
            for stage in STAGES:
                if not (found := list_checkpoints(run / stage)):
                    continue
                checkpoint = Path(folder) / stage / found[-1].name
                checkpoint.mkdir(parents=True)
                tensors = load_file(found[-1] / "ema.safetensors")
                save_file({k: v.astype(np.float16) for k, v in tensors.items()}, checkpoint / "ema.safetensors")
                (checkpoint / "state.json").write_text(json.dumps({**read_state(found[-1]), "optimizers": []}))
                shutil.copy(run / stage / "log.csv", checkpoint.parent)
                archive.add(checkpoint.parent, stage)
        whole.seek(0)
        for k, part in enumerate(iter(lambda: whole.read(LARGEST), b"")):
            (out / f"run.{k}").write_bytes(part)


def put(source: Path, run: Path) -> None:
    """What `take` wrote, as a run again."""
    whole = b"".join(path.read_bytes() for path in sorted(source.glob("run.*")))
    with tarfile.open(fileobj=io.BytesIO(whole)) as archive:
        archive.extractall(run, filter="data")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "python"))
    os.chdir(ROOT)
    work = {"pack": pack, "unpack": unpack, "take": take, "put": put}
    work[sys.argv[1]](*map(Path, sys.argv[2:]))
