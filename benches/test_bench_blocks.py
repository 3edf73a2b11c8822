"""DiT blocks on one CPU thread: what is between the matrix products in Rust, beside plain torch.

128 molecules of 18 atoms through the network of the shipped weights, bfloat16 where the hardware multiplies it. Plain
torch gets them as one dense batch, which is what it is best at; packed and of any sizes is what ours takes.
"""

import pytest
import torch

from adit.generate import Generator
from adit.ops.attention import attention, packed_attention
from adit.ops.block import dit_stack
from adit.ops.packing import Packing

MOLECULES, ATOMS = 128, 18


@pytest.fixture(scope="module")
def dit():
    return Generator.from_pretrained("joint-tiny", device="cpu").denoiser.dit


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("library", ["by_adit", "by_torch", "by_torch_compiled"])
def test_blocks(benchmark, dit, library):
    benchmark.group = f"{len(dit.blocks)} DiT blocks, {MOLECULES} molecules of {ATOMS} atoms"
    with torch.inference_mode():
        modulation = dit.modulations(torch.tensor([0.5]), torch.tensor([0])).blocks
        x = torch.randn(MOLECULES, ATOMS, dit.config.width, generator=torch.Generator().manual_seed(0))
        packing, weights = Packing.uniform(MOLECULES, ATOMS), [block.weights() for block in dit.blocks]
        rows = torch.zeros(MOLECULES, dtype=torch.int32)

        def ours(x):
            flat, heads = x.flatten(0, 1), dit.config.heads
            out = dit_stack(flat, modulation, weights, packing, heads, qk_norm=True, rows_S=rows, impl="rust")
            return out.view_as(x)

        def plain(x):
            for block, own in zip(dit.blocks, modulation, strict=True):
                x = block(x, own)
            return x

        run = {"by_adit": ours, "by_torch": plain, "by_torch_compiled": torch.compile(plain)}[library]
        made = run(x)
        benchmark(run, x)
        assert (made - plain(x)).norm() < 0.03 * made.norm()


@pytest.mark.parametrize("library", ["by_adit", "by_torch_sdpa", "by_torch_bmm"])
def test_attention(benchmark, dit, library):
    benchmark.group = f"attention with QK-norm, {MOLECULES} molecules of {ATOMS} atoms"
    heads, dtype = dit.config.heads, dit.blocks[0].attention.qkv.weight.dtype
    size = dit.config.width // heads
    with torch.inference_mode():
        qkv = torch.randn(MOLECULES * ATOMS, 3, heads, size, generator=torch.Generator().manual_seed(0)).to(dtype)
        packing = Packing.uniform(MOLECULES, ATOMS)

        def ours(qkv):
            return packed_attention(qkv, packing, qk_norm=True, impl="rust")

        def torchs(qkv, of):
            q, k, v = qkv.view(MOLECULES, ATOMS, 3, heads, size).permute(2, 0, 3, 1, 4)
            q, k = (torch.nn.functional.normalize(part.float(), dim=-1).to(dtype) * size**0.5 for part in (q, k))
            return of(q, k, v).transpose(1, 2).reshape(-1, heads, size)

        sdpa = torch.nn.functional.scaled_dot_product_attention
        run = {
            "by_adit": ours,
            "by_torch_sdpa": lambda qkv: torchs(qkv, sdpa),
            "by_torch_bmm": lambda qkv: torchs(qkv, attention),
        }[library]
        made = benchmark(run, qkv)
        assert (made - ours(qkv)).float().norm() < 0.03 * made.float().norm()
