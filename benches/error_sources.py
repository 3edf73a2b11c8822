"""Where samples go wrong: in decoding, late on the path, or early.

Held-out molecules are encoded; their latents are noised and decoded (what does the decoder forgive?), or noised to a
time t of the path and brought back by the sampler (from which t on do they come back right?).

    python benches/error_sources.py --csv benches/results/error_sources.csv
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

from adit.eval.molecules import judge
from adit.eval.stability import edm_stability
from adit.flow.guidance import guided
from adit.flow.path import interpolate
from adit.flow.solver import integrate, time_grid
from adit.generate import Generator
from adit.models.dit import MOLECULE
from adit.system import AtomicSystem
from adit.train.stages import load_all
from adit.train.validate import size_groups
from sampling_curve import save


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="joint-tiny")
    parser.add_argument("--data", default="qm9", help="prepared data set of molecules with a split `val`")
    parser.add_argument("--n", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--noise", nargs="*", type=float, default=[0.0, 0.05, 0.1, 0.2], help="shares of the spread")
    parser.add_argument("--times", nargs="*", type=float, default=[0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.2, 0.0])
    parser.add_argument("--steps", type=int, default=100, help="of the whole path")
    parser.add_argument("--csv", type=Path)
    options = parser.parse_args()

    generator = Generator.from_pretrained(options.weights, device="cpu")
    model, denoiser = generator.model, generator.denoiser
    groups = size_groups(load_all((options.data,)).split("val"), options.n, options.seed)
    torch.manual_seed(options.seed)

    def decode(latents: Tensor) -> list[AtomicSystem]:
        periodic = torch.zeros(len(latents), dtype=torch.bool)
        return model.decode(latents, periodic).to_systems(periodic)

    def back(latents: Tensor, begin: float) -> Tensor:
        x = interpolate(torch.randn_like(latents), latents, torch.tensor([begin]))
        times = [begin, *(t for t in time_grid(options.steps) if t > begin)]
        network = denoiser.schedule(times[:-1], (MOLECULE,)).of_one_size()
        return integrate(guided(network, 1.0), x, times, "ancestral", fresh=generator.defaults["molecule"].noise)

    rows = []
    with torch.inference_mode():
        encoded = [model.encode(group) for group in groups]
        tasks = [("decoded from noise", level, lambda z, s: z + s * torch.randn_like(z)) for level in options.noise]
        tasks += [("sampled from time", begin, back) for begin in options.times]
        for what, value, change in tasks:
            made = [system for latents in encoded for system in decode(change(latents, value))]
            stability, verdicts = edm_stability(made), judge(made, "adit")
            rows.append(
                {
                    "what": what, "value": value, "n": len(made), "seed": options.seed,
                    "stable_atoms": round(float(stability.atom_stability), 4),
                    "stable_molecules": round(float(stability.molecule_stability), 4),
                    "valid": round(float(verdicts.paired.mean()), 4),
                }
            )  # fmt: skip
            print("  ".join(f"{name} {entry}" for name, entry in rows[-1].items()), flush=True)
    if options.csv:
        save(rows, options.csv)


if __name__ == "__main__":
    main()
