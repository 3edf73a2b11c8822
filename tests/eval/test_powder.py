"""Powder patterns: against Bragg's law, a double sum written out, and patterns with background and noise."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.analysis.diffraction.xrd import XRDCalculator
from typer.testing import CliRunner

from adit import AtomicSystem, read, write
from adit.cli.eval import app
from adit.errors import AditError, InvalidInputError, UnreadableFileError
from adit.eval import evaluate
from adit.eval.powder import POWDER, REACH, STEP, Pattern, PowderStage, read_pattern, similarities, wavelength_of

CU = 1.54184
FCC = [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]
HALVES = [[0.5, 0.5, 0.5], [0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5]]


def rock_salt(a: float = 5.64, cation: int = 11, anion: int = 17) -> AtomicSystem:
    return AtomicSystem.from_fractional([cation] * 4 + [anion] * 4, FCC + HALVES, a * np.eye(3))


def caesium_chloride(a: float = 3.5) -> AtomicSystem:
    return AtomicSystem.from_fractional([11, 17], [[0, 0, 0], [0.5, 0.5, 0.5]], a * np.eye(3))


def measured(crystal: AtomicSystem, *, width: float = 0.12, noise: float = 0.0, seed: int = 0) -> Pattern:
    """As from a diffractometer: lines of a width on a background that falls off, with counting noise."""
    angles = np.arange(10, 90, 0.025)
    made = XRDCalculator(CU).get_pattern(crystal.to_pymatgen(), two_theta_range=(5, 95))
    lines = sum(y * np.exp(-0.5 * ((angles - x) / width) ** 2) for x, y in zip(made.x, made.y, strict=True))
    counts = 40 * lines + 400 * np.exp(-angles / 30) + 50
    return Pattern(angles, counts + noise * np.sqrt(counts) * np.random.default_rng(seed).normal(size=len(angles)))


def test_the_crystal_that_was_measured_is_most_alike() -> None:
    candidates = [caesium_chloride(), rock_salt(5.2), rock_salt(), rock_salt(cation=55), rock_salt(5.66)]
    for noise in (0.0, 1.0):
        found = similarities(measured(rock_salt(), noise=noise), candidates)
        assert found.argmax() == 2 and found[2] > 0.9
        assert found[2] > found[4] > found[1], "a cell 0.4 % too large is nearly right"
        assert found[0] < 0.5


def test_any_cell_of_a_crystal_has_its_pattern() -> None:
    """The primitive cell of rock salt, and one whose atoms lie outside of it."""
    half = 2.82 * (np.ones((3, 3)) - np.eye(3))
    primitive = AtomicSystem.from_fractional([11, 17], [[0, 0, 0], [0.5, 0.5, 0.5]], half)
    far = AtomicSystem.from_fractional([17, 11], [[7.5, -2.5, 0.5], [0, 3, -1]], half)
    skewed = AtomicSystem.from_fractional(
        [11, 17], [[0, 0, 0], [0.5, 0, 0.5]], [[1, 0, 0], [3, 1, 0], [0, 0, 1]] @ half
    )
    found = similarities(measured(rock_salt()), [rock_salt(), primitive, far])
    np.testing.assert_allclose(found, found[0], atol=1e-6)
    assert similarities(measured(rock_salt()), [skewed])[0] < 0.9, "another crystal"


def test_the_measure_is_the_double_sum_of_de_gelder() -> None:
    """Lines of simple cubic polonium by Bragg's law, correlated pair by pair."""
    a = 3.35
    crystal = AtomicSystem.from_fractional([84], [[0, 0, 0]], a * np.eye(3))
    squares = [1, 2, 3, 4, 5, 6]
    bragg = 2 * np.degrees(np.arcsin(np.sqrt(squares) * CU / (2 * a)))
    calculated = XRDCalculator(CU).get_pattern(crystal.to_pymatgen(), scaled=False, two_theta_range=(20, 75))
    np.testing.assert_allclose(calculated.x, bragg[: len(calculated.x)], atol=1e-6)
    angles = np.arange(20, 75, STEP)
    places = np.array([100, 260, 1500])
    counts = np.zeros(len(angles))
    counts[places] = [3.0, 1.0, 2.0]  # a spike is no background
    pattern = Pattern(angles, counts)
    grid, lines = pattern.grid, pattern.lines()
    np.testing.assert_allclose(lines, counts, atol=1e-9)

    def correlated(x: np.ndarray, f: np.ndarray, y: np.ndarray, g: np.ndarray) -> float:
        near = np.maximum(1 - np.abs(x[:, None] - y[None]) / REACH, 0)
        return float(f @ near @ g)

    x, f = grid[places], lines[places]
    y, g = grid[0] + STEP * np.rint((calculated.x - grid[0]) / STEP), calculated.y
    expected = correlated(x, f, y, g) / np.sqrt(correlated(x, f, x, f) * correlated(y, g, y, g))
    np.testing.assert_allclose(similarities(pattern, [crystal]), expected, atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(
    numbers=st.lists(st.integers(1, 94), min_size=1, max_size=4),
    entries=st.lists(st.floats(-4, 4), min_size=9, max_size=9),
    scale=st.floats(0.1, 1e6),
    seed=st.integers(0, 9),
)
def test_it_lies_between_0_and_1_and_has_no_scale(
    numbers: list[int], entries: list[float], scale: float, seed: int
) -> None:
    cell = np.reshape(entries, (3, 3)) + 4 * np.eye(3)
    if abs(np.linalg.det(cell)) < 5:
        return
    random = np.random.default_rng(seed)
    crystal = AtomicSystem.from_fractional(numbers, random.uniform(-3, 3, (len(numbers), 3)), cell)
    pattern = measured(rock_salt(), noise=1)
    found = similarities(pattern, [crystal])[0]
    assert np.isnan(found) or -1e-12 <= found <= 1 + 1e-12
    again = similarities(Pattern(pattern.angles, scale * pattern.intensities), [crystal])[0]
    np.testing.assert_allclose(again, found, atol=1e-9)


def test_what_has_no_pattern() -> None:
    pattern = measured(rock_salt())
    einsteinium = rock_salt(cation=99)
    tiny = AtomicSystem.from_fractional([11], [[0, 0, 0]], 0.6 * np.eye(3))  # its first line is beyond 180 degrees
    vast = AtomicSystem.from_fractional([11], [[0, 0, 0]], 500 * np.eye(3))
    assert np.isnan(similarities(pattern, [einsteinium, tiny, vast])).all()
    assert similarities(pattern, []).shape == (0,)
    with pytest.raises(InvalidInputError, match="crystal"):
        similarities(pattern, [AtomicSystem([8], [[0, 0, 0]])])


@pytest.mark.parametrize("divided", ["{} {}", "{}\t{}\t0.5", "{},{}", " {} ; {}"])
def test_files(tmp_path: Path, divided: str) -> None:
    pattern = measured(rock_salt(), noise=1)
    rows = [divided.format(x, y) for x, y in zip(pattern.angles, pattern.intensities, strict=True)]
    (tmp_path / "p.xy").write_text("\n".join(["# NaCl, Cu K-alpha", "2theta intensity", *rows, ""]))
    again = read_pattern(tmp_path / "p.xy", "CuKa")
    np.testing.assert_array_equal(again.angles, pattern.angles)
    np.testing.assert_array_equal(again.intensities, pattern.intensities)
    assert again.wavelength == CU


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for text, words in {
        "nothing\nhere": "50 at least",
        "\n".join(f"{90 - k} {k}" for k in range(60)): "must increase",
        "\n".join(f"{k} 7" for k in range(60)): "must have lines",
        "\n".join(f"{k} nan" for k in range(60)): "NaN",
        "\n".join(f"{4 * k} {k % 7}" for k in range(60)): "at most 180",
    }.items():
        (tmp_path / "p.xy").write_text(text)
        with pytest.raises(UnreadableFileError, match=words):
            read_pattern(tmp_path / "p.xy")
    (tmp_path / "p.raw").write_bytes(b"RAW1.01\xff\xfe\x00")
    with pytest.raises(UnreadableFileError, match="Export the pattern as text"):
        read_pattern(tmp_path / "p.raw")
    with pytest.raises(UnreadableFileError, match="cannot be read"):
        read_pattern(tmp_path / "none.xy")


def test_wavelengths() -> None:
    assert wavelength_of("MoKa") == 0.71073 and wavelength_of("1.2") == wavelength_of(1.2) == 1.2
    for wrong, words in {"CuXa": "CuKa1", "nan": "between", "0": "between", "1e9": "between"}.items():
        with pytest.raises(InvalidInputError, match=words):
            wavelength_of(wrong)


def test_the_stage() -> None:
    stage = PowderStage(measured(rock_salt()))
    found = evaluate([caesium_chloride(), rock_salt(cation=99), rock_salt()], stages=[stage])
    assert [one.info["powder_similarity"] for one in stage.ranked] == sorted(
        (row["powder_similarity"] for row in found.rows if row["powder_similarity"] is not None), reverse=True
    )
    assert found.rows[1]["powder_similarity"] is None and len(stage.ranked) == 2
    metric = found.metric("crystals", "most alike", POWDER)
    assert metric.value == stage.ranked[0].info["powder_similarity"] and metric.of == 2
    assert "The likeliest: entry 2 0.9" in found.protocols[POWDER]


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write("made.extxyz", [caesium_chloride(), rock_salt(5.2), rock_salt()])
    pattern = measured(rock_salt())
    np.savetxt("p.xy", np.column_stack([pattern.angles, pattern.intensities]))
    done = CliRunner().invoke(
        app, ["made.extxyz", "--pattern", "p.xy", "--ranked", "best.extxyz", "--json", "run.json"]
    )
    assert done.exit_code == 0, done.output
    assert "The likeliest: entry 2" in " ".join(done.output.split())
    best = read("best.extxyz")
    assert best[0].cell is not None and best[0].cell[0, 0] == pytest.approx(5.64) and len(best) == 3
    rows = json.loads(Path("run.json").read_text())["rows"]
    assert best[0].info["powder_similarity"] == pytest.approx(rows[2]["powder_similarity"])
    other = CliRunner().invoke(app, ["made.extxyz", "--pattern", "p.xy", "--wavelength", "MoKa", "--json", "run.json"])
    assert other.exit_code == 0
    assert json.loads(Path("run.json").read_text())["rows"][2]["powder_similarity"] < 0.5
    for options, words in {
        ("--ranked", "best.extxyz"): "--ranked goes with --pattern",
        ("--wavelength", "MoKa"): "--wavelength goes with --pattern",
        ("--pattern", "p.xy", "--ranked", "best.sdf"): "must end in .extxyz",
        ("--pattern", "p.xy", "--json", "p.xy"): "would replace what is the --pattern",
        ("--pattern", "none.xy"): "cannot be read",
        ("--pattern", "p.xy", "--wavelength", "Cu"): "unknown wavelength",
    }.items():
        wrong = CliRunner().invoke(app, ["made.extxyz", *options])
        assert isinstance(wrong.exception, AditError) and words in str(wrong.exception)
