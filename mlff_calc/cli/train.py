"""`mlff train`: from a recipe and data to a potential."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from mlff_calc.cli import options


def train(
    recipe: Annotated[
        Path | None, typer.Argument(help="The recipe, a YAML file; `--example` writes one.", show_default=False)
    ] = None,
    resume: options.Resume = False,
    overwrite: options.Overwrite = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder of the run, or the file for --example.", show_default=False),
    ] = None,
    example: Annotated[bool, typer.Option("--example", help="Write a commented recipe and leave.")] = False,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Replace a value of the recipe, e.g. optimizer.batch_size=4."),
    ] = None,
    quiet: options.Quiet = False,
) -> None:
    """Train a potential as a recipe says.

    Everything is checked before anything runs or is written. The result is the folder `potential` inside the output, which
    every command and `load_potential` take; beside it lie metrics, plots and checkpoints.
    """
    if example:
        _write_example(output, overwrite=overwrite)
        return
    if recipe is None:
        raise typer.BadParameter("name a recipe; `mlff train --example --output recipe.yaml` writes one")
    from mlff_calc.training.run import train as run_training

    command = shlex.join(["mlff", *sys.argv[1:]])
    result = run_training(
        recipe,
        overrides=settings or [],
        output=output,
        resume=resume,
        overwrite=overwrite,
        command=command,
        show_bar=not quiet,
    )
    typer.echo(result.summary())


def _write_example(output: Path | None, *, overwrite: bool) -> None:
    from mlff_calc.errors import OptionError
    from mlff_calc.training.example import EXAMPLE_RECIPE
    from mlff_calc.training.files import write_atomic

    if output is None:
        typer.echo(EXAMPLE_RECIPE, nl=False)
        return
    if output.exists() and not overwrite:
        raise OptionError(f"{output}: exists already; give another --output, or --overwrite")
    write_atomic(output, EXAMPLE_RECIPE)
    typer.echo(f"wrote {output}; edit it, then: mlff train {output}")
