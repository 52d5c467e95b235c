"""Options of commands that solve SCFs, and what they mean: a model, or a start of PySCF, and the level of theory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlff_calc.electronic.scf.guess import PredictsFock
    from mlff_calc.electronic.scf.settings import SCFSettings

Model = Annotated[
    str,
    typer.Argument(
        help="Name or folder of a trained Hamiltonian; or a start of PySCF (minao), to compare starts without a model.",
        show_default=False,
    ),
]
Xc = Annotated[str | None, typer.Option("--xc", help="Functional. [the model's, or b3lyp]", show_default=False)]
Basis = Annotated[str | None, typer.Option("--basis", help="Basis. [the model's, or def2-svp]", show_default=False)]
GridLevel = Annotated[
    int | None, typer.Option("--grid-level", help="Level of the grid, 0 to 9. [the model's, or 3]", show_default=False)
]
DensityFit = Annotated[
    bool | None, typer.Option("--density-fit/--exact", help="Fit densities. [the model's, or exact]", show_default=False)
]
Tolerance = Annotated[float, typer.Option("--conv-tol", help="Tolerance of the energy, Hartree.")]
Charge = Annotated[
    int | None,
    typer.Option("--charge", help="Charge of the molecule, e. [info['charge'] of a frame, or 0]", show_default=False),
]


def model_and_level(model: str, conv_tol: float, **given: Any) -> tuple[PredictsFock | None, SCFSettings]:
    """Load a model, and return its level of theory with the values that are not None replaced.

    Args:
        model: Name or folder of a model, or a start of PySCF for none.
        conv_tol: Tolerance of the energy, Hartree.
        given: Values of `SCFSettings`, None for the model's.

    Raises:
        OptionError: A value is out of range.
        PotentialFileError: There is no such model.
    """
    from mlff_calc.electronic.scf.guess import loaded
    from mlff_calc.electronic.scf.settings import SCFSettings
    from mlff_calc.electronic.scf.starts import FREE

    held: PredictsFock | None = None if model in FREE else loaded(model)
    level = {"xc": "b3lyp", "basis": "def2-svp"} if held is None else held.settings.to_dict()
    level |= {name: value for name, value in given.items() if value is not None}
    return held, SCFSettings(**{**level, "conv_tol": conv_tol, "max_cycle": 50})


def chosen_starts(text: str | None, default: Sequence[str], model: str, held: PredictsFock | None) -> list[str]:
    """Parse a list of starts with commas between; without a text, those of the default that can be had without a model.

    Raises:
        OptionError: A start needs a model, and there is none.
    """
    from mlff_calc.errors import OptionError

    if text is None:
        return [name for name in default if held is not None or not name.startswith("model")]
    names = [name.strip() for name in text.split(",") if name.strip()]
    if held is None and any(name.startswith("model") for name in names):
        raise OptionError(f"MODEL is {model}, which is no model, and --starts asks for one; name a trained Hamiltonian")
    return names
