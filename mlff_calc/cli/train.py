"""`mlff train`: train a network of any kind from a recipe."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from mlff_calc.cli import options


def train(
    recipe: Annotated[
        Path | None,
        typer.Argument(
            help="Recipe (YAML file); with --example and --schema the name of a kind, by default potential.",
            show_default=False,
        ),
    ] = None,
    resume: options.Resume = False,
    overwrite: options.Overwrite = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Folder of the run, or the file for --example and --schema.", show_default=False
        ),
    ] = None,
    example: Annotated[bool, typer.Option("--example", help="Write a commented recipe of a kind and exit.")] = False,
    schema: Annotated[
        bool, typer.Option("--schema", help="Write the JSON schema of the recipes of a kind, for editors, and exit.")
    ] = False,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Replace a value of the recipe, e.g. optimizer.batch_size=4."),
    ] = None,
    quiet: options.Quiet = False,
) -> None:
    """Train the network that a recipe describes. The recipe's section with the name of a kind tells which kind that is.

    Everything is checked before anything runs or is written. The result is a folder inside the output, named by the
    kind, which `mlff eval` reads. Metrics, plots and checkpoints are beside it.
    """
    from mlff_calc.errors import OptionError
    from mlff_calc.training.kind_names import DEFAULT

    if example and schema:
        raise OptionError("--example and --schema write different files; give one of them")
    if example or schema:
        _write_about(DEFAULT if recipe is None else str(recipe), output, schema=schema, overwrite=overwrite)
        return
    if recipe is None:
        raise typer.BadParameter("give a recipe; `mlff train --example --output recipe.yaml` writes one")
    from mlff_calc.training.run import train as carry_out

    result = carry_out(
        recipe,
        overrides=settings or [],
        output=output,
        resume=resume,
        overwrite=overwrite,
        command=shlex.join(["mlff", *sys.argv[1:]]),
        show_bar=not quiet,
    )
    typer.echo(result.summary(notes=False))  # the log has them


def _write_about(kind: str, output: Path | None, *, schema: bool, overwrite: bool) -> None:
    """Print or write the commented recipe of a kind, or the schema of its recipes."""
    from mlff_calc.errors import OptionError
    from mlff_calc.training.kinds import task_of
    from mlff_calc.training.recipe_schema import recipe_schema
    from mlff_calc.whole_files import write_whole

    text = json.dumps(recipe_schema(kind), indent=2) + "\n" if schema else task_of(kind).example
    if output is None:
        typer.echo(text, nl=False)
        return
    if output.exists() and not overwrite:
        raise OptionError(f"{output}: exists already; give another --output, or --overwrite")
    write_whole(output, text)
    typer.echo(f"wrote {output}" + ("" if schema else f"; edit it, then: mlff train {output}"))
