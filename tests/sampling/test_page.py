"""The page of an ensemble as a browser runs it: its script in node, with a document that notes what is drawn."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import numpy as np
import pytest

pytest.importorskip("rdkit")

from mlff_calc.sampling.embed import embed
from mlff_calc.sampling.ensemble import Ensemble
from mlff_calc.sampling.molecules import read_molecules
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
