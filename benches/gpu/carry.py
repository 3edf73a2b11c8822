"""Packs what a training on a lent GPU needs into `gpu_carry/`: the training sets without their properties.

The lent machine has torch, numpy, safetensors, typer and rich, but no Rust, rdkit or pymatgen, and takes 64 MiB
in all with the working tree. So move `checkpoints/` and the built-in weights out of the tree for the call, and
carry two ignored paths: `gpu_carry` and `python/adit/_rust.abi3.so`.

    python benches/gpu/carry.py
    # there: all stages, with the kernels; the weights come back
    PYTHONPATH=python:kernels ADIT_DATA_DIR=gpu_carry python3 -c 'from adit.cli.train import main; main()' \
        speedrun --minutes 25 --out $OUT/run --device cuda
"""

from __future__ import annotations

import argparse
import shutil
from dataclasses import replace
from pathlib import Path

import adit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=["qm9", "mp20"], help="prepared data sets")
    parser.add_argument("--out", type=Path, default=Path("gpu_carry"))
    options = parser.parse_args()
    shutil.rmtree(options.out, ignore_errors=True)
    for name in options.data:
        train = adit.load_dataset(name).split("train")
        replace(train, properties={}).save(options.out / name)
    total = sum(path.stat().st_size for path in options.out.rglob("*") if path.is_file())
    print(f"{options.out}: {total / 2**20:.1f} MiB; carry it together with python/adit/_rust.abi3.so")


if __name__ == "__main__":
    main()
