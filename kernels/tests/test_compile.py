"""Every kernel compiles for sm_80 and sm_90 without a GPU, and within what these cards have."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.filterwarnings("ignore")
STACK_LIMIT = 128
"""Bytes a thread, in 16-bit types."""


def report(*arguments):
    """`compile_report.py` in a process of its own: this one interprets kernels."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    script = Path(__file__).with_name("compile_report.py")
    folder = str(Path(__file__).parents[1])
    environment["PYTHONPATH"] = os.pathsep.join([folder, environment.get("PYTHONPATH", "")])
    command = [sys.executable, "-W", "ignore", str(script), "--json", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def check(lines):
    for line in lines:
        assert 0 < line["registers"] <= 255, line
        assert line["shared_bytes"] <= line["shared_limit"], line
        if line["types"] != "fp32":
            assert line["stack_bytes"] <= STACK_LIMIT, line


def test_attention_of_short_systems_on_both_cards():
    lines = report("--set", "attention")
    assert {(line["kernel"], line["arch"]) for line in lines} == {
        (kernel, arch) for kernel in ("short_forward", "short_backward") for arch in (80, 90)
    }
    check(lines)


@pytest.mark.slow
def test_every_variant_of_every_kernel_on_both_cards():
    lines = report("--set", "full")
    kernels = {line["kernel"] for line in lines}
    assert len(kernels) == 7, kernels
    check(lines)
