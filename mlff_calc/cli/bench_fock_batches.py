"""`mlff bench fock-batches`: predicted Fock matrices in batches."""

from __future__ import annotations

from typing import Annotated

import typer

from mlff_calc.cli.bench_output import JsonFile, Threads, give, table_of, whole_numbers


def fock_batches(
    molecule: Annotated[str, typer.Option("--molecule", help="Name of a molecule in ASE's G2 set.")] = "CH3CH2OH",
    basis: Annotated[str, typer.Option("--basis", help="Basis of PySCF.")] = "def2-svp",
    sizes: Annotated[str, typer.Option("--sizes", help="Numbers of molecules in a batch.")] = "1,10,100",
    channels: Annotated[int, typer.Option("--channels", min=1, help="Channels of atoms.")] = 16,
    hidden: Annotated[int, typer.Option("--hidden", min=1, help="Width of pairs.")] = 32,
    layers: Annotated[int, typer.Option("--layers", min=1, help="Number of layers.")] = 2,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Number of rounds over all sizes.")] = 10,
    threads: Threads = 1,
    json_file: JsonFile = None,
) -> None:
    """Time a network for Fock matrices with random weights: processor time of each molecule by size of the batch.

    The time of PySCF's overlaps, which charges and orbital energies need, stands apart.
    """
    from ase.build import molecule as structure_of

    from mlff_calc.bench.fock_batches import fock_network, measure_fock, product_rate
    from mlff_calc.bench.machine import describe_machine
    from mlff_calc.bench.threads import limited_threads
    from mlff_calc.errors import OptionError

    numbers = whole_numbers(sizes)
    try:
        atoms = structure_of(molecule)
    except KeyError as error:
        raise OptionError(f"ASE's G2 set has no molecule {molecule!r}; CH3CH2OH is ethanol") from error
    with limited_threads(threads):
        rows = measure_fock(fock_network(atoms, basis, channels, hidden, layers), atoms, numbers, rounds)
        rate = product_rate()
    columns = {
        "molecules": "molecules", "ms": "ms", "network": "network_ms", "training step": "training_ms",
        "overlap (PySCF)": "overlap_ms", "GFLOP": "gflop", "GFLOP/s": "gflop_per_s", "times faster": "ratio",
    }  # fmt: skip
    title = f"{molecule}, {basis}: ms of CPU time per molecule; a large product has {rate:.0f} GFLOP/s"
    give(
        {"machine": describe_machine("cpu"), "threads": threads, "product_gflop_per_s": rate, "rows": rows}, json_file,
        [table_of(title, columns, rows)],
    )  # fmt: skip
