"""`mlff predict`: what a trained network predicts for the frames of a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mlff_calc.cli import options
from mlff_calc.cli.kinds import asked_of, task_of_model


def predict(
    model: Annotated[
        str,
        typer.Argument(
            help="Name of a network that ships (see `mlff potentials`), a folder, or an exported potential (.pt, .pt2).",
            show_default=False,
        ),
    ],
    structures: Annotated[Path, typer.Argument(help="Any file that ASE reads, of any length.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Extended xyz file to write.", show_default=False)],
    index: Annotated[str, typer.Option("--index", help="Frames, as in ASE: ':100', '::10', '-1'.")] = ":",
    energy: Annotated[
        bool,
        typer.Option("--energy", help="For Fock matrices: energies of their densities; a Fock build for each frame."),
    ] = False,
    matrices: Annotated[
        Path | None,
        typer.Option("--matrices", help="For Fock matrices: write them to this file (.h5).", show_default=False),
    ] = None,
    cube: Annotated[
        str | None,
        typer.Option(
            "--cube",
            help="For Fock matrices, of a single frame: cube files with commas between: density, homo, lumo, or numbers of "
            "orbitals from 0. They go into the folder OUTPUT_cubes.",
            show_default=False,
        ),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", help="Number of frames predicted at once.", min=1, show_default=False)
    ] = None,
    device: options.Device = "auto",
    precision: options.OwnPrecision = None,
    trust: options.Trust = False,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Write the frames of a file with predictions, in batches; a file may be larger than memory.

    Potentials give energy (eV), forces (eV/Angstrom) and, in periodic cells, stress (eV/Angstrom^3).

    Fock matrices give homo, lumo, gap and orbital_energies (eV), dipole (e Angstrom), mulliken_charges and loewdin_charges
    (e), without an SCF; with --energy also the energy (eV). They need PySCF, and closed-shell molecules with the charge of
    the training (charge=1 in the file).

    Properties give predicted_NAME, its standard deviation predicted_NAME_std, and quantiles such as predicted_NAME_q0.05.

    All frames are checked before the first one is predicted, and files appear when they are complete. For rollouts and score
    models there are `mlff rollout` and `mlff sample`.
    """
    from mlff_calc.cli.bars import Bars
    from mlff_calc.training.predict import predict_file

    task = task_of_model(model)
    words = None if cube is None else [word.strip() for word in cube.split(",") if word.strip()]
    given: dict[str, Any] = {"energy": energy or None, "matrices": matrices, "cube": words, "trust": trust or None}
    asked = given if task.predictions is None else asked_of(task.name, given, task.predictions)
    predictor = task.predictor(
        model, device=device, precision=None if precision is None else precision.value, **asked
    )
    with Bars(quiet=quiet) as bars:
        n_frames = predict_file(
            predictor, structures, output, index=index, batch_size=batch_size, overwrite=overwrite,
            on_done=lambda done, total: bars.show("frames", done, total),
        )  # fmt: skip
    if not quiet:
        typer.echo(f"{output} has {n_frames} frame{'' if n_frames == 1 else 's'} with predictions.")
