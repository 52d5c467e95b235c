"""A picture of a run: energies and temperature over time."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mlff_calc.dynamics.log import read_log

_COLOURS = ("#4269d0", "#e07b39", "#3a9d6a", "#9467bd")


def plot_run(log: str | Path, n_atoms: int, target_K: float | None = None) -> bytes:
    """Draw energies per atom, relative to their first values, and the temperature.

    Args:
        log: File `log.csv`.
        n_atoms: Number of atoms.
        target_K: Temperature of the thermostat, which is drawn as a line; None without a thermostat.

    Returns:
        The content of a PNG file.
    """
    table = read_log(log)
    time_ps = table["time_ps"]
    figure = Figure(figsize=(8.0, 6.0), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    energies, temperature = figure.subplots(2, 1, sharex=True)
    for name, label, colour in (
        ("potential_eV", "potential", _COLOURS[0]),
        ("kinetic_eV", "kinetic", _COLOURS[1]),
        ("total_eV", "total", _COLOURS[2]),
        ("conserved_eV", "conserved", _COLOURS[3]),
    ):
        values = table[name]
        same = name == "conserved_eV" and np.array_equal(values, table["total_eV"])
        if len(values) and np.isfinite(values).all() and not same:
            energies.plot(time_ps, 1000.0 * (values - values[0]) / n_atoms, label=label, color=colour, linewidth=1.0)
    energies.set_ylabel("energy − first value (meV/atom)")
    energies.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), frameon=False, ncols=4)
    temperature.plot(time_ps, table["temperature_K"], color=_COLOURS[1], linewidth=1.0)
    if target_K is not None:
        temperature.axhline(target_K, color="0.3", linewidth=0.8, linestyle="--")
    temperature.set_ylabel("temperature (K)")
    temperature.set_xlabel("time (ps)")
    for axes in (energies, temperature):
        axes.grid(visible=True, linewidth=0.3)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
