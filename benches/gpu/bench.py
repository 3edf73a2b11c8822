"""The kernels of adit-kernels on a GPU against what plain torch gives: `make bench-gpu`, one command, minutes.

Needs torch, triton and numpy; neither Rust nor RDKit. `--dry-run` runs every line on the CPU, tiny, under Triton's
interpreter: its times mean nothing. Results go to benches/results/gpu-CARD.csv.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DRY_RUN = "--dry-run" in sys.argv
if DRY_RUN:
    os.environ["TRITON_INTERPRET"] = "1"  # before triton is imported
sys.path[:0] = [str(ROOT / "kernels"), str(ROOT / "python")]

import cases  # noqa: E402
import torch  # noqa: E402
import triton  # noqa: E402
from measure import Results, card_name  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dry-run", action="store_true", help="tiny shapes on the CPU, to try the code")
    parser.add_argument("--only", action="append", choices=[*cases.SECTIONS, "sweep"], help="these sections alone")
    parser.add_argument("--sweep", action="store_true", help="also launch parameters, for configs.py")
    parser.add_argument("--seconds", type=float, default=280, help="after these, blocks of further mixes are skipped")
    parser.add_argument("--out", type=Path, help="the CSV file")
    arguments = parser.parse_args()
    if not DRY_RUN and not torch.cuda.is_available():
        sys.exit("bench-gpu needs a CUDA device and torch sees none; `--dry-run` tries the code on the CPU")
    if DRY_RUN and arguments.out is None:
        sys.exit("a dry run needs --out: its figures mean nothing and do not belong into benches/results")
    device = torch.device("cpu" if DRY_RUN else "cuda")
    name = card_name(device).replace(" ", "-")
    path = arguments.out or ROOT / "benches" / "results" / f"gpu-{name}.csv"
    torch.manual_seed(0)
    setting = cases.Setting(device, Results(path, device, triton.__version__), tiny=DRY_RUN, seconds=arguments.seconds)
    chosen = arguments.only or [*cases.SECTIONS, *(["sweep"] if arguments.sweep else [])]
    for section in chosen:
        ({**cases.SECTIONS, "sweep": cases.sweep})[section](setting)
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
