"""Averages of a run, computed from its log."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from mlff_calc.dynamics.log import read_log
from mlff_calc.dynamics.observables.statistics import mean_with_error

_EQUILIBRATION = 0.2  # fraction of the rows left out of averages; a larger value removes more of the equilibration


def summarize(log: str | Path) -> dict[str, float]:
    """Compute averages of a run.

    The averages leave out the first fifth of the rows as equilibration; the drift uses all rows. Errors are standard errors
    from block averages, which account for the correlation of rows.

    Args:
        log: File `log.csv`.

    Returns:
        Numbers by names with units: temperature_K with its error, drift, ms_per_step (the median), and if the run has them
        pressure_GPa and volume_A3 with their errors.
    """
    table = read_log(log)
    n_rows = len(table["step"])
    if n_rows == 0:
        return {}
    kept = slice(int(_EQUILIBRATION * n_rows), None)
    numbers = {"steps": float(table["step"][-1]), "time_ps": float(table["time_ps"][-1]), "rows": float(n_rows)}
    for name in ("temperature_K", "pressure_GPa", "volume_A3"):
        values = table[name][kept]
        if np.isfinite(values).all():
            numbers[name], numbers[f"{name}_error"] = mean_with_error(values)
    drift = float(table["drift_meV_per_atom_ps"][-1])
    if not math.isnan(drift):
        numbers["drift_meV_per_atom_ps"] = drift
    times = table["ms_per_step"][np.isfinite(table["ms_per_step"])]
    if len(times):
        numbers["ms_per_step"] = float(np.median(times))
    return numbers
