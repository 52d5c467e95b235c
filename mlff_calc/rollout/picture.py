"""A picture of a predicted motion: error bars, bond lengths and their spectrum, beside a reference where there is one."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mlff_calc.errors import OptionError
from mlff_calc.rollout.molecule import bond_lengths
from mlff_calc.rollout.trajectory import Trajectory
from mlff_calc.whole_files import write_whole

FloatArray = NDArray[np.float64]
LIGHT = 2.99792458e-5
"""Speed of light, cm/fs."""
MOST_BONDS, FASTEST = 6, 5000.0
"""Largest number of bonds that are drawn, and largest wavenumber, 1/cm; bonds to hydrogen reach 4000."""


def spectrum(times: FloatArray, values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Wavenumbers (1/cm) and power of values [n_times, n] at equal steps of time, summed over columns, without means."""
    centred = (values - values.mean(axis=0)) * np.hanning(len(values))[:, None]
    power = (np.abs(np.fft.rfft(centred, axis=0)) ** 2).sum(axis=1)
    return np.fft.rfftfreq(len(values), times[1] - times[0]) / LIGHT, power


def draw(found: Trajectory, bonds: list[list[int]], target: Path, reference: FloatArray | None = None) -> None:
    """Write the picture as PNG.

    Args:
        found: Predicted motion.
        bonds: Pairs of bonded atoms.
        target: PNG file.
        reference: Positions at the same times [n_times, n_atoms, 3], Angstrom; None for none.

    Raises:
        OptionError: The file is not a PNG file.
    """
    if target.suffix.lower() != ".png":
        raise OptionError(f"{target} ends with {target.suffix or 'nothing'}; pictures are written as .png")
    figure = Figure(figsize=(12.0, 4.0), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    pairs = torch.tensor(bonds)
    lengths = bond_lengths(torch.from_numpy(found.positions), pairs).numpy()
    known = None if reference is None else bond_lengths(torch.from_numpy(reference), pairs).numpy()
    for k in range(min(len(bonds), MOST_BONDS)):
        (line,) = left.plot(found.times, lengths[:, k], label="-".join(map(str, bonds[k])))
        if known is not None:
            left.plot(found.times, known[:, k], "--", color=line.get_color(), linewidth=0.8)
    left.set(xlabel="time (fs)", ylabel="bond length (Å)", title="dashed: reference" if known is not None else "")
    left.legend(frameon=False, fontsize=8)
    steps = np.diff(found.times)
    if len(steps) >= 15 and np.allclose(steps, steps[0], rtol=1e-6):
        middle.plot(*spectrum(found.times, lengths), label="rollout")
        if known is not None:
            middle.plot(*spectrum(found.times, known), "--", label="reference")
        middle.set_xlim(0.0, FASTEST)
        middle.legend(frameon=False)
    else:
        text = "a spectrum needs 16\nequally spaced times"
        middle.text(0.5, 0.5, text, ha="center", va="center", transform=middle.transAxes)
    middle.set(xlabel="wavenumber (1/cm)", ylabel="power of bond lengths")
    right.plot(found.times, np.sqrt((found.sigma**2).mean(axis=1)), label="sigma")
    if reference is not None:
        right.plot(found.times, np.sqrt(((found.positions - reference) ** 2).mean(axis=(1, 2))), "--", label="error")
    right.set(xlabel="time (fs)", ylabel="per component (Å)")
    right.legend(frameon=False)
    for axes in (left, middle, right):
        axes.grid(alpha=0.3)
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    write_whole(target, buffer.getvalue())
