"""`mlff eval`: errors of a potential on labelled structures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from mlff_calc.cli import options


def evaluate(
    potential: options.Potential,
    data: options.DataFile,
    as_json: options.Json = False,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Write a parity plot (PNG) to this file.", show_default=False)
    ] = None,
    key: Annotated[
        list[str] | None,
        typer.Option(
            "--key",
            metavar="KIND=NAME",
            help="What the file calls a label; KIND as in data.keys of a recipe: energy, forces, stress, virial, "
            "virial_sign, vasp_stress, config_type. May be repeated.",
            show_default=False,
        ),
    ] = None,
    unit: Annotated[
        list[str] | None,
        typer.Option(
            "--unit",
            metavar="KIND=UNIT",
            help="Units of the file: energy=kcal/mol, length=Bohr; eV and Angstrom where nothing is said. "
            "May be repeated.",
            show_default=False,
        ),
    ] = None,
    index: Annotated[str, typer.Option("--index", help="Which frames, as in ASE: ':100', '::10', '-1'.")] = ":",
    part: Annotated[
        str | None, typer.Option("--part", help="Part of an rMD17 archive: train or test.", show_default=False)
    ] = None,
    file_format: Annotated[
        str | None,
        typer.Option("--format", help="ASE's name of the format; else by the file's name.", show_default=False),
    ] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", help="Structures evaluated at once.", min=1)] = 16,
    device: options.Device = "auto",
    precision: options.Precision = options.PrecisionName.float32,
) -> None:
    """Mean absolute and root mean square errors: per property, per element and per kind of configuration.

    Energies in meV and meV/atom, forces in meV/Angstrom, stress in meV/Angstrom^3.
    """
    from mlff_calc.training.evaluate import evaluate_file
    from mlff_calc.training.recipe import parse_source

    asked: dict[str, Any] = {"file": str(data), "index": index, "part": part, "format": file_format}
    asked |= {"keys": _pairs("--key", key), "units": _pairs("--unit", unit)}
    report = evaluate_file(
        potential,
        parse_source(asked, "mlff eval"),
        batch_size=batch_size,
        device=device,
        precision=precision.value,
        plot=plot,
    )
    typer.echo(json.dumps(report.as_dict(), indent=2) if as_json else report.as_text())


def _pairs(option: str, words: list[str] | None) -> dict[str, Any] | None:
    """`KIND=VALUE` words as a dict; None where there are none."""
    pairs: dict[str, Any] = {}
    for word in words or []:
        kind, sign, value = word.partition("=")
        if not (kind and sign and value):
            raise typer.BadParameter(f"{option} {word!r}: write it as KIND=VALUE, e.g. {option} energy=...")
        if kind in pairs:
            raise typer.BadParameter(f"{option}: {kind} is given twice; keep one")
        pairs[kind] = int(value) if kind == "virial_sign" and value in ("1", "+1", "-1") else value
    return pairs or None
