"""What torch asks of a custom operator, of all of them; and that compiled code gives the same results."""

import os
import subprocess
import sys
from pathlib import Path

import oracle
import pytest
import torch

import adit_kernels
from adit_kernels import BlockWeights

LENGTHS = [3, 1, 4]
OFFSETS, SYSTEM = oracle.layout(LENGTHS)
WIDTH, HEADS = 64, 2


def random(*shape, grad=True):
    return torch.randn(shape, requires_grad=grad)


def cases():
    """Arguments of every operator by name."""
    tokens, systems = sum(LENGTHS), len(LENGTHS)
    x, y, qkv = random(tokens, WIDTH), random(tokens, WIDTH), random(tokens, 3, HEADS, 32)
    gate, scale, shift = random(systems, 3 * WIDTH, grad=False).requires_grad_().chunk(3, -1)
    where, out = (OFFSETS, SYSTEM, None, 4), random(tokens, HEADS, 32, grad=False)
    data = [value.detach() for value in (x, y, gate, scale, qkv)]
    return {
        "adaln": (x, scale, shift, *where, torch.float32),
        "adaln_backward": (data[1], data[0], data[3], OFFSETS, None, 4),
        "gate_adaln": (x, y, gate, scale, shift, *where, torch.float32),
        "gate_adaln_backward": (data[1], data[0], data[0], data[1], data[2], data[3], OFFSETS, None, 4),
        "gate_residual": (x, y, gate, *where),
        "gate_residual_backward": (data[0], data[1], data[2], OFFSETS, None, 4),
        "attention": (qkv, OFFSETS, SYSTEM, 4, True),
        "attention_backward": (out, data[4], out, random(HEADS, tokens, grad=False), OFFSETS, SYSTEM, 4, True),
    }


@pytest.mark.parametrize("name", cases())
def test_opcheck(name):
    torch.library.opcheck(getattr(torch.ops.adit_kernels, name), cases()[name])


def test_every_operator_is_checked():
    registered = {
        name.split("::")[1].split(".")[0]
        for name in torch._C._dispatch_get_all_op_names()
        if name.startswith("adit_kernels::")
    }
    assert registered == set(cases())


def test_compiled_without_a_break():
    """Forward and backward traced as one graph; the results are those of eager code."""
    generator = torch.Generator().manual_seed(0)
    sizes = [(192, 64), (192,), (64, 64), (64,), (256, 64), (256,), (64, 256), (64,)]
    values = [torch.randn(size, generator=generator) for size in [(8, 64), (3, 6, 64), *sizes]]

    def step(x, modulation, *of):
        return adit_kernels.dit_block(x, modulation, BlockWeights(*of), OFFSETS, SYSTEM, 4, HEADS, True)

    torch._dynamo.reset()
    results = []
    for function in (step, torch.compile(step, fullgraph=True, backend="aot_eager")):
        leaves = [value.clone().requires_grad_() for value in values]
        out = function(*leaves)
        out.square().sum().backward()
        results.append([out, *(leaf.grad for leaf in leaves)])
    for eager, compiled in zip(*results, strict=True):
        torch.testing.assert_close(compiled, eager, rtol=1e-5, atol=1e-5)


def test_the_readme_runs():
    """On the CPU in place of the GPU that it names."""
    text = (Path(__file__).parents[1] / "README.md").read_text()
    names: dict[str, object] = {}
    exec(text.split("```python\n")[1].split("```")[0].replace("cuda", "cpu"), names)
    assert names["mixed"].shape == (46, 6, 64)


SAMPLING = """
import sys, torch, oracle, adit_kernels
from adit_kernels import BlockWeights
offsets, system = oracle.layout([3, 1, 4])
sizes = [(192, 64), (192,), (64, 64), (64,), (256, 64), (256,), (64, 256), (64,)]
x, modulation, *of = (0.1 * torch.randn(size) for size in [(8, 64), (3, 6, 64), *sizes])
with torch.inference_mode():
    direct = adit_kernels.dit_block(x, modulation, BlockWeights(*of), offsets, system, 4, 2, True)
assert "torch._dynamo" not in sys.modules
through = adit_kernels.dit_block(x, modulation, BlockWeights(*of), offsets, system, 4, 2, True)
torch.testing.assert_close(direct, through)
assert "torch._dynamo" in sys.modules, "operators import it no more: call them always"
"""


def test_sampling_does_not_wait_for_the_import_of_dynamo():
    folders = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(folders)}
    done = subprocess.run([sys.executable, "-c", SAMPLING], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
