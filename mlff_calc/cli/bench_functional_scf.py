"""`mlff bench functional-scf`: the cost of self-consistent fields with a learned functional."""

from __future__ import annotations

from typing import Annotated

import typer

from mlff_calc.cli.bench_output import JsonFile, Threads, give, table_of


def functional_scf(
    molecules: Annotated[
        list[str] | None,
        typer.Argument(
            help="Files (their last frame), molecules of ASE's g2 set, or SMILES. [H2 H2O CH4 CH3CH2OH CH3COCH3 C6H6]",
            show_default=False,
        ),
    ] = None,
    functional: Annotated[
        str | None,
        typer.Option("--functional", help="Name or folder; by default random weights in these sizes.", show_default=False),
    ] = None,
    base: Annotated[str, typer.Option("--base", help="Base functional: lda, pbe or r2scan.")] = "pbe",
    basis: Annotated[str, typer.Option("--basis", help="Basis of PySCF.")] = "6-31g*",
    grid_level: Annotated[int, typer.Option("--grid-level", min=0, max=9, help="Level of the grid.")] = 1,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Number of rounds.")] = 3,
    threads: Threads = 1,
    json_file: JsonFile = None,
) -> None:
    """Time whole self-consistent fields: a learned functional, its base functional by libxc, and the functional in torch.

    All are on the same grid without pruning and from the same start, and take turns; seconds are processor time.
    """
    from mlff_calc.bench.functional_scf import measure_scf, timed_functional
    from mlff_calc.bench.machine import describe_machine
    from mlff_calc.bench.threads import limited_threads
    from mlff_calc.dynamics.structures import structure_to_start
    from mlff_calc.electronic.functional import load_functional

    names = list(dict.fromkeys(molecules or ("H2", "H2O", "CH4", "CH3CH2OH", "CH3COCH3", "C6H6")))
    structures = [(name, structure_to_start(name)) for name in names]
    elements = [int(number) for _, atoms in structures for number in atoms.numbers]
    with limited_threads(threads):
        network = timed_functional(elements, base, basis, grid_level) if functional is None else load_functional(functional)
        rows = measure_scf(network, structures, rounds)
    columns = {
        "molecule": "molecule", "atoms": "atoms", "orbitals": "orbitals", "libxc cycles": "libxc_cycles", "s": "libxc_s",
        "functional cycles": "cycles", "s ": "seconds", "times libxc": "ratio", "torch cycles": "torch_cycles",
        "s  ": "torch_s", "matrix in torch / PySCF": "torch_ratio",
    }  # fmt: skip
    title = f"{network.base}, {network.basis}, grid {network.grid_level}: processor seconds of a self-consistent field"
    level = {"base": network.base, "basis": network.basis, "grid_level": network.grid_level}
    give(
        {"machine": describe_machine("cpu"), "threads": threads, **level, "rows": rows}, json_file,
        [table_of(title, columns, rows)],
    )  # fmt: skip
