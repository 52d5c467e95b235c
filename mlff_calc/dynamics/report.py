"""Report of a run: one HTML page that opens offline, with settings, results, timings and a plot."""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlff_calc.dynamics.ensembles import ACTS_IN
from mlff_calc.dynamics.files import write_atomically
from mlff_calc.dynamics.folder import LOG, PLOT, REPORT, STATE, TRAJECTORY
from mlff_calc.dynamics.options import from_dict
from mlff_calc.dynamics.plot import plot_run
from mlff_calc.dynamics.state import RunState, load_state
from mlff_calc.dynamics.summary import summarize
from mlff_calc.page import document

_LOOKS = ("n_looks", "n_outside")
_OF_FIXED_POINTS = (
    "n_forward", "n_adjoint", "n_cold", "cold_forward", "cold_adjoint", "n_repeats", "n_retries", "residual",
    "adjoint_residual",
)  # fmt: skip
"""Times and counts of a calculator that only potentials with a fixed point have."""


def write_report(folder: str | Path, *, timing: Mapping[str, float] | None = None, stopped: str | None = None) -> Path:
    """Write `energies.png` and `report.html` for the run in a folder.

    Args:
        folder: Output folder of a run.
        timing: Times and counts of the calculator by name (`calc.stats.as_dict()`), for the last part of the run.
        stopped: Reason why the run was stopped; None where it was not.

    Returns:
        The path of the page.

    Raises:
        SimulationError: The folder holds no run, or the disk refuses.
    """
    from mlff_calc.version import __version__

    folder = Path(folder)
    state = load_state(folder / STATE)
    ensemble, options = from_dict(state.options)
    target = None if ensemble.ensemble == "nve" else ensemble.temperature_K
    png = plot_run(folder / LOG, len(state.atoms), target)
    write_atomically(folder / PLOT, png)
    numbers = summarize(folder / LOG)
    formula = state.atoms.get_chemical_formula()
    how, grade = _how_it_ended(state, options.steps, stopped)
    sections = [
        f'<h1>{_text(formula)}, {_text(ensemble.ensemble)}</h1><p class="state {grade}">{_text(how)}</p>',
        *([] if state.outside is None else [f'<p class="bad">{_text(outside_text(state))}</p>']),
        _section("Results", {**_results(numbers, state), **_looks(timing)}),
        "<h2>Energies and temperature</h2>"
        f'<img alt="energies and temperature over time" src="data:image/png;base64,{base64.b64encode(png).decode()}">',
        _section("Where the time went", _timing(state, timing)),
        _section("Settings", {"atoms": len(state.atoms), "pbc": state.atoms.pbc.tolist(), **_acting(state.options)}),
        f"<footer>mlff_calc {_text(__version__)}. Frames: {TRAJECTORY}; rows: {LOG}; the temperature counts the degrees of "
        "freedom that move; averages leave out the first fifth of the run, errors are from block averages.</footer>",
    ]
    page = document(f"{formula} {ensemble.ensemble}", "\n" + "\n".join(sections) + "\n")
    write_atomically(folder / REPORT, page.encode())
    return folder / REPORT


def outside_text(state: RunState) -> str:
    """Describe where the structure left the training data, in sentences; empty for a run that stayed inside."""
    found = state.outside
    if found is None:
        return ""
    times = "once" if found.n == 1 else f"in {found.n} checks"
    latest = f" Last, at step {found.last_step}: {found.last}." if found.n > 1 else ""
    end = " The last frame is outside." if found.last_step == state.step else ""
    return (
        f"Outside the training data {times}. First, at step {found.first_step}: {found.first}.{latest}{end} Energies and "
        "forces are a guess there."
    )


def _how_it_ended(state: RunState, steps: int, stopped: str | None) -> tuple[str, str]:
    if stopped is not None:
        return stopped, "bad"
    if state.step < steps:
        return f"Interrupted: {state.step} of {steps} steps made. Go on with --resume.", "bad"
    if state.outside is not None:
        return f"Complete: {steps} steps, not all of them like the training data.", "bad"
    return f"Complete: {steps} steps.", "good"


def _results(numbers: Mapping[str, float], state: RunState) -> dict[str, Any]:
    """Return the rows of the table of results: names with units, values with errors."""
    rows: dict[str, Any] = {"simulated time (ps)": f"{numbers.get('time_ps', 0.0):g}"}
    for key, name, digits in (
        ("drift_meV_per_atom_ps", "drift of the conserved energy (meV/atom/ps)", 4),
        ("temperature_K", "mean temperature (K)", 1),
        ("pressure_GPa", "mean pressure (GPa)", 4),
        ("volume_A3", "mean volume (Å³)", 3),
    ):
        if key in numbers:
            error = numbers.get(f"{key}_error", math.nan)
            rows[name] = f"{numbers[key]:.{digits}f}" + ("" if math.isnan(error) else f" ± {error:.{digits}f}")
    rows["rows in the log"] = int(numbers.get("rows", 0))
    rows["frames in the trajectory"] = state.trajectory.n_frames
    return rows


def _looks(timing: Mapping[str, float] | None) -> dict[str, str]:
    """Return how often the structure was compared with the training data in the last part of the run."""
    if not timing or not timing.get("n_looks"):
        return {}
    return {"outside the training data, last part of the run": f"{timing['n_outside']:g} of {timing['n_looks']:g} checks"}


def _acting(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that have an effect in this ensemble."""
    idle = {name for name, ensembles in ACTS_IN.items() if options["ensemble"] not in ensembles}
    if options.get("respa", 1) == 1:
        idle |= {"respa", "respa_evaluations"}
    return {name: value for name, value in options.items() if name not in idle}


def _timing(state: RunState, timing: Mapping[str, float] | None) -> dict[str, str]:
    rows = {"all steps (s)": f"{state.wall_s:.2f}"}
    if state.step:
        rows["mean time per step (ms)"] = f"{1000.0 * state.wall_s / state.step:.3f}"
    calls = max((timing or {}).get("n_calls", 0), 1)
    solves = (timing or {}).get("n_forward", 0)
    for name, value in (timing or {}).items():
        if name in _LOOKS or (name in _OF_FIXED_POINTS and not solves):
            continue
        if name.endswith("_s"):
            rows[f"{name[:-2].replace('_', ' ')} (ms per call)"] = f"{1000.0 * value / calls:.3f}"
        else:
            rows[name.removeprefix("n_").replace("_", " ")] = f"{value:g}"
    return rows


def _section(title: str, rows: Mapping[str, Any]) -> str:
    body = "\n".join(f"<tr><th>{_text(name)}</th><td>{_text(value)}</td></tr>" for name, value in rows.items())
    return f"<h2>{_text(title)}</h2>\n<table>\n{body}\n</table>"


def _text(value: Any) -> str:
    return html.escape("–" if value is None else str(value))
