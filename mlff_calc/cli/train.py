"""`mlff train`: from a recipe and data to a potential, or to a propagator."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

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
    motion: Annotated[bool, typer.Option("--motion", help="With --example: the recipe of a propagator.")] = False,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Replace a value of the recipe, e.g. optimizer.batch_size=4."),
    ] = None,
    quiet: options.Quiet = False,
) -> None:
    """Train a potential as a recipe says; with a section `propagator` in the recipe, a propagator.

    Everything is checked before anything runs or is written. The result is the folder `potential` inside the output, which
    every command and `load_potential` take, or `propagator`, which `mlff eval` and `load_propagator` take; beside it lie
    metrics, plots and checkpoints.
    """
    if example:
        _write_example(output, motion=motion, overwrite=overwrite)
        return
    if motion:
        raise typer.BadParameter("--motion goes with --example; a recipe tells by its section `propagator`")
    if recipe is None:
        raise typer.BadParameter("name a recipe; `mlff train --example --output recipe.yaml` writes one")
    from mlff_calc.training.motion import MotionRecipe, load_any_recipe, train_propagator
    from mlff_calc.training.run import train as train_potential

    found = load_any_recipe(recipe, settings or [])
    how: dict[str, Any] = {
        "output": output,
        "resume": resume,
        "overwrite": overwrite,
        "command": shlex.join(["mlff", *sys.argv[1:]]),
        "show_bar": not quiet,
    }
    if isinstance(found, MotionRecipe):
        typer.echo(train_propagator(found, **how).summary())
    else:
        typer.echo(train_potential(found, **how).summary())


def _write_example(output: Path | None, *, motion: bool, overwrite: bool) -> None:
    from mlff_calc.errors import OptionError
    from mlff_calc.training.example import EXAMPLE_RECIPE
    from mlff_calc.training.files import write_atomic
    from mlff_calc.training.motion.example import EXAMPLE_MOTION_RECIPE

    text = EXAMPLE_MOTION_RECIPE if motion else EXAMPLE_RECIPE
    if output is None:
        typer.echo(text, nl=False)
        return
    if output.exists() and not overwrite:
        raise OptionError(f"{output}: exists already; give another --output, or --overwrite")
    write_atomic(output, text)
    typer.echo(f"wrote {output}; edit it, then: mlff train {output}")
