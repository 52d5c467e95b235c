"""The program `mlff`: a table of commands, and its entry point."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, NamedTuple

import typer

from mlff_calc.cli.console import configure_output, guard, run_cli


class Command(NamedTuple):
    """Place of a command: a function, or a typer application with subcommands."""

    name: str
    module: str
    attribute: str


COMMANDS = (
    Command("train", "mlff_calc.cli.train", "train"),
    Command("eval", "mlff_calc.cli.evaluate", "evaluate"),
    Command("predict", "mlff_calc.cli.predict", "predict"),
    Command("md", "mlff_calc.cli.md", "md"),
    Command("spectrum", "mlff_calc.cli.spectrum", "spectrum"),
    Command("relax", "mlff_calc.cli.relax", "relax"),
    Command("conformers", "mlff_calc.cli.conformers", "conformers"),
    Command("sample", "mlff_calc.cli.sample", "sample"),
    Command("rollout", "mlff_calc.cli.rollout", "rollout"),
    Command("compare", "mlff_calc.cli.compare", "compare"),
    Command("scf", "mlff_calc.cli.scf", "scf"),
    Command("compile", "mlff_calc.cli.compile", "compile_"),
    Command("export", "mlff_calc.cli.export", "export"),
    Command("lammps", "mlff_calc.cli.lammps", "app"),
    Command("data", "mlff_calc.cli.data", "app"),
    Command("bench", "mlff_calc.cli.bench", "app"),
    Command("calibrate", "mlff_calc.cli.calibrate", "calibrate"),
    Command("distill", "mlff_calc.cli.distill", "distill"),
    Command("potentials", "mlff_calc.cli.potentials", "potentials"),
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from mlff_calc.version import __version__

        typer.echo(f"mlff_calc {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show stack traces and debug messages; same as MLFF_DEBUG=1.")
    ] = False,
) -> None:
    """Machine-learned force fields: train, evaluate, compile, relax, run molecular dynamics.

    `mlff COMMAND --help` explains each command.
    """


def build_app() -> typer.Typer:
    """Build the typer application with every command of the table.

    Returns:
        The application, whose commands import torch only when they run.
    """
    app = typer.Typer(
        name="mlff",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode="markdown",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    for command in COMMANDS:
        found = getattr(import_module(command.module), command.attribute)
        if isinstance(found, typer.Typer):
            app.add_typer(found, name=command.name)
        else:
            app.command(command.name)(guard(found))
    return app


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `mlff` and exit with its status.

    Args:
        arguments: command line without the program's name; that of the process by default.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words or os.environ.get("MLFF_DEBUG", "0") not in {"", "0"}
    words = [word for word in words if word != "--debug"]  # so that it may be anywhere
    configure_output(debug=debug)
    sys.exit(run_cli(build_app(), words, debug=debug))


if __name__ == "__main__":
    main()
