"""`mlff eval`: errors of a trained network of any kind on data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from mlff_calc.cli import options
from mlff_calc.cli.kinds import asked_of, task_of_model

_OPTIONS = {"keys": "--key", "units": "--unit", "heavy_atoms": "--heavy-atoms/--all-atoms"}
_OF_PROPAGATORS = "For propagators; by default as in training."


def evaluate(
    potential: Annotated[
        str,
        typer.Argument(
            help="Name of a potential that ships (see `mlff potentials`), a folder of a trained network of any kind, "
            "or an exported file (.pt, .pt2).",
            show_default=False,
        ),
    ],
    data: Annotated[
        list[Path],
        typer.Argument(
            help="Structures with reference values: files that ASE reads, judged together. For propagators, a file of "
            "trajectories.",
            show_default=False,
        ),
    ],
    as_json: options.Json = False,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Write a parity plot (PNG) to this file.", show_default=False)
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Write predictions and reference values, frame by frame, to this file (.extxyz or .json).",
            show_default=False,
        ),
    ] = None,
    overwrite: options.Overwrite = False,
    key: options.Key = None,
    unit: options.Unit = None,
    index: Annotated[str | None, typer.Option("--index", help=options.INDEX, show_default=False)] = None,
    part: Annotated[
        str | None,
        typer.Option(
            "--part",
            help="Part of an rMD17 archive: train or test. For propagators train, valid, test (the default), or all of them "
            "together: all.",
            show_default=False,
        ),
    ] = None,
    file_format: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="ASE's name of the format; else by the file's name. For propagators nbody, md17, mocap, asf_amc.",
            show_default=False,
        ),
    ] = None,
    horizon: Annotated[
        int | None, typer.Option("--horizon", help=f"Frames ahead. {_OF_PROPAGATORS}", show_default=False)
    ] = None,
    start: Annotated[
        int | None, typer.Option("--start", help=f"First frame (N-body). {_OF_PROPAGATORS}", show_default=False)
    ] = None,
    hops: Annotated[
        int | None, typer.Option("--hops", help=f"Most bonds along an edge. {_OF_PROPAGATORS}", show_default=False)
    ] = None,
    heavy_atoms: Annotated[
        bool | None,
        typer.Option(
            "--heavy-atoms/--all-atoms", help=f"Leave hydrogens out or keep them. {_OF_PROPAGATORS}", show_default=False
        ),
    ] = None,
    neighbors: Annotated[
        int | None,
        typer.Option("--neighbors", help=f"Nearest neighbours as edges. {_OF_PROPAGATORS}", show_default=False),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option("--limit", min=1, help="For propagators and rollouts: number of samples.", show_default=False),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option("--batch-size", help="Number evaluated at once; 16 structures, or 100 samples of motion.", min=1),
    ] = None,
    calculator: Annotated[
        str | None,
        typer.Option(
            "--calculator", help="For rollouts: a potential (name or folder) with its own dynamics.", show_default=False
        ),
    ] = None,
    rivals: Annotated[
        Path | None,
        typer.Option(
            "--rivals",
            help="For functionals: train a potential and one on differences from the base functional on this file too.",
            show_default=False,
        ),
    ] = None,
    device: options.Device = "auto",
    precision: options.OwnPrecision = None,
    trust: options.Trust = False,
) -> None:
    """Mean absolute and root mean square errors: per property, per element and per kind of configuration.

    Energies in meV and meV/atom, forces in meV/Angstrom, stress in meV/Angstrom^3.

    For propagators: mean square errors of positions and velocities in the units of the data, with those of two guesses
    that need no network (constant velocity and last position), number of parameters and time per batch.

    For rollouts: mean square errors of positions by quarter of the horizon, errors of bond lengths and coverage of the error
    bars, with those of predictions that need no network.

    For properties: mean absolute error, negative log likelihood, and coverage of the calibrated intervals; --key label=NAME
    names another label, --plot draws the calibration. Tables with SMILES (.csv) are data as well.

    For pretrainings: unexplained shares of the noise with own, constant and exchanged codes, steepness and linear probes.

    For functionals: errors of self-consistent energies in mHa, beside those of the base functional.
    """
    task = task_of_model(potential)
    given: dict[str, Any] = {
        "plot": plot, "output": output, "overwrite": overwrite or None,
        "keys": options.pairs("--key", key), "units": options.pairs("--unit", unit), "index": index, "part": part,
        "format": file_format, "horizon": horizon, "start": start, "hops": hops, "heavy_atoms": heavy_atoms,
        "neighbors": neighbors, "limit": limit, "calculator": calculator, "rivals": rivals, "trust": trust or None,
    }  # fmt: skip
    asked = asked_of(task.name, given, task.options, _OPTIONS)
    report = task.evaluate(
        potential, data, batch_size=batch_size, device=device,
        precision=None if precision is None else precision.value, **asked,
    )  # fmt: skip
    typer.echo(json.dumps(report.as_dict(), indent=2) if as_json else report.as_text())
