"""`mlff scf`: starts of self-consistent fields beside each other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlff_calc.cli import options

if TYPE_CHECKING:
    from mlff_calc.electronic.scf.compare import StartRow
    from mlff_calc.electronic.scf.guess import PredictsFock


def scf(
    model: Annotated[
        str,
        typer.Argument(
            help="Name or folder of a trained Hamiltonian; or a start of PySCF (minao), to compare starts without a model.",
            show_default=False,
        ),
    ],
    structures: Annotated[Path, typer.Argument(help="Any file that ASE reads; all frames, in order.", show_default=False)],
    starts: Annotated[
        str | None,
        typer.Option(
            help="Starts with commas between: minao, huckel, atom, 1e, vsap, sap, previous, aspc, model, model+aspc. "
            "[minao,huckel,previous,model]",
            show_default=False,
        ),
    ] = None,
    xc: Annotated[str | None, typer.Option(help="Functional. [the model's, or b3lyp]", show_default=False)] = None,
    basis: Annotated[str | None, typer.Option(help="Basis. [the model's, or def2-svp]", show_default=False)] = None,
    grid_level: Annotated[
        int | None, typer.Option(help="Level of the grid, 0 to 9. [the model's, or 3]", show_default=False)
    ] = None,
    density_fit: Annotated[
        bool | None, typer.Option("--density-fit/--exact", help="Fit densities. [the model's, or exact]", show_default=False)
    ] = None,
    conv_tol: Annotated[float, typer.Option(help="Tolerance of the energy, Hartree.")] = 1e-9,
    charge: Annotated[
        int | None, typer.Option(help="Charge of the molecule, e. [info['charge'] of a frame, or 0]", show_default=False)
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Number of frames to take. [all]", show_default=False, min=1)] = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Solve the SCF of every frame from several starts, and show cycles, Fock builds, seconds and differences of energies.

    Fock builds contain those that guesses and the guard cost. Starts from earlier frames mean the order of the file.
    """
    import ase.io

    from mlff_calc.electronic.scf.compare import compare_starts
    from mlff_calc.electronic.scf.guess import loaded
    from mlff_calc.electronic.scf.settings import SCFSettings
    from mlff_calc.electronic.scf.starts import FREE
    from mlff_calc.errors import OptionError

    if not structures.is_file():
        raise OptionError(f"there is no file {structures}; check the spelling")
    try:
        frames = ase.io.read(structures, ":" if limit is None else f":{limit}")
    except Exception as error:
        raise OptionError(f"{structures} cannot be read as structures: {error}") from error
    held: PredictsFock | None = None if model in FREE else loaded(model)
    given = {"xc": xc, "basis": basis, "grid_level": grid_level, "density_fit": density_fit}
    level = {"xc": "b3lyp", "basis": "def2-svp"} if held is None else held.settings.to_dict()
    level |= {name: value for name, value in given.items() if value is not None}
    settings = SCFSettings(**{**level, "conv_tol": conv_tol, "max_cycle": 50})
    if charge is not None:
        for atoms in frames:
            atoms.info["charge"] = charge
    default = [model, "minao", "huckel", "previous"] if held is None else ["minao", "huckel", "previous", "model"]
    wanted = default if starts is None else [name.strip() for name in starts.split(",")]
    if held is None and any(name.startswith("model") for name in wanted):
        raise OptionError(f"MODEL is {model}, which is no model, and --starts asks for one; name a trained Hamiltonian")
    show = None if quiet or as_json else (lambda done: typer.echo(f"\r{done} of {len(frames)} frames", nl=False, err=True))
    rows = compare_starts(frames, settings, wanted, held, show)
    if show is not None:
        typer.echo("", err=True)
    if as_json:
        typer.echo(json.dumps({"settings": settings.to_dict(), "starts": [row.as_dict() for row in rows]}, indent=2))
        return
    for line in table(rows):
        typer.echo(line)


def table(rows: list[StartRow]) -> list[str]:
    """Return the lines of a table of starts."""
    head = (
        f"{'start':<12}{'cycles':>8}{'Fock builds':>13}{'seconds':>9}{'max |dE| Ha':>13}{'worst cycles':>14}"
        f"{'fallbacks':>11}{'retries':>9}"
    )
    lines = [f"{rows[0].structures} structures; means over structures, worst cycles compared with minao", head]
    lines += [
        f"{row.start:<12}{row.cycles:>8.2f}{row.fock_builds:>13.2f}{row.seconds:>9.3f}{row.energy_difference:>13.1e}"
        f"{row.most_cycles_above:>+14d}{row.fallbacks:>11d}{row.retries:>9d}"
        for row in rows
    ]
    return lines
