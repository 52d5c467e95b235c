"""The numbers of a run, from its log."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from mlff_calc.dynamics.log import read_log
from mlff_calc.dynamics.observables.statistics import mean_with_error

_EQUILIBRATION = 0.2  # share of the rows left out of averages


def summarize(log: str | Path) -> dict[str, float]:
    """Averages of a run.

    The first fifth of the rows is left out of averages as equilibration, not of the drift. Errors are standard errors from
    block averages, so that correlated rows do not count as independent.

    Args:
        log: the file `log.csv`.

    Returns:
        Numbers by name, the unit part of the name: temperature_K and its error, drift, ms_per_step (median), and where the
        run has them pressure_GPa, volume_A3 with errors.
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
