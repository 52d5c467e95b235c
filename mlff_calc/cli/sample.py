"""`mlff sample`: structures from a trained score model, with weights and a report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlff_calc.cli import options
from mlff_calc.errors import OptionError


def sample(
    model: Annotated[Path, typer.Argument(help="Folder of a score model (`mlff train` of the kind score).")],
    calculator: Annotated[
        str | None,
        typer.Option(
            "--calculator",
            "-c",
            help="A potential (name or folder), gfn2-xtb, gfn1-xtb, or module:function that makes an ASE calculator; its "
            "energies give each structure a weight.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="File of structures (.extxyz) with energies and weights.")
    ] = Path("samples.extxyz"),
    n: Annotated[int, typer.Option("--n", "-n", help="Number of structures.", min=1)] = 500,
    steps: Annotated[int, typer.Option(help="Steps of the reverse diffusion.", min=2)] = 200,
    langevin: Annotated[
        int | None,
        typer.Option(
            help="Langevin steps with the model's score at the end. [50, and 0 with a calculator]", min=0, show_default=False
        ),
    ] = None,
    exact: Annotated[
        int, typer.Option(help="Langevin steps with the calculator's forces at the end, accepted by its energy.", min=0)
    ] = 0,
    charge: Annotated[int, typer.Option(help="Total charge, e.")] = 0,
    multiplicity: Annotated[int, typer.Option(help="Unpaired electrons and one: 2 for a radical.", min=1)] = 1,
    workers: Annotated[int, typer.Option(help="Processes for calculators that are not potentials.", min=0)] = 0,
    report: Annotated[
        Path | None, typer.Option(help="Write the report as JSON to this file.", show_default=False)
    ] = None,
    seed: options.Seed = 0,
    compiled: options.Compile = False,
    overwrite: options.Overwrite = False,
    resume: options.Resume = False,
    quiet: options.Quiet = False,
) -> None:
    """Draw structures from a score model, and weigh them by the energies of a calculator.

    Work that is done stands in a folder beside the output until the command ends, so that a run that was stopped goes on
    with --resume.
    """
    import io
    import json

    from mlff_calc.cli.bars import Bars
    from mlff_calc.cli.work_folder import work_folder
    from mlff_calc.sampling.model_samples import sample_model
    from mlff_calc.whole_files import write_whole

    if output.suffix != ".extxyz":
        raise OptionError(f"{output} ends with {output.suffix or 'nothing'}; structures are written as .extxyz")
    files = [output] if report is None else [output, report]
    with work_folder(files, overwrite=overwrite, resume=resume) as work, Bars(quiet=quiet) as bars:
        samples = sample_model(
            model, calculator, n=n, steps=steps, langevin=(0 if calculator else 50) if langevin is None else langevin,
            exact=exact, seed=seed, charge=charge, multiplicity=multiplicity, workers=workers, compile=compiled,
            folder=work.folder, on_progress=bars.show,
        )  # fmt: skip
        import ase.io

        text = io.StringIO()
        ase.io.write(text, samples.to_ase(), format="extxyz")
        write_whole(output, text.getvalue())
        if report is not None:
            write_whole(report, json.dumps(samples.report(), indent=2) + "\n")
    typer.echo(samples.as_text())
    typer.echo("written: " + ", ".join(map(str, files)))
