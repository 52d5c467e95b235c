"""A page about an ensemble that opens offline: energies and weights, torsions, and the conformers to turn around."""

from __future__ import annotations

import html
import json

import numpy as np
from ase.data import covalent_radii
from ase.data.colors import jmol_colors

from mlff_calc.page import document
from mlff_calc.sampling.ensemble import Ensemble
from mlff_calc.sampling.systems import FloatArray
from mlff_calc.sampling.torsions import rotatable_torsions, torsion_angles

BINS = 36
"""Number of bars of a histogram of a torsion. Raising it shows narrower peaks."""
PICTURES = 12
"""Largest number of conformers with a picture. Raising it makes the page longer."""
_WIDTH, _HEIGHT, _PICTURE = 360, 150, 120  # of a drawing, pixels

_WEIGHTED_BY = {
    "energy": "energies",
    "torsions": "free energies (hindered rotors)",
    "rrho": "free energies (rigid rotor, harmonic oscillators)",
}
_STYLE = """
.row { display: flex; flex-wrap: wrap; gap: 1.5rem; } figure { margin: 0; }
figcaption { color: var(--dim); font-size: .85rem; }
svg { max-width: 100%; height: auto; } svg text { fill: var(--dim); font-size: 11px; }
canvas { border: 1px solid var(--line); border-radius: 6px; touch-action: none; cursor: grab; max-width: 100%; }
#conformers th, #conformers td { width: auto; padding: .2rem .5rem; } #conformers tbody tr { cursor: pointer; }
#conformers tbody tr:focus, #conformers tr.shown { outline: 2px solid var(--mark); outline-offset: -2px; }
.picture { cursor: pointer; } .scroll { max-height: 24rem; overflow: auto; }
"""

_SCRIPT = """
const data = JSON.parse(document.getElementById('data').textContent);
const canvas = document.getElementById('view'), pen = canvas.getContext('2d');
let shown = 0, turn = [[1, 0, 0], [0, 1, 0], [0, 0, 1]];
const times = (a, b) => a.map(r => b[0].map((_, j) => r.reduce((s, x, k) => s + x * b[k][j], 0)));
function draw() {
  const places = data.positions[shown].map(p => turn.map(r => r[0] * p[0] + r[1] * p[1] + r[2] * p[2]));
  const half = canvas.width / 2, size = 0.42 * canvas.width / data.extent;
  const at = p => [half + size * p[0], canvas.height / 2 - size * p[1]];
  pen.clearRect(0, 0, canvas.width, canvas.height);
  const parts = data.bonds.map(([i, j, order]) => [(places[i][2] + places[j][2]) / 2 - 0.2, () => {
    const a = at(places[i]), b = at(places[j]);
    pen.strokeStyle = '#8a9099'; pen.lineWidth = size * (order > 1 ? 0.26 : 0.16);
    pen.beginPath(); pen.moveTo(...a); pen.lineTo(...b); pen.stroke();
  }]);
  places.forEach((p, k) => parts.push([p[2], () => {
    const [x, y] = at(p), radius = size * data.radii[k];
    const shade = pen.createRadialGradient(x - radius / 3, y - radius / 3, radius / 8, x, y, radius);
    shade.addColorStop(0, '#ffffff'); shade.addColorStop(0.35, data.colours[k]); shade.addColorStop(1, data.colours[k]);
    pen.fillStyle = shade; pen.strokeStyle = '#50565e'; pen.lineWidth = 1;
    pen.beginPath(); pen.arc(x, y, radius, 0, 7); pen.fill(); pen.stroke();
  }]));
  parts.sort((a, b) => a[0] - b[0]).forEach(part => part[1]());
}
function show(number) {
  shown = number;
  document.querySelectorAll('#conformers tbody tr').forEach((row, k) => row.classList.toggle('shown', k === number));
  document.getElementById('caption').textContent = `Conformer ${number + 1}; drag to turn it`;
  draw();
}
let last = null;
canvas.addEventListener('pointerdown', e => { last = [e.clientX, e.clientY]; canvas.setPointerCapture(e.pointerId); });
canvas.addEventListener('pointerup', () => { last = null; });
canvas.addEventListener('pointermove', e => {
  if (!last) return;
  const a = (e.clientX - last[0]) / 100, b = (e.clientY - last[1]) / 100; last = [e.clientX, e.clientY];
  const y = [[Math.cos(a), 0, Math.sin(a)], [0, 1, 0], [-Math.sin(a), 0, Math.cos(a)]];
  const x = [[1, 0, 0], [0, Math.cos(b), -Math.sin(b)], [0, Math.sin(b), Math.cos(b)]];
  turn = times(x, times(y, turn)); draw();
});
document.querySelectorAll('#conformers tbody tr').forEach((row, k) => {
  row.addEventListener('click', () => show(k));
  row.addEventListener('keydown', e => { if (e.key === 'Enter') show(k); });
});
document.querySelectorAll('.picture').forEach(figure => {
  figure.addEventListener('click', () => show(Number(figure.dataset.conformer)));
});
show(0);
"""


def ensemble_page(ensemble: Ensemble) -> str:
    """The page of an ensemble, with everything inside."""
    from mlff_calc.version import __version__

    molecule = ensemble.molecule
    body = [
        f"<h1>{html.escape(molecule.name)}</h1>",
        *(f"<p>{html.escape(line)}</p>" for line in ensemble.summary().splitlines()[:2]),
        *(f'<p class="bad">{html.escape(text)}</p>' for text in ensemble.warnings()),
        '<div class="row"><figure><canvas id="view" width="360" height="320" role="img" '
        'aria-label="the chosen conformer"></canvas><figcaption id="caption"></figcaption></figure>',
        f"<figure>{_ladder(ensemble)}<figcaption>Energies above the lowest (kcal/mol); the length of a line is the weight "
        f"at {ensemble.temperature:g} K</figcaption></figure></div>",
        "<h2>Conformers</h2>",
        _pictures(ensemble),
        _table(ensemble),
        _torsions(ensemble),
        _problems(ensemble),
        f"<footer>mlff_calc {__version__}. Weights are Boltzmann weights of "
        f"{_WEIGHTED_BY[ensemble.weighted_by]} of minima; conformers that the search missed have none.</footer>",
        f'<script type="application/json" id="data">{_data(ensemble)}</script><script>{_SCRIPT}</script>',
    ]
    return document(f"{molecule.name}: {len(ensemble)} conformers", "\n".join(body), _STYLE)


def _pictures(ensemble: Ensemble) -> str:
    """Pictures of the conformers with the largest weights, as they lie; a click shows one."""
    bonds = [(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()) for bond in ensemble.molecule.mol.GetBonds()]
    places = _aligned_all(ensemble)
    radii = np.array([_radius(z) for z in ensemble.molecule.numbers])
    scale = 0.48 * _PICTURE / (np.abs(places[:, :, :2]) + radii[:, None]).max(initial=1.5)  # whole circles are inside
    figures = []
    for number in sorted(np.argsort(-ensemble.weights, kind="stable")[:PICTURES].tolist()):
        screen = 0.5 * _PICTURE + scale * places[number, :, :2] * (1.0, -1.0)
        parts = [
            (
                0.5 * (places[number, i, 2] + places[number, j, 2]) - 0.2,
                f'<line x1="{screen[i, 0]:.1f}" y1="{screen[i, 1]:.1f}" x2="{screen[j, 0]:.1f}" y2="{screen[j, 1]:.1f}" '
                'stroke="#8a9099" stroke-width="3"/>',
            )
            for i, j in bonds
        ]
        for k, z in enumerate(ensemble.molecule.numbers):
            parts.append((
                places[number, k, 2],
                f'<circle cx="{screen[k, 0]:.1f}" cy="{screen[k, 1]:.1f}" r="{scale * _radius(z):.1f}" fill="{_colour(z)}" '
                'stroke="#50565e"/>',
            ))  # fmt: skip
        drawn = "".join(text for _, text in sorted(parts, key=lambda part: part[0]))
        name = f"{number + 1}: {100 * ensemble.weights[number]:.1f} %"
        figures.append(
            f'<figure class="picture" data-conformer="{number}"><svg viewBox="0 0 {_PICTURE} {_PICTURE}" width="{_PICTURE}" '
            f'role="img" aria-label="conformer {number + 1}">{drawn}</svg><figcaption>{name}</figcaption></figure>'
        )
    return f'<div class="row">{"".join(figures)}</div>'


def _radius(z: int) -> float:
    """Radius of an atom on the screen, Angstrom."""
    return round(float(0.25 + 0.25 * covalent_radii[z]), 3)


def _colour(z: int) -> str:
    """Colour of an atom."""
    return "#" + "".join(f"{round(255 * part):02x}" for part in jmol_colors[z])


def _aligned_all(ensemble: Ensemble) -> FloatArray:
    """Positions [n_conformers, n_atoms, 3], each turned so that its longest way lies across the screen."""
    masses = np.ones(len(ensemble.molecule.numbers))
    return np.array([_aligned(place, masses) for place in ensemble.positions])


def _data(ensemble: Ensemble) -> str:
    """What the script draws, as JSON that cannot end the element it stands in."""
    places, numbers = _aligned_all(ensemble), ensemble.molecule.numbers
    bonds = [
        [bond.GetBeginAtomIdx(), bond.GetEndAtomIdx(), bond.GetBondTypeAsDouble()]
        for bond in ensemble.molecule.mol.GetBonds()
    ]
    found = {
        "positions": np.round(places, 3).tolist(),
        "bonds": bonds,
        "radii": [_radius(z) for z in numbers],
        "colours": [_colour(z) for z in numbers],
        "extent": float(np.linalg.norm(places, axis=2).max() + 0.6),
    }
    return json.dumps(found).replace("<", "\\u003c")


def _aligned(place: FloatArray, masses: FloatArray) -> FloatArray:
    """Positions about their centre, the longest way across the screen."""
    centred = place - (masses[:, None] * place).sum(axis=0) / masses.sum()
    axes = np.linalg.eigh(centred.T @ centred)[1][:, ::-1]
    axes[:, 2] = np.cross(axes[:, 0], axes[:, 1])  # no mirror image
    return centred @ axes


def _ladder(ensemble: Ensemble) -> str:
    """Lines at the energies, as long as the weights."""
    energies, weights = ensemble.relative_energies, ensemble.weights
    top, left = max(float(energies.max()), 1.0), 40
    height = 2 * _HEIGHT
    parts = [f'<svg viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" role="img" aria-label="energies and weights">']
    for tick in np.linspace(0.0, top, 5):
        y = height - 15 - (height - 30) * tick / top
        parts.append(f'<text x="2" y="{y + 4:.1f}">{tick:.1f}</text>')
    for energy, weight in zip(energies, weights, strict=True):
        y = height - 15 - (height - 30) * energy / top
        length = 8 + (_WIDTH - left - 20) * weight / max(float(weights.max()), 1e-12)
        parts.append(
            f'<line x1="{left}" x2="{left + length:.1f}" y1="{y:.1f}" y2="{y:.1f}" stroke="var(--mark)" stroke-width="2">'
            f"<title>{energy:.2f} kcal/mol, weight {weight:.3f}</title></line>"
        )
    return "".join(parts) + "</svg>"


def _table(ensemble: Ensemble) -> str:
    """All conformers; a click shows one."""
    names = {
        "conformer": "", "relative_energy": "kcal/mol", ensemble.weight_name: "weight", "rmsd_to_lowest": "RMSD, Å",
        "converged": "converged", "source": "from",
    }  # fmt: skip
    if ensemble.free_energies is not None:
        names["relative_free_energy"] = "free energy"
    head = "".join(f"<th>{html.escape(name)}</th>" for name in names.values())
    rows = []
    for row in ensemble.rows():
        cells = [("yes" if row[name] else "no") if name == "converged" else row[name] for name in names]
        rows.append('<tr tabindex="0">' + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in cells) + "</tr>")
    return (
        f'<div class="scroll"><table id="conformers"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _torsions(ensemble: Ensemble) -> str:
    """Weighted histograms of the angles of all bonds that can turn."""
    figures = []
    for torsion in rotatable_torsions(ensemble.molecule):
        angles = torsion_angles(ensemble.positions, torsion)
        heights, _ = np.histogram(angles, bins=BINS, range=(-180.0, 180.0), weights=ensemble.weights)
        width = _WIDTH / BINS
        bars = "".join(
            f'<rect x="{k * width:.1f}" width="{width - 1:.1f}" y="{_HEIGHT - 15 - height * (_HEIGHT - 25):.1f}" '
            f'height="{height * (_HEIGHT - 25):.1f}" fill="var(--mark)"/>'
            for k, height in enumerate(heights)
        )
        axis = "".join(
            f'<text x="{x:.0f}" y="{_HEIGHT - 2}" text-anchor="{anchor}">{angle}°</text>'
            for x, angle, anchor in ((0, -180, "start"), (_WIDTH / 2, 0, "middle"), (_WIDTH, 180, "end"))
        )
        symbols = [ensemble.molecule.mol.GetAtomWithIdx(k).GetSymbol() for k in torsion]
        name = "-".join(f"{symbol}{k}" for symbol, k in zip(symbols, torsion, strict=True))
        figures.append(
            f'<figure><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" role="img" '
            f'aria-label="angles of torsion {name}">{bars}{axis}</svg><figcaption>{name}</figcaption></figure>'
        )
    return "" if not figures else f'<h2>Torsions</h2><div class="row">{"".join(figures)}</div>'


def _problems(ensemble: Ensemble) -> str:
    """What failed or changed, most frequent first."""
    if not ensemble.problems:
        return ""
    items = sorted(ensemble.problems.items(), key=lambda item: -item[1])
    rows = "".join(f"<tr><th>{html.escape(text)}</th><td>{number}</td></tr>" for text, number in items)
    return f"<h2>Structures that were left out</h2><table>{rows}</table>"
