"""`mlff bench`: time of a step, scaling and memory, accuracy against time, and paired runs with other programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlff_calc.cli import options
from mlff_calc.cli.bench_backbones import backbones
from mlff_calc.cli.bench_batches import batches, recall
from mlff_calc.cli.bench_distribution import distribution
from mlff_calc.cli.bench_fock import fock_flow
from mlff_calc.cli.bench_fock_batches import fock_batches
from mlff_calc.cli.bench_functional import functional
from mlff_calc.cli.bench_functional_scf import functional_scf
from mlff_calc.cli.bench_molecules import molecules
from mlff_calc.cli.bench_output import give, positive_numbers, table_of, whole_numbers
from mlff_calc.cli.bench_pretraining import pretraining
from mlff_calc.cli.bench_rollout import rollout, trajectories
from mlff_calc.cli.bench_scf import scf
from mlff_calc.cli.bench_scores import scores
from mlff_calc.cli.bench_shadow import shadow
from mlff_calc.cli.bench_tensor_products import tensor_products
from mlff_calc.cli.bench_uncertainty import uncertainty
from mlff_calc.cli.console import guard
from mlff_calc.cli.expressivity import expressivity

if TYPE_CHECKING:
    from rich.table import Table

app = typer.Typer(
    invoke_without_command=True,
    help="Time a step of a calculator; see also `scaling`, `memory`, `front`, `backbones`, `batches`, `recall`, "
    "`fock-batches`, `functional`, `functional-scf`, `lammps`, `peers`, `scores`, "
    "`distribution`, `molecules`, `pretraining`, `uncertainty`, `rollout`, `trajectories`, "
    "`fock-flow`, `tensor-products`, `scf`, `shadow` and `expressivity`.",
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command()(guard(expressivity))
app.command()(guard(backbones))
app.command()(guard(batches))
app.command("fock-batches")(guard(fock_batches))
app.command("functional-scf")(guard(functional_scf))
app.command()(guard(recall))
app.command()(guard(scores))
app.command()(guard(fock_flow))
app.command()(guard(functional))
app.command()(guard(rollout))
app.command()(guard(distribution))
app.command()(guard(molecules))
app.command()(guard(pretraining))
app.command()(guard(uncertainty))
app.command()(guard(shadow))
app.command()(guard(trajectories))
app.command()(guard(scf))
app.command("tensor-products")(guard(tensor_products))

DEFAULT = "ethanol,aspirin,si64,si512,water192"
Systems = Annotated[
    str,
    typer.Option("--systems", help="Comma-separated: ethanol, aspirin, water192, or siN for N = 8 n^3 silicon atoms."),
]
Threads = Annotated[int, typer.Option("--threads", min=1, help="Threads of PyTorch.")]
PotentialOption = Annotated[
    str | None,
    typer.Option(
        "--potential",
        help="A name or folder; by default what ships for a system, else random weights.",
        show_default=False,
    ),
]
DataFolder = Annotated[
    Path | None,
    typer.Option("--data", help="Folder of data sets, for training.", envvar="MLFF_DATA", show_default=False),
]
JsonFile = Annotated[
    Path | None,
    typer.Option("--json", metavar="FILE", help="Write the figures to this file; - is stdout.", show_default=False),
]


@app.callback()
def _bench(
    context: typer.Context,
    systems: Systems = DEFAULT,
    potential: PotentialOption = None,
    threads: Threads = 1,
    steps: Annotated[
        int | None,
        typer.Option("--steps", min=1, help="Number of timed steps; by default ten seconds' worth.", show_default=False),
    ] = None,
    compiled: options.Compile = True,
    device: options.Device = "cpu",
    precision: options.Precision = options.PrecisionName.float32,
    json_file: JsonFile = None,
) -> None:
    """Time a calculator's step with moving atoms: neighbours, model, total."""
    if context.invoked_subcommand is None:
        guard(_steps)(systems, potential, threads, steps, compiled, device, precision.value, json_file)


def _steps(
    systems: str,
    potential: str | None,
    threads: int,
    steps: int | None,
    compiled: bool,
    device: str,
    precision: str,
    json_file: Path | None,
) -> None:
    from mlff_calc.bench import parse_systems, time_system
    from mlff_calc.bench.machine import describe_machine

    names = parse_systems(systems)
    machine = describe_machine(device)
    rows = []
    for name in names:
        timing = time_system(
            name,
            potential=potential,
            steps=steps,
            threads=threads,
            device=device,
            precision=precision,
            compiled=compiled,
        )
        rows.append(timing.as_dict())
    chosen = {"threads": threads, "device": device, "precision": precision, "compile": compiled}
    title = f"ms per step, {precision}, {'compiled' if compiled else 'eager'}, {device}, {threads} thread(s)"
    columns = {
        "system": "system", "potential": "potential", "atoms": "n_atoms", "edges": "n_edges", "neighbours": "neighbors_ms",
        "model": "model_ms", "outside µs": "outside_us", "total": "total_ms", "min": "min_ms", "25 %": "low_ms",
        "75 %": "high_ms", "µs/edge": "us_per_edge", "ms/atom": "ms_per_atom", "steps": "steps", "lists": "rebuilds",
    }  # fmt: skip
    give({"machine": machine, **chosen, "timings": rows}, json_file, [table_of(title, columns, rows)])


@app.command()
@guard
def scaling(
    sizes: Annotated[
        str, typer.Option("--sizes", help="Numbers of silicon atoms, each 8 n^3.")
    ] = "512,1000,1728,4096,8000",
    potential: PotentialOption = None,
    threads: Threads = 1,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Number of timed steps per size and round.")] = 5,
    rounds: Annotated[
        int, typer.Option("--rounds", min=1, help="Number of rounds over all sizes; the fastest time of each counts.")
    ] = 3,
    compiled: options.Compile = True,
    device: options.Device = "cpu",
    precision: options.Precision = options.PrecisionName.float32,
    json_file: JsonFile = None,
) -> None:
    """Time per atom and peak memory of silicon from 512 to 8000 atoms, each size in a separate process."""
    from mlff_calc.bench.machine import describe_machine
    from mlff_calc.bench.scaling import flatness, measure_scaling

    machine = describe_machine(device)
    rows = measure_scaling(
        whole_numbers(sizes), steps=steps, rounds=rounds, potential=potential, threads=threads, device=device,
        precision=precision.value, compiled=compiled,
    )  # fmt: skip
    columns = {
        "atoms": "n_atoms", "edges": "n_edges", "total ms": "total_ms", "neighbours ms": "neighbors_ms",
        "ms/atom": "ms_per_atom", "µs/edge": "us_per_edge", "peak MiB": "memory_mib", "bytes/edge": "bytes_per_edge",
    }  # fmt: skip
    spread = flatness(rows)
    title = f"silicon, {precision.value}, {threads} thread(s); time per atom flat within {100 * spread:.0f} %"
    result = {"machine": machine, "threads": threads, "compile": compiled, "flatness": spread, "rows": rows}
    give(result, json_file, [table_of(title, columns, rows)])


@app.command()
@guard
def memory(
    systems: Systems = "ethanol,si64",
    batch_sizes: Annotated[str, typer.Option("--batch-sizes", help="Numbers of frames per batch.")] = "5,20",
    potential: PotentialOption = None,
    threads: Threads = 1,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Number of optimizer steps per batch.")] = 2,
    compiled: options.Compile = False,
    device: options.Device = "cpu",
    precision: options.Precision = options.PrecisionName.float32,
    json_file: JsonFile = None,
) -> None:
    """Peak memory of training steps, each batch in a separate process."""
    from mlff_calc.bench import parse_systems
    from mlff_calc.bench.machine import describe_machine
    from mlff_calc.bench.scaling import measure_memory

    machine = describe_machine(device)
    rows = measure_memory(
        parse_systems(systems), whole_numbers(batch_sizes), steps=steps, potential=potential, threads=threads, device=device,
        precision=precision.value, compiled=compiled,
    )  # fmt: skip
    columns = {
        "system": "system", "batch": "batch_size", "atoms": "n_atoms", "edges": "n_edges", "before MiB": "base_mib",
        "peak MiB": "memory_mib",
    }  # fmt: skip
    result = {"machine": machine, "threads": threads, "compile": compiled, "rows": rows}
    give(result, json_file, [table_of("memory of training", columns, rows)])


@app.command()
@guard
def front(
    data_sets: Annotated[
        str, typer.Option("--data-sets", help="Some of ethanol, aspirin, silicon.")
    ] = "ethanol,aspirin,silicon",
    networks: Annotated[
        str,
        typer.Option(
            "--networks",
            help="Backbones, with l_max x channels x layers where they are not to be the defaults; deq0.8:2x32x1 holds the "
            "spectral radius of a fixed point at 0.8. Times are relative to the first.",
        ),
    ] = "equiformer:2x32x2,hegnn:3x64x2,hegnn,cg_egnn,deq:2x32x1",
    minutes: Annotated[
        str, typer.Option("--minutes", help="Processor minutes of training, comma-separated; each is a separate run.")
    ] = "5",
    seeds: Annotated[str, typer.Option("--seeds", help="Seeds, comma-separated; errors are means over them.")] = "1",
    output: Annotated[
        Path, typer.Option("--output", help="Folder of runs and results; finished and interrupted runs there are used.")
    ] = Path("front"),
    data: DataFolder = None,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Number of rounds over the potentials.")] = 40,
    with_memory: Annotated[bool, typer.Option("--memory/--no-memory", help="Measure peak memories.")] = False,
    drift_ps: Annotated[
        float, typer.Option("--drift-ps", min=0.0, help="Length of a run at constant energy; 0 for none.")
    ] = 0.0,
    compiled: options.Compile = True,
    json_file: JsonFile = None,
) -> None:
    """Train networks for the same processor minutes, and draw their errors against the time of a step; one thread.

    Data, loss, batch and schedule are those of the shipped potentials; errors are measured on the test frames.
    """
    from mlff_calc.bench import front as fronts
    from mlff_calc.bench.entrants import parse_entrants
    from mlff_calc.bench.machine import describe_machine

    chosen = fronts.Front(
        data_sets=fronts.parse_data_sets(data_sets), entrants=parse_entrants(networks), minutes=positive_numbers(minutes),
        seeds=whole_numbers(seeds), output=output, data=data, rounds=rounds, with_memory=with_memory, drift_ps=drift_ps,
        compiled=compiled,
    )  # fmt: skip
    machine = describe_machine("cpu")
    rows = fronts.measure_front(chosen)
    result = {"machine": machine, "compile": compiled, "rows": rows}
    fronts.write_results(result, output)
    title = f"errors after the same processor minutes, one thread; also in {output}"
    give(result, json_file, [table_of(title, fronts.columns_of(rows), [fronts.cells(row) for row in rows])])


@app.command()
@guard
def peers(
    only: Annotated[
        str | None,
        typer.Option(
            "--only",
            help="Some of nequip, allegro, mace (mace-64, mace-128), ace (ace-300, ace-700), snap (snap-6, snap-8, "
            "qsnap-6); by default all.",
            show_default=False,
        ),
    ] = None,
    systems: Systems = DEFAULT,
    threads: Annotated[
        str, typer.Option("--threads", help="Numbers of threads such as 1,2; each is a separate run.")
    ] = "1",
    workdir: Annotated[
        Path | None,
        typer.Option(
            "--workdir", help="Environments and models; kept.  [default: ~/.cache/mlff_calc/peers]", show_default=False
        ),
    ] = None,
    train_minutes: Annotated[
        float | None,
        typer.Option(
            "--train-minutes",
            min=0.1,
            help="Processor minutes that all are trained for first (ACE and SNAP are fitted, however long it takes).",
            show_default=False,
        ),
    ] = None,
    recipe: Annotated[
        Path | None,
        typer.Option(
            "--recipe",
            help="Recipe of a potential with the data to train on, which ours is trained by; by default the shipped "
            "ethanol's.",
            show_default=False,
        ),
    ] = None,
    data: DataFolder = None,
    potential: PotentialOption = None,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Number of rounds over the programs.")] = 15,
    compiled: options.Compile = True,
    precision: options.Precision = options.PrecisionName.float32,
    json_file: JsonFile = None,
) -> None:
    """Time NequIP, Allegro, MACE, linear ACE and SNAP beside ours: same frames, same threads, turn by turn; print ratios.

    Each peer is installed into a virtual environment of its own, and compiled where it can be.
    """
    from mlff_calc.bench import parse_systems
    from mlff_calc.bench.peers.catalogue import parse_peers
    from mlff_calc.bench.peers.environments import default_workdir
    from mlff_calc.bench.peers.run import PeerRun

    run = PeerRun(
        peers=parse_peers(only), systems=parse_systems(systems), threads=whole_numbers(threads), rounds=rounds,
        workdir=workdir or default_workdir(), train_minutes=train_minutes, recipe=recipe, data=data,
        potential=potential, compiled=compiled,
        precision=precision.value,
    )  # fmt: skip
    result = run.run()
    give(result, json_file, _peer_tables(result))
    if not result["timings"]:
        raise typer.Exit(1)


@app.command("lammps")
@guard
def lammps_(
    file: Annotated[
        Path, typer.Argument(help="A file of `mlff export --to lammps` that knows silicon.", show_default=False)
    ],
    sizes: Annotated[str, typer.Option("--sizes", help="Numbers of silicon atoms, each 8 n^3.")] = "512,4096",
    ranks: Annotated[str, typer.Option("--ranks", help="Numbers of ranks, one thread each.")] = "1,2",
    steps: Annotated[int, typer.Option("--steps", min=1, help="Timed steps.")] = 5,
    paired: Annotated[bool, typer.Option("--python/--no-python", help="Time the same file in Python as well.")] = True,
    count: Annotated[
        str | None,
        typer.Option(
            "--count",
            help="Only count atoms, ghosts and edges for these numbers of ranks, such as 8,64,512.",
            show_default=False,
        ),
    ] = None,
    trust: options.Trust = False,
    json_file: JsonFile = None,
) -> None:
    """Time of the pair style per atom, on ranks, and paired with the same file in Python."""
    from mlff_calc.bench.lammps import measure_lammps
    from mlff_calc.bench.machine import describe_machine

    if count is not None:
        _give_counts(file, whole_numbers(sizes), whole_numbers(count), json_file)
        return
    rows = measure_lammps(
        file, whole_numbers(sizes), whole_numbers(ranks), steps=steps, paired=paired, trust=trust
    )
    columns = {
        "atoms": "n_atoms", "ranks": "n_ranks", "pair ms": "pair_ms", "whole step ms": "loop_ms", "µs/atom": "us_per_atom",
        "Python ms": "python_ms", "pair / Python": "ratio", "peak MiB of a rank": "memory_mib", "KiB/atom": "kib_per_atom",
    }  # fmt: skip
    result = {"machine": describe_machine("cpu"), "file": str(file), "rows": rows}
    give(result, json_file, [table_of(f"silicon by pair_style mlff, {file.name}", columns, rows)])


def _give_counts(file: Path, sizes: list[int], ranks: list[int], json_file: Path | None) -> None:
    """Print tables of the work per domain."""
    from mlff_calc.bench.partition import partition_work
    from mlff_calc.export import read_metadata

    facts = read_metadata(file)
    columns = {
        "ranks": "n_ranks", "own atoms": "n_own", "ghosts": "n_ghosts", "edges": "n_edges", "edges / mean": "imbalance",
        "further edges without exchange": "ghost_edges",
    }  # fmt: skip
    found = {n: partition_work(n, ranks, cutoff=facts.cutoff, n_layers=max(1, facts.n_layers)) for n in sizes}
    tables = [table_of(f"{n} silicon atoms, the rank with most edges", columns, rows) for n, rows in found.items()]
    give({"file": str(file), "sizes": found}, json_file, tables)


def _peer_tables(result: dict[str, Any]) -> list[Table]:
    rows = []
    for timing in result["timings"]:
        ratio = timing["ratio"]
        spread = f"{ratio['median']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})" if ratio else ""
        rows.append({**timing, **timing["ms"], "ours": spread})
    columns = {
        "threads": "threads", "system": "system", "program": "program", "form": "form", "edges": "n_edges", "ms": "median",
        "min": "minimum", "25 %": "low", "75 %": "high", "µs/edge": "us_per_edge", "µs/atom": "us_per_atom",
        "ours / this (quartiles)": "ours",
    }  # fmt: skip
    tables = [table_of("a step with moving atoms, ms (paired)", columns, rows)]
    if result["training"]:
        title = f"errors on the test frames after {result['train_minutes']:g} minutes of training"
        names = {
            "program": "program", "force MAE meV/Å": "force_mae", "force RMSE": "force_rmse",
            "energy MAE meV/atom": "energy_mae",
        }  # fmt: skip
        tables.append(table_of(title, names, result["training"]))
    if result["failures"]:
        tables.append(table_of("failures", {name: name for name in ("program", "place", "reason")}, result["failures"]))
    return tables
