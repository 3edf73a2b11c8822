from __future__ import annotations

import json
import re
import shutil
import subprocess

import pytest

from adit.eval.report import write_html
from adit.eval.summary import summarise
from adit.system import AtomicSystem

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def page(tmp_path_factory, qm9, mp20):
    path = tmp_path_factory.mktemp("report") / "out.html"
    write_html(path, [*qm9[:30], *mp20[:10]], title="Tea & <script>", limit=24)
    return path


def test_everything_is_inside(page):
    text = page.read_text(encoding="utf-8")
    own = re.sub(r"<script>.*?</script>", "", text, flags=re.S)
    assert not re.search(r"""(src|href)\s*=\s*["']""", own)
    assert "url(" not in own
    assert len(text) > 3_000_000  # plotly.js


def test_structures_are_the_first_ones(page, qm9):
    text = page.read_text(encoding="utf-8")
    structures = json.loads(re.search(r"const STRUCTURES = (.*);$", text, re.M).group(1))
    assert len(structures) == text.count('<figure class="structure">') == 24 + 10
    assert [entry["z"] for entry in structures[:24]] == [system.numbers.tolist() for system in qm9[:24]]
    assert all(len(entry["e"]) == 12 for entry in structures[24:])
    assert "the first 24 of 30, unselected" in text
    assert "all of them" in text


def test_text_is_escaped(page):
    text = page.read_text(encoding="utf-8")
    assert "<h1>Tea &amp; &lt;script&gt;</h1>" in text


def test_marks_follow_the_summary(tmp_path, shaken):
    summary = summarise(shaken[:20])
    write_html(tmp_path / "out.html", shaken[:20], summary=summary)
    marks = re.findall(r'<span class="mark (good|bad)">', (tmp_path / "out.html").read_text(encoding="utf-8"))
    assert [mark == "good" for mark in marks] == summary.valid.tolist()
    assert 0 < summary.valid.sum() < 20


def test_nonsense_and_nothing_have_a_page(tmp_path, nonsense):
    write_html(tmp_path / "a.html", list(nonsense.values()))
    write_html(tmp_path / "b.html", [])
    write_html(tmp_path / "c.html", [AtomicSystem([1], [[0, 0, 0]])])
    assert "no structures" in (tmp_path / "b.html").read_text(encoding="utf-8")


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium to open the page in")
def test_a_browser_draws_it(tmp_path, page):
    probe = "<script>window.addEventListener('load', () => {" \
        "const drawn = views.filter(v => new Uint32Array(v.canvas.getContext('2d')" \
        ".getImageData(0, 0, v.canvas.width, v.canvas.height).data.buffer).some(p => p)).length;" \
        "document.title = `${drawn} canvases, ${document.querySelectorAll('.plot svg.main-svg').length} svgs`;" \
        "})</script></body>"  # fmt: skip
    opened = tmp_path / "probe.html"
    opened.write_text(page.read_text(encoding="utf-8").replace("</body>", probe), encoding="utf-8")
    command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000", "--dump-dom"]
    result = subprocess.run(
        [*command, f"--user-data-dir={tmp_path / 'profile'}", opened.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    title = re.search(r"<title>(.*?)</title>", result.stdout).group(1)
    canvases, svgs = map(int, re.findall(r"\d+", title))
    assert canvases == 34
    assert svgs >= 4
