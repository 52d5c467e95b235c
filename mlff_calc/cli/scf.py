"""`mlff scf`: starts of self-consistent fields beside each other."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlff_calc.cli import options, scf_level

if TYPE_CHECKING:
    from ase import Atoms

    from mlff_calc.electronic.scf.compare import StartRow


def scf(
    model: scf_level.Model,
    structures: Annotated[
        list[Path], typer.Argument(help="Files that ASE reads; all frames, in order. A table for each.", show_default=False)
    ],
    starts: Annotated[
        str | None,
        typer.Option(
            help="Starts with commas between: minao, huckel, atom, 1e, vsap, sap, previous, aspc, model, model+aspc. "
            "[minao,huckel,previous,model]",
            show_default=False,
        ),
    ] = None,
    xc: scf_level.Xc = None,
    basis: scf_level.Basis = None,
    grid_level: scf_level.GridLevel = None,
    density_fit: scf_level.DensityFit = None,
    conv_tol: scf_level.Tolerance = 1e-9,
    charge: scf_level.Charge = None,
    limit: Annotated[
        int | None, typer.Option(help="Number of frames of each file to take. [all]", show_default=False, min=1)
    ] = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Solve the SCF of every frame from several starts, and show cycles, Fock builds, seconds and differences of energies.

    Fock builds contain those that guesses and the guard cost. Starts from earlier frames mean the order of the file.
    """
    from mlff_calc.electronic.scf.compare import compare_starts

    frames = {file: _read(file, limit) for file in dict.fromkeys(structures)}
    held, settings = scf_level.model_and_level(
        model, conv_tol, xc=xc, basis=basis, grid_level=grid_level, density_fit=density_fit
    )
    default = ("minao", "huckel", "previous", "model") if held is not None else (model, "minao", "huckel", "previous")
    wanted = scf_level.chosen_starts(starts, default, model, held)
    found = []
    for file, molecules in frames.items():
        if charge is not None:
            for atoms in molecules:
                atoms.info["charge"] = charge
        show = None if quiet or as_json else _progress(file, len(molecules))
        rows = compare_starts(molecules, settings, wanted, held, show)
        found += [{"file": str(file), **row.as_dict()} for row in rows]
        if not as_json:
            typer.echo("" if quiet else "\n", err=True, nl=False)
            for line in table(rows, str(file)):
                typer.echo(line)
    if as_json:
        typer.echo(json.dumps({"settings": settings.to_dict(), "starts": found}, indent=2))


def _read(file: Path, limit: int | None) -> list[Atoms]:
    """Read structures.

    Raises:
        OptionError: There is no such file, or it cannot be read.
    """
    import ase.io

    from mlff_calc.errors import OptionError

    if not file.is_file():
        raise OptionError(f"there is no file {file}; check the spelling")
    try:
        return list(ase.io.read(file, ":" if limit is None else f":{limit}"))
    except Exception as error:
        raise OptionError(f"{file} cannot be read as structures: {error}") from error


def _progress(file: Path, n: int) -> Callable[[int], None]:
    """Return a function that shows how many frames are done."""
    return lambda done: typer.echo(f"\r{file}: {done} of {n} frames", nl=False, err=True)


def table(rows: list[StartRow], name: str) -> list[str]:
    """Return the lines of a table of starts for the structures of a file."""
    head = (
        f"{'start':<12}{'cycles':>8}{'Fock builds':>13}{'seconds':>9}{'max |dE| Ha':>13}{'worst cycles':>14}"
        f"{'fallbacks':>11}{'rate':>7}{'retries':>9}"
    )
    lines = [f"{name}: {rows[0].structures} structures; means over structures, worst cycles compared with minao", head]
    lines += [
        f"{row.start:<12}{row.cycles:>8.2f}{row.fock_builds:>13.2f}{row.seconds:>9.3f}{row.energy_difference:>13.1e}"
        f"{row.most_cycles_above:>+14d}{row.fallbacks:>11d}{100 * row.fallbacks / row.structures:>5.0f} %{row.retries:>9d}"
        for row in rows
    ]
    return lines
