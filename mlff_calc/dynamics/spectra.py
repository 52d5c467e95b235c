"""Spectra of a run: density of vibrational states, and infrared absorption where frames have dipoles."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.geometry import find_mic
from ase.io import read
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.signal import find_peaks

from mlff_calc.dynamics.folder import STATE, TRAJECTORY
from mlff_calc.dynamics.observables import infrared_spectrum, velocities_of, vibrational_spectrum
from mlff_calc.dynamics.observables.vibrations import PER_FS_IN_PER_CM
from mlff_calc.dynamics.options import from_dict
from mlff_calc.dynamics.state import load_state
from mlff_calc.errors import OptionError

COARSE = 0.3
"""Mismatch of displacements and velocities above which frames are too far apart. Raising it warns later."""
PROMINENT = 0.02
"""Height of a peak above its surroundings, relative to the highest, from which it is listed; raising it lists fewer."""


@dataclass(frozen=True)
class Spectra:
    """Spectra of a trajectory.

    Attributes:
        interval_fs: Time between frames.
        n_frames: Number of frames.
        wave_numbers: Wave numbers by spectrum, cm^-1.
        densities: Densities by spectrum (`power`, and `infrared` where frames have dipoles), of integral one.
        mismatch: See `mismatch_of`.
    """

    interval_fs: float
    n_frames: int
    wave_numbers: Mapping[str, np.ndarray]
    densities: Mapping[str, np.ndarray]
    mismatch: float

    @property
    def warning(self) -> str:
        """What is wrong with the spectra, and the cure; empty where nothing is."""
        if self.mismatch <= COARSE:
            return ""
        return (
            f"frames every {self.interval_fs:g} fs are too far apart for the fastest vibrations: what lies above "
            f"{0.5 * PER_FS_IN_PER_CM / self.interval_fs:.0f} 1/cm appears at wrong, lower wave numbers. Write frames more "
            "often (--traj-interval of mlff md; 4 fs or less with hydrogen)"
        )

    def peaks(self, name: str, highest: float = 5000.0) -> list[tuple[float, float]]:
        """Wave number (cm^-1) and height relative to the highest of each peak of a spectrum, up to a wave number."""
        x, y = self.wave_numbers[name], self.densities[name]
        y = y[x <= highest] / max(float(y[x <= highest].max()), 1e-300)
        return [(float(x[k]), float(y[k])) for k in find_peaks(y, prominence=PROMINENT)[0]]

    def as_dict(self) -> dict[str, Any]:
        """Return numbers of frames and peaks, ready for JSON."""
        peaks = {
            name: [{"cm-1": round(x, 1), "height": round(y, 4)} for x, y in self.peaks(name)] for name in self.densities
        }
        return {"frames": self.n_frames, "interval_fs": self.interval_fs, "peaks": peaks, "warning": self.warning}

    def table(self, name: str) -> str:
        """Return a spectrum as text with two columns."""
        rows = zip(self.wave_numbers[name], self.densities[name], strict=True)
        return "wave_number_per_cm,density_cm\n" + "".join(f"{x:.3f},{y:.6e}\n" for x, y in rows)

    def picture(self, highest: float = 4500.0) -> bytes:
        """Draw all spectra up to a wave number (cm^-1); returns the content of a PNG file."""
        figure = Figure(figsize=(8.0, 2.6 * len(self.densities)), dpi=120, layout="constrained")
        FigureCanvasAgg(figure)
        axes = np.atleast_1d(figure.subplots(len(self.densities), 1, sharex=True))
        for one, (name, y) in zip(axes, self.densities.items(), strict=True):
            x = self.wave_numbers[name]
            one.plot(x[x <= highest], y[x <= highest], color="#4269d0", linewidth=1.0)
            one.set_ylabel(f"{name} (cm)")
            one.grid(visible=True, linewidth=0.3)
            for place, height in self.peaks(name, highest):
                one.annotate(f"{place:.0f}", (place, height * y[x <= highest].max()), fontsize=7, ha="center")
        axes[-1].set_xlabel("wave number (cm$^{-1}$)")
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
        return buffer.getvalue()


def spectra_of(
    path: Path, *, interval_fs: float | None = None, skip_ps: float = 0.0, max_lag_fs: float | None = None
) -> Spectra:
    """Compute the spectra of a run or trajectory.

    Args:
        path: Output folder of a run of `mlff md`, or a trajectory that ASE reads.
        interval_fs: Time between frames; None takes that of the run.
        skip_ps: Time at the beginning that is left out.
        max_lag_fs: Longest lag, see `vibrational_spectrum`.

    Raises:
        OptionError: The path does not exist or cannot be read, the interval is not known, frames have no momenta or are of
            several structures, or they are too few.
        SimulationError: The folder holds no run.
    """
    frames, interval = _frames(path, interval_fs)
    frames = frames[round(1000.0 * skip_ps / interval) :]
    if len(frames) < 8:
        raise OptionError(f"{path}: {len(frames)} frames remain, too few for a spectrum; give a longer run, or skip less")
    if any(not np.array_equal(atoms.numbers, frames[0].numbers) for atoms in frames):
        raise OptionError(f"{path}: its frames hold several structures; a spectrum needs the trajectory of one")
    found = {
        "power": vibrational_spectrum(
            velocities_of(frames), interval, masses=frames[0].get_masses(), max_lag_fs=max_lag_fs
        )
    }
    dipoles = [None if atoms.calc is None else atoms.calc.results.get("dipole") for atoms in frames]
    if all(dipole is not None for dipole in dipoles):
        found["infrared"] = infrared_spectrum(np.array(dipoles), interval, max_lag_fs=max_lag_fs)
    wave_numbers, densities = ({name: pair[k] for name, pair in found.items()} for k in range(2))
    return Spectra(interval, len(frames), wave_numbers, densities, mismatch_of(frames, interval))


def mismatch_of(frames: Sequence[Atoms], interval_fs: float) -> float:
    """How much displacements between frames differ from what the velocities at both ends tell, relative to these.

    For a vibration it is 0.05 with eight frames in a period, 0.19 with four, and 0.64 with two, where frequencies begin
    to be folded. It is the root mean square over atoms, directions and pairs of frames.
    """
    velocities = units.fs * velocities_of(frames)
    moved = [frames[k + 1].positions - frames[k].positions for k in range(len(frames) - 1)]
    moved = [find_mic(one, frames[k].cell, frames[k].pbc)[0] if frames[k].pbc.any() else one for k, one in enumerate(moved)]
    expected = 0.5 * (velocities[1:] + velocities[:-1])
    size = float(np.sqrt(np.mean(velocities**2)))
    return float(np.sqrt(np.mean((np.array(moved) / interval_fs - expected) ** 2))) / max(size, 1e-300)


def _frames(path: Path, interval_fs: float | None) -> tuple[list[Atoms], float]:
    """Read frames and the time between them (fs); raises as `spectra_of` does."""
    if not path.exists():
        raise OptionError(f"there is no run or trajectory {path}; check the spelling")
    file = path
    if path.is_dir():
        ensemble, options = from_dict(load_state(path / STATE).options)
        file = path / TRAJECTORY
        interval_fs = interval_fs or ensemble.timestep_fs * ensemble.respa * options.traj_interval
    if interval_fs is None:
        raise OptionError(f"{path} does not say the time between its frames; give --interval, in fs")
    try:
        frames = read(file, ":")
    except Exception as error:
        raise OptionError(f"{file} cannot be read as a trajectory: {error}") from error
    return frames, interval_fs
