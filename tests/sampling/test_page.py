"""The page of an ensemble as a browser runs it: its script in node, with a document that notes what is drawn."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

pytest.importorskip("rdkit")

from mlff_calc.datasets.embed import embed
from mlff_calc.datasets.molecules import read_molecules
from mlff_calc.sampling.ensemble import Ensemble
from mlff_calc.sampling.page import ensemble_page

BROWSER = """
const drawn = {arc: 0, stroke: 0};
let last_arc = null;
function check(numbers) { if (!numbers.every(Number.isFinite)) throw new Error('not finite: ' + numbers); }
const paper = {
  clearRect() { drawn.arc = drawn.stroke = 0; }, beginPath() {}, moveTo() {}, fill() {}, lineTo(...p) { check(p); },
  stroke() { drawn.stroke++; }, arc(...p) { drawn.arc++; check(p); last_arc = p; },
  createRadialGradient(...p) { check(p); return {addColorStop() {}}; },
};
function element(dataset) {
  return {
    handlers: {}, textContent: '', dataset, width: 360, height: 320,
    addEventListener(name, f) { this.handlers[name] = f; }, classList: {toggle(name, on) { this.on = on; }},
    setPointerCapture() {}, getContext: () => paper,
  };
}
const rows = [0, 1, 2].map(() => element()), pictures = [0, 1, 2].map(k => element({conformer: String(k)}));
const parts = {view: element(), caption: element(), data: {textContent: DATA}};
const document = {
  getElementById: id => parts[id], querySelectorAll: what => what.startsWith('.picture') ? pictures : rows,
};
"""
USER = """
const seen = [parts.caption.textContent, drawn.arc, drawn.stroke];
rows[1].handlers.click();
seen.push(parts.caption.textContent, rows[1].classList.on, rows[0].classList.on);
const before = JSON.stringify(last_arc);
parts.view.handlers.pointermove({clientX: 9, clientY: 9});
seen.push(JSON.stringify(last_arc) === before);
parts.view.handlers.pointerdown({clientX: 0, clientY: 0, pointerId: 1});
parts.view.handlers.pointermove({clientX: 60, clientY: 40});
seen.push(JSON.stringify(last_arc) === before);
rows[0].handlers.keydown({key: 'Enter'});
pictures[2].handlers.click();
seen.push(parts.caption.textContent);
console.log(JSON.stringify(seen));
"""


@pytest.fixture(scope="module")
def ensemble():
    (molecule,) = read_molecules("OCCN")
    places = embed(molecule, 3, 0).positions
    n = 3
    assert len(places) == n
    return Ensemble(
        molecule=molecule, positions=places, energies=np.linspace(0.0, 0.1, n), weights=np.array([0.9, 0.07, 0.03]),
        temperature=300.0, converged=np.ones(n, dtype=bool), fmax=np.zeros(n), sources=["etkdg"] * n,
        calculator="<b>&", seed=0, problems={"bond <C> broke": 2},
    )  # fmt: skip


def test_it_shows_what_it_should(ensemble):
    page = ensemble_page(ensemble)
    for text in ("&lt;b&gt;&amp;", "bond &lt;C&gt; broke", "90.0 %", 'aria-label="energies and weights"', "O0-C1-C2-N3"):
        assert text in page
    assert "http" not in page
    ladder = page.split('aria-label="energies and weights"')[1].split("</svg>")[0]
    lengths = [float(end) - float(start) for start, end in re.findall(r'x1="([\d.]+)" x2="([\d.]+)"', ladder)]
    assert lengths == sorted(lengths, reverse=True)  # lines as long as the weights
    torsion = page.split('aria-label="angles of torsion')[1].split("</svg>")[0]
    heights = [float(height) for height in re.findall(r'height="([\d.]+)"', torsion)]
    assert sum(heights) == pytest.approx(125.0, abs=2.0)  # all the weight is in the bars


class Strict(HTMLParser):
    """Collects elements, and refuses what is not well formed or would be fetched."""

    def __init__(self):
        super().__init__()
        self.open, self.elements, self.texts = [], [], {}

    def handle_starttag(self, tag, attributes):
        self.handle_startendtag(tag, attributes)
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        assert tag not in ("link", "iframe", "img", "base", "object", "embed")
        names = [name for name, _ in attributes]
        assert len(names) == len({*names})
        assert not [name for name in names if name in ("src", "href", "srcset", "action", "style") or name.startswith("on")]
        self.elements.append((tag, dict(attributes), [*self.open]))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.setdefault(self.open[-1] if self.open else "", []).append(data)


def test_it_is_well_formed_and_fetches_nothing(ensemble):
    named = replace(ensemble, molecule=replace(ensemble.molecule, name='</script><b title="x">&amp;'), calculator="'\"<!--")
    page = ensemble_page(named)
    parser = Strict()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    assert not re.search(r"https?:|//[a-z]|url\(|@import|\bimport\b|fetch\(|XMLHttpRequest|eval\(", page)
    tags = [tag for tag, _, _ in parser.elements]
    assert [tags.count(tag) for tag in ("html", "head", "body", "script", "b")] == [1, 1, 1, 2, 0]
    ids = [attributes["id"] for _, attributes, _ in parser.elements if "id" in attributes]
    assert len(ids) == len({*ids})
    assert {*re.findall(r"getElementById\('(\w+)'\)", page)} <= {*ids}
    assert parser.texts["h1"] == [named.molecule.name]
    (style,) = ["".join(parser.texts["style"])]
    assert style.count("{") == style.count("}") > 10
    used = {*re.findall(r"var\((--\w+)\)", page)}
    assert used <= {*re.findall(r"(--\w+):", style)}


def test_its_conformers_are_those_of_the_ensemble(ensemble):
    page, n_atoms = ensemble_page(ensemble), len(ensemble.molecule.numbers)
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])
    places = np.array(data["positions"])
    assert places.shape == ensemble.positions.shape
    for shown, place in zip(places, ensemble.positions, strict=True):
        distances = [np.linalg.norm(one[:, None] - one[None], axis=2) for one in (shown, place)]
        assert distances[0] == pytest.approx(distances[1], abs=0.003)
        volumes = [np.linalg.det(one[[0, 2, 5]] - one[1]) for one in (shown, place)]
        assert volumes[0] == pytest.approx(volumes[1], abs=0.03)  # not its mirror image
        assert abs(volumes[1]) > 0.5
    assert np.linalg.norm(places, axis=2).max() < data["extent"]
    bonds = {(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()) for bond in ensemble.molecule.mol.GetBonds()}
    assert {(i, j) for i, j, _ in data["bonds"]} == bonds
    pictures = re.findall(r'<figure class="picture" data-conformer="(\d+)"><svg viewBox="0 0 120 120".*?</figure>', page)
    assert pictures == ["0", "1", "2"]
    for picture in page.split('<figure class="picture"')[1:]:
        svg = picture.split("</svg>")[0]
        circles = [tuple(map(float, found)) for found in re.findall(r'cx="([\d.-]+)" cy="([\d.-]+)" r="([\d.]+)"', svg)]
        assert len(circles) == n_atoms
        assert svg.count("<line ") == len(bonds)
        assert all(min(x, y) - r >= 0.0 and max(x, y) + r <= 120.0 for x, y, r in circles)
    cells = [re.findall("<td>(.*?)</td>", row) for row in page.split('<tr tabindex="0">')[1:]]
    rows = ensemble.rows()
    assert [float(row[1]) for row in cells] == [row["relative_energy"] for row in rows]
    assert [float(row[2]) for row in cells] == [row["weight_300K"] for row in rows]


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_its_script_draws_and_answers_the_user(ensemble, tmp_path):
    page = ensemble_page(ensemble)
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1]
    script = re.search(r"<script>(.*?)</script>", page, re.DOTALL)[1]
    browser = BROWSER.replace("DATA", json.dumps(data))
    (tmp_path / "page.js").write_text(browser + script + USER)
    done = subprocess.run(["node", "page.js"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    n_atoms, n_bonds = len(ensemble.molecule.numbers), ensemble.molecule.mol.GetNumBonds()
    assert json.loads(done.stdout) == [
        "Conformer 1; drag to turn it", n_atoms, n_atoms + n_bonds, "Conformer 2; drag to turn it", True, False, True, False,
        "Conformer 3; drag to turn it",
    ]  # fmt: skip
