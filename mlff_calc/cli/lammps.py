"""`mlff lammps`: build the pair style, test it, and run LAMMPS without it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlff_calc.cli import options
from mlff_calc.cli.console import guard
from mlff_calc.cli.lammps_run import run

app = typer.Typer(
    no_args_is_help=True,
    help="LAMMPS: build `pair_style mlff`, test it, or run an input without it.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run")(run)


@app.command("build")
@guard
def build(
    force: Annotated[bool, typer.Option("--force", help="Compile again, even if there is a plugin.")] = False,
) -> None:
    """Compile `pair_style mlff` for the installed LAMMPS and PyTorch; `lmp` then loads it automatically.

    This takes less than a minute, and must be repeated after an upgrade of lammps, torch or mlff_calc.
    """
    from rich.console import Console

    from mlff_calc.lammps.build import build_plugin

    console = Console()
    with console.status("compiling pair_style mlff (less than a minute when it is new)"):
        path = build_plugin(force=force)
    console.print("pair_style mlff is ready:")
    console.print(str(path), soft_wrap=True)


@app.command("inputs")
@guard
def inputs(
    folder: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of the copies.", show_default="this one")
    ] = Path(),
) -> None:
    """Copy example inputs of LAMMPS, for `lmp` and `mlff lammps run`."""
    from mlff_calc.lammps.examples import copy_inputs

    for path in copy_inputs(folder):
        typer.echo(str(path))


@app.command("check")
@guard
def check(
    target: Annotated[
        str,
        typer.Argument(
            help="A file of `mlff export --to lammps`, or a potential (name or folder), exported in float64.",
            show_default=False,
        ),
    ] = "silicon",
    ranks: Annotated[str, typer.Option("--ranks", help="Numbers of ranks, comma-separated.")] = "1,2",
    trust: options.Trust = False,
) -> None:
    """Run a few steps in LAMMPS and compare energy, forces and pressure of every frame with the calculator.

    There are ten steps, or two where features are a fixed point. The exit status is 1 if the results differ.
    """
    from rich.console import Console
    from rich.table import Table

    from mlff_calc.lammps.check import check_lammps

    console = Console()
    numbers = _numbers(ranks)
    with console.status(f"running {target} in LAMMPS"):
        found = check_lammps(target, numbers, trust=trust)
    table = Table(title=f"pair_style mlff and MLFFCalculator: {target}")
    for heading in ("ranks", "quantity", "largest difference", "tolerance", "unit", ""):
        table.add_column(heading)
    for line in found:
        verdict = "agrees" if line.agrees else "DIFFERS"
        table.add_row(
            str(line.n_ranks), line.quantity, f"{line.largest:.2e}", f"{line.tolerance:.0e}", line.unit, verdict
        )
    console.print(table)
    if not all(line.agrees for line in found):
        raise typer.Exit(1)


def _numbers(text: str) -> list[int]:
    """Parse numbers of ranks such as `1,2,4`."""
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdigit() and int(word) > 0 for word in words):
        raise typer.BadParameter(f"{text!r} is not a list of numbers above zero, like 1,2", param_hint="--ranks")
    return [int(word) for word in words]
