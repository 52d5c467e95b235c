"""`mlff distill`: a fast potential for your system from any ASE calculator."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from mlff_calc.cli import options
from mlff_calc.cli.bars import Bars

_STRUCTURES = {".xyz", ".extxyz", ".cif", ".traj", ".vasp", ".pdb", ".sdf", ".mol", ".json", ".db", ".gz"}


def distill(
    recipe: Annotated[Path | None, typer.Argument(help="Recipe (YAML file).", show_default=False)] = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            "--teacher",
            "-t",
            help="gfn2-xtb, gfn1-xtb, emt, 7net-0, chgnet, a potential (name or folder), or module:function that makes "
            "an ASE calculator.",
            show_default=False,
        ),
    ] = None,
    structures: Annotated[
        list[str] | None,
        typer.Option("--structures", "-s", help="A file or a SMILES. May be repeated.", show_default=False),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option("--minutes", help="Time for all of it; with --resume, time from now.", show_default=False),
    ] = None,
    labels: Annotated[int | None, typer.Option("--labels", help="Number of labels.", min=1, show_default=False)] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder of the run, or the file for --example.", show_default=False),
    ] = None,
    target: Annotated[
        float | None,
        typer.Option("--target", help="Mean error of forces that is wanted, eV/Angstrom. [0.03]", show_default=False),
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", help="Processes of the teacher, of one thread each. [1]", show_default=False)
    ] = None,
    environment: Annotated[
        str | None,
        typer.Option("--environment", help="Python in which the teacher is installed. [this one]", show_default=False),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Replace a value of the recipe, e.g. student.committee=1."),
    ] = None,
    example: Annotated[bool, typer.Option("--example", help="Write a commented recipe and exit.")] = False,
    resume: options.Resume = False,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Make a fast potential for your system from any ASE calculator, and find out where it is not to be trusted.

    Labels structures by the teacher, trains a committee of students, explores by their dynamics, and labels what they are
    unsure of, until errors are small or the budget is used. The rest of the time trains the potential, in OUTPUT/potential.
    A run that was stopped in any way goes on with --resume.
    """
    from mlff_calc.distillation import Distillation
    from mlff_calc.distillation.recipe import load_distillation, parse_distillation
    from mlff_calc.errors import OptionError
    from mlff_calc.training.recipe_yaml import apply_overrides

    if example:
        _write_example(output, overwrite=overwrite)
        return
    given: dict[str, Any] = {"teacher": teacher, "structures": structures, "environment": environment}
    both = [f"--{name}" for name, value in given.items() if value]
    if recipe is not None and both:
        raise OptionError(f"{recipe} has a teacher and structures already; leave out {' and '.join(both)}, or the recipe")
    more = {"budget.minutes": minutes, "budget.labels": labels, "stop.target": target, "label.workers": workers}
    words = [*(settings or []), *(f"{key}={value}" for key, value in more.items() if value is not None)]
    made: Any = None
    if recipe is not None:
        made = load_distillation(recipe, words)
    elif resume and not both:
        if output is None:
            raise typer.BadParameter("give the folder of the run that goes on as --output")
        if words and (output / "state.json").is_file():
            made = load_distillation(output / "recipe.yaml", words)
    else:
        if not (teacher and structures):
            raise typer.BadParameter("give a recipe (`mlff distill --example` writes one), or --teacher and --structures")
        data = _recipe_of(teacher, structures, environment)
        made = parse_distillation(apply_overrides(data, words), Path.cwd() / "command line")
    with Bars(quiet=quiet) as bars, _quiet_trainings():
        run = Distillation(
            made, output, resume=resume, overwrite=overwrite, minutes=minutes if resume else None,
            labels=labels if resume else None, on_line=None if quiet else typer.echo, on_bar=bars.show,
        )  # fmt: skip
        result = run.run()
    typer.echo(result.summary())


@contextmanager
def _quiet_trainings() -> Iterator[None]:
    """Leave out what trainings say of themselves, dozens of lines each; a distillation says a line for each round."""
    logger = logging.getLogger("mlff_calc.training")
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)


def _recipe_of(teacher: str, structures: list[str], environment: str | None) -> dict[str, Any]:
    """The recipe of a command line."""
    files = [one for one in structures if Path(one).exists() or Path(one).suffix.lower() in _STRUCTURES]
    smiles = [one for one in structures if one not in files]
    named = "python" if ":" in teacher and not Path(teacher).exists() else "name"
    return {
        "teacher": {named: teacher, **({"environment": environment} if environment else {})},
        "systems": {"files": [str(Path(file).absolute()) for file in files], "smiles": smiles},
        "budget": {},
    }


def _write_example(output: Path | None, *, overwrite: bool) -> None:
    """Print or write the commented recipe."""
    from mlff_calc.distillation.example import EXAMPLE_RECIPE
    from mlff_calc.errors import OptionError
    from mlff_calc.whole_files import write_whole

    if output is None:
        typer.echo(EXAMPLE_RECIPE, nl=False)
        return
    if output.exists() and not overwrite:
        raise OptionError(f"{output}: exists already; give another --output, or --overwrite")
    write_whole(output, EXAMPLE_RECIPE)
    typer.echo(f"wrote {output}; edit it, then: mlff distill {output}")
