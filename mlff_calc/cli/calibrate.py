"""`mlff calibrate`: a potential with heads of errors learns from which spread on it may not be trusted."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlff_calc.cli import options


def calibrate(
    potential: options.Potential,
    data: Annotated[
        Path, typer.Argument(help="Frames with forces that the potential has not learned.", show_default=False)
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the calibrated copy.", show_default=False)],
    tolerance: Annotated[
        float, typer.Option("--tolerance", help="Accepted error of the worst force of a frame, eV/Angstrom.")
    ] = 0.3,
    index: Annotated[str, typer.Option("--index", help="Frames, as in ASE: ':100', '::10'.")] = ":",
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Write a copy of a potential with heads of errors that warns where its forces may be wrong.

    The largest spread of a force in each frame is compared with the largest error. The copy knows the spread at which the
    worst force of 90 of 100 frames is wrong by no more than --tolerance: calculators, exported files and `mlff md` warn
    above it, and stop with --domain stop.
    """
    from mlff_calc.datasets import read_structures
    from mlff_calc.distillation.thresholds import calibrated_copy
    from mlff_calc.errors import OptionError

    if output.exists() and not overwrite:
        raise OptionError(f"{output} exists already; give another --output, or --overwrite")
    found = calibrated_copy(potential, read_structures(data, index), tolerance, output, overwrite=overwrite)
    if not quiet:
        typer.echo(
            f"threshold: a spread of {found.spread:.4g} eV/Angstrom, above which {found.outside:.1%} of the "
            f"{found.calibration.n_frames} frames are;\nthe worst force of {found.covered:.1%} of the frames is within its "
            f"bound\npotential: {output}"
        )
