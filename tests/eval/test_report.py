from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from adit.convert.base import BrokenEntry
from adit.errors import InvalidInputError
from adit.eval.evaluation import evaluate
from adit.eval.plots import figures
from adit.eval.reference import Reference
from adit.eval.report import LARGEST, write_comparison, write_html
from adit.eval.results import Metric
from adit.system import AtomicSystem

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
NODE = shutil.which("node")
NASTY = "</script><img src=x onerror=alert(1)>'\"&<!--<script>"


class Outline(HTMLParser):
    """Tags with their attributes, and the text outside of scripts and styles."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.words, self.scripts, self._open = [], [], [], []
        self.feed(page.read_text(encoding="utf-8"))
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "img"):
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        inside = self._open[-1] if self._open else ""
        (self.scripts if inside == "script" else self.words).append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def held(page, name):
    """A constant of the page's own script."""
    return json.loads(re.search(rf"const {name} = (.*);$", page.read_text(encoding="utf-8"), re.M).group(1))


def section(page, heading):
    """The page's text from a heading to the next."""
    return page.read_text(encoding="utf-8").split(f"<h2>{heading}")[1].split("<h2>")[0]


@pytest.fixture(scope="module")
def judged(shaken, mp20, damaged):
    """Systems of both kinds, good and bad, with broken entries among them, and what was found."""
    systems = [*shaken[:60], *mp20[:30], *damaged[:30], mp20[3]]
    broken = [BrokenEntry("a.sdf[2]", f"no coordinates {NASTY}", periodic=False), BrokenEntry("b", "nothing")]
    found = evaluate([*systems, *broken], protocols=["edm", "adit-rust"], name="folder/samples.zip", seed=3)
    return found, systems


@pytest.fixture(scope="module")
def page(tmp_path_factory, judged, qm9, mp20):
    from adit.data.packed import PackedDataset

    path = tmp_path_factory.mktemp("report") / "out.html"
    reference = Reference("data & co", PackedDataset.from_systems([*qm9[60:], *mp20[60:]]))
    write_html(path, *judged, reference=reference, limit=8)
    return path


def test_everything_is_inside(page):
    outline = Outline(page)
    assert not [tag for tag, attributes in outline.tags if {"src", "href", "srcset", "data"} & attributes.keys()]
    assert not {"link", "img", "iframe", "object", "base"} & {tag for tag, _ in outline.tags}
    own = re.sub(r"<script>.*?</script>", "", page.read_text(encoding="utf-8"), flags=re.S)
    assert "url(" not in own
    assert "@import" not in own
    assert max(map(len, outline.scripts)) > 3_000_000  # plotly.js


def test_the_figures_are_those_of_the_evaluation(page, judged):
    found, text = judged[0], Outline(page).text
    for metric in found.metrics:
        if metric.unit == "share":
            assert f"{100 * metric.value:.1f}".removesuffix(".0") in text, metric
    for words in found.protocols.values():
        assert " ".join(words.split()) in text
    assert "samples.zip" in text
    assert "61 molecules and 61 crystals" in text
    assert found.versions["rdkit"] in text


def test_best_and_worst(page, judged):
    rows = {row["entry"]: row for row in judged[0].rows}
    for kind, protocols in (("molecules", ("edm", "adit-rust")), ("crystals", ("cdvae",))):
        shown = {
            name: [rows[entry] for entry in re.findall(r'class="note" title="(\d+)"', section(page, f"{name} {kind}"))]
            for name in ("The best", "The worst", "Other")
        }
        assert [len(part) for part in shown.values()] == [8, 8, 8]
        places = [row["index"] for part in shown.values() for row in part]
        assert len(set(places)) == 24
        for row in shown["The best"]:
            verdicts = [row["protocols"][name] for name in protocols]
            assert all(verdict["valid"] and verdict["repeats"] is None for verdict in verdicts)
        counts = [sum(not row["protocols"][name]["valid"] for name in protocols) for row in shown["The worst"]]
        assert min(counts) == max(counts) == len(protocols)
        cards = section(page, f"The worst {kind}").split("<figure")[1:]
        assert all(re.search(r"<ul><li>.+</li></ul>", card) for card in cards)
    crystals = [row["protocols"]["cdvae"] for row in shown["The worst"]]
    assert not any(verdict["structure"] for verdict in crystals)  # graver than a composition


def test_pictures_are_in_the_order_of_the_cards(page, judged):
    found, systems = judged
    where = {row["entry"]: place for place, row in enumerate(found.rows)}
    entries = re.findall(r'class="note" title="(\d+)"', page.read_text(encoding="utf-8"))
    structures = held(page, "STRUCTURES")
    assert len(structures) == len(entries) == 48
    for entry, structure in zip(entries, structures, strict=True):
        assert set(structure["z"]) == set(systems[where[entry]].numbers.tolist())


def test_reasons_are_counted(page, judged):
    words = [row["protocols"]["cdvae"]["why"] for row in judged[0].rows if row["kind"] == "crystals"]
    near = sum("apart" in why for why in words)
    assert near > 3
    table = section(page, "What is wrong with crystals")
    assert f"<td>{near}</td>" in table
    assert "atoms # and # are # A apart" in table
    assert "repeats entry #" in table


def test_unreadable_entries_are_named(page):
    table = section(page, "Unreadable entries")
    assert "a.sdf[2]" in table
    assert "1 of unknown kind count nowhere" in table
    assert "<img" not in table


def test_distributions_stand_beside_those_of_the_reference(judged, qm9):
    from adit.data.packed import PackedDataset

    found, systems = judged
    reference = Reference("all", PackedDataset.from_systems(qm9))
    made = figures(found, systems, "molecules", reference)
    ours, theirs = made["Atoms in a molecule"]["data"]
    assert sum(ours["y"]) == pytest.approx(1, abs=1e-3)
    sizes = dict(zip(*np.unique([len(system) for system in qm9], return_counts=True), strict=True))
    for size, share in zip(theirs["x"], theirs["y"], strict=True):
        assert share == pytest.approx(sizes.get(size, 0) / len(qm9), abs=1e-4) or size in (
            theirs["x"][0],
            ours["x"][-1],
        )
    assert "H-C bonds" in made
    crystals = figures(found, systems, "crystals", reference)
    assert len(crystals["Density"]["data"]) == 1  # the reference has none
    groups = crystals["Space groups"]["data"][0]
    share = np.mean([row["spacegroup"] == 225 for row in found.rows if row["kind"] == "crystals"])
    assert groups["y"][groups["x"].index("225")] == pytest.approx(share, abs=1e-4)


def test_what_other_stages_add_is_shown(tmp_path, judged):
    """Figures of another protocol; numbers, flags and reasons in columns and verdicts."""
    found, systems = judged
    rows = [dict(row, protocols=dict(row["protocols"])) for row in found.rows]
    for place, row in enumerate(rows[:60]):
        good = place % 2 == 0
        row["mass"] = float(60 - place)
        row["within_reference"] = False  # says nothing
        row["strain_mmff"] = {"energy": 2.0 * (60 - place), "rmsd": 0.1, "converged": good} if place else None
        row["posebusters"] = {"passed": good, "why": {} if good else {"bond angles": f"C-C-C at atom {place}"}}
        row["protocols"]["pose"] = {"valid": place % 3 != 1, "clash": 0.1 * place, "why": ""}
    extra = Metric(kind="molecules", protocol="pose", name="passes", value=0.125, of=60)
    found = replace(found, rows=rows, metrics=[*found.metrics, extra], protocols={**found.protocols, "pose": "Poses."})
    made = figures(found, systems, "molecules", None)
    assert {f"{name} of molecules" for name in ("mass", "energy, strain_mmff", "clash, pose")} <= made.keys()
    assert sum(made["energy, strain_mmff of molecules"]["data"][0]["y"]) == pytest.approx(1, abs=1e-3)
    assert made["energy, strain_mmff of molecules"]["data"][0]["x"][0] == pytest.approx(2, abs=2)
    assert "pose: passes" in made["Shares of molecules, with intervals"]["data"][0]["y"]
    page = tmp_path / "out.html"
    write_html(page, found, systems, limit=60)
    assert "12.5" in Outline(page).text
    table = section(page, "What is wrong with molecules")
    assert re.search(r"<td>posebusters</td><td>30</td>.*?<td>bond angles</td></tr>", table)
    assert "posebusters: bond angles: C-C-C at atom 1<" in page.read_text(encoding="utf-8")
    assert "<td>pose</td><td>20</td>" in table
    assert "not valid" in table
    expected = [
        place
        for place in range(59, -1, -1)  # those of less strain first
        if all(rows[place]["protocols"][name]["valid"] for name in ("edm", "adit-rust", "pose"))
        and all(rows[place]["protocols"][name]["paired"] for name in ("edm", "adit-rust"))
        and all(rows[place]["protocols"][name]["connected"] for name in ("edm", "adit-rust"))
        and place % 2 == 0
    ]
    best = [int(place) for place in re.findall(r'class="note" title="(\d+)"', section(page, "The best molecules"))]
    if 0 in best:  # nothing is known of its strain
        assert best.pop() == 0
        expected.remove(0)
    assert best == expected
    assert len(best) > 2


def test_names_and_reasons_are_only_text(tmp_path, qm9, mp20):
    """From files of others: no markup, in the page as in its scripts."""
    systems = [AtomicSystem(s.numbers, s.positions, s.cell, info={"id": NASTY}) for s in (qm9[0], mp20[0])]
    bad = AtomicSystem([1, 1], [[0, 0, 0], [0, 0, 0.1]], info={"id": NASTY})
    broken = BrokenEntry(NASTY, NASTY, periodic=False)
    found = evaluate([*systems, bad, broken], protocols=["adit-rust"], name=NASTY)
    for row in found.rows:
        row["protocols"][next(iter(row["protocols"]))]["why"] = NASTY
        row[NASTY] = 1.0
    found = replace(
        found, protocols={**found.protocols, NASTY: NASTY}, reference={"name": NASTY, "molecules": 1, "crystals": 1}
    )
    write_html(tmp_path / "a.html", found, [*systems, bad], title=NASTY, subtitle=NASTY)
    write_comparison(tmp_path / "b.html", [(NASTY, found), ("other", found)])
    for name, scripts in (("a.html", 2), ("b.html", 0)):
        outline = Outline(tmp_path / name)
        tags = [tag for tag, _ in outline.tags]
        assert "img" not in tags
        assert tags.count("script") == scripts
        assert not any(key.startswith("on") for _, attributes in outline.tags for key in attributes)
        assert NASTY in outline.text
    assert "<!--" not in Outline(tmp_path / "a.html").scripts[-1]


def test_it_is_the_same_each_time_and_the_seed_matters(tmp_path, judged):
    found, systems = judged
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        write_html(tmp_path / name, replace(found, seed=seed), systems, limit=5)
    texts = [(tmp_path / name).read_text(encoding="utf-8") for name in "abc"]
    assert texts[0] == texts[1]
    assert held(tmp_path / "a", "STRUCTURES") != held(tmp_path / "c", "STRUCTURES")


def test_the_page_does_not_grow_with_the_samples(tmp_path, judged):
    found, systems = judged
    times = 20
    rows = [dict(row, index=k) for k, row in enumerate(found.rows * times)]
    counts = {name: times * count for name, count in found.counts.items()}
    unreadable = found.unreadable * 1000
    write_html(tmp_path / "a", found, systems)
    write_html(tmp_path / "b", replace(found, rows=rows, counts=counts, unreadable=unreadable), systems * times)
    sizes = [(tmp_path / name).stat().st_size for name in "ab"]
    assert sizes[1] - sizes[0] < 150_000
    assert "the first 50" in section(tmp_path / "b", "Unreadable entries")


def test_huge_structures_have_no_picture(tmp_path, qm9):
    grid = np.stack(np.meshgrid(*[3.0 * np.arange(11)] * 3), -1).reshape(-1, 3)
    systems = [qm9[0], AtomicSystem([6] * len(grid), grid)]
    assert len(grid) > LARGEST
    write_html(tmp_path / "a.html", evaluate(systems, protocols=["edm"], posebusters=False), systems)
    assert len(held(tmp_path / "a.html", "STRUCTURES")) == 1
    assert "no pictures" in Outline(tmp_path / "a.html").text


def test_nonsense_has_a_page(tmp_path, nonsense):
    systems = list(nonsense.values())
    write_html(tmp_path / "a.html", evaluate(systems, protocols=["edm", "adit-rust"]), systems)
    one = [AtomicSystem([1], [[0, 0, 0]])]
    write_html(tmp_path / "b.html", evaluate(one, protocols=["adit-rust"]), one)
    assert "The best molecules<small>none" in (tmp_path / "b.html").read_text(encoding="utf-8")


def test_systems_of_another_evaluation_are_refused(tmp_path, judged):
    with pytest.raises(InvalidInputError, match="rows of 121 structures; got 1 systems"):
        write_html(tmp_path / "a.html", judged[0], judged[1][:1])


def test_runs_side_by_side(tmp_path, judged):
    found = judged[0]
    better = replace(found, metrics=[replace(metric, value=1.0, low=0.999, high=1.0) for metric in found.metrics])
    write_comparison(tmp_path / "c.html", [("first", found), ("second", better)])
    text = (tmp_path / "c.html").read_text(encoding="utf-8")
    assert len(text) < 50_000
    assert text.count('<td class="differs">100 [99.9, 100] *</td>') > 3
    words = Outline(tmp_path / "c.html").text
    for expected in ("first", "second", "GeoLDM", "FlowMM", "do not overlap", "[99.9, 100]"):
        assert expected in words


@pytest.mark.skipif(NODE is None, reason="no node to check the scripts with")
def test_its_scripts_have_no_mistake(tmp_path, page):
    for place, script in enumerate(Outline(page).scripts):
        (tmp_path / f"{place}.js").write_text(script, encoding="utf-8")
        done = subprocess.run([NODE, "--check", tmp_path / f"{place}.js"], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr[-500:]


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium to open the page in")
def test_a_browser_draws_it(tmp_path, page):
    probe = "<script>window.addEventListener('load', () => {" \
        "const drawn = views.filter(v => new Uint32Array(v.canvas.getContext('2d')" \
        ".getImageData(0, 0, v.canvas.width, v.canvas.height).data.buffer).some(p => p)).length;" \
        "document.title = `${drawn} canvases, ${document.querySelectorAll('.plot:has(svg.main-svg)').length} plots`;" \
        "})</script></body>"  # fmt: skip
    opened = tmp_path / "probe.html"
    opened.write_text(page.read_text(encoding="utf-8").replace("</body>", probe), encoding="utf-8")
    command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000", "--dump-dom"]
    result = subprocess.run(
        [*command, f"--user-data-dir={tmp_path / 'profile'}", opened.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    title = re.search(r"<title>(.*?)</title>", result.stdout).group(1)
    canvases, plots = map(int, re.findall(r"\d+", title))
    assert canvases == 48
    assert plots == len(held(page, "PLOTS")) > 15
