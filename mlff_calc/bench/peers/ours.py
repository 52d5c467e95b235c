"""Our own potential in a paired run: what ships, or one trained here for the same minutes as the peers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ase import Atoms

from mlff_calc.bench.models import random_config, trained_potential
from mlff_calc.bench.peers.environments import run_logged
from mlff_calc.bench.peers.session import thread_environment
from mlff_calc.errors import BenchmarkError
from mlff_calc.potential import list_potentials, load_potential


def loader_options(
    system: str, atoms: Atoms, *, potential: str | None, compiled: bool, precision: str
) -> tuple[dict[str, Any], str, float]:
    """How the worker loads our potential for a system.

    Args:
        system: its name.
        atoms: its structure.
        potential: a name or folder, taken where it knows all elements of the structure.
        compiled: as in `make_calculator`.
        precision: as in `make_calculator`.

    Returns:
        Options of the worker's loader, what to call it, and its cutoff in Angstrom.
    """
    name = potential
    if name is None or not set(atoms.numbers.tolist()) <= set(load_potential(name).elements):
        name = trained_potential(system)
    options: dict[str, Any] = {"precision": precision, "compiled": compiled, "potential": name}
    if name is not None:
        return options, f"mlff_calc {name}", load_potential(name).cutoff
    config = random_config(atoms.numbers)
    return {**options, "config": config}, "mlff_calc, random weights", float(config["backbone"].get("cutoff", 5.0))


def train_ethanol(minutes: float, source: Path, folder: Path, *, threads: int) -> Path:
    """Train on rMD17 ethanol by the recipe of the shipped potential `ethanol`, in a process of its own.

    Args:
        minutes: budget.
        source: rmd17/ethanol.npz, whose grandparent holds the data sets.
        folder: of the run.
        threads: of PyTorch.

    Returns:
        The folder of the potential.

    Raises:
        BenchmarkError: there is no such recipe, or training failed.
    """
    recipe = next((entry.path / "recipe.yaml" for entry in list_potentials() if entry.name == "ethanol"), None)
    if recipe is None or not recipe.is_file():
        msg = "the recipe of the shipped potential 'ethanol' is not installed, so ours cannot be trained for comparison"
        raise BenchmarkError(msg)
    folder.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "mlff_calc.cli.main", "train", str(recipe), "--quiet", "--overwrite"]
    command += [
        "--output",
        str(folder),
        "--set",
        f"optimizer.max_minutes={minutes}",
        "--set",
        "optimizer.max_epochs=null",
    ]
    environment = {**thread_environment(threads), "MLFF_DATA": str(source.resolve().parents[1])}
    run_logged(command, folder.parent / f"{folder.name}.log", env=environment)
    return folder / "potential"
