"""`mlff spectrum`: power and infrared spectra of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from mlff_calc.cli import options


def spectrum(
    run: Annotated[Path, typer.Argument(help="Output folder of a run of `mlff md`, or a trajectory with momenta.")],
    interval: Annotated[
        float | None,
        typer.Option("--interval", help="Time between frames, fs; by default that of the run.", show_default=False),
    ] = None,
    skip: Annotated[float, typer.Option("--skip", help="Time at the beginning to leave out, ps.", min=0.0)] = 0.0,
    max_lag: Annotated[
        float | None,
        typer.Option(
            "--max-lag", help="Longest lag, fs: peaks nearer than 33000 / lag 1/cm merge. By default half of the run."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder for the spectra (CSV) and their picture; by default the run's."),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Compute the density of vibrational states of a run and, where its frames have dipoles, the infrared spectrum.

    The frames must be close: the fastest vibration needs several in a period (`--traj-interval` of `mlff md`).
    """
    from mlff_calc.dynamics.spectra import spectra_of
    from mlff_calc.errors import OptionError
    from mlff_calc.whole_files import write_whole

    for name, value in (("--interval", interval), ("--max-lag", max_lag)):
        if value is not None and not value > 0.0:
            raise OptionError(f"{name} is {value:g}; give a positive time in fs")
    found = spectra_of(run, interval_fs=interval, skip_ps=skip, max_lag_fs=max_lag)
    folder = output or (run if run.is_dir() else run.parent)
    folder.mkdir(parents=True, exist_ok=True)
    for name in found.densities:
        write_whole(folder / f"spectrum_{name}.csv", found.table(name))
    write_whole(folder / "spectrum.png", found.picture())
    if found.warning:
        typer.echo(f"warning: {found.warning}", err=True)
    if as_json:
        typer.echo(json.dumps(found.as_dict(), indent=2))
        return
    typer.echo(f"{found.n_frames} frames every {found.interval_fs:g} fs")
    for name in found.densities:
        peaks = ", ".join(f"{place:.0f} ({height:.2f})" for place, height in found.peaks(name))
        typer.echo(f"{name}: peaks in 1/cm (and height): {peaks or 'none'}")
    if "infrared" not in found.densities:
        typer.echo("no infrared spectrum: the frames have no dipoles, which this calculator does not give")
    typer.echo(f"written: {folder}/spectrum.png and the values as CSV")
