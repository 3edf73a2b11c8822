"""Our sampler beside a plain PyTorch DiT: the same network, molecules, batch, steps, guidance and threads.

The plain one is written the usual way: one padded batch, `nn.MultiheadAttention` with a mask, the modulation of each
sample at each step, guidance by a batch of twice the size; in float32, and under bfloat16 autocast. It stops at the
latents. Ours is the whole of `Generator.sample`: the latents, decoding, and the systems that users get.
"""

import pytest
import torch

from adit.generate import Generator
from baselines.adit_usual import PublishedADiT

MOLECULES, STEPS = 128, 10


@pytest.fixture(scope="module")
def generator():
    return Generator.from_pretrained("joint-tiny", device="cpu")


@pytest.fixture(scope="module")
def sizes(generator):
    """Numbers of atoms as in QM9: those that ours draws."""
    return torch.tensor([len(molecule) for molecule in generator.sample(MOLECULES, steps=1, solver="euler", cfg=1.0)])


def plain_euler(network, inputs, scale, dtype):
    """From noise to latents in `STEPS` equal steps, with self-conditioning."""
    x = inputs["latents"]
    inputs["earlier"] = torch.zeros_like(x)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        for step in range(STEPS):
            inputs |= {"latents": x, "time": torch.full((len(x),), step / STEPS)}
            if scale == 1.0:
                data = network(**inputs)["latents"].float()
            else:
                given, null = network(**network.guided(inputs))["latents"].float().chunk(2)
                data = null + scale * (given - null)
            x = x + (data - x) / (STEPS - step)
            inputs["earlier"] = data
    return x


@pytest.mark.parametrize("scale", [1.0, 2.0], ids=["no guidance", "guided"])
@pytest.mark.parametrize("library", ["by_adit", "by_plain_bfloat16", "by_plain_float32"])
def test_sampler(benchmark, generator, sizes, library, scale):
    benchmark.group = f"{MOLECULES} molecules of QM9's sizes, {STEPS} steps, scale {scale}"
    once = {"rounds": 3}
    if library == "by_adit":
        options = {"steps": STEPS, "solver": "euler", "cfg": scale, "guide": 1.0, "batch_size": MOLECULES}
        benchmark.pedantic(generator.sample, args=(MOLECULES,), kwargs=options, **once)
        return
    config = generator.denoiser.dit.config
    network = PublishedADiT(config.width, config.layers, config.heads).eval()
    inputs = network.inputs(sizes) | {"label": torch.zeros(MOLECULES, dtype=torch.long)}
    dtype = torch.bfloat16 if library == "by_plain_bfloat16" else torch.float32
    made = benchmark.pedantic(plain_euler, args=(network, inputs, scale, dtype), **once)
    assert made.isfinite().all()
