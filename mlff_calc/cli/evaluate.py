"""`mlff eval`: errors of a potential on labelled structures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from mlff_calc.cli import options


def evaluate(
    potential: options.Potential,
    data: options.DataFile,
    as_json: options.Json = False,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Write a parity plot (PNG) to this file.", show_default=False)
    ] = None,
    part: Annotated[
        str | None, typer.Option("--part", help="Part of an rMD17 archive: train or test.", show_default=False)
    ] = None,
    energy_key: Annotated[
        str | None, typer.Option("--energy-key", help="Name of the energy in the file.", show_default=False)
    ] = None,
    forces_key: Annotated[
        str | None, typer.Option("--forces-key", help="Name of the forces in the file.", show_default=False)
    ] = None,
    stress_key: Annotated[
        str | None, typer.Option("--stress-key", help="Name of the stress in the file.", show_default=False)
    ] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", help="Structures evaluated at once.", min=1)] = 16,
    device: options.Device = "auto",
    precision: options.Precision = options.PrecisionName.float32,
) -> None:
    """Mean absolute and root mean square errors: per property, per element and per kind of configuration.

    Energies in meV and meV/atom, forces in meV/Angstrom, stress in meV/Angstrom^3.
    """
    from mlff_calc.training.evaluate import evaluate_file

    report = evaluate_file(
        potential,
        data,
        part=part,
        keys={"energy": energy_key, "forces": forces_key, "stress": stress_key},
        batch_size=batch_size,
        device=device,
        precision=precision.value,
        plot=plot,
    )
    typer.echo(json.dumps(report.as_dict(), indent=2) if as_json else report.as_text())
