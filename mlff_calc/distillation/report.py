"""The page of a run: learning curve, calibration, errors by element and system, failures, and where the time went."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlff_calc.distillation.labels import read_labels
from mlff_calc.distillation.recipe import DistillationRecipe
from mlff_calc.distillation.state import State
from mlff_calc.page import document
from mlff_calc.whole_files import write_whole

SHOWN = 10
"""Number of failures on the page."""
_WIDTH, _HEIGHT, _LEFT, _FOOT = 420, 220, 55, 30  # of a drawing and its margins, pixels
_STYLE = """
.row { display: flex; flex-wrap: wrap; gap: 1.5rem; } figure { margin: 0; }
figcaption { color: var(--dim); font-size: .85rem; } svg text { fill: var(--dim); font-size: 11px; }
.wide th, .wide td { width: auto; }
"""
Points = Sequence[tuple[float, float]]


def write_report(folder: Path, state: State, recipe: DistillationRecipe) -> Path:
    """Write `report.html` of a run that has ended; raises an OSError where that is not possible."""
    from mlff_calc.version import __version__

    plain, result = state.plain, state.plain.get("result", {})
    teacher = plain["teacher"]
    body = [
        f"<h1>{html.escape(', '.join(result.get('systems', {})) or 'Distillation')}</h1>",
        f"<p>Labels by {html.escape(teacher['name'])} ({html.escape(teacher['version'])}). Errors are those against "
        "the teacher; "
        "the teacher's own errors come on top.</p>",
        f"<p>The rounds ended because {html.escape(str(plain['stopped']))}.</p>",
        '<div class="row">',
        _figure("Error of forces (meV/Å) against the number of labels: line audit, dashes held out",
                _curve(state.rounds, "audit"), _curve(state.rounds, "held_out"), target=1000 * recipe.stop.target),
        _figure("Bound of the error against the spread of the last potential (eV/Å); the line across is the tolerance",
                _calibration(result), (), target=recipe.tolerance),
        "</div>",
        _rounds(state.rounds),
        _errors(result),
        _failures(folder),
        _times(plain["seconds"]),
        f"<footer>mlff_calc {__version__}</footer>",
    ]  # fmt: skip
    path = folder / "report.html"
    write_whole(path, document("Distillation", "\n".join(body), _STYLE))
    return path


def _curve(rounds: Sequence[dict[str, Any]], part: str) -> Points:
    return [(one["labels"], 1000.0 * one[part]["forces"]) for one in rounds if one[part]["forces"] is not None]


def _calibration(result: dict[str, Any]) -> Points:
    found = result.get("calibration", {"spreads": [], "bounds": []})
    return [(0.0, 0.0), *zip(found["spreads"], found["bounds"], strict=True)]


def _figure(words: str, line: Points, dashes: Points, target: float) -> str:
    """A drawing with one or two lines and a level."""
    every = [*line, *dashes]
    right = max((x for x, _ in every), default=1.0) or 1.0
    top = 1.1 * max([target, *(y for _, y in every)])

    def at(x: float, y: float) -> str:
        across = _LEFT + (_WIDTH - _LEFT - 10) * x / right
        return f"{across:.1f},{_HEIGHT - _FOOT - (_HEIGHT - _FOOT - 10) * y / top:.1f}"

    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" role="img" aria-label="{html.escape(words)}">']
    for share in (0.0, 0.5, 1.0):
        parts.append(f'<text x="2" y="{at(0, share * top).partition(",")[2]}">{share * top:.3g}</text>')
        anchor = "end" if share == 1.0 else "middle"
        across = at(share * right, 0).partition(",")[0]
        parts.append(f'<text x="{across}" y="{_HEIGHT - 8}" text-anchor="{anchor}">{share * right:.3g}</text>')
    parts.append(f'<polyline points="{at(0, target)} {at(right, target)}" fill="none" stroke="var(--line)"/>')
    for points, dash in ((line, ""), (dashes, ' stroke-dasharray="5 4"')):
        drawn = " ".join(at(x, y) for x, y in points)
        parts.append(f'<polyline points="{drawn}" fill="none" stroke="var(--mark)" stroke-width="2"{dash}/>')
        parts += [
            f'<circle cx="{at(x, y).replace(",", chr(34) + " cy=" + chr(34))}" r="3" fill="var(--mark)">'
            f"<title>{x:.4g}: {y:.4g}</title></circle>"
            for x, y in points
        ]
    return f"<figure>{''.join(parts)}</svg><figcaption>{html.escape(words)}</figcaption></figure>"


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    top = "".join(f"<th>{html.escape(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<h2>{html.escape(title)}</h2><table class="wide"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>'


def _milli(value: float | None) -> str:
    return "" if value is None else f"{1000.0 * value:.1f}"


def _rounds(rounds: Sequence[dict[str, Any]]) -> str:
    head = ("round", "labels", "failed", "held out, meV/Å", "audit, meV/Å", "audit errors within their bound",
            "candidates of frames", "trajectories that ended")  # fmt: skip
    rows = [
        (one["round"], one["labels"], one["failed"], _milli(one["held_out"]["forces"]), _milli(one["audit"]["forces"]),
         f"{one['covered']} of {one['n_audit']}" if one["n_audit"] else "",
         f"{one['candidates']} of {one['frames']}" if one["frames"] else "",
         "; ".join(f"{count} for {why}" for why, count in one["endings"].items()))
        for one in rounds
    ]  # fmt: skip
    return _table("Rounds", head, rows)


def _errors(result: dict[str, Any]) -> str:
    """Errors of the last potential."""
    rows = []
    for part, words in (("audit", "audit"), ("held_out", "held out")):
        found = result.get(part, {})
        if found.get("forces") is None:
            continue
        rows.append((words, "all", _milli(found["forces"]), _milli(found["energy"])))
        for kind in ("by_element", "by_system"):
            worst = sorted(found[kind].items(), key=lambda item: -item[1])
            rows += [(words, name, _milli(error), "") for name, error in worst]
    return _table("Errors of the potential", ("frames", "of", "forces, meV/Å", "energy, meV/atom"), rows)


def _failures(folder: Path) -> str:
    failed = read_labels(folder / "failed.extxyz")
    if not failed:
        return "<h2>Failures</h2><p>Every label was made.</p>"
    rows = [
        (atoms.info.get("round", ""), atoms.info.get("system", ""), atoms.info.get("reason", "")) for atoms in failed[:SHOWN]
    ]
    return _table(f"Failures: {len(failed)}, see failed.extxyz", ("round", "system", "reason"), rows)


def _times(seconds: dict[str, float]) -> str:
    total = sum(seconds.values()) or 1.0
    rows = [(phase, f"{spent:.1f} s", f"{100 * spent / total:.0f} %") for phase, spent in seconds.items()]
    return _table("Where the time went", ("part", "time", "share"), [*rows, ("all", f"{total:.1f} s", "100 %")])
