"""The benches of what users ask of samples: properties, symmetry."""

from pathlib import Path

import pytest

import properties
import symmetrized
from adit.data.packed import PackedDataset

TINY = Path(__file__).parents[1] / "fixtures" / "tiny_dataset"


def test_xtb_knows_a_dipole_and_a_gap() -> None:
    """Of water, measured 1.85 Debye, and of methane, which has none and, in QM9's DFT too, the larger gap."""
    first = {one.formula: properties.xtb(one) for one in PackedDataset.load(TINY) if one.formula in ("CH4", "H2O")}
    water, methane = first["H2O"], first["CH4"]
    assert water["mu"] == pytest.approx(1.85, abs=0.5)
    assert methane["mu"] == pytest.approx(0, abs=0.05)
    assert methane["gap"] > water["gap"] > 0.3


def test_properties_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(properties, "VALUES", {"gap": (0.25,)})
    monkeypatch.setattr(properties, "SCALES", (0.0, 2.0))
    monkeypatch.setattr(properties, "WITHIN", {"gap": 0.2})
    monkeypatch.setattr(properties, "RANGES", {"band_gap": ((0.0, 9.0),)})
    document = tmp_path / "x.md"
    names = ("properties", "properties of crystals")
    document.write_text("".join(f"<!-- {name}: begin -->\n<!-- {name}: end -->\n" for name in names))
    sets = ["--data", str(TINY), "--crystals", str(TINY)]
    properties.main([*sets, "--n", "3", "--threads", "1", "--csv", str(tmp_path / "p.csv"), "--docs", str(document)])
    written = document.read_text()
    (line,) = (line for line in written.splitlines() if line.startswith("| gap 0.25 |"))
    assert line.count(" / ") == 3  # a figure for each of two scales, in three columns
    assert written.count("| band_gap 0 to 9 |") == 1
    assert len((tmp_path / "p.csv").read_text().splitlines()) == 1 + 2 + 2


@pytest.mark.slow
def test_symmetrized_runs(tmp_path: Path) -> None:
    document = tmp_path / "x.md"
    document.write_text("<!-- symmetrized: begin -->\n<!-- symmetrized: end -->\n")
    symmetrized.main(
        ["--n", "4", "--limits", "0.1", "--threads", "1", "--csv", str(tmp_path / "s.csv"), "--docs", str(document)]
    )
    assert "| left alone |" in document.read_text() and "| 0.1 A |" in document.read_text()
