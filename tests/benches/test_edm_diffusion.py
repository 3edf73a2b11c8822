"""EDM's loss and sampler, against what is known in closed form."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from baselines.common import centred, masked
from baselines.edm import EDM
from baselines.edm_diffusion import EDMDiffusion, decode_types, encode_types, schedule

NUMBERS = torch.tensor([[6, 1, 8], [7, 9, 0]])
MASK = NUMBERS > 0
POSITIONS = centred(torch.tensor([[[0.0, 0, 0], [1, 0, 0], [0, 2, 0]], [[0, 0, 1], [1, 0, 0], [0, 0, 0]]]), MASK)


class OneDataPoint(EDM):
    """The exact noise predictor where all data are `POSITIONS` and `NUMBERS`."""

    def __init__(self, steps: int) -> None:
        super().__init__(width=8, layers=1)
        self.levels = schedule(steps)

    def forward(self, positions: Tensor, types: Tensor, time: Tensor, mask: Tensor | None = None) -> dict[str, Tensor]:
        alpha = self.levels[(time * (len(self.levels) - 1)).round().long()][:, None, None]
        sigma = (1 - alpha**2).sqrt()
        data = masked(encode_types(NUMBERS), MASK)
        noise_x, noise_h = (positions - alpha * POSITIONS) / sigma, (types - alpha * data) / sigma
        return {"positions": noise_x.float(), "types": noise_h.float()}


def test_schedule_goes_from_data_to_noise() -> None:
    alpha = schedule(1000)
    assert alpha.shape == (1001,) and (alpha.diff() < 0).all()
    assert alpha[0] ** 2 == pytest.approx(1 - 1e-5, abs=1e-9) and alpha[-1] < 0.01


def test_types_round_trip() -> None:
    coded = encode_types(NUMBERS)
    assert coded.shape == (2, 3, 6) and coded[0, 0].tolist() == pytest.approx([0, 0.25, 0, 0, 0, 0.6])
    assert decode_types(coded)[MASK].tolist() == NUMBERS[MASK].tolist()


@pytest.mark.parametrize(("evaluations", "calls"), [(None, 51), (11, 11), (2, 2)])
def test_sampler_finds_the_data_with_the_exact_predictor(evaluations: int | None, calls: int) -> None:
    model = EDMDiffusion(OneDataPoint(50), steps=50)
    seen: list[int] = []
    model.network.register_forward_hook(lambda *_: seen.append(1))
    x, h, mask = model.sample(torch.tensor([3, 2]), torch.Generator().manual_seed(0), evaluations)
    assert len(seen) == calls
    assert mask is not None and mask.tolist() == MASK.tolist()
    torch.testing.assert_close(x, POSITIONS, rtol=0, atol=1e-4)
    assert decode_types(h)[MASK].tolist() == NUMBERS[MASK].tolist()


def test_loss_of_the_exact_predictor_is_zero_and_that_of_a_new_network_is_not() -> None:
    data = (POSITIONS, masked(encode_types(NUMBERS), MASK), MASK)
    exact = EDMDiffusion(OneDataPoint(50), steps=50).loss(*data)
    assert exact.shape == (2,) and exact.max() < 1e-6
    torch.manual_seed(0)
    assert EDMDiffusion(EDM(width=16, layers=2)).loss(*data).min() > 0.1


def test_the_thrifty_network_is_the_same_function() -> None:
    torch.manual_seed(0)
    network = EDM(width=16, layers=3).double()
    inputs = {
        k: v.double() if k != "mask" and v is not None else v for k, v in network.inputs(torch.tensor([5, 3])).items()
    }
    published = network(**inputs)
    for block in network.blocks:
        block.thrifty = True
    for name, value in network(**inputs).items():
        torch.testing.assert_close(value, published[name])
        assert value.abs().max() > 0


def test_training_lowers_the_loss() -> None:
    torch.manual_seed(0)
    model = EDMDiffusion(EDM(width=32, layers=2))
    data = (POSITIONS.repeat(8, 1, 1), masked(encode_types(NUMBERS), MASK).repeat(8, 1, 1), MASK.repeat(8, 1))
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    losses = []
    for _ in range(60):
        loss = model.loss(*data).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) < 0.6 * sum(losses[:10])
