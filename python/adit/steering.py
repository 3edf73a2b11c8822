"""Properties that samples shall have: which compositions are likely to have them, and which way latents must go.

Shape suffixes: B systems, N atoms of the largest, T atoms of packed systems, L latent dimensions, E elements,
K properties, M choices.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from adit.errors import InvalidInputError
from adit.models.dit import ELEMENTS
from adit.models.predictor import PropertyPredictor, log_likelihood
from adit.ops.packing import Packing
from adit.prior import Choices, Substituted, chosen
from adit.weights.predictors import Predictor

if TYPE_CHECKING:
    from numpy.typing import NDArray

DEFAULT_SCALE = 2.0
"""1 is Bayes' rule; what it costs is in docs/properties.md."""

_PULL = 0.25
"""How far a system's latents are pulled at most, as a part of what they are uncertain by: the largest gradients of a
predictor lead to where neither it nor the network knows its way (docs/properties.md)."""

_CANDIDATES = 16
"""New compositions that are drawn for each sample, of which one is taken."""

_ATOMS, _LARGEST = 8192, 1e30

Bounds = float | tuple[float, float]
"""A value of a property, or the least and the greatest, one of which may be infinite."""


@dataclass(frozen=True)
class Wanted:
    """What is wanted of the properties of one predictor.

    Attributes:
        network: the predictor.
        low, high: (K,) bounds in the properties' units, equal for a value, NaN where one does not matter.
    """

    network: PropertyPredictor
    low: Tensor
    high: Tensor

    @property
    def asked(self) -> list[int]:
        """Which of the K matter."""
        return torch.nonzero(~self.low.isnan()).flatten().tolist()


@dataclass(frozen=True)
class Steering:
    """What is wanted of all samples of a call.

    Attributes:
        wanted: of the predictors that are asked.
        label: what the samples are, `adit.models.dit.MOLECULE` or `CRYSTAL`.
        scale: how strongly the latents are pulled.
        dtype: of the networks' matrix products.
    """

    wanted: Sequence[Wanted]
    label: int
    scale: float
    dtype: torch.dtype

    def gradient(self, x_1TL: Tensor, time: float, packing: Packing, counts_BE: Tensor | None) -> Tensor:
        """(1, T, L): of the logarithm of the probability of what is wanted, by noisy latents, times the scale.

        Bounded for each system such that its latents, root mean square, are pulled by `_PULL` (1 - t) at most: the
        clean ones move by (1 - t)^2 / t times this (`adit.flow.guidance.guided`).
        """
        with torch.enable_grad():
            x_1TL = x_1TL.detach().requires_grad_(True)
            total = self._log_likelihood(x_1TL[0], time, packing, counts_BE).sum()
            (out_1TL,) = torch.autograd.grad(total, x_1TL)
        out_1TL = self.scale * out_1TL
        square_T = out_1TL[0].square().mean(1)
        square_B = square_T.new_zeros(packing.systems).index_add(0, packing.system, square_T) / packing.offsets.diff()
        bound = _PULL * time / max(1 - time, 1e-6)
        kept_B = (bound / square_B.sqrt().clamp(min=1e-12)).clamp(max=1.0)
        bounded: Tensor = out_1TL * kept_B[packing.system, None]
        return bounded

    @torch.no_grad()
    def log_chances(self, sizes: NDArray[np.int64], counts: NDArray[np.int64] | None) -> NDArray[np.float64]:
        """(M,) logarithms of the probability of what is wanted where only this is known: the number of atoms (M,) and
        perhaps the composition (M, E)."""
        network = self.wanted[0].network
        device, width = network.mean.device, network.config.latent_dim
        noise_NL = torch.randn(int(sizes.max()), width, generator=torch.Generator().manual_seed(0)).to(device)
        out, order = np.empty(len(sizes)), np.argsort(sizes, kind="stable")
        ends = np.cumsum(sizes[order])
        for part in np.split(order, np.searchsorted(ends, np.arange(_ATOMS, ends[-1], _ATOMS))):
            packing = Packing.from_lengths(sizes[part], device)
            told = None if counts is None else torch.from_numpy(counts[part]).to(device)
            out[part] = self._log_likelihood(noise_NL[packing.index.long()], 0.0, packing, told).cpu().numpy()
        return out

    def prefer(self, choices: Choices) -> Choices | Preferred:
        """The same choices, each the likelier the likelier it has what is wanted (Bayes' rule)."""
        if isinstance(choices, Substituted):
            return Preferred(choices, self)
        with np.errstate(divide="ignore"):
            logs = np.log(choices.probabilities)
        return replace(choices, probabilities=_softmax(logs + self.log_chances(choices.sizes, choices.counts)))

    @torch.no_grad()
    def predicted(self, x_TL: Tensor, packing: Packing, counts_BE: Tensor | None) -> list[dict[str, float]]:
        """Of B systems with clean latents, what the predictors make of what is wanted, as `predicted_NAME`."""
        found: list[dict[str, float]] = [{} for _ in range(packing.systems)]
        for wanted in self.wanted:
            mean_BK, _ = self._estimate(wanted.network, x_TL, 1.0, packing, counts_BE)
            for entry, row in zip(found, mean_BK.tolist(), strict=True):
                entry |= {f"predicted_{wanted.network.names[k]}": row[k] for k in wanted.asked}
        return found

    def _log_likelihood(self, x_TL: Tensor, time: float, packing: Packing, counts_BE: Tensor | None) -> Tensor:
        """(B,), of all that is wanted together."""
        parts = []
        for wanted in self.wanted:
            mean_BK, spread_BK = self._estimate(wanted.network, x_TL, time, packing, counts_BE)
            parts.append(log_likelihood(mean_BK, spread_BK, wanted.low, wanted.high).sum(1))
        return torch.stack(parts).sum(0)

    def _estimate(
        self, network: PropertyPredictor, x_TL: Tensor, time: float, packing: Packing, counts_BE: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        device, count = x_TL.device, packing.systems
        if counts_BE is None:
            counts_BE = torch.zeros(count, ELEMENTS, dtype=torch.int64, device=device)
        t_B, label_B = torch.full((count,), time, device=device), torch.full((count,), self.label, device=device)
        with torch.autocast(device.type, self.dtype, enabled=self.dtype != torch.float32):
            return network.estimate(x_TL, t_B, label_B, counts_BE, packing)


@dataclass(frozen=True)
class Preferred:
    """New compositions, of several for each sample the one that is likely to have what is wanted."""

    choices: Choices
    steering: Steering

    def draw_all(
        self, places: Sequence[float], streams: Sequence[np.random.Generator]
    ) -> list[tuple[int, NDArray[np.int64] | None]]:
        """As `Choices.draw_all`; all candidates go through the predictors together."""
        candidates = self.choices.draw_all(
            [(at + k / _CANDIDATES) % 1 for at in places for k in range(_CANDIDATES)],
            [stream for stream in streams for _ in range(_CANDIDATES)],
        )
        sizes = np.array([size for size, _ in candidates])
        counts = np.stack([told for _, told in candidates if told is not None])
        logs = self.steering.log_chances(sizes, counts).reshape(-1, _CANDIDATES)
        taken = [
            chosen(np.cumsum(_softmax(row)), [stream.random()]).item()
            for row, stream in zip(logs, streams, strict=True)
        ]
        return [candidates[_CANDIDATES * sample + one] for sample, one in enumerate(taken)]


def steering_for(
    predictors: Sequence[Predictor], properties: Mapping[str, Bounds], system: str, label: int, scale: float,
    dtype: torch.dtype,
) -> Steering:  # fmt: skip
    """The predictors that know these properties of such systems, the first that does each; see `adit.Generator.stream`.

    Raises:
        InvalidInputError: none knows a property, or its value or the scale is not a finite number.
    """
    if not isinstance(scale, Real) or not 0 <= scale < math.inf:
        raise InvalidInputError(f"`property_scale` must be a finite number, at least 0; got {scale!r}")
    if not isinstance(properties, Mapping):
        raise InvalidInputError(f"`properties` must be a dictionary such as {{'gap': 0.25}}; got {properties!r}")
    networks = [predictor.network for predictor in predictors if system in predictor.systems]
    nothing = [torch.full_like(network.mean, torch.nan) for network in networks]
    wanted = [Wanted(network, low, low.clone()) for network, low in zip(networks, nothing, strict=True)]
    for name, value in properties.items():
        low, high = bounds(name, value)
        for one in wanted:
            if name in one.network.names:
                place = one.network.names.index(name)
                _refuse_far(name, low, high, float(one.network.low[place]), float(one.network.high[place]))
                one.low[place], one.high[place] = low, high
                break
        else:
            known = sorted({name for network in networks for name in network.names})
            raise InvalidInputError(
                f"no predictor knows the property {name!r} of a {system}; known: {', '.join(known) or 'none'}. "
                "`adit-train property` makes one"
            )
    return Steering([one for one in wanted if one.asked], label, float(scale), dtype)


def _refuse_far(name: str, low: float, high: float, least: float, most: float) -> None:
    """Where a predictor knows nothing at all: beyond ten times the range of its training set."""
    span = 10 * (most - least)
    if low > most + span or high < least - span:
        raise InvalidInputError(
            f"`properties`: {name} of {low:g} to {high:g} is far from all that the predictor has seen, {least:.4g} to "
            f"{most:.4g}"
        )


def bounds(name: str, value: Bounds) -> tuple[float, float]:
    """A number, or a range of which one end may be infinite, as its two ends.

    Raises:
        InvalidInputError: it is neither.
    """
    pair = tuple(value) if isinstance(value, Sequence | np.ndarray) else (value, value)
    numbers = all(isinstance(end, Real) and not isinstance(end, bool | np.bool_) for end in pair)
    if not numbers or len(pair) != 2 or not pair[0] <= pair[1] or min(map(abs, pair)) > _LARGEST:
        raise InvalidInputError(
            f"`properties`: {name} must be a number, or a range (smallest, largest) of which one end may be infinite, "
            f"up to {_LARGEST:g}; got {value!r}"
        )
    low, high = (float(end) if abs(end) <= _LARGEST else math.copysign(math.inf, end) for end in pair)
    return low, high


def out_of_range(steering: Steering) -> str:
    """The first property that is wanted beyond the training set; "" if none is."""
    for wanted in steering.wanted:
        for k in wanted.asked:
            low, high = float(wanted.network.low[k]), float(wanted.network.high[k])
            if wanted.low[k] > high or wanted.high[k] < low:
                return f"all {wanted.network.names[k]} of the training set are between {low:.4g} and {high:.4g}"
    return ""


def _softmax(logs: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(logs - max(logs.max(), -1e300))
    out: NDArray[np.float64] = powers / powers.sum()
    return out
