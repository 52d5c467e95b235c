"""`mlff export`: a potential as one file for other programs."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mlff_calc.cli import options


class Kind(StrEnum):
    """Kinds of exported files."""

    torchscript = "torchscript"
    lammps = "lammps"
    aoti = "aoti"


def export(
    potential: options.Potential,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="File to write: .pt is TorchScript, .pt2 is AOTInductor (faster, needs g++).",
            show_default=False,
        ),
    ],
    to: Annotated[
        Kind,
        typer.Option(
            "--to", help="lammps for pair_style mlff; torchscript and aoti for Python and programs with libtorch."
        ),
    ] = Kind.torchscript,
    precision: options.Precision = options.PrecisionName.float32,
    device: Annotated[str, typer.Option("--device", help="Device the file is for: cpu or cuda.")] = "cpu",
    reuse: options.Reuse = options.ReuseName.auto,
    overwrite: options.Overwrite = False,
) -> None:
    """Write a potential to one file, after comparing the file with the potential on three small structures.

    For a potential with a fixed point (backbone deq) the step of a trajectory is written, one file for each way of
    reuse.
    """
    import time

    from rich.console import Console

    from mlff_calc.calculators.stepping import stepping_of
    from mlff_calc.device import resolve_device
    from mlff_calc.export import export_potential
    from mlff_calc.potential import load_potential

    console = Console()
    start = time.monotonic()
    with console.status(f"exporting {potential} to {to.value} in {precision.value}"):
        loaded = load_potential(potential)
        stepping = stepping_of(reuse.value, loaded)
        metadata = export_potential(
            loaded,
            output,
            to=to.value,
            precision=precision.value,
            device=resolve_device(device),
            stepping=stepping,
            overwrite=overwrite,
        )
    seconds, size = time.monotonic() - start, output.stat().st_size / 1e6
    elements = " ".join(metadata.symbols)
    console.print(f"{output}: {elements}, cutoff {metadata.cutoff:g} Angstrom, {metadata.precision}, {metadata.backend}, "
                  f"{size:.1f} MB, in {seconds:.0f} s", soft_wrap=True)  # fmt: skip
