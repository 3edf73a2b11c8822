"""The JSON file of an evaluation, and the tables made of it."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from adit.data.packed import PackedDataset
from adit.errors import InvalidInputError, UnreadableFileError
from adit.eval import evaluate
from adit.eval.compare import cell, differ, notes, side_by_side, tables
from adit.eval.published import PUBLISHED
from adit.eval.results import Evaluation, Metric
from adit.eval.stages import CRYSTAL_PROTOCOL, PROTOCOLS, Findings, Samples
from adit.eval.stages import Figure as Mean
from adit.eval.workers import Advance
from adit.system import AtomicSystem


@pytest.fixture(scope="module")
def found(qm9: list[AtomicSystem], mp20: list[AtomicSystem]) -> Evaluation:
    return evaluate([*qm9[:20], *mp20[:10]], seed=3)


def test_systems_are_taken_as_one_or_many_and_as_a_reference(mp20: list[AtomicSystem]) -> None:
    def figures(source: object, **options: object) -> dict[tuple[str, str, str], str]:
        made = evaluate(source, protocols=["cdvae"], **options).metrics  # type: ignore[arg-type]
        return {metric.key: f"{metric.value} of {metric.of}" for metric in made}

    one = figures(mp20[:1])
    for same in (mp20[0], mp20[0].to_ase(), mp20[0].to_pymatgen(), iter(mp20[:1])):
        assert figures(same) == one
    assert one["crystals", "cdvae", "unique"] == "1.0 of 1"
    known = figures(mp20[:2], reference=mp20[:1])
    assert known["crystals", "cdvae", "novel"] == "0.5 of 2"
    for reference in (mp20[0], PackedDataset.from_systems(mp20[:1])):
        assert figures(mp20[:2], reference=reference) == known


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"seed": -1}, "`seed` must be at least 0"),
        ({"level": 95}, "`level` between 0 and 1"),
        ({"protocols": ["cdave"]}, "got 'cdave'"),
        ({"reference": [AtomicSystem([1], [[0, 0, 0]])]}, "systems in memory holds no crystals, and nothing else"),
        ({"reference": []}, "holds no crystals"),
        ({"reference": ["mp20"]}, "must be an AtomicSystem"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, object], words: str, mp20: list[AtomicSystem]) -> None:
    with pytest.raises(InvalidInputError, match=words):
        evaluate(mp20[:2], **options)  # type: ignore[arg-type]


def text(renderables: list[object]) -> str:
    console = Console(file=StringIO(), width=160)
    for each in renderables:
        console.print(each)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_what_is_saved_is_loaded(found: Evaluation, tmp_path: Path) -> None:
    found.save(tmp_path / "a.json")
    again = Evaluation.load(tmp_path / "a.json")
    assert again.to_dict() == found.to_dict()
    assert [metric.key for metric in again.metrics] == [metric.key for metric in found.metrics]
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_the_fields_of_the_file(found: Evaluation, tmp_path: Path) -> None:
    found.save(tmp_path / "a.json")
    held = json.loads((tmp_path / "a.json").read_text())
    assert list(held) == [
        "format",
        "format_version",
        "file",
        "created",
        "versions",
        "machine",
        "seed",
        "level",
        "reference",
        "counts",
        "unreadable",
        "protocols",
        "metrics",
        "rows",
        "seconds",
    ]
    assert (held["format"], held["format_version"], held["seed"], held["level"]) == ("adit-eval", 1, 3, 0.95)
    assert list(held["metrics"][0]) == ["kind", "protocol", "name", "value", "low", "high", "of", "unit"]
    assert list(held["rows"][0])[:6] == ["index", "entry", "kind", "formula", "atoms", "protocols"]
    assert set(held["rows"][0]["protocols"]) == set(PROTOCOLS)
    assert set(held["rows"][-1]["protocols"]) == {CRYSTAL_PROTOCOL}
    assert {metric["protocol"] for metric in held["metrics"]} == {"", *PROTOCOLS, "posebusters", CRYSTAL_PROTOCOL}


def test_there_is_no_nan_in_the_file(tmp_path: Path) -> None:
    found = evaluate([AtomicSystem([6], [[0, 0, 0]])], protocols=["adit-rust"])
    assert np.isnan(found.metric("molecules", "unique").value)
    found.save(tmp_path / "a.json")
    assert "NaN" not in (tmp_path / "a.json").read_text()
    assert np.isnan(Evaluation.load(tmp_path / "a.json").metric("molecules", "unique").value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "not JSON"),
        ("[1]", "its format is 'list'"),
        ('{"format": "else"}', "its format is 'else'"),
        ('{"format": "adit-eval", "format_version": 2}', "version 2; this adit reads 1"),
        ('{"format": "adit-eval", "format_version": 1}', "damaged: KeyError"),
        ('{"format": "adit-eval", "format_version": 1, "metrics": [{"value": 1}]}', "damaged"),
    ],
)
def test_other_files_are_refused(content: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(UnreadableFileError, match=words):
        Evaluation.load(tmp_path / "a.json")
    with pytest.raises(UnreadableFileError, match="cannot be read"):
        Evaluation.load(tmp_path / "nowhere.json")


def test_a_file_that_cannot_be_written_leaves_nothing(found: Evaluation, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "x").touch()
    with pytest.raises(InvalidInputError, match="cannot be written"):
        found.save(tmp_path / "taken")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_intervals_hold_the_value_and_depend_on_the_seed_alone(
    found: Evaluation, qm9: list[AtomicSystem], mp20: list[AtomicSystem]
) -> None:
    for metric in found.metrics:
        assert np.isnan(metric.low) or metric.low <= metric.value <= metric.high
    again, other = (evaluate([*qm9[:20], *mp20[:10]], seed=seed) for seed in (3, 4))
    assert again.to_dict()["metrics"] == found.to_dict()["metrics"] != other.to_dict()["metrics"]


def test_a_metric_is_found_by_name(found: Evaluation) -> None:
    assert found.metric("molecules", "valid", "edm").protocol == "edm"
    with pytest.raises(InvalidInputError, match="several metrics"):
        found.metric("molecules", "valid")
    with pytest.raises(InvalidInputError, match="no metrics"):
        found.metric("crystals", "beauty")


def test_the_table_has_the_protocols_side_by_side(found: Evaluation) -> None:
    lines = text(list(tables(found))).splitlines()
    (header,) = [line.split() for line in lines if line.split()[:1] == ["adit"]]
    assert header == list(PROTOCOLS)
    assert any("stable molecules" in line for line in lines)
    assert any("structure valid" in line and "100" in line for line in lines)
    assert "molecules: posebusters" in [line.strip() for line in lines]
    assert any(line.split()[0:1] == ["bond_lengths"] and line.split()[-2:] == ["%", "20"] for line in lines)


def test_a_protocol_that_cannot_run_says_so(qm9: list[AtomicSystem], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "openbabel", None)
    found = evaluate(qm9[:5])
    assert found.protocols["adit"].startswith("Not run: ")
    assert "pip install adit[eval]" in found.protocols["adit"]
    lines = {m.name for m in found.metrics if m.protocol in PROTOCOLS}
    assert text(list(tables(found))).count("not run") == len(lines)


def test_runs_side_by_side(found: Evaluation, qm9: list[AtomicSystem]) -> None:
    bad = [AtomicSystem(system.numbers, 1.2 * system.positions) for system in qm9[:20]]
    other = evaluate(bad)
    page = text([*side_by_side([("good", found), ("bad", other)]), *notes([found, other])])
    (stable,) = [line for line in page.splitlines() if "edm: stable atoms" in line]
    assert stable.count("*") == 1
    assert "98.7 EDM (QM9)" in stable
    assert "94.45 ADiT, joint (QM9)" in page
    assert "92.1 ADiT, joint (MP-20)" in page
    assert "† the summary that this project started from" in page


def test_intervals_that_touch_do_not_differ() -> None:
    def metric(low: float, high: float) -> Metric:
        return Metric(kind="molecules", protocol="edm", name="valid", value=(low + high) / 2, low=low, high=high, of=9)

    assert differ(metric(0.1, 0.2), metric(0.3, 0.4))
    assert differ(metric(0.3, 0.4), metric(0.1, 0.2))
    assert not differ(metric(0.1, 0.3), metric(0.3, 0.4))
    assert not differ(metric(float("nan"), float("nan")), metric(0.3, 0.4))
    assert cell(metric(0.9, 1)) == "95.0 [90.0, 100]"


def test_published_figures_are_shares_of_known_metrics(found: Evaluation) -> None:
    keys = {metric.key for metric in found.metrics}
    assert all((entry.kind, entry.protocol, entry.name) in keys and 0 < entry.value < 1 for entry in PUBLISHED)


class Heaviest:
    """A stage as another module would write one."""

    title, kind = "heaviest", "molecules"

    def steps(self, samples: Samples) -> int:
        return len(samples.systems)

    def __call__(self, samples: Samples, advance: Advance) -> Findings:
        numbers = [int(system.numbers.max()) for system in samples.systems]
        advance(len(numbers))
        valid = [row["protocols"]["adit-rust"]["valid"] for row in samples.rows]
        ours = Metric(
            kind="molecules", protocol="", name="elements", value=len(set(numbers)), of=len(numbers), unit="count"
        )
        return Findings(
            figures=[Mean(name="mean heaviest", values=numbers, weights=valid, protocol="mine", unit="Z"), ours],
            columns={"heaviest": numbers},
            verdicts={"mine": [{"heavy": number > 8} for number in numbers]},
            protocols={"mine": "A test."},
        )


def test_a_further_stage(qm9: list[AtomicSystem], mp20: list[AtomicSystem]) -> None:
    seen: list[tuple[str, int | None, int]] = []

    class Shown:
        def __init__(self, title: str, steps: int | None) -> None:
            self.title, self.steps, self.done = title, steps, 0

        def __enter__(self) -> Advance:
            return self.advance

        def advance(self, count: int) -> None:
            self.done += count

        def __exit__(self, *_: object) -> None:
            seen.append((self.title, self.steps, self.done))

    found = evaluate([mp20[0], *qm9[:7]], protocols=["adit-rust"], stages=[Heaviest()], progress=Shown)
    assert found.metric("molecules", "mean heaviest", "mine").unit == "Z"
    assert found.metric("molecules", "elements").value >= 1
    assert "heaviest" not in found.rows[0]
    assert found.rows[1]["heaviest"] == qm9[0].numbers.max()
    assert set(found.rows[1]["protocols"]) == {"adit-rust", "mine"}
    assert found.protocols["mine"] == "A test."
    assert seen == [
        ("reading", None, 0),
        ("molecules, adit-rust", 7, 7),
        ("molecules, PoseBusters", 7, 7),
        ("crystals", 3, 3),
        ("heaviest", 7, 7),
    ]
    assert set(found.seconds) == {title for title, *_ in seen}
