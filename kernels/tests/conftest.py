"""Kernels run under Triton's interpreter: on the CPU, in float32 and float16 (its bfloat16 arithmetic is not exact)."""

import os
import sys

import pytest

assert "triton" not in sys.modules, "run `pytest kernels/tests` by itself: triton must be imported after this file"
os.environ["TRITON_INTERPRET"] = "1"


@pytest.fixture(autouse=True)
def uninitialised_memory_is_nan():
    """What a kernel forgets to write shows up."""
    import torch

    torch.use_deterministic_algorithms(True)
    assert torch.empty(3).isnan().all()
    assert torch.ones(3).new_empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)
