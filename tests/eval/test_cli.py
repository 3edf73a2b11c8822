from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import ase.io
import pytest
from typer.testing import CliRunner

import adit
from adit.cli.eval import app
from adit.data.prepare import prepare
from adit.errors import AditError
from adit.eval.results import Evaluation

DATA = Path(__file__).parent / "data"
FIXTURES = Path(__file__).parents[1] / "fixtures"
HULL = DATA / "hull.csv"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(adit.__file__).parents[1])}


def call(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_molecules_with_all_options(tmp_path):
    out, page = tmp_path / "out.json", tmp_path / "out.html"
    result = call(
        DATA / "qm9.extxyz", "--json", out, "--report", page, "--reference", DATA, "--seed", 4, "--protocol", "edm",
        "--protocol", "adit", "--processes", 2,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    found = Evaluation.load(out)
    assert found.counts == {"entries": 150, "molecules": 150, "crystals": 0, "unreadable": 0}
    assert found.reference == {"name": str(DATA), "molecules": 150, "crystals": 150}
    assert (found.seed, set(found.protocols)) == (4, {"edm", "adit", "posebusters", "distances"})
    assert [found.metric("molecules", "novel", protocol).value for protocol in ("edm", "adit")] == [0, 0]
    assert "150 molecules" in result.output
    assert "stable molecules" in result.output
    assert page.read_text().startswith("<!DOCTYPE html>")
    assert "150 molecules, judged" in page.read_text()
    assert "150 molecules of" in page.read_text()  # the reference's distributions
    assert result.stderr == ""


def test_crystals_are_not_novel_against_themselves(tmp_path):
    out = tmp_path / "out.json"
    result = call(DATA / "mp20.extxyz", "--json", out, "--reference", DATA / "mp20.extxyz")
    assert result.exit_code == 0, result.output
    found = Evaluation.load(out)
    assert found.counts["crystals"] == 150
    assert found.metric("crystals", "structure valid").value == 1
    assert found.metric("crystals", "novel").value == 0


def test_what_is_in_any_of_several_references_is_known(tmp_path):
    lines = (DATA / "mp20.extxyz").read_text().splitlines(keepends=True)
    (tmp_path / "first.extxyz").write_text("".join(lines[: int(lines[0]) + 2]))
    options = ["--reference", DATA / "qm9.extxyz", "--reference", tmp_path / "first.extxyz"]
    result = call(DATA / "mp20.extxyz", "--json", tmp_path / "o.json", *options)
    assert result.exit_code == 0, result.output
    assert 0 < Evaluation.load(tmp_path / "o.json").metric("crystals", "novel").value < 1
    result = call(DATA / "mp20.extxyz", "--json", tmp_path / "first.extxyz", *options)
    assert "would replace what is the --reference" in str(result.exception)


def test_a_reference_of_the_other_kind_is_refused(tmp_path):
    result = call(DATA / "qm9.extxyz", "--json", tmp_path / "o.json", "--reference", DATA / "mp20.extxyz")
    assert isinstance(result.exception, AditError)
    assert re.search(r"mp20\.extxyz holds no molecules, and nothing else", str(result.exception))
    assert not (tmp_path / "o.json").exists()


def test_a_reference_that_lacks_a_kind_is_said(tmp_path, caplog):
    words = [(DATA / f"{name}.extxyz").read_text().splitlines(keepends=True) for name in ("qm9", "mp20")]
    (tmp_path / "both.extxyz").write_text("".join("".join(lines[: int(lines[0]) + 2]) for lines in words))
    result = call(tmp_path / "both.extxyz", "--json", tmp_path / "o.json", "--reference", DATA / "mp20.extxyz")
    assert result.exit_code == 0, result.output
    assert "holds no molecules: nothing is said of their novelty" in caplog.text
    assert {m.kind for m in Evaluation.load(tmp_path / "o.json").metrics if m.name == "novel"} == {"crystals"}


def test_a_prepared_data_set_is_judged_by_name(tmp_path, monkeypatch):
    monkeypatch.setenv("ADIT_DATA_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    prepare("mp20", FIXTURES / "mp_20", processes=1)
    for name in ("mp20", "mp20:val"):
        result = call(name, "--json", "o.json", "--report", "o.html", "--reference", "mp20:train")
        assert result.exit_code == 0, result.exception
        found = Evaluation.load("o.json")
        assert (found.file, found.counts["crystals"]) == (name, {"mp20": 200, "mp20:val": 50}[name])
    for name, words in (
        ("mp20:foo", "no split 'foo'; known: train"),
        ("gone.cif", "no such file or prepared data set"),
    ):
        result = call(name)
        assert isinstance(result.exception, AditError) and words in str(result.exception)
    for options in (["--json", "cache/mp20/meta.json"], ["--report", "cache/mp20/cells.npy"]):
        result = call("mp20:val", *options)
        assert "would replace what is to be judged" in str(result.exception)


def test_no_input_is_replaced(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("mols", "ref", "in/mols"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(f"{name}.extxyz").write_bytes((DATA / "qm9.extxyz").read_bytes())
    Path("link.extxyz").symlink_to("mols.extxyz")
    assert call("mols.extxyz", "--json", "run.json").exit_code == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()}
    for arguments in (
        ["mols.extxyz", "--json", "mols.extxyz"],
        ["mols.extxyz", "--report", tmp_path / "mols.extxyz"],
        ["mols.extxyz", "--report", "link.extxyz"],
        ["mols.extxyz", "--reference", "ref.extxyz", "--json", "ref.extxyz"],
        ["mols.extxyz", "--hull", "ref.extxyz", "--report", "ref.extxyz"],
        ["in", "--json", "in/mols.extxyz"],
        ["in", "--work", "in"],
        ["--compare", "run.json", "--report", "run.json"],
    ):
        result = call(*arguments)
        assert isinstance(result.exception, AditError) and "would replace" in str(result.exception), arguments
    assert "must be different files" in str(call("mols.extxyz", "--json", "x", "--report", "./x").exception)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()}
    for _ in range(2):  # its own reports may lie beside the structures, and be replaced
        result = call("in", "--json", "in/run.json", "--report", "in/run.html", "--protocol", "edm")
        assert result.exit_code == 0, result.exception


def test_runs_are_compared(tmp_path):
    for name in ("qm9", "mp20"):
        assert call(DATA / f"{name}.extxyz", "--json", tmp_path / f"{name}.json").exit_code == 0
    result = call("--compare", tmp_path / "qm9.json", tmp_path / "mp20.json", "--report", tmp_path / "page.html")
    assert result.exit_code == 0, result.output
    words = " ".join(result.output.split())
    assert "published" in words
    assert "GeoLDM" in words
    assert "FlowMM" in words
    assert "FlowMM" in (tmp_path / "page.html").read_text()
    result = call("--compare", tmp_path / "qm9.json", DATA / "README.md")
    assert isinstance(result.exception, AditError)
    assert "not JSON" in str(result.exception)


def test_an_interrupted_run_leaves_the_old_file(tmp_path):
    out = tmp_path / "o.json"
    out.write_text("old")
    result = call(DATA / "qm9.extxyz", "--json", out, "--reference", "qm10")
    assert isinstance(result.exception, AditError)
    assert [path.name for path in tmp_path.iterdir()] == ["o.json"]
    assert out.read_text() == "old"


def test_folders_of_outputs_are_made(tmp_path):
    json_path, page = tmp_path / "a" / "b" / "run.json", tmp_path / "c" / "page.html"
    result = call(DATA / "qm9.extxyz", "--json", json_path, "--report", page)
    assert result.exception is None and json_path.is_file() and page.is_file()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["nowhere.xyz"], "nowhere.xyz"),
        ([DATA / "qm9.extxyz", "--json", DATA / "mp20.extxyz" / "x.json"], "is not a folder that can be written"),
        ([DATA / "qm9.extxyz", "--report", DATA], "cannot be written"),
        ([DATA / "qm9.extxyz", "--reference", "qm10"], "qm10"),
        ([DATA / "qm9.extxyz", "--reference", "qm10:val"], "qm10"),
        ([DATA / "qm9.extxyz", DATA / "mp20.extxyz"], "--compare"),
        ([DATA / "mp20.extxyz", "--relax", "chgnet"], "name one with --hull or --reference"),
        ([DATA / "mp20.extxyz", "--relax", "chgnet", "--reference", DATA / "mp20.extxyz"], "no formation energies"),
        ([DATA / "mp20.extxyz", "--relax", "chgnet", "--hull", "mp21"], "mp21"),
        ([DATA / "mp20.extxyz", "--reconstruct", DATA], "no checkpoint of an autoencoder"),
    ],
)
def test_wrong_arguments_are_adit_errors(arguments, reason):
    result = call(*arguments)
    assert isinstance(result.exception, AditError)
    assert reason in str(result.exception)


def program(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from adit.cli.eval import main; main()", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=120)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--strain", "dft"], "'dft'"),
        (["--energy-check", "0"], "--energy-check"),
        (["--relax-sample", "x"], "--relax-sample"),
        (["--relax", "nothere:Calc", "--hull", HULL, "--work", "/dev/null/x"], "no crystals to calibrate"),
    ],
)
def test_a_wrong_option_is_one_line_and_code_2(options, words):
    result = program(DATA / "qm9.extxyz", *options)
    assert (result.returncode, result.stdout, len(result.stderr.splitlines())) == (2, "", 1)
    assert words in result.stderr


@pytest.mark.parametrize(
    ("module", "options", "words"),
    [
        ("tblite.ase", ["--strain", "xtb"], "pip install adit[xtb]"),
        ("posebusters.modules.energy_ratio", ["--energy-check", 2], "pip install adit[eval]"),
        ("chgnet.model.model", ["--relax", "chgnet", "--reference", "energies.extxyz"], "pip install 'adit[mlip]'"),
    ],
)
def test_without_an_extra_it_says_what_to_install(module, options, words, tmp_path, monkeypatch):
    frames = ase.io.read(DATA / "mp20.extxyz", index=":3")
    for frame in frames:
        frame.info["formation_energy_per_atom"] = -1.0
    ase.io.write(tmp_path / "energies.extxyz", frames)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, module, None)
    result = call(DATA / "qm9.extxyz", *options)
    assert isinstance(result.exception, AditError)
    assert words in str(result.exception)


def test_more_is_judged_on_request(tmp_path):
    out = tmp_path / "o.json"
    result = call(
        DATA / "qm9.extxyz", "--protocol", "edm", "--strain", "mmff", "--reconstruct", "joint-tiny", "--json", out
    )
    assert result.exit_code == 0, result.output
    found = Evaluation.load(out)
    assert found.metric("molecules", "median", "strain, MMFF94").value > 0
    assert found.metric("molecules", "match rate, 0.1 A").value > 0.8
    assert "kcal/mol" in result.output
    assert set(found.rows[0]) >= {"posebusters", "strain_mmff", "reconstruction"}


def test_the_log_of_a_job_says_how_far_it_is(monkeypatch):
    monkeypatch.setattr("adit.cli.common.Log.every", 0.0)
    result = call(DATA / "qm9.extxyz", "--protocol", "edm")
    lines = [line for line in result.stderr.splitlines() if line.startswith("molecules")]
    assert result.exit_code == 0 and lines, result.stderr
    done, of = re.fullmatch(r".+: ([\d,]+) of ([\d,]+)", lines[0]).groups()
    assert 0 < int(done) <= int(of)


def test_as_a_program_an_error_is_one_line_and_code_2(tmp_path):
    (tmp_path / "bad.sdf").write_text("this is no molecule\n")
    command = [sys.executable, "-c", "from adit.cli.eval import main; main()", str(tmp_path / "bad.sdf")]
    result = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=60)
    assert result.returncode == 2
    assert len(result.stderr.strip().splitlines()) == 1
    assert "bad.sdf" in result.stderr


def test_broken_entries_are_counted_and_named(tmp_path):
    good = (DATA / "qm9.extxyz").read_text().splitlines(keepends=True)[:22]
    path = tmp_path / "some.xyz"
    path.write_text("".join(good) + "2\nbroken\nC 0 0 0\nQq 0 0 1\n" + "".join(good))
    result = call(path, "--json", tmp_path / "o.json")
    assert result.exit_code == 0, result.output
    found = Evaluation.load(tmp_path / "o.json")
    assert found.counts == {"entries": 3, "molecules": 3, "crystals": 0, "unreadable": 1}
    assert found.unreadable[0]["entry"] == "some.xyz[2]"
    assert "some.xyz[2]: 'Qq' is not an element" in result.stderr
    assert "counted as invalid" in result.stderr


def test_metrics_load_heavy_libraries_only_when_used():
    names = (
        "molecules, crystals, stability, summary, report, selection, plots, gallery, pictures, drawing, evaluation, "
        "compare, published"
    )
    code = (
        f"import sys; from adit.eval import {names}; "
        "print([m for m in ('torch', 'rdkit', 'pymatgen', 'smact', 'openbabel', 'plotly', 'ase', 'matplotlib')"
        " if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=ENVIRONMENT, check=True)
    assert result.stdout.strip() == "[]"


def test_names_are_shown_as_they_are(tmp_path):
    """rich would make an emoji of `:train:`, and a style of `[red]`."""
    reference = tmp_path / "[red]:train:.extxyz"
    reference.write_bytes((DATA / "mp20.extxyz").read_bytes())
    result = call(DATA / "mp20.extxyz", "--reference", reference)
    assert "[red]:train:.extxyz" in result.output.replace("\n", "")
