"""`mlff lammps run`: a LAMMPS input with a potential's forces, on one rank and without a compiler."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from mlff_calc.bounded import require_regular
from mlff_calc.cli import options
from mlff_calc.cli.console import guard
from mlff_calc.errors import OptionError

_DEFAULT_LOG = Path("log.lammps")
_VALUE = re.compile(r'"[^"]*"|\'[^\']*\'|\S+')


@guard
def run(
    input: Annotated[Path, typer.Argument(help="A LAMMPS input with units metal.", show_default=False)],
    potential: Annotated[
        str,
        typer.Option(
            "--potential",
            "-p",
            help="Name of a potential that ships (see `mlff potentials`), a folder, or a file of `mlff export`.",
            show_default=False,
        ),
    ],
    elements: Annotated[
        str | None,
        typer.Option(
            help='Element of each atom type, like "H C O". [those of the pair_coeff line, or those with the masses]',
            show_default=False,
        ),
    ] = None,
    variables: Annotated[
        list[str] | None,
        typer.Option(
            "--var",
            "-v",
            metavar="NAME=VALUE",
            help="A variable of the input, like -var of lmp; may be repeated. Put a value with blanks in quotes: "
            "'file=\"a b.data\"'.",
            show_default=False,
        ),
    ] = None,
    log: Annotated[Path, typer.Option(help="Log file of LAMMPS; none for no file.")] = _DEFAULT_LOG,
    precision: options.OwnPrecision = None,
    device: options.Device = "auto",
    compiled: options.Compile = False,
    reuse: options.Reuse = options.ReuseName.auto,
    trust: options.Trust = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Let LAMMPS write only to its log.")] = False,
) -> None:
    """Run a LAMMPS input on one rank, with forces of a potential through `fix external`.

    `pair_style` of the input must be missing, zero, or mlff. For several ranks, build the pair style: `mlff lammps
    build`.
    """
    from mlff_calc.calculators import MLFFCalculator
    from mlff_calc.lammps.external import run_lammps

    if not input.exists():
        raise OptionError(f"there is no input {input} here; check the spelling")
    require_regular(input, OptionError)
    values = parse_variables(variables or [])
    named = None if elements is None else elements.replace(",", " ").split()
    asked = None if precision is None else precision.value
    calculator = MLFFCalculator(
        potential, device=device, precision=asked, compile=compiled, reuse=reuse.value, trust=trust
    )
    done = run_lammps(input, calculator, elements=named, variables=values, log=log, screen=not quiet)
    where = "" if str(log) == "none" else f" LAMMPS's log: {log}"
    typer.echo(f"{input} done at step {done.step}, {done.n_evaluations} evaluations of {potential}.{where}")


def parse_variables(texts: list[str]) -> dict[str, str | list[str]]:
    """Parse variables for LAMMPS from ``NAME=VALUE``; values separated by spaces make a list, as after ``-var``.

    Quotes keep a value with blanks together. They are kept, so that LAMMPS, which inserts the value into commands
    unchanged, reads one word.

    Raises:
        OptionError: a text lacks name or value, or a name is given twice.
    """
    values: dict[str, str | list[str]] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if not name.strip() or not value.strip():
            raise OptionError(f"--var {text!r} is not NAME=VALUE; write it like --var steps=100")
        if name.strip() in values:
            raise OptionError(f"--var {name.strip()} is given twice; give it once")
        words = _VALUE.findall(value)
        values[name.strip()] = words if len(words) > 1 else words[0]
    return values
