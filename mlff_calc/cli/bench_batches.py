"""`mlff bench batches` and `mlff bench recall`: many structures in one batch, and what a search for conformers finds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mlff_calc.cli import options
from mlff_calc.cli.bench_output import JsonFile, give, table_of


def batches(
    molecules: Annotated[
        str, typer.Option("--molecules", help="Comma-separated: ethanol, aspirin, or SMILES.")
    ] = "ethanol",
    potential: Annotated[
        str, typer.Option("--potential", help="Name or folder of a potential that knows their elements.")
    ] = "ethanol",
    conformers: Annotated[int, typer.Option("--conformers", min=0, help="Structures to relax; 0 for none.")] = 200,
    replicas: Annotated[int, typer.Option("--replicas", min=0, help="Replicas of dynamics; 0 for none.")] = 64,
    fmax: Annotated[float, typer.Option("--fmax", help="Relax until no force is above this, eV/Angstrom.")] = 0.05,
    xtb: Annotated[
        int, typer.Option("--xtb", min=0, help="Structures to relax by GFN2-xTB one by one as well; 0 for none.")
    ] = 20,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Number of rounds of dynamics.")] = 5,
    compiled: options.Compile = True,
    json_file: JsonFile = None,
) -> None:
    """Time relaxations and Langevin dynamics in one batch and one by one, on one thread; ratios of CPU time."""
    from mlff_calc.bench.batches import Batches, measure_batches
    from mlff_calc.bench.machine import describe_machine
    from mlff_calc.errors import OptionError

    names = tuple(word.strip() for word in molecules.split(",") if word.strip())
    if not names or not (conformers or replicas):
        raise OptionError("there is nothing to time; give --molecules, and --conformers or --replicas above 0")
    found = measure_batches(
        Batches(
            names, potential, conformers=conformers, replicas=replicas, fmax=fmax, xtb=xtb, rounds=rounds, compiled=compiled
        )
    )
    titles = {
        "relaxations": (
            f"relaxations to {fmax:g} eV/Å, ms of CPU time per structure",
            {
                "molecule": "molecule", "program": "program", "structures": "structures", "ms": "ms", "steps": "steps",
                "ms/step": "ms_per_step", "converged": "converged", "this / batch": "ratio",
            },
        ),
        "dynamics": (
            "Langevin dynamics, steps of replicas per second of CPU time",
            {
                "molecule": "molecule", "replicas": "replicas", "single run": "single_per_s", "batch": "batch_per_s",
                "batch / single": "ratio",
            },
        ),
    }  # fmt: skip
    tables = [table_of(title, columns, found[name]) for name, (title, columns) in titles.items() if found[name]]
    give({"machine": describe_machine("cpu"), "potential": potential, "compile": compiled, **found}, json_file, tables)


def recall(
    molecules: Annotated[
        str | None, typer.Option("--molecules", help="Comma-separated SMILES. [ten flexible molecules]", show_default=False)
    ] = None,
    calculator: Annotated[
        str, typer.Option("--calculator", "-c", help="As of `mlff conformers`.")
    ] = "gfn2-xtb",
    n: Annotated[int, typer.Option("--n", "-n", min=1, help="Number of relaxations of a run.")] = 20,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Number of runs of each way.")] = 2,
    fmax: Annotated[float, typer.Option("--fmax", help="Relax until no force is above this, eV/Angstrom.")] = 0.02,
    workdir: Annotated[
        Path | None,
        typer.Option("--workdir", help="Folder that keeps finished relaxations; a study that was stopped goes on in it."),
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Share of the conformers within 3 kcal/mol that equal numbers of relaxations find, with and without MMFF94s before."""
    import numpy as np

    from mlff_calc.bench.studies.conformer_recall import MOLECULES, WAYS, measure_recall

    chosen = MOLECULES if molecules is None else [word.strip() for word in molecules.split(",") if word.strip()]

    def show(row: dict[str, Any]) -> None:
        typer.echo(" ".join([row["molecule"], *(f"{way} {row[way]:.2f}" for way in WAYS)]), err=True)

    rows = measure_recall(chosen, calculator, n=n, seeds=seeds, fmax=fmax, folder=workdir, on_row=show)
    means = {way: float(np.mean([row[way] for row in rows])) for way in WAYS}
    columns = {"molecule": "molecule", "in the reference": "reference", **{way: way for way in WAYS}}
    table = table_of(
        f"share of conformers within 3 kcal/mol found by {n} relaxations, {calculator}", columns,
        [*rows, {"molecule": "mean", "reference": "", **means}],
    )  # fmt: skip
    give({"calculator": calculator, "n": n, "seeds": seeds, "rows": rows, "means": means}, json_file, [table])
