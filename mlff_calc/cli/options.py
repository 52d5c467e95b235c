"""Options that several commands share.

They are used as annotations: `def md(potential: Potential, device: Device = "auto") -> None`.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer


class PrecisionName(StrEnum):
    """Precisions that a potential can be evaluated in."""

    float32 = "float32"
    mixed = "mixed"
    float64 = "float64"


class ReuseName(StrEnum):
    """Reuse of fixed points and fields from step to step."""

    auto = "auto"
    conservative = "conservative"
    fast = "fast"
    shadow = "shadow"
    none = "none"


DEVICE = "auto, cpu, cuda or cuda:N; auto takes a GPU where there is one."
TRUST = "Open exported files (.pt, .pt2) although you did not export them on this machine: their code runs as yours."
OVERWRITE = "Replace a result that is already there."
RESUME = "Continue an interrupted run."
QUIET = "Show no progress bar and no table; errors are still shown."

Potential = Annotated[
    str, typer.Argument(help="Name of a potential that ships (see `mlff potentials`), or a folder.", show_default=False)
]
Output = Annotated[Path, typer.Option("--output", "-o", help="Folder for everything that is written.")]
Device = Annotated[str, typer.Option("--device", help=DEVICE)]
Precision = Annotated[
    PrecisionName, typer.Option("--precision", help="Arithmetic of the network; energies are summed in float64.")
]
OwnPrecision = Annotated[
    PrecisionName | None,
    typer.Option(
        "--precision",
        help="Arithmetic of the network; energies are summed in float64. [float32; an exported file's own]",
        show_default=False,
    ),
]
Trust = Annotated[bool, typer.Option("--trust", help=TRUST)]
Key = Annotated[
    list[str] | None,
    typer.Option(
        "--key",
        metavar="KIND=NAME",
        help="Name of a label in the file; KIND as in data.keys of a recipe: energy, forces, stress, virial, "
        "virial_sign, vasp_stress, stress_order, config_type, forces_sign. May be repeated.",
        show_default=False,
    ),
]
Unit = Annotated[
    list[str] | None,
    typer.Option(
        "--unit",
        metavar="KIND=UNIT",
        help="Units of the file: energy=kcal/mol, length=Bohr, forces=Hartree/Bohr, stress=GPa; by default eV and "
        "Angstrom. May be repeated.",
        show_default=False,
    ),
]
INDEX = "Frames of each file, as in ASE: ':100', '::10', '-1'; all by default."
Index = Annotated[str, typer.Option("--index", help=INDEX, show_default=False)]
Seed = Annotated[int, typer.Option("--seed", help="Seed of everything random; the same seed repeats the run.", min=0)]
Json = Annotated[bool, typer.Option("--json", help="Write only the result to stdout, as JSON.")]
Compile = Annotated[
    bool,
    typer.Option("--compile/--no-compile", help="Compile the potential once and use it from the cache afterwards."),
]
Reuse = Annotated[
    ReuseName,
    typer.Option(
        "--reuse",
        help="Start a fixed point from earlier steps (potentials with backbone deq): conservative for constant energy, "
        "fast under a thermostat, none for a cold solve each step; auto is conservative. Fields of a potential: shadow "
        "moves them with the atoms, one product a step.",
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help=OVERWRITE)]
Resume = Annotated[bool, typer.Option("--resume", help=RESUME)]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help=QUIET)]


def pairs(option: str, words: list[str] | None) -> dict[str, Any] | None:
    """Parse `KIND=VALUE` words to a dict; None where there are none."""
    found: dict[str, Any] = {}
    for word in words or []:
        kind, sign, value = word.partition("=")
        if not (kind and sign and value):
            raise typer.BadParameter(f"{option} {word!r}: write it as KIND=VALUE, e.g. {option} energy=...")
        if kind in found:
            raise typer.BadParameter(f"{option}: {kind} is given twice; keep one")
        found[kind] = int(value) if kind in ("virial_sign", "forces_sign") and value in ("1", "+1", "-1") else value
    return found or None
