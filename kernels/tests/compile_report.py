"""Compiles every kernel, as it is launched, for sm_80 and sm_90; needs no GPU. Prints registers, stack, shared memory.

    python kernels/tests/compile_report.py [--arch 80 --arch 90] [--set attention|quick|full] [--json]

The public functions run on CPU tensors with `JITFunction.run` replaced by a recorder, so that what is compiled is what
the launchers pass: constants, warps, stages and the divisibility of strides. Never with TRITON_INTERPRET.
"""

from __future__ import annotations

import argparse
import inspect
import json
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

import adit_kernels
from adit_kernels.block import BlockWeights

POINTERS = {torch.float32: "*fp32", torch.bfloat16: "*bf16", torch.float16: "*fp16", torch.int32: "*i32"}
SHARED_LIMIT = {80: 163 * 1024, 90: 227 * 1024}
"""Bytes of shared memory that a block may have (CUDA programming guide, table of compute capabilities)."""


class Launch:
    """A kernel with the types, constants and options of one launch of it."""

    def __init__(self, kernel: JITFunction, args: tuple, kwargs: dict) -> None:
        names = list(inspect.signature(kernel.fn).parameters)
        self.kernel = kernel
        self.options = {name: kwargs.pop(name) for name in ("num_warps", "num_stages") if name in kwargs}
        values = dict(zip(names, args, strict=False)) | kwargs
        constant = {parameter.name for parameter in kernel.params if parameter.is_constexpr}
        plain = {parameter.name for parameter in kernel.params if parameter.do_not_specialize}
        self.signature, self.constants, self.attributes = {}, {}, {}
        for position, name in enumerate(names):
            value = values[name]
            divisible = [["tt.divisibility", 16]]
            if name in constant or value is None or (name not in plain and isinstance(value, int) and value == 1):
                self.signature[name], self.constants[name] = "constexpr", value
            elif isinstance(value, torch.Tensor):
                self.signature[name], self.attributes[(position,)] = POINTERS[value.dtype], divisible
            elif isinstance(value, float):
                self.signature[name] = "fp32"
            else:
                self.signature[name] = "i32"
                if name not in plain and value % 16 == 0:
                    self.attributes[(position,)] = divisible

    def key(self) -> str:
        return repr((self.kernel.__name__, self.signature, sorted(self.constants.items(), key=str), self.options))

    def describe(self) -> str:
        sizes = [f"{name}={value}" for name, value in self.constants.items() if isinstance(value, int) and value != 0]
        return f"{' '.join(sizes)} warps={self.options.get('num_warps', 4)}"

    def types(self) -> str:
        return "/".join(sorted({kind[1:] for kind in self.signature.values() if kind[0] == "*"} - {"i32"}))

    def compile(self, arch: int) -> dict[str, object]:
        source = ASTSource(self.kernel, self.signature, self.constants, self.attributes)
        compiled = triton.compile(source, target=GPUTarget("cuda", arch, 32), options=self.options)
        registers, stack = resources(compiled.asm["cubin"])
        shared = compiled.metadata.shared
        return {
            "kernel": self.kernel.__name__.strip("_"), "types": self.types(), "arch": arch, "registers": registers,
            "stack_bytes": stack, "shared_bytes": shared, "shared_limit": SHARED_LIMIT[arch],
            "launch": self.describe(),
        }  # fmt: skip


def resources(cubin: bytes) -> tuple[int, int]:
    """Registers of a thread and bytes of its stack, where spilt registers go, by cuobjdump of the Triton wheel."""
    cuobjdump = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(cubin)
        log = subprocess.run([cuobjdump, "-res-usage", path], check=True, capture_output=True, text=True).stdout
    used = dict(re.findall(r"(REG|STACK):(\d+)", log))
    return int(used["REG"]), int(used["STACK"])


@contextmanager
def recorded() -> Iterator[list[Launch]]:
    """Collects launches in place of making them."""
    launches: list[Launch] = []

    def run(kernel: JITFunction, *args: object, grid: object, warmup: bool, **kwargs: object) -> None:
        launches.append(Launch(kernel, args, dict(kwargs)))

    with mock.patch.object(JITFunction, "run", run):
        yield launches


def block(width: int, heads: int, max_length: int, dtype: torch.dtype, rows: bool, norm: bool) -> None:
    """A block forward and backward."""
    lengths = torch.tensor([max_length] * 8)
    offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]).int()
    system = torch.arange(8).repeat_interleave(lengths).int()
    shapes = [(3, 1), (1, 1), (4, 1), (1, 4)]
    weights = [torch.zeros(size) for o, i in shapes for size in ((o * width, i * width), (o * width,))]
    x, modulation = torch.zeros(8 * max_length, width), torch.zeros(8, 6, width)
    leaves = [value.to(dtype).requires_grad_() for value in (x, modulation, *weights)]
    index = torch.arange(8).int() if rows else None
    out = adit_kernels.dit_block(
        leaves[0], leaves[1], BlockWeights(*leaves[2:]), offsets, system, max_length, heads, norm, index
    )
    out.sum().backward()


QUICK = [(384, 6, n, torch.bfloat16, False, True) for n in (29, 512)]
"""DiT-S on systems like QM9's, and on long ones."""
FULL = [
    *QUICK,
    *[(384, 6, n, torch.bfloat16, False, True) for n in (12, 64)],
    (384, 6, 20, torch.bfloat16, True, False),
    *[(256, 8, n, torch.bfloat16, False, True) for n in (12, 29, 64, 512)],
    *[(384, 6, n, dtype, False, True) for n in (29, 512) for dtype in (torch.float16, torch.float32)],
    *[(128, 4, n, torch.float32, False, True) for n in (12, 29, 64)],
    *[(width, width // 64, 29, torch.bfloat16, False, True) for width in (768, 1024)],
]
SETS = {"attention": [QUICK[0]], "quick": QUICK, "full": FULL}


def report(cases: list[tuple], archs: list[int], only: str) -> Iterator[dict[str, object]]:
    """One line per architecture and distinct launch of the kernels whose name contains `only`."""
    with recorded() as launches:
        for case in cases:
            block(*case)
    distinct = {launch.key(): launch for launch in launches if only in launch.kernel.__name__}
    yield from (launch.compile(arch) for launch in distinct.values() for arch in archs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--arch", type=int, action="append", choices=sorted(SHARED_LIMIT))
    parser.add_argument("--set", choices=SETS, default="quick")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    only = "short" if arguments.set == "attention" else ""
    lines = report(SETS[arguments.set], arguments.arch or sorted(SHARED_LIMIT), only)
    if arguments.json:
        print(json.dumps(list(lines)))
        return
    for line in lines:
        print(
            f"{line['kernel']:24} sm_{line['arch']} {line['registers']:4} registers {line['stack_bytes']:6} B stack "
            f"{line['shared_bytes']:7} B shared  {line['types']} {line['launch']}",
            flush=True,
        )


if __name__ == "__main__":
    main()
