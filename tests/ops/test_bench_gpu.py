"""`make bench-gpu` must run on a machine with torch and triton alone, and every line of it before it meets a GPU."""

from __future__ import annotations

import csv
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch

BENCH = Path(__file__).resolve().parents[2] / "benches" / "gpu" / "bench.py"
pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Where neither the Rust extension nor the libraries for files and chemistry can be imported."""
    code = f"""
import runpy, sys
sys.modules.update(dict.fromkeys(["adit._rust", "rdkit", "pymatgen", "ase", "typer", "safetensors"]))
sys.argv = {["bench.py", *arguments]!r}
sys.path.insert(0, {str(BENCH.parent)!r})
runpy.run_path({str(BENCH)!r}, run_name="__main__")
"""
    return subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so() -> None:
    done = bench()
    assert done.returncode != 0
    assert "needs a CUDA device" in done.stderr


@pytest.mark.slow
def test_every_section_runs_tiny_on_the_cpu(tmp_path: Path) -> None:
    done = bench("--dry-run", "--sweep", "--out", str(tmp_path / "dry.csv"))
    assert done.returncode == 0, done.stderr[-3000:]
    with (tmp_path / "dry.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert {line["section"] for line in lines} == {"peaks", "correct", "adaln", "attention", "block", "sweep"}
    checks = [line["value"] for line in lines if line["section"] == "correct"]
    assert len(checks) == 3 * 5 + 4  # kernels of each mix in float16, of one in float32
    assert all(value.startswith("ok") for value in checks), checks
    assert all(line["card"] == "cpu (dry run)" for line in lines)
