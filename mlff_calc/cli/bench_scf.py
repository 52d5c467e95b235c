"""`mlff bench scf`: starts of the SCF in dynamics."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from mlff_calc.cli import scf_level
from mlff_calc.cli.bench_output import JsonFile, give, table_of


def scf(
    model: scf_level.Model,
    structures: Annotated[
        list[str], typer.Argument(help="Files (their last frame), molecules of ASE's g2 set, or SMILES.", show_default=False)
    ],
    starts: Annotated[
        str | None,
        typer.Option("--starts", help="As of `mlff scf`. [minao,previous,aspc,model,model+aspc]", show_default=False),
    ] = None,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Number of steps.")] = 200,
    skip: Annotated[int, typer.Option("--skip", min=0, help="Number of first steps that do not count.")] = 20,
    timestep: Annotated[float, typer.Option("--timestep", min=0.01, help="Time step, fs.")] = 0.5,
    temperature: Annotated[float, typer.Option("--temperature", min=0.0, help="That of the first velocities, K.")] = 300.0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the velocities.")] = 0,
    order: Annotated[int, typer.Option("--order", min=0, max=4, help="Order of extrapolations.")] = 3,
    xc: scf_level.Xc = None,
    basis: scf_level.Basis = None,
    grid_level: scf_level.GridLevel = None,
    density_fit: scf_level.DensityFit = None,
    conv_tol: scf_level.Tolerance = 1e-9,
    charge: scf_level.Charge = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of results; starts that are there are not run again.")
    ] = Path("scf_dynamics"),
    json_file: JsonFile = None,
) -> None:
    """Run dynamics at constant energy with each start of the SCF, from the same velocities: cycles, seconds and drift.

    Seconds are processor time. The drift is that of an energy without the oscillations of the time step; the last column
    is the largest difference of total energies from the run with minao.
    """
    from mlff_calc.bench.machine import describe_machine
    from mlff_calc.bench.studies.scf_dynamics import STARTS, SCFDynamics
    from mlff_calc.dynamics.structures import structure_to_start

    held, settings = scf_level.model_and_level(
        model, conv_tol, xc=xc, basis=basis, grid_level=grid_level, density_fit=density_fit
    )
    wanted = scf_level.chosen_starts(starts, STARTS, model, held)
    columns = {
        "start": "start", "cycles": "cycles", "Fock builds": "fock_builds", "s/step": "seconds", "s/SCF": "scf_seconds",
        "drift (meV/atom/ps)": "drift", "+-": "drift_error", "fallbacks": "fallbacks", "retries": "retries",
        "|dE| (meV/atom)": "from_minao",
    }  # fmt: skip
    found, tables = [], []
    for name in dict.fromkeys(structures):
        atoms = structure_to_start(name).copy()
        if charge is not None:
            atoms.info["charge"] = charge
        study = SCFDynamics(
            atoms, settings, output / f"{Path(name).stem}", wanted, held, "" if held is None else model, steps, skip,
            timestep, temperature, seed, order,
        )  # fmt: skip
        rows = [row.as_dict() for row in study.run(_progress(name, steps))]
        found.append({"structure": name, "rows": rows})
        tables.append(table_of(f"{name}, {rows[0]['steps']} steps of {timestep:g} fs, {settings}", columns, rows))
    run = {"steps": steps, "skip": skip, "timestep": timestep, "temperature": temperature, "seed": seed, "order": order}
    give({"machine": describe_machine("cpu"), "settings": settings.to_dict(), **run, "structures": found}, json_file, tables)


def _progress(name: str, steps: int) -> Callable[[str, int], None]:
    """Return a function that shows how many steps are done."""

    def show(start: str, step: int) -> None:
        typer.echo(f"\r{name}, {start}: {step} of {steps} steps", nl=step == steps, err=True)

    return show
