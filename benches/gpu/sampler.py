"""`adit-gen` end to end, files included: 10,000 systems by a network of the published size DiT-S, 50 evaluations with
guidance, then by the shipped weights with their defaults.

    python benches/gpu/sampler.py                                          # on a GPU
    python benches/gpu/sampler.py --device cpu --n 8 --system molecule --out /tmp/sampler.csv

DiT-S is random: speed does not depend on that, but for the bonds of what cannot be a molecule. Each command runs
twice, and the second counts: the first compiles the kernels for these sizes. Results go to
benches/results/gpu-sampler-CARD.csv.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "kernels"), str(ROOT / "python")]

import torch  # noqa: E402
import triton  # noqa: E402
from measure import Results, card_name  # noqa: E402

from adit.config import DiTConfig, VAEConfig  # noqa: E402
from adit.generate import DEFAULT_WEIGHTS  # noqa: E402
from adit.weights.store import GenerationModel, Pretrained, SamplingDefaults, save_pretrained  # noqa: E402

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "python"), str(ROOT / "kernels")])}
FILES = {"molecule": "molecules.sdf", "crystal": "crystals.extxyz"}


def random_weights(folder: Path) -> None:
    """DiT-S and the published autoencoder, drawn at random, with the sizes of QM9 and MP-20."""
    torch.manual_seed(0)
    vae, dit = VAEConfig(), DiTConfig()
    model = GenerationModel(vae, dit)
    with torch.no_grad():
        for parameter in model.dit.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape))
    shipped = json.loads((ROOT / "python" / "adit" / "weights" / "joint-tiny" / "config.json").read_text())
    sizes = {kind: {int(n): int(c) for n, c in of.items()} for kind, of in shipped["atom_counts"].items()}
    settings = {kind: SamplingDefaults(steps=50, solver="dpm++", cfg=2.0) for kind in sizes}
    weights = Pretrained(name="random-s", model=model, defaults=settings, atom_counts=sizes, formulas={})
    save_pretrained(folder, weights)


def generate(weights: str, system: str, n: int, device: str, out: Path) -> float:
    """Seconds of the command, start of Python included."""
    command = [
        sys.executable,
        "-c",
        "from adit.cli.gen import main; main()",
        "--weights",
        weights,
        "--system",
        system,
    ]
    options = ["--n", str(n), "--device", device, "--out", str(out), "--overwrite", "--quiet"]
    start = time.perf_counter()
    subprocess.run([*command, *options], check=True, env=ENVIRONMENT)
    return time.perf_counter() - start


PARTS = """
import sys, time
start = time.perf_counter()
def done(part):
    global start
    print(f"{part}\t{time.perf_counter() - start:.3f}", flush=True)
    start = time.perf_counter()
import torch
done("import torch")
torch.zeros(1, device=sys.argv[3])
done("the device")
from adit.generate import Generator
from adit.convert import write
generator = Generator.from_pretrained(sys.argv[1], device=sys.argv[3])
done("weights")
for part in ("samples, first time", "samples"):
    systems = generator.sample(int(sys.argv[4]), sys.argv[2])
    done(part)
write(sys.argv[5], systems)
done("file")
"""
"""In a process of its own: what `adit-gen` spends its time on, but its blocks are written while the next are made."""


def parts(weights: str, system: str, n: int, device: str, out: Path) -> dict[str, float]:
    """Seconds of each part of such a run."""
    command = [sys.executable, "-c", PARTS, weights, system, device, str(n), str(out)]
    done = subprocess.run(command, check=True, env=ENVIRONMENT, capture_output=True, text=True)
    return {part: float(took) for part, took in (line.split("\t") for line in done.stdout.splitlines())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--system", choices=FILES, nargs="+", default=list(FILES))
    parser.add_argument("--out", type=Path, help="the CSV file")
    parser.add_argument("--no-parts", action="store_true", help="not where the time goes, which takes twice as long")
    parser.add_argument("--keep", type=Path, help="folder for the files of the shipped weights")
    options = parser.parse_args()
    device = torch.device(options.device)
    name = card_name(device).replace(" ", "-")
    path = options.out or ROOT / "benches" / "results" / f"gpu-sampler-{name}.csv"
    results = Results(path, device, triton.__version__)
    with tempfile.TemporaryDirectory() as folder:
        random_weights(Path(folder) / "weights")
        variants = {"DiT-S, 50 evaluations, cfg 2": (f"{folder}/weights", Path(folder))}
        variants[f"{DEFAULT_WEIGHTS}, defaults"] = (DEFAULT_WEIGHTS, options.keep or Path(folder))
        for variant, (weights, place) in variants.items():
            for system in options.system:
                out = place / FILES[system]
                generate(weights, system, options.n, options.device, out)
                took = generate(weights, system, options.n, options.device, out)
                case = f"adit-gen, {options.n} {system}s"
                results.add("sampler", case, variant, took, "s")
                shares = {} if options.no_parts else parts(weights, system, options.n, options.device, out)
                for part, seconds in shares.items():
                    results.add("sampler", case, f"{variant}: {part}", seconds, "s")
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
