"""Pictures of structures on a grid, for a README or a paper: shaded balls and sticks, computed with numpy."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from adit.errors import BackendUnavailableError, InvalidInputError
from adit.eval.drawing import Drawing, draw, label

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from adit.packing import Systems

_LIGHT = np.array([-0.45, 0.6, 0.8]) / np.linalg.norm([-0.45, 0.6, 0.8])
_STICK = 0.09  # Angstrom, radius of a bond
_STEP = 0.03  # Angstrom between the balls that make up a stick
_OVERSAMPLING = 2


def write_grid_png(
    path: str | os.PathLike[str], systems: Systems, columns: int = 6, *, size: int = 240, labels: bool = True
) -> None:
    """Writes a PNG with one picture for each system, row by row, on a white ground.

    Args:
        path: of the picture.
        systems: molecules or crystals, all of them shown.
        columns: pictures in a row.
        size: pixels of one picture, without its label.
        labels: write the formula below each.

    Raises:
        InvalidInputError: there is nothing to draw, or `columns` or `size` is not positive.
        BackendUnavailableError: matplotlib is not installed.
        OSError: the file cannot be written.
    """
    if not len(systems) or columns < 1 or size < 1:
        raise InvalidInputError(
            f"a grid needs at least one system, column and pixel; got {len(systems)} systems, "
            f"columns={columns}, size={size}"
        )
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise BackendUnavailableError(f"pictures need matplotlib ({error}): `pip install matplotlib`") from error
    columns = min(columns, len(systems))
    rows = -(-len(systems) // columns)
    dpi, text = 200, (0.16 * size if labels else 0.0)
    width, height = columns * size, rows * (size + text)
    figure = Figure(figsize=(width / dpi, height / dpi), dpi=dpi, facecolor="white")
    FigureCanvasAgg(figure)
    for index, system in enumerate(systems):
        row, column = divmod(index, columns)
        bottom = height - row * (size + text) - size
        axes = figure.add_axes((column * size / width, bottom / height, size / width, size / height))
        axes.imshow(render(draw(system), size), interpolation="antialiased")
        axes.set_axis_off()
        if labels:
            x, y = (column + 0.5) * size / width, (bottom - 0.35 * text) / height
            figure.text(
                x, y, _subscripts(label(system)), ha="center", va="center", fontsize=0.033 * size, color="#333a45"
            )
    figure.savefig(path, format="png", dpi=dpi)


def render(drawing: Drawing, size: int) -> NDArray[np.float64]:
    """(size, size, 3) RGB from 0 to 1: an orthographic view, lit from the upper left, fading with depth."""
    from ase.data.colors import jmol_colors

    pixels = size * _OVERSAMPLING
    canvas = _Canvas(pixels, 0.47 * pixels / drawing.radius)
    for start, end in drawing.edges:
        canvas.stick(start, end, 0.006 * drawing.radius, np.array([0.45, 0.5, 0.58]))
    for i, j in drawing.bonds.tolist():
        middle = (drawing.positions[i] + drawing.positions[j]) / 2
        for atom in (i, j):
            canvas.stick(drawing.positions[atom], middle, _STICK, jmol_colors[drawing.numbers[atom]])
    for number, position, radius in zip(drawing.numbers, drawing.positions, drawing.radii, strict=True):
        canvas.ball(position, radius, jmol_colors[number])
    fine = canvas.image(drawing.radius)
    picture: NDArray[np.float64] = fine.reshape(size, _OVERSAMPLING, size, _OVERSAMPLING, 3).mean(axis=(1, 3))
    return picture


class _Canvas:
    """Pixels with depth; a ball covers what lies behind it."""

    def __init__(self, pixels: int, scale: float) -> None:
        self.scale = scale
        self.colour = np.ones((pixels, pixels, 3))
        self.depth = np.full((pixels, pixels), -np.inf)

    def stick(
        self, start: NDArray[np.float64], end: NDArray[np.float64], radius: float, colour: NDArray[np.float64]
    ) -> None:
        """A row of balls so close together that they look like a rod."""
        count = int(np.linalg.norm(end - start) / _STEP) + 2
        for share in np.linspace(0, 1, count):
            self.ball(start + share * (end - start), radius, colour)

    def ball(self, centre: NDArray[np.float64], radius: float, colour: NDArray[np.float64]) -> None:
        pixels = len(self.depth)
        x, y = pixels / 2 + self.scale * centre[0], pixels / 2 - self.scale * centre[1]
        reach = max(self.scale * radius, 0.7)
        left, right = max(int(x - reach), 0), min(int(x + reach) + 2, pixels)
        top, bottom = max(int(y - reach), 0), min(int(y + reach) + 2, pixels)
        if left >= right or top >= bottom:
            return
        u = (np.arange(left, right)[None, :] + 0.5 - x) / reach
        v = -(np.arange(top, bottom)[:, None] + 0.5 - y) / reach
        inside = 1 - u * u - v * v
        w = np.sqrt(np.maximum(inside, 0))
        depth = centre[2] + radius * w
        seen = (inside > 0) & (depth > self.depth[top:bottom, left:right])
        diffuse = np.maximum(u * _LIGHT[0] + v * _LIGHT[1] + w * _LIGHT[2], 0)
        shine = (0.22 * diffuse**24)[..., None]
        shaded = colour * (0.5 + 0.5 * diffuse)[..., None] * (1 - shine) + shine
        self.colour[top:bottom, left:right][seen] = shaded[seen]
        self.depth[top:bottom, left:right][seen] = depth[seen]

    def image(self, radius: float) -> NDArray[np.float64]:
        """The colours, paler where far away."""
        haze = np.clip(0.25 * (radius - self.depth) / (2 * radius), 0, 0.3)[..., None]
        haze[np.isinf(self.depth)] = 0
        return self.colour + (0.93 - self.colour) * haze


def _subscripts(formula: str) -> str:
    return formula.translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))
