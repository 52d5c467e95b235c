"""`mlff md`: molecular dynamics that can be killed and resumed."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlff_calc.cli import options
from mlff_calc.errors import OptionError

if TYPE_CHECKING:
    from mlff_calc.dynamics import RunResult

_DEFAULT_TIME = "1ps"
_DEFAULT_INTERVAL = "20fs"
_WHAT, _ENSEMBLE, _OUTPUT = "What runs", "Ensemble", "Output"
_MODEL, _SAFETY = "Model and device", "Safety"


class EnsembleName(StrEnum):
    """The ensembles of `mlff md`."""

    nve = "nve"
    langevin = "langevin"
    bussi = "bussi"
    nose_hoover = "nose-hoover"
    npt_iso = "npt-iso"
    npt = "npt"


class DomainName(StrEnum):
    """Actions where a structure leaves the training data."""

    warn = "warn"
    stop = "stop"
    off = "off"


def _option(panel: str, text: str, *names: str, **more: Any) -> Any:
    return typer.Option(*names, help=text, show_default=False, rich_help_panel=panel, **more)


def md(
    potential: Annotated[
        str,
        typer.Argument(
            help="Name of a potential that ships, a folder, or an exported file; several with commas between make a "
            "committee. `scf:xc=pbe,basis=def2-svp,start=aspc` is a self-consistent field by PySCF."
        ),
    ],
    structure: Annotated[
        str | None,
        _option(
            _WHAT,
            "A file that ASE reads (its last frame), a molecule of ASE's g2 set, or a SMILES (smiles:CO where it is a name "
            "too). [the potential's example]",
            "--structure",
            "-s",
        ),
    ] = None,
    time: Annotated[
        str | None, _option(_WHAT, f"Duration of the whole run, like 2ps or 500fs. [{_DEFAULT_TIME}]")
    ] = None,
    steps: Annotated[int | None, _option(_WHAT, "Number of steps of the whole run, instead of --time.")] = None,
    timestep: Annotated[str | None, _option(_WHAT, "Length of a step; a bare number is in fs. [0.5fs]")] = None,
    keep_velocities: Annotated[
        bool | None,
        _option(_WHAT, "Start with the velocities of the structure."),
    ] = None,
    seed: Annotated[int | None, _option(_WHAT, "Seed of velocities and thermostat. [0]", min=0)] = None,
    resume: Annotated[bool, _option(_WHAT, options.RESUME, "--resume")] = False,
    ensemble: Annotated[EnsembleName | None, _option(_ENSEMBLE, "Quantities that are held constant. [nve]")] = None,
    temperature: Annotated[
        float | None, _option(_ENSEMBLE, "Temperature in K, of the initial velocities as well. [300]")
    ] = None,
    pressure: Annotated[
        str | None, _option(_ENSEMBLE, "Pressure for npt, like 1bar; a bare number is in GPa. [0]")
    ] = None,
    friction: Annotated[float | None, _option(_ENSEMBLE, "Friction of langevin, 1/ps. [5]")] = None,
    taut: Annotated[
        str | None, _option(_ENSEMBLE, "Time constant of the thermostat; a bare number is in fs. [100fs]")
    ] = None,
    taup: Annotated[
        str | None, _option(_ENSEMBLE, "Time constant of the barostat; a bare number is in fs. [1ps]")
    ] = None,
    respa: Annotated[
        int | None,
        _option(
            _ENSEMBLE,
            "Multiple time steps for nve with a fixed-point potential: --timestep with the truncated potential, the "
            "converged force after this number of them. Steps of the run are then the long ones. [1, none]",
            min=1,
        ),
    ] = None,
    respa_evaluations: Annotated[
        int | None,
        _option(_ENSEMBLE, "Number of evaluations of the fixed point in the truncated potential of --respa. [2]", min=1),
    ] = None,
    output: Annotated[
        Path, _option(_OUTPUT, "Folder for everything that is written. [md]", "--output", "-o")
    ] = Path("md"),
    log_interval: Annotated[
        str | None, _option(_OUTPUT, f"Steps or time between rows of the log. [{_DEFAULT_INTERVAL}]")
    ] = None,
    traj_interval: Annotated[
        str | None, _option(_OUTPUT, f"Steps or time between frames. [{_DEFAULT_INTERVAL}]")
    ] = None,
    checkpoint_interval: Annotated[
        str | None, _option(_OUTPUT, "Steps or time between saved states. [every frame]")
    ] = None,
    overwrite: Annotated[bool, _option(_OUTPUT, options.OVERWRITE, "--overwrite")] = False,
    quiet: Annotated[bool, _option(_OUTPUT, options.QUIET, "--quiet", "-q")] = False,
    precision: Annotated[
        options.PrecisionName | None,
        _option(_MODEL, "Arithmetic of the network; energies are summed in float64. [float32]"),
    ] = None,
    device: Annotated[str, _option(_MODEL, options.DEVICE)] = "auto",
    compile_: Annotated[
        bool | None,
        _option(
            _MODEL,
            "Compile the potential once and use it from the cache afterwards. [--no-compile]",
            "--compile/--no-compile",
        ),
    ] = None,
    reuse: Annotated[
        options.ReuseName | None,
        _option(
            _MODEL,
            "Start a fixed point from earlier steps (potentials with backbone deq): conservative for constant energy, "
            "fast under a thermostat, none for a cold solve each step; shadow moves fields of a potential with the "
            "atoms. [auto: conservative]",
        ),
    ] = None,
    skin: Annotated[
        float | None, _option(_MODEL, "Skin of the neighbour list, Angstrom. [the calculator's]")
    ] = None,
    domain: Annotated[
        DomainName | None,
        _option(
            _SAFETY,
            "Action where distances or neighbours leave the training data: warn once and in the report, stop with "
            "a saved frame, or no check (off). [warn]",
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        _option(
            _SAFETY,
            "Stop where the spread of a force is above this, eV/Angstrom; for committees and potentials with uncertainties.",
        ),
    ] = None,
    max_temperature: Annotated[
        float | None, _option(_SAFETY, "Stop above this temperature, K. [ten times the target]")
    ] = None,
    trust: Annotated[bool, _option(_SAFETY, options.TRUST, "--trust")] = False,
) -> None:
    """Run molecular dynamics with a potential.

    The output folder gets trajectory.traj (readable by ASE), log.csv, state.json, energies.png and report.html.
    `--resume` continues a run that was stopped or killed; --steps and --time count from the start of the run. With
    --resume, missing options are those of the run, and a folder without a run starts one, so that one command serves
    both.
    """
    given: dict[str, Any] = {
        name: value.value if isinstance(value, StrEnum) else value for name, value in locals().items()
    }
    potential = given.pop("potential")
    from mlff_calc.calculators.named import names_scf, scf_calculator
    from mlff_calc.dynamics.md import run_md

    if names_scf(potential) and device == "auto":
        given["device"] = None
    result = run_md(
        given.pop("structure"),
        scf_calculator(potential) if names_scf(potential) else _members(potential),
        compile=given.pop("compile_"),
        show=not given.pop("quiet"),
        spell=lambda name: "--" + name.replace("_", "-"),
        **given,
    )
    _say_how_it_ended(result)


def _members(potential: str) -> list[str]:
    """Split a list of names at its commas.

    Raises:
        OptionError: a name is empty.
    """
    names = [name.strip() for name in potential.split(",")]
    if "" not in names:
        return names
    if not any(names):
        raise OptionError(
            f"POTENTIAL {potential!r} names no potential. Give a name that `mlff potentials` lists, or a folder."
        )
    left = ",".join(filter(None, names))
    raise OptionError(
        f"POTENTIAL {potential!r}: member {names.index('') + 1} of this committee has no name. "
        f"Name it, or remove the comma: {left}"
    )


def _say_how_it_ended(result: RunResult) -> None:
    """Print the final lines: where the results are, and in red if they are not reliable."""
    from mlff_calc.dynamics.folder import REPORT

    outside = result.outside_words()
    if result.interrupted is not None:
        raise KeyboardInterrupt(
            f"stopped by {result.interrupted} after step {result.step} of {result.steps}; everything is saved in "
            f"{result.folder}. Go on with the same command and --resume. {outside}".rstrip()
        )
    place = f"Trajectory, log and picture are in {result.folder}; report: {result.folder / REPORT}"
    typer.echo(f"{result.step} steps {'made' if outside else 'done'}. {place}")
    if outside:
        typer.secho(outside, fg="red")
