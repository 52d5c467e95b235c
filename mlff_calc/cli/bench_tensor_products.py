"""`mlff bench tensor-products`: a network for Fock matrices in frames of pairs, and by tensor products."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlff_calc.cli.bench_output import JsonFile, StudyFolder, Threads, give, positive_numbers, table_of, whole_numbers


def tensor_products(
    data: Annotated[
        Path | None,
        typer.Argument(
            help="File of `mlff data hamiltonian` to train on; none for time and memory alone.", show_default=False
        ),
    ] = None,
    degrees: Annotated[str, typer.Option("--degrees", help="Highest degrees, with commas.")] = "2,3,4",
    trained: Annotated[str, typer.Option("--train-degrees", help="Highest degrees of trainings.")] = "4",
    molecules: Annotated[
        str, typer.Option("--molecules", help="Formulas of ASE's molecules whose steps are timed.")
    ] = "H2O,CH3CH2OH",
    batch: Annotated[int, typer.Option("--batch", min=1, help="Number of molecules in a timed step.")] = 10,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Number of rounds over both networks.")] = 11,
    minutes: Annotated[float, typer.Option("--minutes", min=0.001, help="Processor minutes of each training.")] = 2.0,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Number of seeds of split, weights and batches.")] = 3,
    rates: Annotated[
        str, typer.Option("--rates", help="Learning rates, with commas; of each network the best counts.")
    ] = "0.003",
    sizes: Annotated[
        str, typer.Option("--sizes", help="Channels, hidden width, width of products and layers.")
    ] = "16,32,16,2",
    valid: Annotated[int, typer.Option("--valid", min=1, help="Molecules of the validation.")] = 40,
    test: Annotated[int, typer.Option("--test", min=1, help="Molecules of the test.")] = 50,
    output: StudyFolder = Path("tensor-products"),
    threads: Threads = 1,
    json_file: JsonFile = None,
) -> None:
    """Time, memory and errors of a network for Fock matrices in frames of pairs (SO(2)) and by e3nn's tensor products."""
    from mlff_calc.bench.machine import describe_machine
    from mlff_calc.bench.studies.pair_frames import SIZES, FramesStudy, summary
    from mlff_calc.bench.threads import limited_threads
    from mlff_calc.errors import OptionError

    widths = whole_numbers(sizes)
    if len(widths) != len(SIZES):
        raise OptionError(f"--sizes is {sizes!r}; give {len(SIZES)} numbers: {', '.join(SIZES)}")
    study = FramesStudy(
        output, whole_numbers(degrees), [name.strip() for name in molecules.split(",") if name.strip()], batch, rounds, data,
        minutes, range(seeds), positive_numbers(rates), {"valid": valid, "test": test},
        sizes=dict(zip(SIZES, widths, strict=True)),
    )  # fmt: skip
    study.check()

    def told(text: str) -> None:
        typer.echo(text, err=True)

    with limited_threads(threads):
        costs = study.costs(told)
        errors = study.errors(whole_numbers(trained), told) if data is not None else []
    columns = {
        "molecule": "molecule", "L": "l_max", "network": "network", "parameters": "parameters", "pairs": "pairs",
        "step ms": "ms", "ratio": "ratio", "prediction ms": "predict_ms", "ratio ": "predict_ratio",
        "step MiB": "memory_mib",
    }  # fmt: skip
    tables = [table_of(f"{batch} molecules, {threads} thread(s): processor time, memory of a training step", columns, costs)]
    found = summary(errors)
    if found:
        shown = {
            "L": "l_max", "network": "network", "rate": "rate", "error": "error", "worst seed": "worst",
            "orbital energies": "occupied", "gap": "gap", "initial matrix": "initial", "epochs": "epochs",
        }  # fmt: skip
        title = f"mean absolute errors of test molecules, 1e-6 Hartree, {minutes:g} processor minutes, {seeds} seed(s)"
        tables.append(table_of(title, shown, found))
    facts = {"machine": describe_machine("cpu"), "threads": threads, "minutes": minutes}
    give({**facts, "costs": costs, "errors": errors, "summary": found}, json_file, tables)
